"""Metrics of predictions, in NumPy whichever engine trained; scikit-learn's definitions, NaN where one is not defined.

Of two classes, precision, recall, F1, ROCAUC and AveragePrecision are those of the second one by name; of more classes they are
the mean over the classes, each against all others.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Self, TypeAlias

import numpy as np

from eagleray_runtime.arrays import AnyArray, Bools, Floats, Integers
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.models.heads import Head, class_numbers, log_probabilities

LARGEST_EXPONENT = 700.0
"""Beyond it float64 has no power of e."""


@dataclass(frozen=True)
class Answers:
    """What a model answered, and what was right; every array has one entry for each row."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(getattr(self, fields(self)[0].name))

    def take(self, rows: Integers) -> Self:
        """The answers of those rows, as often as they are named."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Numbers(Answers):
    """Float64 [rows] each, in the target's own unit."""

    right: Floats
    answered: Floats


@dataclass(frozen=True)
class Classes(Answers):
    """Class numbers int64 [rows]; `scores` float64 [rows, classes], larger for a likelier class: log-probabilities if the model
    gives any."""

    right: Integers
    answered: Integers
    scores: Floats


@dataclass(frozen=True)
class Pieces(Answers):
    """Pieces of text: float64 [rows], the sum over a piece's tokens of the logarithms of their probabilities (each after those
    before it), and int64 [rows], how many tokens these are."""

    logarithms: Floats
    tokens: Integers


Answered: TypeAlias = Numbers | Classes | Pieces


def answers(head: Head, target: Affine, outputs: Floats, y: AnyArray) -> Answered:
    """What outputs before the head [rows, outputs] say, beside `y` [rows]: scaled targets, class numbers or numbers of tokens."""
    if head == "NextToken":
        return Pieces(outputs.sum(axis=1), y)
    if head == "Identity":
        return Numbers(_unscaled(target, y), outputs[:, 0] * target.scale + target.offset)
    scores = outputs if head == "Argmax" else log_probabilities(head, outputs)
    return Classes(y, class_numbers(head, outputs), scores)


def _unscaled(target: Affine, y: AnyArray) -> Floats:
    """Targets in their own unit, 0 again where scaling and undoing it has left of a 0 but rounding."""
    right = y * target.scale + target.offset
    return np.where(np.abs(right) > 4 * np.finfo(y.dtype).eps * abs(target.offset), right, 0.0)


def _r2(of: Numbers) -> float:
    if of.right.min() == of.right.max():
        # Their mean is theirs but for rounding, which is no spread.
        return np.nan
    return 1.0 - float(((of.answered - of.right) ** 2).sum() / ((of.right - of.right.mean()) ** 2).sum())


def _mse(of: Numbers) -> float:
    return float(((of.answered - of.right) ** 2).mean())


def _mape(of: Numbers) -> float:
    return float((np.abs(of.answered - of.right) / np.abs(of.right)).mean()) if of.right.all() else np.nan


REGRESSION: Mapping[str, Callable[[Numbers], float]] = {
    "MSE": _mse,
    "RMSE": lambda of: _mse(of) ** 0.5,
    "MAE": lambda of: float(np.abs(of.answered - of.right).mean()),
    "MAPE": _mape,
    "R2": _r2,
}


def confusion(of: Classes) -> Integers:
    """Number of rows by right and answered class, int64 [classes, classes]."""
    classes = of.scores.shape[1]
    return np.bincount(of.right * classes + of.answered, minlength=classes * classes).reshape(classes, classes)


def _ratio(part: Floats | Integers, whole: Floats | Integers) -> Floats:
    """Part of the whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _over_classes(of: Classes, values: Floats, counted: Bools) -> float:
    """The second class's value of two classes; of more, the mean over those that occur."""
    if len(values) == 2:
        return float(values[1])
    return float(values[counted].mean())


def _of_confusion(of: Classes, value: Callable[[Floats, Floats], Floats]) -> float:
    counts = confusion(of)
    hits, answered, right = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return _over_classes(of, value(_ratio(hits, answered), _ratio(hits, right)), (answered + right) > 0)


def _balanced_accuracy(of: Classes) -> float:
    counts = confusion(of)
    right = counts.sum(axis=1)
    return float(_ratio(np.diag(counts), right)[right > 0].mean())


def _each_against_all_others(of: Classes, value: Callable[[Bools, Floats], float]) -> float:
    if of.scores.shape[1] == 2:
        return value(of.right == 1, of.scores[:, 1] - of.scores[:, 0])
    return float(np.mean([value(of.right == number, of.scores[:, number]) for number in range(of.scores.shape[1])]))


def roc_auc(positive: Bools, score: Floats) -> float:
    """Share of pairs of a positive and a negative row in which the positive one has the higher score, ties counting half."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return np.nan
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(positive: Bools, score: Floats) -> float:
    """Sum over thresholds of precision times the gain in recall."""
    positives = int(positive.sum())
    if not positives:
        return np.nan
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(positive[order])[ends]
    return float((np.diff(hits, prepend=0) / positives * hits / (ends + 1)).sum())


CLASSIFICATION: Mapping[str, Callable[[Classes], float]] = {
    "Accuracy": lambda of: float((of.answered == of.right).mean()),
    "BalancedAccuracy": _balanced_accuracy,
    "Precision": lambda of: _of_confusion(of, lambda precision, recall: precision),
    "Recall": lambda of: _of_confusion(of, lambda precision, recall: recall),
    "F1": lambda of: _of_confusion(of, lambda precision, recall: _ratio(2 * precision * recall, precision + recall)),
    "ROCAUC": lambda of: _each_against_all_others(of, roc_auc),
    "AveragePrecision": lambda of: _each_against_all_others(of, average_precision),
    "LogLoss": lambda of: -float(of.scores[np.arange(len(of.right)), of.right].mean()),
}


def _log_loss(of: Pieces) -> float:
    """Mean of -ln p over all tokens."""
    return -float(of.logarithms.sum() / of.tokens.sum())


LANGUAGE: Mapping[str, Callable[[Pieces], float]] = {
    # Jelinek et al. 1977: e to the power of the cross-entropy.
    "Perplexity": lambda of: math.exp(min(_log_loss(of), LARGEST_EXPONENT)),
    "LogLoss": _log_loss,
}

NEEDS: Mapping[str, str] = {
    "R2": "two different targets",
    "MAPE": "targets other than 0",
    "ROCAUC": "rows of every class",
    "AveragePrecision": "rows of every class",
}
"""What rows must have for the metrics that are not defined for all of them."""

LARGER_IS_BETTER = frozenset(CLASSIFICATION) - {"LogLoss"} | {"R2"}
USUAL: dict[Head, tuple[str, ...]] = {
    "Identity": ("RMSE", "MAE", "R2"),
    "Softmax": ("Accuracy", "F1", "ROCAUC", "LogLoss"),
    "Sigmoid": ("Accuracy", "F1", "ROCAUC", "LogLoss"),
    "Argmax": ("Accuracy", "F1", "ROCAUC"),
    "NextToken": ("Perplexity", "LogLoss"),
}
"""The metrics that are told where the spec names none."""


def names(head: Head) -> list[str]:
    """The metrics that a model with this head can have."""
    if head == "Identity":
        return list(REGRESSION)
    if head == "NextToken":
        return list(LANGUAGE)
    return [name for name in CLASSIFICATION if head != "Argmax" or name != "LogLoss"]


def value(name: str, of: Answered) -> float:
    """One metric; NaN where it is not defined, for want of rows of a class or of different targets."""
    if isinstance(of, Pieces):
        return LANGUAGE[name](of)
    return REGRESSION[name](of) if isinstance(of, Numbers) else CLASSIFICATION[name](of)
