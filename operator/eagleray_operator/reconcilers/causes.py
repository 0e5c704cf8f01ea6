"""Why pods do not run: one cause from what the apiserver, KubeRay and the kubelet say, in their own words."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers.text import quote

PATIENCE_SECONDS = 120
"""How long something may stand still without a word before that itself is told."""

OLDEST_KUBERAY = (1, 6)
KUBERAY = "KubeRay 1.6 or newer"

IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}

LACKS_A_FIELD = ("field not declared in schema", "strict decoding error: unknown field")
"""The apiserver's words for it when something is applied, and when it is created."""

_NO_MEMORY = re.compile(r"MemoryError\b|CUDA out of memory|low on memory")
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True)
class Cause:
    """A reason and its message: what happened, and what to do."""

    reason: Reason
    message: str


def of_pods(pods: Iterable[Manifest], now: datetime) -> Cause | None:
    """The first cause among the pods, the most telling kind first."""
    pods = list(pods)
    for find in (_killed_for_memory, _evicted, _image, _container, _unschedulable):
        for pod in pods:
            if (cause := find(pod)) is not None:
                return cause
    return _without_volumes(pods, now) or _waits_for_its_head(pods, now)


def of_ray_cluster(cluster: Manifest | None) -> Cause | None:
    """What keeps KubeRay from making the pods: an admission rule, a quota."""
    failure = condition(cluster, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return None
    return _denied(quote(str(failure.get("message", ""))))


def of_refusal(refused: Mapping[Ref, str]) -> Cause | None:
    """What the apiserver would not have."""
    for ref, words in sorted(refused.items()):
        if any(phrase in words for phrase in LACKS_A_FIELD):
            message = f"KubeRay is too old: {ref.kind} {ref.name}: {quote(words)}. Install {KUBERAY}; this goes on by itself."
            return Cause(Reason.PREREQUISITE_MISSING, message)
        return _denied(f"{ref.kind} {ref.name}: {quote(words)}")
    return None


def of_kuberay(ray_object: Manifest | None, cluster: Manifest | None, now: datetime) -> Cause | None:
    """Whether nobody works on a RayJob or RayService, or a KubeRay that is too old."""
    if ray_object is None:
        return None
    name = f"{ray_object['kind']} {ray_object['metadata']['name']}"
    if cluster is None and not ray_object.get("status"):
        if not stands_still(ray_object, now):
            return None
        words = f"KubeRay has not looked at {name} for {PATIENCE_SECONDS} s."
        return Cause(Reason.PREREQUISITE_MISSING, f"{words} Check that its operator runs and watches this namespace.")
    version = str(((cluster or {}).get("metadata", {}).get("annotations") or {}).get("ray.io/kuberay-version", ""))
    if (found := _VERSION.match(version)) and (int(found[1]), int(found[2])) < OLDEST_KUBERAY:
        return Cause(Reason.PREREQUISITE_MISSING, f"KubeRay {version} works on {name} and is too old. Install {KUBERAY}.")
    return None


def of_claims(claims: Iterable[Manifest], pods: Iterable[Manifest], now: datetime) -> Cause | None:
    """A claim without a volume while a pod waits for its node: a provisioner that fails says nothing of it on the pod."""
    if all(pod.get("spec", {}).get("nodeName") for pod in pods):
        return None
    for claim in claims:
        if claim.get("status", {}).get("phase") == "Pending" and stands_still(claim, now):
            storage = claim.get("spec", {}).get("storageClassName")
            where = f"of storage class {storage}" if storage else "without a storage class (the cluster may have no default)"
            words = f"Claim {_name(claim)} {where} has no volume after {PATIENCE_SECONDS} s."
            advice = f"Check the storage class; `kubectl describe pvc {_name(claim)}` tells more."
            return Cause(Reason.VOLUME_PENDING, f"{words} {advice}")
    return None


def of_words(words: str) -> Reason | None:
    """The reason that the words of a traceback name, where they name one."""
    return Reason.OUT_OF_MEMORY if _NO_MEMORY.search(words) else None


def lacks_secret(pods: Iterable[Manifest], name: str) -> bool:
    """Whether a container cannot start because that Secret is gone."""
    return any(
        waiting.get("reason") == "CreateContainerConfigError" and f'secret "{name}" not found' in str(waiting.get("message"))
        for pod in pods
        for container in containers(pod)
        if (waiting := _waiting(container))
    )


def stands_still(manifest: Manifest, now: datetime) -> bool:
    """Whether the object is older than a start takes to show anything."""
    created = manifest["metadata"].get("creationTimestamp")
    return created is not None and now >= moment(created) + timedelta(seconds=PATIENCE_SECONDS)


def still_after(manifests: Iterable[Manifest | None], now: datetime) -> float:
    """Seconds until one of these objects has been there, or ready, for so long that its silence tells something.

    Where none of them is about to, as long as that takes a new one.
    """
    found = [manifest for manifest in manifests if manifest is not None]
    since = [manifest["metadata"].get("creationTimestamp") for manifest in found]
    since += [(condition(manifest, "Ready") or {}).get("lastTransitionTime") for manifest in found]
    left = [(moment(time) - now).total_seconds() + PATIENCE_SECONDS for time in since if time]
    return min((seconds for seconds in left if seconds > 0), default=PATIENCE_SECONDS)


def moment(text: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text)


def condition(manifest: Manifest | None, type_: str) -> Mapping[str, Any] | None:
    """The condition of that type of a pod or of an object of KubeRay's."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry.get("type") == type_), None)


def containers(pod: Manifest) -> list[Mapping[str, Any]]:
    """What the kubelet says of each container of a pod: first those that run before the others, then Ray's."""
    status = pod.get("status", {})
    beside = sorted(status.get("containerStatuses") or [], key=lambda container: container["name"] != "ray")
    return [*(status.get("initContainerStatuses") or []), *beside]


def _denied(words: str) -> Cause:
    if "exceeded quota" in words or "insufficient quota" in words:
        return Cause(Reason.QUOTA_EXCEEDED, f"{words}. Free quota or ask for less.")
    return Cause(Reason.ADMISSION_DENIED, f"{words}. Change what the cluster refuses, or ask its administrator.")


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return container.get("state", {}).get("waiting") or {}


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a container ended; what became of the one before it is no news once the container is ready again."""
    if (ended := container.get("state", {}).get("terminated")) is not None:
        return ended  # type: ignore[no-any-return]
    return {} if container.get("ready") else container.get("lastState", {}).get("terminated") or {}


def _killed_for_memory(pod: Manifest) -> Cause | None:
    for container in containers(pod):
        if _ended(container).get("reason") == "OOMKilled":
            words = f"{container['name']} of {_name(pod)} was killed for using more than its memory."
            return Cause(Reason.OUT_OF_MEMORY, f"{words} Raise memory or lower batchSize.")
    return None


def _evicted(pod: Manifest) -> Cause | None:
    status = pod.get("status", {})
    if status.get("reason") != "Evicted":
        return None
    words = quote(str(status.get("message", "")))
    if "memory" in words:
        return Cause(Reason.OUT_OF_MEMORY, f"{_name(pod)} was evicted: {words} Raise memory, so that its node keeps it free.")
    return Cause(Reason.WORKER_LOST, f"{_name(pod)} was evicted: {words} It is replaced; if it recurs, look at the node.")


def _image(pod: Manifest) -> Cause | None:
    for container in containers(pod):
        waiting = _waiting(container)
        if waiting.get("reason") in IMAGE_REASONS:
            words = quote(str(waiting.get("message") or waiting["reason"]))
            node = pod.get("spec", {}).get("nodeName", "its node")
            return Cause(
                Reason.IMAGE_PULL_FAILED,
                f"{container.get('image', 'image')} on {node}: {words}. Check the image's name and that the node may pull it.",
            )
    return None


def _container(pod: Manifest) -> Cause | None:
    for container in containers(pod):
        waiting = _waiting(container)
        if waiting.get("reason") in CONFIG_REASONS:
            words = quote(str(waiting.get("message") or waiting["reason"]))
            advice = "Mend what it names; the kubelet tries again by itself."
            return Cause(Reason.CONTAINER_FAILED, f"{container['name']} of {_name(pod)} cannot start: {words}. {advice}")
        ended = _ended(container)
        if ended.get("exitCode"):
            words = quote(str(ended.get("message") or ended.get("reason") or "it left no word"))
            more = f"Read `kubectl logs {_name(pod)} -c {container['name']} --previous`."
            return Cause(
                Reason.CONTAINER_FAILED, f"{container['name']} of {_name(pod)} ended with {ended['exitCode']}: {words}. {more}"
            )
    return None


def _unschedulable(pod: Manifest) -> Cause | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled is None or scheduled.get("status") != "False":
        return None
    words = quote(str(scheduled.get("message", "")))
    if "persistentvolumeclaim" in words.lower():
        return Cause(Reason.VOLUME_PENDING, f"{_name(pod)}: {words}. Check the claim and its storage class.")
    return Cause(Reason.UNSCHEDULABLE, f"{_name(pod)}: {words}. Ask for less or add nodes.")


def _without_volumes(pods: list[Manifest], now: datetime) -> Cause | None:
    """The kubelet says only in events, which are not ours to read, why it cannot mount a volume."""
    for pod in pods:
        sandbox = condition(pod, "PodReadyToStartContainers")
        if sandbox is not None and sandbox.get("status") == "False" and _placed(pod) and stands_still(pod, now):
            words = f"{_name(pod)} has got neither volumes nor network from its node after {PATIENCE_SECONDS} s."
            more = f"`kubectl describe pod {_name(pod)}` tells which: often a Secret, ConfigMap key or claim that is not there."
            return Cause(Reason.VOLUME_PENDING, f"{words} {more}")
    return None


def _placed(pod: Manifest) -> bool:
    return bool(pod.get("spec", {}).get("nodeName")) and pod.get("status", {}).get("phase") == "Pending"


def _waits_for_its_head(pods: list[Manifest], now: datetime) -> Cause | None:
    """KubeRay's init container waits for the head for ever, and says so only in its log."""
    head_since = [
        moment(ready["lastTransitionTime"])
        for pod in pods
        if pod["metadata"]["labels"].get("ray.io/node-type") == "head"
        and (ready := condition(pod, "Ready")) is not None
        and ready.get("status") == "True"
        and ready.get("lastTransitionTime")
    ]
    if not head_since or now < max(head_since) + timedelta(seconds=PATIENCE_SECONDS):
        return None
    for pod in pods:
        for container in pod.get("status", {}).get("initContainerStatuses") or []:
            if "running" in container.get("state", {}) and stands_still(pod, now):
                words = f"{container['name']} of {_name(pod)} does not reach the head, which is up."
                advice = "Check the namespace's NetworkPolicies, that all images have one Ray, and that Ray's token is unchanged."
                return Cause(Reason.CONTAINER_FAILED, f"{words} {advice}")
    return None
