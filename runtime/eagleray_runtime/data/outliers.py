"""Outliers: the bounds of a column, fitted to the training part."""

from typing import NamedTuple

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import Outliers
from eagleray_runtime.data.scaling import Moments, spread

RANGES = 1.5
"""Interquartile ranges beyond the quartiles (Tukey's fences)."""

DEVIATIONS = 3.0


class Bounds(NamedTuple):
    """Least and greatest number that is no outlier."""

    low: float
    high: float


def bounds(values: Floats, outliers: Outliers) -> Bounds | None:
    """Bounds of a column, shape [rows], NaN for missing; None if it has no outliers.

    A column whose quartiles are equal, or that never changes, has none: any other number would be one.
    """
    present = values[~np.isnan(values)]
    if outliers is Outliers.NONE or not len(present):
        return None
    if outliers is Outliers.Z_SCORE:
        return by_moments(Moments.of(present))
    low, high = (float(value) for value in np.quantile(present, (0.25, 0.75)))
    return _beyond(low, high, RANGES * spread(high - low, low, high))


def by_moments(present: Moments) -> Bounds | None:
    """Bounds of ZScore of a column, by the moments of its numbers."""
    return _beyond(present.mean, present.mean, DEVIATIONS * present.deviation) if present.count else None


def _beyond(low: float, high: float, margin: float) -> Bounds | None:
    return Bounds(low - margin, high + margin) if margin > 0 else None
