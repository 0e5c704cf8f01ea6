"""What depends on whether training still helps: the rate of ReduceOnPlateau, and the early end."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from eagleray_runtime.contract.blocks import Block

LOSS = "Loss"


class Patience(Block):
    """How long to wait for an improvement: a value that is better than the best one by more than `min_delta`, and by more than
    the share `threshold` of it."""

    epochs: int
    min_delta: float = 0.0
    threshold: float = 0.0
    larger_is_better: bool = False


@dataclass
class Watched:
    """The best value so far, the epoch in which it came (numbered from 1), and for how many epochs nothing better has come."""

    best: float = math.nan
    epoch: int = 0
    waited: int = 0

    def saw(self, patience: Patience, epoch: int, value: float) -> bool:
        """Take the value of an epoch; is it an improvement? A value that is not finite, hence not defined, is none."""
        gain = value - self.best if patience.larger_is_better else self.best - value
        enough = patience.min_delta + patience.threshold * abs(self.best)
        if math.isfinite(value) and (math.isnan(self.best) or gain > enough):
            self.best, self.epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    def is_over(self, patience: Patience) -> bool:
        """Has it been waited for long enough?"""
        return self.waited >= patience.epochs

    def told(self) -> dict[str, Any]:
        """JSON values from which `Watched(**told)` goes on; a best value that is not there yet is left out."""
        return {name: value for name, value in asdict(self).items() if value == value}
