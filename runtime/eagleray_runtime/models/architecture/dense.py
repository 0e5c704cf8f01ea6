"""Dense layers: linear and logistic regression, both perceptrons."""

from typing import Literal

from pydantic import Field

from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture.layers import Layers, Shapes, dense_shapes
from eagleray_runtime.models.heads import Head


class Dense(Layers):
    """A stack of dense layers; without hidden layers it is linear (or, with Softmax, logistic) regression.

    `dropout` is the share of a hidden layer's units that a training step leaves out.
    """

    kind: Literal["Dense"] = "Dense"
    inputs: int = Field(ge=1)
    hidden: list[int] = Field(default_factory=list)
    outputs: int = Field(ge=1)
    activation: Activation = Activation.RELU
    dropout: float = 0.0
    head: Head

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter; a weight is [outputs, inputs] of its layer."""
        return dense_shapes([self.inputs, *self.hidden, self.outputs])

    @property
    def depth(self) -> int:
        """Number of dense layers."""
        return len(self.hidden) + 1

    @property
    def last(self) -> str | None:
        """Name of the weight that no activation follows, if one comes before it."""
        return f"layers.{len(self.hidden)}.weight" if self.hidden else None

    @property
    def nonlinearity(self) -> Activation | None:
        """What stands between its layers; None if there is only one."""
        return self.activation if self.hidden else None

    @property
    def work(self) -> int:
        """About how many multiplications a row costs."""
        return self.parameters

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""
        return max(self.inputs, *self.hidden, self.outputs)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        return "layers " + " - ".join(str(width) for width in (self.inputs, *self.hidden, self.outputs))
