"""What the conditions of a TrainingJob say, and the status that is written with them."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from eagleray_operator.api.conditions import ConditionStatus, ConditionType, find
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import Attempt, Progress, TrainingJob, TrainingJobStatus
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers import engines, gates, reports, timing
from eagleray_operator.reconcilers.attempts import RESUMES, AttemptState, Finding
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.plan import Plan
from eagleray_operator.reconcilers.summary import Conditions, transition
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.contract.reports import Stage

STAGE_REASON = {
    Stage.PREPARING: Reason.PREPARING,
    Stage.TRAINING: Reason.TRAINING,
    Stage.EVALUATING: Reason.EVALUATING,
    Stage.SAVING: Reason.SAVING,
}


@dataclass(frozen=True)
class State:
    """What the job's conditions are told from."""

    progressing: tuple[ConditionStatus, Reason, str]
    outcome: tuple[ConditionStatus, Reason, str]
    suspended: bool = False


def finished(status: TrainingJobStatus) -> bool:
    """Whether the job has come to its end."""
    summary = find(status.conditions, ConditionType.SUCCEEDED)
    return status.completion_time is not None and summary is not None and summary.status != "Unknown"


def underway(
    job: TrainingJob, status: TrainingJobStatus, attempt: Attempt, finding: Finding, ray_job: Manifest | None, running: int
) -> State:
    """An attempt starts, with so many pods that run, or trains."""
    if finding.cause is not None:
        held = ("False", finding.cause.reason, finding.cause.message)
        return State(held, ("Unknown", finding.cause.reason, finding.cause.message))  # type: ignore[arg-type]
    progress = status.progress
    if finding.state is AttemptState.RUNNING and progress is not None and progress.stage is not None:
        reason = STAGE_REASON[progress.stage]
        least, most = _bounds(ray_job)
        workers = f"{progress.workers} of {least}..{most} workers"
        message = f"Epoch {progress.epoch} of {progress.epochs}, {workers}, attempt {attempt.number}"
        message = f"{_training(job, status, progress)}{message}"
        if attempt.from_epoch:
            message += f" from epoch {attempt.from_epoch}"
        if progress.workers < most and most > least:
            message += "; more workers join as capacity appears"
        if (least, most) != (job.spec.workers.min, job.spec.workers.most):
            message += "; the next attempt takes the changed spec.workers"
        return State(("True", reason, message), ("Unknown", reason, message))
    engine, _ = engines.for_training(job.spec)
    wanted = 1 if engine is Engine.NUMPY else 1 + job.spec.workers.min
    message = f"{min(running, wanted)} of {wanted} pods run, attempt {attempt.number}."
    return State(("True", Reason.STARTING, message), ("Unknown", Reason.STARTING, message))


def _training(job: TrainingJob, status: TrainingJobStatus, progress: Progress) -> str:
    """Which of several trainings runs, as the beginning of a message."""
    over_folds = job.spec.evaluation.cross_validation
    if progress.trial and status.search:
        fold = f", fold {progress.fold} of {over_folds.folds}" if progress.fold and over_folds else ""
        return f"Trial {progress.trial} of {status.search.trials}{fold}: "
    return f"Training {progress.fold} of {over_folds.folds + 1}: " if progress.fold and over_folds else ""


def _bounds(ray_job: Manifest | None) -> tuple[int, int]:
    """Fewest and most workers of the running attempt, which keeps those that it began with."""
    groups = ray_job["spec"]["rayClusterSpec"].get("workerGroupSpecs") if ray_job else None
    return (groups[0]["minReplicas"], groups[0]["maxReplicas"]) if groups else (1, 1)


def recovering(status: TrainingJobStatus, attempt: Attempt) -> State:
    """An attempt has failed, and the next one follows."""
    trial = status.progress.trial if status.progress else None
    # How many epochs of those that it reached are in a checkpoint nobody here knows.
    reached = "" if trial or attempt.to_epoch <= attempt.from_epoch else f" in epoch {attempt.to_epoch}"
    origin = f"trial {trial}" if trial else "the newest checkpoint"
    words = attempt.message.removesuffix(RESUMES).rstrip()
    message = f"Attempt {attempt.number} ended by {attempt.reason}{reached}: {words} The next goes on from {origin}."
    return State(("True", Reason.RECOVERING, message), ("Unknown", Reason.RECOVERING, message))


def suspended() -> State:
    """The user has suspended the job, and it has no pods."""
    message = "spec.suspend is true: the pods are given back, the checkpoint is kept. Set it to false to go on."
    return State(("False", Reason.SUSPENDED, message), ("Unknown", Reason.SUSPENDED_BY_USER, message), suspended=True)


def suspending() -> State:
    """The user has suspended the job, and its pods end."""
    message = "spec.suspend is true: the pods are being given back."
    return State(("True", Reason.SUSPENDED, message), ("Unknown", Reason.SUSPENDED_BY_USER, message))


def held_up(problem: Cause) -> State:
    """The job waits for what is not there."""
    return State(("False", problem.reason, problem.message), ("Unknown", problem.reason, problem.message))


def conclude(
    job: TrainingJob,
    status: TrainingJobStatus,
    state: State,
    plan: Plan,
    now: datetime,
    accepted: Cause | None = None,
) -> Plan:
    """The plan with the status that goes with it; `accepted` is why the job is not, if so it is."""
    conditions = Conditions(job.metadata.generation)
    if accepted is None:
        conditions.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    else:
        conditions.set(ConditionType.ACCEPTED, "False", accepted.reason, accepted.message)
    conditions.set(ConditionType.SUCCEEDED, *state.outcome)
    conditions.set(ConditionType.PROGRESSING, *state.progressing)
    suspended: ConditionStatus = "True" if state.suspended else "False"
    conditions.set(ConditionType.SUSPENDED, suspended, Reason.SUSPENDED_BY_USER if state.suspended else Reason.NOT_SUSPENDED)
    outcome, reason, message = state.outcome
    passed = gates.verdict(status.evaluation.gates if status.evaluation else []) if outcome == "True" else gates.NOT_EVALUATED
    conditions.set(ConditionType.GATE_PASSED, *passed)
    for type_, wanted in ((ConditionType.COMPLETE, "True"), (ConditionType.FAILED, "False")):
        if outcome == wanted:
            conditions.set(type_, "True", reason, message)
        else:
            conditions.set(type_, "False", Reason.NOT_FINISHED if outcome == "Unknown" else reason)
    if state.progressing[1] is not Reason.TRAINING:
        status = reports.without_running_trials(status)
    if outcome != "Unknown" or state.suspended or state.progressing[1] is Reason.RECOVERING:
        status = reports.resting(status)
    settled = conditions.settled(job.status.conditions, now)
    new = status.model_copy(update={"observed_generation": job.metadata.generation, "conditions": settled})
    if new != job.status:
        new = timing.booked(job.status, timing.at_rest(job.status, new), job.metadata.creation_timestamp or now, now)
    events = transition(job.status.conditions, settled, ConditionType.SUCCEEDED, "Train")
    return replace(plan, status=dump(new), events=events)


def dump(status: TrainingJobStatus) -> dict[str, Any]:
    """The status as it is written."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
