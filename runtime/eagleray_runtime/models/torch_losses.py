"""The losses in torch, by its own functions."""

import torch
from torch.nn import functional

from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.models.losses import Loss


def total_loss(loss: Loss, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum over rows of what `Loss.mean` is the mean of; zero without rows. The arguments are as there."""
    if loss.of_tokens:
        return -outputs.sum()
    weights = torch.tensor(loss.class_weights, dtype=outputs.dtype, device=outputs.device) if loss.class_weights else None
    match loss.type:
        case LossType.MEAN_SQUARED_ERROR:
            return 0.5 * functional.mse_loss(outputs[:, 0], y, reduction="sum")
        case LossType.MEAN_ABSOLUTE_ERROR:
            return functional.l1_loss(outputs[:, 0], y, reduction="sum")
        case LossType.HUBER:
            return functional.huber_loss(outputs[:, 0], y, reduction="sum", delta=loss.delta)
        case LossType.BINARY_CROSS_ENTROPY:
            of_rows = weights[y] if weights is not None else None
            wanted = y.to(outputs.dtype)
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], wanted, weight=of_rows, reduction="sum")
        case LossType.PERCEPTRON:
            return (outputs.max(dim=1).values - outputs.gather(1, y[:, None])[:, 0]).sum()
        case _:
            smoothing = loss.label_smoothing
            return functional.cross_entropy(outputs, y, weight=weights, label_smoothing=smoothing, reduction="sum")
