"""Batch normalisation over the rows of a step, on whichever workers they are."""

import torch
import torch.distributed
from torch.distributed.nn.functional import all_reduce


class BatchNormalization(torch.nn.BatchNorm2d):  # type: ignore[misc]
    """Torch's batch normalisation (Ioffe and Szegedy 2015), whose statistics in training are those of all workers' rows.

    Torch's own for several workers needs GPUs. Every worker must come here equally often, if need be with no rows.
    """

    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__(channels, dtype=dtype)
        self._group: torch.distributed.ProcessGroup | None = None
        self._is_shared = False

    def share(self, group: torch.distributed.ProcessGroup | None) -> None:
        """From now on look at the rows of all workers of a group; None is the group of all."""
        self._group, self._is_shared = group, True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [rows, channels, height, width], normalised."""
        if not (self.training and self._is_shared):
            return super().forward(x)
        dimensions = (0, 2, 3)
        # About the running mean, which is near the mean: the squares then lose no digits.
        centre = self.running_mean.detach().clone()
        shifted = x - centre[:, None, None]
        count = shifted.new_full((1,), x.numel() // x.shape[1])
        sums = torch.cat([shifted.sum(dimensions), (shifted * shifted).sum(dimensions), count])
        sums = all_reduce(sums, group=self._group) if self._group is not None else all_reduce(sums)
        total, squares, count = sums.split([x.shape[1], x.shape[1], 1])
        mean = total / count
        variance = (squares / count - mean * mean).clamp(min=0)
        with torch.no_grad():
            # As in torch: the running variance is that of the population, the one of the step that of its rows.
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean += self.momentum * (mean + centre - self.running_mean)
            self.running_var += self.momentum * (unbiased - self.running_var)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (shifted - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
