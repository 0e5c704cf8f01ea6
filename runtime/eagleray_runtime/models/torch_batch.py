"""Batch normalisation over the rows of a step, on whichever workers they are."""

from typing import Any

import torch
import torch.distributed
from torch.nn import functional

OVER = (0, 2, 3)
"""Dimensions of [rows, channels, height, width] that statistics go over."""


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
        y, mean, variance, count = _Shared.apply(x.to(self.weight.dtype), self.weight, self.bias, self.eps, self._group)
        with torch.no_grad():
            # As in torch: the running variance is that of the population, the one of the step that of its rows.
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (unbiased - self.running_var)
            self.num_batches_tracked += 1
        return y


class _Shared(torch.autograd.Function):  # type: ignore[misc]
    """Normalisation with the mean and variance of all workers' rows, both ways by torch's own kernels for given statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, group: Any
    ) -> tuple[torch.Tensor, ...]:
        """The normalised rows; mean, variance [channels] and number [1] of the values of a channel on all workers."""
        mean, variance = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):
            # Two passes, for torch's own function of both takes eight times as long on a CPU.
            mean = x.mean(OVER)
            variance = (x - mean[:, None, None]).square_().mean(OVER)
        own = torch.cat([mean, variance, x.new_full((1,), x.numel() // x.shape[1])])
        told = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size(group))]
        torch.distributed.all_gather(told, own, group=group)
        means, variances, counts = torch.stack(told).split([len(weight), len(weight), 1], dim=1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        # Of parts with means of their own (Chan et al. 1983, equation 2.1).
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps, ctx.group = eps, group
        ctx.mark_non_differentiable(mean, variance, count)
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of the rows, which change the statistics of all workers, and of this worker's scale and shift."""
        x, weight, mean, variance, count = ctx.saved_tensors
        of_x, of_weight, of_bias = gradients[0], torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                of_x, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        sums = torch.cat([of_weight, of_bias])
        torch.distributed.all_reduce(sums, group=ctx.group)
        by_variance, by_mean = sums.split(len(weight))
        deviation = torch.rsqrt(variance + ctx.eps)
        slope = weight * deviation**2 * by_variance / count
        shift = weight * deviation * by_mean / count - slope * mean
        of_x = torch.addcmul(of_x, x, slope[:, None, None], value=-1).sub_(shift[:, None, None])
        return of_x, of_weight, of_bias, None, None
