"""Preparation of the rows: fitted on the training part only, stored as JSON, the same in training and serving.

Of a table the prepared matrix holds the numeric columns first, then the columns that each categorical column becomes, both in
the order of the data; images keep their shape.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from eagleray_runtime.arrays import AnyArray, Bools, Floats, Texts
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Block, MissingNumeric, OutlierAction
from eagleray_runtime.data import encoding, images
from eagleray_runtime.data.encoding import AnyCategorical, MissingValueError
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.outliers import Bounds, bounds
from eagleray_runtime.data.overrides import per_column
from eagleray_runtime.data.scaling import Affine, Moments, fitted
from eagleray_runtime.data.table import IMAGES, Column, Kind, Table
from eagleray_runtime.data.texts import TextColumn
from eagleray_runtime.errors import DataInvalid


class NumericColumn(Block):
    """A numeric column: `prepared = (value - offset) / scale`; `fill` replaces a missing value, None refuses one.

    Before, a value below `low` or above `high` is taken as that bound; None is no bound.
    """

    kind: Literal["Numeric"] = "Numeric"
    name: str
    fill: float | None
    offset: float
    scale: float
    low: float | None = None
    high: float | None = None

    @property
    def outputs(self) -> list[str]:
        """Names of the prepared columns."""
        return [self.name]

    @property
    def affine(self) -> Affine:
        """Scaling of the values."""
        return Affine(offset=self.offset, scale=self.scale)


AnyColumn: TypeAlias = Annotated[NumericColumn | AnyCategorical | ImageColumn | TextColumn, Field(discriminator="kind")]


class Preparation(Block):
    """Fitted preparation: columns in the order of the data, or one of images or text alone, and the scaling of a numeric
    target."""

    columns: list[AnyColumn]
    target: Affine = Affine()

    @property
    def numeric(self) -> list[NumericColumn]:
        """The numeric columns, in the order of the data."""
        return [column for column in self.columns if isinstance(column, NumericColumn)]

    @property
    def categorical(self) -> list[AnyCategorical]:
        """The categorical columns, in the order of the data."""
        return [column for column in self.columns if not isinstance(column, NumericColumn | ImageColumn | TextColumn)]

    @property
    def images(self) -> ImageColumn | None:
        """The column of images, where it is what is learned from."""
        return next((column for column in self.columns if isinstance(column, ImageColumn)), None)

    @property
    def text(self) -> TextColumn | None:
        """The column of text, where it is what is learned from."""
        return next((column for column in self.columns if isinstance(column, TextColumn)), None)

    @property
    def outputs(self) -> list[str]:
        """Names of the columns of the prepared matrix."""
        return [name for column in (*self.numeric, *self.categorical) for name in column.outputs]

    @property
    def affines(self) -> list[Affine]:
        """Scaling of each column of the prepared matrix."""
        return [column.affine for column in (*self.numeric, *self.categorical) for _ in column.outputs]


class Transform:
    """The one transform of training and serving, with its constants as arrays."""

    def __init__(self, preparation: Preparation) -> None:
        numeric = preparation.numeric
        self._images = preparation.images
        self.numeric_names = [column.name for column in numeric]
        self.categorical_names = [column.name for column in preparation.categorical]
        self._offset = np.array([column.offset for column in numeric])
        self._scale = np.array([column.scale for column in numeric])
        self._fill = np.array([np.nan if column.fill is None else column.fill for column in numeric])
        self._low = np.array([-np.inf if column.low is None else column.low for column in numeric])
        self._high = np.array([np.inf if column.high is None else column.high for column in numeric])
        self._clips = any(column.low is not None or column.high is not None for column in numeric)
        self._encoders = {column.name: column.encoder() for column in preparation.categorical}

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
        if self._clips:
            # Before filling, as in fitting: what replaces a missing value is taken as it is.
            numbers = np.clip(numbers, self._low, self._high)
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, self._fill, numbers)
            if (unfilled := np.isnan(numbers)).any():
                raise MissingValueError(self.numeric_names[int(np.flatnonzero(unfilled.any(axis=0))[0])])
        scaled: Floats = (numbers - self._offset) / self._scale
        if not self._encoders:
            return scaled
        encoded = [encode(texts[name]) for name, encode in self._encoders.items()]
        return np.concatenate([scaled, *encoded], axis=1)

    def table(self, table: Table) -> AnyArray:
        """Prepare the rows of a table, as `__call__` or `ImageColumn.prepared` does."""
        if self._images is not None:
            return self._images.prepared(table[self._images.name].values)
        numbers = np.empty((table.rows, len(self.numeric_names)))
        for index, name in enumerate(self.numeric_names):
            numbers[:, index] = table[name].values
        return self(numbers, {name: table[name].values for name in self.categorical_names})


def rows_without_value(table: Table, wanted: blocks.Preparation, place: Callable[[int], str]) -> dict[str, Bools]:
    """Masks of the rows that DropRow drops for want of a value, shape [rows], by the column that lacks it; text is never filled.

    `place` tells where a row is found, for a message.

    Raises:
        DataInvalid: a value is missing and the answer to that is Error, or an override cannot be followed.
    """
    found: dict[str, Bools] = {}
    for name, asked in per_column(table, wanted).items():
        column = table[name]
        text = column.kind is Kind.TEXT
        action = str(asked.missing_categorical if text else asked.missing_numeric)
        if column.kind is Kind.DOCUMENT:
            action = "DropRow"
        if action not in ("DropRow", "Error"):
            continue
        missing = column.missing
        if not missing.any():
            continue
        if action == "Error":
            field = "missingCategorical" if text else "missingNumeric"
            raise DataInvalid(
                f"column {name} has no value in {place(int(np.argmax(missing)))} ({int(missing.sum())} such rows) and "
                f"data.preparation.{field} is Error: complete the data or choose what replaces a missing value"
            )
        found[name] = missing
    return found


def outlying_rows(training: Table, wanted: blocks.Preparation) -> dict[str, Bools]:
    """Masks of the rows that outlierAction DropRow drops, shape [rows], by the column that each is for."""
    if wanted.outlier_action is not OutlierAction.DROP_ROW:
        return {}
    found: dict[str, Bools] = {}
    for name, asked in per_column(training, wanted).items():
        limits = _bounds(training[name], asked)
        if limits is not None:
            values = training[name].values
            mask = (values < limits.low) | (values > limits.high)
            if mask.any():
                found[name] = mask
    return found


def fit(training: Table, wanted: blocks.Preparation) -> Preparation:
    """Fit the preparation of the features to the training part.

    Raises:
        DataInvalid: a column cannot be prepared as wanted: no values, infinity, text without encoding, too many categories.
    """
    return Preparation(columns=[_fitted(name, training[name], asked) for name, asked in per_column(training, wanted).items()])


def _fitted(name: str, column: Column, wanted: blocks.Preparation) -> AnyColumn:
    match column.kind:
        case Kind.TEXT:
            return encoding.fit(name, Counter(column.values.tolist()), wanted)
        case Kind.IMAGE | Kind.PICTURE:
            return images.fit(name, column, wanted.scaling)
        case _:
            return _numeric(name, column, wanted)


def _bounds(column: Column, wanted: blocks.Preparation) -> Bounds | None:
    """Bounds of a column of numbers; true and false are never outliers, however rare."""
    return None if column.kind in {Kind.TEXT, Kind.BOOLEAN, *IMAGES} else bounds(column.values, wanted.outliers)


def _numeric(name: str, column: Column, wanted: blocks.Preparation) -> NumericColumn:
    limits = _bounds(column, wanted) if wanted.outlier_action is OutlierAction.CLIP else None
    # What follows is fitted to what the model will see: fills to the clipped column, scaling to the filled one.
    values = column.values if limits is None else np.clip(column.values, *limits)
    missing = np.isnan(values)
    fill = _fill(name, values[~missing], wanted.missing_numeric)
    affine = fitted(values if fill is None else np.where(missing, fill, values), wanted.scaling)
    low, high = limits or (None, None)
    return NumericColumn(name=name, fill=fill, offset=affine.offset, scale=affine.scale, low=low, high=high)


def numeric_by_moments(
    name: str, present: Moments, missing: int, limits: Bounds | None, wanted: blocks.Preparation
) -> NumericColumn:
    """The preparation of a column of numbers that are seen in pieces.

    Args:
        present: of the numbers of the training part that are there, after they were clipped to `limits`.
        missing: how many are not there.

    Raises:
        DataInvalid: there is no number, or what is wanted takes all of them at once.
    """
    if not present.count:
        raise _without_values(name)
    fill: float | None
    match wanted.missing_numeric:
        case MissingNumeric.MEAN:
            fill = present.mean
        case MissingNumeric.ZERO:
            fill = 0.0
        case MissingNumeric.DROP_ROW | MissingNumeric.ERROR:
            fill = None
        case _:
            raise DataInvalid(f"column {name}: {wanted.missing_numeric} takes all rows at once: use Mean, or data.loading Memory")
    filled = present if fill is None else present + Moments.repeated(fill, missing)
    affine = filled.affine(wanted.scaling)
    low, high = limits or (None, None)
    return NumericColumn(name=name, fill=fill, offset=affine.offset, scale=affine.scale, low=low, high=high)


def _without_values(name: str) -> DataInvalid:
    return DataInvalid(f"column {name} has no value in the training part: leave it out by data.features")


def _fill(name: str, values: Floats, action: MissingNumeric) -> float | None:
    """What replaces a missing number, by the numbers that are there."""
    if not len(values):
        raise _without_values(name)
    match action:
        case MissingNumeric.MEAN:
            return float(values.mean())
        case MissingNumeric.MEDIAN:
            return float(np.median(values))
        case MissingNumeric.MOST_FREQUENT:
            distinct, counts = np.unique(values, return_counts=True)
            return float(distinct[np.argmax(counts)])
        case MissingNumeric.ZERO:
            return 0.0
        case MissingNumeric.DROP_ROW | MissingNumeric.ERROR:
            return None
