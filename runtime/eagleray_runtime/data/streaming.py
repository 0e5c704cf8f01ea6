"""Rows that are never in memory as a whole: read in chunks, once for each thing that is to be known of them and in each epoch.

What is decided and fitted is what `dataset` decides and fits of the same rows, by sums and counts that can be added up.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray, Bools, Integers
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import ColumnType, Outliers
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, DataReport
from eagleray_runtime.data import by_position, chunks, encoding, notes, outliers, preparation, task
from eagleray_runtime.data.by_position import TEST, TRAINING, VALIDATION
from eagleray_runtime.data.chunks import Chunk, Chunks
from eagleray_runtime.data.cleaning import require_usable
from eagleray_runtime.data.dataset import (
    Dataset,
    Prepared,
    Streams,
    example_of,
    require_classes,
    require_no_target_scaling,
    target_scaling,
)
from eagleray_runtime.data.outliers import Bounds
from eagleray_runtime.data.overrides import per_column
from eagleray_runtime.data.preparation import AnyColumn, Preparation, Transform, rows_without_value
from eagleray_runtime.data.reading import Source, table_of
from eagleray_runtime.data.rows import Rows, column_types, learned_columns
from eagleray_runtime.data.scaling import Moments
from eagleray_runtime.data.splitting import shares
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid

POOL_NUMBERS = 2**22
"""Prepared numbers that are mixed with each other before they are learned from: 32 MiB of float64, over all lanes."""

PIECE_ROWS = 2**13
"""Rows that are handed out at a time where their order is that of the data."""

MOST_CATEGORIES = 2**20
"""Different values of a column of text that are counted."""

NAMES = {TRAINING: "train", VALIDATION: "validate", TEST: "test"}


@dataclass(frozen=True)
class Stored:
    """Rows as they are stored, of a whole data set or of a part of its chunks, cleaned as they are read."""

    chunks: Chunks
    features: list[str]
    target: str
    types: dict[str, ColumnType]
    wanted: blocks.Preparation
    split: blocks.Split

    def rows(self, chunk: Chunk) -> "ChunkRows":
        """The rows of a chunk that are fit to be learned from.

        Raises:
            DataInvalid, StoreRefused: they cannot be read, or not be learned from.
        """
        names = list(dict.fromkeys([*self.features, self.target]))
        read = Source(self.chunks.read(chunk, names), self.chunks.digest)
        table = table_of([read], names, self.types, lambda index: f"row {chunk.first + index + 1}")
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
            name=self.target,
            target=rows.target.take(numbers),
            parts=by_position.parts(chunk.first, chunk.rows, self.split)[numbers],
            incomplete=set(incomplete),
            dropped=chunk.rows - len(numbers),
        )

    def __iter__(self) -> Iterator["ChunkRows"]:
        return map(self.rows, self.chunks.chunks)


@dataclass(frozen=True)
class ChunkRows:
    """Rows of a chunk that are fit to be learned from, the part of each, and how many others lack a value in which columns.

    `name` is that of the target.
    """

    features: Table
    name: str
    target: Column
    parts: AnyArray
    incomplete: set[str]
    dropped: int

    def of(self, part: int) -> Integers:
        """The places of the rows of a part."""
        return np.flatnonzero(self.parts == part)


@dataclass(frozen=True)
class Stream:
    """Prepared rows of stored ones; `classes` are empty for a target that is a number."""

    stored: Stored
    preparation: Preparation
    classes: tuple[str, ...]

    def prepared(self, number: int, part: int) -> Prepared:
        """The rows of a part in a chunk, by its number: float64 [rows, features], and float64 or int64 [rows]."""
        rows = self.stored.rows(self.stored.chunks.chunks[number])
        places = rows.of(part)
        target = rows.target.take(places)
        if self.classes:
            known = {name: index for index, name in enumerate(self.classes)}
            y: AnyArray = np.array([known[name] for name in task.labels(target)], dtype=np.int64)
        else:
            y = (target.values - self.preparation.target.offset) / self.preparation.target.scale
        return self._transform.table(rows.features.take(places)), y

    @cached_property
    def _transform(self) -> Transform:
        return Transform(self.preparation)


@dataclass(frozen=True)
class StreamedPart:
    """A part of the rows, which is read anew each time; `sizes` are its rows in each chunk, `counts` those of each class."""

    stream: Stream
    part: int
    sizes: tuple[int, ...]
    counts: tuple[int, ...] = ()

    @property
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
        for number, size in enumerate(self.sizes):
            if size:
                x, y = self.stream.prepared(number, self.part)
                for start in range(0, size, PIECE_ROWS):
                    yield x[start : start + PIECE_ROWS], y[start : start + PIECE_ROWS]

    def batches(self, size: int, streams: Streams) -> Iterator[Prepared]:
        """All rows in the order that the random numbers decide, so many at a time; the last time there may be less."""
        return self.shares(size, 1, (0,), streams)

    def shares(
        self, size: int, lanes: int, mine: Sequence[int], streams: Streams | None = None, number: Any = np.float64
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
        pool = max(1, POOL_NUMBERS // (max(1, *self.shape) * lanes))
        own = {
            lane: _Lane(
                self._stretch(order, ends[lane] - lengths[lane], ends[lane], number),
                pool,
                streams(lane + 1) if streams is not None else None,
                self._nothing(number),
            )
            for lane in mine
        }
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            taken = [own[lane].take(len(range(start + (lane - start) % lanes, stop, lanes))) for lane in mine]
            yield _joined(taken) if len(taken) != 1 else taken[0]

    def _stretch(self, order: AnyArray, begin: int, end: int, number: Any) -> Iterator[Prepared]:
        """The rows from `begin` up to `end` of the chunks one after the other."""
        before = 0
        for chunk in order.tolist():
            first, last = max(begin - before, 0), min(end - before, self.sizes[chunk])
            if first < last:
                x, y = self.stream.prepared(chunk, self.part)
                yield x[first:last].astype(number), y[first:last].astype(y.dtype if self.stream.classes else number)
            before += self.sizes[chunk]

    def _nothing(self, number: Any) -> Prepared:
        return np.empty((0, *self.shape), dtype=number), np.empty(0, dtype=np.int64 if self.stream.classes else number)


class _Lane:
    """Rows of a stretch, of which about `pool` at a time are mixed with each other."""

    def __init__(self, stretch: Iterator[Prepared], pool: int, random: np.random.Generator | None, nothing: Prepared) -> None:
        self._stretch, self._pool, self._random, self._rest = stretch, pool, random, nothing

    def take(self, rows: int) -> Prepared:
        """The next so many rows."""
        while len(self._rest[1]) < rows:
            self._rest = _joined([self._rest, self._mixed()])
        x, y = self._rest
        self._rest = x[rows:], y[rows:]
        return x[:rows], y[:rows]

    def _mixed(self) -> Prepared:
        found = [next(self._stretch)]
        while self._random is not None and sum(len(y) for _, y in found) < self._pool:
            if (more := next(self._stretch, None)) is None:
                break
            found.append(more)
        x, y = _joined(found)
        if self._random is None:
            return x, y
        order = self._random.permutation(len(y))
        return x[order], y[order]


def _joined(pieces: Sequence[Prepared]) -> Prepared:
    return np.concatenate([x for x, _ in pieces]), np.concatenate([y for _, y in pieces])


@dataclass
class Survey:
    """What is seen of the stored rows in one pass, and of the columns that are clipped in another one.

    `sizes` are the rows of each part in each chunk; `labels` how often each class occurs in each part, as long as the target may
    be one; `numbers` are the different ones of a target of numbers; `lacks` is whether any row has no value somewhere. `present`
    and `missing` are of the numbers of the training part, `categories` of its text, by column.
    """

    sizes: dict[int, list[int]] = field(default_factory=lambda: {part: [] for part in NAMES})
    dropped: int = 0
    incomplete: set[str] = field(default_factory=set)
    kind: Kind = Kind.REAL
    is_whole: bool = True
    numbers: set[float] = field(default_factory=set)
    labels: dict[int, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in NAMES})
    target: Moments = field(default_factory=Moments)
    present: dict[str, Moments] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    lacks: bool = False
    categories: dict[str, Counter[str | None]] = field(default_factory=dict)
    example: dict[str, Any] | None = None

    def see(self, rows: ChunkRows) -> None:
        """Take a chunk in."""
        for part in NAMES:
            self.sizes[part].append(len(rows.of(part)))
        self.dropped += rows.dropped
        self.incomplete |= rows.incomplete
        self._see_target(rows)
        training = rows.of(TRAINING)
        if self.example is None and len(training):
            self.example = example_of(rows.features.take(training))
        for name in rows.features:
            missing = rows.features[name].missing
            self.lacks = self.lacks or bool(missing.any())
            self._see_column(name, rows.features[name].take(training), missing[training])

    def _see_column(self, name: str, column: Column, missing: Bools) -> None:
        if column.kind is not Kind.TEXT:
            self.present[name] = self.present.get(name, Moments()) + Moments.of(column.values[~missing])
            self.missing[name] += int(missing.sum())
            return
        counts = self.categories.setdefault(name, Counter())
        counts.update(column.values.tolist())
        if len(counts) > MOST_CATEGORIES:
            raise DataInvalid(
                f"column {name} has more than {MOST_CATEGORIES} categories: leave it out by data.features if it names each row, "
                "or say Identifier in data.columns"
            )

    def _see_target(self, rows: ChunkRows) -> None:
        target = rows.target
        self.kind = target.kind
        if target.kind is not Kind.TEXT:
            self.target += Moments.of(target.values[rows.of(TRAINING)])
            self.is_whole = self.is_whole and bool((target.values == np.floor(target.values)).all())
            if len(self.numbers) <= task.MOST_DISTINCT:
                self.numbers.update(np.unique(target.values).tolist())
        if self.seen.whole and self.seen.distinct <= task.FEW_VALUES:
            for part in NAMES:
                self.labels[part].update(task.labels(target.take(rows.of(part))).tolist())
            if len(self.labels[TRAINING]) > MOST_CATEGORIES:
                raise DataInvalid(f"target column {rows.name} holds more than {MOST_CATEGORIES} classes: name another column")

    @property
    def seen(self) -> task.Seen:
        """What decides the task."""
        return task.Seen(self.kind, len(self.numbers), self.is_whole)


def load(config: TrainingConfig) -> Dataset:
    """Find the rows, decide the task and fit the preparation, in a few passes over them.

    Raises:
        DataInvalid: the rows cannot be learned from.
        ModelInvalid: loss and family or target do not go together.
        StoreRefused: they cannot be read.
    """
    stored = _stored(config)
    survey = Survey()
    for rows in stored:
        survey.see(rows)
    name, sizes = stored.target, {part: sum(found) for part, found in survey.sizes.items()}
    _require_rows(sizes, survey, config.data.split)
    decided = task.decide(config, name, survey.seen)
    chosen = [*decided.chosen]
    if config.data.split.method is blocks.SplitMethod.AUTO:
        reason = "rows that are streamed are dealt each by itself"
        chosen.append(Choice(field="data.split.method", value=blocks.SplitMethod.RANDOM, reason=reason))
    fitted, asked = _fitted(stored, survey)
    classes: list[str] = []
    if decided.task == "Classification":
        require_no_target_scaling(config)
        classes = _classes(name, survey)
    else:
        affine = survey.target.affine(target_scaling(config, chosen))
        fitted = fitted.model_copy(update={"target": affine})
    changes = notes.Changes()
    if survey.lacks or any(column.low is not None for column in fitted.numeric):
        for rows in stored:
            changes.see(rows.features, fitted)
    stream = Stream(stored, fitted, tuple(classes))
    parts = {
        part: StreamedPart(stream, part, tuple(found), tuple(survey.labels[part][each] for each in classes))
        for part, found in survey.sizes.items()
    }
    return Dataset(
        task=decided.task,
        loss=decided.loss,
        training=parts[TRAINING],
        validation=parts[VALIDATION],
        test=parts[TEST],
        preparation=fitted,
        classes=classes,
        target=name,
        example=survey.example or {},
        report=DataReport(
            rows=sum(chunk.rows for chunk in stored.chunks.chunks),
            training=sizes[TRAINING],
            validation=sizes[VALIDATION],
            test=sizes[TEST],
            dropped=survey.dropped,
            changed=changes.rows,
            digest=stored.chunks.digest,
            notes=notes.bounded(
                [*notes.without_value(survey.dropped, sorted(survey.incomplete)), *notes.changes(changes, fitted, asked)]
            ),
        ),
        chosen=chosen,
    )


def _stored(config: TrainingConfig) -> Stored:
    data = config.data
    if config.data_location is None or data.target is None:
        raise DataInvalid("data.loading Stream needs data.uri and data.target: set them, or use Memory")
    found = chunks.find(config.data_location, data.format)
    names = list(found.schema.names)
    types = column_types(data, names)
    features = learned_columns(data, data.target, names, types)
    if not features:
        raise DataInvalid(f"there is no column to learn from beside the target {data.target}")
    return Stored(found, features, data.target, types, data.preparation, data.split)


def _require_rows(sizes: dict[int, int], survey: Survey, split: blocks.Split) -> None:
    if not sum(sizes.values()):
        raise DataInvalid(
            "every row has a missing value and data.preparation says DropRow: choose what replaces a missing value instead"
        )
    wanted = dict(zip((VALIDATION, TEST), shares(split), strict=True)) | {TRAINING: 1}
    for part, share in wanted.items():
        if share and not sizes[part]:
            raise DataInvalid(
                f"of {sum(sizes.values())} rows, which data.loading Stream deals each by itself, none came to {NAMES[part]}: "
                "give more rows, another data.split.seed, or use data.loading Memory"
            )


def _classes(target: str, survey: Survey) -> list[str]:
    known = survey.labels[TRAINING]
    require_classes(target, list(known))
    for part in (VALIDATION, TEST):
        if others := sorted(set(survey.labels[part]) - set(known)):
            raise DataInvalid(
                f"class {others[0]} of target column {target} is not in the training part: give more rows of it, another "
                "data.split.seed, or use data.loading Memory, which can split by class"
            )
    return task.in_order(known, survey.kind)


def _fitted(stored: Stored, survey: Survey) -> tuple[Preparation, dict[str, blocks.Preparation]]:
    """The preparation of the features, and what is asked for each."""
    kinds = stored.rows(stored.chunks.chunks[0]).features
    asked = per_column(kinds, stored.wanted)
    limits: dict[str, Bounds] = {}
    for name, moments in survey.present.items():
        found = outliers.by_moments(moments) if asked[name].outliers is Outliers.Z_SCORE else None
        if found is not None and kinds[name].kind is not Kind.BOOLEAN:
            limits[name] = found
    present = dict(survey.present)
    if limits:
        clipped = dict.fromkeys(limits, Moments())
        for rows in stored:
            training = rows.of(TRAINING)
            for name, (low, high) in limits.items():
                values = rows.features[name].values[training]
                clipped[name] += Moments.of(np.clip(values[~np.isnan(values)], low, high))
        present |= clipped
    columns: list[AnyColumn] = []
    for name, wanted in asked.items():
        if name in survey.categories:
            columns.append(encoding.fit(name, survey.categories[name], wanted))
        else:
            missing = survey.missing[name]
            columns.append(preparation.numeric_by_moments(name, present[name], missing, limits.get(name), wanted))
    return Preparation(columns=columns), asked
