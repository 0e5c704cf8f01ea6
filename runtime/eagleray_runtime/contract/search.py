"""The search for values of the spec: which fields vary, how trials are drawn, and by what they are judged."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from eagleray_runtime.contract.blocks import Block, MetricName, Rule, exactly_one_of


class SearchAlgorithm(StrEnum):
    """How trials are chosen."""

    RANDOM = "Random"
    GRID = "Grid"
    ASHA = "ASHA"


class SearchScale(StrEnum):
    """On which scale numbers of a range are equally likely."""

    LINEAR = "Linear"
    LOG = "Log"


class SearchRange(Block):
    """Numbers between two bounds."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min < self.max", "min of a range must be below its max"),
        Rule("self.scale != 'Log' || self.min > 0.0", "scale Log needs a min above 0"),
    )

    min: float = Field(description="Least number that is tried.")
    max: float = Field(description="Largest number that is tried.")
    scale: SearchScale = Field(
        SearchScale.LINEAR,
        description="Linear: all numbers are equally likely. Log: all orders of magnitude are, as suits learningRate. "
        "Default Linear.",
    )


class SearchParameter(Block):
    """A field of the spec, and the values that are tried for it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("range", "numbers", "choices"),
        Rule(
            "self.field.matches('^(data[.]preparation|model|training)[.][a-zA-Z0-9_.]+$')",
            "field is a path below data.preparation, model or training, such as training.optimizer.learningRate",
        ),
    )

    field: str = Field(
        min_length=1,
        max_length=128,
        description="Path of a number or a choice in data.preparation, model or training, such as "
        "training.optimizer.learningRate, or of a text in model.custom.parameters. It may be unset in this spec.",
    )
    range: SearchRange | None = Field(
        None, description="Numbers between two bounds, rounded to 6 digits; whole ones where the field takes no other."
    )
    numbers: list[float] | None = Field(None, min_length=1, max_length=64, description="Numbers to try.")
    choices: list[Annotated[str, Field(min_length=1, max_length=63)]] | None = Field(
        None, min_length=1, max_length=64, description="Choices to try, such as ReLU and Tanh."
    )


class Search(Block):
    """Trains with other values of some fields, and takes the best ones for the model itself."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.algorithm != 'Grid' || self.parameters.all(parameter, !has(parameter.range))",
            "algorithm Grid tries each of some values: give numbers or choices instead of a range",
        ),
        Rule(
            "self.metric != 'Loss' || !self.parameters.exists(parameter, parameter.field.matches('^training[.]loss[.]'))",
            "Loss is no measure where the loss itself is searched: set search.metric to a metric of the task",
        ),
        Rule(
            "self.parameters.all(parameter, self.parameters.exists_one(other, other.field == parameter.field))",
            "a field can be searched once only: give all its values in one parameter",
        ),
    )

    algorithm: SearchAlgorithm = Field(
        SearchAlgorithm.RANDOM,
        description="Random draws values, each combination once. Grid tries every combination of numbers and choices. ASHA "
        "draws as Random does, and ends a trial after 1, 4, 16, ... epochs (with crossValidation: of the first fold) that is not "
        "among the best quarter of those that came so far. Default Random.",
    )
    metric: MetricName = Field(
        "Loss",
        description="What makes a trial good, on the validation part or, with evaluation.crossValidation, by the mean over the "
        "folds: Loss or a metric of the task (Accuracy, R2), whichever way is better for it. Default Loss.",
    )
    max_trials: int = Field(
        20,
        ge=1,
        le=1000,
        description="Trials in all; fewer where there are not so many combinations. A Grid of more is refused. Default 20.",
    )
    parallel_trials: int = Field(
        1,
        ge=1,
        le=100,
        description="Trials that run at once (engine NumPy), each on a CPU core and with a copy of the rows in workers.memory. "
        "No more run than workers.cpus are whole cores; status.chosen tells where these are fewer. Default 1.",
    )
    parameters: list[SearchParameter] = Field(
        min_length=1, max_length=16, description="Fields that vary; all others are as this spec says."
    )
