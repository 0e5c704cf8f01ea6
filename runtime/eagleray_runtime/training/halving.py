"""Which trials are worth going on with: asynchronous successive halving (Li et al. 2018), as ray.tune's ASHAScheduler has it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

REDUCTION = 4
"""Of so many trials one goes on beyond a rung, and a rung is so many times as many epochs as the one before."""

Rungs = dict[int, float]
"""Values of the metric by the epoch after which it was looked at."""


def is_rung(epoch: int) -> bool:
    """Whether trials are compared after that epoch (1, 4, 16, ...)."""
    while epoch > 1 and epoch % REDUCTION == 0:
        epoch //= REDUCTION
    return epoch == 1


def cutoffs(known: Iterable[Mapping[int, float]], *, larger_is_better: bool) -> Rungs:
    """The value by epoch that a trial must not be worse than to go on, given those of the trials that are known."""
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for rungs in known:
        for epoch, value in rungs.items():
            by_epoch[epoch].append(value)
    best_part = 100 * (1 - 1 / REDUCTION) if larger_is_better else 100 / REDUCTION
    return {epoch: float(np.percentile(values, best_part)) for epoch, values in by_epoch.items()}
