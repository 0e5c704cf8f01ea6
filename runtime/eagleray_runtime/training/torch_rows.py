"""The rows of a part as a worker has them: as tensors on its device, or read anew each time."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Augmentation, Precision
from eagleray_runtime.data.dataset import AnyPart
from eagleray_runtime.data.streaming import StreamedPart
from eagleray_runtime.models.losses import Loss
from eagleray_runtime.training.augmentation import KINDS
from eagleray_runtime.training.order import order_stream, row_order

if TYPE_CHECKING:
    from eagleray_runtime.training.torch_run import Run

HELD_OUT_ROWS = 2**13
"""Rows that each worker computes at a time of a part that is read."""

Sent: TypeAlias = StreamedPart | tuple[AnyArray, AnyArray]
"""What travels to the workers: from where the rows are read, or the rows themselves."""


class Share(NamedTuple):
    """This worker's prepared rows and targets of a step, which has so many `rows` on all workers; `tokens` to foresee in all of
    them, where the loss is of tokens."""

    x: torch.Tensor
    y: torch.Tensor
    rows: int
    tokens: torch.Tensor | None = None


class Rows(Protocol):
    """Rows of a part, of which each worker takes a share."""

    @property
    def rows(self) -> int:
        """Number of rows, on all workers."""
        ...

    def amount(self, loss: Loss) -> int:
        """What the mean loss is the mean over."""
        ...

    def steps(self, run: "Run") -> Iterator[Share]:
        """The steps of the epoch to come, as many on every worker, in an order that depends on seed and epoch alone."""
        ...

    def held_out(self, run: "Run") -> Iterator[Share]:
        """All rows in the order of the data: of each piece every `world`-th row, beginning with that of the worker's rank."""
        ...


def sent(part: AnyPart, precision: Precision) -> Sent:
    """What travels of a part: its rows as numbers of the size that parameters have in that precision; whole numbers stay so."""
    if isinstance(part, StreamedPart):
        return part
    [(x, y)] = part.pieces()
    return _numbers(x, precision), _numbers(y, precision)


def received(what: Sent, device: torch.device) -> Rows:
    """The rows of a part on a worker's device."""
    if isinstance(what, StreamedPart):
        return Read(what)
    x, y = (torch.from_numpy(values.copy()).to(device) for values in what)
    return Held(x, y)


class Held:
    """Rows as tensors on the device."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self._x, self._y = x, y

    @property
    def rows(self) -> int:
        """As `Rows` has it."""
        return len(self._y)

    def amount(self, loss: Loss) -> int:
        """As `Rows` has it."""
        return loss.amount(self._y)

    def steps(self, run: "Run") -> Iterator[Share]:
        """As `Rows` has it."""
        plan, epoch = run.plan, run.course.epoch + 1
        augment = None
        if plan.augmentation is not Augmentation.NONE:
            augment = KINDS[plan.augmentation](plan.seed, epoch, *self._x.shape[:3])
        order = np.arange(self.rows) if plan.batch_rows >= self.rows else row_order(plan.seed, epoch, self.rows)
        numbers = torch.from_numpy(order).to(self._x.device)
        for batch in numbers.split(plan.batch_rows):
            share = batch[run.rank :: run.world] if run.world > 1 else batch
            x = self._x[share] if augment is None else augment(self._x, share)
            yield Share(x, self._y[share], len(batch), self._y[batch].sum() if plan.loss.of_tokens else None)

    def held_out(self, run: "Run") -> Iterator[Share]:
        """As `Rows` has it, in one piece."""
        yield Share(self._x[run.rank :: run.world], self._y[run.rank :: run.world], self.rows)


class Read:
    """Rows that are read anew each time."""

    def __init__(self, part: StreamedPart) -> None:
        self._part = part

    @property
    def rows(self) -> int:
        """As `Rows` has it."""
        return self._part.rows

    def amount(self, loss: Loss) -> int:
        """As `Rows` has it."""
        return self.rows

    def steps(self, run: "Run") -> Iterator[Share]:
        """As `Rows` has it."""
        plan = run.plan
        mine = range(run.rank, plan.lanes, run.world)
        streams = partial(order_stream, plan.seed, run.course.epoch + 1)
        return self._shares(run, plan.batch_rows, self._part.shares(plan.batch_rows, plan.lanes, mine, streams, _size(run)))

    def held_out(self, run: "Run") -> Iterator[Share]:
        """As `Rows` has it."""
        size = HELD_OUT_ROWS * run.world
        return self._shares(run, size, self._part.shares(size, run.world, [run.rank], None, _size(run)))

    def _shares(self, run: "Run", size: int, found: Iterator[tuple[AnyArray, AnyArray]]) -> Iterator[Share]:
        for start, (x, y) in zip(range(0, self.rows, size), found, strict=True):
            rows = min(size, self.rows - start)
            yield Share(torch.from_numpy(x).to(run.device), torch.from_numpy(y).to(run.device), rows)


def _size(run: "Run") -> type[np.float32] | type[np.float64]:
    return np.float64 if run.precision is Precision.FLOAT64 else np.float32


def _numbers(values: AnyArray, precision: Precision) -> AnyArray:
    size = np.float64 if precision is Precision.FLOAT64 else np.float32
    return values if values.dtype.kind == "i" else values.astype(size, copy=False)
