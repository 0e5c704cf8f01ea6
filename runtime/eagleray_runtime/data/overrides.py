"""What is wanted for each column: data.preparation, or the override that names the column."""

from eagleray_runtime.contract.blocks import Encoding, Preparation, PreparationOverride
from eagleray_runtime.data.naming import listed, no_column
from eagleray_runtime.data.table import Kind, Table
from eagleray_runtime.errors import DataInvalid

FIELD = "data.preparation.overrides"


def per_column(features: Table, wanted: Preparation) -> dict[str, Preparation]:
    """The preparation wanted for each feature.

    Raises:
        DataInvalid: an override names a column that is not learned from or that another one names too, or sets what does
            nothing to any of its columns.
    """
    found = dict.fromkeys(features, wanted)
    named: set[str] = set()
    for override in wanted.overrides or []:
        values = override.model_dump(exclude={"columns"}, exclude_none=True)
        columns = list(dict.fromkeys(override.columns))
        for column in columns:
            if column not in found:
                raise DataInvalid(no_column(FIELD, column, list(features), "what is learned from"))
            if column in named:
                raise DataInvalid(f"{FIELD}: column {column} stands in two overrides: leave it in one of them")
            found[column] = wanted.model_copy(update=values)
        named.update(columns)
        _require_use(override, features.select(columns), found[columns[0]].encoding)
    return found


def _require_use(override: PreparationOverride, columns: Table, encoding: Encoding) -> None:
    """Whoever sets a value expects it to do something."""
    text = {columns[name].kind is Kind.TEXT for name in columns}
    scaled = False in text or encoding is Encoding.ORDINAL
    for field, value, useful, use in (
        ("missingNumeric", override.missing_numeric, False in text, "numbers"),
        ("missingCategorical", override.missing_categorical, True in text, "text"),
        ("outliers", override.outliers, False in text, "numbers"),
        ("scaling", override.scaling, scaled, "numbers, or text of encoding Ordinal"),
        ("encoding", override.encoding, True in text, "text"),
    ):
        if value is not None and not useful:
            raise DataInvalid(f"{FIELD}: {field} is for {use}, of which {listed(list(columns))} holds none: drop it there")
