"""Conditions as `metav1.Condition` has them."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from eagleray_operator.api.reasons import Reason
from eagleray_runtime.contract.blocks import Block

MESSAGE_MAX = 1500
"""Longest message of a condition, in characters."""

ConditionStatus = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """Types of conditions; Succeeded and Ready are the summaries of a job and a deployment."""

    ACCEPTED = "Accepted"
    SUCCEEDED = "Succeeded"
    READY = "Ready"
    PROGRESSING = "Progressing"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    GATE_PASSED = "GatePassed"


class Condition(Block):
    """One aspect of the state of a resource."""

    type: ConditionType = Field(description="Aspect of the state.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Reason = Field(description="Why, in one word; docs/reference/reasons.md explains each.")
    message: str = Field("", max_length=MESSAGE_MAX, description="What happened, in its own words, and what to do.")
    observed_generation: int = Field(0, description="Generation of the spec that this was computed from.")
    last_transition_time: datetime | None = Field(None, description="When the status last changed.")


def settled(previous: Iterable[Condition], current: Iterable[Condition], now: datetime) -> list[Condition]:
    """Current conditions with their transition times.

    The time of a condition whose status is as before stays, so that a reconcile that finds nothing new writes nothing.
    """
    before = {condition.type: condition for condition in previous}
    result = []
    for condition in current:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status and old.last_transition_time is not None
        time = old.last_transition_time if same and old is not None else now
        result.append(condition.model_copy(update={"last_transition_time": time}))
    return result


def find(conditions: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """The condition of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)
