"""The order in which an epoch walks through the rows; the same for both engines and any number of workers."""

import numpy as np

from eagleray_runtime.arrays import Integers

STREAM = 1
"""First word after the seed that keeps these random numbers apart from those of the initialisation."""


def row_order(seed: int, epoch: int, rows: int) -> Integers:
    """Row numbers of an epoch (from 1). It depends on seed and epoch alone, so that an attempt resumes into the same order."""
    return np.random.default_rng([seed, STREAM, epoch]).permutation(rows)
