"""What a model is: the layers of its family and the head after them, as values that the bundle holds; a module a family."""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Family, LossType
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture.convolutional import Convolutional, convolutional
from eagleray_runtime.models.architecture.custom import Custom, custom
from eagleray_runtime.models.architecture.dense import Dense
from eagleray_runtime.models.architecture.layers import Shapes
from eagleray_runtime.models.architecture.pretrained import Pretrained, pretrained
from eagleray_runtime.models.architecture.recurrent import Recurrent, recurrent
from eagleray_runtime.models.architecture.transformer import Transformer, transformer
from eagleray_runtime.models.heads import head_of

__all__ = [
    "Architecture",
    "Convolutional",
    "Custom",
    "Dense",
    "Pretrained",
    "Recurrent",
    "Shapes",
    "Transformer",
    "build",
    "custom",
    "dense",
    "pretrained",
]


def _kind(value: Any) -> str:
    """The kind of an architecture; bundles of before there were several do not name it."""
    kind = value.get("kind", "Dense") if isinstance(value, dict) else getattr(value, "kind", "Dense")
    return str(kind)


Architecture: TypeAlias = Annotated[
    Annotated[Dense, Tag("Dense")]
    | Annotated[Convolutional, Tag("Convolutional")]
    | Annotated[Recurrent, Tag("Recurrent")]
    | Annotated[Transformer, Tag("Transformer")]
    | Annotated[Pretrained, Tag("Pretrained")]
    | Annotated[Custom, Tag("Custom")],
    Discriminator(_kind),
]
"""What a model is, by `kind`. All have head, shapes, buffers, tables, last, nonlinearity, draws, parameters, work, widest and
words."""


def dense(architecture: Architecture) -> Dense:
    """The architecture, if it is one that NumPy computes.

    Raises:
        ModelInvalid: it is not.
    """
    if not isinstance(architecture, Dense):
        raise ModelInvalid(f"a model of kind {architecture.kind} is computed by torch alone: set the engine to Torch")
    return architecture


def build(model: blocks.Model, inputs: tuple[int, ...], classes: int, loss: LossType) -> Architecture:
    """The architecture of a family for rows of the shape `inputs` and classes (0 for regression), trained on a loss.

    Raises:
        ModelInvalid: its layers do not go with the rows.
    """
    head, outputs = head_of(classes, loss)
    match model.family:
        case Family.CONVOLUTIONAL_NETWORK:
            return convolutional(model.convolutional_network or blocks.ConvolutionalNetwork(), inputs, outputs, head)
        case Family.RECURRENT_NETWORK:
            return recurrent(model.recurrent_network or blocks.RecurrentNetwork(), inputs, outputs, head)
        case Family.TRANSFORMER:
            return transformer(model.transformer or blocks.Transformer(), inputs, outputs, head)
        case Family.MULTILAYER_PERCEPTRON:
            shape = model.multilayer_perceptron or blocks.MultilayerPerceptron()
            return Dense(
                inputs=inputs[0],
                hidden=list(shape.hidden_layers),
                outputs=outputs,
                activation=shape.activation,
                dropout=shape.dropout,
                head=head,
            )
        case _:
            return Dense(inputs=inputs[0], outputs=outputs, head=head)
