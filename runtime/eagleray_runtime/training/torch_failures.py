"""What Ray Train says of a training that did not come to its end, by the reasons that users know."""

from collections.abc import Iterable

import ray.exceptions
import torch
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

from eagleray_runtime.errors import OutOfMemory, RuntimeFailure, WorkerLost


def of_training(error: TrainingFailedError, most_failures: int) -> RuntimeFailure | None:
    """The failure that a user can act on, after so many lost workers at most; None if it is one of our own code."""
    for cause in _causes(error):
        words = (str(cause).splitlines() or [type(cause).__name__])[0].removesuffix(".")
        if isinstance(cause, RuntimeFailure):
            return cause
        if isinstance(cause, ray.exceptions.OutOfMemoryError | torch.OutOfMemoryError | MemoryError):
            return OutOfMemory(f"a worker got no memory: {words}. Raise workers.memory, or lower training.batchSize")
        if isinstance(cause, ray.exceptions.RayActorError | PreemptionError):
            return WorkerLost(
                f"a worker was lost: {words}. This happened more than {most_failures} times: look at the workers' logs, "
                "give them more memory or fewer rows a batch"
            )
    return None


def _causes(error: TrainingFailedError) -> Iterable[BaseException]:
    """What ended workers or their controller, without what Ray has wrapped it in."""
    if isinstance(error, WorkerGroupError):
        return [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
    return [error.controller_failure] if isinstance(error, ControllerError) else [error]
