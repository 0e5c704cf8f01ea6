"""The random numbers of an epoch: the order of its rows, the same for both engines and any number of workers, its dropout, and
what becomes of its images."""

import numpy as np

from eagleray_runtime.arrays import Integers

ORDER, DROPOUT, AUGMENTATION = 1, 2, 4
"""First words after the seed that keep these random numbers apart from each other and from those of the initialisation."""


def row_order(seed: int, epoch: int, rows: int) -> Integers:
    """Row numbers of an epoch (from 1). It depends on seed and epoch alone, so that an attempt resumes into the same order."""
    return order_stream(seed, epoch).permutation(rows)


def order_stream(seed: int, epoch: int, lane: int = 0) -> np.random.Generator:
    """The random numbers that order the rows of an epoch (from 1), or mix those of a lane (from 1) of rows that are streamed."""
    return np.random.default_rng([seed, ORDER, epoch, *([lane] if lane else [])])


def dropout_stream(seed: int, epoch: int, worker: int = 0) -> np.random.Generator:
    """The random numbers that drop the units of an epoch (from 1) on a worker."""
    return np.random.default_rng([seed, DROPOUT, epoch, worker])


def augmentation_stream(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers that change the images of an epoch (from 1), of all rows in their order, on every worker the same."""
    return np.random.default_rng([seed, AUGMENTATION, epoch])
