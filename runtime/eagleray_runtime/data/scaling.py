"""Scaling of numbers: an offset and a scale, fitted to the training part."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Block, Scaling
from eagleray_runtime.errors import DataInvalid


class Affine(Block):
    """`prepared = (value - offset) / scale`."""

    offset: float = 0.0
    scale: float = 1.0


ROUNDING = 1e-12
"""A spread of at most so much of the largest number is no spread: equal numbers have a mean, and so a deviation, of rounding."""


def spread(wide: float, low: float, high: float) -> float:
    """How far numbers from `low` to `high` are apart by some measure, 0 if that is but rounding."""
    return wide if wide > ROUNDING * max(abs(low), abs(high)) else 0.0


def _affine(offset: float, scale: float, low: float, high: float) -> Affine:
    """The scaling of numbers from `low` to `high`; those that never change are left as they are, at zero."""
    return Affine(offset=min(max(offset, low), high), scale=spread(scale, low, high) or 1.0)


def fitted(values: AnyArray, scaling: Scaling) -> Affine:
    """The scaling of numbers of which none is missing, any shape with at least one row."""
    least, greatest = float(values.min()), float(values.max())
    match scaling:
        case Scaling.STANDARD:
            offset, scale = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        case Scaling.MIN_MAX:
            offset, scale = least, greatest - least
        case Scaling.ROBUST:
            low, middle, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
            offset, scale = middle, high - low
        case Scaling.NONE:
            return Affine()
    return _affine(offset, scale, least, greatest)


@dataclass(frozen=True)
class Moments:
    """What is kept of numbers that are seen in pieces: how many, their mean, the sum of (value - mean)^2, least and greatest."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: AnyArray) -> "Moments":
        """Those of numbers of which none is missing."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(((values - mean) ** 2).sum()), float(values.min()), float(values.max()))

    @classmethod
    def repeated(cls, value: float, count: int) -> "Moments":
        """Those of one number that occurs so often."""
        return cls(count, value, 0.0, value, value) if count else cls()

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both (Chan et al. 1983, equation 2.1)."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart**2 * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def deviation(self) -> float:
        """Standard deviation, of at least one number; 0 if that is but rounding."""
        return spread(math.sqrt(self.squares / self.count), self.low, self.high)

    def affine(self, scaling: Scaling) -> Affine:
        """The scaling of the numbers, as `fitted` has it of all of them at once.

        Raises:
            DataInvalid: it is Robust, which takes all numbers at once.
        """
        match scaling:
            case Scaling.STANDARD:
                offset, scale = self.mean, self.deviation
            case Scaling.MIN_MAX:
                offset, scale = self.low, self.high - self.low
            case Scaling.NONE:
                return Affine()
            case Scaling.ROBUST:
                raise DataInvalid("scaling Robust takes all rows at once: use Standard, or data.loading Memory")
        return _affine(offset, scale, self.low, self.high)


def of_counts(counts: Mapping[int, int], scaling: Scaling) -> Affine:
    """The scaling of whole numbers, by how often each occurs."""
    if scaling is Scaling.ROBUST:
        return fitted(np.repeat(np.array([*counts]), [*counts.values()]), scaling)
    return sum((Moments.repeated(float(value), count) for value, count in counts.items()), Moments()).affine(scaling)
