"""Categories as numbers: how a column of text becomes columns of the prepared matrix."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from eagleray_runtime.arrays import Floats, Integers, Texts
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Block, Encoding, MissingCategorical
from eagleray_runtime.data.scaling import Affine, of_counts
from eagleray_runtime.errors import DataInvalid

NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
"""How a number is written, with a decimal comma too."""

UNKNOWN, UNFILLED = -1, -2
"""Places of a category that has none: not seen in training, or missing without a fill."""

HASHED_COLUMNS = 32
"""Prepared columns of a column of encoding Hash; with the sign there are 64 different codes."""

Encode: TypeAlias = Callable[[Texts], Floats]
"""Prepares values, shape [rows], str or None for missing, to float64 [rows, prepared columns]."""


class MissingValueError(ValueError):
    """A value is missing where the preparation has nothing to put in its place."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} has a missing value, and this model was trained without any there")


class CategoricalColumn(Block):
    """A categorical column: one indicator (0 or 1) for each category.

    A category that the training part did not hold is all zeros, unless there is a category of its own for missing values
    (the empty text), which then takes it too. `fill` replaces a missing value, None refuses one.
    """

    kind: Literal["Categorical"] = "Categorical"
    name: str
    fill: str | None
    categories: list[str]

    @property
    def outputs(self) -> list[str]:
        """Names of the prepared columns."""
        return [f"{self.name}={category}" for category in self.categories]

    @property
    def affine(self) -> Affine:
        """Indicators are not scaled."""
        return Affine()

    def encoder(self) -> Encode:
        """What prepares values of this column."""
        places = _places(self.name, self.categories, self.fill)

        def encode(values: Texts) -> Floats:
            found = places(values)
            matrix = np.zeros((len(values), len(self.categories)))
            rows = np.flatnonzero(found >= 0)
            matrix[rows, found[rows]] = 1.0
            return matrix

        return encode


class OrdinalColumn(Block):
    """A categorical column as one: `prepared = (number - offset) / scale`, the number being the category's place from 0.

    A category that the training part did not hold has the number -1, or that of the category for missing values (the empty
    text) if there is one. `fill` replaces a missing value, None refuses one.
    """

    kind: Literal["Ordinal"] = "Ordinal"
    name: str
    fill: str | None
    categories: list[str]
    offset: float
    scale: float

    @property
    def outputs(self) -> list[str]:
        """Names of the prepared columns."""
        return [self.name]

    @property
    def affine(self) -> Affine:
        """Scaling of the numbers."""
        return Affine(offset=self.offset, scale=self.scale)

    def encoder(self) -> Encode:
        """What prepares values of this column."""
        places = _places(self.name, self.categories, self.fill)

        def encode(values: Texts) -> Floats:
            numbers = places(values).astype(np.float64)
            return ((numbers - self.offset) / self.scale)[:, np.newaxis]

        return encode


class HashedColumn(Block):
    """A categorical column as a fixed number of columns, of which a category sets one to 1 or -1 (feature hashing).

    Column and sign come from the 8-byte BLAKE2b digest of the category in UTF-8: from 64 bits, the lowest is the sign and
    the others, modulo `columns`, the column. `fill` replaces a missing value, None refuses one.
    """

    kind: Literal["Hash"] = "Hash"
    name: str
    fill: str | None
    columns: int

    @property
    def outputs(self) -> list[str]:
        """Names of the prepared columns."""
        return [f"{self.name}#{number}" for number in range(self.columns)]

    @property
    def affine(self) -> Affine:
        """Codes are not scaled."""
        return Affine()

    def encoder(self) -> Encode:
        """What prepares values of this column."""

        def encode(values: Texts) -> Floats:
            codes: dict[str, tuple[int, float]] = {}
            matrix = np.zeros((len(values), self.columns))
            for row, value in enumerate(values):
                category = self.fill if value is None else value
                if category is None:
                    raise MissingValueError(self.name)
                if category not in codes:
                    codes[category] = self._code(category)
                column, sign = codes[category]
                matrix[row, column] = sign
            return matrix

        return encode

    def _code(self, category: str) -> tuple[int, float]:
        digest = hashlib.blake2b(category.encode(errors="surrogatepass"), digest_size=8).digest()
        rest, lowest = divmod(int.from_bytes(digest, "big"), 2)
        return rest % self.columns, 1.0 if lowest else -1.0


AnyCategorical: TypeAlias = CategoricalColumn | OrdinalColumn | HashedColumn


class AmongNumbers(NamedTuple):
    """How many values of a column of text there are, how many of them are numbers, and the most frequent of the others."""

    numbers: int
    rows: int
    word: str


def words_among_numbers(counts: Mapping[str | None, int]) -> AmongNumbers | None:
    """What is found of a column of which more than half the values are numbers, but not all, by how often each occurs."""
    written = [value for value in counts if value is not None]
    words = [value for value in written if not NUMBER.fullmatch(value)]
    rows = sum(counts[value] for value in written)
    numbers = rows - sum(counts[word] for word in words)
    return AmongNumbers(numbers, rows, max(words, key=lambda word: counts[word])) if words and numbers > rows / 2 else None


def fit(name: str, counts: Counter[str | None], wanted: blocks.Preparation) -> AnyCategorical:
    """The encoding of a column of text, by how often each value occurs in the training part, None being a missing one.

    Raises:
        DataInvalid: no encoding is wanted, the column is empty, or it has too many categories.
    """
    if wanted.encoding is Encoding.NONE:
        raise DataInvalid(
            f"column {name} holds text and data.preparation.encoding is None: set it to OneHot, Ordinal or Hash, "
            "or leave the column out by data.features"
        )
    categories = sorted(value for value in counts if value is not None)
    if not categories:
        raise DataInvalid(f"column {name} has no value in the training part: leave it out by data.features")
    fill: str | None
    match wanted.missing_categorical:
        case MissingCategorical.MOST_FREQUENT:
            fill = max(categories, key=lambda category: counts[category])
        case MissingCategorical.OWN_CATEGORY:
            fill = ""
            categories = ["", *categories]
        case MissingCategorical.DROP_ROW | MissingCategorical.ERROR:
            fill = None
    if wanted.encoding is Encoding.HASH:
        return HashedColumn(name=name, fill=fill, columns=HASHED_COLUMNS)
    if len(categories) > wanted.max_categories:
        among = words_among_numbers(counts)
        cause = (
            f"leave a missing value empty where it is {among.word[:40]!r} ({among.numbers} of {among.rows} values are numbers), "
            if among
            else ""
        )
        raise DataInvalid(
            f"column {name} has {len(categories)} categories, more than data.preparation.maxCategories "
            f"({wanted.max_categories}): {cause}raise it, set encoding to Hash, or leave the column out by data.features if it "
            "names each row"
        )
    if wanted.encoding is Encoding.ORDINAL:
        places = _places(name, categories, fill)(np.array([*counts], dtype=np.object_)).tolist()
        numbers: Counter[int] = Counter()
        for place, count in zip(places, counts.values(), strict=True):
            numbers[place] += count
        affine = of_counts(numbers, wanted.scaling)
        return OrdinalColumn(name=name, fill=fill, categories=categories, offset=affine.offset, scale=affine.scale)
    return CategoricalColumn(name=name, fill=fill, categories=categories)


def _places(name: str, categories: list[str], fill: str | None) -> Callable[[Texts], Integers]:
    """What finds each value's place among the categories, or UNKNOWN."""
    position: dict[str | None, int] = {category: index for index, category in enumerate(categories)}
    unknown = position.get("", UNKNOWN)
    known = position | {None: UNFILLED if fill is None else position[fill]}

    def places(values: Texts) -> Integers:
        found = np.fromiter((known.get(value, unknown) for value in values), dtype=np.int64, count=len(values))
        if (found == UNFILLED).any():
            raise MissingValueError(name)
        return found

    return places
