"""What a worker does with the rows of an epoch: it trains on its share of each step, and computes the losses of others."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Augmentation, Precision
from eagleray_runtime.data.dataset import AnyPart
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.data.streaming import StreamedPart
from eagleray_runtime.models.losses import Loss
from eagleray_runtime.models.torch_losses import total_loss
from eagleray_runtime.training import metrics
from eagleray_runtime.training.augmentation import KINDS
from eagleray_runtime.training.order import dropout_stream, order_stream, row_order
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.torch_parallel import interleaved
from eagleray_runtime.training.torch_run import Run

Rows: TypeAlias = tuple[torch.Tensor, torch.Tensor] | StreamedPart
"""Prepared rows and targets of a part, or from where they are read."""

HELD_OUT_ROWS = 2**13
"""Rows that each worker computes at a time of a part that is read."""


class Step(NamedTuple):
    """Rows of one step: this worker's `share` of those of `x` and `y`, of `rows` on all workers; `tokens` to foresee in all of
    them, where the loss is of tokens."""

    x: torch.Tensor
    y: torch.Tensor
    share: torch.Tensor
    rows: int
    tokens: torch.Tensor | None = None


def total_rows(part: Rows) -> int:
    """Rows of a part, on all workers."""
    return part.rows if isinstance(part, StreamedPart) else len(part[1])


def amount(loss: Loss, part: Rows) -> int:
    """What the mean loss of a part is the mean over."""
    return part.rows if isinstance(part, StreamedPart) else loss.amount(part[1])


def arrays(part: AnyPart, precision: Precision) -> tuple[AnyArray, AnyArray]:
    """The rows of a part in memory as numbers of the size that parameters have in that precision; whole numbers stay so."""
    size = np.float64 if precision is Precision.FLOAT64 else np.float32
    [rows] = part.pieces()
    x, y = (values if values.dtype.kind == "i" else values.astype(size, copy=False) for values in rows)
    return x, y


def epoch(run: Run, part: Rows) -> float:
    """One pass over the training part; the sum of this worker's losses."""
    plan, course, whole = run.plan, run.course, total_rows(part)
    if plan.architecture.draws:
        torch.manual_seed(int(dropout_stream(plan.seed, course.epoch + 1, run.rank).integers(2**31)))
    augment = None
    if plan.augmentation is not Augmentation.NONE and not isinstance(part, StreamedPart):
        augment = KINDS[plan.augmentation](plan.seed, course.epoch + 1, *part[0].shape[:3])
    parts = plan.gradients.accumulation_steps
    total = torch.zeros((), device=run.device, dtype=run.dtype)
    # The workers' gradients are averaged, so a sum over all rows needs their number as a factor.
    factors = {
        rows: torch.tensor(run.world / rows, device=run.device, dtype=run.dtype)
        for rows in (plan.batch_rows, whole % plan.batch_rows, whole)
        if rows
    }
    for x, y, share, rows, tokens in _steps(run, part):
        factor = factors[rows] if tokens is None else (run.world / tokens).to(run.dtype)
        run.optimizer.zero_grad()
        # As many pieces on every worker, for what they do together waits for each of them; none without any row.
        pieces = share.tensor_split(most) if (most := min(parts, math.ceil(rows / run.world))) > 1 else (share,)
        for piece in pieces:
            # Gradients travel between workers once a step, with its last piece.
            alone = piece is not pieces[-1] and isinstance(run.model, DistributedDataParallel)
            with run.model.no_sync() if alone else nullcontext():
                seen = x[piece] if augment is None else augment(x, piece)
                with run.autocast():
                    outputs = run.model(seen)
                loss = total_loss(plan.loss, outputs.to(run.dtype), y[piece])
                run.scaler.scale(loss).backward(factor)
                total += loss.detach()
        _step(run)
        course.step += 1
    return float(total)


def held_out(run: Run, part: Rows, target: Affine) -> tuple[float, float]:
    """The sum of the losses of this worker's share of the validation part; of the first worker also the metric of the whole."""
    plan, loss = run.plan, 0.0
    is_measured = plan.stop is not None and plan.stop_on != LOSS
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    run.network.eval()
    for x, y, rows in _every_worlds(run, part):
        with torch.no_grad(), run.autocast():
            # In as many pieces on every worker, for a network that is shared out is computed by all of them together.
            outputs = run.network.in_pieces(x, math.ceil(rows / run.world)).to(run.dtype)
        loss += float(total_loss(plan.loss, outputs, y))
        if is_measured:
            found.append((interleaved(outputs.double().cpu(), rows, run.world), interleaved(y.cpu(), rows, run.world)))
    run.network.train()
    if run.rank or not is_measured:
        return loss, 0.0
    of_all, right = (torch.cat(pieces).numpy() for pieces in zip(*found, strict=True))
    return loss, metrics.value(plan.stop_on, metrics.answers(plan.architecture.head, target, of_all, right))


def _every_worlds(run: Run, part: Rows) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """Every `world`-th row of a part, beginning with that of the worker's rank, and how many rows these are of on all workers."""
    if not isinstance(part, StreamedPart):
        x, y = (values[run.rank :: run.world] for values in part)
        yield x, y, len(part[1])
        return
    size = HELD_OUT_ROWS * run.world
    for start, rows in zip(range(0, part.rows, size), part.shares(size, run.world, [run.rank], None, _number(run)), strict=True):
        x, y = (torch.from_numpy(values).to(run.device) for values in rows)
        yield x, y, min(size, part.rows - start)


def over_workers(run: Run, values: list[float]) -> list[float]:
    """The sums over all workers."""
    if run.world == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return [float(value) for value in sums]


def _steps(run: Run, part: Rows) -> Iterator[Step]:
    """The steps of an epoch."""
    plan, epoch, rows = run.plan, run.course.epoch + 1, total_rows(part)
    if isinstance(part, StreamedPart):
        mine = range(run.rank, plan.lanes, run.world)
        shares = part.shares(plan.batch_rows, plan.lanes, mine, partial(order_stream, plan.seed, epoch), _number(run))
        for start, share in zip(range(0, rows, plan.batch_rows), shares, strict=True):
            x, y = (torch.from_numpy(values).to(run.device) for values in share)
            yield Step(x, y, torch.arange(len(y), device=run.device), min(plan.batch_rows, rows - start))
        return
    x, y = part
    order = np.arange(rows) if plan.batch_rows >= rows else row_order(plan.seed, epoch, rows)
    numbers = torch.from_numpy(order).to(run.device)
    for start in range(0, rows, plan.batch_rows):
        batch = numbers[start : start + plan.batch_rows]
        share = batch[run.rank :: run.world] if run.world > 1 else batch
        yield Step(x, y, share, len(batch), y[batch].sum() if plan.loss.of_tokens else None)


def _number(run: Run) -> type:
    """NumPy's type of the numbers that parameters have."""
    return np.float64 if run.dtype is torch.float64 else np.float32


def _step(run: Run) -> None:
    gradients = run.plan.gradients
    if gradients.clip_value is not None or gradients.clip_norm is not None:
        run.scaler.unscale_(run.optimizer)
    if gradients.clip_value is not None:
        torch.nn.utils.clip_grad_value_(run.network.parameters(), gradients.clip_value)
    if gradients.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), gradients.clip_norm)
    for group in run.optimizer.param_groups:
        group["lr"] = run.course.rate
    # Without Float16 it only takes the step.
    run.scaler.step(run.optimizer)
    run.scaler.update()
