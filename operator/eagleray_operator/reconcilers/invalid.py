"""The status of a resource that cannot be read: made before these rules were in force, or written around them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.api.conditions import Condition, ConditionType
from eagleray_operator.api.reasons import Reason
from eagleray_operator.reconcilers.summary import Conditions

_CONDITIONS = TypeAdapter(list[Condition])


def invalid_status(
    kind: str, metadata: Metadata, status: Mapping[str, Any], error: ValidationError, now: datetime
) -> dict[str, Any]:
    """The status with Accepted=False and every problem by its field; the rest of the status stays as it is."""
    problems = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    message = f"{problems}. Correct it."
    summary = ConditionType.SUCCEEDED if kind == names.TRAINING_JOB else ConditionType.READY
    conditions = Conditions(metadata.generation)
    conditions.set(ConditionType.ACCEPTED, "False", Reason.INVALID_SPEC, message)
    conditions.set(summary, "Unknown", Reason.INVALID_SPEC, message)
    conditions.set(ConditionType.PROGRESSING, "False", Reason.INVALID_SPEC, message)
    try:
        before = _CONDITIONS.validate_python(status.get("conditions") or [])
    except ValidationError:
        before = []
    settled = conditions.settled(before, now)
    dumped = [condition.model_dump(mode="json", by_alias=True, exclude_none=True) for condition in settled]
    return {**status, "observedGeneration": metadata.generation, "conditions": dumped}
