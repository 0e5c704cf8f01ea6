"""Models of the library Transformers."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture.layers import Made, said_of_tokens
from eagleray_runtime.models.heads import Head, head_of


class Pretrained(Made):
    """A model of the library Transformers, by its own configuration, that began with the weights of `base`, a URI.

    It takes tokens as `Transformer` does: with head NextToken it goes on with them, else it tells what they are. `weights` are
    the shapes of its parameters by their names there.
    """

    kind: Literal["Pretrained"] = "Pretrained"
    base: str
    config: dict[str, Any]
    vocabulary: int = Field(ge=1)
    tokens: int = Field(ge=1)
    size: int = Field(ge=1)
    heads: int = Field(ge=1)
    outputs: int = Field(ge=1)
    head: Head

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
    def said(self) -> int:
        """Numbers of all layers' outputs together, for one row."""
        return said_of_tokens(self.shapes, self.tokens, self.heads, self.vocabulary, goes_on=self.head == "NextToken")

    @property
    def words(self) -> str:
        """Its layers for a person."""
        what = "goes on with text" if self.head == "NextToken" else "tells what a text is"
        return f"{self.config['model_type']} that {what}, up to {self.tokens} tokens at a time, begun with {self.base}"


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
    head, outputs = ("NextToken", vocabulary) if goes_on else head_of(classes, loss)
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
