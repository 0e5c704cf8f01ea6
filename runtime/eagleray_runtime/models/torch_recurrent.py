"""Recurrent networks in torch."""

import torch
from torch.nn import functional

from eagleray_runtime.contract.blocks import Cell
from eagleray_runtime.models.architecture import Recurrent
from eagleray_runtime.models.torch_module import TorchNetwork

CELLS = {Cell.LSTM: torch.nn.LSTM, Cell.GRU: torch.nn.GRU, Cell.PLAIN: torch.nn.RNN}


class RecurrentNetwork(TorchNetwork):
    """Recurrent layers, and a dense layer on the last one's state after the window (of each direction, where it has read it)."""

    def __init__(self, architecture: Recurrent, dtype: torch.dtype) -> None:
        super().__init__(architecture)
        self.recurrence = CELLS[architecture.cell](
            architecture.inputs,
            architecture.size,
            num_layers=architecture.layers,
            batch_first=True,
            # Torch drops between layers only, and warns of a single one; the last layer's outputs are dropped below.
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
            bidirectional=architecture.directions == 2,
            dtype=dtype,
        )
        self.output = torch.nn.Linear(architecture.size * architecture.directions, architecture.outputs, dtype=dtype)
        self._directions, self._dropout = architecture.directions, architecture.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the head of windows `x` with shape [rows, steps, inputs]."""
        _, state = self.recurrence(x)
        hidden = state[0] if isinstance(state, tuple) else state
        last = torch.cat(list(hidden[-self._directions :]), dim=1)
        return self.output(functional.dropout(last, self._dropout, self.training))
