"""What Ray Train says of a training that did not come to its end, by the reasons that users know."""

from collections.abc import Iterable

import ray.exceptions
import torch
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

from eagleray_runtime.errors import OutOfMemory, RuntimeFailure, StoreUnavailable, WorkerLost


def final(failures: Iterable[BaseException]) -> RuntimeFailure | None:
    """The failure that the next try would only repeat; None if there is none, or if a lost worker may be why others failed."""
    causes = [_unwrapped(failure) for failure in failures]
    if any(isinstance(cause, ray.exceptions.RayActorError) for cause in causes):
        return None
    told = (cause for cause in causes if isinstance(cause, RuntimeFailure) and not isinstance(cause, StoreUnavailable))
    return next(told, None)


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
        return map(_unwrapped, error.worker_failures.values())
    return [error.controller_failure] if isinstance(error, ControllerError) else [error]


def _unwrapped(failure: BaseException) -> BaseException:
    """A worker's own exception, which Ray Train wraps to carry its traceback."""
    cause: BaseException = getattr(failure, "_base_exc", failure)
    return cause
