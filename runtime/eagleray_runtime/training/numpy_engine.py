"""Training in NumPy alone, in the driver's own process."""

import json
import time
from collections.abc import Callable
from typing import cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.reports import HistoryPoint
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.errors import Diverged
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.network import Network
from eagleray_runtime.storage import Store
from eagleray_runtime.training import optimizers
from eagleray_runtime.training.history import History
from eagleray_runtime.training.order import row_order
from eagleray_runtime.training.outcome import EpochEnd, Outcome
from eagleray_runtime.training.plan import Plan

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 10.0
"""At most so often is a checkpoint written: a lost attempt loses about this much work."""


class Run:
    """State of one run: what a checkpoint holds and the next epoch depends on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.network = Network(plan.architecture, initial_parameters(plan.architecture, plan.seed))
        self.optimizer = optimizers.make(plan.optimizer, plan.learning_rate, plan.architecture.parameters)
        self.history = History()
        self.epoch = 0
        self.step = 0

    def save(self) -> bytes:
        """The state as a safetensors file."""
        arrays = {"parameters": self.network.flat}
        arrays |= {f"optimizer.{name}": values for name, values in self.optimizer.state().items()}
        told = {
            "fingerprint": self.plan.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "history": [point.model_dump(mode="json") for point in self.history.points],
        }
        # The header of a safetensors file cannot be read back from bytes by its own library: text travels as a tensor.
        arrays_and_text = arrays | {"told": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)}
        return bytes(save(arrays_and_text))

    def restore(self, content: bytes) -> bool:
        """Go on from a saved state; False if it is not one of this plan."""
        try:
            arrays = load(content)
            told = json.loads(arrays.pop("told").tobytes())
        except (SafetensorError, KeyError, ValueError):
            return False
        if told["fingerprint"] != self.plan.fingerprint or told["epoch"] > self.plan.epochs:
            return False
        self.network.flat[...] = arrays["parameters"]
        self.optimizer.restore(
            {
                name.removeprefix("optimizer."): cast(Floats, values)
                for name, values in arrays.items()
                if name.startswith("optimizer.")
            }
        )
        self.epoch, self.step = told["epoch"], told["step"]
        self.history = History(HistoryPoint.model_validate(point) for point in told["history"])
        return True


def train(
    plan: Plan,
    dataset: Dataset,
    checkpoints: Store,
    on_epoch: Callable[[EpochEnd], None],
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train to the last epoch, from the checkpoint if there is one that fits.

    Raises:
        Diverged: the loss is not finite any more.
        StoreRefused: a checkpoint cannot be read or written.
    """
    run = Run(plan)
    if checkpoints.exists(CHECKPOINT):
        run.restore(checkpoints.read(CHECKPOINT))
    resumed_from = run.epoch
    gradient = Network(plan.architecture)
    saved_at = clock()
    # Overflow is judged by the loss, once an epoch.
    with np.errstate(all="ignore"):
        while run.epoch < plan.epochs:
            loss = _epoch(run, dataset, gradient)
            validation = _validation(run, dataset)
            if not np.isfinite(loss) or not np.isfinite(run.network.flat).all():
                raise Diverged(
                    f"the loss became {loss} in epoch {run.epoch}: set training.optimizer.learningRate below "
                    f"{plan.learning_rate}, or data.preparation.scaling to Standard if it is None"
                )
            run.history.add(HistoryPoint(epoch=run.epoch, training=loss, validation=validation))
            on_epoch(EpochEnd(run.epoch, run.step, loss, validation, 1, resumed_from, run.history.points))
            if run.epoch < plan.epochs and clock() - saved_at >= CHECKPOINT_SECONDS:
                checkpoints.write(CHECKPOINT, run.save())
                saved_at = clock()
    return Outcome(dict(run.network.parameters), run.history.points, run.step, 1, resumed_from, [])


def _epoch(run: Run, dataset: Dataset, gradient: Network) -> float:
    """One pass over the training part; the mean loss that its steps saw, in the target's own unit."""
    plan, part = run.plan, dataset.training
    x, y = part.x, part.y
    if plan.batch_rows < part.rows:
        order = row_order(plan.seed, run.epoch + 1, part.rows)
        x, y = x[order], y[order]
    total = 0.0
    for start in range(0, part.rows, plan.batch_rows):
        rows = slice(start, start + plan.batch_rows)
        batch = y[rows]
        total += run.network.gradient(x[rows], batch, gradient) * len(batch)
        run.optimizer.step(run.network.flat, gradient.flat)
        run.step += 1
    run.epoch += 1
    return total / part.rows * plan.unit


def _validation(run: Run, dataset: Dataset) -> float | None:
    part = dataset.validation
    return run.network.loss(part.x, part.y) * run.plan.unit if part.rows else None
