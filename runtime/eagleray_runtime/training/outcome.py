"""What an engine hands back."""

from dataclasses import dataclass
from typing import NamedTuple

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.reports import Choice, HistoryPoint


class FirstEpoch(NamedTuple):
    """How many seconds after training was asked for its first epoch began, and how many it took."""

    after: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Trained parameters and buffers by name, the losses, and how training went.

    `epochs` are those that were trained; `checkpoint_seconds` is how long training waited for checkpoints;
    `first_epoch` is None for a training that went on from a checkpoint.
    """

    parameters: dict[str, AnyArray]
    history: list[HistoryPoint]
    epochs: int
    steps: int
    workers: int
    resumed_from: int
    chosen: list[Choice]
    checkpoint_seconds: float = 0.0
    first_epoch: FirstEpoch | None = None


@dataclass(frozen=True)
class EpochEnd:
    """What is known at the end of an epoch (numbered from 1); losses are in the target's own unit.

    `checkpoint_seconds` is how long this training has waited for checkpoints, `unsaved_seconds` how long ago the last one was;
    `first_epoch` is as that of `Outcome`.
    """

    epoch: int
    step: int
    training: float
    validation: float | None
    workers: int
    resumed_from: int
    history: list[HistoryPoint]
    checkpoint_seconds: float = 0.0
    unsaved_seconds: float = 0.0
    first_epoch: FirstEpoch | None = None
