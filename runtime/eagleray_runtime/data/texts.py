"""Text as rows of tokens."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from eagleray_runtime.arrays import PADDING, Bools, Integers, Texts, Tokens
from eagleray_runtime.contract.blocks import Block


class TextColumn(Block):
    """Text as tokens, up to `max_tokens` of `vocabulary` different ones, by the tokenizer of the digest `sha256:`.

    A text that is gone on with is over at one of the tokens `ends`, of which the first one stands before each text too.
    """

    kind: Literal["Text"] = "Text"
    name: str
    max_tokens: int
    vocabulary: int
    tokenizer: str
    ends: list[int] = Field(min_length=1)


def padded(rows: Sequence[Sequence[int]]) -> Tokens:
    """Rows as long as the longest, int32 [rows, tokens]."""
    found = np.full((len(rows), max(map(len, rows), default=1)), PADDING, dtype=np.int32)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found


def pieces(texts: Sequence[Sequence[int]], most: int, start: int) -> Tokens:
    """The texts one after the other, each after a start, in pieces, int32 [pieces, most + 1].

    A piece begins with the last token of the one before it, so that each token but the very first is to be foreseen once.
    """
    stream = np.array([token for text in texts for token in (start, *text)], dtype=np.int32)
    count = -(-max(0, len(stream) - 1) // most)
    found = np.full((count, most + 1), PADDING, dtype=np.int32)
    for number in range(count):
        piece = stream[number * most : (number + 1) * most + 1]
        found[number, : len(piece)] = piece
    return found


def foreseen(rows: Tokens) -> Integers:
    """How many tokens of each piece are to be foreseen, int64 [pieces]."""
    counts: Integers = (rows[:, 1:] != PADDING).sum(axis=1, dtype=np.int64)
    return counts


def joined(texts: Texts, rows: Integers, continues: Bools | None) -> list[str]:
    """The texts of these rows; those that go on with the row right before them, where that is among the rows, as one text."""
    if continues is None:
        return list(texts[rows])
    found: list[list[str]] = []
    for place, row in enumerate(rows):
        if place and continues[row] and rows[place - 1] == row - 1:
            found[-1].append(texts[row])
        else:
            found.append([texts[row]])
    return ["".join(parts) for parts in found]
