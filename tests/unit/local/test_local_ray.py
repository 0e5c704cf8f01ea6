"""LocalRay tells of jobs and services in KubeRay's words."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children import configmap, rayjob, rayservice, service
from eagleray_operator.children.stores import Store
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.local_ray import LocalRay
from eagleray_operator.local.mounts import Mounts
from eagleray_operator.reconcilers import applications, attempts
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.blocks import Engine
from tests.support.makers import NOW
from tests.unit.local.fake_ray import FakeRay

SETTINGS = Settings(reports_url="http://127.0.0.1:9/v1/reports")
JOB = Ref("RayJob", "default", "rows-1")
SERVICE = Ref("RayService", "default", "rows-b")


def text(path: str) -> str:
    return Path(path).read_text()


def others_may(path: str) -> int:
    return Path(path).stat().st_mode & 0o77


class Machine:
    """A cluster in memory, LocalRay and a Ray that is none."""

    def __init__(self, folder: Path) -> None:
        self.cluster = MemoryCluster()
        self.ray = FakeRay()
        self.folder = folder
        self.now = 0.0
        mounts = Mounts(folder / "pods", folder / "volumes", "token", self.cluster)
        self.local = LocalRay(self.cluster, self.ray, mounts, clock=lambda: self.now)

    async def jobs(self, times: int = 1) -> dict[str, Any]:
        for _ in range(times):
            await self.local.jobs.look()
        return await self.status(JOB)

    async def services(self, times: int = 1) -> dict[str, Any]:
        for _ in range(times):
            await self.local.services.look()
        return await self.status(SERVICE)

    async def status(self, ref: Ref) -> dict[str, Any]:
        live = await self.cluster.get(ref)
        assert live is not None
        return dict(live.get("status") or {})

    def pods(self) -> list[Manifest]:
        return self.cluster.of_kind("Pod")

    async def suspend(self, value: bool) -> None:
        await self.cluster.patch(JOB, [{"op": "replace", "path": "/spec/suspend", "value": value}])


@pytest.fixture
async def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def plain(kind: str, name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}


async def with_job(machine: Machine, engine: Any = Engine.NUMPY, **spec: Any) -> None:
    manifest = {
        "metadata": {"name": "rows", "namespace": "default", "uid": "u-1"},
        "spec": {
            "data": {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"},
            "model": {"family": "LinearRegression"},
            **spec,
        },
    }
    job = TrainingJob.model_validate(manifest)
    training = rayjob.Training(engine, Store("output", "pvc://rows-model/1", read_only=False), None, "image")
    config = rayjob.config(job, 1, training, SETTINGS)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "rows-model", "namespace": "default"},
        "spec": {},
    }
    rows = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rows", "namespace": "default"},
        "data": {"rows.csv": "x,y\n1,2\n"},
    }
    child = configmap.build("TrainingJob", job.metadata, "rows-1-config", config, attempt="1")
    for made in (claim, rows, child, rayjob.build(job, 1, training, SETTINGS)):
        made["metadata"].pop("ownerReferences", None)
        await machine.cluster.put(made)


async def with_service(machine: Machine, revision: str = "b", namespace: str = "default", **spec: Any) -> Manifest:
    manifest = {
        "metadata": {"name": "rows", "namespace": namespace, "uid": "u-2"},
        "spec": {"model": {"uri": "s3://models/rows"}, **spec},
    }
    deployment = ModelDeployment.model_validate(manifest)
    serving = rayservice.Serving(revision, Engine.NUMPY, Store("model", "s3://models/rows"), None, "image")
    child = configmap.build(
        "ModelDeployment",
        deployment.metadata,
        f"rows-{revision}-config",
        rayservice.config(deployment, serving),
        revision=f"rows-{revision}",
    )
    made = rayservice.build(deployment, serving, SETTINGS)
    for manifest in (child, made, service.build(deployment.metadata, "rows-b")):
        manifest["metadata"].pop("ownerReferences", None)
        await machine.cluster.put(manifest)
    return made


async def test_a_job_starts_runs_and_succeeds(machine: Machine) -> None:
    await with_job(machine)
    assert (await machine.jobs())["jobDeploymentStatus"] == "Initializing"
    status = await machine.jobs()
    assert (status["jobDeploymentStatus"], status["jobStatus"]) == ("Running", "PENDING")
    machine.ray.jobs[status["jobId"]]["status"] = "RUNNING"
    assert (await machine.jobs())["jobStatus"] == "RUNNING"
    machine.ray.jobs[status["jobId"]] |= {"status": "SUCCEEDED", "message": "Job finished successfully."}
    status = await machine.jobs()
    assert (status["jobDeploymentStatus"], status["jobStatus"]) == ("Complete", "SUCCEEDED")
    assert status["endTime"]
    assert machine.cluster.of_kind("RayCluster") == []
    assert machine.pods() == []


async def test_a_job_waits_for_ray(machine: Machine) -> None:
    machine.ray.started = False
    await with_job(machine)
    assert (await machine.jobs(3))["jobDeploymentStatus"] == "Initializing"
    machine.ray.started = True
    assert (await machine.jobs())["jobDeploymentStatus"] == "Running"


async def test_the_process_gets_paths_of_this_machine(machine: Machine) -> None:
    await with_job(machine)
    status = await machine.jobs(2)
    command = shlex.split(machine.ray.submitted[status["jobId"]]["entrypoint"])
    variables = dict(word.split("=", 1) for word in command[: command.index("exec")])
    config = json.loads(text(variables["EAGLERAY_CONFIG"]))
    assert text(config["dataFile"]) == "x,y\n1,2\n"
    assert variables["RAY_ADDRESS"] == machine.ray.addresses.gcs
    assert config["reportsUrl"] == SETTINGS.reports_url
    assert text(variables["EAGLERAY_REPORT_TOKEN_PATH"]) == "token"
    assert (Path(variables["EAGLERAY_PVC_ROOT"]) / "rows-model").is_dir()
    assert command[-2:] == ["-m", "eagleray_runtime.training"]
    assert others_may(variables["EAGLERAY_CONFIG"]) == 0


async def test_a_failed_job_tells_what_its_process_said(machine: Machine) -> None:
    await with_job(machine)
    status = await machine.jobs(2)
    machine.ray.jobs[status["jobId"]] |= {"status": "FAILED", "message": "exit code 1: ValueError: no"}
    await machine.jobs()
    finding = attempts.examine(await machine.cluster.get(JOB), None, [], None, NOW)
    assert finding.state is attempts.AttemptState.FAILED
    assert finding.cause is not None
    assert "ValueError: no" in finding.cause.message


async def test_a_job_that_was_stopped_from_outside_says_so(machine: Machine) -> None:
    await with_job(machine)
    status = await machine.jobs(2)
    machine.ray.jobs[status["jobId"]]["status"] = "STOPPED"
    status = await machine.jobs()
    assert (status["jobDeploymentStatus"], status["jobStatus"]) == ("Complete", "STOPPED")


async def test_a_job_is_suspended_and_starts_anew(machine: Machine) -> None:
    await with_job(machine)
    first = (await machine.jobs(2))["jobId"]
    await machine.suspend(True)
    assert (await machine.jobs())["jobDeploymentStatus"] == "Suspending"
    assert machine.ray.stopped == [first]
    assert (await machine.jobs())["jobDeploymentStatus"] == "Suspended"
    assert machine.cluster.of_kind("RayCluster") == []
    await machine.suspend(False)
    second = (await machine.jobs(2))["jobId"]
    assert second != first


async def test_a_job_that_is_born_suspended_does_not_start(machine: Machine) -> None:
    await with_job(machine, suspend=True)
    assert (await machine.jobs(3))["jobDeploymentStatus"] == "Suspended"
    assert machine.ray.submitted == {}


async def test_the_process_of_a_deleted_job_is_stopped(machine: Machine) -> None:
    await with_job(machine)
    submission = (await machine.jobs(2))["jobId"]
    live = await machine.cluster.get(JOB)
    assert live is not None
    await machine.cluster.delete(JOB, live["metadata"]["uid"])
    await machine.local.jobs.look()
    assert machine.ray.stopped == [submission]


async def test_first_answers_that_make_no_sense_are_asked_again(machine: Machine) -> None:
    machine.ray.refusals = [(500, "No available agent"), (200, "<html>"), (400, "job already exists")]
    await with_job(machine)
    assert (await machine.jobs(2))["jobDeploymentStatus"] == "Running"


async def test_a_job_that_does_not_fit_tells_why_and_ends(machine: Machine) -> None:
    await with_job(machine, workers={"cpus": 9})
    await machine.jobs(2)
    finding = attempts.examine(await machine.cluster.get(JOB), None, machine.pods(), None, NOW)
    assert finding.cause is not None
    assert finding.cause.reason == "Unschedulable"
    assert "needs 9 CPUs and 0 GPUs in all; the Ray of this machine counts 8 and 0" in finding.cause.message
    machine.now = 5
    assert (await machine.jobs())["reason"] == "PreRunningDeadlineExceeded"
    assert machine.ray.submitted == {}


async def test_a_key_that_is_not_in_the_config_map_is_told(machine: Machine) -> None:
    await with_job(machine, data={"configMapRef": {"name": "rows", "key": "rows.cvs"}, "target": "y"})
    await machine.jobs(2)
    finding = attempts.examine(await machine.cluster.get(JOB), None, machine.pods(), None, NOW)
    assert finding.cause is not None
    assert 'configmap "rows" has no key rows.cvs; it has rows.csv' in finding.cause.message


async def test_workers_of_a_torch_job_are_shown_as_pods(machine: Machine) -> None:
    await with_job(machine, Engine.TORCH, workers={"min": 2})
    await machine.jobs(2)
    types = sorted(pod["metadata"]["labels"]["ray.io/node-type"] for pod in machine.pods())
    assert types == ["head", "worker", "worker"]
    assert all(pod["status"]["phase"] == "Running" for pod in machine.pods())


async def test_a_service_becomes_an_application_below_its_own_path(machine: Machine) -> None:
    await with_service(machine)
    await machine.services()
    [document] = machine.ray.documents
    assert document["http_options"] == {"host": "127.0.0.1", "port": 8123}
    [application] = document["applications"]
    assert application["name"] == "rows-b"
    assert application["route_prefix"] == "/rows"
    assert json.loads(text(application["args"]["config"]))["revision"] == "rows-b"
    assert application["deployments"][0]["num_replicas"] == 1


async def test_a_service_is_ready_when_requests_are_routed_to_its_replica(machine: Machine) -> None:
    await with_service(machine)
    status = await machine.services()
    assert status["activeServiceStatus"]["applicationStatuses"] == {}
    machine.ray.runs("rows-b", routed=0)
    await machine.services()
    live = await machine.cluster.get(SERVICE)
    assert not applications.running(live)
    assert applications.deploying(live)
    machine.ray.runs("rows-b")
    status = await machine.services()
    assert applications.running(await machine.cluster.get(SERVICE))
    assert status["numServeEndpoints"] == 1
    machine.ray.routed = None
    assert (await machine.services())["numServeEndpoints"] == 1


async def test_nothing_is_sent_or_written_while_nothing_changes(machine: Machine) -> None:
    await with_service(machine)
    await machine.services()
    machine.ray.runs("rows-b")
    await machine.services()
    live = await machine.cluster.get(SERVICE)
    await machine.services(3)
    assert await machine.cluster.get(SERVICE) == live
    assert len(machine.ray.documents) == 1


async def test_replicas_are_shown_as_pods_of_the_revision(machine: Machine) -> None:
    await with_service(machine, replicas=3)
    machine.ray.runs("rows-b", replicas=2, target=3)
    await machine.services(2)
    workers = [pod for pod in machine.pods() if pod["metadata"]["labels"]["ray.io/node-type"] == "worker"]
    assert [pod["metadata"]["labels"]["eagleray.io/revision"] for pod in workers] == ["rows-b"] * 3
    ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"]) for pod in workers]
    assert ready == [True, True, False]
    machine.ray.runs("rows-b", replicas=1)
    await machine.services()
    assert len([pod for pod in machine.pods() if pod["metadata"]["labels"]["ray.io/node-type"] == "worker"]) == 1


async def test_the_number_that_the_autoscaler_wants_stands_in_the_ray_cluster(machine: Machine) -> None:
    await with_service(machine, autoscaling={"maxReplicas": 3})
    machine.ray.runs("rows-b", replicas=1, target=2)
    await machine.services(2)
    [cluster] = machine.cluster.of_kind("RayCluster")
    assert cluster["spec"]["workerGroupSpecs"][0]["replicas"] == 2
    assert machine.ray.documents[0]["applications"][0]["deployments"][0]["autoscaling_config"]["max_replicas"] == 3


async def test_a_changed_number_is_sent(machine: Machine) -> None:
    await with_service(machine)
    await machine.services()
    await with_service(machine, replicas=2)
    await machine.services()
    assert [document["applications"][0]["deployments"][0]["num_replicas"] for document in machine.ray.documents] == [1, 2]


async def test_a_revision_without_traffic_has_another_path(machine: Machine) -> None:
    await with_service(machine)
    await with_service(machine, revision="c")
    await machine.services()
    paths = {application["name"]: application["route_prefix"] for application in machine.ray.documents[-1]["applications"]}
    assert paths == {"rows-b": "/rows", "rows-c": "/.revisions/rows-c"}


async def test_other_namespaces_have_paths_and_claims_of_their_own(machine: Machine) -> None:
    await with_service(machine, namespace="team")
    await machine.local.services.look()
    [application] = machine.ray.documents[0]["applications"]
    assert (application["name"], application["route_prefix"]) == ("team.rows-b", "/team/rows")
    assert application["runtime_env"]["env_vars"]["EAGLERAY_PVC_ROOT"] == str(machine.folder / "volumes" / "team")


async def test_a_deleted_service_is_taken_from_serve(machine: Machine) -> None:
    await with_service(machine)
    await machine.services()
    live = await machine.cluster.get(SERVICE)
    assert live is not None
    await machine.cluster.delete(SERVICE, live["metadata"]["uid"])
    await machine.local.services.look()
    assert machine.ray.documents[-1]["applications"] == []


async def test_an_application_that_cannot_start_tells_its_own_words(machine: Machine) -> None:
    await with_service(machine)
    machine.ray.applications["rows-b"] = {
        "status": "DEPLOY_FAILED",
        "message": "Failed to update the deployments",
        "deployments": {
            "Model": {"status": "DEPLOY_FAILED", "message": "Traceback\nDigestMismatch: bundle.json is another", "replicas": []}
        },
    }
    await machine.services(2)
    cause = applications.cause(await machine.cluster.get(SERVICE))
    assert cause is not None
    assert (cause.reason, cause.message) == ("DigestMismatch", "bundle.json is another")


async def test_words_of_serve_about_the_whole_list_are_told(machine: Machine) -> None:
    machine.ray.put_answer = (400, "route_prefix is taken")
    await with_service(machine)
    await machine.services()
    cause = applications.cause(await machine.cluster.get(SERVICE))
    assert cause is not None
    assert "route_prefix is taken" in cause.message


async def test_replicas_that_do_not_fit_say_so(machine: Machine) -> None:
    await with_service(machine, replicas=9)
    await machine.services()
    words = [
        condition["message"]
        for pod in machine.pods()
        for condition in pod["status"]["conditions"]
        if condition["type"] == "PodScheduled"
    ]
    assert "needs 9 CPUs and 0 GPUs in all; the Ray of this machine counts 8 and 0" in words[0]
