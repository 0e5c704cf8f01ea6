"""What the runtime tells the operator: POST `<reportsUrl>` (path `/v1/reports`) with a JSON body of one of these types.

Answers: 200 the report is in the resource's status; 202 it is taken (progress is written at most every few seconds);
401/403 the token is not that of a live pod of the resource; 404 the resource is gone; 409 a newer attempt has taken over (stop
reporting); 422 the body is malformed; 503 not the leader or not ready: try again.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from eagleray_runtime.contract.blocks import Block
from eagleray_runtime.contract.config import ResourceIdentity


class Stage(StrEnum):
    """What a training job is doing."""

    PREPARING = "Preparing"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    SAVING = "Saving"


class FailureReason(StrEnum):
    """Why an attempt failed; each is a reason of the resource's condition.

    OutOfMemory, WorkerLost, StoreUnavailable and ContainerFailed may be worth another attempt, which the operator makes; all
    others would only come again.
    """

    DATA_INVALID = "DataInvalid"
    STORE_REFUSED = "StoreRefused"
    STORE_UNAVAILABLE = "StoreUnavailable"
    MODEL_INVALID = "ModelInvalid"
    USER_CODE_FAILED = "UserCodeFailed"
    DIGEST_MISMATCH = "DigestMismatch"
    DIVERGED = "Diverged"
    OUT_OF_MEMORY = "OutOfMemory"
    WORKER_LOST = "WorkerLost"
    CONTAINER_FAILED = "ContainerFailed"


class Choice(Block):
    """One value that the runtime chose, and why."""

    field: str
    value: str
    reason: str


class HistoryPoint(Block):
    """Losses of one epoch."""

    epoch: int
    training: float
    validation: float | None = None


class Metric(Block):
    """A metric of the finished model on one part of the data; `low` and `high` bound its confidence interval.

    Of the part CrossValidation `value` is the mean over the folds and `deviation` the standard deviation between them.
    """

    name: str
    part: Literal["Training", "Validation", "Test", "CrossValidation"]
    value: float
    low: float | None = None
    high: float | None = None
    deviation: float | None = None


class DataReport(Block):
    """What became of the rows: `rows` that were read are those of the three parts and those dropped."""

    rows: int = Field(description="Rows that were read.")
    training: int = Field(description="Rows that the model learned from.")
    validation: int = Field(description="Rows that the model was validated on each epoch.")
    test: int = Field(description="Rows held out to test the finished model.")
    dropped: int = Field(0, description="Rows that were left out; notes say why.")
    changed: int = Field(0, description="Rows of which a value was replaced or clipped; notes say why.")
    digest: str | None = Field(None, description="Digest of the data, sha256: over the files.")
    notes: list[str] = Field(default_factory=list, description="Why rows were dropped or changed, at most 16 short notes.")


class RatedTrial(Block):
    """A trial of a search, and how good it was."""

    trial: int = Field(description="Number of the trial, from 1.")
    value: float = Field(description="The metric of the search.")
    values: dict[str, str] = Field(description="What was tried, by field.")


class SearchReport(Block):
    """How far a search is, and what is best so far."""

    trials: int = Field(description="Trials in all.")
    running: int = Field(0, description="Trials that run now.")
    failed: int = Field(0, description="Trials that ended without a value, by diverging or otherwise.")
    stopped: int = Field(0, description="Trials that ASHA ended early.")
    best: float | None = Field(None, description="Metric of the best trial so far.")
    top: list[RatedTrial] = Field(
        default_factory=list, max_length=5, description="The best trials so far, at most 5, best first."
    )


class SavedModel(Block):
    """A complete bundle: where it is and what it holds."""

    uri: str
    digest: str
    size_bytes: int
    parameters: int
    engine: str


class Estimate(Block):
    """What a job needs: told before it trains, its time once more after the first epoch, and at the end how right that was."""

    parameters: int = Field(description="Parameters of the model.")
    memory: str = Field(
        description="Memory of the process that trains, on each worker; Ray's own processes need theirs beside it."
    )
    gpu_memory: str | None = Field(None, description="Memory of each worker's GPUs.")
    disk: str = Field(description="Room in the store for model and checkpoints.")
    duration_seconds: float = Field(
        description="Seconds from reading the data to the saved model, by a formula at first, by the first epoch after it."
    )
    error_percent: float | None = Field(
        None, description="How much longer than the truth durationSeconds was, of a job that no loss has interrupted, in percent."
    )


class Spent(Block):
    """How an attempt has spent its time, in seconds, since it began to train: `seconds` in all.

    Of these, `checkpoint` are those that training waited for checkpoints; `lost` went to epochs that were trained again, because
    workers were lost or others joined, `recovery` to starting them again; `unsaved` would be lost if the attempt ended now.
    """

    seconds: float = Field(0, ge=0)
    checkpoint: float = Field(0, ge=0)
    recovery: float = Field(0, ge=0)
    lost: float = Field(0, ge=0)
    unsaved: float = Field(0, ge=0)


class ProgressReport(Block):
    """Progress of a running attempt; `percent` is of the whole job, 0 to 100.

    `fold` counts the trainings of cross-validation from 1, the model's own being the last of `folds`; both are 0 without it.
    `trial` is the one of a search that runs, counted from 1, or 0: with several at once the number of those that have ended.
    """

    type: Literal["progress"] = "progress"
    resource: ResourceIdentity
    attempt: int
    stage: Stage
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    fold: int = 0
    folds: int = 0
    trial: int = 0
    percent: float = Field(0, ge=0, le=100)
    estimated_remaining_seconds: float | None = None
    workers: int = 1
    resumed_from_epoch: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    history: list[HistoryPoint] = Field(default_factory=list, max_length=50)
    chosen: list[Choice] = Field(default_factory=list, max_length=32)
    search: SearchReport | None = None
    spent: Spent | None = None
    estimate: Estimate | None = None


class ResultReport(Block):
    """The attempt is finished and its bundle complete."""

    type: Literal["result"] = "result"
    resource: ResourceIdentity
    attempt: int
    model: SavedModel
    data: DataReport
    metrics: list[Metric]
    chosen: list[Choice] = Field(default_factory=list, max_length=32)
    progress: ProgressReport


class FailureReport(Block):
    """The attempt ended without a model; `message` says what happened and what to do, at most 1,000 characters."""

    type: Literal["failure"] = "failure"
    resource: ResourceIdentity
    attempt: int
    reason: FailureReason
    message: str = Field(max_length=1000)


Report = Annotated[ProgressReport | ResultReport | FailureReport, Field(discriminator="type")]
REPORT: TypeAdapter[ProgressReport | ResultReport | FailureReport] = TypeAdapter(Report)
"""Parses and writes a report."""
