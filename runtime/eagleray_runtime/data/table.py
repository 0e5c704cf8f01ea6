"""Columns in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from eagleray_runtime.arrays import AnyArray, Bools, Integers


class Kind(Enum):
    """What a column holds; text of a DOCUMENT is learned from by its words, other TEXT is a category."""

    REAL = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    TEXT = auto()
    DOCUMENT = auto()
    IMAGE = auto()
    PICTURE = auto()


IMAGES = frozenset({Kind.IMAGE, Kind.PICTURE})
"""Images as they are stored, and those that were made of pictures' files."""

TEXTS = frozenset({Kind.TEXT, Kind.DOCUMENT})


@dataclass(frozen=True)
class Column:
    """Values of one column.

    Text is an object array of str or None; images are numbers of any type [rows, height, width, channels], of which none is
    missing; all else is float64 with NaN for a missing value (true is 1.0, false 0.0).
    """

    kind: Kind
    values: AnyArray

    @property
    def missing(self) -> Bools:
        """Which rows have no value, shape [rows]."""
        if self.kind in TEXTS:
            return np.array([value is None for value in self.values], dtype=np.bool_)
        if self.kind in IMAGES:
            return np.zeros(len(self.values), dtype=np.bool_)
        return np.isnan(self.values)

    def take(self, rows: Integers) -> "Column":
        """The same column with these rows only, in this order."""
        return Column(self.kind, self.values[rows])


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name, in the order of the data."""

    columns: dict[str, Column]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next((len(column.values) for column in self.columns.values()), 0)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def take(self, rows: Integers) -> "Table":
        """The same columns with these rows only, in this order."""
        return Table({name: column.take(rows) for name, column in self.columns.items()})

    def select(self, names: list[str]) -> "Table":
        """These columns only, in this order."""
        return Table({name: self.columns[name] for name in names})
