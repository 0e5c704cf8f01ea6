"""What is to be learned: numbers or classes, and by which loss."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from eagleray_runtime.arrays import Texts
from eagleray_runtime.contract.blocks import ClassWeights, Family, LossType
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.data.table import TEXTS, Column, Kind
from eagleray_runtime.errors import DataInvalid, ModelInvalid

Task = Literal["Regression", "Classification", "LanguageModeling"]

FEW_VALUES = 20
"""A whole-number target with at most so many different values is taken for classes where the family leaves it open."""

MOST_DISTINCT = 1000
"""So many different numbers of a target are counted one by one."""

DOUBT = "; the target's few whole numbers are taken for classes: set training.loss.type to MeanSquaredError if they are amounts"

LOSSES: dict[Task, tuple[LossType, ...]] = {
    "Regression": (LossType.MEAN_SQUARED_ERROR, LossType.MEAN_ABSOLUTE_ERROR, LossType.HUBER),
    "Classification": (LossType.CROSS_ENTROPY, LossType.BINARY_CROSS_ENTROPY, LossType.NEGATIVE_LOG_LIKELIHOOD),
    "LanguageModeling": (LossType.CROSS_ENTROPY,),
}
"""The losses of a task; the first one is that of Auto."""


class Decision(NamedTuple):
    """A task and its loss (never Auto), and what was decided for the user.

    `doubt` is what a message on classes that go wrong is to add where they may be none.
    """

    task: Task
    loss: LossType
    chosen: list[Choice]
    doubt: str = ""


class Seen(NamedTuple):
    """What is seen of a target: what it holds; of numbers how many different ones, and whether all are whole.

    Of more than `MOST_DISTINCT` no more are counted where rows are seen in pieces.
    """

    kind: Kind
    distinct: int = 0
    whole: bool = True


def seen(target: Column) -> Seen:
    """What is seen of a whole column, of which no value is missing."""
    if target.kind in TEXTS:
        return Seen(target.kind)
    values = target.values
    return Seen(target.kind, len(np.unique(values)), bool((values == np.floor(values)).all()))


def labels(target: Column) -> Texts:
    """The classes' names, shape [rows]: text as it is, `true` or `false`, or the whole number."""
    if target.kind is Kind.TEXT:
        return target.values
    if target.kind is Kind.BOOLEAN:
        return np.array(["true" if value else "false" for value in target.values], dtype=np.object_)
    return np.array([str(int(value)) for value in target.values], dtype=np.object_)


def in_order(known: Iterable[str], kind: Kind) -> list[str]:
    """Classes in the order of their numbers: text and true/false by the alphabet, whole numbers by their size."""
    return sorted(known) if kind in (Kind.TEXT, Kind.BOOLEAN) else sorted(known, key=int)


def decide(config: TrainingConfig, name: str, target: Seen) -> Decision:
    """The task of a target.

    Raises:
        DataInvalid: the target is nothing that the family can learn.
        ModelInvalid: loss, family and task do not go together.
    """
    family, loss = config.model.family, config.training.loss.type
    if family is Family.TRANSFORMER and (target.kind is Kind.DOCUMENT) != config.model.is_decoder:
        raise ModelInvalid(
            "model.transformer.architecture Decoder goes on with the text itself, and Encoder needs data.target: "
            "change one of them"
        )
    if target.kind is Kind.DOCUMENT:
        return _language_modeling(config)
    kind, looks = _looks(target)
    holds = f"target {name} holds {kind}"
    task, reason = _task(family, loss, looks, holds)
    if task == "Regression" and target.kind not in (Kind.REAL, Kind.INTEGER):
        advice = "use LogisticRegression" if family is Family.LINEAR_REGRESSION else "drop training.loss.type"
        raise DataInvalid(f"target column {name} holds {kind}, which cannot be predicted as a number: {advice}")
    if task == "Classification" and looks == "Regression":
        is_open = family not in (Family.LOGISTIC_REGRESSION, Family.PERCEPTRON)
        raise DataInvalid(
            f"target column {name} holds {kind}, {'too many for classes' if target.whole else 'and no class is a fraction'}: "
            f"{'drop training.loss.type' if is_open else 'use LinearRegression'}, use "
            f"a target of at most {FEW_VALUES} whole numbers or of text, or Categorical for it in data.columns"
        )
    fitting = (LossType.PERCEPTRON,) if family is Family.PERCEPTRON else LOSSES[task]
    if loss is not LossType.AUTO and loss not in fitting:
        raise ModelInvalid(f"training.loss.type {loss} does not go with {family} ({task}): use {', '.join(fitting)} or Auto")
    chosen = [Choice(field="model.task", value=task, reason=reason)]
    if loss is LossType.AUTO:
        [loss, *_] = fitting
        because = f"the family is {family}" if family is Family.PERCEPTRON else f"the task is {task}"
        chosen.append(Choice(field="training.loss.type", value=loss, reason=because))
    open_ = reason == holds and task == "Classification" and target.kind not in (Kind.TEXT, Kind.BOOLEAN)
    return Decision(task, loss, chosen, DOUBT if open_ else "")


def _language_modeling(config: TrainingConfig) -> Decision:
    wanted = config.training.loss
    if (
        wanted.type not in (LossType.AUTO, LossType.CROSS_ENTROPY)
        or wanted.label_smoothing
        or wanted.class_weights is not ClassWeights.NONE
    ):
        raise ModelInvalid("a decoder learns each next token by CrossEntropy alone: drop the fields of training.loss")
    task: Task = "LanguageModeling"
    chosen = [Choice(field="model.task", value=task, reason="there is no data.target but the text")]
    if wanted.type is LossType.AUTO:
        reason = f"the task is {task}; the mean over tokens"
        chosen.append(Choice(field="training.loss.type", value=LossType.CROSS_ENTROPY, reason=reason))
    return Decision(task, LossType.CROSS_ENTROPY, chosen)


def _looks(target: Seen) -> tuple[str, Task]:
    """What the target holds, in words, and the task that it looks like."""
    if target.kind in (Kind.TEXT, Kind.BOOLEAN):
        return "text" if target.kind is Kind.TEXT else "true/false", "Classification"
    many = f"{target.distinct}" if target.distinct <= MOST_DISTINCT else f"at least {MOST_DISTINCT}"
    kind = f"{'whole' if target.whole else 'real'} numbers with {many} different values"
    return kind, "Classification" if target.whole and target.distinct <= FEW_VALUES else "Regression"


def _task(family: Family, loss: LossType, looks: Task, holds: str) -> tuple[Task, str]:
    match family:
        case Family.LINEAR_REGRESSION:
            return "Regression", "the family is LinearRegression"
        case Family.LOGISTIC_REGRESSION | Family.PERCEPTRON:
            return "Classification", f"the family is {family}"
        case _:
            for task, losses in LOSSES.items():
                if loss in losses:
                    return task, f"the loss is {loss}"
            return looks, holds
