"""Convolutions over images."""

from itertools import pairwise
from typing import Literal

from pydantic import Field

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Activation, ImageNormalization, Pooling
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture.layers import Layers, Shapes, count, dense_shapes
from eagleray_runtime.models.heads import Head


class Convolutional(Layers):
    """Convolutions of stride 1 with a border of zeros, each with normalisation, activation and pooling, then dense layers.

    It takes images [rows, height, width, inputs]. Pooling halves height and width, rounding down. `dropout` is the share of a
    hidden dense layer's units that a training step leaves out.
    """

    kind: Literal["Convolutional"] = "Convolutional"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    inputs: int = Field(ge=1)
    channels: list[int] = Field(min_length=1)
    kernel_size: int = Field(ge=1)
    pooling: Pooling
    normalization: ImageNormalization
    hidden: list[int] = Field(min_length=1)
    outputs: int = Field(ge=1)
    activation: Activation
    dropout: float = 0.0
    head: Head

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width before the first convolution and after each one's pooling."""
        sizes = [(self.height, self.width)]
        for _ in self.channels:
            height, width = sizes[-1]
            sizes.append((height, width) if self.pooling is Pooling.NONE else (height // 2, width // 2))
        return sizes

    @property
    def flat(self) -> int:
        """Inputs of the first dense layer."""
        height, width = self.sizes[-1]
        return self.channels[-1] * height * width

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter; a convolution's weight is [outputs, inputs, size, size]."""
        shapes: Shapes = {}
        for index, (inputs, outputs) in enumerate(pairwise([self.inputs, *self.channels])):
            shapes[f"convolutions.{index}.weight"] = (outputs, inputs, self.kernel_size, self.kernel_size)
            shapes[f"convolutions.{index}.bias"] = (outputs,)
            if self.normalization is not ImageNormalization.NONE:
                shapes |= {f"normalizations.{index}.{name}": (outputs,) for name in ("weight", "bias")}
        return shapes | dense_shapes([self.flat, *self.hidden, self.outputs])

    @property
    def buffers(self) -> Shapes:
        """Shape of what is part of the model's state, but not trained: the statistics of the batch normalisation."""
        shapes: Shapes = {}
        if self.normalization is ImageNormalization.BATCH:
            for index, outputs in enumerate(self.channels):
                shapes |= {f"normalizations.{index}.{name}": (outputs,) for name in ("running_mean", "running_var")}
                shapes[f"normalizations.{index}.num_batches_tracked"] = ()
        return shapes

    @property
    def last(self) -> str | None:
        """Name of the weight that no activation follows."""
        return f"layers.{len(self.hidden)}.weight"

    @property
    def nonlinearity(self) -> Activation | None:
        """What stands between its layers."""
        return self.activation

    @property
    def work(self) -> int:
        """About how many multiplications a row costs."""
        layers = zip(pairwise([self.inputs, *self.channels]), self.sizes, strict=False)
        kernel = self.kernel_size**2
        convolutions = sum(inputs * outputs * kernel * height * width for (inputs, outputs), (height, width) in layers)
        return convolutions + count(dense_shapes([self.flat, *self.hidden, self.outputs]))

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""
        layers = zip(self.channels, self.sizes, strict=False)
        return max(*(channels * height * width for channels, (height, width) in layers), *self.hidden, self.outputs)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        channels = " - ".join(str(number) for number in (self.inputs, *self.channels))
        dense = " - ".join(str(width) for width in (self.flat, *self.hidden, self.outputs))
        return (
            f"images of {self.height} x {self.width} pixels; convolutions of {self.kernel_size} x {self.kernel_size} pixels, "
            f"channels {channels}, normalization {self.normalization}, pooling {self.pooling}; dense layers {dense}"
        )


def convolutional(shape: blocks.ConvolutionalNetwork, inputs: tuple[int, ...], outputs: int, head: Head) -> Convolutional:
    """The architecture for images of the shape `inputs`.

    Raises:
        ModelInvalid: pooling leaves nothing of them.
    """
    height, width, channels = inputs
    halved = 0 if shape.pooling is Pooling.NONE else len(shape.channels)
    if min(height, width) >> halved == 0:
        raise ModelInvalid(
            f"images of {height} x {width} pixels are halved after each of {halved} convolutions, and no pixel is left: "
            "give model.convolutionalNetwork.channels fewer entries, or set its pooling to None"
        )
    return Convolutional(
        height=height,
        width=width,
        inputs=channels,
        channels=list(shape.channels),
        kernel_size=shape.kernel_size,
        pooling=shape.pooling,
        normalization=shape.normalization,
        hidden=list(shape.hidden_layers),
        outputs=outputs,
        activation=shape.activation,
        dropout=shape.dropout,
        head=head,
    )
