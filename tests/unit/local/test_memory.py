"""The cluster in memory answers as the apiserver does."""

import asyncio
import copy
from typing import Any

import pytest

from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import ClusterError, Event, Manifest, Ref, TokenIdentity

JOB = Ref("RayJob", "default", "line-1")
LABELS = {"app.kubernetes.io/managed-by": "eagleray"}


def ray_job(**spec: Any) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "line-1", "namespace": "default", "labels": dict(LABELS)},
        "spec": spec,
    }


def config_map(name: str = "config", owner: Manifest | None = None, **data: str) -> Manifest:
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


def refused(status: int) -> Any:
    return pytest.raises(ClusterError, check=lambda error: error.status == status)


async def test_a_new_object_gets_uid_version_generation_and_time(cluster: MemoryCluster) -> None:
    metadata = (await cluster.apply(ray_job(a=1)))["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"].endswith("Z")


async def test_applying_the_same_again_changes_nothing_and_is_no_event(cluster: MemoryCluster) -> None:
    first = await cluster.apply(ray_job(a=1))
    seen: list[str] = []
    cluster.watch(lambda event, _: seen.append(event))
    assert await cluster.apply(ray_job(a=1)) == first
    await asyncio.sleep(0.01)
    assert seen == ["ADDED"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="a value is replaced"),
        pytest.param({"a": 1, "b": 1}, {"a": 1}, {"a": 1}, id="what is named no more is removed"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, {"a": {"c": 2}}, id="also inside"),
        pytest.param({"a": {"b": 1}}, {}, {}, id="with the mapping that it leaves empty"),
        pytest.param({"a": [1, 2]}, {"a": [2]}, {"a": [2]}, id="lists are values"),
    ],
)
async def test_apply_owns_what_it_names(cluster: MemoryCluster, first: Any, second: Any, expected: Any) -> None:
    await cluster.apply(ray_job(**first))
    assert (await cluster.apply(ray_job(**second)))["spec"] == expected


async def test_apply_leaves_what_others_have_added(cluster: MemoryCluster) -> None:
    await cluster.apply(ray_job(a=1))
    await cluster.patch(JOB, [{"op": "add", "path": "/spec/suspend", "value": True}])
    assert (await cluster.apply(ray_job(a=2)))["spec"] == {"a": 2, "suspend": True}


async def test_apply_repairs_what_others_have_changed(cluster: MemoryCluster) -> None:
    await cluster.apply(ray_job(a=1))
    await cluster.patch(JOB, [{"op": "replace", "path": "/spec/a", "value": 5}])
    assert (await cluster.apply(ray_job(a=1)))["spec"] == {"a": 1}


async def test_a_field_that_others_have_taken_over_stays_when_it_is_no_longer_applied(cluster: MemoryCluster) -> None:
    await cluster.apply(ray_job(a=1, b=1))
    await cluster.patch(JOB, [{"op": "replace", "path": "/spec/b", "value": 5}])
    assert (await cluster.apply(ray_job(a=1)))["spec"] == {"a": 1, "b": 5}


async def test_the_generation_counts_changes_of_the_spec_alone(cluster: MemoryCluster) -> None:
    live = await cluster.apply(ray_job(a=1))
    live = await cluster.write_status(live, {"x": 1})
    assert live["metadata"]["generation"] == 1
    relabelled = ray_job(a=1)
    relabelled["metadata"]["labels"]["more"] = "1"
    assert (await cluster.apply(relabelled))["metadata"]["generation"] == 1
    assert (await cluster.apply(ray_job(a=2)))["metadata"]["generation"] == 2


async def test_status_and_the_rest_are_written_apart(cluster: MemoryCluster) -> None:
    live = await cluster.apply({**ray_job(a=1), "status": {"made": "up"}})
    assert "status" not in live
    live = await cluster.write_status({**live, "spec": {"a": 9}}, {"x": 1})
    assert (live["spec"], live["status"]) == ({"a": 1}, {"x": 1})
    live = await cluster.patch(
        JOB, [{"op": "replace", "path": "/spec/a", "value": 2}, {"op": "add", "path": "/status/x", "value": 2}]
    )
    assert (live["spec"], live["status"]) == ({"a": 2}, {"x": 1})
    assert (await cluster.put(ray_job(a=3)))["status"] == {"x": 1}


async def test_a_status_from_an_old_version_is_refused(cluster: MemoryCluster) -> None:
    old = await cluster.apply(ray_job(a=1))
    await cluster.apply(ray_job(a=2))
    with refused(409):
        await cluster.write_status(old, {"x": 1})


async def test_a_status_for_another_object_of_the_name_is_refused(cluster: MemoryCluster) -> None:
    old = await cluster.apply(ray_job())
    await cluster.delete(JOB, old["metadata"]["uid"])
    with refused(404):
        await cluster.write_status(old, {})
    await cluster.apply(ray_job())
    with refused(409):
        await cluster.write_status(old, {})


async def test_a_status_that_is_the_same_is_not_written(cluster: MemoryCluster) -> None:
    live = await cluster.write_status(await cluster.apply(ray_job()), {"x": 1})
    assert await cluster.write_status(live, {"x": 1}) == live


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "add", "path": "/spec/b", "value": 2}], {"a": [1, 2], "b": 2}),
        ([{"op": "add", "path": "/spec/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "add", "path": "/spec/a/0", "value": 3}], {"a": [3, 1, 2]}),
        ([{"op": "replace", "path": "/spec/a/1", "value": 3}], {"a": [1, 3]}),
        ([{"op": "remove", "path": "/spec/a/0"}], {"a": [2]}),
        ([{"op": "test", "path": "/spec/a/0", "value": 1}, {"op": "remove", "path": "/spec/a"}], {}),
        ([{"op": "add", "path": "/spec/x~1y", "value": 1}], {"a": [1, 2], "x/y": 1}),
    ],
)
async def test_a_json_patch_is_applied(cluster: MemoryCluster, operations: list[Any], expected: Any) -> None:
    await cluster.apply(ray_job(a=[1, 2]))
    assert (await cluster.patch(JOB, operations))["spec"] == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/spec/a/0", "value": 9},
        {"op": "test", "path": "/spec/z", "value": 9},
        {"op": "replace", "path": "/spec/z", "value": 9},
        {"op": "remove", "path": "/spec/z"},
        {"op": "add", "path": "/spec/z/y", "value": 9},
        {"op": "add", "path": "/spec/a/7", "value": 9},
        {"op": "move", "path": "/spec/a", "from": "/spec/b"},
    ],
)
async def test_a_json_patch_that_does_not_fit_is_refused_as_a_whole(cluster: MemoryCluster, operation: dict[str, Any]) -> None:
    before = await cluster.apply(ray_job(a=[1, 2]))
    with refused(422):
        await cluster.patch(JOB, [{"op": "add", "path": "/spec/b", "value": 1}, operation])
    assert await cluster.get(JOB) == before


async def test_create_leaves_an_object_that_is_there_already(cluster: MemoryCluster) -> None:
    await cluster.create(config_map(a="1"))
    await cluster.create(config_map(a="2"))
    live = await cluster.get(Ref("ConfigMap", "default", "config"))
    assert live is not None
    assert live["data"] == {"a": "1"}


async def test_what_is_immutable_stays(cluster: MemoryCluster) -> None:
    await cluster.create({**config_map(a="1"), "immutable": True})
    with refused(422):
        await cluster.put({**config_map(a="2"), "immutable": True})


async def test_deleting_an_owner_takes_what_it_owns_along_and_what_that_owns(cluster: MemoryCluster) -> None:
    owner = await cluster.apply(ray_job())
    await cluster.create(config_map("child", owner))
    child = await cluster.get(Ref("ConfigMap", "default", "child"))
    assert child is not None
    await cluster.create(config_map("grandchild", child))
    await cluster.create(config_map("other"))
    await cluster.delete(JOB, owner["metadata"]["uid"])
    assert [left["metadata"]["name"] for left in cluster.of_kind("ConfigMap")] == ["other"]


async def test_an_object_of_an_owner_that_is_gone_goes_at_once(cluster: MemoryCluster) -> None:
    owner = await cluster.apply(ray_job())
    await cluster.delete(JOB, owner["metadata"]["uid"])
    await cluster.create(config_map("late", owner))
    assert cluster.of_kind("ConfigMap") == []


async def test_an_object_of_the_same_name_but_another_uid_is_not_deleted(cluster: MemoryCluster) -> None:
    await cluster.apply(ray_job())
    await cluster.delete(JOB, "another")
    assert await cluster.get(JOB) is not None


async def test_an_object_that_has_changed_since_it_was_seen_is_not_deleted_as_it_was(cluster: MemoryCluster) -> None:
    seen = (await cluster.apply(ray_job(a=1)))["metadata"]
    changed = (await cluster.apply(ray_job(a=2)))["metadata"]
    await cluster.delete(JOB, seen["uid"], seen["resourceVersion"])
    assert await cluster.get(JOB) is not None
    await cluster.delete(JOB, changed["uid"], changed["resourceVersion"])
    assert await cluster.get(JOB) is None


async def test_an_object_with_a_finalizer_goes_when_it_is_taken_off(cluster: MemoryCluster) -> None:
    manifest = ray_job()
    manifest["metadata"]["finalizers"] = ["ray.io/rayjob-finalizer"]
    live = await cluster.apply(manifest)
    await cluster.delete(JOB, live["metadata"]["uid"])
    going = await cluster.get(JOB)
    assert going is not None
    assert going["metadata"]["deletionTimestamp"]
    await cluster.patch(JOB, [{"op": "remove", "path": "/metadata/finalizers"}])
    assert await cluster.get(JOB) is None


async def test_a_watcher_is_told_everything_in_order_and_never_in_the_middle_of_a_call(cluster: MemoryCluster) -> None:
    seen: list[tuple[str, Any]] = []
    await cluster.apply(ray_job(a=1))
    cluster.watch(lambda event, manifest: seen.append((event, manifest["spec"].get("a"))))
    assert seen == []
    live = await cluster.apply(ray_job(a=2))
    await cluster.delete(JOB, live["metadata"]["uid"])
    await asyncio.sleep(0.01)
    assert seen == [("ADDED", 1), ("MODIFIED", 2), ("DELETED", 2)]


async def test_nobody_can_change_what_is_stored_by_changing_what_was_given_out(cluster: MemoryCluster) -> None:
    given = ray_job(a={"b": 1})
    answer = await cluster.apply(given)
    before = copy.deepcopy(answer)
    given["spec"]["a"]["b"] = answer["spec"]["a"]["b"] = 2
    cluster.of_kind("RayJob")[0]["spec"]["a"]["b"] = 3
    assert await cluster.get(JOB) == before


async def test_a_kind_that_is_not_installed_is_not_found(cluster: MemoryCluster) -> None:
    cluster.set_kinds(["TrainingJob"])
    assert not await cluster.serves("RayJob")
    with refused(404):
        await cluster.apply(ray_job())


async def test_listing_leaves_out_what_is_not_ours(cluster: MemoryCluster) -> None:
    await cluster.apply(ray_job())
    await cluster.create(config_map("of-somebody"))
    assert [live["metadata"]["name"] for live in await cluster.list_all("RayJob")] == ["line-1"]
    assert await cluster.list_all("ConfigMap") == []


async def test_what_the_judge_refuses_is_not_stored() -> None:
    cluster = MemoryCluster(admit=judges())
    manifest = {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "line", "namespace": "default"},
        "spec": {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}},
    }
    live = await cluster.put(manifest)
    assert live["spec"]["training"]["epochs"] == 20
    with refused(422):
        await cluster.put({**manifest, "spec": {**manifest["spec"], "training": {"epochs": 5}}})
    with refused(422):
        await cluster.write_status(live, {"nonsense": 1})
    assert await cluster.get(Ref.of(manifest)) == live


async def test_putting_an_admitted_object_again_does_not_touch_its_generation() -> None:
    cluster = MemoryCluster(admit=judges())
    manifest = {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "line", "namespace": "default"},
        "spec": {"model": {"uri": "s3://models/line"}, "replicas": 1},
    }
    first = await cluster.put(manifest)
    assert await cluster.put(manifest) == first
    scaled = {**manifest, "spec": {**manifest["spec"], "replicas": 2}}
    assert (await cluster.put(scaled))["metadata"]["generation"] == 2


async def test_a_token_is_worth_as_much_as_its_pod_lives(cluster: MemoryCluster) -> None:
    await cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"}, "spec": {}})
    pod = await cluster.get(Ref("Pod", "default", "a"))
    assert pod is not None
    identity = TokenIdentity("a", pod["metadata"]["uid"], "default")
    cluster.tokens["secret"] = identity
    assert await cluster.review_token("secret", "eagleray") == identity
    assert await cluster.review_token("other", "eagleray") is None
    await cluster.delete(Ref.of(pod), pod["metadata"]["uid"])
    assert await cluster.review_token("secret", "eagleray") is None


async def test_events_are_kept(cluster: MemoryCluster) -> None:
    live = await cluster.apply(ray_job())
    event = Event("Normal", "Started", "Train", "It started.")
    await cluster.record(live, event)
    assert cluster.events == [(JOB, event)]
