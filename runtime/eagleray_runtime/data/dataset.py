"""What an engine learns from: prepared rows in parts, and what is to be known of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as field_of
from typing import Any, Protocol

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.contract.reports import Choice, DataReport
from eagleray_runtime.data.base import Base
from eagleray_runtime.data.preparation import Preparation
from eagleray_runtime.data.start import Start
from eagleray_runtime.data.task import Task

Prepared = tuple[AnyArray, AnyArray]
"""Prepared rows and their targets, as `Part` has them."""

Streams = Callable[[int], np.random.Generator]
"""Random numbers of an epoch: those that order its rows (0), and those that mix the rows of each lane of a stream (from 1)."""


class AnyPart(Protocol):
    """Prepared rows of a part, wherever they are."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        ...

    def class_counts(self, classes: int) -> Integers:
        """Rows of each class, int64 [classes]."""
        ...

    def pieces(self) -> Iterator[Prepared]:
        """All rows in the order of the data, as many at a time as there are in memory."""
        ...

    def batches(self, size: int, streams: Streams) -> Iterator[Prepared]:
        """All rows in the order that the random numbers decide, so many at a time; the last time there may be less."""
        ...


@dataclass(frozen=True)
class Part:
    """Prepared rows in memory.

    `x` is float64 [rows, features], of images float32 [rows, height, width, channels], of windows float32 [windows, steps,
    features], of text tokens [rows, tokens]; `y` is float64 [rows] (scaled target) or int64 [rows]: class numbers, or how many
    tokens there are to foresee.
    """

    x: AnyArray
    y: AnyArray

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])

    def class_counts(self, classes: int) -> Integers:
        """Rows of each class, int64 [classes]."""
        return np.bincount(self.y, minlength=classes)

    def pieces(self) -> Iterator[Prepared]:
        """All rows at once."""
        yield self.x, self.y

    def batches(self, size: int, streams: Streams) -> Iterator[Prepared]:
        """All rows, as `AnyPart` has it; all at once they keep the order of the data."""
        if size >= self.rows:
            yield self.x, self.y
            return
        order = streams(0).permutation(self.rows)
        x, y = self.x[order], self.y[order]
        for start in range(0, self.rows, size):
            yield x[start : start + size], y[start : start + size]


@dataclass(frozen=True)
class Dataset:
    """Everything that training, evaluation and the bundle need to know of the data.

    `chunk_rows` are the most rows that are read at a time where they are streamed, 0 where all are in memory.
    """

    task: Task
    loss: LossType
    training: AnyPart
    validation: AnyPart
    test: AnyPart
    preparation: Preparation
    classes: list[str]
    target: str
    example: dict[str, Any]
    report: DataReport
    chosen: list[Choice]
    start: Start | None = None
    code: Mapping[str, str] = field_of(default_factory=dict)
    tokenizer: bytes | None = None
    base: Base | None = None
    chunk_rows: int = 0

    @property
    def counted(self) -> DataReport:
        """The report with what is learned from counted: windows of a sequence and pieces of text in the place of rows."""
        rows = {"training": self.training.rows, "validation": self.validation.rows, "test": self.test.rows}
        return self.report.model_copy(update=rows)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Shape of one prepared row; of text the most tokens, and how many different ones there are."""
        text = self.preparation.text
        if text is not None:
            return text.max_tokens, text.vocabulary
        return self.training.shape
