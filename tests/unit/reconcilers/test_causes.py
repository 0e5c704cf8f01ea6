"""Each way in which a job or a deployment can hang: one reason, the original words, and what to do."""

from datetime import datetime
from typing import Any

import pytest

from eagleray_operator.api import names
from eagleray_operator.api.conditions import MESSAGE_MAX
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers import applications, causes
from eagleray_operator.reconcilers.attempts import AttemptState, examine
from eagleray_operator.reconcilers.text import QUOTE_MAX, quote
from tests.support.makers import NOW, later, pod

LABELS = names.labels("TrainingJob", "iris", attempt="1")
EARLY = {"creationTimestamp": "2026-11-24T11:57:00Z"}
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T11:57:30Z"}


def a_pod(node_type: str = "head", **status: Any) -> Manifest:
    made = pod("iris-1-head", LABELS, node_type, **status)
    return {**made, "metadata": made["metadata"] | EARLY}


def container(name: str = "ray", **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "localhost/none:1", "state": state}


def waiting(reason: str, message: str = "") -> Manifest:
    return a_pod(containerStatuses=[container(waiting={"reason": reason, "message": message})])


def not_scheduled(message: str) -> Manifest:
    return a_pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


PULL = 'failed to pull and unpack image "localhost/none:1": failed to resolve reference: not found'
SCHEDULER = "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: true}, 2 Insufficient nvidia.com/gpu."
CONFIG = 'secret "store" not found'

POD_CAUSES: dict[str, tuple[Manifest, str, list[str]]] = {
    "an image that is not there": (waiting("ErrImagePull", PULL), "ImagePullFailed", [PULL, "localhost/none:1 on node1"]),
    "an image that is asked for later and later": (
        waiting("ImagePullBackOff", 'Back-off pulling image "localhost/none:1": ' + PULL),
        "ImagePullFailed",
        [PULL, "Check the image's name"],
    ),
    "an image name that is none": (waiting("InvalidImageName"), "ImagePullFailed", ["InvalidImageName"]),
    "an image of a container that runs before the others": (
        a_pod("worker", initContainerStatuses=[container("wait-gcs-ready", waiting={"reason": "ErrImagePull", "message": PULL})]),
        "ImagePullFailed",
        [PULL],
    ),
    "no node with room": (not_scheduled(SCHEDULER), "Unschedulable", [SCHEDULER, "Ask for less or add nodes"]),
    "a claim that does not exist": (
        not_scheduled('persistentvolumeclaim "rows" not found'),
        "VolumePending",
        ['persistentvolumeclaim "rows" not found', "Check the claim"],
    ),
    "a claim that no volume is bound to": (
        not_scheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        "VolumePending",
        ["unbound immediate PersistentVolumeClaims"],
    ),
    "a volume that the kubelet cannot mount": (
        a_pod(phase="Pending", conditions=[{"type": "PodReadyToStartContainers", "status": "False"}]),
        "VolumePending",
        ["iris-1-head", "kubectl describe pod"],
    ),
    "a Secret that is missing": (waiting("CreateContainerConfigError", CONFIG), "ContainerFailed", [CONFIG]),
    "a command that does not exist": (
        waiting("RunContainerError", 'exec: "ulimit": executable file not found'),
        "ContainerFailed",
        ["executable file not found"],
    ),
    "an init container that fails": (
        a_pod(
            "worker", initContainerStatuses=[container("wait-gcs-ready", terminated={"exitCode": 2, "message": "no ray here"})]
        ),
        "ContainerFailed",
        ["wait-gcs-ready of iris-1-head ended with 2: no ray here", "kubectl logs iris-1-head -c wait-gcs-ready"],
    ),
    "a container that fails again and again": (
        a_pod(
            containerStatuses=[
                container(waiting={"reason": "CrashLoopBackOff", "message": "back-off 5m0s"})
                | {"lastState": {"terminated": {"exitCode": 1, "message": "ModuleNotFoundError: No module named 'ray'"}}}
            ]
        ),
        "ContainerFailed",
        ["ended with 1", "No module named 'ray'"],
    ),
    "an autoscaler that ends at its start": (
        a_pod(containerStatuses=[container("autoscaler", terminated={"exitCode": 1, "message": "apiserver: i/o timeout"})]),
        "ContainerFailed",
        ["autoscaler of iris-1-head ended with 1: apiserver: i/o timeout"],
    ),
    "a container killed for its memory": (
        a_pod(containerStatuses=[container(terminated={"exitCode": 137, "reason": "OOMKilled"})]),
        "OutOfMemory",
        ["ray of iris-1-head", "Raise memory or lower batchSize"],
    ),
    "a pod evicted for its node's memory": (
        a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        "OutOfMemory",
        ["The node was low on resource: memory."],
    ),
    "a pod evicted for its node's disk": (
        a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."),
        "WorkerLost",
        ["ephemeral-storage"],
    ),
}


@pytest.mark.parametrize("what", POD_CAUSES)
def test_what_keeps_a_pod_from_running_is_told_in_the_words_of_who_knows(what: str) -> None:
    seen, reason, words = POD_CAUSES[what]
    cause = causes.of_pods([seen], NOW)
    assert cause is not None
    assert cause.reason == reason
    for word in words:
        assert word in cause.message


def test_a_container_that_is_ready_again_is_no_cause() -> None:
    once = container(running={}) | {"ready": True, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    assert causes.of_pods([a_pod(containerStatuses=[once])], NOW) is None


def test_a_start_that_has_just_begun_is_no_cause() -> None:
    seen, *_ = POD_CAUSES["a volume that the kubelet cannot mount"]
    assert causes.of_pods([seen], datetime.fromisoformat("2026-11-24T11:58:00Z")) is None


def test_a_worker_that_never_reaches_a_head_that_is_up_is_told() -> None:
    worker = a_pod("worker", initContainerStatuses=[container("wait-gcs-ready", running={})])
    worker["metadata"] = worker["metadata"] | {"name": "iris-1-worker"}
    head = a_pod(conditions=[READY])
    cause = causes.of_pods([head, worker], NOW)
    assert cause is not None
    assert cause.reason == "ContainerFailed"
    assert "wait-gcs-ready of iris-1-worker does not reach the head" in cause.message
    late = {**READY, "lastTransitionTime": "2026-11-24T11:59:30Z"}
    assert causes.of_pods([a_pod(conditions=[late]), worker], NOW) is None


REFUSALS = {
    "a quota of pods": (
        'pods "iris-1-head" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2',
        "QuotaExceeded",
        "Free quota",
    ),
    "pod security": (
        'pods "iris-1-head" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        "AdmissionDenied",
        "ask its administrator",
    ),
    "a webhook": (
        'admission webhook "policy.example" denied the request: image is not signed',
        "AdmissionDenied",
        "image is not signed",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_refused_is_told_whether_us_or_kuberay_it_was_refused_to(what: str) -> None:
    words, reason, advice = REFUSALS[what]
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod", "message": words}
    for cause in (
        causes.of_ray_cluster({"status": {"conditions": [failure]}}),
        causes.of_refusal({Ref("RayJob", "default", "iris-1"): words}),
    ):
        assert cause is not None
        assert cause.reason == reason
        assert words in cause.message
        assert advice in cause.message


def test_definitions_of_an_older_kuberay_are_named_as_what_is_missing() -> None:
    words = "failed to create typed patch object (RayJob): .spec.preRunningDeadlineSeconds: field not declared in schema"
    cause = causes.of_refusal({Ref("RayJob", "default", "iris-1"): words})
    assert cause is not None
    assert cause.reason == "PrerequisiteMissing"
    assert "KubeRay is too old" in cause.message
    assert "Install KubeRay 1.6 or newer" in cause.message
    assert ".spec.preRunningDeadlineSeconds" in cause.message


def ray_job(**status: Any) -> Manifest:
    return {"kind": "RayJob", "metadata": {"name": "iris-1", **EARLY}, "status": status}


@pytest.mark.parametrize(
    ("version", "old"), [("v1.5.1", True), ("1.4.0", True), ("1.6.0", False), ("v1.10.2", False), ("nightly", False), ("", False)]
)
def test_a_running_kuberay_that_is_too_old_is_told_by_its_mark_on_the_cluster(version: str, old: bool) -> None:
    cluster = {"metadata": {"annotations": {"ray.io/kuberay-version": version}}}
    cause = causes.of_kuberay(ray_job(), cluster, NOW)
    assert (cause is not None) is old
    if cause:
        assert cause.reason == "PrerequisiteMissing"
        assert version in cause.message


def test_a_kuberay_that_does_not_run_is_told_after_a_while() -> None:
    cause = causes.of_kuberay(ray_job(), None, NOW)
    assert cause is not None
    assert cause.reason == "PrerequisiteMissing"
    assert "RayJob iris-1" in cause.message
    assert causes.of_kuberay(ray_job(), None, datetime.fromisoformat("2026-11-24T11:58:00Z")) is None
    assert causes.of_kuberay(ray_job(jobDeploymentStatus="Initializing"), None, NOW) is None


@pytest.mark.parametrize(
    ("ages", "seconds"), [([], 120), ([0], 120), ([50], 70), ([10, 50], 70), ([50, 119], 1), ([120], 120), ([200, 30], 90)]
)
def test_it_is_looked_at_again_when_the_next_object_has_been_there_for_two_minutes(ages: list[int], seconds: int) -> None:
    made = [{"metadata": {"creationTimestamp": later(-age).isoformat()}} for age in ages]
    assert causes.still_after([None, *made], NOW) == seconds


def test_it_is_looked_at_again_two_minutes_after_the_head_was_ready() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": later(-20).isoformat()}
    head = {"metadata": {"creationTimestamp": later(-130).isoformat()}, "status": {"conditions": [ready]}}
    assert causes.still_after([head], NOW) == 100


def test_a_claim_whose_provisioner_gives_no_volume_is_told_while_a_pod_waits_for_it() -> None:
    claim = {
        "metadata": {"name": "iris-model", **EARLY},
        "spec": {"storageClassName": "slow"},
        "status": {"phase": "Pending"},
    }
    unplaced = {**a_pod(), "spec": {}}
    cause = causes.of_claims([claim], [unplaced], NOW)
    assert cause is not None
    assert cause.reason == "VolumePending"
    assert "iris-model of storage class slow" in cause.message
    assert causes.of_claims([claim], [a_pod()], NOW) is None
    assert causes.of_claims([{**claim, "status": {"phase": "Bound"}}], [unplaced], NOW) is None


def serve(status: str, message: str) -> Manifest:
    model = {"status": status, "serveDeploymentStatuses": {"Model": {"status": "UPDATING", "message": message}}}
    return {"status": {"pendingServiceStatus": {"applicationStatuses": {"model": model}}}}


TRACEBACK = "Traceback (most recent call last):\n" + "".join(f'  File "frame{n}.py", line {n}\n' for n in range(100))
APPLICATIONS = {
    "the runtime's own error": (
        "DEPLOY_FAILED",
        TRACEBACK + "StoreRefused: s3://m/x: AccessDenied",
        "StoreRefused",
        "AccessDenied",
    ),
    "a damaged bundle": ("UNHEALTHY", "DigestMismatch: model.safetensors", "DigestMismatch", "model.safetensors"),
    "any other error": (
        "DEPLOY_FAILED",
        TRACEBACK + "\x1b[31mImportError: no module named x\x1b[0m",
        "ApplicationFailed",
        "ImportError: no module named x",
    ),
    "a replica that Serve tries again": (
        "DEPLOYING",
        "The deployment failed to start 2 times in a row. Error:\n" + TRACEBACK + "KeyError: 'w'",
        "ApplicationFailed",
        "KeyError: 'w'",
    ),
    "memory that is not there": (
        "DEPLOY_FAILED",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB",
        "OutOfMemory",
        "Tried to allocate 20 GiB",
    ),
}


@pytest.mark.parametrize("what", APPLICATIONS)
def test_a_serve_application_that_fails_is_told_by_the_end_of_its_traceback(what: str) -> None:
    status, message, reason, words = APPLICATIONS[what]
    cause = applications.cause(serve(status, message))
    assert cause is not None
    assert cause.reason == reason
    assert words in cause.message
    assert "\x1b" not in cause.message


def test_a_serve_application_that_only_takes_its_time_is_no_cause() -> None:
    assert (
        applications.cause(serve("DEPLOYING", "Deployment Model has 1 replicas that take more than 30 s to initialize.")) is None
    )


def test_a_service_that_kuberay_refuses_is_told() -> None:
    ready = {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "authOptions needs Ray 2.52"}
    cause = applications.cause({"status": {"conditions": [ready]}})
    assert cause is not None
    assert (cause.reason, "authOptions needs Ray 2.52" in cause.message) == ("AdmissionDenied", True)


FAILED_JOBS = {
    "the process's own traceback": (
        {"reason": "AppFailed", "message": TRACEBACK + "KeyError: 'x'"},
        "ContainerFailed",
        "KeyError: 'x'",
    ),
    "Ray's memory monitor": (
        {"reason": "AppFailed", "message": TRACEBACK + "ray.exceptions.OutOfMemoryError: Task was killed, node low on memory"},
        "OutOfMemory",
        "Task was killed",
    ),
    "a head that takes no job": (
        {"reason": "SubmissionFailed", "message": "connection refused"},
        "HeadLost",
        "connection refused",
    ),
}


@pytest.mark.parametrize("what", FAILED_JOBS)
def test_a_ray_job_that_fails_is_told_by_its_cause(what: str) -> None:
    status, reason, words = FAILED_JOBS[what]
    finding = examine(ray_job(jobDeploymentStatus="Failed", **status), None, [], None, NOW)
    assert finding.state is AttemptState.FAILED
    assert finding.cause is not None
    assert finding.cause.reason == reason
    assert words in finding.cause.message


def test_a_ray_job_that_kuberay_refuses_is_told() -> None:
    status = {"jobDeploymentStatus": "ValidationFailed", "message": "rayVersion 2.40 is too old for authOptions"}
    finding = examine(ray_job(**status), None, [], None, NOW)
    assert finding.state is AttemptState.FAILED
    assert finding.cause is not None
    assert finding.cause.reason == "AdmissionDenied"
    assert "rayVersion 2.40 is too old" in finding.cause.message


@pytest.mark.parametrize("letter", ["x", "é", "模"])
def test_words_are_cut_in_their_middle_to_a_thousand_bytes(letter: str) -> None:
    text = "scheduler: " + letter * 2000 + " not found"
    cut = quote(text)
    assert len(cut.encode()) <= QUOTE_MAX
    assert cut.startswith("scheduler: ")
    assert cut.endswith(" not found")
    assert quote("short") == "short"


def test_every_message_fits_into_a_condition() -> None:
    long = "w" * 5000
    for seen in (waiting("ErrImagePull", long), not_scheduled(long), waiting("RunContainerError", long)):
        cause = causes.of_pods([seen], later(0))
        assert cause is not None
        assert len(cause.message) < MESSAGE_MAX
