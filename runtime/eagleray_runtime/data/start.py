"""A finished model that training starts from: its weights, and how rows are prepared for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Preparation as Wanted
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.naming import no_column
from eagleray_runtime.data.preparation import AnyColumn, NumericColumn, Preparation
from eagleray_runtime.data.table import IMAGES, Column, Kind, Table
from eagleray_runtime.data.texts import TextColumn
from eagleray_runtime.errors import DataInvalid, ModelInvalid


@dataclass(frozen=True)
class Start:
    """What a bundle brings.

    `classes` are empty for a target that is a number; `architecture` is the bundle's as JSON values, `words` says it to a person;
    `parameters` are arrays by name, buffers too.
    """

    uri: str
    digest: str
    preparation: Preparation
    classes: list[str]
    architecture: Mapping[str, Any]
    words: str
    parameters: Mapping[str, AnyArray]


def of_start(start: Start, features: Table, wanted: Wanted, *, is_classification: bool) -> Preparation:
    """The preparation of the model, if these rows are like those that it was trained on.

    Raises:
        ModelInvalid: the task is another one, or the spec asks for another preparation.
        DataInvalid: columns are missing, too many, or hold something else.
    """
    if wanted.model_copy(update={"duplicates": Wanted().duplicates}) != Wanted():
        raise ModelInvalid("model.startFrom brings its preparation: drop all of data.preparation but duplicates")
    if is_classification != bool(start.classes):
        learned = "classes" if start.classes else "numbers"
        raise ModelInvalid(f"the model at {start.uri} predicts {learned}, and the target of these rows is none of them")
    known = [column.name for column in start.preparation.columns]
    for name in known:
        if name not in features:
            raise DataInvalid(f"{no_column('the model of model.startFrom', name, list(features))}: it learned from that column")
    if more := [name for name in features if name not in known]:
        raise DataInvalid(
            f"the model at {start.uri} knows no column {more[0]}: name those that it knows by data.features: {', '.join(known)}"
        )
    for column in start.preparation.columns:
        _require_like(column, features[column.name], start)
    return start.preparation


def _require_like(column: AnyColumn, found: Column, start: Start) -> None:
    """Refuse a column of another kind, and one without values that the model has nothing to put in the place of."""
    if isinstance(column, TextColumn):
        raise ModelInvalid(
            f"the model at {start.uri} learned from text, and no training starts from such a one: drop model.startFrom"
        )
    if isinstance(column, ImageColumn):
        form = "Files" if found.kind is Kind.PICTURE else "Numbers"
        if found.kind not in IMAGES or form != column.form or found.values.shape[1:] != column.shape:
            shape = " x ".join(map(str, column.shape))
            raise DataInvalid(f"the model at {start.uri} learned from images of {shape} as {column.form}, these are others")
        return
    is_number = isinstance(column, NumericColumn)
    if is_number == (found.kind is Kind.TEXT):
        learned, holds = ("numbers", "text") if is_number else ("categories", "numbers")
        raise DataInvalid(
            f"column {column.name} holds {holds}, and the model at {start.uri} learned from {learned} of that name: "
            "set its type in data.columns"
        )
    if column.fill is None and found.missing.any():
        raise DataInvalid(
            f"column {column.name} lacks a value in {int(found.missing.sum())} rows, and the model at {start.uri} has learned "
            "from whole rows only: leave these out of the data"
        )
