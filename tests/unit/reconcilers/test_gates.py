"""Whether a model is good enough."""

import pytest

from eagleray_operator.reconcilers import gates
from eagleray_runtime.contract.blocks import Gate
from eagleray_runtime.contract.reports import Metric

METRICS = [
    Metric(name="Accuracy", part="Test", value=0.90, low=0.85, high=0.95),
    Metric(name="Accuracy", part="Validation", value=0.99),
    Metric(name="LogLoss", part="Test", value=0.30, low=0.20, high=0.40),
]
TABLE = [
    ({"metric": "Accuracy", "min": 0.9}, True, "Accuracy on Test is 0.9, wanted at least 0.9"),
    ({"metric": "Accuracy", "min": 0.91}, False, "Accuracy on Test is 0.9, wanted at least 0.91"),
    ({"metric": "Accuracy", "min": 0.9, "bound": "Pessimistic"}, False, "Accuracy on Test is 0.85, wanted at least 0.9"),
    ({"metric": "LogLoss", "max": 0.3}, True, "LogLoss on Test is 0.3, wanted at most 0.3"),
    ({"metric": "LogLoss", "max": 0.3, "bound": "Pessimistic"}, False, "LogLoss on Test is 0.4, wanted at most 0.3"),
    ({"metric": "Accuracy", "part": "Validation", "min": 0.95}, True, "Accuracy on Validation is 0.99, wanted at least 0.95"),
    ({"metric": "Accuracy", "min": 0.8, "max": 0.85}, False, "Accuracy on Test is 0.9, wanted at least 0.8 and at most 0.85"),
    # Without an interval there is no pessimistic end of it.
    (
        {"metric": "Accuracy", "part": "Validation", "min": 0.5, "bound": "Pessimistic"},
        False,
        "Accuracy on Validation is unknown",
    ),
    ({"metric": "ROCAUC", "min": 0.5}, False, "ROCAUC on Test is unknown, wanted at least 0.5"),
]


@pytest.mark.parametrize(("gate", "passed", "words"), TABLE, ids=lambda value: str(value))
def test_a_gate_is_passed_or_not_and_says_why(gate, passed, words):
    [result] = gates.judge([Gate.model_validate(gate)], METRICS)
    assert result.passed is passed
    status, reason, message = gates.verdict([result])
    assert (status, reason) == (("True", "GatesPassed") if passed else ("False", "GateFailed"))
    assert words in message


def test_of_several_gates_those_that_failed_are_named():
    wanted = [Gate(metric="Accuracy", min=0.5), Gate(metric="LogLoss", max=0.1), Gate(metric="Accuracy", min=0.99)]
    status, _, message = gates.verdict(gates.judge(wanted, METRICS))
    assert status == "False"
    assert message == (
        "LogLoss on Test is 0.3, wanted at most 0.1; Accuracy on Test is 0.9, wanted at least 0.99. "
        "The model is saved, and no deployment follows it."
    )


def test_where_nothing_is_asked_nothing_can_fail():
    assert gates.verdict([])[:2] == ("True", "NoGates")
