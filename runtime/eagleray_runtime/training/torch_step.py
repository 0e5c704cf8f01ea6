"""What a worker does with the rows of an epoch: it trains on its share of each step, and computes the losses of others."""

import math
from contextlib import nullcontext

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from eagleray_runtime.data.scaling import Affine
from eagleray_runtime.models.torch_losses import total_loss
from eagleray_runtime.training import metrics
from eagleray_runtime.training.order import dropout_stream
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.torch_parallel import interleaved
from eagleray_runtime.training.torch_rows import Rows
from eagleray_runtime.training.torch_run import Run


def epoch(run: Run, part: Rows) -> float:
    """One pass over the training part; the sum of this worker's losses."""
    plan, course = run.plan, run.course
    if plan.architecture.draws:
        torch.manual_seed(int(dropout_stream(plan.seed, course.epoch + 1, run.rank).integers(2**31)))
    parts = plan.gradients.accumulation_steps
    total = torch.zeros((), device=run.device, dtype=run.dtype)
    # The workers' gradients are averaged, so a sum over all rows needs their number as a factor.
    factors = {
        rows: torch.tensor(run.world / rows, device=run.device, dtype=run.dtype)
        for rows in (plan.batch_rows, part.rows % plan.batch_rows, part.rows)
        if rows
    }
    for x, y, rows, tokens in part.steps(run):
        factor = factors[rows] if tokens is None else (run.world / tokens).to(run.dtype)
        run.optimizer.zero_grad()
        # As many pieces on every worker, for what they do together waits for each of them; none without any row.
        pieces = max(1, min(parts, math.ceil(rows / run.world)))
        for number, (seen, right) in enumerate(zip(x.tensor_split(pieces), y.tensor_split(pieces), strict=True), start=1):
            # Gradients travel between workers once a step, with its last piece.
            alone = number < pieces and isinstance(run.model, DistributedDataParallel)
            with run.model.no_sync() if alone else nullcontext():
                with run.autocast():
                    outputs = run.model(seen)
                loss = total_loss(plan.loss, outputs.to(run.dtype), right)
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
    for x, y, rows, _ in part.held_out(run):
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


def over_workers(run: Run, values: list[float]) -> list[float]:
    """The sums over all workers."""
    if run.world == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return [float(value) for value in sums]


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
