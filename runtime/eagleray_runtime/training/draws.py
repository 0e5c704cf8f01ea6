"""The trials of a search: which values are tried, in which order."""

import itertools
import math

import numpy as np

from eagleray_runtime.contract.search import Search, SearchAlgorithm, SearchScale
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.training.space import Dimension, Value, Values

STREAM = 4
"""First word after the seed that keeps these random numbers apart from those of training and evaluation."""

TRIES = 100
"""Draws for each trial, at most: a narrow range may hold fewer numbers of 6 digits than there are trials."""


def draw(search: Search, dimensions: list[Dimension], seed: int) -> list[Values]:
    """What each trial tries, first to last, no combination twice; the same for the same seed.

    Of a search that draws, the first trials are the same however many follow. Where there are no more combinations than
    trials, all are tried.

    Raises:
        ModelInvalid: a grid is larger than the trials that may be made.
    """
    combinations = math.prod(dimension.size for dimension in dimensions)
    if search.algorithm is SearchAlgorithm.GRID and combinations > search.max_trials:
        raise ModelInvalid(
            f"spec.search: the grid has {combinations:g} combinations and maxTrials is {search.max_trials}: raise it, give fewer "
            "values, or use algorithm Random"
        )
    fields = [dimension.field for dimension in dimensions]
    if combinations <= search.max_trials:
        every = itertools.product(*(dimension.all() for dimension in dimensions))
        return [dict(zip(fields, values, strict=True)) for values in every]
    random = np.random.default_rng([seed, STREAM])
    drawn: dict[tuple[Value, ...], None] = {}
    for _ in range(TRIES * search.max_trials):
        drawn.setdefault(tuple(_drawn(dimension, random) for dimension in dimensions))
        if len(drawn) == search.max_trials:
            break
    return [dict(zip(fields, values, strict=True)) for values in drawn]


def _drawn(dimension: Dimension, random: np.random.Generator) -> Value:
    if dimension.values is not None:
        return dimension.values[int(random.integers(len(dimension.values)))]
    low, high = dimension.low, dimension.high
    if dimension.scale is SearchScale.LINEAR and dimension.whole:
        return int(random.integers(int(low), int(high) + 1))
    if dimension.scale is SearchScale.LINEAR:
        return _rounded(random.uniform(low, high), low, high)
    if dimension.whole:
        drawn = math.exp(random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
        return int(min(max(round(drawn), low), high))
    return _rounded(math.exp(random.uniform(math.log(low), math.log(high))), low, high)


def _rounded(value: float, low: float, high: float) -> float:
    """The value to as many digits as are told, so that what is told is what was tried."""
    return min(max(float(f"{value:.6g}"), low), high)
