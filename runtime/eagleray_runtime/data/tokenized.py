"""The text of all parts as rows of tokens, by a tokenizer that is trained on the training part alone or that of a base."""

import hashlib
from dataclasses import dataclass

from eagleray_runtime.arrays import Bools, Integers, Texts, Tokens
from eagleray_runtime.contract import blocks
from eagleray_runtime.data.base import Base
from eagleray_runtime.data.splitting import Parts
from eagleray_runtime.data.texts import TextColumn, joined, padded, pieces
from eagleray_runtime.errors import ModelInvalid

VOCABULARY_SIZE = 8192
"""Tokens of a tokenizer where the spec says nothing."""


@dataclass(frozen=True)
class Tokenized:
    """The rows of each part, the tokenizer and its file; `changed` texts were cut, and `notes` say so."""

    column: TextColumn
    tokenizer: bytes
    parts: list[Tokens]
    changed: int
    notes: list[str]


def tokenized(
    name: str,
    texts: Texts,
    parts: Parts,
    continues: Bools | None,
    wanted: blocks.Text,
    base: Base | None,
    *,
    in_pieces: bool,
) -> Tokenized:
    """Take all parts' texts (str [rows]) to tokens by the base's tokenizer, or by one that is trained on the training part.

    With `in_pieces` the texts of a part become pieces of one stream, for a decoder, else a row each; `continues` says which
    rows go on with the text of the row before.

    Raises:
        ModelInvalid: this installation has no tokenizers, or the base does not see so many tokens.
    """
    try:
        # Only here: the image of the NumPy engine holds no tokenizers.
        from eagleray_runtime.data.tokenization import START, Tokenizer, trained
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"text is read by {error.name}, which this image does not hold: set runtime.image to one with torch and tokenizers"
        ) from error

    def of(rows: Integers) -> list[str]:
        return joined(texts, rows, continues)

    if base is None:
        content, ends = trained(of(parts.training), wanted.vocabulary_size or VOCABULARY_SIZE), [START]
    else:
        content, ends = base.tokenizer, base.ends
    tokenizer = Tokenizer(content, None if in_pieces else wanted.max_tokens)
    if base is not None:
        base.require(wanted.max_tokens, tokenizer.size)
    column = TextColumn(
        name=name,
        max_tokens=wanted.max_tokens,
        vocabulary=tokenizer.size,
        tokenizer=f"sha256:{hashlib.sha256(content).hexdigest()}",
        ends=ends,
    )
    found, cuts = zip(*(tokenizer.encode(of(rows)) for rows in parts), strict=True)
    size = f"{tokenizer.size} different tokens"
    if in_pieces:
        rows = [pieces(part, wanted.max_tokens, ends[0]) for part in found]
        training, validation, test = map(len, rows)
        words = f"{size}; pieces of {wanted.max_tokens}: {training} to train, {validation} to validate, {test} to test"
        return Tokenized(column, content, rows, 0, [words])
    notes = [size, *([f"{sum(cuts)} texts cut to {wanted.max_tokens} tokens"] if any(cuts) else [])]
    return Tokenized(column, content, [padded(part) for part in found], sum(cuts), notes)
