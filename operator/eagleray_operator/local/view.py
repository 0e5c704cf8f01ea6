"""What a person wants to know of a resource at a glance."""

from dataclasses import dataclass
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.conditions import ConditionType
from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest


@dataclass(frozen=True)
class View:
    """A resource's state in short.

    `good` means Succeeded or Ready; `final` that it will not change by itself; `failing` that something is wrong that
    might still mend itself.
    """

    kind: str
    namespace: str
    name: str
    reason: str
    message: str
    good: bool
    final: bool
    failing: bool
    percent: int | None = None
    seconds_left: int | None = None
    url: str | None = None
    model_uri: str | None = None
    estimate: str | None = None

    @property
    def title(self) -> str:
        """Kind and name, with the namespace where it is not the default one."""
        return f"{self.kind} {self.name}" if self.namespace == "default" else f"{self.kind} {self.namespace}/{self.name}"


def _condition(manifest: Manifest, type_: ConditionType) -> dict[str, Any]:
    for condition in (manifest.get("status") or {}).get("conditions") or []:
        if condition["type"] == type_:
            found: dict[str, Any] = condition
            return found
    return {"status": "Unknown", "reason": "", "message": ""}


def _is_fresh(manifest: Manifest) -> bool:
    """Whether the status is about the spec as it is now."""
    observed = (manifest.get("status") or {}).get("observedGeneration")
    return bool(observed == manifest["metadata"].get("generation"))


def view(manifest: Manifest) -> View:
    """View of a TrainingJob or ModelDeployment."""
    return _job(manifest) if manifest["kind"] == names.TRAINING_JOB else _deployment(manifest)


def _job(manifest: Manifest) -> View:
    status = manifest.get("status") or {}
    succeeded = _condition(manifest, ConditionType.SUCCEEDED)
    progressing = _condition(manifest, ConditionType.PROGRESSING)
    ended = succeeded["status"] != "Unknown"
    suspended = _condition(manifest, ConditionType.SUSPENDED)["status"] == "True"
    told = succeeded if ended else progressing
    progress = status.get("progress") or {}
    return View(
        kind=manifest["kind"],
        namespace=manifest["metadata"]["namespace"],
        name=manifest["metadata"]["name"],
        reason=told["reason"],
        message=told.get("message", ""),
        good=succeeded["status"] == "True",
        final=(ended or suspended) and _is_fresh(manifest),
        failing=_condition(manifest, ConditionType.ACCEPTED)["status"] == "False" and _is_fresh(manifest),
        percent=progress.get("percent", 0),
        seconds_left=progress.get("estimatedRemainingSeconds"),
        model_uri=(status.get("model") or {}).get("uri"),
        estimate=_estimate(status.get("estimate")),
    )


def _estimate(told: dict[str, Any] | None) -> str | None:
    """What a job needs, in words."""
    if told is None:
        return None
    gpu = f", {told['gpuMemory']} of GPU memory" if "gpuMemory" in told else ""
    needs = f"{told['parameters']} parameters, {told['memory']} of memory{gpu}, {told['disk']} in the store"
    error = f", which was {told['errorPercent']:+.0f} % off" if "errorPercent" in told else ""
    return f"{needs}, about {told['durationSeconds']:.3g} s{error}"


def _deployment(manifest: Manifest) -> View:
    status = manifest.get("status") or {}
    ready = _condition(manifest, ConditionType.READY)
    progressing = _condition(manifest, ConditionType.PROGRESSING)
    good = ready["status"] == "True"
    rolled_out = progressing["reason"] in (Reason.ROLLED_OUT, Reason.DRAINING)
    return View(
        kind=manifest["kind"],
        namespace=manifest["metadata"]["namespace"],
        name=manifest["metadata"]["name"],
        reason=ready["reason"],
        message=ready.get("message", ""),
        good=good,
        final=((good and rolled_out) or ready["reason"] == Reason.SWITCHED_OFF) and _is_fresh(manifest),
        failing=progressing["status"] == "False" and not (good and rolled_out) and _is_fresh(manifest),
        url=status.get("url") if good else None,
    )
