"""Numbers of replicas: carried to where they take effect, and read back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeployment, ReplicaCounts, ScalingDecision
from eagleray_operator.children import rayservice
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers.plan import Observed, Patch

KEPT_DECISIONS = 5


def bounds_of_cluster(cluster: Manifest | None, wanted: Mapping[str, Any]) -> tuple[Patch, ...]:
    """Carry the bounds of a wanted RayClusterSpec over to the RayCluster, which KubeRay 1.6 does not do.

    `replicas` is Ray's autoscaler's where there is one; without it, it is ours.
    """
    groups = ((cluster or {}).get("spec") or {}).get("workerGroupSpecs") or []
    if cluster is None or not groups or not wanted.get("workerGroupSpecs") or cluster["metadata"].get("deletionTimestamp"):
        return ()
    fields = ["minReplicas", "maxReplicas"]
    if not wanted["enableInTreeAutoscaling"]:
        fields.append("replicas")
    goal = {field: wanted["workerGroupSpecs"][0][field] for field in fields}
    changes = {field: value for field, value in goal.items() if groups[0].get(field) != value}
    if not changes:
        return ()
    base = "/spec/workerGroupSpecs/0"
    operations: list[dict[str, Any]] = [{"op": "test", "path": f"{base}/groupName", "value": groups[0]["groupName"]}]
    operations += [{"op": "add", "path": f"{base}/{field}", "value": value} for field, value in changes.items()]
    return (Patch(Ref.of(cluster), tuple(operations)),)


def count(deployment: ModelDeployment, revision: str, observed: Observed) -> ReplicaCounts:
    """Replicas of a revision: each is a worker pod, ready when its Serve proxy says so."""
    pods = [
        pod
        for pod in observed.of_kind("Pod")
        if pod["metadata"]["labels"].get(names.LABEL_REVISION) == revision
        and pod["metadata"]["labels"].get("ray.io/node-type") == "worker"
        and not pod["metadata"].get("deletionTimestamp")
    ]
    ready = [pod for pod in pods if _is_ready(pod)]
    return ReplicaCounts(desired=_desired(deployment, revision, observed), current=len(pods), ready=len(ready))


def decisions(deployment: ModelDeployment, counts: ReplicaCounts, revision: str, now: datetime) -> list[ScalingDecision]:
    """The newest changes of the wanted number, this moment's first."""
    status = deployment.status
    if status.replicas is None or status.active_revision != revision or status.replicas.desired == counts.desired:
        return status.scaling
    before, to = status.replicas.desired, counts.desired
    change = ScalingDecision.model_validate({"time": now, "from": before, "to": to, "reason": _cause(deployment, before, to)})
    return [change, *status.scaling][:KEPT_DECISIONS]


def _cause(deployment: ModelDeployment, before: int, to: int) -> str:
    """What changed the wanted number: the spec where it was outside of the bounds until now, else the load."""
    if deployment.spec.autoscaling is None:
        return "spec.replicas"
    least, most = rayservice.bounds(deployment)
    if before < least == to:
        return "spec.autoscaling.minReplicas"
    return "spec.autoscaling.maxReplicas" if before > most == to else "load, by Ray's autoscaler"


def _desired(deployment: ModelDeployment, revision: str, observed: Observed) -> int:
    """What the autoscaler asks KubeRay for, else what the spec says."""
    least, _ = rayservice.bounds(deployment)
    if deployment.spec.autoscaling is None:
        return least
    for cluster in observed.of_kind("RayCluster"):
        if any(owner["name"] == revision for owner in cluster["metadata"].get("ownerReferences", [])):
            groups = cluster["spec"].get("workerGroupSpecs") or [{}]
            return int(groups[0].get("replicas", least))
    return least


def _is_ready(pod: Manifest) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in pod.get("status", {}).get("conditions") or []
    )
