"""Conditions of a resource as one table in, one list out, and the event of a transition."""

from collections.abc import Iterable
from datetime import datetime

from eagleray_operator.api.conditions import MESSAGE_MAX, Condition, ConditionStatus, ConditionType, find, settled
from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Event

NORMAL = {
    Reason.ACCEPTED,
    Reason.STARTING,
    Reason.PREPARING,
    Reason.TRAINING,
    Reason.EVALUATING,
    Reason.SAVING,
    Reason.COMPLETED,
    Reason.SUSPENDED_BY_USER,
    Reason.SUSPENDED,
    Reason.WAITING_FOR_JOB,
    Reason.LOADING_MODEL,
    Reason.CHECKING,
    Reason.SERVING,
    Reason.SWITCHED_OFF,
}


class Conditions:
    """Collects the conditions of one reconcile."""

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._conditions: dict[ConditionType, Condition] = {}

    def set(self, type_: ConditionType, status: ConditionStatus, reason: Reason, message: str = "") -> None:
        """Set one; a later call replaces an earlier one of the type."""
        if len(message) > MESSAGE_MAX:
            message = message[: MESSAGE_MAX - 4] + " ..."
        self._conditions[type_] = Condition(
            type=type_, status=status, reason=reason, message=message, observed_generation=self._generation
        )

    def settled(self, previous: Iterable[Condition], now: datetime) -> list[Condition]:
        """All of them, with the times of those that did not change status kept."""
        return settled(previous, self._conditions.values(), now)


def transition(
    previous: Iterable[Condition], current: Iterable[Condition], summary: ConditionType, action: str
) -> tuple[Event, ...]:
    """One event when the reason of the summary condition has changed, none otherwise."""
    before, after = find(previous, summary), find(current, summary)
    if after is None or (before is not None and before.reason == after.reason and before.status == after.status):
        return ()
    type_ = "Normal" if after.reason in NORMAL else "Warning"
    return (Event(type=type_, reason=str(after.reason), action=action, message=after.message or str(after.reason)),)
