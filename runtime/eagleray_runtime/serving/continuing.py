"""How texts go on."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.manifest import TEXT
from eagleray_runtime.bundle.reading import Bundle
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.data.texts import TextColumn
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.predictor import load_writer
from eagleray_runtime.serving.inputs import Tensors, documents, tokenizer_of
from eagleray_runtime.serving.tensors import BadTensorError

MAX_TOKENS, TEMPERATURE, SEED = "max_tokens", "temperature", "seed"
"""Parameters of a request."""

USUAL_TOKENS, MOST_TOKENS = 64, 4096
"""Tokens of a continuation where the request says nothing, and at most over all texts of a request."""

HOTTEST = 100.0
LARGEST_SEED = 2**31 - 1

WRITING_WORK = 50_000_000
"""Even a short continuation of a small model takes about as long as so many multiplications, for its tokens come one by one."""


class Continuing:
    """How texts go on by a bundle; the attributes are those of `model.Answering`."""

    files: frozenset[str] = frozenset()
    work, byte_work = WRITING_WORK, 0

    def __init__(self, engine: Engine, bundle: Bundle, column: TextColumn) -> None:
        self._write = load_writer(engine, bundle.manifest.architecture, bundle.parameters, column.ends)
        self._tokenizer = tokenizer_of(bundle.tokenizer)
        self.device = self._write.device
        self.about = {
            TEXT: f"texts in UTF-8 to go on with; the model sees the last {column.max_tokens} tokens",
            MAX_TOKENS: f"parameter of a request: most tokens of each continuation, unset {USUAL_TOKENS}; at most {MOST_TOKENS} "
            "over all its texts",
            TEMPERATURE: "parameter of a request: 0, unset, takes the likeliest token each time; above, one is drawn",
            SEED: "parameter of a request: seed of what is drawn, unset 0",
        }

    def __call__(self, inputs: Tensors, parameters: Mapping[str, Any], gone: threading.Event) -> dict[str, AnyArray]:
        """`continuation`, object [rows]: what comes after each text, up to its end or the most tokens, or as far as it has
        come when the client has gone.

        Raises:
            BadTensorError: the inputs or parameters are not those of the model.
        """
        texts = documents(inputs)
        most = _whole(parameters, MAX_TOKENS, USUAL_TOKENS, 1, MOST_TOKENS)
        if most * len(texts) > MOST_TOKENS:
            raise BadTensorError(
                f"parameter {MAX_TOKENS}: {most} for each of {len(texts)} texts are more than {MOST_TOKENS}: send fewer texts"
            )
        seed = _whole(parameters, SEED, 0, 0, LARGEST_SEED)
        temperature = parameters.get(TEMPERATURE, 0)
        if type(temperature) not in (int, float) or not 0 <= temperature <= HOTTEST:
            raise BadTensorError(f"parameter {TEMPERATURE}: expected a number from 0 to {HOTTEST:g}")
        tokens, _ = self._tokenizer.encode([text or "" for text in texts])
        written = [self._write(text, most, temperature, seed + number, gone) for number, text in enumerate(tokens)]
        continuations = [self._tokenizer.decode(new, after=text) for text, new in zip(tokens, written, strict=True)]
        return {"continuation": np.array(continuations, dtype=np.object_)}


def continuing(engine: Engine, bundle: Bundle) -> Continuing:
    """What goes on with texts by a bundle.

    Raises:
        ModelInvalid: the bundle or this installation is not one for that.
    """
    column = bundle.manifest.preparation.text
    if column is None:
        raise ModelInvalid("the bundle's model goes on with texts, but its preparation names none: train again")
    return Continuing(engine, bundle, column)


def _whole(parameters: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    value = parameters.get(name, usual)
    if type(value) is not int or not least <= value <= most:
        raise BadTensorError(f"parameter {name}: expected a whole number from {least} to {most}")
    return value
