"""Small models as Transformers saves them, with weights drawn by a seed."""

import json
from pathlib import Path

from tests.support.texts import fable, reviews

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Larger than usual, so that what is drawn tells words apart, as what is learned does.
DRAWN = {"max_position_embeddings": 48, "initializer_range": 0.05}


def save(folder: Path, kind: str, seed: int = 0, **fields) -> None:
    """A Bert (an encoder) or a Llama (a decoder whose first and last weights are one), with a tokenizer of its own."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    from eagleray_runtime.data.tokenization import Tokenizer, trained

    folder.mkdir(parents=True)
    tokenizer = trained([fable(100), *reviews(50)], 500)
    torch.manual_seed(seed)
    size = Tokenizer(tokenizer).size
    if kind == "Bert":
        model = BertModel(BertConfig(vocab_size=size, **SMALL | DRAWN | fields))
    else:
        ends = {"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=size, num_key_value_heads=1, **SMALL | DRAWN | ends | fields))
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer)


def change(folder: Path, **fields) -> None:
    """Other fields of the configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
