"""Division of the rows into training, validation and test part."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract.blocks import Split, SplitMethod
from eagleray_runtime.data.table import Column
from eagleray_runtime.errors import DataInvalid

DEFAULT_PERCENT = 10

NO_ROWS = np.empty(0, dtype=np.int64)
"""Of a part that has none."""


class Parts(NamedTuple):
    """Row numbers of each part, in the order of the data."""

    training: Integers
    validation: Integers
    test: Integers


def split_rows(rows: int, split: Split, classes: AnyArray | None, groups: Column | None = None, doubt: str = "") -> Parts:
    """Deal the rows; the same seed and rows give the same parts.

    A share above zero is at least one row. With `classes` (shape [rows], any values) each part gets every class in about
    the proportion of the whole, and a class is never without a row to train on. With `groups` (a column of as many rows)
    all rows of a group are in the same part. `doubt` is what a message on the classes is to add.

    Raises:
        DataInvalid: nothing would be left to train on.
    """
    sizes = _sizes(rows, split)
    if split.method is SplitMethod.CHRONOLOGICAL:
        return Parts(*np.split(np.arange(rows), np.cumsum([rows - sum(sizes), sizes[0]])))
    random = np.random.default_rng(split.seed)
    if groups is not None:
        return _by_group(groups, sizes, random)
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
                f"or set data.split.validationPercent and testPercent to 0{doubt}"
            )
    return Parts(np.sort(remaining), taken[0], taken[1])


def fold_rows(
    rows: int, count: int, method: SplitMethod, seed: int, classes: AnyArray | None, groups: Column | None
) -> Iterator[tuple[Integers, Integers]]:
    """The rows to train and to validate on, `count` times; each row is validated on once.

    With `classes` each fold has every class in about the proportion of the whole, with `groups` all rows of a group are in one
    fold. Chronological folds follow each other: the first rows are trained on alone, and each fold is validated on after all
    before it.

    Raises:
        DataInvalid: there are fewer rows or groups than folds.
    """
    if method is SplitMethod.CHRONOLOGICAL:
        blocks = np.array_split(np.arange(rows), count + 1)
        if rows <= count:
            raise DataInvalid(f"{rows} rows are too few for {count} folds: lower evaluation.crossValidation.folds")
        for number in range(1, count + 1):
            yield np.concatenate(blocks[:number]), blocks[number]
        return
    fold_of = _fold_of_rows(rows, count, np.random.default_rng(seed), classes, groups)
    for number in range(count):
        yield np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)


def _fold_of_rows(
    rows: int, count: int, random: np.random.Generator, classes: AnyArray | None, groups: Column | None
) -> Integers:
    """The fold of each row, from 0."""
    order = random.permutation(rows)
    fold_of = np.zeros(rows, dtype=np.int64)
    if groups is not None:
        names, codes, counts = np.unique(groups.values, return_inverse=True, return_counts=True)
        if len(names) < count:
            raise DataInvalid(f"{len(names)} groups are too few for {count} folds: lower evaluation.crossValidation.folds")
        sizes = np.zeros(count, dtype=np.int64)
        fold_of_group = np.zeros(len(names), dtype=np.int64)
        # The large groups first, each to the smallest fold; among groups of one size chance decides.
        for group in sorted(random.permutation(len(names)), key=lambda group: -counts[group]):
            fold_of_group[group] = sizes.argmin()
            sizes[fold_of_group[group]] += counts[group]
        return fold_of_group[codes]
    if rows < count:
        raise DataInvalid(f"{rows} rows are too few for {count} folds: lower evaluation.crossValidation.folds")
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    fold_of[order] = np.arange(rows) % count
    return fold_of


def shares(split: Split) -> list[int]:
    """Share of the validation and of the test part, in percent."""
    wanted = ((split.validation_percent, split.validation_uri), (split.test_percent, split.test_uri))
    return [0 if uri else DEFAULT_PERCENT if percent is None else percent for percent, uri in wanted]


def _sizes(rows: int, split: Split) -> list[int]:
    """Rows of the validation and of the test part."""
    sizes = [max(1, round(rows * share / 100)) if share else 0 for share in shares(split)]
    if rows - sum(sizes) < 1:
        raise DataInvalid(
            f"{rows} rows leave none to train on beside {sizes[0]} to validate and {sizes[1]} to test: "
            "give more rows or set data.split.validationPercent and testPercent to 0"
        )
    return sizes


def _by_group(groups: Column, sizes: list[int], random: np.random.Generator) -> Parts:
    """Groups in a random order; a part takes each that brings it nearer to its size, and at least the smallest one."""
    missing = groups.missing
    if missing.any():
        raise DataInvalid(
            f"{int(missing.sum())} rows have no value in data.split.groupColumn: give each row a group, or remove these rows"
        )
    names, codes, counts = np.unique(groups.values, return_inverse=True, return_counts=True)
    parts = 1 + sum(1 for size in sizes if size)
    if len(names) < parts:
        raise DataInvalid(
            f"data.split.groupColumn holds {len(names)} groups, too few for {parts} parts: choose another column or method, "
            "or set data.split.validationPercent or testPercent to 0"
        )
    part_of_group = np.zeros(len(names), dtype=np.int64)
    order = random.permutation(len(names))
    for part, size in enumerate(sizes, start=1):
        if not size:
            continue
        parts -= 1
        taken = 0
        for group in order:
            spare = np.count_nonzero(part_of_group == 0) > parts
            if spare and part_of_group[group] == 0 and counts[group] <= 2 * (size - taken):
                part_of_group[group] = part
                taken += counts[group]
        if not taken:
            free = order[part_of_group[order] == 0]
            part_of_group[free[np.argmin(counts[free])]] = part
    return Parts(*(np.flatnonzero(part_of_group[codes] == part) for part in range(3)))


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
