"""How good a model has to be: metrics, gates and cross-validation."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from eagleray_runtime.contract.blocks.base import Block, MetricName, Rule


class EvaluatedPart(StrEnum):
    """Part of the data that a gate looks at."""

    TEST = "Test"
    VALIDATION = "Validation"
    CROSS_VALIDATION = "CrossValidation"


class Bound(StrEnum):
    """What of a metric a gate looks at."""

    VALUE = "Value"
    PESSIMISTIC = "Pessimistic"


class Gate(Block):
    """What a model must come up to before a deployment follows its job."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.min) || has(self.max)", "a gate needs min or max"),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min of a gate is above its max"),
        Rule("self.part != 'CrossValidation' || self.bound == 'Value'", "bound Pessimistic goes with part Test or Validation"),
    )

    metric: MetricName = Field(description="Metric of the task, such as Accuracy or R2.")
    part: EvaluatedPart = Field(
        EvaluatedPart.TEST,
        description="Part of the data: Test, Validation, or CrossValidation, the mean over its folds. Default Test.",
    )
    bound: Bound = Field(
        Bound.VALUE,
        description="Value: the metric itself. Pessimistic: the end of its confidence interval that is worse for the gate. "
        "Default Value.",
    )
    min: float | None = Field(None, description="Least value that passes.")
    max: float | None = Field(None, description="Largest value that passes.")


class CrossValidation(Block):
    """Training on other parts of the rows, each time measured on those left out."""

    folds: int = Field(5, ge=2, le=50, description="Parts of the rows that are not test rows, and trainings on them. Default 5.")


class Evaluation(Block):
    """How the finished model is measured, and what it must come up to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.crossValidation) || !self.gates.exists(gate, gate.part == 'CrossValidation')",
            "a gate on part CrossValidation needs crossValidation",
        ),
    )

    metrics: list[MetricName] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Metrics to tell. Classes: Accuracy, BalancedAccuracy, Precision, Recall, F1, ROCAUC, AveragePrecision, "
        "LogLoss; of two classes those of the second by name, of more the mean over the classes. Numbers: MSE, RMSE, MAE, "
        "MAPE, R2. Text to go on with: Perplexity, LogLoss, of each next token. Unset means Accuracy, F1, ROCAUC and LogLoss, or "
        "RMSE, MAE and R2, or Perplexity and LogLoss.",
    )
    confidence_percent: int = Field(
        95, ge=50, le=99, description="Confidence of the intervals on validation and test part, in percent. Default 95."
    )
    cross_validation: CrossValidation | None = Field(
        None,
        description="Train on other parts of the rows before the model itself, to tell the mean and deviation of its metrics. "
        "Unset means none.",
    )
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=16,
        description="What the model must come up to; one that does not is saved, and no deployment follows it.",
    )
