"""Stands in for KubeRay where no pods can run: it moves the status of RayJobs and RayServices as KubeRay would."""

import asyncio
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, ProbeResult, Ref
from eagleray_operator.controller.controller import Controller
from eagleray_operator.metrics import Metrics
from eagleray_operator.settings import Settings
from tests.support.makers import DIGEST, KEY, SETTINGS


class FakeAddresses:
    """Every revision answers."""

    def __init__(self) -> None:
        self.answer = ProbeResult(ready=True, digest=DIGEST, engine="NumPy")

    def url(self, namespace: str, deployment: str) -> str:
        return f"http://{deployment}.{namespace}.svc"

    async def probe(self, namespace: str, deployment: str, revision: str, *, active: bool) -> ProbeResult:
        return self.answer


class FakeKubeRay:
    """Makes a RayCluster for each RayJob and RayService and tells that they run."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[None]] = set()
        cluster.watch(self._seen)

    def _seen(self, event: str, manifest: Manifest) -> None:
        if event == "ADDED" and manifest["kind"] in ("RayJob", "RayService"):
            task = asyncio.create_task(self._start(manifest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start(self, owner: Manifest) -> None:
        ref = Ref.of(owner)
        name = f"{ref.name}-abcde"
        field = "rayClusterSpec" if ref.kind == "RayJob" else "rayClusterConfig"
        reference = {"apiVersion": "ray.io/v1", "kind": ref.kind, "name": ref.name, "uid": owner["metadata"]["uid"]}
        await self._cluster.put(
            {
                "apiVersion": "ray.io/v1",
                "kind": "RayCluster",
                "metadata": {
                    "name": name,
                    "namespace": ref.namespace,
                    "labels": owner["metadata"]["labels"],
                    "ownerReferences": [reference | {"controller": True}],
                },
                "spec": owner["spec"][field],
            }
        )
        await self.set_status(ref, status_of(ref.kind, name))

    async def set_status(self, ref: Ref, status: dict[str, Any]) -> None:
        live = await self._cluster.get(ref)
        if live is not None:
            await self._cluster.write_status(live, status)


def status_of(kind: str, cluster: str) -> dict[str, Any]:
    if kind == "RayJob":
        return {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": cluster}
    return {
        "conditions": [{"type": "Ready", "status": "True"}],
        "activeServiceStatus": {"rayClusterName": cluster, "applicationStatuses": {"model": {"status": "RUNNING"}}},
    }


class Running:
    """A controller at work on a cluster in memory; `cluster` may be a proxy of `store`."""

    def __init__(
        self, store: MemoryCluster, cluster: Any = None, settings: Settings = SETTINGS, metrics: Metrics | None = None
    ) -> None:
        self.store = store
        self.addresses = FakeAddresses()
        self.controller = Controller(cluster or store, self.addresses, settings, key=KEY, metrics=metrics)
        self._task: asyncio.Task[None] | None = None
        store.watch(self._seen)

    def _seen(self, event: str, manifest: Manifest) -> None:
        if self._task is not None and not self._task.done():
            self.controller.observe(event, manifest)

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.controller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def task(self) -> asyncio.Task[None]:
        assert self._task is not None
        return self._task

    async def until(self, ref: Ref, type_: str, reason: str) -> Manifest:
        """Wait, at most 10 s, until a condition of the resource has that reason."""
        async with asyncio.timeout(10):
            while True:
                live = await self.store.get(ref)
                for entry in ((live or {}).get("status") or {}).get("conditions") or []:
                    if entry["type"] == type_ and entry["reason"] == reason:
                        assert live is not None
                        return live
                await asyncio.sleep(0)

    async def quiet(self, turns: int = 300) -> None:
        """Let everything that is due be done: the event loop turns that often without a new version."""
        left, version = turns, -1
        while left:
            await asyncio.sleep(0)
            newest = max(
                (int(m["metadata"]["resourceVersion"]) for kind in names_of_kinds() for m in self.store.of_kind(kind)), default=0
            )
            left = turns if newest != version else left - 1
            version = newest


def names_of_kinds() -> list[str]:
    return [
        names.TRAINING_JOB,
        names.MODEL_DEPLOYMENT,
        "RayJob",
        "RayService",
        "RayCluster",
        "ConfigMap",
        "Service",
        "Secret",
        "NetworkPolicy",
    ]


def dump(store: MemoryCluster) -> dict[tuple[str, str], Any]:
    """Everything in the cluster but what differs from run to run: versions, UIDs and times."""
    objects = {}
    for kind in names_of_kinds():
        for manifest in store.of_kind(kind):
            metadata = {key: manifest["metadata"].get(key) for key in ("labels", "generation")}
            content = {key: value for key, value in manifest.items() if key not in ("metadata",)}
            name = manifest["metadata"]["name"]
            if kind == "Secret":
                # Named after its owner's UID, which is another in each run, and derived from it.
                owner = manifest["metadata"]["ownerReferences"][0]
                name, content = f"token of {owner['kind']} {owner['name']}", {}
            objects[kind, name] = _without_times({"metadata": metadata} | content)
    return objects


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "..."
            if key.endswith(("Time", "Since", "time")) or key in ("uid", "secretName", "serveConfigV2", "config.json")
            else _without_times(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value
