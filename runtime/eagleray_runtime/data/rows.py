"""The rows that a configuration names, read from wherever they are."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eagleray_runtime.arrays import Bools
from eagleray_runtime.contract.blocks import ColumnType, Data
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.data import notes, sample
from eagleray_runtime.data.naming import is_row_number, no_column
from eagleray_runtime.data.reading import Source, read_sources, series_of, table_of
from eagleray_runtime.data.start import Start
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.data.windows import Series
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.storage import Store

VALIDATION, TEST = "data.split.validationUri", "data.split.testUri"


@dataclass(frozen=True)
class Rows:
    """Features and target of all rows: first the `dealt` ones, which are split, then the held-out ones of own files.

    `held_out` is the number of rows of each file of its own, by the field that names it; `groups` is the column of
    data.split.groupColumn, for the rows that are dealt; `notes` are what is to be told of how they were read;
    `series` is where the rows stand in time, where data.sequence says so; `start` is the model that training starts from, `code`
    the files of a network of the user's own. Where there is no target but the text, it is the text; `continues`, if any row does,
    says which of them go on with the text of the row before. `before` is how many rows of the data
    stand before these, of rows that are read in pieces.
    """

    features: Table
    target_name: str
    target: Column
    digest: str
    held_out: dict[str, int]
    groups: Column | None
    notes: list[str] = dataclasses.field(default_factory=list)
    series: Series | None = None
    start: Start | None = None
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)
    continues: Bools | None = None
    before: int = 0

    @property
    def dealt(self) -> int:
        """Number of rows to split."""
        return self.features.rows - sum(self.held_out.values())

    def place(self, index: int) -> str:
        """Where a row is found, for a message; the first row is row 1."""
        return _place(self.before + self.dealt, self.held_out, self.before + index)


def read(config: TrainingConfig) -> Rows:
    """Read the columns to learn from, the target, and what the split needs.

    Raises:
        DataInvalid: the rows are not what the configuration says, or cannot be understood.
        StoreRefused: they cannot be fetched.
    """
    data = config.data
    if data.sample is not None:
        return _sample(data)
    target = data.target or (data.text.column if data.text else None)
    if target is None:
        raise DataInvalid("data.target is not set: name the column to predict")
    source, others = _sources(config)
    types = column_types(data, source.names)
    features = learned_columns(data, target, source.names, types)
    if not features:
        raise DataInvalid(f"there is no column to learn from beside the target {target}")
    columns = list(dict.fromkeys([*features, target]))
    ordering = [data.sequence.time_column, data.sequence.group_column] if data.sequence else []
    for field, other in others.items():
        for name in [*columns, *(column for column in ordering if column is not None)]:
            if name not in other.names:
                raise DataInvalid(no_column(field, name, other.names))
    held_out = {field: other.rows for field, other in others.items()}
    sources, place = [source, *others.values()], partial(_place, source.rows, held_out)
    table = table_of(sources, columns, types, place)
    if data.text is not None:
        table = Table(table.columns | {name: _document(name, table[name]) for name in features})
    group = data.split.group_column
    return Rows(
        features=table.select(features),
        target_name=target,
        target=table[target],
        digest=_digest(source, others),
        held_out=held_out,
        groups=source.texts(group) if group is not None else None,
        notes=notes.left_out(row_numbers(data, columns, source.names)),
        series=series_of(sources, data.sequence.time_column, data.sequence.group_column, place) if data.sequence else None,
    )


def _sample(data: Data) -> Rows:
    table = sample.linear_regression(data.split.seed)
    content = b"".join(table[name].values.tobytes() for name in table)
    group = data.split.group_column
    if group is not None and group not in table.columns:
        raise DataInvalid(no_column("data.split.groupColumn", group, list(table)))
    return Rows(
        features=table.select(["x"]),
        target_name="y",
        target=table["y"],
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        held_out={},
        groups=table[group] if group is not None else None,
    )


def categorical(data: Data) -> set[str]:
    """Columns that data.columns says are categories."""
    return {column.name for column in data.columns or [] if column.type is ColumnType.CATEGORICAL}


def column_types(data: Data, names: list[str]) -> dict[str, ColumnType]:
    """What data.columns says that columns are."""
    types: dict[str, ColumnType] = {}
    for column in data.columns or []:
        if column.name not in names:
            raise DataInvalid(no_column("data.columns", column.name, names))
        if column.name in types:
            raise DataInvalid(f"data.columns names {column.name} twice: leave one of them")
        types[column.name] = column.type
    return types


def _document(name: str, column: Column) -> Column:
    """A column as text to be read."""
    if column.kind is not Kind.TEXT:
        raise DataInvalid(f"column {name} (data.text.column) holds numbers or true/false, no text: name the column of text")
    return Column(Kind.DOCUMENT, column.values)


def learned_columns(data: Data, target: str, names: list[str], types: dict[str, ColumnType]) -> list[str]:
    """Columns to learn from, each once: the named ones, else all but the target, groups, times, identifiers and row numbers.

    Of a sequence the target is among them: what it was is known, and what it will be is asked for. Text is learned from alone.
    """
    text = data.text.column if data.text else None
    group, sequence = data.split.group_column, data.sequence
    time, series = (sequence.time_column, sequence.group_column) if sequence else (None, None)
    for field, name in (
        ("data.text.column", text),
        ("data.target", target),
        ("data.split.groupColumn", group),
        ("data.sequence.timeColumn", time),
        ("data.sequence.groupColumn", series),
    ):
        if name is not None and name not in names:
            raise DataInvalid(no_column(field, name, names))
    identifiers = {name for name, type_ in types.items() if type_ is ColumnType.IDENTIFIER}
    if target in identifiers:
        raise DataInvalid(f"data.columns says that the target {target} is an Identifier, which is never learned: drop it there")
    if text is not None:
        if text in identifiers or (text == target and data.target is not None):
            what = "the target" if text == target else "an Identifier of data.columns"
            raise DataInvalid(f"data.text.column {text} is {what} too: name another column, or drop it there")
        return [text]
    for name in data.features or []:
        if name not in names:
            raise DataInvalid(no_column("data.features", name, names))
        if name == target and sequence is None:
            raise DataInvalid(f"data.features names the target {name} itself: leave it out")
        if name in identifiers:
            raise DataInvalid(f"data.features names {name}, of which data.columns says Identifier: drop it in one of them")
    left_out = {group, time, series, *identifiers, *filter(is_row_number, names)} | (set() if sequence else {target})
    return list(dict.fromkeys(data.features or [name for name in names if name not in left_out]))


def row_numbers(data: Data, learned: Sequence[str], names: Sequence[str]) -> list[str]:
    """Columns that are not learned from because they number the rows, where the user does not say what is."""
    if data.features or data.text:
        return []
    return [name for name in names if is_row_number(name) and name not in learned]


def _place(dealt: int, held_out: dict[str, int], index: int) -> str:
    if index < dealt:
        return f"row {index + 1}"
    index -= dealt
    for field, rows in held_out.items():
        if index < rows:
            return f"row {index + 1} of {field}"
        index -= rows
    raise IndexError(index)


def _sources(config: TrainingConfig) -> tuple[Source, dict[str, Source]]:
    """The rows to deal, and those of files of their own by the field that names these."""
    locations = {VALIDATION: config.validation_location, TEST: config.test_location}
    held_out = {field: list(stored(location)) for field, location in locations.items() if location is not None}
    source, *others = read_sources([list(files_of(config)), *held_out.values()], config.data.format, categorical(config.data))
    return source, dict(zip(held_out, others, strict=True))


def files_of(config: TrainingConfig) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files that hold the rows, each fetched when it is asked for.

    Raises:
        DataInvalid, StoreRefused: they cannot be fetched.
    """
    if config.data_file is not None:
        path = Path(config.data_file)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataInvalid(f"{path.name} of the ConfigMap cannot be read: {error.strerror}: check configMapRef") from error
        yield path.name, content
    elif config.data_location is not None:
        yield from stored(config.data_location)
    else:
        raise DataInvalid("there are no rows: set data.uri, data.configMapRef or data.sample")


def stored(location: Location) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files at a location, each fetched when it is asked for.

    Raises:
        StoreRefused: they cannot be fetched.
    """
    store = Store(location)
    return ((path.rsplit("/", 1)[-1], store.read_path(path)) for path in store.find())


def _digest(source: Source, others: dict[str, Source]) -> str:
    """Digest of the data: that of the rows' files, or over those of all files where there are files for a part."""
    if not others:
        return source.digest
    told = [source.digest, *(f"{field} {other.digest}" for field, other in others.items())]
    return f"sha256:{hashlib.sha256(' '.join(told).encode()).hexdigest()}"
