"""What a model is: the layers of its family and the head after them, as values that the bundle holds."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import (
    Activation,
    Block,
    Cell,
    Direction,
    Family,
    ImageNormalization,
    LossType,
    Pooling,
    PositionalEncoding,
    TextPooling,
    TransformerArchitecture,
)
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.code import digest
from eagleray_runtime.models.heads import Head

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes by the names that torch gives."""


GATES = {Cell.LSTM: 4, Cell.GRU: 3, Cell.PLAIN: 1}
"""Matrices that torch keeps in one weight of a cell."""


class Layers(Block):
    """What the layers of all families have."""

    def gates(self, name: str) -> int:
        """How many matrices, each with units of its own, stand one below the other in a weight."""
        return 1

    @property
    def tables(self) -> frozenset[str]:
        """Names of the weights of which a row is looked up."""
        return frozenset()

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter."""
        raise NotImplementedError

    @property
    def buffers(self) -> Shapes:
        """Shape of what is part of the model's state, but not trained."""
        return {}

    @property
    def draws(self) -> bool:
        """Whether a step of training leaves out what is drawn."""
        return bool(getattr(self, "dropout", 0.0))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return _count(self.shapes)


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
        return _dense([self.inputs, *self.hidden, self.outputs])

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
        return shapes | _dense([self.flat, *self.hidden, self.outputs])

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
        return convolutions + _count(_dense([self.flat, *self.hidden, self.outputs]))

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


class Transformer(Layers):
    """Layers of attention and two dense layers, normalised before both (Vaswani et al. 2017; Xiong et al. 2020, figure 1 b).

    It takes tokens, whole numbers [rows, up to `tokens`], padded with 0. An encoder (`pooling` is set) sees the whole text, and
    has a dense layer on the mean over its tokens or on the first one. A decoder (without pooling) sees for each token those
    before it, and weighs what comes next by the table of its tokens; it takes one token more, the last one to foresee.
    `dropout` is the share of what a step of training leaves out.
    """

    kind: Literal["Transformer"] = "Transformer"
    vocabulary: int = Field(ge=1)
    tokens: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    size: int = Field(ge=1)
    feed_forward: int = Field(ge=1)
    activation: Activation
    positions: PositionalEncoding
    pooling: TextPooling | None
    outputs: int = Field(ge=1)
    dropout: float = 0.0
    head: Head

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter; the weights of queries, keys and values stand one below the other."""
        size, wide = self.size, self.feed_forward
        shapes: Shapes = {"embedding.weight": (self.vocabulary, size)}
        if self.positions is PositionalEncoding.LEARNED:
            shapes["positions.weight"] = (self.tokens, size)
        for layer in range(self.layers):
            for name, rows, columns in (
                ("attention.queries_keys_values", 3 * size, size),
                ("attention.output", size, size),
                ("wide", wide, size),
                ("narrow", size, wide),
            ):
                shapes |= {f"layers.{layer}.{name}.weight": (rows, columns), f"layers.{layer}.{name}.bias": (rows,)}
            for name in ("before_attention", "before_dense"):
                shapes |= {f"layers.{layer}.{name}.{part}": (size,) for part in ("weight", "bias")}
        shapes |= {f"normalization.{part}": (size,) for part in ("weight", "bias")}
        if self.pooling is not None:
            shapes |= {"output.weight": (self.outputs, size), "output.bias": (self.outputs,)}
        return shapes

    def gates(self, name: str) -> int:
        """Queries, keys and values have weights of their own."""
        return 3 if name.endswith("queries_keys_values.weight") else 1

    @property
    def tables(self) -> frozenset[str]:
        """Names of the weights of which a row is looked up."""
        return frozenset({"embedding.weight", "positions.weight"})

    @property
    def last(self) -> str | None:
        """Name of the weight that no activation follows."""
        return "output.weight"

    @property
    def nonlinearity(self) -> Activation | None:
        """What stands between its dense layers."""
        return self.activation

    @property
    def work(self) -> int:
        """About how many multiplications a row costs."""
        dense = 4 * self.size**2 + 2 * self.size * self.feed_forward
        attention = 2 * self.tokens * self.size
        foreseen = self.vocabulary * self.size if self.pooling is None else 0
        return self.tokens * (self.layers * (dense + attention) + foreseen)

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""
        foreseen = self.vocabulary if self.pooling is None else 0
        return self.tokens * max(3 * self.size, self.feed_forward, self.heads * self.tokens, foreseen)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        what = "decoder" if self.pooling is None else f"encoder, pooling {self.pooling},"
        return (
            f"{self.vocabulary} different tokens, up to {self.tokens} at a time; {what} of {self.layers} "
            f"layer{'' if self.layers == 1 else 's'} with {self.heads} heads, {self.size} numbers a token and "
            f"{self.feed_forward} hidden units; positional encoding {self.positions}"
        )


class Pretrained(Layers):
    """A model of the library Transformers, by its own configuration, that began with the weights of `base`, a URI.

    It takes tokens as `Transformer` does: with head NextToken it goes on with them, else it tells what they are. `weights` are
    the shapes of its parameters by their names there.
    """

    kind: Literal["Pretrained"] = "Pretrained"
    base: str
    config: dict[str, Any]
    weights: dict[str, list[int]]
    vocabulary: int = Field(ge=1)
    tokens: int = Field(ge=1)
    size: int = Field(ge=1)
    heads: int = Field(ge=1)
    outputs: int = Field(ge=1)
    head: Head

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter."""
        return {name: tuple(shape) for name, shape in self.weights.items()}

    @property
    def draws(self) -> bool:
        """Most of these models leave something out, each by a field of its own name."""
        return True

    @property
    def last(self) -> str | None:
        """None of its weights is drawn here."""
        return None

    @property
    def nonlinearity(self) -> Activation | None:
        """None of its weights is drawn here."""
        return None

    @property
    def work(self) -> int:
        """About how many multiplications a row costs."""
        return self.tokens * self.parameters

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row; the hidden layers of most are four times as wide as a token."""
        foreseen = self.vocabulary if self.head == "NextToken" else 0
        return self.tokens * max(4 * self.size, self.heads * self.tokens, foreseen)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        what = "goes on with text" if self.head == "NextToken" else "tells what a text is"
        return f"{self.config['model_type']} that {what}, up to {self.tokens} tokens at a time, begun with {self.base}"


class Custom(Layers):
    """A network of the user's own: what the function `entrypoint` (module:function) makes of inputs, outputs and `arguments`.

    It takes rows [rows, inputs]. `sources` are the texts of the code's files by name; without any it is in the image. `weights`
    and `statistics` are the shapes of parameters and buffers by the names that its module gives, `width` are the numbers of its
    widest layer's outputs for one row.
    """

    kind: Literal["Custom"] = "Custom"
    entrypoint: str
    arguments: dict[str, str]
    sources: dict[str, str] = Field(default_factory=dict)
    inputs: int = Field(ge=1)
    outputs: int = Field(ge=1)
    weights: dict[str, list[int]] = Field(default_factory=dict)
    statistics: dict[str, list[int]] = Field(default_factory=dict)
    width: int = 1
    head: Head

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter."""
        return {name: tuple(shape) for name, shape in self.weights.items()}

    @property
    def buffers(self) -> Shapes:
        """Shape of what is part of the module's state, but not trained."""
        return {name: tuple(shape) for name, shape in self.statistics.items()}

    @property
    def draws(self) -> bool:
        """Nobody but its author knows."""
        return True

    @property
    def last(self) -> str | None:
        """None of its weights is drawn here."""
        return None

    @property
    def nonlinearity(self) -> Activation | None:
        """None of its weights is drawn here."""
        return None

    @property
    def work(self) -> int:
        """About how many multiplications a row costs, if each weight is used once."""
        return self.parameters

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""
        return self.width

    @property
    def words(self) -> str:
        """Its code for a person."""
        files = f"{', '.join(sorted(self.sources))} ({digest(self.sources)})" if self.sources else "the image"
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.entrypoint} of {files}{f' with {given}' if given else ''}; {self.inputs} inputs, {self.outputs} outputs"


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


def pretrained(
    base: str, config: Mapping[str, Any], inputs: tuple[int, ...], classes: int, loss: LossType, *, goes_on: bool
) -> Pretrained:
    """The architecture of a pretrained model, at the URI `base`, by its configuration; else as `build`, or to go on with text.

    Raises:
        ModelInvalid: this installation or Transformers has no such model.
    """
    try:
        # Only here: the image of the NumPy engine holds neither torch nor Transformers.
        from eagleray_runtime.models import torch_pretrained
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"pretrained models need {error.name}, which this image does not hold: set runtime.image to one with Transformers"
        ) from error
    tokens, vocabulary = inputs
    head, outputs = ("NextToken", vocabulary) if goes_on else _head(classes, loss)
    configured = torch_pretrained.configured(config, outputs)
    weights, size, heads = torch_pretrained.described(configured, goes_on=goes_on)
    return Pretrained(
        base=base,
        config=configured,
        weights=weights,
        vocabulary=vocabulary,
        tokens=tokens,
        size=size,
        heads=heads,
        outputs=outputs,
        head=head,
    )


def custom(model: blocks.Custom, sources: Mapping[str, str], x: AnyArray, classes: int, loss: LossType) -> Custom:
    """The architecture of a network of the user's own, found out on a few prepared rows `x` [rows, inputs]; else as `build`.

    Raises:
        ModelInvalid: this installation has no torch.
        UserCodeFailed: the code ends with an error, or makes something else than it has to.
    """
    try:
        # Only here: the image of the NumPy engine holds no torch.
        from eagleray_runtime.models import torch_custom
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"family Custom needs {error.name}, which this image does not hold: set runtime.image to one with torch"
        ) from error
    head, outputs = _head(classes, loss)
    asked = Custom(
        entrypoint=model.entrypoint,
        arguments=model.parameters,
        sources=dict(sources),
        inputs=x.shape[1],
        outputs=outputs,
        head=head,
    )
    return torch_custom.described(asked, x)


def _head(classes: int, loss: LossType) -> tuple[Head, int]:
    """Head and number of outputs for classes (0 for regression), trained on a loss."""
    if loss is LossType.PERCEPTRON:
        return "Argmax", classes
    if loss is LossType.BINARY_CROSS_ENTROPY:
        return "Sigmoid", 1
    return ("Softmax", classes) if classes else ("Identity", 1)


def build(model: blocks.Model, inputs: tuple[int, ...], classes: int, loss: LossType) -> Architecture:
    """The architecture of a family for rows of the shape `inputs` and classes (0 for regression), trained on a loss.

    Raises:
        ModelInvalid: its layers do not go with the rows.
    """
    head, outputs = _head(classes, loss)
    match model.family:
        case Family.CONVOLUTIONAL_NETWORK:
            return _convolutional(model.convolutional_network or blocks.ConvolutionalNetwork(), inputs, outputs, head)
        case Family.RECURRENT_NETWORK:
            recurrent = model.recurrent_network or blocks.RecurrentNetwork()
            return Recurrent(
                steps=inputs[0],
                inputs=inputs[1],
                cell=recurrent.cell,
                size=recurrent.hidden_size,
                layers=recurrent.layers,
                direction=recurrent.direction,
                outputs=outputs,
                dropout=recurrent.dropout,
                head=head,
            )
        case Family.TRANSFORMER:
            return _transformer(model.transformer or blocks.Transformer(), inputs, outputs, head)
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


def _transformer(shape: blocks.Transformer, inputs: tuple[int, ...], outputs: int, head: Head) -> Transformer:
    tokens, vocabulary = inputs
    decoder = shape.architecture is TransformerArchitecture.DECODER
    return Transformer(
        vocabulary=vocabulary,
        tokens=tokens,
        layers=shape.layers,
        heads=shape.heads,
        size=shape.model_size,
        feed_forward=shape.feed_forward_size or 4 * shape.model_size,
        activation=shape.activation,
        positions=shape.positional_encoding,
        pooling=None if decoder else shape.pooling or TextPooling.MEAN,
        outputs=vocabulary if decoder else outputs,
        dropout=shape.dropout,
        head="NextToken" if decoder else head,
    )


def _convolutional(shape: blocks.ConvolutionalNetwork, inputs: tuple[int, ...], outputs: int, head: Head) -> Convolutional:
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


def _dense(widths: list[int]) -> Shapes:
    """Parameters of dense layers between these widths."""
    shapes: Shapes = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes[f"layers.{index}.weight"] = (outputs, inputs)
        shapes[f"layers.{index}.bias"] = (outputs,)
    return shapes


def _count(shapes: Shapes) -> int:
    """Number of entries of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())
