"""Another version of the operator, or other settings: what runs keeps what it was made with, and nothing is written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from eagleray_operator.children import pods, rayservice
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.settings import Images, Settings
from tests.support.fake_kuberay import FakeKubeRay, Running, dump
from tests.support.makers import SETTINGS, deployment_manifest, job_manifest
from tests.unit.controller.test_controller import DEPLOYMENT, JOB, WRITES, fresh

ELASTIC = {"training": {"engine": "Torch"}, "workers": {"min": 1, "max": 3}}
OTHER = SETTINGS.model_copy(
    update={
        "ray_version": "2.99.0",
        "images": Images(numpy="newer", torch="newer-torch", pull_policy="Always"),
        "model_store": None,
        "worker_memory": "9Gi",
        "head_cpus": 3.0,
        "head_memory": "9Gi",
        "reports_url": "http://elsewhere/v1/reports",
        "start_deadline_seconds": 60,
        "drain_seconds": 1,
        "serving_environment": {"RAY_LOG": "on"},
    }
)


class Counting:
    """A cluster that keeps the writes of an operator, status left out."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store
        self.writes: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES or name == "write_status":
            return method

        async def write(first: Any, *rest: Any) -> Any:
            self.writes.append((name, first if isinstance(first, Ref) else Ref.of(first)))
            return await method(first, *rest)

        return write


@contextmanager
def another_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A version that makes pods and Serve's config otherwise."""
    with monkeypatch.context() as patched:
        patched.setattr(rayservice, "FAST_PATH", {"RAY_SERVE_SOMETHING_NEW": "1"})
        patched.setattr(rayservice, "MAX_ONGOING_REQUESTS", 7)
        patched.setattr(pods, "CONTAINER_SECURITY", {**pods.CONTAINER_SECURITY, "readOnlyRootFilesystem": True})
        yield


@contextmanager
def the_same_version(_: pytest.MonkeyPatch) -> Iterator[None]:
    yield


async def settled(store: MemoryCluster, settings: Settings) -> Counting:
    """What an operator with those settings writes until nothing is left to do."""
    cluster = Counting(store)
    async with Running(store, cluster, settings) as running:
        await running.until(JOB, "Progressing", "Starting")
        await running.until(DEPLOYMENT, "Ready", "Serving")
        await running.controller.sweep()
        await running.quiet()
    return cluster


Version = Callable[[pytest.MonkeyPatch], Any]


@pytest.mark.parametrize(
    ("version", "settings"),
    [(another_version, SETTINGS), (the_same_version, OTHER), (another_version, OTHER)],
    ids=["another version", "other settings", "both"],
)
async def test_an_upgrade_and_a_downgrade_write_to_no_child(
    version: Version, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryCluster()
    FakeKubeRay(store)
    await store.put(fresh(job_manifest(**ELASTIC)))
    await store.put(fresh(deployment_manifest(autoscaling={"maxReplicas": 2})))
    first = await settled(store, SETTINGS)
    assert len(first.writes) == 9
    before = dump(store)
    with version(monkeypatch):
        upgrade = await settled(store, settings)
    downgrade = await settled(store, SETTINGS)
    assert (upgrade.writes, downgrade.writes) == ([], [])
    assert dump(store) == before


def service_of(store: MemoryCluster) -> Manifest:
    (found,) = store.of_kind("RayService")
    return found


async def test_numbers_still_change_in_place_and_nothing_else_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryCluster()
    FakeKubeRay(store)
    await store.put(fresh(job_manifest()))
    await store.put(fresh(deployment_manifest(replicas=1)))
    await settled(store, SETTINGS)
    before = service_of(store)
    await store.put(fresh(deployment_manifest(replicas=3)))
    with another_version(monkeypatch):
        changed = await settled(store, OTHER)
    assert ("apply", Ref.of(before)) in changed.writes
    after = service_of(store)
    old, new = (yaml.safe_load(found["spec"]["serveConfigV2"]) for found in (before, after))
    old["applications"][0]["deployments"][0]["num_replicas"] = 3
    assert new == old
    groups = [found["spec"]["rayClusterConfig"].pop("workerGroupSpecs")[0] for found in (before, after)]
    assert groups[1] == groups[0] | {"replicas": 3, "minReplicas": 3, "maxReplicas": 3}
    assert after["spec"]["rayClusterConfig"] == before["spec"]["rayClusterConfig"]


async def test_what_this_version_has_made_is_still_repaired_when_somebody_edits_it() -> None:
    store = MemoryCluster()
    FakeKubeRay(store)
    await store.put(fresh(job_manifest()))
    await store.put(fresh(deployment_manifest()))
    await settled(store, SETTINGS)
    image = "/spec/rayClusterConfig/headGroupSpec/template/spec/containers/0/image"
    await store.patch(Ref.of(service_of(store)), [{"op": "replace", "path": image, "value": "mine"}])
    await settled(store, SETTINGS)
    head = service_of(store)["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert head["template"]["spec"]["containers"][0]["image"] == SETTINGS.images.numpy
