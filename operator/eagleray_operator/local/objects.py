"""The objects that KubeRay and its operator's clusters would make: RayClusters, and pods without a process of their own."""

from collections.abc import Mapping
from typing import Any

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.ray_api import RayApi

HEAD_READY = {"type": "HeadPodReady", "status": "True", "reason": "HeadPodRunningAndReady", "message": ""}


class Objects:
    """Shows RayClusters and pods in the cluster in memory."""

    def __init__(self, cluster: MemoryCluster, ray: RayApi) -> None:
        self._cluster = cluster
        self._ray = ray

    async def make_cluster(self, owner: Manifest, spec: Manifest) -> str:
        """Make the RayCluster of a RayJob or RayService unless it is there; returns its name."""
        name = cluster_name(owner)
        ref = Ref("RayCluster", owner["metadata"]["namespace"], name)
        if await self._cluster.get(ref) is None:
            await self._cluster.create(
                {
                    "apiVersion": "ray.io/v1",
                    "kind": "RayCluster",
                    "metadata": {
                        "name": name,
                        "namespace": ref.namespace,
                        "labels": dict(owner["metadata"].get("labels") or {}),
                        "ownerReferences": [_owner(owner)],
                    },
                    "spec": spec,
                }
            )
            live = await self._cluster.get(ref)
            if live is not None:
                await self._cluster.write_status(live, {"state": "ready", "conditions": [HEAD_READY]})
        return name

    async def remove_cluster(self, owner: Manifest, status: Mapping[str, Any]) -> None:
        """Delete the RayCluster that the status names, and its pods with it."""
        ref = Ref("RayCluster", owner["metadata"]["namespace"], status.get("rayClusterName", cluster_name(owner)))
        live = await self._cluster.get(ref)
        if live is not None:
            await self._cluster.delete(ref, live["metadata"]["uid"])

    async def show_pods(
        self, owner: Manifest, cluster: str, type_: str, group: Manifest, number: int, ready: int, problem: Manifest | None = None
    ) -> None:
        """Have `number` pods of that type, the first `ready` of them ready; the others tell the problem, if there is one."""
        namespace = owner["metadata"]["namespace"]
        live = await self._cluster.get(Ref("RayCluster", namespace, cluster))
        if live is None:
            return
        uid = live["metadata"]["uid"]
        prefix = f"{cluster}-{type_}-"
        known = {
            pod["metadata"]["name"]: pod
            for pod in self._cluster.of_kind("Pod")
            if pod["metadata"]["namespace"] == namespace
            and any(reference["uid"] == uid for reference in pod["metadata"]["ownerReferences"])
            and pod["metadata"]["labels"]["ray.io/node-type"] == type_
        }
        wanted = [f"{prefix}{index}" for index in range(number)]
        for name, pod in known.items():
            if name not in wanted:
                await self._cluster.delete(Ref.of(pod), pod["metadata"]["uid"])
        labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": type_, "ray.io/cluster": cluster}
        for index, name in enumerate(wanted):
            if name not in known:
                await self._cluster.create(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [_owner(live)]},
                        "spec": {},
                    }
                )
            pod_or_none = await self._cluster.get(Ref("Pod", namespace, name))
            if pod_or_none is not None:
                await self._cluster.write_status(pod_or_none, _pod_status(index < ready, problem))

    async def write_status(self, resource: Manifest, status: Mapping[str, Any]) -> None:
        """Write the status, if it is another and the object still the same one."""
        live = await self._cluster.get(Ref.of(resource))
        if live is not None and live["metadata"]["uid"] == resource["metadata"]["uid"] and live.get("status") != status:
            await self._cluster.write_status(live, status)

    def too_much(self, cpus: float, gpus: float) -> Manifest | None:
        """What a pod says that does not fit on this machine."""
        here = self._ray.addresses
        if cpus <= here.cpus and gpus <= here.gpus:
            return None
        words = f"needs {cpus:g} CPUs and {gpus:g} GPUs in all; the Ray of this machine counts {here.cpus:g} and {here.gpus:g}"
        return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}


def cluster_name(owner: Manifest) -> str:
    """Name of the RayCluster that a RayJob or RayService gets first."""
    return f"{owner['metadata']['name']}-local"


def _owner(manifest: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
        "uid": manifest["metadata"]["uid"],
        "controller": True,
    }


def pod_waits(words: str, *, claim: bool) -> Manifest:
    """Status of a pod that does not start for want of a claim, or of another volume."""
    if claim:
        return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    return {"containerStatuses": [{"name": "ray", "state": waiting}]}


def _pod_status(ready: bool, problem: Manifest | None) -> Manifest:
    if ready:
        return {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    status: Manifest = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    if problem is not None:
        conditions = [*status["conditions"], *problem.get("conditions", [])]
        status = {**status, **problem, "conditions": conditions}
    return status
