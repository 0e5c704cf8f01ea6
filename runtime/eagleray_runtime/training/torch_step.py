"""What a worker does with the rows of an epoch: it trains on its share of each step, and computes the losses of others."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TypeAlias

import numpy as np
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Augmentation, Precision
from eagleray_runtime.data.dataset import Part
from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.models.torch_losses import total_loss
from eagleray_runtime.training import metrics
from eagleray_runtime.training.augmentation import KINDS
from eagleray_runtime.training.order import dropout_stream, row_order
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.torch_parallel import interleaved
from eagleray_runtime.training.torch_run import Run

Rows: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Prepared rows and targets of a part."""


def arrays(part: Part, precision: Precision) -> tuple[AnyArray, AnyArray]:
    """The rows of a part as numbers of the size that parameters have in that precision; whole numbers stay so."""
    size = np.float64 if precision is Precision.FLOAT64 else np.float32
    x, y = (values if values.dtype.kind == "i" else values.astype(size, copy=False) for values in (part.x, part.y))
    return x, y


def epoch(run: Run, part: Rows) -> float:
    """One pass over the training part; the sum of this worker's losses."""
    x, y = part
    plan, course = run.plan, run.course
    if plan.architecture.draws:
        torch.manual_seed(int(dropout_stream(plan.seed, course.epoch + 1, run.rank).integers(2**31)))
    augment = None
    if plan.augmentation is not Augmentation.NONE:
        augment = KINDS[plan.augmentation](plan.seed, course.epoch + 1, *x.shape[:3])
    parts = plan.gradients.accumulation_steps
    total = torch.zeros((), device=x.device, dtype=run.dtype)
    # The workers' gradients are averaged, so a sum over all rows needs their number as a factor.
    factors = {
        rows: torch.tensor(run.world / rows, device=x.device, dtype=run.dtype)
        for rows in (plan.batch_rows, len(y) % plan.batch_rows, len(y))
        if rows
    }
    for share, batch in _batches(run, len(y), x.device):
        rows = len(batch)
        factor = (run.world / y[batch].sum()).to(run.dtype) if plan.loss.of_tokens else factors[rows]
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
    plan, rows = run.plan, len(part[1])
    run.network.eval()
    with torch.no_grad(), run.autocast():
        x, y = (values[run.rank :: run.world] for values in part)
        # In as many pieces on every worker, for a network that is shared out is computed by all of them together.
        outputs = run.network.in_pieces(x, math.ceil(rows / run.world)).to(run.dtype)
    run.network.train()
    loss = float(total_loss(plan.loss, outputs, y))
    if plan.stop is None or plan.stop_on == LOSS:
        return loss, 0.0
    of_all = interleaved(outputs.double().cpu(), rows, run.world)
    if run.rank:
        return loss, 0.0
    of = metrics.answers(plan.architecture.head, target, of_all.numpy(), part[1].cpu().numpy())
    return loss, metrics.value(plan.stop_on, of)


def over_workers(run: Run, values: list[float]) -> list[float]:
    """The sums over all workers."""
    if run.world == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return [float(value) for value in sums]


def _batches(run: Run, rows: int, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This worker's share of each step's rows, and the step's rows over all workers."""
    plan = run.plan
    order = np.arange(rows) if plan.batch_rows >= rows else row_order(plan.seed, run.course.epoch + 1, rows)
    numbers = torch.from_numpy(order).to(device)
    for start in range(0, rows, plan.batch_rows):
        batch = numbers[start : start + plan.batch_rows]
        yield batch[run.rank :: run.world] if run.world > 1 else batch, batch


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
