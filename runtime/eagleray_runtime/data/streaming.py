"""Rows that are never in memory as a whole: read in chunks, anew in each epoch, in an order that the seed decides."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.data import task
from eagleray_runtime.data.dataset import Prepared, Streams
from eagleray_runtime.data.preparation import Preparation, Transform
from eagleray_runtime.data.stored import Stored

POOL_NUMBERS = 2**21
"""Prepared numbers that are mixed with each other before they are learned from: 16 MiB of float64, over all lanes."""

PIECE_ROWS = 2**13
"""Rows that are handed out at a time where their order is that of the data."""

Number: TypeAlias = type[np.float32] | type[np.float64]


@dataclass(frozen=True)
class Stream:
    """Prepared rows of stored ones; `classes` are empty for a target that is a number."""

    stored: Stored
    preparation: Preparation
    classes: tuple[str, ...]

    def reader(self, part: int, number: Number) -> Callable[[int], Prepared]:
        """What reads the rows of a part in a chunk by its number, for one pass over the data: [rows, features] as such numbers,
        and their targets [rows], which are such numbers too or, of classes, int64."""
        read, transform = self.stored.reader(), Transform(self.preparation)
        affine, known = self.preparation.target, {name: index for index, name in enumerate(self.classes)}

        def prepared(chunk: int) -> Prepared:
            place = self.stored.chunks.chunks[chunk]
            rows = read(place)
            places = rows.of(part)
            target = rows.target.take(places)
            x = transform.table(rows.features.take(places)).astype(number, copy=False)
            if not known:
                return x, ((target.values - affine.offset) / affine.scale).astype(number, copy=False)
            labels = task.labels(target)
            if not known.keys() >= set(labels):
                raise place.changed()
            return x, np.array([known[name] for name in labels], dtype=np.int64)

        return prepared


@dataclass(frozen=True)
class StreamedPart:
    """A part of the rows, which is read anew each time; `sizes` are its rows in each chunk, `counts` those of each class."""

    stream: Stream
    part: int
    sizes: tuple[int, ...]
    counts: tuple[int, ...] = ()

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a prepared row."""
        return (len(self.stream.preparation.outputs),)

    def class_counts(self, classes: int) -> Integers:
        """Rows of each class, int64 [classes]."""
        return np.array(self.counts, dtype=np.int64)

    def pieces(self) -> Iterator[Prepared]:
        """All rows in the order of the data, at most `PIECE_ROWS` at a time."""
        return self.shares(PIECE_ROWS, 1, (0,))

    def batches(self, size: int, streams: Streams) -> Iterator[Prepared]:
        """All rows in the order that the random numbers decide, so many at a time; the last time there may be less."""
        return self.shares(size, 1, (0,), streams)

    def shares(
        self, size: int, lanes: int, mine: Sequence[int], streams: Streams | None = None, number: Number = np.float64
    ) -> Iterator[Prepared]:
        """One worker's share of each batch of `size` rows (the last one may have less), as many of them on every worker.

        The chunks follow each other in the order of the data, or in one that `streams` draws. Each lane takes a stretch of this
        order of its own, mixes its rows if `streams` are given, and gives of batch after batch every row whose number among all
        rows is, modulo `lanes`, that of the lane. So a batch does not depend on how many workers share the lanes.

        Args:
            lanes: how many there are. mine: numbers of those that are this worker's.
            number: type of the numbers; those of classes are int64.
        """
        order = np.flatnonzero(self.sizes)
        if streams is not None:
            order = streams(0).permutation(order)
        lengths = [len(range(lane, self.rows, lanes)) for lane in range(lanes)]
        ends = list(accumulate(lengths))
        pool = POOL_NUMBERS // (max(1, *self.shape) * lanes) if streams is not None else 0
        read = self.stream.reader(self.part, number)
        nothing = (np.empty((0, *self.shape), number), np.empty(0, np.int64 if self.stream.classes else number))
        # One thread for all lanes, so that one chunk is read at a time.
        with ThreadPoolExecutor(1) as thread:
            own = {
                lane: _Lane(
                    _ahead(_pools(self._stretch(read, order, ends[lane] - lengths[lane], ends[lane]), pool), thread),
                    streams(lane + 1) if streams is not None else None,
                )
                for lane in mine
            }
            for start in range(0, self.rows, size):
                stop = min(start + size, self.rows)
                wanted = {lane: len(range(start + (lane - start) % lanes, stop, lanes)) for lane in mine}
                found = [piece for lane in mine for piece in own[lane].take(wanted[lane])]
                yield _joined(found or [nothing])

    def _stretch(self, read: Callable[[int], Prepared], order: AnyArray, begin: int, end: int) -> Iterator[Prepared]:
        """The rows from `begin` up to `end` of the chunks one after the other."""
        before = 0
        for chunk in order.tolist():
            first, last = max(begin - before, 0), min(end - before, self.sizes[chunk])
            if first < last:
                x, y = read(chunk)
                if len(y) != self.sizes[chunk]:
                    raise self.stream.stored.chunks.chunks[chunk].changed()
                yield x[first:last], y[first:last]
            before += self.sizes[chunk]


class _Lane:
    """Rows in pools, of which those of one are mixed; without random numbers they keep their order."""

    def __init__(self, pools: Iterator[Prepared], random: np.random.Generator | None) -> None:
        self._pools, self._random = pools, random
        self._rows: Prepared | None = None
        self._order: Integers = np.empty(0, dtype=np.int64)

    def take(self, rows: int) -> Iterator[Prepared]:
        """The next so many rows, in pieces."""
        while rows:
            if self._rows is None or not len(self._order):
                self._rows = next(self._pools)
                count = len(self._rows[1])
                self._order = np.arange(count) if self._random is None else self._random.permutation(count)
            taken, self._order = self._order[:rows], self._order[rows:]
            x, y = self._rows
            yield x[taken], y[taken]
            rows -= len(taken)


def _pools(pieces: Iterator[Prepared], rows: int) -> Iterator[Prepared]:
    """The pieces joined to at least so many rows, but for the last ones."""
    found: list[Prepared] = []
    for piece in pieces:
        found.append(piece)
        if sum(len(y) for _, y in found) >= rows:
            pool, found = _joined(found), []
            yield pool
    if found:
        yield _joined(found)


def _ahead(pools: Iterator[Prepared], thread: Executor) -> Iterator[Prepared]:
    """The same, of which each is made while the one before is learned from."""
    coming = thread.submit(next, pools, None)
    while (pool := coming.result()) is not None:
        coming = thread.submit(next, pools, None)
        yield pool


def _joined(pieces: Sequence[Prepared]) -> Prepared:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([x for x, _ in pieces]), np.concatenate([y for _, y in pieces])
