"""What the layers of all families have."""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import TypeAlias

from pydantic import Field

from eagleray_runtime.contract.blocks import Activation, Block

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes by the names that torch gives."""


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
    @abstractmethod
    def shapes(self) -> Shapes:
        """Shape of each parameter."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""

    @property
    def said(self) -> int:
        """Numbers of all layers' outputs together, for one row: at most as many of each as of the widest."""
        return self.widest * sum(len(shape) > 1 for shape in self.shapes.values())

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
        return count(self.shapes)


class Made(Layers):
    """Layers that another library or the user's code makes, with the first weights that it gives them.

    `weights` are the shapes of the parameters by the names that they have there.
    """

    weights: dict[str, list[int]] = Field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """Shape of each parameter."""
        return {name: tuple(shape) for name, shape in self.weights.items()}

    @property
    def draws(self) -> bool:
        """Nobody but their author knows."""
        return True

    @property
    def last(self) -> str | None:
        """None of its weights is drawn here."""
        return None

    @property
    def nonlinearity(self) -> Activation | None:
        """None of its weights is drawn here."""
        return None


def dense_shapes(widths: list[int]) -> Shapes:
    """Parameters of dense layers between these widths."""
    shapes: Shapes = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes[f"layers.{index}.weight"] = (outputs, inputs)
        shapes[f"layers.{index}.bias"] = (outputs,)
    return shapes


def said_of_tokens(shapes: Shapes, tokens: int, heads: int, vocabulary: int, *, goes_on: bool) -> int:
    """Numbers of all layers' outputs together, for a row of so many tokens of a Transformer.

    A weight says as many numbers of a token as its longer side has, but for tables, which are as long as the vocabulary. Four
    weights or more go with an attention, in which each head weighs each token. Of what is foreseen there are the weights of all
    tokens and their logarithms.
    """
    matrices = [max(shape) for shape in shapes.values() if len(shape) == 2 and shape[0] < vocabulary]
    foreseen = 2 * vocabulary if goes_on else 0
    return tokens * (sum(matrices) + len(matrices) // 4 * heads * tokens + foreseen)


def count(shapes: Shapes) -> int:
    """Number of entries of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())
