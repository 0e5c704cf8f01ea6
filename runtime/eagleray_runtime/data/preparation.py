"""Preparation of the rows: fitted on the training part only, stored as JSON, the same in training and serving.

The prepared matrix holds the numeric columns first, then the indicator columns of each categorical column, both in the
order of the data.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from eagleray_runtime.arrays import AnyArray, Floats, Texts
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Block, Encoding, MissingCategorical, MissingNumeric, Scaling
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.errors import DataInvalid

UNKNOWN, UNFILLED = -1, -2
"""Places of a category that has no indicator: not seen in training, or missing without a fill."""


class NumericColumn(Block):
    """A numeric column: `prepared = (value - offset) / scale`; `fill` replaces a missing value, None refuses one."""

    kind: Literal["Numeric"] = "Numeric"
    name: str
    fill: float | None
    offset: float
    scale: float


class CategoricalColumn(Block):
    """A categorical column: one indicator (0 or 1) for each category.

    A category that the training part did not hold is all zeros, unless there is a category of its own for missing values
    (the empty text), which then takes it too. `fill` replaces a missing value, None refuses one.
    """

    kind: Literal["Categorical"] = "Categorical"
    name: str
    fill: str | None
    categories: list[str]


class Affine(Block):
    """`prepared = (value - offset) / scale`."""

    offset: float = 0.0
    scale: float = 1.0


class Preparation(Block):
    """Fitted preparation: columns in the order of the data, and the scaling of a numeric target."""

    columns: list[Annotated[NumericColumn | CategoricalColumn, Field(discriminator="kind")]]
    target: Affine = Affine()

    @property
    def numeric(self) -> list[NumericColumn]:
        """The numeric columns, in the order of the data."""
        return [column for column in self.columns if isinstance(column, NumericColumn)]

    @property
    def categorical(self) -> list[CategoricalColumn]:
        """The categorical columns, in the order of the data."""
        return [column for column in self.columns if isinstance(column, CategoricalColumn)]

    @property
    def outputs(self) -> list[str]:
        """Names of the columns of the prepared matrix."""
        indicators = [f"{column.name}={category}" for column in self.categorical for category in column.categories]
        return [column.name for column in self.numeric] + indicators


class MissingValueError(ValueError):
    """A value is missing where the preparation has nothing to put in its place."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} has a missing value, and this model was trained without any there")


class Transform:
    """The one transform of training and serving, with its constants as arrays."""

    def __init__(self, preparation: Preparation) -> None:
        numeric = preparation.numeric
        self.numeric_names = [column.name for column in numeric]
        self.categorical_names = [column.name for column in preparation.categorical]
        self._offset = np.array([column.offset for column in numeric])
        self._scale = np.array([column.scale for column in numeric])
        self._fill = np.array([np.nan if column.fill is None else column.fill for column in numeric])
        self._categorical = preparation.categorical
        self._position = [{category: index for index, category in enumerate(column.categories)} for column in self._categorical]

    def __call__(self, numbers: Floats, texts: Mapping[str, Texts]) -> Floats:
        """Prepare rows.

        Args:
            numbers: the numeric columns, shape [rows, numeric columns], float64, NaN for missing.
            texts: each categorical column by name, shape [rows], str or None for missing.

        Returns:
            The prepared matrix, shape [rows, prepared columns], float64.

        Raises:
            MissingValueError: a value is missing that cannot be filled.
        """
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, self._fill, numbers)
            if (unfilled := np.isnan(numbers)).any():
                raise MissingValueError(self.numeric_names[int(np.flatnonzero(unfilled.any(axis=0))[0])])
        scaled: Floats = (numbers - self._offset) / self._scale
        if not self._categorical:
            return scaled
        indicators = [
            self._indicators(column, position, texts[column.name])
            for column, position in zip(self._categorical, self._position, strict=True)
        ]
        return np.concatenate([scaled, *indicators], axis=1)

    def table(self, table: Table) -> Floats:
        """Prepare the rows of a table, as `__call__` does."""
        numbers = np.empty((table.rows, len(self.numeric_names)))
        for index, name in enumerate(self.numeric_names):
            numbers[:, index] = table[name].values
        return self(numbers, {name: table[name].values for name in self.categorical_names})

    @staticmethod
    def _indicators(column: CategoricalColumn, position: dict[str, int], values: Texts) -> Floats:
        unknown = position.get("", UNKNOWN)
        known = position | {None: UNFILLED if column.fill is None else position[column.fill]}
        places = np.fromiter((known.get(value, unknown) for value in values), dtype=np.int64, count=len(values))
        if (places == UNFILLED).any():
            raise MissingValueError(column.name)
        matrix = np.zeros((len(values), len(column.categories)))
        rows = np.flatnonzero(places >= 0)
        matrix[rows, places[rows]] = 1.0
        return matrix


def rows_to_drop(table: Table, wanted: blocks.Preparation) -> AnyArray:
    """Mask of the rows that DropRow drops, shape [rows].

    Raises:
        DataInvalid: a value is missing and the answer to that is Error.
    """
    mask = np.zeros(table.rows, dtype=np.bool_)
    for name in table:
        column = table[name]
        text = column.kind is Kind.TEXT
        action = str(wanted.missing_categorical if text else wanted.missing_numeric)
        if action not in ("DropRow", "Error"):
            continue
        missing = column.missing
        if action == "Error" and missing.any():
            field = "missingCategorical" if text else "missingNumeric"
            raise DataInvalid(
                f"column {name} has no value in row {int(np.argmax(missing)) + 1} ({int(missing.sum())} such rows) and "
                f"data.preparation.{field} is Error: complete the data or choose what replaces a missing value"
            )
        mask |= missing
    return mask


def fit(training: Table, wanted: blocks.Preparation) -> Preparation:
    """Fit the preparation of the features to the training part.

    Raises:
        DataInvalid: a column cannot be prepared as wanted: no values, infinity, text without encoding, too many categories.
    """
    columns = [
        _categorical(name, training[name], wanted) if training[name].kind is Kind.TEXT else _numeric(name, training[name], wanted)
        for name in training
    ]
    return Preparation(columns=columns)


def standardised(values: Floats) -> Affine:
    """Mean and deviation (population) of a target."""
    return Affine(offset=float(values.mean()), scale=_positive(float(values.std())))


def _numeric(name: str, column: Column, wanted: blocks.Preparation) -> NumericColumn:
    values = column.values[~np.isnan(column.values)]
    if not len(values):
        raise DataInvalid(f"column {name} has no value in the training part: leave it out by data.features")
    fill: float | None
    match wanted.missing_numeric:
        case MissingNumeric.MEAN:
            fill = float(values.mean())
        case MissingNumeric.MEDIAN:
            fill = float(np.median(values))
        case MissingNumeric.MOST_FREQUENT:
            distinct, counts = np.unique(values, return_counts=True)
            fill = float(distinct[np.argmax(counts)])
        case MissingNumeric.ZERO:
            fill = 0.0
        case MissingNumeric.DROP_ROW | MissingNumeric.ERROR:
            fill = None
    # Scaling is fitted to what the model will see: the column after filling.
    filled = column.values if fill is None else np.where(np.isnan(column.values), fill, column.values)
    match wanted.scaling:
        case Scaling.STANDARD:
            offset, scale = float(filled.mean()), float(filled.std())
        case Scaling.MIN_MAX:
            offset, scale = float(filled.min()), float(filled.max() - filled.min())
        case Scaling.NONE:
            offset, scale = 0.0, 1.0
    return NumericColumn(name=name, fill=fill, offset=offset, scale=_positive(scale))


def _positive(scale: float) -> float:
    """A column that never changes has deviation 0 and is left as it is."""
    return scale if scale > 0 else 1.0


def _categorical(name: str, column: Column, wanted: blocks.Preparation) -> CategoricalColumn:
    if wanted.encoding is Encoding.NONE:
        raise DataInvalid(
            f"column {name} holds text and data.preparation.encoding is None: set it to OneHot, "
            "or leave the column out by data.features"
        )
    counts = Counter(value for value in column.values if value is not None)
    if not counts:
        raise DataInvalid(f"column {name} has no value in the training part: leave it out by data.features")
    categories = sorted(counts)
    fill: str | None
    match wanted.missing_categorical:
        case MissingCategorical.MOST_FREQUENT:
            fill = max(categories, key=lambda category: counts[category])
        case MissingCategorical.OWN_CATEGORY:
            fill = ""
            categories = ["", *categories]
        case MissingCategorical.DROP_ROW | MissingCategorical.ERROR:
            fill = None
    if len(categories) > wanted.max_categories:
        raise DataInvalid(
            f"column {name} has {len(categories)} categories, more than data.preparation.maxCategories "
            f"({wanted.max_categories}): raise it, or leave the column out by data.features if it names each row"
        )
    return CategoricalColumn(name=name, fill=fill, categories=categories)
