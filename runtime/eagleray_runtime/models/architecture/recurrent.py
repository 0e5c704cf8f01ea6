"""Recurrent layers over windows of rows."""

from typing import Literal

from pydantic import Field

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Activation, Cell, Direction
from eagleray_runtime.models.architecture.layers import Layers, Shapes
from eagleray_runtime.models.heads import Head

GATES = {Cell.LSTM: 4, Cell.GRU: 3, Cell.PLAIN: 1}
"""Matrices that torch keeps in one weight of a cell."""


class Recurrent(Layers):
    """Recurrent layers over a window of rows, and a dense layer on the state that the last one has after the window.

    It takes windows [rows, steps, inputs]. `dropout` is the share of each layer's outputs that a training step leaves out.
    """

    kind: Literal["Recurrent"] = "Recurrent"
    steps: int = Field(ge=1)
    inputs: int = Field(ge=1)
    cell: Cell
    size: int = Field(ge=1)
    layers: int = Field(ge=1)
    direction: Direction
    outputs: int = Field(ge=1)
    dropout: float = 0.0
    head: Head

    @property
    def directions(self) -> int:
        """Number of ways in which a window is read."""
        return 2 if self.direction is Direction.BIDIRECTIONAL else 1

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter; a recurrent weight holds the gates' weights [size, inputs], one below the other."""
        shapes: Shapes = {}
        for layer in range(self.layers):
            inputs = self.inputs if layer == 0 else self.size * self.directions
            for reverse in ("", "_reverse")[: self.directions]:
                stacked = GATES[self.cell] * self.size
                shapes[f"recurrence.weight_ih_l{layer}{reverse}"] = (stacked, inputs)
                shapes[f"recurrence.weight_hh_l{layer}{reverse}"] = (stacked, self.size)
                shapes[f"recurrence.bias_ih_l{layer}{reverse}"] = (stacked,)
                shapes[f"recurrence.bias_hh_l{layer}{reverse}"] = (stacked,)
        return shapes | {"output.weight": (self.outputs, self.size * self.directions), "output.bias": (self.outputs,)}

    def gates(self, name: str) -> int:
        """How many gates' weights a weight holds."""
        return GATES[self.cell] if name.startswith("recurrence.") else 1

    @property
    def last(self) -> str | None:
        """Name of the weight that no activation follows."""
        return "output.weight"

    @property
    def nonlinearity(self) -> Activation | None:
        """What a state goes through."""
        return Activation.TANH

    @property
    def work(self) -> int:
        """About how many multiplications a window costs."""
        return self.steps * self.parameters

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one window."""
        return self.steps * max(self.inputs, GATES[self.cell] * self.size * self.directions)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        way = "both ways" if self.directions == 2 else "forward"
        layers = f"{self.layers} layer{'' if self.layers == 1 else 's'} of {self.size} {self.cell} units"
        return f"windows of {self.steps} steps and {self.inputs} columns, read {way}; {layers}; outputs {self.outputs}"


def recurrent(shape: blocks.RecurrentNetwork, inputs: tuple[int, ...], outputs: int, head: Head) -> Recurrent:
    """The architecture for windows of the shape `inputs`."""
    return Recurrent(
        steps=inputs[0],
        inputs=inputs[1],
        cell=shape.cell,
        size=shape.hidden_size,
        layers=shape.layers,
        direction=shape.direction,
        outputs=outputs,
        dropout=shape.dropout,
        head=head,
    )
