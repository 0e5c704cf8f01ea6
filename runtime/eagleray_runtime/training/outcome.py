"""What an engine hands back."""

from dataclasses import dataclass

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.reports import Choice, HistoryPoint


@dataclass(frozen=True)
class Outcome:
    """Trained parameters and buffers by name, the losses, and how training went; `epochs` are those that were trained."""

    parameters: dict[str, AnyArray]
    history: list[HistoryPoint]
    epochs: int
    steps: int
    workers: int
    resumed_from: int
    chosen: list[Choice]


@dataclass(frozen=True)
class EpochEnd:
    """What is known at the end of an epoch (numbered from 1); losses are in the target's own unit."""

    epoch: int
    step: int
    training: float
    validation: float | None
    workers: int
    resumed_from: int
    history: list[HistoryPoint]
