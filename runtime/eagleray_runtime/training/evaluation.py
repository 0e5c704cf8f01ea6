"""How good the finished model is on each part of the data, with how sure that is."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.reports import Metric
from eagleray_runtime.data.dataset import AnyPart, Dataset
from eagleray_runtime.models.heads import Head
from eagleray_runtime.models.predictor import Predictor
from eagleray_runtime.training import metrics
from eagleray_runtime.training.metrics import Answered

MOST_DRAWS, FEWEST_DRAWS, ROWS_OF_ALL_DRAWS = 400, 100, 5_000_000
"""Resamples of the bootstrap: as many as so many rows allow, within these bounds."""

STREAM = 3
"""First word after the seed that keeps these random numbers apart from those of training."""


def evaluate(
    predict: Predictor, head: Head, dataset: Dataset, names: Sequence[str], confidence_percent: int, seed: int
) -> list[Metric]:
    """The named metrics of what a model predicts, part by part; validation and test part with their confidence interval.

    A part without rows has no metrics, nor has a part one that is not defined for it.
    """
    parts: list[tuple[Literal["Training", "Validation", "Test"], AnyPart]] = [
        ("Training", dataset.training),
        ("Validation", dataset.validation),
        ("Test", dataset.test),
    ]
    found: list[Metric] = []
    for number, (name, part) in enumerate(parts):
        if not part.rows:
            continue
        of = answers(predict, head, dataset, part)
        values = defined(of, names)
        spans = {}
        if name != "Training":
            spans = intervals(of, list(values), confidence_percent, np.random.default_rng([seed, STREAM, number]))
        for metric, value in values.items():
            low, high = spans.get(metric, (None, None))
            found.append(Metric(name=metric, part=name, value=value, low=low, high=high))
    return found


def outputs(predict: Callable[[AnyArray], Floats], part: AnyPart) -> tuple[Floats, AnyArray]:
    """What `predict` gives for all rows of a part, which has any, [rows, outputs], and their targets [rows]."""
    found = [(predict(x), y) for x, y in part.pieces()]
    if len(found) == 1:
        return found[0]
    return np.concatenate([each for each, _ in found]), np.concatenate([y for _, y in found])


def answers(predict: Callable[[AnyArray], Floats], head: Head, dataset: Dataset, part: AnyPart) -> Answered:
    """What a model with this head says of a part; `predict` gives its outputs before the head."""
    return metrics.answers(head, dataset.preparation.target, *outputs(predict, part))


def defined(of: Answered, names: Sequence[str]) -> dict[str, float]:
    """Those of the metrics that are defined, by name."""
    return {name: value for name in names if np.isfinite(value := metrics.value(name, of))}


def resamples(rows: int) -> int:
    """How often that many rows are drawn anew for the intervals."""
    return min(MOST_DRAWS, max(FEWEST_DRAWS, ROWS_OF_ALL_DRAWS // rows)) if rows else 0


def intervals(
    of: Answered, names: Sequence[str], confidence_percent: int, random: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap (Efron 1979): between which values a metric lies for so many percent of resamples of the rows.

    A metric is left out that half of the resamples do not define.
    """
    rows = of.rows
    draws = resamples(rows)
    outside = (100 - confidence_percent) / 2
    values = np.empty((draws, len(names)))
    for draw in range(draws):
        sample = of.take(random.integers(rows, size=rows))
        values[draw] = [metrics.value(name, sample) for name in names]
    found = {}
    for name, column in zip(names, values.T, strict=True):
        defined = column[np.isfinite(column)]
        if len(defined) > draws / 2:
            low, high = np.percentile(defined, [outside, 100 - outside])
            found[name] = (float(low), float(high))
    return found
