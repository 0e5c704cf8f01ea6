"""Division of the rows into training, validation and test part."""

from typing import NamedTuple

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract.blocks import Split
from eagleray_runtime.errors import DataInvalid

DEFAULT_PERCENT = 10


class Parts(NamedTuple):
    """Row numbers of each part, in the order of the data."""

    training: Integers
    validation: Integers
    test: Integers


def split_rows(rows: int, split: Split, classes: AnyArray | None) -> Parts:
    """Deal the rows; the same seed and rows give the same parts.

    A share above zero is at least one row. With `classes` (shape [rows], any values) each part gets every class in about
    the proportion of the whole, and a class is never without a row to train on.

    Raises:
        DataInvalid: nothing would be left to train on.
    """
    shares = [DEFAULT_PERCENT if share is None else share for share in (split.validation_percent, split.test_percent)]
    sizes = [max(1, round(rows * share / 100)) if share else 0 for share in shares]
    if rows - sum(sizes) < 1:
        raise DataInvalid(
            f"{rows} rows leave none to train on beside {sizes[0]} to validate and {sizes[1]} to test: "
            "give more rows or set data.split.validationPercent and testPercent to 0"
        )
    random = np.random.default_rng(split.seed)
    order = random.permutation(rows)
    if classes is None:
        held = np.split(order, np.cumsum(sizes))
        return Parts(np.sort(held[2]), np.sort(held[0]), np.sort(held[1]))
    remaining = order
    taken = []
    for size in sizes:
        chosen = _proportional(remaining, classes, size)
        taken.append(np.sort(remaining[chosen]))
        remaining = remaining[~chosen]
    for name, size, part in zip(("validate", "test"), sizes, taken, strict=True):
        if size and not len(part):
            raise DataInvalid(
                f"no class has a row to spare to {name}: give more rows of each class, "
                "or set data.split.validationPercent and testPercent to 0"
            )
    return Parts(np.sort(remaining), taken[0], taken[1])


def _proportional(order: Integers, classes: AnyArray, size: int) -> AnyArray:
    """Mask over `order` of `size` rows with about the class proportions of `order` (largest remainder)."""
    _, codes, counts = np.unique(classes[order], return_inverse=True, return_counts=True)
    exact = counts * (size / len(order))
    quota = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    while quota.sum() < size and (quota < counts - 1).any():
        # Largest remainder first; a tie goes to the class that comes first, so that the seed alone decides.
        open_ = np.flatnonzero(quota < counts - 1)
        quota[open_[np.argmax((exact - quota)[open_])]] += 1
    chosen = np.zeros(len(order), dtype=np.bool_)
    for code, number in enumerate(quota):
        chosen[np.flatnonzero(codes == code)[:number]] = True
    return chosen
