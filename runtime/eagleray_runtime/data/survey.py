"""What is decided and fitted of rows that are streamed, in a few passes over them.

It is what `dataset` decides and fits of the same rows, by sums and counts that can be added up.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Outliers
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, DataReport
from eagleray_runtime.data import chunks, encoding, notes, outliers, preparation, task
from eagleray_runtime.data.by_position import TEST, TRAINING, VALIDATION
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.examples import example_of
from eagleray_runtime.data.outliers import Bounds
from eagleray_runtime.data.overrides import per_column
from eagleray_runtime.data.preparation import AnyColumn, Preparation
from eagleray_runtime.data.rows import categorical, column_types, learned_columns, row_numbers
from eagleray_runtime.data.scaling import Moments
from eagleray_runtime.data.splitting import shares
from eagleray_runtime.data.stored import ChunkRows, Stored
from eagleray_runtime.data.streaming import Stream, StreamedPart
from eagleray_runtime.data.table import Kind
from eagleray_runtime.data.targets import require_classes, require_no_target_scaling, target_scaling
from eagleray_runtime.errors import DataInvalid

MOST_CATEGORIES = 2**20
"""Different values of a column of text that are counted."""

NAMES = {TRAINING: "train", VALIDATION: "validate", TEST: "test"}


@dataclass
class TargetSeen:
    """What is seen of the target: of numbers the different ones, up to a bound, and the moments of those of the training part;
    how often each class occurs in each part, as long as it may be one."""

    name: str
    kind: Kind = Kind.REAL
    whole: bool = True
    numbers: set[float] = field(default_factory=set)
    moments: Moments = field(default_factory=Moments)
    labels: dict[int, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in NAMES})

    def see(self, rows: ChunkRows) -> None:
        """Take a chunk in.

        Raises:
            DataInvalid: there are more classes than are counted.
        """
        target = rows.target
        self.kind = target.kind
        if target.kind is not Kind.TEXT:
            self.moments += Moments.of(target.values[rows.of(TRAINING)])
            self.whole = self.whole and bool((target.values == np.floor(target.values)).all())
            if len(self.numbers) <= task.MOST_DISTINCT:
                self.numbers.update(np.unique(target.values).tolist())
        if self.seen.whole and self.seen.distinct <= task.FEW_VALUES:
            for part in NAMES:
                self.labels[part].update(task.labels(target.take(rows.of(part))).tolist())
            if len(self.labels[TRAINING]) > MOST_CATEGORIES:
                raise DataInvalid(f"target column {self.name} holds more than {MOST_CATEGORIES} classes: name another column")

    @property
    def seen(self) -> task.Seen:
        """What decides the task."""
        return task.Seen(self.kind, len(self.numbers), self.whole)

    def classes(self, doubt: str) -> list[str]:
        """The classes of the training part in the order of their numbers; `doubt` is what a message on them is to add.

        Raises:
            DataInvalid: there is but one, or another part holds others.
        """
        known = self.labels[TRAINING]
        require_classes(self.name, list(known))
        for part in (VALIDATION, TEST):
            if others := sorted(set(self.labels[part]) - set(known)):
                raise DataInvalid(
                    f"class {others[0]} of target column {self.name} is not in the training part: give more rows of it, another "
                    f"data.split.seed, or use data.loading Memory, which can split by class{doubt}"
                )
        return task.in_order(known, self.kind)


@dataclass
class FeaturesSeen:
    """What is seen of the features of the training part, by column: of numbers those that are there and how many are not, of
    text how often each value occurs; the first row; and whether any row of any part lacks a value."""

    present: dict[str, Moments] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    categories: dict[str, Counter[str | None]] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)
    lacks: bool = False

    def see(self, rows: ChunkRows) -> None:
        """Take a chunk in.

        Raises:
            DataInvalid: a column has more categories than are counted.
        """
        training = rows.of(TRAINING)
        if not self.example and len(training):
            self.example = example_of(rows.features.take(training[:1]))
        for name in rows.features:
            column = rows.features[name]
            missing = column.missing
            self.lacks = self.lacks or bool(missing.any())
            if column.kind is Kind.TEXT:
                self._count(name, column.values[training].tolist())
            else:
                self.present[name] = self.present.get(name, Moments()) + Moments.of(column.values[training][~missing[training]])
                self.missing[name] += int(missing[training].sum())

    def _count(self, name: str, values: list[str | None]) -> None:
        counts = self.categories.setdefault(name, Counter())
        counts.update(values)
        if len(counts) > MOST_CATEGORIES:
            raise DataInvalid(
                f"column {name} has more than {MOST_CATEGORIES} categories: leave it out by data.features if it names each row, "
                "or say Identifier in data.columns"
            )


@dataclass
class Survey:
    """What is seen of the stored rows in one pass; `sizes` are the rows of each part in each chunk."""

    target: TargetSeen
    features: FeaturesSeen = field(default_factory=FeaturesSeen)
    sizes: dict[int, list[int]] = field(default_factory=lambda: {part: [] for part in NAMES})
    dropped: int = 0
    incomplete: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, stored: Stored) -> Self:
        """See all rows.

        Raises:
            DataInvalid, StoreRefused: they cannot be read, or not be learned from.
        """
        found = cls(TargetSeen(stored.target))
        for rows in stored:
            for part in NAMES:
                found.sizes[part].append(len(rows.of(part)))
            found.dropped += rows.dropped
            found.incomplete |= rows.incomplete
            found.target.see(rows)
            found.features.see(rows)
        return found


def load(config: TrainingConfig, code: Mapping[str, str]) -> Dataset:
    """Find the rows, decide the task and fit the preparation, in a few passes over them; `code` is that of a network of the
    user's own.

    Raises:
        DataInvalid: the rows cannot be learned from.
        ModelInvalid: loss and family or target do not go together.
        StoreRefused: they cannot be read.
    """
    stored = _stored(config)
    survey = Survey.of(stored)
    sizes = {part: sum(found) for part, found in survey.sizes.items()}
    _require_rows(sizes, config.data.split)
    decided = task.decide(config, stored.target, survey.target.seen)
    chosen = [*decided.chosen]
    if config.data.split.method is blocks.SplitMethod.AUTO:
        reason = "rows that are streamed are dealt each by itself"
        chosen.append(Choice(field="data.split.method", value=blocks.SplitMethod.RANDOM, reason=reason))
    fitted, asked = _fitted(stored, survey.features)
    classes: list[str] = []
    if decided.task == "Classification":
        require_no_target_scaling(config)
        classes = survey.target.classes(decided.doubt)
    else:
        affine = survey.target.moments.affine(target_scaling(config, chosen))
        fitted = fitted.model_copy(update={"target": affine})
    changes = notes.Changes()
    if survey.features.lacks or any(column.low is not None for column in fitted.numeric):
        for rows in stored:
            changes.see(rows.features, fitted)
    stream = Stream(stored, fitted, tuple(classes))
    parts = {
        part: StreamedPart(stream, part, tuple(found), tuple(survey.target.labels[part][each] for each in classes))
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
        target=stored.target,
        example=survey.features.example,
        report=DataReport(
            rows=sum(chunk.rows for chunk in stored.chunks.chunks),
            training=sizes[TRAINING],
            validation=sizes[VALIDATION],
            test=sizes[TEST],
            dropped=survey.dropped,
            changed=changes.rows,
            digest=stored.chunks.digest,
            notes=notes.bounded(
                [
                    *stored.notes,
                    *(
                        note
                        for name, counts in survey.features.categories.items()
                        if name not in categorical(config.data)
                        for note in notes.mostly_numbers(name, counts)
                    ),
                    *notes.without_value(survey.dropped, sorted(survey.incomplete)),
                    *notes.changes(changes, fitted, asked),
                ]
            ),
        ),
        chosen=chosen,
        code=code,
        chunk_rows=max(chunk.rows for chunk in stored.chunks.chunks),
    )


def _stored(config: TrainingConfig) -> Stored:
    data = config.data
    if config.data_location is None or data.target is None:
        raise DataInvalid("data.loading Stream needs data.uri and data.target: set them, or use Memory")
    found = chunks.find(config.data_location, data.format, categorical(data))
    names = list(found.schema.names)
    types = column_types(data, names)
    features = learned_columns(data, data.target, names, types)
    if not features:
        raise DataInvalid(f"there is no column to learn from beside the target {data.target}")
    told = notes.left_out(row_numbers(data, [*features, data.target], names))
    return Stored(found, features, data.target, types, data.preparation, data.split, told)


def _require_rows(sizes: dict[int, int], split: blocks.Split) -> None:
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


def _fitted(stored: Stored, seen: FeaturesSeen) -> tuple[Preparation, dict[str, blocks.Preparation]]:
    """The preparation of the features, and what is asked for each."""
    kinds = next(iter(stored)).features
    asked = per_column(kinds, stored.wanted)
    limits: dict[str, Bounds] = {}
    for name, moments in seen.present.items():
        found = outliers.by_moments(moments) if asked[name].outliers is Outliers.Z_SCORE else None
        if found is not None and kinds[name].kind is not Kind.BOOLEAN:
            limits[name] = found
    present = dict(seen.present)
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
        if name in seen.categories:
            columns.append(encoding.fit(name, seen.categories[name], wanted))
        else:
            missing = seen.missing[name]
            columns.append(preparation.numeric_by_moments(name, present[name], missing, limits.get(name), wanted))
    return Preparation(columns=columns), asked
