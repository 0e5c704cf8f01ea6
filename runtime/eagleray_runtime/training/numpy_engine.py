"""Training in NumPy alone, in the driver's own process."""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Gradients
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.models.architecture import dense
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.network import Network
from eagleray_runtime.storage import Store
from eagleray_runtime.training import metrics, optimizers
from eagleray_runtime.training.allocator import keep_freed_memory
from eagleray_runtime.training.checkpoints import Checkpoints
from eagleray_runtime.training.course import Course
from eagleray_runtime.training.evaluation import outputs
from eagleray_runtime.training.order import dropout_stream, order_stream
from eagleray_runtime.training.outcome import EpochEnd, FirstEpoch, Outcome
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.plan import Plan

Halt = Callable[[int, Network], bool]
"""Told each finished epoch and the network as it is then; true ends the training there."""


class Run:
    """State of one run: what a checkpoint holds and the next epoch depends on.

    `best` are the parameters of the best epoch so far, float64 [parameters], where the plan looks for one.
    """

    def __init__(self, plan: Plan, start: Mapping[str, AnyArray] | None = None) -> None:
        """Begin with the parameters `start` by name, or with drawn ones."""
        self.plan = plan
        self.architecture = dense(plan.architecture)
        first = start or initial_parameters(plan.architecture, plan.initialization, plan.seed)
        self.network = Network(self.architecture, first)
        self.optimizer = optimizers.make(plan.optimizer, plan.architecture.parameters)
        self.course = Course(plan)
        self.best: Floats | None = None

    def save(self) -> bytes:
        """The state as a safetensors file."""
        arrays = {"parameters": self.network.flat}
        arrays |= {f"optimizer.{name}": values for name, values in self.optimizer.state().items()}
        if self.best is not None:
            arrays["best"] = self.best
        # The header of a safetensors file cannot be read back from bytes by its own library: text travels as a tensor.
        told = json.dumps(self.course.told(), allow_nan=False).encode()
        return bytes(save(arrays | {"told": np.frombuffer(told, dtype=np.uint8)}))

    def restore(self, content: bytes) -> bool:
        """Go on from a saved state; False if it is not one of this plan."""
        try:
            arrays = load(content)
            course = Course.restored(self.plan, json.loads(arrays.pop("told").tobytes()))
        except (SafetensorError, KeyError, ValueError):
            return False
        if course is None:
            return False
        self.course = course
        self.network.flat[...] = arrays["parameters"]
        self.best = cast("Floats | None", arrays.get("best"))
        self.optimizer.restore(
            {
                name.removeprefix("optimizer."): cast(Floats, values)
                for name, values in arrays.items()
                if name.startswith("optimizer.")
            }
        )
        return True

    def finished(self) -> Network:
        """The network that training came to."""
        if self.best is not None:
            self.network.flat[...] = self.best
        return self.network


def train(
    plan: Plan,
    dataset: Dataset,
    store: Store,
    on_epoch: Callable[[EpochEnd], None],
    clock: Callable[[], float] = time.monotonic,
    halt: Halt | None = None,
) -> Outcome:
    """Train to the end, or until `halt` says so, from the newest checkpoint of the store that fits.

    Raises:
        Diverged: a loss is not finite any more.
        ModelInvalid: only torch has this architecture, or the early end looks at what is not defined.
        StoreRefused: a checkpoint cannot be read or written.
    """
    keep_freed_memory()
    run = Run(plan, dataset.start.parameters if dataset.start else None)
    checkpoints = Checkpoints(store, plan.checkpoint.keep)
    next((content for content in checkpoints.newest_first() if run.restore(content)), None)
    course = run.course
    resumed_from = course.epoch
    gradient = Network(run.architecture)
    saved_at, saving = clock(), 0.0
    started, first = saved_at, None
    # Overflow is judged by the loss, once an epoch.
    with checkpoints, np.errstate(all="ignore"):
        while not course.is_over:
            loss = _epoch(run, dataset, gradient)
            validation, metric = _validation(run, dataset)
            if not np.isfinite(run.network.flat).all():
                # The last step's, which no loss has seen yet.
                loss = math.nan
            if course.end_epoch(loss, validation, metric):
                run.best = run.network.flat.copy()
            now, history = clock(), course.history.points
            if course.epoch == 1:
                first = FirstEpoch(0.0, now - started)
            end = EpochEnd(course.epoch, course.step, loss, validation, 1, resumed_from, history, saving, now - saved_at, first)
            on_epoch(end)
            if halt is not None and halt(course.epoch, run.network):
                break
            if not course.is_over and plan.is_checkpoint(course.epoch, (began := clock()) - saved_at):
                checkpoints.write(course.epoch, run.save())
                saved_at = clock()
                saving += saved_at - began
    parameters: dict[str, AnyArray] = dict(run.finished().parameters)
    history, chosen = course.history.points, course.chosen
    return Outcome(parameters, history, course.epoch, course.step, 1, resumed_from, chosen, saving, first)


def _epoch(run: Run, dataset: Dataset, gradient: Network) -> float:
    """One pass over the training part; the mean loss that its steps saw, in the target's own unit."""
    plan, part, course = run.plan, dataset.training, run.course
    dropout = dropout_stream(plan.seed, course.epoch + 1) if plan.architecture.draws else None
    total = 0.0
    for x, y in part.batches(plan.batch_rows, partial(order_stream, plan.seed, course.epoch + 1)):
        total += _gradient(run, x, y, gradient, dropout) * len(y)
        clip(plan.gradients, gradient.flat)
        run.optimizer.step(run.network.flat, gradient.flat, course.rate)
        course.step += 1
    return total / part.rows * plan.unit


def _gradient(run: Run, x: Floats, y: AnyArray, into: Network, dropout: np.random.Generator | None) -> float:
    """Mean loss and gradient of the rows of a step, in as many parts as the plan says."""
    size = math.ceil(len(y) / run.plan.gradients.accumulation_steps)
    if size == len(y):
        return run.network.gradient(run.plan.loss, x, y, into, dropout)
    loss, summed = 0.0, np.zeros_like(into.flat)
    for start in range(0, len(y), size):
        rows = slice(start, start + size)
        share = len(y[rows]) / len(y)
        loss += share * run.network.gradient(run.plan.loss, x[rows], y[rows], into, dropout)
        summed += share * into.flat
    into.flat[...] = summed
    return loss


def clip(gradients: Gradients, flat: Floats) -> None:
    """Cut off large entries of a gradient [parameters] and shorten it, in place."""
    if gradients.clip_value is not None:
        np.clip(flat, -gradients.clip_value, gradients.clip_value, out=flat)
    if gradients.clip_norm is not None and (norm := float(np.linalg.norm(flat))) > gradients.clip_norm:
        flat *= gradients.clip_norm / norm


def _validation(run: Run, dataset: Dataset) -> tuple[float | None, float | None]:
    """Loss of the validation part in the target's own unit, and the metric that the plan looks at."""
    part, plan = dataset.validation, run.plan
    if not part.rows:
        return None, None
    found, y = outputs(run.network.forward, part)
    metric = None
    if plan.stop is not None and plan.stop_on != LOSS:
        metric = metrics.value(plan.stop_on, metrics.answers(plan.architecture.head, dataset.preparation.target, found, y))
    return plan.loss.mean(found, y)[0] * plan.unit, metric
