"""Every reason that a condition can have; docs/reference/reasons.md has a row for each."""

from enum import StrEnum


class Reason(StrEnum):
    """Reason of a condition: one CamelCase word each."""

    # Accepted
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    PREREQUISITE_MISSING = "PrerequisiteMissing"
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    CONFLICT = "Conflict"

    # Progress of a job
    STARTING = "Starting"
    PREPARING = "Preparing"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    SAVING = "Saving"
    RECOVERING = "Recovering"
    COMPLETED = "Completed"
    SUSPENDED_BY_USER = "SuspendedByUser"
    NOT_SUSPENDED = "NotSuspended"
    NOT_FINISHED = "NotFinished"
    SUSPENDED = "Suspended"
    NOT_EVALUATED = "NotEvaluated"
    NO_GATES = "NoGates"
    GATES_PASSED = "GatesPassed"
    GATE_FAILED = "GateFailed"

    # Progress of a deployment
    WAITING_FOR_JOB = "WaitingForJob"
    LOADING_MODEL = "LoadingModel"
    CHECKING = "Checking"
    SERVING = "Serving"
    SERVING_PREVIOUS = "ServingPrevious"
    DRAINING = "Draining"
    ROLLED_OUT = "RolledOut"
    SWITCHED_OFF = "SwitchedOff"

    # Causes
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    VOLUME_PENDING = "VolumePending"
    CONTAINER_FAILED = "ContainerFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    WORKER_LOST = "WorkerLost"
    HEAD_LOST = "HeadLost"
    STORE_REFUSED = "StoreRefused"
    STORE_UNAVAILABLE = "StoreUnavailable"
    DATA_INVALID = "DataInvalid"
    MODEL_INVALID = "ModelInvalid"
    USER_CODE_FAILED = "UserCodeFailed"
    DIGEST_MISMATCH = "DigestMismatch"
    APPLICATION_FAILED = "ApplicationFailed"
    DIVERGED = "Diverged"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    STOPPED_OUTSIDE = "StoppedOutside"
