"""Whether a finished model is good enough to be deployed by itself."""

from collections.abc import Iterable, Sequence

from eagleray_operator.api.conditions import ConditionStatus
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import GateResult
from eagleray_runtime.contract.blocks import Bound, Gate
from eagleray_runtime.contract.reports import Metric

Verdict = tuple[ConditionStatus, Reason, str]

NOT_EVALUATED: Verdict = ("Unknown", Reason.NOT_EVALUATED, "The gates are judged when the job has a model.")


def judge(gates: Iterable[Gate], metrics: Sequence[Metric]) -> list[GateResult]:
    """What each gate came to; one whose metric could not be measured is not passed."""
    return [_result(gate, metrics) for gate in gates]


def verdict(results: Sequence[GateResult]) -> Verdict:
    """The condition GatePassed of a finished model."""
    if not results:
        return "True", Reason.NO_GATES, ""
    failed = [result for result in results if not result.passed]
    if failed:
        return "False", Reason.GATE_FAILED, f"{'; '.join(map(_words, failed))}. The model is saved, and no deployment follows it."
    return "True", Reason.GATES_PASSED, f"{'; '.join(map(_words, results))}."


def _result(gate: Gate, metrics: Sequence[Metric]) -> GateResult:
    found = next((metric for metric in metrics if (metric.name, metric.part) == (gate.metric, gate.part)), None)
    least = None if found is None else found.low if gate.bound is Bound.PESSIMISTIC else found.value
    most = None if found is None else found.high if gate.bound is Bound.PESSIMISTIC else found.value
    enough = gate.min is None or (least is not None and least >= gate.min)
    little = gate.max is None or (most is not None and most <= gate.max)
    value = least if gate.min is not None and not enough else most if gate.max is not None else least
    wanted = " and ".join(
        f"at {side} {bound:g}" for side, bound in (("least", gate.min), ("most", gate.max)) if bound is not None
    )
    return GateResult(metric=gate.metric, part=gate.part, value=value, wanted=wanted, passed=enough and little)


def _words(result: GateResult) -> str:
    value = "unknown" if result.value is None else f"{result.value:.4g}"
    return f"{result.metric} on {result.part} is {value}, wanted {result.wanted}"
