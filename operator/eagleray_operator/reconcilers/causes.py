"""Why pods do not run: one cause from what KubeRay and the kubelet say, in their own words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers.text import quote

IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}


@dataclass(frozen=True)
class Cause:
    """A reason and its message: what happened, and what to do."""

    reason: Reason
    message: str


def of_pods(pods: Iterable[Manifest]) -> Cause | None:
    """The first cause among the pods, the most telling kind first."""
    pods = list(pods)
    for find in (_killed_for_memory, _image, _container, _unschedulable):
        for pod in pods:
            if (cause := find(pod)) is not None:
                return cause
    return None


def of_ray_cluster(cluster: Manifest | None) -> Cause | None:
    """What keeps KubeRay from making the pods: an admission rule, a quota."""
    for condition in _conditions(cluster):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return _denied(quote(str(condition.get("message", ""))))
    return None


def of_refusal(refused: Mapping[Ref, str]) -> Cause | None:
    """What the apiserver would not have."""
    for ref, words in sorted(refused.items()):
        return _denied(f"{ref.kind} {ref.name}: {quote(words)}")
    return None


def _denied(words: str) -> Cause:
    if "exceeded quota" in words or "insufficient quota" in words:
        return Cause(Reason.QUOTA_EXCEEDED, f"{words}. Free quota or ask for less.")
    return Cause(Reason.ADMISSION_DENIED, f"{words}. Change what the cluster refuses, or ask its administrator.")


def head_is_lost(cluster: Manifest | None) -> bool:
    """Whether the head pod of a cluster that was running is gone; KubeRay was told not to make another."""
    return any(
        condition.get("type") == "HeadPodReady"
        and condition.get("status") == "False"
        and condition.get("reason") == "HeadPodNotFound"
        for condition in _conditions(cluster)
    )


def _conditions(manifest: Manifest | None) -> list[Mapping[str, Any]]:
    if manifest is None:
        return []
    conditions: list[Mapping[str, Any]] = manifest.get("status", {}).get("conditions") or []
    return conditions


def _name(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def _containers(pod: Manifest) -> list[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _killed_for_memory(pod: Manifest) -> Cause | None:
    for container in _containers(pod):
        for state in (container.get("state", {}), container.get("lastState", {})):
            if (state.get("terminated") or {}).get("reason") == "OOMKilled":
                return Cause(
                    Reason.OUT_OF_MEMORY,
                    f"{container['name']} of {_name(pod)} was killed for using more than its memory. "
                    "Raise memory or lower batchSize.",
                )
    return None


def _image(pod: Manifest) -> Cause | None:
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS:
            words = quote(str(waiting.get("message") or waiting["reason"]))
            node = pod.get("spec", {}).get("nodeName", "its node")
            return Cause(
                Reason.IMAGE_PULL_FAILED,
                f"{container.get('image', 'image')} on {node}: {words}. Check the image's name and that the node may pull it.",
            )
    return None


def _container(pod: Manifest) -> Cause | None:
    for container in _containers(pod):
        state = container.get("state", {})
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in CONFIG_REASONS:
            words = quote(str(waiting.get("message") or waiting["reason"]))
            return Cause(Reason.CONTAINER_FAILED, f"{container['name']} of {_name(pod)} cannot start: {words}.")
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if ended.get("exitCode") and container["name"] != "autoscaler":
            words = quote(str(ended.get("message") or ended.get("reason") or ""))
            return Cause(Reason.CONTAINER_FAILED, f"{container['name']} of {_name(pod)} ended with {ended['exitCode']}: {words}.")
    return None


def _unschedulable(pod: Manifest) -> Cause | None:
    for condition in _conditions(pod):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            words = quote(str(condition.get("message", "")))
            if "persistentvolumeclaim" in words.lower():
                return Cause(Reason.VOLUME_PENDING, f"{_name(pod)}: {words}. Check the claim and its storage class.")
            return Cause(Reason.UNSCHEDULABLE, f"{_name(pod)}: {words}. Ask for less or add nodes.")
    return None
