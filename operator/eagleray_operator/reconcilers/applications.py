"""What Ray Serve says of the model, read from a RayService."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers.causes import Cause, condition, of_words
from eagleray_operator.reconcilers.text import last_line, quote

_TYPED = re.compile(r"\b(DigestMismatch|ModelInvalid|StoreRefused|StoreUnavailable|UserCodeFailed)\b:?\s*(?P<words>.*)")


def _statuses(ray_service: Manifest | None) -> Iterable[Mapping[str, Any]]:
    status = (ray_service or {}).get("status") or {}
    for side in ("activeServiceStatus", "pendingServiceStatus"):
        applications = (status.get(side) or {}).get("applicationStatuses") or {}
        yield from applications.values()


def running(ray_service: Manifest | None) -> bool:
    """Whether KubeRay sees endpoints and every application that Serve names is running.

    KubeRay's Ready alone means one endpoint; it stays True while an application is unhealthy.
    """
    ready = condition(ray_service, "Ready")
    applications = list(_statuses(ray_service))
    if ready is None or ready.get("status") != "True":
        return False
    return bool(applications) and all(application.get("status") == "RUNNING" for application in applications)


def deploying(ray_service: Manifest | None) -> bool:
    """Whether Serve has the application and is starting its replicas."""
    return any(application.get("status") == "DEPLOYING" for application in _statuses(ray_service))


def cause(ray_service: Manifest | None) -> Cause | None:
    """Why the application does not run: the runtime's own error where it is one, else the words of Serve or of KubeRay."""
    for application in _statuses(ray_service):
        deployments = application.get("serveDeploymentStatuses") or {}
        words = [str(deployment.get("message") or "") for deployment in deployments.values()]
        words.append(str(application.get("message") or ""))
        text = next((text for text in words if text.strip()), "it left no word")
        failed = application.get("status") in ("DEPLOY_FAILED", "UNHEALTHY")
        # Serve tries a replica that does not start several times before it gives the application up.
        if not failed and not (application.get("status") == "DEPLOYING" and "failed to start" in text):
            continue
        for line in reversed([last_line(text), *text.splitlines()]):
            if (match := _TYPED.search(line)) is not None:
                return Cause(Reason(match[1]), quote(match["words"]))
        reason = of_words(text) or Reason.APPLICATION_FAILED
        return Cause(reason, f"Ray Serve could not start the model: {quote(text)}")
    ready = condition(ray_service, "Ready")
    if ready is not None and ready.get("reason") == "ValidationFailed":
        return Cause(Reason.ADMISSION_DENIED, f"KubeRay refused the service: {quote(str(ready.get('message', '')))}")
    return None
