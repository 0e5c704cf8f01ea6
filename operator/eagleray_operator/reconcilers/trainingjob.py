"""Decides what a TrainingJob needs now."""

from dataclasses import replace
from datetime import datetime, timedelta

from eagleray_operator.api import names
from eagleray_operator.api.conditions import ConditionType, find
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import Attempt, Evaluation, TrainingJob, TrainingJobStatus
from eagleray_operator.children import claim, configmap, networkpolicy, rayjob, secret
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers import (
    autoscaling,
    causes,
    engines,
    gates,
    inputs,
    jobconditions,
    placement,
    reports,
    retry,
    starting,
    timing,
)
from eagleray_operator.reconcilers.attempts import FINAL, AttemptState, Finding, examine
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.plan import Deletion, Observed, Plan
from eagleray_operator.reconcilers.prerequisites import unmet
from eagleray_operator.reconcilers.starting import Start
from eagleray_operator.settings import Settings

LEFT_OVER_SECONDS = 60
"""How long the pods of a finished job may take to go by themselves before we delete its RayJob."""


def reconcile(job: TrainingJob, observed: Observed, settings: Settings, now: datetime, key: bytes) -> Plan:
    """The plan for a job at that moment; `key` is the operator's own, from which Ray's token is derived."""
    if job.metadata.deletion_timestamp:
        return Plan()
    if jobconditions.finished(job.status):
        return _after_the_end(job, observed, now)
    return _run(job, observed, settings, now, key)


def _run(job: TrainingJob, observed: Observed, settings: Settings, now: datetime, key: bytes) -> Plan:
    status = reports.fold(job.status, observed.reports, now)
    if status.model is not None:
        return _succeed(job, status, now)
    limit = job.spec.run_policy.active_deadline_seconds
    left = None if limit is None else timing.active_left(job.status, limit, now)
    if left == 0:
        cause = Cause(Reason.DEADLINE_EXCEEDED, f"{limit} s are spent, over all attempts. Raise runPolicy.activeDeadlineSeconds.")
        return _fail(job, status, observed, cause, now)

    origin = starting.start_of(job, observed, settings)
    problem = unmet(observed) or inputs.without_key(job, observed)
    if problem is not None and (observed.missing_kinds or not status.attempts):
        return jobconditions.conclude(job, status, jobconditions.held_up(problem), Plan(requeue_after=10), now, accepted=problem)
    attempt = status.attempts[-1] if status.attempts else None
    # One that was made just before a crash is not in the status, but it runs.
    started = observed.child(Ref("RayJob", job.metadata.namespace, names.ray_job(job.metadata.name, 1))) is not None
    if attempt is None and job.spec.suspend and not started:
        return jobconditions.conclude(job, status, jobconditions.suspended(), Plan(), now)
    begins = not started if attempt is None else attempt.end_time is not None
    if origin.problem is not None and begins:
        return _without_origin(job, status, origin.problem, now)
    if attempt is None or attempt.end_time is not None:
        if attempt is not None and now < (start := retry.next_time(_time(attempt.end_time), len(status.attempts))):
            wait = (start - now).total_seconds()
            return jobconditions.conclude(job, status, jobconditions.recovering(status, attempt), Plan(requeue_after=wait), now)
        number = attempt.number + 1 if attempt else 1
        # Until it tells where it resumed.
        epoch = attempt.to_epoch if attempt else 0
        attempt = Attempt(number=number, start_time=now, from_epoch=epoch, to_epoch=epoch)
        # While a child is refused the attempt has not all that it needs, and must not be told as begun.
        if not observed.refused:
            status = reports.with_attempt(status.model_copy(update={"start_time": status.start_time or now}), attempt)

    finding = _examine(job, attempt, observed, now)
    if observed.refused:
        finding = Finding(AttemptState.STARTING, causes.of_refusal(observed.refused))
    if finding.state is AttemptState.FAILED and finding.cause is not None:
        return _attempt_failed(job, status, observed, attempt, finding.cause, now)
    if attempt.reason is not None and not retry.may_help(attempt.reason):
        return _fail(job, status, observed, Cause(attempt.reason, attempt.message), now)
    if finding.state is AttemptState.SUCCEEDED:
        cause = Cause(Reason.CONTAINER_FAILED, "The training process ended without telling its result.")
        return _attempt_failed(job, status, observed, attempt, cause, now)

    engine, choice = engines.for_training(job.spec)
    status = status.model_copy(update={"chosen": reports.with_choices(status.chosen, [choice] if choice else [])})
    plan = _children(job, attempt, engine, origin, observed, settings, key)
    waits = [plan.requeue_after] if plan.requeue_after is not None else []
    if left is not None:
        waits.append(left)
    if finding.look_again is not None:
        waits.append(finding.look_again)
    plan = replace(plan, delete=_old_attempts(job, attempt, observed), requeue_after=min(waits, default=None))
    if job.spec.suspend:
        state = jobconditions.suspended() if finding.state is AttemptState.SUSPENDED else jobconditions.suspending()
    else:
        running = [pod for pod in observed.of_kind("Pod") if pod.get("status", {}).get("phase") == "Running"]
        ray_job = observed.child(_ray_job(job, attempt))
        state = jobconditions.underway(job, status, attempt, finding, ray_job, len(running))
    return jobconditions.conclude(job, status, state, plan, now, accepted=problem)


def _without_origin(job: TrainingJob, status: TrainingJobStatus, problem: Cause, now: datetime) -> Plan:
    """The model is not there that training starts from; a job that makes it is waited for."""
    plan = Plan(requeue_after=10)
    if problem.reason is not Reason.WAITING_FOR_JOB:
        return jobconditions.conclude(job, status, jobconditions.held_up(problem), plan, now, accepted=problem)
    state = jobconditions.State(("True", problem.reason, problem.message), ("Unknown", problem.reason, problem.message))
    return jobconditions.conclude(job, status, state, plan, now)


def _children(
    job: TrainingJob,
    attempt: Attempt,
    engine: engines.Decided,
    origin: Start,
    observed: Observed,
    settings: Settings,
    key: bytes,
) -> Plan:
    live = observed.child(_ray_job(job, attempt))
    training = rayjob.Training(
        engine=engine,
        output=placement.output_of(job, settings),
        checkpoints=placement.checkpoints_of(job, settings),
        data=placement.rows_at(job.spec.data.uri, job, settings),
        validation=placement.rows_at(job.spec.data.split.validation_uri, job, settings),
        test=placement.rows_at(job.spec.data.split.test_uri, job, settings),
        base=placement.base_of(job, settings),
        code=placement.code_of(job, settings),
        image=engines.image(engine, job.spec.runtime.image, settings),
        start=origin.store,
        start_digest=origin.digest,
    )
    apply = [networkpolicy.build(names.TRAINING_JOB, job.metadata, settings)]
    if placement.needs_claim(job, settings) and (live is None or observed.of_kind("PersistentVolumeClaim")):
        name = names.model_claim(job.metadata.name)
        apply.append(claim.build(job, observed.child(Ref("PersistentVolumeClaim", job.metadata.namespace, name))))
    config_name = names.training_config(job.metadata.name, attempt.number)
    if observed.child(Ref("ConfigMap", job.metadata.namespace, config_name)) is None:
        config = rayjob.config(job, attempt.number, training, settings)
        apply.append(configmap.build(names.TRAINING_JOB, job.metadata, config_name, config, attempt=str(attempt.number)))
    wanted = rayjob.build(job, attempt.number, training, settings, live)
    apply.append(wanted)
    # The attempt is in the status once all that it needs has been made.
    is_new = live is None or attempt.number not in [known.number for known in job.status.attempts]
    needs_token = is_new or _lacks_token(job, attempt, observed)
    return Plan(
        ensure=(secret.of_attempt(job.metadata, attempt.number, key),) if needs_token else (),
        apply=tuple(apply),
        patch=autoscaling.bounds_of_cluster(_ray_cluster(job, attempt, observed), wanted["spec"]["rayClusterSpec"]),
    )


def _lacks_token(job: TrainingJob, attempt: Attempt, observed: Observed) -> bool:
    return causes.lacks_secret(_pods(attempt, observed), names.ray_token_secret(job.metadata.uid, attempt.number))


def _ray_job(job: TrainingJob, attempt: Attempt) -> Ref:
    return Ref("RayJob", job.metadata.namespace, names.ray_job(job.metadata.name, attempt.number))


def _pods(attempt: Attempt, observed: Observed) -> list[Manifest]:
    number = str(attempt.number)
    return [pod for pod in observed.of_kind("Pod") if pod["metadata"]["labels"].get(names.LABEL_ATTEMPT) == number]


def _ray_cluster(job: TrainingJob, attempt: Attempt, observed: Observed) -> Manifest | None:
    ray_job = observed.child(_ray_job(job, attempt))
    name = (ray_job or {}).get("status", {}).get("rayClusterName")
    return observed.child(Ref("RayCluster", job.metadata.namespace, name)) if name else None


def _examine(job: TrainingJob, attempt: Attempt, observed: Observed, now: datetime) -> Finding:
    before = find(job.status.conditions, ConditionType.PROGRESSING)
    latched = Cause(before.reason, before.message) if before and before.status == "False" else None
    ray_job, cluster = observed.child(_ray_job(job, attempt)), _ray_cluster(job, attempt, observed)
    finding = examine(ray_job, cluster, _pods(attempt, observed), latched, now)
    if finding.state is AttemptState.FAILED and attempt.reason is not None:
        return Finding(finding.state, Cause(attempt.reason, attempt.message))
    if finding.state is AttemptState.STARTING and _lacks_token(job, attempt, observed):
        # The same plan makes it again: nothing that a user has to hear of, nor what a head that goes later goes for.
        return replace(finding, cause=None)
    if finding.state is AttemptState.STARTING and finding.cause is None:
        claims = observed.of_kind("PersistentVolumeClaim")
        return replace(finding, cause=causes.of_claims(claims, _pods(attempt, observed), now))
    return finding


def _attempt_failed(
    job: TrainingJob, status: TrainingJobStatus, observed: Observed, attempt: Attempt, cause: Cause, now: datetime
) -> Plan:
    ended = timing.given_up(attempt, cause, now)
    status = reports.with_attempt(status, ended)
    if not retry.may_help(cause.reason):
        return _fail(job, status, observed, cause, now)
    limit = job.spec.run_policy.backoff_limit
    failures = ended.number
    if failures > limit:
        if limit == 0:
            return _fail(job, status, observed, cause, now)
        words = f"{failures} attempts failed, the last by {cause.reason}: {cause.message}"
        return _fail(job, status, observed, Cause(Reason.BACKOFF_LIMIT_EXCEEDED, words), now)
    wait = (retry.next_time(now, len(status.attempts)) - now).total_seconds()
    return jobconditions.conclude(job, status, jobconditions.recovering(status, ended), Plan(requeue_after=wait), now)


def _old_attempts(job: TrainingJob, attempt: Attempt, observed: Observed) -> tuple[Deletion, ...]:
    """RayJobs and configs of attempts whose end is already in the status."""
    ended = {str(known.number) for known in job.status.attempts if known.end_time is not None}
    ended.discard(str(attempt.number))
    return tuple(
        _deletion(child)
        for kind in ("RayJob", "ConfigMap")
        for child in observed.of_kind(kind)
        if child["metadata"].get("labels", {}).get(names.LABEL_ATTEMPT) in ended
    )


def _deletion(child: Manifest) -> Deletion:
    return Deletion(Ref.of(child), child["metadata"]["uid"])


def _as_seen(child: Manifest) -> Deletion:
    return Deletion(Ref.of(child), child["metadata"]["uid"], child["metadata"]["resourceVersion"])


def _succeed(job: TrainingJob, status: TrainingJobStatus, now: datetime) -> Plan:
    attempt = status.attempts[-1].model_copy(update={"reason": Reason.COMPLETED, "message": "", "end_time": now})
    measured = status.evaluation or Evaluation()
    measured = measured.model_copy(update={"gates": gates.judge(job.spec.evaluation.gates, measured.metrics)})
    status = reports.with_attempt(status, attempt).model_copy(update={"completion_time": now, "evaluation": measured})
    model = status.model
    scores = [f"{metric.name} {metric.value:.4g} on {metric.part}" for metric in measured.metrics if metric.part == "Test"]
    message = f"Saved {model.digest if model else ''} to {model.uri if model else ''}. {', '.join(scores)}".strip()
    state = jobconditions.State(("False", Reason.COMPLETED, message), ("True", Reason.COMPLETED, message))
    return jobconditions.conclude(job, status, state, Plan(requeue_after=LEFT_OVER_SECONDS), now)


def _fail(job: TrainingJob, status: TrainingJobStatus, observed: Observed, cause: Cause, now: datetime) -> Plan:
    if status.attempts and status.attempts[-1].end_time is None:
        status = reports.with_attempt(status, timing.given_up(status.attempts[-1], cause, now))
    status = status.model_copy(update={"completion_time": now})
    state = jobconditions.State(("False", cause.reason, cause.message), ("False", cause.reason, cause.message))
    return jobconditions.conclude(job, status, state, Plan(delete=tuple(map(_as_seen, _left_over(status, observed)))), now)


def _left_over(status: TrainingJobStatus, observed: Observed) -> list[Manifest]:
    """RayJobs that are not kept as the record of how a job ended.

    One that has ended is, but not where the runtime told the end before: whether the RayJob has ended by then is chance.
    """
    told = bool(status.attempts) and status.attempts[-1].reason in FINAL
    return [child for child in observed.of_kind("RayJob") if told or not _terminal(child)]


def _terminal(ray_job: Manifest) -> bool:
    return (ray_job.get("status") or {}).get("jobDeploymentStatus") in ("Complete", "Failed")


def _after_the_end(job: TrainingJob, observed: Observed, now: datetime) -> Plan:
    """A finished job keeps its status; left are its time to live and pods that did not go by themselves."""
    end = _time(job.status.completion_time)
    left_over = _left_over(job.status, observed)
    delete = _old_attempts(job, job.status.attempts[-1], observed) if job.status.attempts else ()
    waits = []
    if left_over:
        # Only the pods of a job that succeeded go by themselves.
        grace = LEFT_OVER_SECONDS if job.status.model is not None else 0
        limit = end + timedelta(seconds=grace)
        if now >= limit:
            known = {deletion.ref for deletion in delete}
            delete += tuple(_as_seen(child) for child in left_over if Ref.of(child) not in known)
        else:
            waits.append(limit - now)
    ttl = job.spec.run_policy.ttl_seconds_after_finished
    if ttl is not None:
        limit = end + timedelta(seconds=ttl)
        if now >= limit:
            own = Ref(names.TRAINING_JOB, job.metadata.namespace, job.metadata.name)
            return Plan(delete=(Deletion(own, job.metadata.uid),))
        waits.append(limit - now)
    status = None
    if job.status.observed_generation != job.metadata.generation:
        # kubectl wait refuses conditions of an older generation; what may still change of a finished job changes nothing.
        generation = job.metadata.generation
        conditions = [condition.model_copy(update={"observed_generation": generation}) for condition in job.status.conditions]
        told = job.status.model_copy(update={"observed_generation": generation, "conditions": conditions})
        status = jobconditions.dump(told)
    return Plan(delete=delete, status=status, requeue_after=min(waits).total_seconds() if waits else None)


def _time(value: datetime | None) -> datetime:
    if value is None:
        raise ValueError("an ended attempt or job has an end time")
    return value
