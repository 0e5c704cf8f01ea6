"""What a pretrained model says of itself: its configuration and its tokenizer, as Transformers saves them."""

import json
from dataclasses import dataclass
from typing import Any

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.storage import Store

CONFIG, TOKENIZER = "config.json", "tokenizer.json"


@dataclass(frozen=True)
class Base:
    """Configuration and tokenizer of the model at a URI."""

    uri: str
    config: dict[str, Any]
    tokenizer: bytes

    @property
    def ends(self) -> list[int]:
        """The tokens at which a text is over, first the one that stands before each text."""
        named = [self.config.get("bos_token_id"), self.config.get("eos_token_id")]
        flat = [token for each in named for token in (each if isinstance(each, list) else [each]) if token is not None]
        return list(dict.fromkeys(flat)) or [0]

    def require(self, tokens: int, vocabulary: int) -> None:
        """Refuse to see more tokens at a time than the model has places for, and a tokenizer of more tokens than it knows.

        Raises:
            ModelInvalid: so it is.
        """
        most = next((self.config[name] for name in ("max_position_embeddings", "n_positions") if self.config.get(name)), None)
        if most is not None and tokens > most:
            raise ModelInvalid(f"{self.uri} sees at most {most} tokens at a time: lower data.text.maxTokens from {tokens}")
        if vocabulary > self.config.get("vocab_size", vocabulary):
            raise ModelInvalid(
                f"{self.uri}: the tokenizer has {vocabulary} tokens, of which the model knows {self.config['vocab_size']}: save "
                "the tokenizer of the model beside it"
            )


def read(location: Location) -> Base:
    """Read what a model says of itself.

    Raises:
        ModelInvalid: it is no model as Transformers saves it, or one whose weights are quantised.
        StoreRefused: it cannot be fetched.
    """
    store = Store(location)
    for name in (CONFIG, TOKENIZER):
        if not store.exists(name):
            raise ModelInvalid(
                f"{store.uri} holds no {name}: model.pretrained.uri is a folder as save_pretrained of Transformers writes it, of "
                "model and fast tokenizer; GGUF files are to be converted first"
            )
    try:
        config = json.loads(store.read(CONFIG))
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise ValueError("it names no model_type")
    except ValueError as error:
        raise ModelInvalid(f"{store.uri}/{CONFIG} cannot be understood: {error}: save the model again") from error
    if config.get("quantization_config"):
        raise ModelInvalid(f"{store.uri} holds quantised weights, which cannot be learned further: name the original model")
    return Base(store.uri, config, store.read(TOKENIZER))
