"""What becomes of the head of a Ray cluster: everything else in it lives and dies with its head."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers import causes
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.text import quote

WEDGED_SECONDS = 300
"""How long a head may be of no use before it is replaced: longer than the apiserver or a node is usually away."""


def of(pods: Iterable[Manifest]) -> list[Manifest]:
    """The heads among the pods."""
    return [pod for pod in pods if pod["metadata"]["labels"].get("ray.io/node-type") == "head"]


def is_gone(cluster: Manifest | None) -> bool:
    """Whether KubeRay finds no head pod in a cluster."""
    ready = causes.condition(cluster, "HeadPodReady")
    return ready is not None and ready.get("status") == "False" and ready.get("reason") == "HeadPodNotFound"


def was_complete(cluster: Manifest | None) -> bool:
    """Whether all pods of a cluster have been ready at some time; KubeRay never takes that back."""
    complete = causes.condition(cluster, "RayClusterProvisioned")
    return complete is not None and complete.get("status") == "True"


def going(pods: Iterable[Manifest], now: datetime) -> Cause | None:
    """Why a head that has ended, or is on its way out, goes: told only as long as its pod is there."""
    for pod in of(pods):
        over = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
        if not (over or pod["metadata"].get("deletionTimestamp") or _ended(pod)):
            continue
        name = pod["metadata"]["name"]
        cause = causes.of_pods([pod], now)
        if cause is not None and cause.reason is Reason.OUT_OF_MEMORY:
            return cause
        disruption = causes.condition(pod, "DisruptionTarget")
        if disruption is not None and disruption.get("status") == "True":
            words = quote(str(disruption.get("message") or disruption.get("reason")))
            return Cause(Reason.HEAD_LOST, f"The head pod {name} was taken away: {words}")
        if pod["metadata"].get("deletionTimestamp"):
            # Its containers end with an error then, which says nothing.
            return Cause(Reason.HEAD_LOST, f"The head pod {name} was deleted.")
        return cause or Cause(Reason.HEAD_LOST, f"The head pod {name} has ended.")
    return None


def ended(pods: Iterable[Manifest], now: datetime) -> Cause | None:
    """Why the process of a head that does not start again has ended."""
    for pod in of(pods):
        if _ended(pod).get("exitCode") and pod.get("spec", {}).get("restartPolicy") == "Never":
            return causes.of_pods([pod], now)
    return None


def away(cluster: Manifest | None, pods: Iterable[Manifest], now: datetime) -> Cause | None:
    """Why a cluster that once was complete is without a ready head; KubeRay makes a new one."""
    ready = causes.condition(cluster, "HeadPodReady")
    if not was_complete(cluster) or ready is None or ready.get("status") != "False":
        return None
    cause = going(pods, now) or causes.of_pods(of(pods), now)
    said = cause.message if cause else quote(f"{ready.get('reason', '')} {ready.get('message', '')}")
    return Cause(
        cause.reason if cause else Reason.HEAD_LOST,
        f"The head is away: {said} KubeRay brings another with new replicas; until then, about a minute, requests are refused.",
    )


def wedged(pods: Iterable[Manifest], now: datetime, *, was_ready: bool) -> Cause | None:
    """Why a head that neither KubeRay nor the kubelet mends is to be replaced; `was_ready` of one that has worked before."""
    for pod in of(pods):
        stuck = _stuck(pod, was_ready)
        if stuck is not None and now >= stuck[0] + timedelta(seconds=WEDGED_SECONDS):
            words = f"The head pod {pod['metadata']['name']} {stuck[1]} for {WEDGED_SECONDS} s."
            return Cause(Reason.HEAD_LOST, f"{words} It is replaced with its whole cluster.")
    return None


def next_look(pods: Iterable[Manifest], now: datetime, *, was_ready: bool) -> float | None:
    """Seconds until a head that is of no use now will count as wedged; None if there is none such."""
    stuck = [found[0] for pod in of(pods) if (found := _stuck(pod, was_ready)) is not None]
    left = [(since - now).total_seconds() + WEDGED_SECONDS for since in stuck]
    return min((seconds for seconds in left if seconds > 0), default=None)


def without_autoscaler(pods: Iterable[Manifest]) -> str | None:
    """How the autoscaler of a head has ended, which KubeRay does not start again."""
    for pod in of(pods):
        if (ended := _autoscaler_end(pod)) is not None:
            return f"The autoscaler of {pod['metadata']['name']} ended with {_words(ended)}."
    return None


def _stuck(pod: Manifest, was_ready: bool) -> tuple[datetime, str] | None:
    """Since when a head is of no use, and in which way."""
    if (deleted := pod["metadata"].get("deletionTimestamp")) is not None:
        return causes.moment(deleted), "is deleted and does not end, as when its node is gone,"
    if (ended := _autoscaler_end(pod)) is not None:
        return causes.moment(ended["finishedAt"]), f"is without its autoscaler, which ended with {_words(ended)},"
    ready = causes.condition(pod, "Ready")
    if not was_ready or ready is None or pod.get("status", {}).get("phase") != "Running":
        return None
    if ready.get("status") != "False" or not ready.get("lastTransitionTime"):
        return None
    return causes.moment(ready["lastTransitionTime"]), f"is not ready ({quote(str(ready.get('message') or 'no word'))})"


def _autoscaler_end(pod: Manifest) -> Mapping[str, Any] | None:
    ended = _ended(pod, "autoscaler")
    return ended if ended.get("finishedAt") else None


def _ended(pod: Manifest, name: str = "ray") -> Mapping[str, Any]:
    """How that container has ended; empty if it has not."""
    container = next((found for found in causes.containers(pod) if found["name"] == name), {})
    ended: Mapping[str, Any] = container.get("state", {}).get("terminated") or {}
    return ended


def _words(ended: Mapping[str, Any]) -> str:
    return f"{ended.get('exitCode')}: {quote(str(ended.get('message') or ended.get('reason') or 'no word'))}"
