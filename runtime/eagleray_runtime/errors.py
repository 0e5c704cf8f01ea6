"""Typed failures of the runtime: each is one reason of the resource's condition.

A message says what happened, why, and what to do about it; it is what the user reads in `kubectl describe`.
"""

from eagleray_runtime.contract.reports import FailureReason


class RuntimeFailure(Exception):  # noqa: N818 - named like the reason that the user reads
    """An attempt ends without a model, or a replica without having loaded one, for a reason that the user can act on."""

    reason: FailureReason

    @property
    def message(self) -> str:
        """What happened, why and what to do, as one line."""
        return " ".join(str(self).split())


class DataInvalid(RuntimeFailure):
    """The rows cannot be learned from."""

    reason = FailureReason.DATA_INVALID


class StoreRefused(RuntimeFailure):
    """A store did not give or take a file."""

    reason = FailureReason.STORE_REFUSED


class StoreUnavailable(StoreRefused):
    """A store gave no answer, or could not do it now: unlike any other refusal, another attempt may go better."""

    reason = FailureReason.STORE_UNAVAILABLE


class ModelInvalid(RuntimeFailure):
    """The model asked for cannot be built, or a bundle cannot be understood."""

    reason = FailureReason.MODEL_INVALID


class UserCodeFailed(RuntimeFailure):
    """Code of the user's own ended with an error, or made something else than it has to."""

    reason = FailureReason.USER_CODE_FAILED


class DigestMismatch(RuntimeFailure):
    """A file of a bundle is not the one that was written."""

    reason = FailureReason.DIGEST_MISMATCH


class Diverged(RuntimeFailure):
    """The loss is not finite any more, or has exploded."""

    reason = FailureReason.DIVERGED


class OutOfMemory(RuntimeFailure):
    """The process, or a worker of it, got no more memory."""

    reason = FailureReason.OUT_OF_MEMORY


class WorkerLost(RuntimeFailure):
    """Workers were lost more often than the run may replace them."""

    reason = FailureReason.WORKER_LOST
