"""Outliers: the bounds of a column, fitted to the training part."""

from typing import NamedTuple

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import Outliers

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
    if outliers is Outliers.IQR:
        low, high = (float(value) for value in np.quantile(present, (0.25, 0.75)))
        margin = RANGES * (high - low)
    else:
        low = high = float(present.mean())
        margin = DEVIATIONS * float(present.std())
    return Bounds(low - margin, high + margin) if margin > 0 else None
