"""What the torch networks of all families have in common; parameters carry the names and shapes of the architecture."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

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

PIECE_NUMBERS = 2**24
"""Numbers of a layer's outputs that are computed at a time where no gradients are needed: 64 MiB of float32."""


class Recomputing(torch.nn.Module):  # type: ignore[misc]
    """What can remember of a layer in training only what goes into it, and compute the layer again for its gradients.

    The layer must have no statistics that a second computation would change.
    """

    recomputes = False

    def recompute(self) -> None:
        """From now on do so, with all that is within."""
        for module in self.modules():
            if isinstance(module, Recomputing):
                module.recomputes = True

    def _layer(self, layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """What a layer says to `x`."""
        if not (self.recomputes and self.training):
            return layer(x)
        computed: torch.Tensor = checkpoint(layer, x, use_reentrant=False)
        return computed


class TorchNetwork(Recomputing):
    """A network whose outputs are those before the head, [rows, outputs]; units are dropped in training mode only."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self._piece = max(1, PIECE_NUMBERS // architecture.widest)

    def in_pieces(self, x: torch.Tensor, most: int | None = None) -> torch.Tensor:
        """Outputs of any number of rows, computed piece by piece, so that they need little memory beside their own.

        The number of pieces is that of `most` rows where it is given, however many there are.
        """
        pieces = max(1, -(-(len(x) if most is None else most) // self._piece))
        return torch.cat([self(piece) for piece in x.tensor_split(pieces)])

    def whole(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """All parameters and buffers of the model with a state of training, which is of use no more."""
        return state

    def set_parameters(self, parameters: Mapping[str, AnyArray]) -> None:
        """Take over parameters and buffers by name, each as the type that it has here."""
        own = self.state_dict()
        self.load_state_dict({name: torch.from_numpy(values.copy()).to(own[name].dtype) for name, values in parameters.items()})


def own_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name; a weight that stands in two places has one of its names."""
    own = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    return {name: values for name, values in model.state_dict().items() if name in own}


class WrappedNetwork(TorchNetwork):
    """A network around a module that others have written, `model`, whose state is that of the module alone."""

    model: torch.nn.Module

    def learned(self) -> dict[str, torch.Tensor]:
        """What training changes, by name: the state."""
        return own_state(self.model)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
        """Parameters and buffers by the names that the module gives."""
        return self.learned()

    def load_state_dict(self, state: Mapping[str, torch.Tensor], *args: Any, **options: Any) -> None:
        """Take over a state."""
        if set(state) != set(self.learned()):
            raise ValueError(f"the state of another model: {sorted(set(state) ^ set(self.learned()))[:3]}")
        self.model.load_state_dict(state, strict=False)


class DenseLayers(Recomputing, torch.nn.ModuleList):  # type: ignore[misc]
    """Dense layers with an activation after each but the last."""

    def __init__(self, widths: list[int], activation: Activation, dropout: float, dtype: torch.dtype) -> None:
        super().__init__(torch.nn.Linear(inputs, outputs, dtype=dtype) for inputs, outputs in pairwise(widths))
        self._activate, self._dropout = ACTIVATIONS[activation], dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of the last layer [rows, outputs] of `x` with shape [rows, inputs]."""
        *hidden, last = self
        for layer in hidden:
            x = self._layer(partial(self._hidden, layer), x)
        return last(x)

    def _hidden(self, layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self._activate(layer(x)), self._dropout, self.training)
