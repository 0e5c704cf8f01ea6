"""KubeRay that goes, comes back, or is too old, seen by the engine at work on a cluster in memory."""

from typing import Any

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import KINDS, ClusterError, Ref
from tests.support.fake_kuberay import FakeKubeRay, Running
from tests.support.makers import condition, job_manifest
from tests.unit.controller.test_controller import JOB, fresh

OF_KUBERAY = ("RayJob", "RayService", "RayCluster")


async def test_definitions_that_vanish_are_missed_and_the_job_goes_on_when_they_are_back() -> None:
    store = MemoryCluster()
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        for kind in OF_KUBERAY:
            for live in store.of_kind(kind):
                await store.delete(Ref.of(live), live["metadata"]["uid"])
        store.set_kinds(kind for kind in KINDS if kind not in OF_KUBERAY)
        await running.controller.sweep()
        told = await running.until(JOB, "Accepted", "PrerequisiteMissing")
        assert "Install KubeRay" in condition(told["status"], "Accepted")["message"]
        assert running.controller.cache.refs("RayJob") == set()
        store.set_kinds(KINDS)
        await running.controller.sweep()
        await running.until(JOB, "Accepted", "Accepted")
        assert [live["metadata"]["name"] for live in store.of_kind("RayJob")] == ["iris-1"]


class Old:
    """A cluster with the definitions of an older KubeRay."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, manifest: Any) -> Any:
        if manifest["kind"] == "RayJob":
            raise ClusterError(400, 'strict decoding error: unknown field "spec.preRunningDeadlineSeconds"')
        return await self._store.create(manifest)


async def test_definitions_that_are_too_old_are_told_instead_of_tried_for_ever() -> None:
    store = MemoryCluster()
    async with Running(store, Old(store)) as running:
        await store.put(fresh(job_manifest()))
        told = await running.until(JOB, "Progressing", "PrerequisiteMissing")
    assert "KubeRay is too old" in condition(told["status"], "Progressing")["message"]
