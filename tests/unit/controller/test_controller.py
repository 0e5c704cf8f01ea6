"""The engine at work on a cluster in memory; KubeRay is the fake one, since no pods can run here."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import KINDS, ClusterError, Ref
from eagleray_operator.controller import controller
from eagleray_operator.controller.controller import Controller
from eagleray_operator.metrics import Metrics
from eagleray_runtime.contract.reports import FailureReason, FailureReport, ResultReport
from tests.support.fake_kuberay import FakeKubeRay, Running, dump
from tests.support.makers import SETTINGS, condition, deployment_manifest, job_manifest, progress, result

JOB = Ref("TrainingJob", "default", "iris")
DEPLOYMENT = Ref("ModelDeployment", "default", "iris")
FOLLOWS = {"model": {"trainingJobRef": {"name": "iris"}}}


def of_job(report, store: MemoryCluster):
    """The report as that job's driver would send it."""
    uid = next(job["metadata"]["uid"] for job in store.of_kind("TrainingJob"))
    told = report.model_copy(update={"resource": report.resource.model_copy(update={"uid": uid})})
    if isinstance(told, ResultReport):
        return told.model_copy(update={"progress": of_job(told.progress, store)})
    return told


def fresh(manifest: dict[str, Any]) -> dict[str, Any]:
    """As a user applies it: without what the cluster fills in."""
    metadata = {key: manifest["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata, "spec": manifest["spec"]}


@pytest.fixture
def store() -> MemoryCluster:
    return MemoryCluster()


async def trained_and_served(running: Running) -> None:
    """A job and the deployment that follows it, applied together, at their end."""
    store = running.store
    await store.put(fresh(job_manifest()))
    await store.put(fresh(deployment_manifest(**FOLLOWS)))
    await running.until(JOB, "Progressing", "Starting")
    await running.until(DEPLOYMENT, "Progressing", "WaitingForJob")
    assert await running.controller.submit(of_job(progress(), store)) == 202
    await running.until(JOB, "Succeeded", "Training")
    assert await running.controller.submit(of_job(result(), store)) == 200
    await running.until(JOB, "Succeeded", "Completed")
    await running.until(DEPLOYMENT, "Progressing", "RolledOut")


async def test_train_gate_and_serve_in_one_apply(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await trained_and_served(running)
        served = await running.until(DEPLOYMENT, "Ready", "Serving")
        trained = await store.get(JOB)
    assert served["status"]["model"]["digest"] == trained["status"]["model"]["digest"]


async def test_a_deployment_whose_job_is_deleted_scales_and_is_repaired(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await trained_and_served(running)
        await store.delete(JOB, (await store.get(JOB))["metadata"]["uid"])
        await running.until(DEPLOYMENT, "Accepted", "ReferenceNotFound")
        await store.patch(DEPLOYMENT, [{"op": "add", "path": "/spec/replicas", "value": 5}])
        service = Ref("Service", "default", "iris")
        await store.delete(service, (await store.get(service))["metadata"]["uid"])
        await running.quiet()
        served = await store.get(DEPLOYMENT)
        [ray_service] = store.of_kind("RayService")
        assert await store.get(service) is not None
    assert condition(served["status"], "Ready")["status"] == "True"
    assert "num_replicas: 5" in ray_service["spec"]["serveConfigV2"]


async def test_the_time_until_it_was_first_ready_is_measured_once_whatever_held_it_up(store):
    registry = CollectorRegistry()
    FakeKubeRay(store)
    async with Running(store, metrics=Metrics(registry, version="0.1.0")) as running:
        await store.put(fresh(deployment_manifest(**FOLLOWS)))
        held = await running.until(DEPLOYMENT, "Ready", "ReferenceNotFound")
        assert condition(held["status"], "Ready")["status"] == "False"
        await store.patch(DEPLOYMENT, [{"op": "replace", "path": "/spec/model", "value": {"uri": "s3://models/iris"}}])
        first = await running.until(DEPLOYMENT, "Ready", "Serving")
        await store.patch(DEPLOYMENT, [{"op": "add", "path": "/spec/replicas", "value": 0}])
        await running.until(DEPLOYMENT, "Ready", "SwitchedOff")
        await store.patch(DEPLOYMENT, [{"op": "replace", "path": "/spec/replicas", "value": 1}])
        again = await running.until(DEPLOYMENT, "Ready", "Serving")
    assert again["status"]["firstReadyTime"] == first["status"]["firstReadyTime"]
    assert registry.get_sample_value("eagleray_time_to_ready_seconds_count") == 1


async def test_in_the_steady_state_nothing_is_written(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(deployment_manifest()))
        await running.until(DEPLOYMENT, "Ready", "Serving")
        await running.quiet()
        before = dump(store), [m["metadata"]["resourceVersion"] for m in store.of_kind("ModelDeployment")]
        await running.controller.sweep()
        await running.quiet()
    assert before == (dump(store), [m["metadata"]["resourceVersion"] for m in store.of_kind("ModelDeployment")])


async def test_a_hand_edited_child_is_repaired(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(deployment_manifest()))
        await running.until(DEPLOYMENT, "Ready", "Serving")
        service = Ref("Service", "default", "iris")
        await store.patch(service, [{"op": "replace", "path": "/spec/selector", "value": {"app": "mine"}}])
        await running.quiet()
        repaired = await store.get(service)
    assert repaired["spec"]["selector"]["eagleray.io/model-deployment"] == "iris"


async def test_a_deleted_child_comes_back(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(deployment_manifest()))
        await running.until(DEPLOYMENT, "Ready", "Serving")
        policy = await store.get(Ref("NetworkPolicy", "default", "iris-serving"))
        await store.delete(Ref.of(policy), policy["metadata"]["uid"])
        await running.quiet()
        assert await store.get(Ref("NetworkPolicy", "default", "iris-serving")) is not None


async def test_a_deletion_takes_all_children_along(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        made = await store.put(fresh(deployment_manifest()))
        await running.until(DEPLOYMENT, "Ready", "Serving")
        await store.delete(DEPLOYMENT, made["metadata"]["uid"])
        await running.quiet()
    assert dump(store) == {}


async def test_the_token_of_an_attempt_lasts_as_long_as_its_ray_job(store):
    """KubeRay holds a RayJob that is deleted until it has stopped the job, for which it needs the token."""
    FakeKubeRay(store)
    async with Running(store) as running:
        made = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        [secret], [ray_job] = store.of_kind("Secret"), store.of_kind("RayJob")
        assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [ray_job["metadata"]["uid"]]
        assert ray_job["spec"]["rayClusterSpec"]["authOptions"]["secretName"] == secret["metadata"]["name"]
        await store.delete(JOB, made["metadata"]["uid"])
        await running.quiet()
    assert not store.of_kind("Secret")


async def test_a_foreign_object_of_a_childs_name_is_left_alone_and_told(store):
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "iris", "namespace": "default"}, "spec": {"ports": []}}
    await store.put(foreign)
    async with Running(store) as running:
        await store.put(fresh(deployment_manifest()))
        told = await running.until(DEPLOYMENT, "Accepted", "Conflict")
        untouched = await store.get(Ref("Service", "default", "iris"))
    assert untouched["spec"] == {"ports": []}
    assert store.of_kind("RayService") == []
    assert "Service iris" in condition(told["status"], "Accepted")["message"]


async def test_reports_are_answered_by_who_sends_them(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        stranger = progress()
        assert await running.controller.submit(stranger) == 404
        assert await running.controller.submit(of_job(result(), store)) == 200
        assert await running.controller.submit(of_job(result(), store)) == 200
        await running.until(JOB, "Succeeded", "Completed")
        assert await running.controller.submit(of_job(progress(attempt=1), store)) == 200


async def test_a_result_of_a_job_that_was_made_again_under_its_name_is_not_taken_for_the_new_ones(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        made = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        late = of_job(progress(epoch=7), store)
        assert await running.controller.submit(late) == 202
        await store.delete(JOB, made["metadata"]["uid"])
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        again = await store.get(JOB)
        assert await running.controller.submit(late) == 404
    assert "progress" not in again["status"]


async def test_whoever_waits_for_a_result_to_be_taken_learns_that_the_job_is_gone(store):
    FakeKubeRay(store)
    async with Running(store, Deaf(store)) as running:
        made = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        Deaf.deaf = True
        try:
            waiting = asyncio.create_task(running.controller.submit(of_job(result(), store)))
            await running.quiet()
            assert not waiting.done()
            await store.delete(JOB, made["metadata"]["uid"])
            assert await asyncio.wait_for(waiting, 5) == 404
        finally:
            Deaf.deaf = False


class Deaf:
    """A cluster that takes no status any more once it is deaf."""

    deaf = False

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write_status(self, resource, status):
        if self.deaf:
            raise ClusterError(503, "not now")
        return await self._store.write_status(resource, status)


async def test_a_result_that_came_after_the_attempt_had_failed_is_not_said_to_be_taken(store):
    kuberay = FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(job_manifest(runPolicy={"backoffLimit": 0})))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        told = of_job(result(), store)
        failed = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "boom"}
        await kuberay.set_status(Ref("RayJob", "default", "iris-1"), failed)
        await running.until(JOB, "Succeeded", "ContainerFailed")
        assert await running.controller.submit(told) == 409


async def test_an_event_that_cannot_be_written_keeps_nothing_else_from_being_written(store):
    FakeKubeRay(store)
    async with Running(store, WithoutEvents(store)) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        assert await running.controller.submit(of_job(result(), store)) == 200


class WithoutEvents:
    """A cluster that lets nobody write events."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(self, resource, event):
        raise ClusterError(403, "events is forbidden")


async def test_a_pod_that_no_watch_has_told_of_is_asked_for(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        made = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        cluster = store.of_kind("RayCluster")[0]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "head",
                "namespace": "default",
                "ownerReferences": [
                    {"kind": "RayCluster", "name": cluster["metadata"]["name"], "uid": cluster["metadata"]["uid"]}
                ],
            },
        }
        uid = (await store.put(pod))["metadata"]["uid"]
        assert await running.controller.owner_of_pod("head", uid, "default") == {made["metadata"]["uid"]}
        assert await running.controller.owner_of_pod("head", "another", "default") == set()


async def test_when_kuberay_is_removed_nothing_of_it_is_remembered(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        assert running.controller.cache.refs("RayJob")
        store.set_kinds(set(KINDS) - {"RayJob", "RayService", "RayCluster"})
        await running.controller.sweep()
        assert not running.controller.cache.refs("RayJob")


async def test_others_have_their_turn_between_resources_for_which_nothing_is_asked_and_nothing_written(store, monkeypatch):
    turn, looks = 0, []

    async def look(_: Controller, key: Ref) -> None:
        looks.append(turn)

    monkeypatch.setattr(Controller, "_reconcile", look)
    async with Running(store, settings=SETTINGS.model_copy(update={"workers": 2})) as running:
        await running.quiet(10)
        for number in range(20):
            running.controller.observe("ADDED", deployment_manifest(name=f"d{number}"))
        while len(looks) < 20:
            turn += 1
            await asyncio.sleep(0)
    assert max(looks.count(turn) for turn in looks) <= 3, "each of the two workers looks at one of them"


async def test_a_sweep_looks_once_at_each_resource_whatever_of_it_is_listed(store, monkeypatch):
    FakeKubeRay(store)
    looks: list[str] = []
    async with Running(store) as running:
        await store.put(fresh(deployment_manifest()))
        await running.until(DEPLOYMENT, "Ready", "Serving")
        await running.quiet()
        url = running.addresses.url
        monkeypatch.setattr(running.addresses, "url", lambda *names: looks.append(names[1]) or url(*names))
        await running.controller.sweep()
        await running.quiet()
    assert looks == ["iris"]


class MadeAgain:
    """A cluster in which a job is deleted just before a listing, and made again just after it."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store
        self.wanted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list_all(self, kind: str) -> Any:
        if kind != "TrainingJob" or not self.wanted:
            return await self._store.list_all(kind)
        self.wanted = False
        old = await self._store.get(JOB)
        await self._store.delete(JOB, old["metadata"]["uid"])
        listed = await self._store.list_all(kind)
        await self._store.put(fresh(job_manifest()))
        # The watch tells of both before the listing arrives.
        await asyncio.sleep(0)
        return listed


async def test_a_job_that_is_made_again_while_a_sweep_lists_is_not_taken_for_the_deleted_one(store):
    again = MadeAgain(store)
    async with Running(store, again) as running:
        old = await store.put(fresh(job_manifest()))
        await running.quiet()
        again.wanted = True
        await running.controller.sweep()
        known = running.controller.cache.known(JOB)
        assert known is not None
        assert known.uid == (await store.get(JOB))["metadata"]["uid"] != old["metadata"]["uid"]


async def test_a_report_before_the_first_listing_is_put_off(store):
    assert await Running(store).controller.submit(progress()) == 503


async def test_without_kuberay_the_job_waits_and_goes_on_when_it_arrives():
    store = MemoryCluster(kinds=["TrainingJob", "ModelDeployment", "Pod", "ConfigMap", "Service", "NetworkPolicy", "Secret"])
    async with Running(store) as running:
        await store.put(fresh(job_manifest()))
        told = await running.until(JOB, "Accepted", "PrerequisiteMissing")
        assert "Install KubeRay" in condition(told["status"], "Accepted")["message"]
        assert store.of_kind("ConfigMap") == []


class Refusing:
    """A cluster that will not have objects of a kind, or only after some refusals."""

    def __init__(self, store: MemoryCluster, kind: str, times: int | None = None) -> None:
        self._store = store
        self._kind = kind
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, manifest):
        if manifest["kind"] == self._kind and self._left != 0:
            self._left = None if self._left is None else self._left - 1
            raise ClusterError(403, f"forbidden: exceeded quota: team, requested: count/{self._kind}=1")
        return await self._store.create(manifest)


async def test_a_quota_is_told_in_its_own_words(store):
    async with Running(store, Refusing(store, "RayJob")) as running:
        await store.put(fresh(job_manifest()))
        told = await running.until(JOB, "Progressing", "QuotaExceeded")
    assert "exceeded quota: team" in condition(told["status"], "Progressing")["message"]


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ConfigMap", "RayJob", "Secret"])
async def test_a_child_that_was_refused_is_made_once_it_may_be(store, kind):
    FakeKubeRay(store)
    async with Running(store, Refusing(store, kind, times=2)) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "QuotaExceeded")
        told = await running.until(JOB, "Progressing", "Starting")
    assert [attempt["number"] for attempt in told["status"]["attempts"]] == [1]
    assert len(store.of_kind(kind)) == 1


async def test_a_deleted_job_that_kuberay_cannot_stop_for_want_of_its_token_gets_it_again(store, monkeypatch):
    monkeypatch.setattr(controller, "LEAVING_SECONDS", 0.05)
    async with Running(store) as running:
        job = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await store.patch(Ref("RayJob", "default", "iris-1"), [{"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]}])
        [before] = store.of_kind("Secret")
        await store.delete(Ref.of(before), before["metadata"]["uid"])
        await store.delete(JOB, job["metadata"]["uid"])
        await asyncio.sleep(0.2)
        [after] = store.of_kind("Secret")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["data"] == before["data"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]


async def test_a_job_that_is_made_again_under_its_name_is_none_that_leaves(store, monkeypatch):
    monkeypatch.setattr(controller, "LEAVING_SECONDS", 0.3)
    monkeypatch.setattr(controller, "LONGEST_RETRY_SECONDS", 0.05)
    asked = Asked(store)
    async with Running(store, asked) as running:
        first = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        ray_job = Ref("RayJob", "default", "iris-1")
        await store.patch(ray_job, [{"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]}])
        await store.delete(JOB, first["metadata"]["uid"])
        await store.patch(ray_job, [{"op": "remove", "path": "/metadata/finalizers"}])
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        before = list(asked.created)
        await asyncio.sleep(0.6)
        assert asked.created == before


class Asked:
    """A cluster that keeps which kinds it was asked to create, also where they were there."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store
        self.created: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, manifest):
        self.created.append(manifest["kind"])
        return await self._store.create(manifest)


WRITES = ("apply", "create", "patch", "write_status", "delete")


async def test_a_job_whose_deletion_no_watch_has_told_yet_is_not_started_again(store):
    FakeKubeRay(store)
    async with Running(store) as running:
        made = await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        known = running.controller.cache.get(JOB)
        started: list[str] = []
        store.watch(
            lambda event, found: (
                started.append(found["metadata"]["uid"]) if found["kind"] == "RayJob" and event == "ADDED" else None
            )
        )
        await running.quiet()
        before = list(started)
        observe = running.controller.observe
        running.controller.observe = lambda event, found: None if found["kind"] == "TrainingJob" else observe(event, found)  # type: ignore[method-assign]
        await store.delete(JOB, made["metadata"]["uid"])
        await running.quiet()
        assert running.controller.cache.get(JOB) == known, "the deletion is not known"
        assert running.controller.cache.refs("RayJob") == set(), "but that of the RayJob is"
        await asyncio.sleep(0.4)
    assert started == before


class Unheard:
    """A cluster that makes the RayJob, and answers and tells nobody; the user deletes the job at that moment."""

    def __init__(self, store: MemoryCluster) -> None:
        self._store = store
        self.made = 0
        self.blind = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, manifest):
        if manifest["kind"] != "RayJob":
            return await self._store.create(manifest)
        self.made += 1
        self.blind = True
        await self._store.create(manifest)
        await self._store.delete(JOB, (await self._store.get(JOB))["metadata"]["uid"])
        raise ClusterError(0, "the connection broke off")


async def test_a_creation_without_an_answer_is_not_tried_again_before_the_job_is_asked_for(store):
    FakeKubeRay(store)
    cluster = Unheard(store)
    async with Running(store, cluster) as running:
        observe = running.controller.observe
        running.controller.observe = lambda event, found: None if cluster.blind else observe(event, found)  # type: ignore[method-assign]
        await store.put(fresh(job_manifest()))
        await running.quiet()
        await asyncio.sleep(1)
    assert cluster.made == 1


async def test_what_failed_is_deleted_only_once_its_failure_is_in_the_status(store):
    FakeKubeRay(store)
    async with Running(store, Deaf(store)) as running:
        await store.put(fresh(job_manifest()))
        await running.until(JOB, "Progressing", "Starting")
        await running.quiet()
        Deaf.deaf = True
        try:
            told = FailureReport(resource=progress().resource, attempt=1, reason=FailureReason.DATA_INVALID, message="no rows")
            waiting = asyncio.create_task(running.controller.submit(of_job(told, store)))
            await running.quiet()
            assert store.of_kind("RayJob"), "a crash now must not lose why it failed"
        finally:
            Deaf.deaf = False
        assert await asyncio.wait_for(waiting, 10) in (200, 409)
        await running.until(JOB, "Succeeded", "DataInvalid")
        await running.quiet()
    assert store.of_kind("RayJob") == []
