"""A ModelDeployment from its first sight through changes of its content and its numbers."""

import json

import pytest
import yaml

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ReplicaCounts
from eagleray_operator.cluster.port import Manifest, ProbeResult, Ref
from eagleray_operator.reconcilers.autoscaling import decisions
from eagleray_operator.reconcilers.modeldeployment import reconcile, to_probe
from eagleray_operator.reconcilers.plan import Observed, Plan
from tests.support.makers import (
    DIGEST,
    KEY,
    NOW,
    SETTINGS,
    condition,
    deployment,
    job_manifest,
    later,
    live,
    observed,
    pod,
    ray_cluster,
)

URL = "http://iris.default.svc"
RUNNING = {
    "conditions": [{"type": "Ready", "status": "True"}],
    "activeServiceStatus": {"applicationStatuses": {"model": {"status": "RUNNING"}}},
}
ANSWER = ProbeResult(ready=True, digest=DIGEST, engine="NumPy")


def plan_of(resource=None, seen: Observed | None = None, now=NOW) -> Plan:
    return reconcile(resource or deployment(), seen or see(), SETTINGS, now, KEY)


def see(*children: Manifest, **more) -> Observed:
    return observed(*children, url=URL, **more)


def service_of(plan: Plan, status=None) -> Manifest:
    return live(next(child for child in plan.apply if child["kind"] == "RayService"), status=status or {})


def name_of(plan: Plan) -> str:
    return service_of(plan)["metadata"]["name"]


def told(plan: Plan, type_: str = "Ready") -> tuple[str, str]:
    entry = condition(plan.status, type_)
    return entry["status"], entry["reason"]


def serving(**spec) -> tuple[Plan, Manifest]:
    """A deployment that serves: its plan and its RayService."""
    first = plan_of(deployment(**spec))
    ray_service = service_of(first, RUNNING)
    cluster = ray_cluster("c1", ray_service)
    seen = see(ray_service, cluster, *pods(name_of(first)), probes={name_of(first): ANSWER})
    return plan_of(deployment(status=dict(first.status), **spec), seen), ray_service


def pods(revision: str, ready: int = 1) -> list[Manifest]:
    labels = names.labels("ModelDeployment", "iris", revision=revision)
    condition_ = [{"type": "Ready", "status": "True"}]
    return [pod(f"{revision}-w{number}", labels, phase="Running", conditions=condition_) for number in range(ready)]


def test_the_first_revision_gets_the_service_at_once():
    plan = plan_of()
    assert [child["kind"] for child in plan.apply] == ["NetworkPolicy", "ConfigMap", "RayService", "Service"]
    assert plan.apply[3]["spec"]["selector"]["eagleray.io/revision"] == name_of(plan)
    assert told(plan) == ("Unknown", "Starting")


def test_a_running_application_is_ready_only_after_a_real_answer():
    first = plan_of()
    ray_service = service_of(first, RUNNING)
    resource = deployment(status=dict(first.status))
    silent = plan_of(resource, see(ray_service, probes={name_of(first): ProbeResult(ready=False, message="refused")}))
    assert told(silent) == ("Unknown", "Checking")
    assert silent.requeue_after == 1
    plan, _ = serving()
    assert told(plan) == ("True", "Serving")
    assert plan.status["model"] == {
        "name": "iris",
        "uri": "s3://models/default/iris",
        "digest": DIGEST,
        "engine": "NumPy",
    }
    assert plan.status["replicas"] == {"desired": 1, "current": 1, "ready": 1}
    assert plan.status["url"] == URL


def test_a_second_look_changes_nothing():
    plan, ray_service = serving()
    again = plan_of(
        deployment(status=dict(plan.status)),
        see(ray_service, ray_cluster("c1", ray_service), *pods(name_of(plan)), probes={name_of(plan): ANSWER}),
        now=later(100),
    )
    assert again.status == plan.status
    assert (again.ensure, again.patch, again.delete, again.events) == ((), (), (), ())


def test_only_revisions_whose_application_runs_are_asked_and_the_active_one_through_the_service():
    plan, ray_service = serving()
    resource = deployment(status=dict(plan.status))
    assert to_probe(resource, see(ray_service)) == {name_of(plan): True}
    assert to_probe(resource, see(service_of(plan))) == {}


def test_a_new_content_gets_traffic_only_when_it_answers_and_the_old_one_drains():
    before, old = serving()
    changed = {"resources": {"cpus": 2}}
    resource = deployment(status=dict(before.status), **changed)
    started = plan_of(resource, see(old, probes={name_of(before): ANSWER}))
    new = service_of(started, RUNNING)
    target = name_of(started)
    assert target != name_of(before)
    assert started.apply[3]["spec"]["selector"]["eagleray.io/revision"] == name_of(before)
    assert told(started) == ("True", "Serving")

    answers = {name_of(before): ANSWER, target: ANSWER}
    switched = plan_of(deployment(status=dict(started.status), **changed), see(old, new, probes=answers))
    assert switched.apply[3]["spec"]["selector"]["eagleray.io/revision"] == target
    assert switched.status["activeRevision"] == target
    assert {revision["state"] for revision in switched.status["revisions"]} == {"Active", "Draining"}
    assert switched.delete == ()
    assert told(switched, "Progressing") == ("True", "Draining")

    drained = plan_of(
        deployment(status=dict(switched.status), **changed), see(old, new, probes=answers), now=later(SETTINGS.drain_seconds)
    )
    assert [deletion.ref.name for deletion in drained.delete] == [name_of(before)]
    assert [revision["name"] for revision in drained.status["revisions"]] == [target]


def test_a_new_content_that_fails_leaves_the_old_one_serving_and_says_so():
    before, old = serving()
    changed = {"resources": {"cpus": 2}}
    started = plan_of(deployment(status=dict(before.status), **changed), see(old, probes={name_of(before): ANSWER}))
    words = "ray::x\n\x1b[36mDigestMismatch: model.safetensors is not what bundle.json names\x1b[0m"
    failing = {
        "pendingServiceStatus": {
            "applicationStatuses": {
                "model": {"status": "DEPLOY_FAILED", "message": "", "serveDeploymentStatuses": {"Model": {"message": words}}}
            }
        }
    }
    plan = plan_of(
        deployment(status=dict(started.status), **changed),
        see(old, service_of(started, failing), probes={name_of(before): ANSWER}),
    )
    assert told(plan) == ("True", "ServingPrevious")
    assert told(plan, "Progressing") == ("False", "DigestMismatch")
    assert "model.safetensors is not what bundle.json names" in condition(plan.status, "Progressing")["message"]
    assert "\x1b" not in condition(plan.status, "Progressing")["message"]


def test_going_back_before_the_switch_deletes_what_was_on_its_way():
    before, old = serving()
    started = plan_of(deployment(status=dict(before.status), resources={"cpus": 2}), see(old, probes={name_of(before): ANSWER}))
    back = plan_of(deployment(status=dict(started.status)), see(old, service_of(started), probes={name_of(before): ANSWER}))
    assert [deletion.ref.name for deletion in back.delete] == [name_of(started)]
    assert told(back) == ("True", "Serving")


@pytest.mark.parametrize(
    ("before", "after", "bounds"),
    [
        ({"replicas": 1}, {"replicas": 3}, {"minReplicas": 3, "maxReplicas": 3, "replicas": 3}),
        (
            {"autoscaling": {"maxReplicas": 2}},
            {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}},
            {"minReplicas": 2, "maxReplicas": 4},
        ),
    ],
    ids=["fixed numbers", "autoscaling bounds"],
)
def test_numbers_change_in_place_and_reach_the_ray_cluster(before, after, bounds):
    plan, ray_service = serving(**before)
    seen = see(ray_service, ray_cluster("c1", ray_service), probes={name_of(plan): ANSWER})
    changed = plan_of(deployment(status=dict(plan.status), **after), seen)
    assert name_of(changed) == name_of(plan)
    operations = changed.patch[0].operations
    assert changed.patch[0].ref == Ref("RayCluster", "default", "c1")
    assert {entry["path"].rsplit("/", 1)[1]: entry["value"] for entry in operations if entry["op"] == "add"} == bounds


def test_a_change_of_the_wanted_number_is_remembered():
    plan, ray_service = serving(replicas=1)
    seen = see(ray_service, ray_cluster("c1", ray_service), probes={name_of(plan): ANSWER})
    changed = plan_of(deployment(status=dict(plan.status), replicas=3), seen)
    assert changed.status["scaling"] == [{"time": "2026-11-24T12:00:00Z", "from": 1, "to": 3, "reason": "spec.replicas"}]


@pytest.mark.parametrize(
    ("before", "to", "cause"),
    [
        (2, 3, "load, by Ray's autoscaler"),
        (1, 2, "spec.autoscaling.minReplicas"),
        (1, 3, "load, by Ray's autoscaler"),
        (6, 4, "spec.autoscaling.maxReplicas"),
        (6, 3, "load, by Ray's autoscaler"),
        (4, 2, "load, by Ray's autoscaler"),
    ],
)
def test_numbers_that_were_outside_of_the_bounds_are_not_laid_to_the_load(before, to, cause):
    status = {"activeRevision": "r", "replicas": {"desired": before, "current": before, "ready": before}}
    found = decisions(
        deployment(status=status, autoscaling={"minReplicas": 2, "maxReplicas": 4}), ReplicaCounts(desired=to), "r", NOW
    )
    assert [(decision.from_, decision.to, decision.reason) for decision in found] == [(before, to, cause)]


def test_the_serve_config_carries_the_autoscaling_bounds_and_no_fixed_number():
    plan = plan_of(deployment(autoscaling={"maxReplicas": 3, "targetOngoingRequests": 5}))
    replica = yaml.safe_load(service_of(plan)["spec"]["serveConfigV2"])["applications"][0]["deployments"][0]
    assert replica["autoscaling_config"]["max_replicas"] == 3
    assert replica["autoscaling_config"]["target_ongoing_requests"] == 5
    assert "num_replicas" not in replica


def test_zero_replicas_switch_off():
    plan, ray_service = serving()
    off = plan_of(deployment(status=dict(plan.status), replicas=0), see(ray_service))
    assert told(off) == ("False", "SwitchedOff")
    assert [deletion.ref.kind for deletion in off.delete] == ["RayService"]
    assert off.apply == ()


FOLLOW = {"model": {"trainingJobRef": {"name": "iris"}}}
JOB = Ref("TrainingJob", "default", "iris")


def test_a_deployment_waits_for_its_job_and_follows_when_it_has_succeeded():
    waiting = job_manifest(status={"conditions": [{"type": "Progressing", "status": "True", "reason": "Training"}]})
    plan = plan_of(deployment(**FOLLOW), see(references={JOB: waiting}))
    assert told(plan) == ("Unknown", "WaitingForJob")
    assert "is Training" in condition(plan.status, "Ready")["message"]
    assert plan.apply == ()

    saved = {"uri": "s3://models/default/iris/uid-of-j", "digest": DIGEST, "sizeBytes": 1, "parameters": 1, "engine": "NumPy"}
    done = job_manifest(status={"conditions": [{"type": "Succeeded", "status": "True", "reason": "Completed"}], "model": saved})
    plan = plan_of(deployment(**FOLLOW), see(references={JOB: done}))
    assert plan.status["model"]["uri"] == saved["uri"]
    assert plan.status["model"]["trainingJob"] == "iris"
    config = next(child for child in plan.apply if child["kind"] == "ConfigMap")
    assert DIGEST in config["data"]["config.json"]


@pytest.mark.parametrize(("family", "engine"), [("ConvolutionalNetwork", "Torch"), ("MultilayerPerceptron", "NumPy")])
def test_a_job_of_a_family_that_only_torch_has_is_served_by_torch(family, engine):
    saved = {"uri": "s3://models/default/iris/uid-of-j", "digest": DIGEST, "sizeBytes": 1, "parameters": 1, "engine": "Torch"}
    conditions = [{"type": "Succeeded", "status": "True", "reason": "Completed"}]
    done = job_manifest(status={"conditions": conditions, "model": saved}, model={"family": family})
    plan = plan_of(deployment(**FOLLOW), see(references={JOB: done}))
    config = next(child for child in plan.apply if child["kind"] == "ConfigMap")
    assert json.loads(config["data"]["config.json"])["engine"] == engine
    assert ("engine.type", engine) in {(choice["field"], choice["value"]) for choice in plan.status["chosen"]}


def test_a_model_that_failed_a_gate_is_not_followed():
    saved = {"uri": "s3://models/default/iris/uid-of-j", "digest": DIGEST, "sizeBytes": 1, "parameters": 1, "engine": "NumPy"}
    conditions = [
        {"type": "Succeeded", "status": "True", "reason": "Completed"},
        {"type": "GatePassed", "status": "False", "reason": "GateFailed", "message": "R2 on Test is 0.1, wanted at least 0.5."},
    ]
    plan = plan_of(deployment(**FOLLOW), see(references={JOB: job_manifest(status={"conditions": conditions, "model": saved})}))
    assert told(plan) == ("False", "GateFailed")
    assert "R2 on Test is 0.1" in condition(plan.status, "Ready")["message"]
    assert plan.apply == ()


def test_a_failed_job_is_told_with_its_cause():
    failed = job_manifest(
        status={"conditions": [{"type": "Succeeded", "status": "False", "reason": "DataInvalid", "message": "x"}]}
    )
    plan = plan_of(deployment(**FOLLOW), see(references={JOB: failed}))
    assert told(plan) == ("False", "WaitingForJob")
    assert "failed by DataInvalid" in condition(plan.status, "Ready")["message"]


def test_a_job_that_does_not_exist_is_named():
    plan = plan_of(deployment(**FOLLOW), see(absent=frozenset({JOB})))
    assert told(plan, "Accepted") == ("False", "ReferenceNotFound")
    assert "TrainingJob iris" in condition(plan.status, "Accepted")["message"]


def test_a_served_model_whose_job_is_deleted_goes_on_serving():
    plan, ray_service = serving()
    following = deployment(status=dict(plan.status), **FOLLOW)
    gone = plan_of(following, see(ray_service, absent=frozenset({JOB}), probes={name_of(plan): ANSWER}))
    assert told(gone) == ("True", "Serving")
    assert gone.delete == ()


def test_a_model_from_elsewhere_is_asked_on_while_the_job_that_is_to_follow_has_none():
    plan, ray_service = serving()
    following = deployment(status=dict(plan.status), **FOLLOW)
    silent = plan_of(following, see(ray_service, references={JOB: job_manifest()}))
    assert told(silent) == ("False", "Starting")
    assert told(silent, "Progressing") == ("True", "WaitingForJob")
    assert {child["kind"] for child in silent.apply} == {"NetworkPolicy", "Service"}


def followed() -> tuple[Plan, Manifest]:
    """A deployment that serves its job's model, a custom one with a Secret of its own."""
    saved = {"uri": "s3://mine/iris", "digest": DIGEST, "sizeBytes": 1, "parameters": 1, "engine": "Torch"}
    conditions = [{"type": "Succeeded", "status": "True", "reason": "Completed"}]
    done = job_manifest(
        status={"conditions": conditions, "model": saved},
        model={"family": "ConvolutionalNetwork"},
        output={"uri": "s3://mine/iris", "secretRef": {"name": "mine"}},
    )
    first = plan_of(deployment(**FOLLOW), see(references={JOB: done}))
    ray_service = service_of(first, RUNNING)
    probes = {name_of(first): ANSWER}
    seen = see(ray_service, references={JOB: done}, probes=probes)
    return plan_of(deployment(status=dict(first.status), **FOLLOW), seen), ray_service


@pytest.mark.parametrize(
    "seen",
    [
        {"absent": frozenset({JOB})},
        {
            "references": {
                JOB: job_manifest(status={"conditions": [{"type": "Succeeded", "status": "False", "reason": "DataInvalid"}]})
            }
        },
    ],
    ids=["it is gone", "it has failed"],
)
def test_a_deployment_without_its_job_scales_repairs_and_tells_what_it_serves(seen):
    plan, ray_service = followed()
    following = deployment(status=dict(plan.status), replicas=5, **FOLLOW)
    scaled = plan_of(following, see(ray_service, probes={name_of(plan): ANSWER}, **seen))
    assert told(scaled) == ("True", "Serving")
    assert told(scaled, "Progressing")[0] == "False"
    assert scaled.delete == ()
    assert [child["kind"] for child in scaled.apply] == ["NetworkPolicy", "ConfigMap", "RayService", "Service"]
    assert scaled.apply[2]["metadata"]["name"] == name_of(plan)
    assert "num_replicas: 5" in scaled.apply[2]["spec"]["serveConfigV2"]
    secrets = scaled.apply[2]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["volumes"]
    assert "mine" in [volume["secret"]["secretName"] for volume in secrets if "secret" in volume]

    silent = plan_of(following, see(ray_service, **seen))
    assert told(silent) == ("False", "Checking")
    remade = plan_of(deployment(status=dict(plan.status), **FOLLOW), see(**seen))
    assert service_of(remade)["metadata"]["name"] == name_of(plan)


def test_the_digest_that_a_replica_has_verified_is_told_of_its_revision():
    plan, _ = serving()
    assert plan.status["revisions"][0]["digest"] == DIGEST


def test_the_first_time_that_it_was_ready_is_kept():
    started = plan_of()
    assert "firstReadyTime" not in started.status
    plan, ray_service = serving()
    assert plan.status["firstReadyTime"] == NOW.isoformat().replace("+00:00", "Z")
    lost = plan_of(deployment(status=dict(plan.status)), see(ray_service), now=later(60))
    assert lost.status["firstReadyTime"] == plan.status["firstReadyTime"]
    assert told(lost) == ("False", "Checking")


def test_a_platform_secret_is_mounted_for_a_model_in_the_platforms_store():
    plan = plan_of()
    template = service_of(plan)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    secrets = [volume["secret"]["secretName"] for volume in template["volumes"] if "secret" in volume]
    assert secrets == ["model-store"]


def test_a_head_that_cannot_be_scheduled_is_told_in_the_schedulers_words():
    first = plan_of()
    labels = names.labels("ModelDeployment", "iris", revision=name_of(first))
    words = "0/1 nodes are available: 1 Insufficient memory."
    head = pod("h", labels, "head", conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    plan = plan_of(deployment(status=dict(first.status)), see(service_of(first), head))
    assert told(plan) == ("False", "Unschedulable")
    assert words in condition(plan.status, "Ready")["message"]
