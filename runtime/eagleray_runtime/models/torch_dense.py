"""Dense layers in torch."""

import torch

from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.torch_module import DenseLayers, TorchNetwork


class DenseNetwork(TorchNetwork):
    """The same forward pass as `network.Network`."""

    def __init__(self, architecture: Dense, dtype: torch.dtype) -> None:
        super().__init__(architecture)
        widths = [architecture.inputs, *architecture.hidden, architecture.outputs]
        self.layers = DenseLayers(widths, architecture.activation, architecture.dropout, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of `x` with shape [rows, inputs]."""
        return self.layers(x)
