"""What Ray Serve says of the model, read from a RayService."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.text import last_line, quote

_TYPED = re.compile(r"\b(DigestMismatch|ModelInvalid|StoreRefused)\b:?\s*(?P<words>.*)")


def _statuses(ray_service: Manifest | None) -> Iterable[Mapping[str, Any]]:
    status = (ray_service or {}).get("status") or {}
    for side in ("activeServiceStatus", "pendingServiceStatus"):
        applications = (status.get(side) or {}).get("applicationStatuses") or {}
        yield from applications.values()


def running(ray_service: Manifest | None) -> bool:
    """Whether KubeRay sees endpoints and every application that Serve names is running.

    KubeRay's Ready alone means one endpoint; it stays True while an application is unhealthy.
    """
    status = (ray_service or {}).get("status") or {}
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True" for condition in status.get("conditions") or []
    )
    applications = list(_statuses(ray_service))
    return ready and bool(applications) and all(application.get("status") == "RUNNING" for application in applications)


def deploying(ray_service: Manifest | None) -> bool:
    """Whether Serve has the application and is starting its replicas."""
    return any(application.get("status") == "DEPLOYING" for application in _statuses(ray_service))


def cause(ray_service: Manifest | None) -> Cause | None:
    """Why the application does not run: the runtime's own error where it is one, else the words of Serve."""
    for application in _statuses(ray_service):
        if application.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY"):
            continue
        deployments = application.get("serveDeploymentStatuses") or {}
        words = [str(deployment.get("message") or "") for deployment in deployments.values()]
        words.append(str(application.get("message") or ""))
        text = next((text for text in words if text.strip()), "it left no word")
        for line in reversed([last_line(text), *text.splitlines()]):
            if (match := _TYPED.search(line)) is not None:
                return Cause(Reason(match[1]), quote(match["words"]))
        return Cause(Reason.APPLICATION_FAILED, f"Ray Serve could not start the model: {quote(text)}")
    return None
