"""What a model is: dense layers, the activation between them and the head after them."""

from itertools import pairwise

from pydantic import Field

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Activation, Block, Family, LossType
from eagleray_runtime.models.heads import Head


class Architecture(Block):
    """A stack of dense layers; without hidden layers it is linear (or, with Softmax, logistic) regression.

    `dropout` is the share of a hidden layer's units that a training step leaves out.
    """

    inputs: int = Field(ge=1)
    hidden: list[int] = Field(default_factory=list)
    outputs: int = Field(ge=1)
    activation: Activation = Activation.RELU
    dropout: float = 0.0
    head: Head

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by the name that torch gives it; a weight is [outputs, inputs] of its layer."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (inputs, outputs) in enumerate(pairwise([self.inputs, *self.hidden, self.outputs])):
            shapes[f"layers.{index}.weight"] = (outputs, inputs)
            shapes[f"layers.{index}.bias"] = (outputs,)
        return shapes

    @property
    def depth(self) -> int:
        """Number of dense layers."""
        return len(self.hidden) + 1

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        widths = [self.inputs, *self.hidden, self.outputs]
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


def build(model: blocks.Model, inputs: int, classes: int, loss: LossType) -> Architecture:
    """The architecture of a family for so many prepared columns and classes (0 for regression), trained on a loss."""
    head: Head = "Identity"
    outputs = classes or 1
    if loss is LossType.PERCEPTRON:
        head = "Argmax"
    elif loss is LossType.BINARY_CROSS_ENTROPY:
        head, outputs = "Sigmoid", 1
    elif classes:
        head = "Softmax"
    if model.family is not Family.MULTILAYER_PERCEPTRON:
        return Architecture(inputs=inputs, outputs=outputs, head=head)
    shape = model.multilayer_perceptron or blocks.MultilayerPerceptron()
    return Architecture(
        inputs=inputs,
        hidden=list(shape.hidden_layers),
        outputs=outputs,
        activation=shape.activation,
        dropout=shape.dropout,
        head=head,
    )
