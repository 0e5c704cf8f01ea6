"""Reports of the runtime folded into a job's status."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import Attempt, Evaluation, Progress, TrainingJobStatus
from eagleray_runtime.contract.reports import Choice, FailureReport, ProgressReport, Report, ResultReport, Spent


def fold(status: TrainingJobStatus, reports: Iterable[Report], now: datetime) -> TrainingJobStatus:
    """The status with the reports taken in at that moment; those of another attempt than the open one are left out.

    A failure is noted at its attempt, whose end KubeRay tells; a result is the end.
    """
    for report in reports:
        current = status.attempts[-1] if status.attempts else None
        if current is None or current.end_time is not None or report.attempt != current.number:
            continue
        if isinstance(report, ProgressReport):
            status = _progress(status, report, now)
        elif isinstance(report, ResultReport):
            status = _result(_progress(status, report.progress, now), report)
        elif isinstance(report, FailureReport):
            status = with_attempt(
                status, current.model_copy(update={"reason": Reason(report.reason.value), "message": report.message})
            )
    return status


def with_attempt(status: TrainingJobStatus, attempt: Attempt) -> TrainingJobStatus:
    """The status with that attempt in the place of the one of its number, or added; the newest ten are kept."""
    others = [known for known in status.attempts if known.number != attempt.number]
    attempts = sorted([*others, attempt], key=lambda known: known.number)[-10:]
    return status.model_copy(update={"attempts": attempts})


def without_running_trials(status: TrainingJobStatus) -> TrainingJobStatus:
    """The status of a job that trains no more, or not now: no trial of its search runs."""
    if status.search is None or not status.search.running:
        return status
    return status.model_copy(update={"search": status.search.model_copy(update={"running": 0})})


def resting(status: TrainingJobStatus) -> TrainingJobStatus:
    """The status of a job that has no attempt under way: it does nothing, and nobody knows how long the rest will take."""
    if status.progress is None:
        return status
    left = None if status.model is None else status.progress.estimated_remaining_seconds
    progress = status.progress.model_copy(update={"stage": None, "workers": 0, "estimated_remaining_seconds": left})
    return status.model_copy(update={"progress": progress})


def with_choices(chosen: Iterable[Choice], more: Iterable[Choice]) -> list[Choice]:
    """Choices by field; a later one replaces an earlier one."""
    by_field = {choice.field: choice for choice in [*chosen, *more]}
    return list(by_field.values())[:32]


def _progress(status: TrainingJobStatus, report: ProgressReport, now: datetime) -> TrainingJobStatus:
    remaining = report.estimated_remaining_seconds
    progress = Progress(
        stage=report.stage,
        epoch=report.epoch,
        epochs=report.epochs,
        step=report.step,
        trial=report.trial or None,
        fold=report.fold or None,
        percent=int(report.percent),
        estimated_remaining_seconds=None if remaining is None else round(remaining),
        workers=report.workers,
        metrics=report.metrics,
        history=report.history,
    )
    resumed = report.resumed_from_epoch
    for back, before in enumerate(reversed(status.attempts[:-1])):
        if before.from_epoch == before.to_epoch > resumed:
            # It ended before it told anything, and where it began was a guess.
            epochs = {"from_epoch": resumed, "to_epoch": resumed}
        elif back == 0:
            # Its last checkpoint may have been written after the last that was heard of it.
            epochs = {"to_epoch": max(before.to_epoch, resumed)}
        else:
            break
        status = with_attempt(status, before.model_copy(update=epochs))
    attempt = status.attempts[-1].model_copy(update={"from_epoch": resumed, "to_epoch": report.epoch})
    if report.spent is not None:
        attempt = _with_spent(attempt, report.spent, now)
    status = with_attempt(status, attempt)
    return status.model_copy(
        update={
            "progress": progress,
            "chosen": with_choices(status.chosen, report.chosen),
            "search": report.search or status.search,
            "estimate": report.estimate or status.estimate,
        }
    )


def _with_spent(attempt: Attempt, spent: Spent, now: datetime) -> Attempt:
    """The attempt with what its runtime tells of its time; what it has told once it does not take back."""
    began = attempt.training_time or now - timedelta(seconds=spent.seconds)
    return attempt.model_copy(
        update={
            "training_time": max(began, attempt.start_time or began),
            "checkpoint_seconds": max(attempt.checkpoint_seconds, round(spent.checkpoint, 3)),
            "recovery_seconds": max(attempt.recovery_seconds, round(spent.recovery, 3)),
            "lost_seconds": max(attempt.lost_seconds, round(spent.lost, 3)),
            "unsaved_seconds": round(spent.unsaved, 3),
        }
    )


def _result(status: TrainingJobStatus, report: ResultReport) -> TrainingJobStatus:
    progress = (status.progress or Progress()).model_copy(update={"percent": 100, "estimated_remaining_seconds": 0})
    return status.model_copy(
        update={
            "model": report.model,
            "data": report.data,
            "evaluation": Evaluation(metrics=report.metrics),
            "chosen": with_choices(status.chosen, report.chosen),
            "progress": progress,
        }
    )
