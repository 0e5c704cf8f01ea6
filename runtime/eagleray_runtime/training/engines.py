"""One training by the engine of the configuration."""

import time

from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.storage import Store
from eagleray_runtime.training import numpy_engine
from eagleray_runtime.training.outcome import Outcome
from eagleray_runtime.training.plan import Plan
from eagleray_runtime.training.progress import Progress


def train(
    config: TrainingConfig, plan: Plan, dataset: Dataset, progress: Progress, halt: numpy_engine.Halt | None = None
) -> Outcome:
    """Train to the end, or (engine NumPy) until `halt` says so after an epoch, from the newest checkpoint of the configuration.

    Raises:
        RuntimeFailure: training ends without a model.
    """
    if config.engine is Engine.NUMPY:
        store = Store(below(config.checkpoints, config.resource.uid))
        return numpy_engine.train(plan, dataset, store, progress.epoch, time.monotonic, halt)
    try:
        # Only here: the image of the NumPy engine holds no torch.
        from eagleray_runtime.training import torch_engine
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"the Torch engine needs {error.name}, which this image does not hold: "
            "set training.engine to NumPy or runtime.image to one with torch"
        ) from error
    return torch_engine.train(config, plan, dataset, progress)


def below(location: Location, name: str) -> Location:
    """A place within another one."""
    return location.model_copy(update={"uri": f"{location.uri.rstrip('/')}/{name}"})
