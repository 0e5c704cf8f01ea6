"""A row as a client would send it, for the example request of a bundle."""

from typing import Any

from eagleray_runtime.data import images
from eagleray_runtime.data.table import IMAGES, Column, Kind, Table

EXAMPLE_CHARACTERS = 200
"""Of its text."""


def example_of(training: Table) -> dict[str, Any]:
    """The first training row as JSON values."""
    return {name: _first_value(training[name]) for name in training}


def example_window(window: Table) -> dict[str, Any]:
    """A window of rows as JSON values, a list a column."""
    found = {}
    for name in window:
        column = window[name]
        found[name] = [None if missing else value for missing, value in zip(column.missing, column.values.tolist(), strict=True)]
    return found


def _first_value(column: Column) -> Any:
    if column.kind in IMAGES:
        return images.example(column)
    if column.kind is Kind.DOCUMENT:
        return column.values[0][:EXAMPLE_CHARACTERS]
    return None if column.missing[0] else column.values[0]
