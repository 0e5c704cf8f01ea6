"""Columns in messages."""

import difflib
import re
from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first twenty of many."""
    shown = ", ".join(names[:20])
    return f"{shown}, ... ({len(names)})" if len(names) > 20 else shown


def no_column(field: str, name: str, names: Sequence[str], among: str = "the data") -> str:
    """What to say of a field that names a column which is not there."""
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{field}: {among} has no column {name}: {meant}its columns are {listed(names)}"


def is_row_number(name: str) -> bool:
    """Whether a column is the index of pandas, which it saves without a name in CSV, or nameless for another reason."""
    return not name or re.fullmatch(r"__index_level_\d+__", name) is not None
