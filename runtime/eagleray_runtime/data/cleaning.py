"""What is not right with rows before anything is fitted to them."""

import numpy as np

from eagleray_runtime.arrays import Bools
from eagleray_runtime.contract.blocks import Duplicates, MissingCategorical, MissingNumeric, OutlierAction, Preparation
from eagleray_runtime.data.rows import Rows
from eagleray_runtime.data.table import IMAGES, TEXTS, Column, Kind
from eagleray_runtime.errors import DataInvalid, ModelInvalid


def require_usable(rows: Rows) -> None:
    """Refuse a target without a value, unless it is the text itself, and infinity anywhere.

    Raises:
        DataInvalid: so it is.
    """
    missing = rows.target.missing
    if missing.any() and rows.target.kind is not Kind.DOCUMENT:
        raise DataInvalid(
            f"target column {rows.target_name} has no value (empty or NaN) in {rows.place(int(np.argmax(missing)))} "
            f"({int(missing.sum())} such rows, the first row of data is row 1): remove or complete these rows"
        )
    for name, column in (*rows.features.columns.items(), (rows.target_name, rows.target)):
        if column.kind in TEXTS or column.kind in IMAGES:
            continue
        infinite = np.isinf(column.values)
        if infinite.any():
            raise DataInvalid(
                f"column {name} holds infinity in {rows.place(int(np.argmax(infinite)))} ({int(infinite.sum())} such rows): "
                "replace it by a number or leave it empty"
            )


def require_use(rows: Rows, wanted: Preparation) -> None:
    """Refuse a preparation that does nothing to such rows, or must not; the spec's own rules do where they can know the rows, and
    a search or an NPZ file may have come to it nevertheless.

    Raises:
        ModelInvalid: so it is.
    """
    kinds = {column.kind for column in rows.features.columns.values()}
    if kinds & (IMAGES | {Kind.DOCUMENT}):
        used = {"duplicates", "target_scaling"} | ({"scaling"} if kinds & IMAGES else set())
        if wanted.model_dump(exclude=used) != Preparation().model_dump(exclude=used):
            raise ModelInvalid(
                "of data.preparation images take duplicates, scaling and targetScaling alone, text duplicates and targetScaling: "
                "drop the rest"
            )
    drops = (
        wanted.duplicates is Duplicates.DROP,
        wanted.missing_numeric is MissingNumeric.DROP_ROW,
        wanted.missing_categorical is MissingCategorical.DROP_ROW,
        wanted.outlier_action is OutlierAction.DROP_ROW,
    )
    if rows.series is not None and any(drops):
        raise ModelInvalid("no row of a sequence can be dropped: its windows would have gaps")


def first_of_each(rows: Rows, action: Duplicates) -> Bools:
    """Mask of the rows that do not repeat an earlier one, or of all if they may, shape [rows].

    Raises:
        DataInvalid: a row repeats another and the answer to that is Error.
    """
    kept = np.ones(rows.features.rows, dtype=np.bool_)
    if action is Duplicates.KEEP:
        return kept
    columns = [*rows.features.columns.values(), rows.target]
    seen: set[tuple[object, ...]] = set()
    for row, values in enumerate(zip(*(_comparable(column) for column in columns), strict=True)):
        if values in seen:
            kept[row] = False
        seen.add(values)
    repeated = int((~kept).sum())
    if repeated and action is Duplicates.ERROR:
        raise DataInvalid(
            f"{rows.place(int(np.argmin(kept)))} repeats an earlier row ({repeated} such rows) and data.preparation.duplicates "
            "is Error: remove them or set it to Drop or Keep"
        )
    return kept


def _comparable(column: Column) -> list[object]:
    """Values of which two missing ones are equal, which NaN is not, and equal images too."""
    if column.kind in IMAGES:
        return [image.tobytes() for image in column.values]
    return [None if value != value else value for value in column.values.tolist()]
