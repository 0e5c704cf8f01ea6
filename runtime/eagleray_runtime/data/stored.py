"""Rows as they are stored, read a chunk at a time and cleaned as they are read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import ColumnType
from eagleray_runtime.data import by_position
from eagleray_runtime.data.chunks import Chunk, Chunks
from eagleray_runtime.data.cleaning import require_usable
from eagleray_runtime.data.preparation import rows_without_value
from eagleray_runtime.data.reading import Source, table_of
from eagleray_runtime.data.rows import Rows
from eagleray_runtime.data.table import Column, Table


@dataclass(frozen=True)
class ChunkRows:
    """Rows of a chunk that are fit to be learned from, the part of each, and how many others lack a value in which columns."""

    features: Table
    target: Column
    parts: AnyArray
    incomplete: set[str]
    dropped: int

    def of(self, part: int) -> Integers:
        """The places of the rows of a part."""
        return np.flatnonzero(self.parts == part)


Reader: TypeAlias = Callable[[Chunk], ChunkRows]
"""Reads the rows of a chunk, as `Stored.reader` says."""


@dataclass(frozen=True)
class Stored:
    """All rows of a data set, of which a chunk at a time is read: what is learned from them, how they are cleaned and dealt, and
    what is to be told of how they are read."""

    chunks: Chunks
    features: list[str]
    target: str
    types: dict[str, ColumnType]
    wanted: blocks.Preparation
    split: blocks.Split
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[ChunkRows]:
        """All rows in their order."""
        return map(self.reader(), self.chunks.chunks)

    def reader(self) -> Reader:
        """What reads the rows of a chunk, for one pass over the data.

        It raises DataInvalid and StoreRefused where they cannot be read, or not be learned from.
        """
        names = list(dict.fromkeys([*self.features, self.target]))
        stored = self.chunks.reader(names)

        def rows(chunk: Chunk) -> ChunkRows:
            source = Source(stored(chunk), self.chunks.digest)
            table = table_of([source], names, self.types, lambda index: f"row {chunk.first + index + 1}")
            return self._cleaned(chunk, table)

        return rows

    def _cleaned(self, chunk: Chunk, table: Table) -> ChunkRows:
        rows = Rows(
            features=table.select(self.features),
            target_name=self.target,
            target=table[self.target],
            digest=self.chunks.digest,
            held_out={},
            groups=None,
            before=chunk.first,
        )
        require_usable(rows)
        incomplete = rows_without_value(rows.features, self.wanted, rows.place)
        kept = np.ones(chunk.rows, dtype=np.bool_)
        for mask in incomplete.values():
            kept &= ~mask
        numbers = np.flatnonzero(kept)
        return ChunkRows(
            features=rows.features.take(numbers),
            target=rows.target.take(numbers),
            parts=by_position.parts(chunk.first, chunk.rows, self.split)[numbers],
            incomplete=set(incomplete),
            dropped=chunk.rows - len(numbers),
        )
