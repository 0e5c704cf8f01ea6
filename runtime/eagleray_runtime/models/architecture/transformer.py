"""Attention over tokens."""

from typing import Literal

from pydantic import Field

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Activation, PositionalEncoding, TextPooling, TransformerArchitecture
from eagleray_runtime.models.architecture.layers import Layers, Shapes, said_of_tokens
from eagleray_runtime.models.heads import Head


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
    def said(self) -> int:
        """Numbers of all layers' outputs together, for one row."""
        return said_of_tokens(self.shapes, self.tokens, self.heads, self.vocabulary, goes_on=self.pooling is None)

    @property
    def words(self) -> str:
        """Its layers for a person."""
        what = "decoder" if self.pooling is None else f"encoder, pooling {self.pooling},"
        return (
            f"{self.vocabulary} different tokens, up to {self.tokens} at a time; {what} of {self.layers} "
            f"layer{'' if self.layers == 1 else 's'} with {self.heads} heads, {self.size} numbers a token and "
            f"{self.feed_forward} hidden units; positional encoding {self.positions}"
        )


def transformer(shape: blocks.Transformer, inputs: tuple[int, ...], outputs: int, head: Head) -> Transformer:
    """The architecture for so many tokens of so many kinds; a decoder's outputs are its tokens."""
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
