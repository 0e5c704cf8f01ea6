"""A TrainingJob from its first sight to its end."""

import json
from dataclasses import replace

import pytest

from eagleray_operator.api import names
from eagleray_operator.children import claim
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers.plan import Observed, Plan
from eagleray_operator.reconcilers.trainingjob import reconcile
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Estimate, FailureReason, FailureReport, SearchReport
from eagleray_runtime.contract.search import Search
from tests.support.makers import (
    DIGEST,
    KEY,
    NOW,
    SETTINGS,
    condition,
    identity,
    job,
    later,
    live,
    observed,
    pod,
    progress,
    ray_cluster,
    result,
)


def plan_of(resource=None, seen: Observed | None = None, now=NOW, settings: Settings = SETTINGS) -> Plan:
    return reconcile(resource or job(), seen or observed(), settings, now, KEY)


def first_plan(**spec) -> Plan:
    return plan_of(job(**spec))


def running(plan: Plan, **status) -> list[Manifest]:
    """The children of a first plan as the cluster has them, the RayJob with that status."""
    return [
        live(child, status={"rayClusterName": "iris-1-abcde"} | status if child["kind"] == "RayJob" else None)
        for child in plan.apply
    ]


def reason(plan: Plan, type_: str = "Succeeded") -> tuple[str, str]:
    entry = condition(plan.status, type_)
    return entry["status"], entry["reason"]


def test_a_new_job_gets_its_policy_and_config_before_its_ray_job():
    plan = plan_of()
    assert [child["kind"] for child in plan.apply] == ["NetworkPolicy", "ConfigMap", "RayJob"]
    assert [child["kind"] for child in plan.ensure] == ["Secret"]
    assert reason(plan, "Accepted") == ("True", "Accepted")
    assert reason(plan) == ("Unknown", "Starting")


def test_what_a_crash_left_out_of_the_status_gets_its_token_once_more():
    first = plan_of()
    again = plan_of(job(), observed(*running(first)))
    assert again.ensure == first.ensure


def test_without_any_store_the_model_gets_a_claim_of_its_own():
    plan = plan_of(settings=Settings())
    made = next(child for child in plan.apply if child["kind"] == "PersistentVolumeClaim")
    assert made["metadata"]["name"] == "iris-model"
    assert made["spec"]["resources"]["requests"]["storage"] == "5Gi"


def test_a_claim_keeps_the_size_that_it_has_come_to():
    grown = live(claim.build(job(output={"volumeSize": "20Gi"})))
    plan = plan_of(job(output={"volumeSize": "5120Mi"}), observed(grown), settings=Settings())
    wanted = next(child for child in plan.apply if child["kind"] == "PersistentVolumeClaim")
    assert wanted["spec"]["resources"]["requests"]["storage"] == "20Gi"


def test_a_model_in_a_repository_has_its_checkpoints_on_a_claim_of_its_own():
    """A repository would keep every one of them for good."""
    plan = first_plan(output={"uri": "hf://team/models/iris", "secretRef": {"name": "hub"}})
    children = {child["kind"]: child for child in plan.apply}
    assert children["PersistentVolumeClaim"]["metadata"]["name"] == "iris-model"
    config = TrainingConfig.model_validate_json(children["ConfigMap"]["data"]["config.json"])
    assert config.output.uri == "hf://team/models/iris"
    uid = config.resource.uid
    assert config.checkpoints.uri == f"pvc://iris-model/{uid[:8]}/.checkpoints/{uid}"
    assert config.checkpoints.secret_directory is None
    pod = children["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["readOnly"] for mount in pod["containers"][0]["volumeMounts"] if "readOnly" in mount}
    assert (mounts["claim-iris-model"], mounts["output-secret"]) == (False, True)


def test_a_second_look_changes_nothing():
    first = plan_of()
    resource = job(status=dict(first.status))
    second = plan_of(resource, observed(*running(first)), now=later(60))
    assert second.status == first.status
    assert second.ensure == ()
    assert second.events == ()
    assert second.delete == ()


def test_progress_is_told_in_percent_epochs_and_workers():
    first = plan_of()
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(progress(epoch=3),))
    plan = plan_of(job(status=dict(first.status)), seen)
    assert plan.status["progress"]["epoch"] == 3
    assert plan.status["progress"]["percent"] == 15
    assert reason(plan) == ("Unknown", "Training")
    assert "Epoch 3 of 20, 1 of 1..1 workers" in condition(plan.status, "Progressing")["message"]


def test_what_a_job_needs_is_told_when_the_runtime_knows_it_and_kept():
    first = plan_of()
    needs = Estimate(parameters=10, memory="151Mi", disk="1Mi", duration_seconds=12)
    seen = observed(*running(first, jobDeploymentStatus="Running"))
    told = replace(seen, reports=(progress(epoch=3).model_copy(update={"estimate": needs}),))
    plan = plan_of(job(status=dict(first.status)), told)
    expected = {"parameters": 10, "memory": "151Mi", "disk": "1Mi", "durationSeconds": 12.0}
    assert plan.status["estimate"] == expected
    after = plan_of(job(status=dict(plan.status)), replace(seen, reports=(progress(epoch=4),)))
    assert after.status["estimate"] == expected


def test_an_elastic_job_says_that_it_waits_for_capacity():
    spec = {"training": {"engine": "Torch"}, "workers": {"min": 1, "max": 3}}
    first = first_plan(**spec)
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(progress(),))
    plan = plan_of(job(status=dict(first.status), **spec), seen)
    assert "1 of 1..3 workers" in condition(plan.status, "Progressing")["message"]
    assert "more workers join as capacity appears" in condition(plan.status, "Progressing")["message"]


def searching(trial=4, running=1, **more):
    top = [{"trial": 2, "value": 0.5, "values": {"training.epochs": "3"}}]
    search = {"trials": 20, "running": running, "failed": 1, "best": 0.5, "top": top}
    return progress().model_copy(update={"trial": trial, "search": SearchReport.model_validate(search), **more})


def test_a_search_says_which_trial_runs_and_what_is_best_so_far():
    spec = {"search": {"parameters": [{"field": "training.epochs", "numbers": [3, 5]}]}}
    first = first_plan(**spec)
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(searching(),))
    plan = plan_of(job(status=dict(first.status), **spec), seen)
    assert condition(plan.status, "Progressing")["message"].startswith("Trial 4 of 20: Epoch 3 of 20, 1 of 1..1 workers")
    assert plan.status["progress"]["trial"] == 4
    search = {"trials": 20, "running": 1, "failed": 1, "stopped": 0, "best": 0.5}
    assert plan.status["search"] == search | {"top": [{"trial": 2, "value": 0.5, "values": {"training.epochs": "3"}}]}

    over_folds = spec | {"evaluation": {"crossValidation": {"folds": 5}}}
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(searching(fold=2, folds=6),))
    plan = plan_of(job(status=dict(first.status), **over_folds), seen)
    assert condition(plan.status, "Progressing")["message"].startswith("Trial 4 of 20, fold 2 of 5: Epoch 3 of 20")


def test_a_search_is_what_the_driver_is_told_to_do():
    wanted = {"maxTrials": 7, "parameters": [{"field": "training.epochs", "numbers": [3, 5]}]}
    (config,) = [child for child in first_plan(search=wanted).apply if child["kind"] == "ConfigMap"]
    told = TrainingConfig.model_validate_json(config["data"]["config.json"]).search
    assert told == Search.model_validate(wanted)


def test_a_search_is_kept_in_the_status_while_the_model_itself_is_trained_and_after_the_end():
    first = plan_of()
    children = running(first, jobDeploymentStatus="Running")
    seen = observed(*children, reports=(searching(), searching(trial=0, running=0), progress(), result()))
    done = plan_of(job(status=dict(first.status)), seen)
    assert reason(done) == ("True", "Completed")
    assert (done.status["search"]["best"], done.status["search"]["running"]) == (0.5, 0)
    assert "trial" not in done.status["progress"]


def test_no_trial_runs_in_an_attempt_that_has_ended_and_the_next_goes_on_from_the_one_that_did():
    first = plan_of()
    busy = plan_of(job(status=dict(first.status)), observed(*running(first), reports=(searching(),)))
    ended = plan_of(job(status=dict(busy.status)), observed(*running(first, **failed())))
    assert reason(ended) == ("Unknown", "Recovering")
    assert condition(ended.status, "Progressing")["message"].endswith("The next goes on from trial 4.")
    assert ended.status["search"]["running"] == 0


def left(status):
    told = status["progress"]
    return told.get("stage"), told["workers"], told.get("estimatedRemainingSeconds")


def test_no_worker_trains_and_no_time_is_left_of_a_job_that_has_ended_recovers_or_is_suspended():
    first = plan_of()
    told = progress(workers=3).model_copy(update={"estimated_remaining_seconds": 40.0})
    busy = plan_of(job(status=dict(first.status)), observed(*running(first, jobDeploymentStatus="Running"), reports=(told,)))
    assert left(busy.status) == ("Training", 3, 40)
    ends = {
        "Recovering": (failed(), {}),
        "Suspended": ({"jobDeploymentStatus": "Suspended"}, {"suspend": True}),
        "StoppedOutside": ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, {}),
    }
    for why, (ray_job, spec) in ends.items():
        rests = plan_of(job(status=dict(busy.status), **spec), observed(*running(first, **ray_job)))
        assert reason(rests, "Progressing")[1] == why
        assert left(rests.status) == (None, 0, None)
    done = plan_of(job(status=dict(busy.status)), observed(*running(first), reports=(result(),)))
    assert left(done.status) == (None, 0, 0)


def test_a_result_ends_the_job_as_succeeded_and_complete():
    first = plan_of()
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(result(),))
    plan = plan_of(job(status=dict(first.status)), seen)
    assert reason(plan) == ("True", "Completed")
    assert reason(plan, "Complete") == ("True", "Completed")
    assert reason(plan, "Failed") == ("False", "Completed")
    assert plan.status["model"]["digest"] == DIGEST
    assert plan.status["evaluation"]["metrics"] == [{"name": "Accuracy", "part": "Test", "value": 0.95}]
    assert plan.status["attempts"][0]["reason"] == "Completed"


def test_a_finished_job_stays_as_it_is_whatever_happens_to_its_children():
    first = plan_of()
    done = plan_of(job(status=dict(first.status)), observed(*running(first), reports=(result(),)))
    plan = plan_of(job(status=dict(done.status)), observed(), now=later(3600))
    assert plan == Plan()


def test_a_ray_job_that_does_not_end_is_deleted_a_minute_after_the_result_but_only_as_it_was_seen():
    first = plan_of()
    children = running(first, jobDeploymentStatus="Running")
    done = plan_of(job(status=dict(first.status)), observed(*children, reports=(result(),)))
    assert done.delete == ()
    (left,) = plan_of(job(status=dict(done.status)), observed(*children), now=later(61)).delete
    assert (left.ref.kind, left.version) == ("RayJob", "1")
    ended = running(first, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert plan_of(job(status=dict(done.status)), observed(*ended), now=later(61)).delete == ()


def test_a_report_of_an_older_attempt_is_left_out():
    first = plan_of()
    status = dict(first.status)
    status["attempts"] = [{"number": 2, "startTime": "2026-11-24T12:00:00Z"}]
    plan = plan_of(job(status=status), observed(reports=(result(attempt=1),)))
    assert "model" not in plan.status


FINAL = [
    (FailureReason.DATA_INVALID, "column species is not in the data"),
    (FailureReason.STORE_REFUSED, "s3://x: access denied"),
    (FailureReason.DIVERGED, "the loss is not a number"),
]


@pytest.mark.parametrize(("why", "words"), FINAL, ids=lambda value: str(value)[:20])
def test_what_another_attempt_cannot_help_fails_at_once_in_its_own_words(why, words):
    first = plan_of()
    report = FailureReport(resource=identity(), attempt=1, reason=why, message=words)
    seen = observed(*running(first, jobDeploymentStatus="Running"), reports=(report,))
    plan = plan_of(job(status=dict(first.status)), seen)
    assert reason(plan) == ("False", str(why))
    assert reason(plan, "Failed") == ("True", str(why))
    assert words in condition(plan.status, "Succeeded")["message"]
    assert [deletion.ref.kind for deletion in plan.delete] == ["RayJob"]
    ended = running(first, jobDeploymentStatus="Failed", jobStatus="FAILED")
    later_on = plan_of(job(status=dict(plan.status)), observed(*ended), now=later(60))
    assert [deletion.ref.kind for deletion in later_on.delete] == ["RayJob"], "also if the RayJob ended before it was deleted"


def failed(**more):
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "exit 1"} | more


def test_a_failed_attempt_is_followed_by_the_next_after_a_delay():
    first = plan_of()
    children = running(first, **failed())
    ended = plan_of(job(status=dict(first.status)), observed(*children))
    assert reason(ended) == ("Unknown", "Recovering")
    assert ended.requeue_after == 5
    assert ended.apply == ()
    early = plan_of(job(status=dict(ended.status)), observed(*children), now=later(2))
    assert early.apply == ()
    assert early.requeue_after == 3
    due = plan_of(job(status=dict(ended.status)), observed(*children), now=later(6))
    assert [child["metadata"]["name"] for child in due.apply if child["kind"] == "RayJob"] == ["iris-2"]
    assert {deletion.ref.name for deletion in due.delete} == {"iris-1", "iris-1-config"}


def test_an_attempt_goes_on_from_a_checkpoint_which_may_be_older_than_the_epoch_that_was_reached():
    first = plan_of()
    told = plan_of(job(status=dict(first.status)), observed(*running(first), reports=(progress(epoch=12),)))
    children = running(first, jobDeploymentStatus="Running")
    lost = [{"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound"}]
    gone = observed(*children, ray_cluster("iris-1-abcde", children[-1], conditions=lost))
    ended = plan_of(job(status=dict(told.status)), gone)
    words = "Attempt 1 ended by HeadLost in epoch 12: The head pod is gone. The next goes on from the newest checkpoint."
    assert condition(ended.status, "Progressing")["message"] == words
    again = plan_of(job(status=dict(ended.status)), observed(), now=later(6))
    starts = running(again, jobDeploymentStatus="Running")
    begun = plan_of(job(status=dict(again.status)), observed(*starts), now=later(20))
    assert reason(begun, "Progressing")[1] == "Starting", "until it tells what it does itself"


def test_a_store_that_was_away_is_tried_again_and_named():
    first = plan_of()
    report = FailureReport(resource=identity(), attempt=1, reason=FailureReason.STORE_UNAVAILABLE, message="s3://x: no answer")
    children = running(first, jobDeploymentStatus="Running")
    running_on = plan_of(job(status=dict(first.status)), observed(*children, reports=(report,)))
    ended = plan_of(job(status=dict(running_on.status)), observed(*running(first, **failed())))
    assert reason(ended) == ("Unknown", "Recovering")
    [attempt] = ended.status["attempts"]
    assert (attempt["reason"], attempt["message"]) == ("StoreUnavailable", "s3://x: no answer")


def test_an_attempt_has_come_as_far_as_the_checkpoint_from_which_the_next_goes_on():
    first = plan_of()
    status = dict(first.status)
    status["attempts"] = [{"number": 1, "toEpoch": 7, "endTime": "2026-11-24T11:00:00Z"}, {"number": 2}]
    for resumed, reached in ((9, 9), (5, 7)):
        told = progress(12, attempt=2).model_copy(update={"resumed_from_epoch": resumed})
        plan = plan_of(job(status=status), observed(reports=(told,)))
        before, now = plan.status["attempts"]
        assert (before["toEpoch"], now["fromEpoch"], now["toEpoch"]) == (reached, resumed, 12)


def test_attempts_that_ended_before_they_told_anything_stand_between_those_beside_them():
    status = dict(plan_of().status)
    status["attempts"] = [{"number": 1, "toEpoch": 7, "reason": "HeadLost", "endTime": "2026-11-24T11:00:00Z"}]
    for number in (2, 3):
        plan = plan_of(job(status=status), observed())
        last = plan.status["attempts"][-1]
        assert (last["number"], last["fromEpoch"], last["toEpoch"]) == (number, 7, 7)
        failing = plan_of(job(status=dict(plan.status)), observed(*running(plan, **failed())))
        assert "in epoch" not in condition(failing.status, "Progressing")["message"]
        status = dict(failing.status)
        status["attempts"][-1]["endTime"] = "2026-11-24T11:00:00Z"
    again = plan_of(job(status=status), observed())
    for resumed, expected in (
        (7, [(0, 7), (7, 7), (7, 7), (7, 12)]),
        (9, [(0, 7), (7, 7), (7, 9), (9, 12)]),
        (5, [(0, 7), (5, 5), (5, 5), (5, 12)]),
    ):
        report = progress(12, attempt=4).model_copy(update={"resumed_from_epoch": resumed})
        told = plan_of(job(status=dict(again.status)), observed(reports=(report,))).status["attempts"]
        assert [(attempt.get("fromEpoch", 0), attempt["toEpoch"]) for attempt in told] == expected


def test_an_attempt_of_which_nothing_was_heard_may_have_trained_up_to_the_checkpoint():
    status = dict(plan_of().status)
    status["attempts"] = [{"number": 1, "reason": "HeadLost", "endTime": "2026-11-24T11:00:00Z"}, {"number": 2}]
    report = progress(12, attempt=2).model_copy(update={"resumed_from_epoch": 9})
    first, second = plan_of(job(status=status), observed(reports=(report,))).status["attempts"]
    assert (first.get("fromEpoch", 0), first["toEpoch"]) == (0, 9)
    assert (second["fromEpoch"], second["toEpoch"]) == (9, 12)


def test_retries_end_at_the_backoff_limit_and_tell_the_last_cause():
    spec = {"runPolicy": {"backoffLimit": 1}}
    status = dict(first_plan(**spec).status)
    status["attempts"] = [{"number": 1, "reason": "ContainerFailed", "endTime": "2026-11-24T11:00:00Z"}, {"number": 2}]
    resource = job(status=status, **spec)
    ray_job = live(next(c for c in plan_of(resource).apply if c["kind"] == "RayJob"), status=failed(message="boom"))
    plan = plan_of(resource, observed(ray_job))
    assert reason(plan) == ("False", "BackoffLimitExceeded")
    assert "boom" in condition(plan.status, "Succeeded")["message"]


def test_a_lost_head_ends_the_attempt_and_its_ray_job_goes_with_the_next():
    first = plan_of()
    children = running(first, jobDeploymentStatus="Running")
    lost = [{"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound"}]
    cluster = ray_cluster("iris-1-abcde", children[-1], conditions=lost)
    ended = plan_of(job(status=dict(first.status)), observed(*children, cluster))
    assert ended.status["attempts"][0]["reason"] == "HeadLost"
    due = plan_of(job(status=dict(ended.status)), observed(*children, cluster), now=later(6))
    assert Ref("RayJob", "default", "iris-1") in {deletion.ref for deletion in due.delete}


def test_the_kubelets_own_words_about_an_image_reach_the_condition():
    first = plan_of()
    labels = names.labels("TrainingJob", "iris", attempt="1")
    words = 'failed to resolve image "nowhere/none:1": not found'
    waiting = {"name": "ray", "image": "nowhere/none:1", "state": {"waiting": {"reason": "ErrImagePull", "message": words}}}
    head = pod("head", labels, "head", containerStatuses=[waiting])
    plan = plan_of(job(status=dict(first.status)), observed(*running(first, jobDeploymentStatus="Initializing"), head))
    assert reason(plan) == ("Unknown", "ImagePullFailed")
    assert reason(plan, "Progressing") == ("False", "ImagePullFailed")
    assert words in condition(plan.status, "Progressing")["message"]


def test_a_start_deadline_tells_the_cause_that_was_seen_before_the_pods_were_deleted():
    first = plan_of()
    labels = names.labels("TrainingJob", "iris", attempt="1")
    waiting = {"name": "ray", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    seen = observed(*running(first, jobDeploymentStatus="Initializing"), pod("head", labels, "head", containerStatuses=[waiting]))
    held = plan_of(job(status=dict(first.status)), seen)
    over = {"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded", "message": "passed"}
    plan = plan_of(job(status=dict(held.status)), observed(*running(first, **over)))
    assert reason(plan) == ("False", "StartDeadlineExceeded")
    assert "no such image" in condition(plan.status, "Succeeded")["message"]


def test_workers_that_find_no_room_beyond_the_fewest_are_no_failure():
    spec = {"training": {"engine": "Torch"}, "workers": {"min": 1, "max": 3}}
    first = first_plan(**spec)
    labels = names.labels("TrainingJob", "iris", attempt="1")
    pending = pod("w2", labels, conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: gpu"}])
    seen = observed(*running(first, jobDeploymentStatus="Running"), pending, reports=(progress(),))
    assert reason(plan_of(job(status=dict(first.status), **spec), seen)) == ("Unknown", "Training")


def test_a_suspended_job_that_never_ran_has_no_children():
    plan = first_plan(suspend=True)
    assert plan.apply == ()
    assert reason(plan, "Suspended") == ("True", "SuspendedByUser")


def test_suspending_a_running_job_passes_the_wish_on_and_waits_until_the_pods_are_gone():
    first = plan_of()
    asked = plan_of(job(status=dict(first.status), suspend=True), observed(*running(first, jobDeploymentStatus="Running")))
    ray_job = next(child for child in asked.apply if child["kind"] == "RayJob")
    assert ray_job["spec"]["suspend"] is True
    assert reason(asked, "Suspended")[0] == "False"
    gone = plan_of(job(status=dict(first.status), suspend=True), observed(*running(first, jobDeploymentStatus="Suspended")))
    assert reason(gone, "Suspended") == ("True", "SuspendedByUser")


def test_a_deadline_counts_over_all_attempts():
    spec = {"runPolicy": {"activeDeadlineSeconds": 100}}
    first = first_plan(**spec)
    resource = job(status=dict(first.status), **spec)
    children = running(first, jobDeploymentStatus="Running")
    assert plan_of(resource, observed(*children), now=later(40)).requeue_after == 60
    over = plan_of(resource, observed(*children), now=later(100))
    assert reason(over) == ("False", "DeadlineExceeded")
    assert [deletion.ref.kind for deletion in over.delete] == ["RayJob"]


def test_a_deadline_waits_while_a_job_is_suspended():
    spec = {"runPolicy": {"activeDeadlineSeconds": 100}}
    first = first_plan(**spec)
    asleep = observed(*running(first, jobDeploymentStatus="Suspended"))
    suspended = plan_of(job(status=dict(first.status), suspend=True, **spec), asleep, now=later(40))
    at_rest = plan_of(job(status=dict(suspended.status), suspend=True, **spec), asleep, now=later(5000))
    assert (at_rest.status, at_rest.requeue_after) == (suspended.status, None)
    awake = observed(*running(first, jobDeploymentStatus="Running"))
    resumed = plan_of(job(status=dict(suspended.status), **spec), awake, now=later(5000))
    assert reason(resumed) == ("Unknown", "Starting")
    again = job(status=dict(resumed.status), **spec)
    assert plan_of(again, awake, now=later(5010)).requeue_after == 50
    assert reason(plan_of(again, awake, now=later(5060))) == ("False", "DeadlineExceeded")


def test_a_finished_job_with_a_time_to_live_deletes_itself():
    spec = {"runPolicy": {"ttlSecondsAfterFinished": 30}}
    first = first_plan(**spec)
    done = plan_of(job(status=dict(first.status), **spec), observed(reports=(result(),)))
    resource = job(status=dict(done.status), **spec)
    assert plan_of(resource, now=later(10)).requeue_after == 20
    assert [deletion.ref.kind for deletion in plan_of(resource, now=later(30)).delete] == ["TrainingJob"]


def test_suspended_just_after_a_crash_a_job_that_runs_unseen_is_told_to_stop():
    started = running(first_plan(), jobDeploymentStatus="Running")
    plan = plan_of(job(suspend=True), observed(*started))
    assert plan.apply[-1]["spec"]["suspend"] is True
    assert condition(plan.status, "Suspended")["status"] == "False"
    assert plan.status["attempts"][0]["number"] == 1


def test_what_runs_on_when_a_job_has_failed_is_deleted_at_once_and_when_it_succeeded_after_a_while():
    spec = {"runPolicy": {"activeDeadlineSeconds": 100}}
    first = first_plan(**spec)
    children = running(first, jobDeploymentStatus="Running")
    failed = plan_of(job(status=dict(first.status), **spec), observed(*children), now=later(100))
    after = plan_of(job(status=dict(failed.status), **spec), observed(*children), now=later(101))
    assert [deletion.ref for deletion in after.delete] == [Ref("RayJob", "default", "iris-1")]
    done = plan_of(job(status=dict(first.status), **spec), observed(*children, reports=(result(),)))
    after = plan_of(job(status=dict(done.status), **spec), observed(*children), now=later(1))
    assert after.delete == ()
    assert after.requeue_after == 59


def test_attempts_before_the_last_are_deleted_also_when_the_job_has_ended_meanwhile():
    first = first_plan()
    failed = running(first, jobDeploymentStatus="Failed", reason="AppFailed", message="boom")
    recovering = plan_of(job(status=dict(first.status)), observed(*failed))
    again = plan_of(job(status=dict(recovering.status)), observed(*failed), now=later(10))
    both = [*failed, *running(again, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")]
    done = plan_of(job(status=dict(again.status)), observed(*both, reports=(result(attempt=2),)), now=later(20))
    after = plan_of(job(status=dict(done.status)), observed(*both), now=later(21))
    assert {deletion.ref.name for deletion in after.delete} == {"iris-1", "iris-1-config"}


def test_without_kuberay_nothing_is_made_and_the_condition_says_what_to_install():
    plan = plan_of(seen=observed(missing_kinds=("RayJob",)))
    assert plan.apply == () == plan.ensure
    assert reason(plan, "Accepted") == ("False", "PrerequisiteMissing")
    assert "Install KubeRay" in condition(plan.status, "Accepted")["message"]


def test_a_missing_config_map_is_named_and_waited_for():
    spec = {"data": {"configMapRef": {"name": "rows", "key": "a.csv"}, "target": "y"}}
    plan = plan_of(job(**spec), observed(absent=frozenset({Ref("ConfigMap", "default", "rows")})))
    assert reason(plan, "Accepted") == ("False", "ReferenceNotFound")
    assert plan.apply == ()
    assert plan.requeue_after == 10


def test_a_child_of_somebody_else_is_a_conflict_and_nothing_is_made():
    plan = plan_of(seen=observed(conflicts={Ref("RayJob", "default", "iris-1"): "Deployment other"}))
    assert reason(plan, "Accepted") == ("False", "Conflict")
    assert plan.apply == ()


def test_a_refused_child_is_told_in_the_apiservers_words():
    plan = plan_of(seen=observed(refused={Ref("RayJob", "default", "iris-1"): "exceeded quota: pods"}))
    assert reason(plan) == ("Unknown", "QuotaExceeded")


def test_numpy_trains_on_the_head_alone_and_torch_on_workers():
    def cluster(**spec):
        return first_plan(**spec).apply[-1]["spec"]["rayClusterSpec"]

    alone = cluster()
    assert "workerGroupSpecs" not in alone
    assert alone["headGroupSpec"]["rayStartParams"]["num-cpus"] == "1"
    elastic = cluster(training={"engine": "Torch"}, workers={"min": 1, "max": 3, "gpus": 1})
    group = elastic["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 3)
    assert elastic["enableInTreeAutoscaling"] is True
    assert elastic["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_running_attempt_keeps_its_image_when_the_platforms_changes():
    first = plan_of()
    newer = SETTINGS.model_copy(update={"images": SETTINGS.images.model_copy(update={"numpy": "newer"})})
    plan = plan_of(job(status=dict(first.status)), observed(*running(first)), settings=newer)
    image = plan.apply[-1]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    assert image == SETTINGS.images.numpy


def test_a_family_that_only_torch_has_is_trained_by_torch_on_its_image():
    plan = first_plan(data={"uri": "s3://shop/digits.npz", "target": "digit"}, model={"family": "ConvolutionalNetwork"})
    config = next(child for child in plan.apply if child["kind"] == "ConfigMap")
    assert json.loads(config["data"]["config.json"])["engine"] == "Torch"
    cluster = plan.apply[-1]["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == SETTINGS.images.torch
    reasons = {choice["field"]: choice["reason"] for choice in plan.status["chosen"]}
    assert reasons["training.engine"] == "only torch has ConvolutionalNetwork"


def test_no_container_of_the_users_code_can_reach_a_token_of_the_kubernetes_api():
    plan = first_plan(training={"engine": "Torch"}, workers={"max": 2})
    cluster = plan.apply[-1]["spec"]["rayClusterSpec"]
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        assert template["spec"]["automountServiceAccountToken"] is False
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        assert not any(mount["mountPath"].startswith("/var/run/secrets/kubernetes.io") for mount in mounts)
    assert cluster["autoscalerOptions"]["volumeMounts"][0]["name"] == "kube-api"
