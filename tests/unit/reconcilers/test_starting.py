"""Jobs that start from a model: from a place, or from another job that they wait for."""

import pytest

from eagleray_operator.cluster.port import Ref
from eagleray_operator.reconcilers.inputs import references
from eagleray_operator.reconcilers.jobconditions import finished
from eagleray_operator.reconcilers.plan import Plan
from eagleray_operator.reconcilers.trainingjob import reconcile
from eagleray_runtime.contract.config import TrainingConfig
from tests.support.makers import DIGEST, KEY, NOW, SETTINGS, condition, job, job_manifest, later, live, observed, result

OTHER = Ref("TrainingJob", "default", "older")
MODEL = {"uri": "s3://own/older", "digest": DIGEST, "sizeBytes": 1, "parameters": 1, "engine": "NumPy"}


def starting(**start):
    return {"model": {"family": "MultilayerPerceptron", "startFrom": start}}


def plan_of(spec, status=None, older=None, children=(), now=NOW, reports=()) -> Plan:
    seen = observed(*children, references={OTHER: older} if older else {}, reports=tuple(reports))
    return reconcile(job(status=status or {}, **spec), seen, SETTINGS, now, KEY)


def config_of(plan: Plan) -> TrainingConfig:
    [found] = [child for child in plan.apply if child["kind"] == "ConfigMap"]
    return TrainingConfig.model_validate_json(found["data"]["config.json"])


def mounts(plan: Plan) -> dict[str, dict]:
    """Volumes of the head by where they are mounted."""
    pod = plan.apply[-1]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for container in pod["containers"] for mount in container["volumeMounts"]}


FROM_JOB = starting(trainingJobRef={"name": "older"})


def test_a_place_is_told_to_the_driver_with_the_secret_that_reaches_it():
    plan = plan_of(starting(uri="s3://models-of-others/a", secretRef={"name": "keys"}))
    config = config_of(plan)
    assert config.start.location.uri == "s3://models-of-others/a"
    assert config.start.digest is None
    assert mounts(plan)[config.start.location.secret_directory]["secret"]["secretName"] == "keys"


def test_within_the_platforms_store_the_platforms_secret_reaches_it():
    plan = plan_of(starting(uri="s3://models/default/a"))
    directory = config_of(plan).start.location.secret_directory
    assert mounts(plan)[directory]["secret"]["secretName"] == "model-store"


def test_a_model_on_a_claim_is_mounted_for_reading():
    plan = plan_of(starting(uri="pvc://older-model/abc"))
    assert mounts(plan)["/mnt/eagleray/pvc/older-model"]["persistentVolumeClaim"]["claimName"] == "older-model"


def test_the_model_of_a_job_is_pinned_by_its_digest():
    older = job_manifest("older", {"model": MODEL}, output={"uri": "s3://own/older", "secretRef": {"name": "own-keys"}})
    plan = plan_of(FROM_JOB, older=older)
    config = config_of(plan)
    assert (config.start.location.uri, config.start.digest) == ("s3://own/older", DIGEST)
    assert mounts(plan)[config.start.location.secret_directory]["secret"]["secretName"] == "own-keys"


FAILED = {
    "type": "Succeeded",
    "status": "False",
    "reason": "DataInvalid",
    "message": "no such file.",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-11-24T12:00:00Z",
}
WAITS = {
    "that is not there": (None, "False", "ReferenceNotFound", "is not in this namespace"),
    "that has not begun": (job_manifest("older"), "True", "WaitingForJob", "is not started"),
    "that failed": (
        job_manifest("older", {"conditions": [FAILED]}),
        "True",
        "WaitingForJob",
        "failed by DataInvalid: no such file.",
    ),
}


@pytest.mark.parametrize(("older", "progressing", "reason", "words"), WAITS.values(), ids=WAITS)
def test_a_job_waits_for_another(older, progressing, reason, words):
    plan = plan_of(FROM_JOB, older=older)
    assert plan.apply == ()
    told = condition(plan.status, "Progressing")
    assert (told["status"], told["reason"]) == (progressing, reason)
    assert words in told["message"]
    assert condition(plan.status, "Succeeded")["status"] == "Unknown"
    assert plan.status.get("attempts", []) == []
    assert plan.requeue_after == 10


def test_a_job_that_would_wait_for_itself_says_so():
    plan = plan_of(starting(trainingJobRef={"name": "iris"}))
    assert "names this job itself" in condition(plan.status, "Progressing")["message"]
    assert condition(plan.status, "Accepted")["reason"] == "InvalidSpec"


def test_what_runs_goes_on_without_the_other_job_but_no_other_attempt_begins_from_nothing():
    older = job_manifest("older", {"model": MODEL})
    first = plan_of(FROM_JOB, older=older)

    def children(deployment):
        state = {"rayClusterName": "c", "jobDeploymentStatus": deployment, "message": "it ended"}
        return [live(child, status=state if child["kind"] == "RayJob" else None) for child in first.apply]

    goes_on = plan_of(FROM_JOB, dict(first.status), children=children("Running"))
    assert condition(goes_on.status, "Progressing")["reason"] == "Starting"
    [ray_job] = [child for child in goes_on.apply if child["kind"] == "RayJob"]
    assert ray_job["spec"] == first.apply[-1]["spec"]

    ended = plan_of(FROM_JOB, dict(first.status), children=children("Failed"), now=later(60))
    held = plan_of(FROM_JOB, dict(ended.status), children=children("Failed"), now=later(1000))
    assert held.apply == ()
    assert condition(held.status, "Progressing")["reason"] == "ReferenceNotFound"
    again = plan_of(FROM_JOB, dict(held.status), older=older, children=children("Failed"), now=later(1010))
    assert config_of(again).start.digest == DIGEST
    assert config_of(again).attempt == 2


def test_the_other_job_is_looked_up_until_the_end():
    assert references(job(**FROM_JOB)) == {OTHER}
    assert references(job(**starting(uri="s3://a/b"))) == set()
    done = plan_of(FROM_JOB, dict(plan_of(FROM_JOB, older=job_manifest("older", {"model": MODEL})).status), reports=(result(),))
    ended = job(status=dict(done.status), **FROM_JOB)
    assert finished(ended.status)
    assert references(ended) == set()


def test_a_job_that_starts_from_another_is_looked_at_when_that_changes():
    from eagleray_operator.controller.cache import Cache

    cache = Cache()
    cache.put(job_manifest("iris", **FROM_JOB))
    assert cache.followers(OTHER) == {Ref("TrainingJob", "default", "iris")}
