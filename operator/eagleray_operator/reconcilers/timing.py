"""On what a job has spent its time: a ledger in its status, into which time is booked whenever the status changes anyway.

The time since the last entry goes to what the job did until now; what the runtime tells of its training is then moved from
trainingSeconds to where it belongs. So the figures add up to the time since the job was created, and no clock writes a status.
"""

from datetime import datetime
from typing import Literal, get_args

from eagleray_operator.api.conditions import ConditionType, find
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import Attempt, Timing, TrainingJobStatus
from eagleray_operator.reconcilers.causes import Cause

Figure = Literal[
    "queued_seconds",
    "start_up_seconds",
    "training_seconds",
    "checkpoint_seconds",
    "recovery_seconds",
    "lost_seconds",
    "suspended_seconds",
]

WITHOUT_PODS: tuple[Figure, ...] = ("queued_seconds", "suspended_seconds")
"""What a job holds no pods in."""


def booked(before: TrainingJobStatus, after: TrainingJobStatus, created: datetime, now: datetime) -> TrainingJobStatus:
    """The status `after`, which follows `before` at that moment, with its figures; `created` is when the job was."""
    ledger = _Ledger(before.timing or Timing(until_time=created))
    doing = _doing(before)
    attempt = after.attempts[-1] if after.attempts else Attempt(number=0)
    known = next((each for each in before.attempts if each.number == attempt.number), Attempt(number=attempt.number))
    failed = attempt.end_time is not None and known.end_time is None and attempt.reason is not Reason.COMPLETED
    ledger.add("lost_seconds" if failed and doing == "training_seconds" else doing, now)
    if known.training_time is None and attempt.training_time is not None:
        ledger.move(doing, "training_seconds", (now - attempt.training_time).total_seconds())
    ledger.move("training_seconds", "checkpoint_seconds", attempt.checkpoint_seconds - known.checkpoint_seconds)
    ledger.move("training_seconds", "recovery_seconds", attempt.recovery_seconds - known.recovery_seconds)
    ledger.move("training_seconds", "lost_seconds", attempt.lost_seconds - known.lost_seconds)
    return after.model_copy(update={"timing": ledger.timing})


def active_left(status: TrainingJobStatus, limit: int, now: datetime) -> float | None:
    """Seconds until a job has spent so many, those not counted in which it is queued or suspended; None while it is."""
    if (doing := _doing(status)) in WITHOUT_PODS or status.timing is None:
        return None
    ledger = _Ledger(status.timing)
    ledger.add(doing, now)
    return max(0.0, limit - sum(ledger.of(figure) for figure in get_args(Figure) if figure not in WITHOUT_PODS))


def given_up(attempt: Attempt, cause: Cause, now: datetime) -> Attempt:
    """An attempt that has failed: what it had not saved is lost."""
    ended = {"reason": cause.reason, "message": cause.message, "end_time": now}
    return _saved_no_more(attempt).model_copy(update=ended)


def at_rest(before: TrainingJobStatus, after: TrainingJobStatus) -> TrainingJobStatus:
    """The status `after` of a job that has just been suspended, or just goes on; any other is left as it is.

    A suspended attempt loses what it had not saved. It goes on in new pods, whose runtime counts from zero.
    """
    if not after.attempts or _is_suspended(before) == _is_suspended(after):
        return after
    attempt = after.attempts[-1]
    if _is_suspended(after):
        attempt = _saved_no_more(attempt).model_copy(update={"training_time": None})
    else:
        attempt = attempt.model_copy(update={"checkpoint_seconds": 0.0, "recovery_seconds": 0.0, "lost_seconds": 0.0})
    return after.model_copy(update={"attempts": [*after.attempts[:-1], attempt]})


def _saved_no_more(attempt: Attempt) -> Attempt:
    lost = round(attempt.lost_seconds + attempt.unsaved_seconds, 3)
    return attempt.model_copy(update={"lost_seconds": lost, "unsaved_seconds": 0.0})


def _is_suspended(status: TrainingJobStatus) -> bool:
    suspended = find(status.conditions, ConditionType.SUSPENDED)
    return suspended is not None and suspended.status == "True"


def _doing(status: TrainingJobStatus) -> Figure:
    """What a job with this status spends its time on."""
    if _is_suspended(status):
        return "suspended_seconds"
    if not status.attempts:
        return "queued_seconds"
    attempt = status.attempts[-1]
    if attempt.end_time is not None:
        return "recovery_seconds"
    if attempt.training_time is not None:
        return "training_seconds"
    return "start_up_seconds" if attempt.number == 1 else "recovery_seconds"


class _Ledger:
    """Figures that may be moved, but not made or lost."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing

    def add(self, figure: Figure, now: datetime) -> None:
        """Book the time since the last entry."""
        passed = max(0.0, (now - self.timing.until_time).total_seconds())
        self._set({figure: self.of(figure) + passed})
        self.timing = self.timing.model_copy(update={"until_time": max(now, self.timing.until_time)})

    def move(self, source: Figure, target: Figure, seconds: float) -> None:
        """Move so many seconds, as far as there are any."""
        moved = min(max(0.0, seconds), self.of(source))
        if source != target:
            self._set({source: self.of(source) - moved, target: self.of(target) + moved})

    def of(self, figure: Figure) -> float:
        value: float = getattr(self.timing, figure)
        return value

    def _set(self, figures: dict[Figure, float]) -> None:
        self.timing = self.timing.model_copy(update={figure: round(value, 3) for figure, value in figures.items()})
