"""What became of the rows, in a few short notes: they stand in the resource's status and in the model card."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from eagleray_runtime.arrays import Bools
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import MissingNumeric
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.overrides import per_column
from eagleray_runtime.data.preparation import NumericColumn, Preparation
from eagleray_runtime.data.table import Table
from eagleray_runtime.data.texts import TextColumn

MOST_NOTES = 16
LONGEST_WORD = 40
"""Characters of a column's name or a category in a note."""

FILLS = {
    MissingNumeric.MEAN: "the mean, ",
    MissingNumeric.MEDIAN: "the median, ",
    MissingNumeric.MOST_FREQUENT: "the most frequent, ",
}


def without_value(masks: Mapping[str, Bools]) -> list[str]:
    """Note on the rows that were dropped for want of a value, by the columns that lack it."""
    return [f"{_rows(masks.values())} without {_named(masks)} dropped"] if masks else []


def windows(numbers: Sequence[int]) -> list[str]:
    """Note on the windows of the training, validation and test part."""
    training, validation, test = numbers
    return [f"windows: {training} to train, {validation} to validate, {test} to test"]


def repeated(rows: int) -> list[str]:
    """Note on the rows that were dropped because they repeat earlier ones."""
    return [f"{_counted(rows, 'row')} dropped: repeats of earlier ones"] if rows else []


def outlying(masks: Mapping[str, Bools]) -> list[str]:
    """Note on the rows of the training part that were dropped, by the columns of which they hold outliers."""
    return [f"{_rows(masks.values())} of the training part with outliers in {_named(masks)} dropped"] if masks else []


def changes(features: Table, preparation: Preparation, wanted: blocks.Preparation | None) -> tuple[int, list[str]]:
    """How many rows the preparation changes by more than scaling and encoding, and a note on each column where it does.

    `wanted` says how the preparation was fitted, if that is known.
    """
    changed = np.zeros(features.rows, dtype=np.bool_)
    notes: list[str] = []
    asked = per_column(features, wanted) if wanted is not None else {}
    for column in preparation.columns:
        if isinstance(column, ImageColumn | TextColumn):
            continue
        name = column.name
        missing = features[name].missing
        changed |= missing
        if count := int(missing.sum()):
            fill: float | str | None = column.fill
            if isinstance(column, NumericColumn):
                how = FILLS.get(asked[name].missing_numeric, "") if name in asked else ""
                replaced = f"replaced by {how}{fill:.6g}"
            elif fill == "":
                replaced = "taken as a category of their own"
            else:
                replaced = f"replaced by the most frequent, {_short(str(fill))}"
            notes.append(f"{_counted(count, 'missing value')} of {_short(name)} {replaced}")
        if isinstance(column, NumericColumn) and column.low is not None and column.high is not None:
            values = features[name].values
            clipped = (values < column.low) | (values > column.high)
            changed |= clipped
            if count := int(clipped.sum()):
                notes.append(f"{_counted(count, 'value')} of {_short(name)} clipped to {column.low:.6g}..{column.high:.6g}")
    return int(changed.sum()), notes


def bounded(notes: list[str]) -> list[str]:
    """The first notes of many, and how many more there are."""
    if len(notes) <= MOST_NOTES:
        return notes
    shown = notes[: MOST_NOTES - 1]
    return [*shown, f"and {len(notes) - len(shown)} more of this kind"]


def _rows(masks: Iterable[Bools]) -> str:
    return _counted(int(np.logical_or.reduce(list(masks)).sum()), "row")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _named(names: Iterable[str]) -> str:
    shown = [_short(name) for name in names]
    return ", ".join(shown) if len(shown) <= 3 else f"{', '.join(shown[:2])} or {len(shown) - 2} more columns"


def _short(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 3]}..."
