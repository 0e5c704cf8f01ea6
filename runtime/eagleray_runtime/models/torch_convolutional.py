"""Convolutional networks in torch."""

from functools import partial
from itertools import pairwise

import torch
from torch.nn import functional

from eagleray_runtime.contract.blocks import ImageNormalization, Pooling
from eagleray_runtime.models.architecture import Convolutional
from eagleray_runtime.models.torch_batch import BatchNormalization
from eagleray_runtime.models.torch_module import ACTIVATIONS, DenseLayers, TorchNetwork


class ConvolutionalNetwork(TorchNetwork):
    """Convolutions, each with normalisation, activation and pooling, then dense layers."""

    def __init__(self, architecture: Convolutional, dtype: torch.dtype) -> None:
        super().__init__(architecture)
        channels, size = [architecture.inputs, *architecture.channels], architecture.kernel_size
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv2d(inputs, outputs, size, dtype=dtype) for inputs, outputs in pairwise(channels)
        )
        if architecture.inputs == 1:
            # Of one channel the gradient comes in this order, and DDP warns of parameters that are in another.
            self.convolutions[0].to(memory_format=torch.channels_last)
        # Of a kernel of even size the larger part of the border is right and below, as torch's own "same" has it.
        self._border = ((size - 1) // 2, size // 2) * 2
        self.normalizations = torch.nn.ModuleList(
            _normalization(architecture.normalization, outputs, dtype) for outputs in architecture.channels
        )
        widths = [architecture.flat, *architecture.hidden, architecture.outputs]
        self.layers = DenseLayers(widths, architecture.activation, architecture.dropout, dtype)
        self._activate, self._pooling = ACTIVATIONS[architecture.activation], architecture.pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of images `x` with shape [rows, height, width, channels]."""
        x = x.permute(0, 3, 1, 2)
        for convolution, normalization in zip(self.convolutions, self.normalizations, strict=True):
            x = self._layer(partial(self._convolved, convolution, normalization), x)
        return self.layers(x.flatten(1))

    def _convolved(self, convolution: torch.nn.Module, normalization: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = self._activate(normalization(convolution(functional.pad(x, self._border))))
        match self._pooling:
            case Pooling.MAX:
                return functional.max_pool2d(x, 2)
            case Pooling.AVERAGE:
                return functional.avg_pool2d(x, 2)
            case Pooling.NONE:
                return x


def _normalization(normalization: ImageNormalization, channels: int, dtype: torch.dtype) -> torch.nn.Module:
    match normalization:
        case ImageNormalization.BATCH:
            return BatchNormalization(channels, dtype=dtype)
        case ImageNormalization.LAYER:
            # One group is all channels (Wu and He 2018, section 3.1), whatever the size of the image.
            return torch.nn.GroupNorm(1, channels, dtype=dtype)
        case ImageNormalization.NONE:
            return torch.nn.Identity()
