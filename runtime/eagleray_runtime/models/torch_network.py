"""The same forward pass in torch; parameters carry the same names and shapes as in NumPy."""

from collections.abc import Mapping
from itertools import pairwise

import torch

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture import Architecture

ACTIVATIONS = {Activation.RELU: torch.relu, Activation.TANH: torch.tanh, Activation.SIGMOID: torch.sigmoid}


class TorchNetwork(torch.nn.Module):  # type: ignore[misc]
    """Dense layers; the outputs are those before the head, [rows, outputs]."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        widths = [architecture.inputs, *architecture.hidden, architecture.outputs]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(inputs, outputs, dtype=dtype) for inputs, outputs in pairwise(widths))
        self._activate = ACTIVATIONS[architecture.activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of `x` with shape [rows, inputs]."""
        for layer in self.layers[:-1]:
            x = self._activate(layer(x))
        return self.layers[-1](x)

    def set_parameters(self, parameters: Mapping[str, AnyArray]) -> None:
        """Take over parameters by name, whatever their floating type."""
        dtype = self.layers[0].weight.dtype
        self.load_state_dict({name: torch.from_numpy(values.copy()).to(dtype) for name, values in parameters.items()})


def total_loss(head: str, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum over rows of 1/2 (h - y)^2 for the head Identity, or of -ln p(label) for Softmax; zero without rows."""
    if head == "Identity":
        return 0.5 * ((outputs[:, 0] - y) ** 2).sum()
    return torch.nn.functional.cross_entropy(outputs, y, reduction="sum")
