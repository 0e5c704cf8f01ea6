"""What became of the rows, in a few short notes: they stand in the resource's status and in the model card."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from eagleray_runtime.arrays import Bools
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import MissingNumeric
from eagleray_runtime.data.encoding import words_among_numbers
from eagleray_runtime.data.images import ImageColumn
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


def left_out(names: Iterable[str]) -> list[str]:
    """Notes on columns that number the rows, as pandas saves them, or have no name."""
    return [
        f"column {name} left out: it numbers the rows; name it in data.features to learn from it"
        if name
        else "a column without a name left out: give it one to learn from it"
        for name in names
    ]


def mostly_numbers(name: str, categories: Mapping[str | None, int]) -> list[str]:
    """Note on a column of text of which more than half the values are numbers, but not all, by how often each occurs."""
    found = words_among_numbers(categories)
    if found is None:
        return []
    return [
        f"{found.numbers} of {found.rows} values of {_short(name)} are numbers, {_short(found.word)!r} is not: all are taken as "
        "categories; leave a missing value empty, or say Categorical in data.columns"
    ]


def without_value(rows: int, names: Iterable[str]) -> list[str]:
    """Note on the rows that were dropped for want of a value, and the columns that lack it."""
    return [f"{_counted(rows, 'row')} without {_named(names)} dropped"] if rows else []


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


@dataclass
class Changes:
    """How many rows a preparation changes by more than scaling and encoding, and in which columns it fills and clips values."""

    rows: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    clipped: Counter[str] = field(default_factory=Counter)

    def see(self, features: Table, preparation: Preparation) -> Self:
        """Count those of more rows."""
        changed = np.zeros(features.rows, dtype=np.bool_)
        for column in preparation.columns:
            if isinstance(column, ImageColumn | TextColumn):
                continue
            missing = features[column.name].missing
            changed |= missing
            self.missing[column.name] += int(missing.sum())
            if isinstance(column, NumericColumn) and column.low is not None and column.high is not None:
                values = features[column.name].values
                clipped = (values < column.low) | (values > column.high)
                changed |= clipped
                self.clipped[column.name] += int(clipped.sum())
        self.rows += int(changed.sum())
        return self


def changes(found: Changes, preparation: Preparation, asked: Mapping[str, blocks.Preparation]) -> list[str]:
    """A note on each column of which values are changed; `asked` says how it was fitted, where that is known."""
    notes: list[str] = []
    for column in preparation.columns:
        if isinstance(column, ImageColumn | TextColumn):
            continue
        name = column.name
        if count := found.missing[name]:
            fill: float | str | None = column.fill
            if isinstance(column, NumericColumn):
                how = FILLS.get(asked[name].missing_numeric, "") if name in asked else ""
                replaced = f"replaced by {how}{fill:.6g}"
            elif fill == "":
                replaced = "taken as a category of their own"
            else:
                replaced = f"replaced by the most frequent, {_short(str(fill))}"
            notes.append(f"{_counted(count, 'missing value')} of {_short(name)} {replaced}")
        if isinstance(column, NumericColumn) and (count := found.clipped[name]):
            notes.append(f"{_counted(count, 'value')} of {_short(name)} clipped to {column.low:.6g}..{column.high:.6g}")
    return notes


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
