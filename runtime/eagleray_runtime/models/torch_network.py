"""The same forward pass in torch; parameters carry the same names and shapes as in NumPy."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise

import torch
from torch.nn import functional

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture import Architecture

ACTIVATIONS = {
    Activation.RELU: torch.relu,
    Activation.TANH: torch.tanh,
    Activation.SIGMOID: torch.sigmoid,
    Activation.GELU: partial(functional.gelu, approximate="tanh"),
    Activation.SILU: functional.silu,
    Activation.LEAKY_RELU: functional.leaky_relu,
}


class TorchNetwork(torch.nn.Module):  # type: ignore[misc]
    """Dense layers; the outputs are those before the head, [rows, outputs]."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        widths = [architecture.inputs, *architecture.hidden, architecture.outputs]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(inputs, outputs, dtype=dtype) for inputs, outputs in pairwise(widths))
        self._activate = ACTIVATIONS[architecture.activation]
        self._dropout = architecture.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of `x` with shape [rows, inputs]; units are dropped in training mode only."""
        for layer in self.layers[:-1]:
            x = functional.dropout(self._activate(layer(x)), self._dropout, self.training)
        return self.layers[-1](x)

    def set_parameters(self, parameters: Mapping[str, AnyArray]) -> None:
        """Take over parameters by name, whatever their floating type."""
        dtype = self.layers[0].weight.dtype
        self.load_state_dict({name: torch.from_numpy(values.copy()).to(dtype) for name, values in parameters.items()})
