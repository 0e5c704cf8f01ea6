"""Models of the library Transformers in torch (with `torch_tuning` the only modules that import it)."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

from eagleray_runtime.arrays import PADDING
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture import Pretrained
from eagleray_runtime.models.torch_module import WrappedNetwork, own_state

# What they say of layers that begin anew is what is wanted here.
logging.set_verbosity_error()
logging.disable_progress_bar()

OF_CLASSES = ("id2label", "label2id", "num_labels", "problem_type")
"""Fields of a configuration about what a model told before."""


def configured(config: Mapping[str, Any], outputs: int) -> dict[str, Any]:
    """A model's configuration for so many outputs, without what only its makers need."""
    ends = config.get("eos_token_id")
    filler = config.get("pad_token_id")
    if filler is None:
        filler = ends[0] if isinstance(ends, list) else ends
    kept = {name: value for name, value in config.items() if name not in (*OF_CLASSES, "auto_map", "architectures", "dtype")}
    kept.pop("torch_dtype", None)
    return kept | {"num_labels": outputs, "pad_token_id": 0 if filler is None else filler}


def described(config: Mapping[str, Any], *, goes_on: bool) -> tuple[dict[str, list[int]], int, int]:
    """Shapes of the weights of a configured model by name, numbers that stand for a token, and attention heads.

    Raises:
        ModelInvalid: Transformers has no such model.
    """
    with torch.device("meta"):
        model = _made(config, goes_on=goes_on)
    shapes = {name: list(values.shape) for name, values in own_state(model).items()}
    return shapes, int(model.config.hidden_size), int(model.config.num_attention_heads)


def auto_class(*, goes_on: bool) -> Any:
    """The class of Transformers that makes models which go on with text, or tell what it is."""
    return AutoModelForCausalLM if goes_on else AutoModelForSequenceClassification


def _made(config: Mapping[str, Any], *, goes_on: bool) -> Any:
    try:
        return auto_class(goes_on=goes_on).from_config(AutoConfig.for_model(**config), trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "goes on with text" if goes_on else "tells what a text is"
        raise ModelInvalid(
            f"Transformers has no model of type {config.get('model_type')} that {what} and needs no code of its own: {error}"
        ) from error


class PretrainedNetwork(WrappedNetwork):
    """A model of Transformers, whose state is that of the model alone."""

    def __init__(self, architecture: Pretrained, model: Any = None) -> None:
        """A given model, or one whose parameters are still to be set."""
        super().__init__(architecture)
        self._goes_on = architecture.head == "NextToken"
        self.model = _made(architecture.config, goes_on=self._goes_on).float() if model is None else model
        self._filler = architecture.config["pad_token_id"]

    def recompute(self) -> None:
        """From now on remember of a layer in training only what goes into it, by Transformers' own means."""
        with warnings.catch_warnings():
            # Of what peft asks of Transformers, which neither is ours.
            warnings.simplefilter("ignore")
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As of `torch_transformer.Encoder` or `Decoder`, by what the model is for."""
        if not self._goes_on:
            x = x[:, : max(1, int((x != PADDING).any(dim=0).sum()))]
            mask = x != PADDING
            return self.model(input_ids=x.masked_fill(~mask, self._filler).long(), attention_mask=mask.long()).logits
        # Padding stands after the text: nothing looks at it, and it is not to be foreseen.
        seen = x[:, :-1]
        logits = self.model(input_ids=seen.masked_fill(seen == PADDING, self._filler).long(), use_cache=False).logits
        foreseen = x[:, 1:].long()
        losses = functional.cross_entropy(logits.flatten(0, 1), foreseen.flatten(), ignore_index=PADDING, reduction="none")
        return -losses.unflatten(0, foreseen.shape)

    def next(self, x: torch.Tensor, seen: Any) -> tuple[torch.Tensor, Any]:
        """As of `torch_transformer.Decoder`."""
        found = self.model(input_ids=x.long(), cache=seen, use_cache=True)
        return found.logits[:, -1].float(), found.cache
