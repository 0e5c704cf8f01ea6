"""What a finished model says of rows that it has not learned from, as pictures: which, and through which points."""

from collections.abc import Callable, Sequence

import numpy as np

from eagleray_runtime.arrays import Bools, Floats
from eagleray_runtime.bundle.plots import Axis, Line, Plot, chart, matrix
from eagleray_runtime.training.metrics import CLASSIFICATION, Classes, Numbers, average_precision, confusion, roc_auc

MOST_CURVES, MOST_CLASSES, MOST_POINTS, MOST_DOTS = 8, 24, 200, 500
"""Bounds of what a picture shows."""

SHARES = (0.0, 1.0)


def roc(positive: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Share of the negatives and of the positives above each threshold (false and true positive rate), from (0, 0) to (1, 1)."""
    hits, ends = _thresholds(positive, score)
    misses = ends + 1 - hits
    return np.append(0.0, misses / misses[-1]), np.append(0.0, hits / hits[-1])


def precision_recall(positive: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Recall and precision above each threshold, from recall 0, at which precision is that of the first threshold."""
    hits, ends = _thresholds(positive, score)
    precision = hits / (ends + 1)
    return np.append(0.0, hits / hits[-1]), np.append(precision[0], precision)


def plots(of: Numbers | Classes, part: str, classes: Sequence[str], target: str) -> list[Plot]:
    """The pictures of what a model answered on a part of the data."""
    if isinstance(of, Numbers):
        return [_residuals(of, part, target)]
    found = [_confusion(of, part, classes)]
    found += _curves(of, classes, f"ROC on the {part} part", "roc", roc, roc_auc, ("false positive rate", "true positive rate"))
    title = f"Precision and recall on the {part} part"
    return found + _curves(of, classes, title, "precision-recall", precision_recall, average_precision, ("recall", "precision"))


def _residuals(of: Numbers, part: str, target: str) -> Plot:
    errors = of.right - of.answered
    shown = np.unique(np.linspace(0, len(errors) - 1, min(len(errors), MOST_DOTS)).astype(int))
    dots = [(float(of.answered[row]), float(errors[row])) for row in shown]
    x = Axis.around(f"answered {target}", of.answered[shown])
    y = Axis.around("right - answered", [*errors[shown], 0.0])
    told = f"{len(errors)} rows, {len(dots)} of them shown; mean {errors.mean():.4g}, standard deviation {errors.std():.4g}"
    zero = Line("", [(x.low, 0.0), (x.high, 0.0)])
    return chart("residuals", f"Residuals on the {part} part", told, x, y, [zero], dots)


def _confusion(of: Classes, part: str, classes: Sequence[str]) -> Plot:
    counts, names = confusion(of), list(classes)
    if len(names) > MOST_CLASSES:
        # The most frequent ones; all others are one more.
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        kept, rest = order[: MOST_CLASSES - 1], order[MOST_CLASSES - 1 :]
        groups = np.zeros((MOST_CLASSES, len(names)), dtype=np.int64)
        groups[np.arange(len(kept)), kept] = 1
        groups[-1, rest] = 1
        counts, names = groups @ counts @ groups.T, [*(names[number] for number in kept), "others"]
    told = f"{counts.sum()} rows; accuracy {CLASSIFICATION['Accuracy'](of):.4g}"
    return matrix("confusion", f"Confusion matrix on the {part} part", told, names, counts)


def _curves(
    of: Classes,
    classes: Sequence[str],
    title: str,
    stem: str,
    points: Callable[[Bools, Floats], tuple[Floats, Floats]],
    area: Callable[[Bools, Floats], float],
    axes: tuple[str, str],
) -> list[Plot]:
    """A curve for each class against all others, of two classes for the second; of many those of the smallest areas."""
    numbers = [1] if len(classes) == 2 else range(len(classes))
    ranked = []
    for number in numbers:
        positive, score = of.right == number, of.scores[:, number]
        if len(classes) == 2:
            score = of.scores[:, 1] - of.scores[:, 0]
        if positive.any() and not positive.all():
            ranked.append((area(positive, score), number, points(positive, score)))
    shown = sorted(ranked)[:MOST_CURVES]
    if not shown:
        return []
    lines = [
        Line(f"{classes[number]} {size:.3f}", thinned(*found)) for size, number, found in sorted(shown, key=lambda each: each[1])
    ]
    told = f"Area under the curve by class: {', '.join(line.name for line in lines)}"
    x, y = (Axis(name, *SHARES) for name in axes)
    return [chart(stem, title, told, x, y, lines)]


def thinned(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """The points [points] of a curve without those that lie on a straight line between their neighbours, at most 200."""
    if len(x) > 2:
        turns = np.diff(x[:-1]) * np.diff(y[1:]) - np.diff(y[:-1]) * np.diff(x[1:])
        corners = np.append(True, np.append(np.abs(turns) > 1e-15, True))
        x, y = x[corners], y[corners]
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))
    return [(float(x[row]), float(y[row])) for row in kept]


def _thresholds(positive: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Positive rows down to each different score, from the highest, and the number of the last row with it."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return np.cumsum(positive[order])[ends].astype(np.float64), ends.astype(np.float64)
