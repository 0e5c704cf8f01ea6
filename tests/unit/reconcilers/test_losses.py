"""What KubeRay loses without a word, or restarts from zero: noticed, told and mended."""

from typing import Any

import pytest

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Manifest, ProbeResult, Ref
from eagleray_operator.reconcilers import modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed, Plan
from tests.support.makers import (
    DIGEST,
    KEY,
    NOW,
    SETTINGS,
    condition,
    deployment,
    job,
    later,
    live,
    observed,
    pod,
    ray_cluster,
    result,
)

ELASTIC: dict[str, Any] = {"training": {"engine": "Torch"}, "workers": {"min": 1, "max": 3}}
COMPLETE = {"type": "RayClusterProvisioned", "status": "True"}
NO_HEAD = {"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound", "message": "Head Pod not found"}
ANSWER = ProbeResult(ready=True, digest=DIGEST, engine="NumPy")
SERVING = {
    "conditions": [{"type": "Ready", "status": "True"}],
    "activeServiceStatus": {"applicationStatuses": {"model": {"status": "RUNNING"}}},
}
UNREADY_SINCE_NOON = {
    "type": "Ready",
    "status": "False",
    "lastTransitionTime": "2026-11-24T12:00:00Z",
    "message": "unready: [ray]",
}
AUTOSCALER_ENDED = {
    "name": "autoscaler",
    "state": {"terminated": {"exitCode": 1, "message": "no apiserver", "finishedAt": "2026-11-24T12:00:00Z"}},
}


def told(plan: Plan, type_: str) -> tuple[str, str]:
    assert plan.status is not None
    entry = condition(plan.status, type_)
    return entry["status"], entry["reason"]


def message(plan: Plan, type_: str) -> str:
    return str(condition(plan.status, type_)["message"])


def train(resource: Any = None, seen: Observed | None = None, now: Any = NOW) -> Plan:
    return trainingjob.reconcile(resource or job(**ELASTIC), seen or observed(), SETTINGS, now, KEY)


class Training:
    """A job whose first attempt runs, as the cluster shows it."""

    def __init__(self, **ray_job_status: Any) -> None:
        self.first = train()
        status = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "c1"} | ray_job_status
        self.children = [live(child, status=status if child["kind"] == "RayJob" else None) for child in self.first.apply]
        self.ray_job = next(child for child in self.children if child["kind"] == "RayJob")

    def cluster(self, *conditions: Any, **metadata: Any) -> Manifest:
        made = ray_cluster("c1", self.ray_job, conditions=[COMPLETE, *conditions])
        return {**made, "metadata": made["metadata"] | metadata}

    def head(self, deleted: str | None = None, **status: Any) -> Manifest:
        made = pod("c1-head", names.labels("TrainingJob", "iris", attempt="1"), "head", **status)
        return {**made, "metadata": made["metadata"] | ({"deletionTimestamp": deleted} if deleted else {})}

    def plan(self, *more: Manifest, before: Plan | None = None, now: Any = NOW, **seen: Any) -> Plan:
        status = dict((before or self.first).status or {})
        return train(job(status=status, **ELASTIC), observed(*self.children, *more, **seen), now)


ENDS_OF_HEADS = {
    "killed for memory": (
        {"containerStatuses": [{"name": "ray", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
        "OutOfMemory",
        "Raise memory",
    ),
    "evicted": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "low on resource: memory",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
        },
        "OutOfMemory",
        "low on resource",
    ),
    "taken away for another": (
        {
            "phase": "Failed",
            "conditions": [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "PreemptionByScheduler",
                    "message": "preempting for urgent",
                }
            ],
        },
        "HeadLost",
        "preempting for urgent",
    ),
    "ended": ({"phase": "Succeeded"}, "HeadLost", "has ended"),
    "deleted": (
        {"deleted": "2026-11-24T12:00:00Z", "containerStatuses": [{"name": "ray", "state": {"terminated": {"exitCode": 143}}}]},
        "HeadLost",
        "was deleted",
    ),
}


@pytest.mark.parametrize("how", ENDS_OF_HEADS)
def test_why_a_head_went_is_kept_until_its_attempt_ends(how: str) -> None:
    status, reason, words = ENDS_OF_HEADS[how]
    running = Training()
    going = running.plan(running.cluster(), running.head(**status))
    assert told(going, "Progressing") == ("False", reason)
    assert words in message(going, "Progressing")
    ended = running.plan(running.cluster(NO_HEAD), before=going)
    assert ended.status is not None
    assert ended.status["attempts"][0]["reason"] == reason
    assert words in ended.status["attempts"][0]["message"]
    assert told(ended, "Succeeded") == ("Unknown", "Recovering")


def test_pods_that_go_with_their_whole_cluster_are_no_loss() -> None:
    running = Training()
    gone = running.plan(running.cluster(deletionTimestamp="2026-11-24T12:00:00Z"), running.head(phase="Failed"))
    assert told(gone, "Progressing") == ("True", "Starting")


def test_a_head_of_a_job_never_starts_again_in_place() -> None:
    spec = Training().ray_job["spec"]["rayClusterSpec"]
    assert spec["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert "restartPolicy" not in spec["workerGroupSpecs"][0]["template"]["spec"]


def test_a_cluster_younger_than_the_job_on_it_has_taken_the_place_of_another() -> None:
    running = Training(rayJobInfo={"startTime": "2026-11-24T12:00:00Z"})
    same = running.plan(running.cluster(creationTimestamp="2026-11-24T11:59:00Z"))
    assert told(same, "Progressing") == ("True", "Starting")
    other = running.plan(running.cluster(creationTimestamp="2026-11-24T12:05:00Z"))
    assert other.status is not None
    assert other.status["attempts"][0]["reason"] == "HeadLost"
    assert "deleted from outside" in other.status["attempts"][0]["message"]


WEDGES = {
    "that is not ready": ({"phase": "Running", "conditions": [UNREADY_SINCE_NOON]}, None, "unready: [ray]"),
    "without its autoscaler": ({"phase": "Running", "containerStatuses": [AUTOSCALER_ENDED]}, None, "no apiserver"),
    "on a node that is gone": ({"phase": "Running"}, "2026-11-24T12:00:00Z", "its node is gone"),
}


@pytest.mark.parametrize("how", WEDGES)
def test_a_wedged_head_of_a_job_is_given_five_minutes_and_then_replaced_by_the_next_attempt(how: str) -> None:
    status, deleted, words = WEDGES[how]
    running = Training()
    seen = (running.cluster(), running.head(deleted, **status))
    early = running.plan(*seen, now=later(60))
    assert early.status is not None
    assert "endTime" not in early.status["attempts"][0]
    assert early.requeue_after == 240
    late = running.plan(*seen, now=later(300))
    assert late.status is not None
    assert late.status["attempts"][0]["reason"] == "HeadLost"
    assert words in late.status["attempts"][0]["message"]


def test_an_attempt_whose_autoscaler_ends_at_its_start_does_not_wait_for_the_deadline() -> None:
    starting = Training(jobDeploymentStatus="Initializing", jobStatus="")
    seen = (starting.cluster(), starting.head(phase="Running", containerStatuses=[AUTOSCALER_ENDED]))
    assert told(starting.plan(*seen, now=later(60)), "Progressing") == ("False", "ContainerFailed")
    late = starting.plan(*seen, now=later(300))
    assert late.status is not None
    assert late.status["attempts"][0]["reason"] == "HeadLost"


def test_a_head_that_ends_at_its_start_ends_the_attempt_instead_of_being_made_again_and_again() -> None:
    starting = Training(jobDeploymentStatus="Initializing", jobStatus="")
    ended = {"name": "ray", "state": {"terminated": {"exitCode": 127, "message": "ray: command not found"}}}
    head = starting.head(phase="Failed", containerStatuses=[ended])
    again = starting.plan(starting.cluster(), head)
    assert told(again, "Progressing") == ("False", "ContainerFailed"), "one that the kubelet starts again is only told"
    final = starting.plan(starting.cluster(), {**head, "spec": {"restartPolicy": "Never"}})
    assert final.status is not None
    assert final.status["attempts"][0]["reason"] == "ContainerFailed"
    assert "ray: command not found" in final.status["attempts"][0]["message"]


def test_drifted_worker_bounds_of_a_job_are_set_back() -> None:
    running = Training()
    cluster = running.cluster()
    group = {**cluster["spec"]["workerGroupSpecs"][0], "minReplicas": 0, "maxReplicas": 9, "replicas": 2}
    drifted = {**cluster, "spec": {**cluster["spec"], "workerGroupSpecs": [group]}}
    (patch,) = running.plan(drifted).patch
    assert patch.ref == Ref("RayCluster", "default", "c1")
    changed = {entry["path"].rsplit("/", 1)[1]: entry["value"] for entry in patch.operations if entry["op"] == "add"}
    assert changed == {"minReplicas": 1, "maxReplicas": 3}, "replicas are the autoscaler's"
    assert running.plan(cluster).patch == ()


def without_the_token(labels: dict[str, str], secret: str) -> Manifest:
    words = f'secret "{secret}" not found'
    waits = {"name": "ray", "state": {"waiting": {"reason": "CreateContainerConfigError", "message": words}}}
    return pod("c1-worker", labels, containerStatuses=[waits])


def test_a_deleted_token_is_made_again_for_the_pods_that_wait_for_it() -> None:
    running = Training()
    lacking = without_the_token(names.labels("TrainingJob", "iris", attempt="1"), names.ray_token_secret("uid-of-job-iris", 1))
    assert running.plan(running.cluster()).ensure == ()
    assert running.plan(running.cluster(), lacking).ensure == running.first.ensure
    served = Served()
    lacking = without_the_token(
        names.labels("ModelDeployment", "iris", revision=served.name), names.ray_token_secret("uid-of-deployment-iris")
    )
    assert served.plan(served.cluster(), probes={served.name: ANSWER}).ensure == ()
    assert served.plan(served.cluster(), lacking, probes={served.name: ANSWER}).ensure == served.first.ensure


def test_a_token_that_was_late_is_not_told_as_what_a_head_was_lost_for() -> None:
    job_starts = Training(jobDeploymentStatus="Initializing", jobStatus="")
    labels = names.labels("TrainingJob", "iris", attempt="1")
    starting = job_starts.plan(without_the_token(labels, names.ray_token_secret("uid-of-job-iris", 1)))
    assert starting.ensure == job_starts.first.ensure
    assert told(starting, "Progressing") == ("True", "Starting")


def test_without_kuberays_definitions_a_running_job_is_held_and_its_result_is_not_lost() -> None:
    running = Training()
    gone = running.plan(missing_kinds=("RayJob", "RayCluster"))
    assert told(gone, "Accepted") == ("False", "PrerequisiteMissing")
    assert told(gone, "Succeeded") == ("Unknown", "PrerequisiteMissing")
    assert (gone.apply, gone.ensure, gone.patch, gone.delete) == ((), (), (), ())
    assert gone.status is not None
    assert "endTime" not in gone.status["attempts"][0]
    done = running.plan(missing_kinds=("RayJob", "RayCluster"), reports=(result(),))
    assert told(done, "Succeeded") == ("True", "Completed")
    back = train(job(status=dict(gone.status), **ELASTIC))
    assert [child["metadata"]["name"] for child in back.apply if child["kind"] == "RayJob"] == ["iris-1"]


def test_a_conflict_that_comes_up_later_is_told_beside_what_runs() -> None:
    running = Training()
    taken = {Ref("RayJob", "default", "iris-1"): "Deployment other"}
    assert told(running.plan(running.cluster(), conflicts=taken), "Accepted") == ("False", "Conflict")
    served = Served()
    plan = served.plan(
        served.cluster(), probes={served.name: ANSWER}, conflicts={Ref("Service", "default", "iris"): "Deployment other"}
    )
    assert told(plan, "Accepted") == ("False", "Conflict")
    assert told(plan, "Ready") == ("True", "Serving")


class Served:
    """A deployment that has served, as the cluster shows it."""

    def __init__(self, **spec: Any) -> None:
        self.spec = spec
        self.first = self._reconcile(deployment(**spec), observed(url="http://iris"))
        made = next(child for child in self.first.apply if child["kind"] == "RayService")
        self.name = made["metadata"]["name"]
        self.service = live(made, status=SERVING)
        ready = self._reconcile(
            deployment(status=dict(self.first.status or {}), **spec),
            observed(self.service, self.cluster(), url="http://iris", probes={self.name: ANSWER}),
        )
        self.status = dict(ready.status or {})

    @staticmethod
    def _reconcile(resource: Any, seen: Observed, now: Any = NOW) -> Plan:
        return modeldeployment.reconcile(resource, seen, SETTINGS, now, KEY)

    def cluster(self, *conditions: Any) -> Manifest:
        return ray_cluster("c1", self.service, conditions=[COMPLETE, *conditions])

    def head(self, deleted: str | None = None, **status: Any) -> Manifest:
        made = pod("c1-head", names.labels("ModelDeployment", "iris", revision=self.name), "head", **status)
        return {**made, "metadata": made["metadata"] | ({"deletionTimestamp": deleted} if deleted else {})}

    def plan(self, *more: Manifest, service: Manifest | None = None, now: Any = NOW, **seen: Any) -> Plan:
        children = observed(service or self.service, *more, url="http://iris", **seen)
        return self._reconcile(deployment(status=self.status, **self.spec), children, now)

    def emptied(self) -> Manifest:
        """As KubeRay shows it while there is no head."""
        return {**self.service, "status": {**SERVING, "activeServiceStatus": {"applicationStatuses": {}}}}


def test_a_serving_cluster_that_loses_its_head_says_so_and_for_how_long() -> None:
    served = Served()
    plan = served.plan(served.cluster(NO_HEAD), service=served.emptied())
    assert told(plan, "Ready") == ("False", "HeadLost")
    assert "requests are refused" in message(plan, "Ready")
    assert plan.delete == (), "KubeRay brings another head by itself"


def test_it_says_so_too_while_another_revision_is_on_its_way() -> None:
    served = Served()
    served.spec = {"resources": {"cpus": 2}}
    plan = served.plan(served.cluster(NO_HEAD), service=served.emptied())
    assert told(plan, "Ready") == ("False", "HeadLost")
    assert "is on its way" in message(plan, "Ready")
    assert told(plan, "Progressing") == ("True", "Starting")


def test_a_head_killed_for_its_memory_is_told_as_that() -> None:
    served = Served()
    killed = served.head(containerStatuses=[{"name": "ray", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}])
    unready = {"type": "HeadPodReady", "status": "False", "reason": "OOMKilled"}
    plan = served.plan(served.cluster(unready), killed, service=served.emptied())
    assert told(plan, "Ready") == ("False", "OutOfMemory")


def test_a_first_start_is_no_lost_head() -> None:
    served = Served()
    starting = ray_cluster("c1", served.service, conditions=[NO_HEAD])
    plan = Served._reconcile(
        deployment(status=dict(served.first.status or {})), observed(served.emptied(), starting, url="http://iris")
    )
    assert told(plan, "Ready") == ("Unknown", "Starting")


@pytest.mark.parametrize("how", WEDGES)
def test_a_wedged_head_of_a_deployment_that_does_not_answer_is_replaced_with_its_cluster(how: str) -> None:
    status, deleted, _ = WEDGES[how]
    served = Served()
    seen = (served.cluster(), served.head(deleted, **status))
    early = served.plan(*seen, service=served.emptied(), now=later(60))
    assert (early.delete, early.requeue_after) == ((), 240)
    late = served.plan(*seen, service=served.emptied(), now=later(300))
    assert [deletion.ref for deletion in late.delete] == [Ref("RayService", "default", served.name)]
    assert late.requeue_after is not None
    assert late.requeue_after > 0
    again = served.plan(served.cluster(), now=later(310), service=None)
    assert again.delete == ()


def test_one_that_answers_without_its_autoscaler_is_left_to_its_users_and_told() -> None:
    served = Served(autoscaling={"maxReplicas": 2})
    head = served.head(phase="Running", containerStatuses=[AUTOSCALER_ENDED])
    plan = served.plan(served.cluster(), head, now=later(3600), probes={served.name: ANSWER})
    assert plan.delete == ()
    assert told(plan, "Ready") == ("True", "Serving")
    assert told(plan, "Progressing") == ("False", "HeadLost")
    assert f"Delete RayService {served.name}" in message(plan, "Progressing")


def test_another_version_of_kuberay_that_writes_the_cluster_anew_gets_the_numbers_back() -> None:
    served = Served(replicas=3)
    cluster = served.cluster()
    group = {**cluster["spec"]["workerGroupSpecs"][0], "replicas": 0, "minReplicas": 0}
    overwritten = {**cluster, "spec": {**cluster["spec"], "workerGroupSpecs": [group]}}
    (patch,) = served.plan(overwritten, probes={served.name: ANSWER}).patch
    assert {entry["path"].rsplit("/", 1)[1]: entry["value"] for entry in patch.operations if entry["op"] == "add"} == {
        "replicas": 3,
        "minReplicas": 3,
    }


def test_without_kuberays_definitions_a_deployment_is_held_and_nothing_is_made() -> None:
    served = Served()
    plan = served.plan(missing_kinds=("RayService", "RayCluster"))
    assert told(plan, "Accepted") == ("False", "PrerequisiteMissing")
    assert (plan.apply, plan.ensure, plan.patch, plan.delete) == ((), (), (), ())


def test_a_key_that_the_config_map_lacks_is_named_before_anything_is_made() -> None:
    rows = {"data": {"configMapRef": {"name": "rows", "key": "a.csv"}, "target": "y"}}
    ref = Ref("ConfigMap", "default", "rows")
    plan = train(job(**rows), observed(references={ref: {"data": {"b.csv": ""}}}))
    assert told(plan, "Accepted") == ("False", "ReferenceNotFound")
    assert "has no key a.csv" in message(plan, "Accepted")
    assert plan.apply == ()
    for there in ({"data": {"a.csv": ""}}, {"binaryData": {"a.csv": ""}}):
        assert train(job(**rows), observed(references={ref: there})).apply != ()
