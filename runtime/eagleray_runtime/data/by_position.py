"""Rows dealt to the parts by where they stand, each by itself, for data that is never there as a whole."""

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Split
from eagleray_runtime.data.splitting import shares

TRAINING, VALIDATION, TEST = 0, 1, 2

GAMMA, FIRST, SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64 (Steele et al. 2014)."""


def parts(first: int, rows: int, split: Split) -> AnyArray:
    """Part of each of so many rows, of which the first has the number `first` among all rows: uint8 [rows].

    A row's number and the seed make a number that is uniform in 0..1, of which the lowest share validates and the next tests;
    so a part has about its share of the rows, and is the same however the rows are read.
    """
    validation, test = (share / 100 for share in shares(split))
    uniform = _mixed(np.arange(first, first + rows, dtype=np.uint64), split.seed) * 2.0**-64
    return np.where(uniform < validation, VALIDATION, np.where(uniform < validation + test, TEST, TRAINING)).astype(np.uint8)


def _mixed(numbers: AnyArray, seed: int) -> AnyArray:
    """SplitMix64's output of each number, from a state that the seed decides: uint64."""
    with np.errstate(over="ignore"):
        state = _scrambled(np.array([seed], dtype=np.uint64) + GAMMA) + (numbers + np.uint64(1)) * GAMMA
        return _scrambled(state)


def _scrambled(z: AnyArray) -> AnyArray:
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    mixed: AnyArray = z ^ (z >> np.uint64(31))
    return mixed
