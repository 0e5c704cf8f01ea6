"""CSV, Parquet, NPZ and JSON Lines files as a table."""

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract.blocks import ColumnType, DataFormat
from eagleray_runtime.data import csv_rows
from eagleray_runtime.data.naming import listed
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.data.windows import Series
from eagleray_runtime.errors import DataInvalid

ENDINGS = {
    ".csv": DataFormat.CSV,
    ".tsv": DataFormat.CSV,
    ".parquet": DataFormat.PARQUET,
    ".npz": DataFormat.NPZ,
    ".jsonl": DataFormat.JSON_LINES,
    ".ndjson": DataFormat.JSON_LINES,
}
PACKED = ".gz"

Files = Sequence[tuple[str, bytes]]
"""Name and content of files that are read one after the other."""

EXACT_INTEGER = 2**53
"""Largest whole number up to which float64 holds every whole number."""


@dataclass(frozen=True)
class Source:
    """Rows as they were stored, with `digest`, the `sha256:` over the files' bytes."""

    stored: Any
    digest: str

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of the data."""
        return list(self.stored.column_names)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.stored.num_rows)

    def table(self, names: Sequence[str]) -> Table:
        """These columns as a table; columns that are not asked for may hold anything.

        Raises:
            DataInvalid: a column holds neither numbers, true/false nor text.
        """
        return Table({name: _column(name, self.stored.column(name)) for name in names})

    def texts(self, name: str) -> Column:
        """A column as text, whatever it holds: for what is compared and never computed with.

        Raises:
            DataInvalid: it holds lists or objects.
        """
        return _texts(name, self.stored.column(name))


def table_of(
    sources: Sequence[Source], names: Sequence[str], types: Mapping[str, ColumnType], place: Callable[[int], str]
) -> Table:
    """These columns of the sources, one after the other, as a table; columns that are not asked for may hold anything.

    `types` says what columns are taken for, Auto where it says nothing; `place` tells where a row is found, for a message.

    Raises:
        DataInvalid: a column holds not what it should, or not the same in all sources.
    """
    whole = _one_after_the_other([source.stored.select(list(names)) for source in sources])
    columns = {}
    for name in names:
        values = whole.column(name)
        match types.get(name, ColumnType.AUTO):
            case ColumnType.NUMERIC:
                columns[name] = _numbers(name, values, place)
            case ColumnType.CATEGORICAL:
                columns[name] = _texts(name, values)
            case _:
                columns[name] = _column(name, values)
    return Table(columns)


def series_of(sources: Sequence[Source], time: str, group: str | None, place: Callable[[int], str]) -> Series:
    """Where each row of the sources stands in time, by the column that says when it was and the one of its series.

    `place` tells where a row is found, for a message.

    Raises:
        DataInvalid: a row has no time or no series, the times are none, or two rows of a series have the same.
    """
    names = [time] if group is None else [time, group]
    whole = _one_after_the_other([source.stored.select(names) for source in sources])
    for field, name in zip(("timeColumn", "groupColumn"), names, strict=False):
        missing = np.flatnonzero(whole.column(name).is_null(nan_is_null=True).to_numpy())
        if len(missing):
            raise DataInvalid(
                f"column {name} (data.sequence.{field}) has no value in {place(int(missing[0]))} ({len(missing)} such rows): "
                "complete or remove them"
            )
    groups = np.zeros(whole.num_rows, dtype=np.int64)
    if group is not None:
        groups = np.unique(_texts(group, whole.column(group)).values.astype(str), return_inverse=True)[1]
    found = Series(
        source=np.repeat(np.arange(len(sources)), [source.rows for source in sources]),
        group=groups,
        time=_ranks(time, whole.column(time)),
    )
    order = np.lexsort((found.time, found.group, found.source))
    same = np.ones(len(order) - 1, dtype=np.bool_)
    for numbers in (found.source, found.group, found.time):
        same &= np.diff(numbers[order]) == 0
    if same.any():
        first = int(np.argmax(same))
        one, other = sorted((int(order[first]), int(order[first + 1])))
        raise DataInvalid(
            f"{place(one)} and {place(other)} have the same {time} ({int(same.sum())} such pairs), so that none is the first: "
            + ("name the column of their series in data.sequence.groupColumn" if group is None else f"{group} is the same too")
        )
    return found


def _ranks(name: str, values: Any) -> Integers:
    """Numbers that are larger for what was later, int64 [rows]."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _times(name, values)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_temporal(values.type)):
        raise DataInvalid(f"column {name} (data.sequence.timeColumn) holds {values.type}, which has no order of time")
    return np.array(pc.rank(values, sort_keys="ascending", tiebreaker="dense"), dtype=np.int64)


def _times(name: str, values: Any) -> Any:
    """Text as times, all with a zone or all without; years come first, so that 2026/01/31 is as plain as 2026-01-31."""
    said = ""
    dashed = pc.replace_substring_regex(values, r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3")
    for zone in (None, "UTC"):
        try:
            return dashed.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid as error:
            said = said or str(error)
    raise DataInvalid(f"column {name} (data.sequence.timeColumn) holds text that is no time: {said}: write 2026-01-31T12:00")


def read_files(files: Files, format_: DataFormat) -> Source:
    """Rows of the files, one after the other, as `read_sources` has them."""
    return read_sources([files], format_)[0]


def read_sources(sources: Sequence[Files], format_: DataFormat, texts: Collection[str] = ()) -> list[Source]:
    """Rows of each of several lists of files, one after the other.

    The columns `texts` are text in all files: of CSV as it is written, else as `Source.texts` has it. So is a column that holds
    text in some files and looks like something else in others, where it comes from CSV.

    Raises:
        DataInvalid: a file cannot be read as what it should be, or two files of a list have different columns.
    """
    tables = [_tables(files, format_, texts) for files in sources]
    apart = _apart([table.schema for each in tables for table in each])
    if apart and any(kind_of(name, format_) is DataFormat.CSV for files in sources for name, _ in files):
        tables = [_tables(files, format_, {*texts, *apart}) for files in sources]
    return [_source(files, each) for files, each in zip(sources, tables, strict=True)]


def _tables(files: Files, format_: DataFormat, texts: Collection[str]) -> list[Any]:
    """The rows of each file."""
    tables = [_arrow(name, content, format_, texts) for name, content in files]
    for (name, _), table in zip(files[1:], tables[1:], strict=True):
        require_alike(name, table.column_names, files[0][0], tables[0].column_names)
    return tables


def _source(files: Files, tables: list[Any]) -> Source:
    digest = hashlib.sha256()
    for _, content in files:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    whole = _one_after_the_other(tables)
    if not whole.num_rows:
        raise DataInvalid(f"{files[0][0]} holds no rows: a header alone cannot be learned from")
    return Source(whole, f"sha256:{digest.hexdigest()}")


def _apart(schemas: Sequence[Any]) -> list[str]:
    """Names of the columns of which the types do not go together."""
    found: dict[str, Any] = {}
    apart = []
    for field in (field for schema in schemas for field in schema):
        try:
            found[field.name] = joined(found.get(field.name, field), field)
        except pa.ArrowException:
            apart.append(field.name)
    return apart


def joined(one: Any, other: Any) -> Any:
    """The Arrow field that holds the values of two of one name; ArrowException if there is none."""
    return (
        one
        if one.equals(other)
        else pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    )


def _one_after_the_other(tables: list[Any]) -> Any:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataInvalid(f"the files' columns have types that do not go together: {error}: write them alike") from error


def kind_of(name: str, format_: DataFormat) -> DataFormat:
    """How a file is stored, Auto being what its name's ending says.

    Raises:
        DataInvalid: it says nothing.
    """
    if format_ is not DataFormat.AUTO:
        return format_
    name_of_rows = name.lower().removesuffix(PACKED)
    ending = name_of_rows[name_of_rows.rfind(".") :] if "." in name_of_rows else ""
    if ending not in ENDINGS:
        raise DataInvalid(
            f"{name}: its ending does not say how the rows are stored: set data.format to CSV, Parquet, NPZ or JSONLines"
        )
    return ENDINGS[ending]


@contextmanager
def understood(name: str, kind: DataFormat) -> Iterator[None]:
    """Turn what goes wrong while a file is read into what the user is told.

    Raises:
        DataInvalid: something did.
    """
    try:
        yield
    except (pa.ArrowException, ValueError, OSError, BadZipFile, EOFError, zlib.error) as error:
        # A store's error has a number or is of a kind of its own, where Arrow's is not.
        of_store = isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError)
        if of_store or isinstance(error, MemoryError):
            raise
        raise DataInvalid(f"{name} cannot be read as {kind}: {error}: check the file and data.format") from error


def require_distinct(name: str, columns: Sequence[str]) -> None:
    """Refuse a file that has two columns of one name.

    Raises:
        DataInvalid: so it is.
    """
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataInvalid(f"{name} has more than one column {listed(repeated)}: give each column a name of its own")


def require_alike(name: str, columns: Sequence[str], first_name: str, first: Sequence[str]) -> None:
    """Refuse a file that has not the columns of the first one, in whatever order.

    Raises:
        DataInvalid: so it is.
    """
    if sorted(columns) != sorted(first):
        raise DataInvalid(
            f"{name} has the columns {listed(columns)} but {first_name} has {listed(first)}: "
            "files that are read together need the same columns"
        )


def _arrow(name: str, content: bytes, format_: DataFormat, texts: Collection[str]) -> Any:
    kind = kind_of(name, format_)
    content = unpacked(name, content)
    with understood(name, kind):
        if kind is DataFormat.CSV:
            table = csv_rows.file(content, texts)
        elif kind is DataFormat.PARQUET:
            table = pyarrow.parquet.read_table(io.BytesIO(content))
            plain = without_views(table.schema)
            table = table if plain.equals(table.schema) else table.cast(plain)
        elif kind is DataFormat.NPZ:
            table = pa.table(_columns(arrays_of(content)))
        else:
            table = json_lines(content)
    require_distinct(name, table.column_names)
    return table if kind is DataFormat.CSV else _with_texts(table, texts)


def without_views(schema: Any) -> Any:
    """A schema with text that is stored as views as other text is."""
    return pa.schema([field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field for field in schema])


def _with_texts(table: Any, texts: Collection[str]) -> Any:
    """A table with those of its columns as text that are named; what is not one value a row stays as it is."""
    for index, (name, type_) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if name in texts and not pa.types.is_nested(type_):
            table = table.set_column(index, name, pa.array(_texts(name, table.column(index)).values, pa.string()))
    return table


def unpacked(name: str, content: bytes) -> bytes:
    """What a file holds, unpacked if its name says that it is packed.

    Raises:
        DataInvalid: it is damaged.
    """
    if not name.lower().endswith(PACKED):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataInvalid(f"{name} cannot be unpacked: {error}: check the file") from error


def arrays_of(content: bytes) -> dict[str, AnyArray]:
    """The arrays of an NPZ file by name; what goes wrong is for `understood`."""
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise ValueError("it holds one array without a name: save arrays by numpy.savez")
    with found as file:
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} in it is no array")
    return arrays


def _columns(arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """A one-dimensional array is a column; a two-dimensional array `x` is the columns `x_0`, `x_1`, ..."""
    columns: dict[str, AnyArray] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2:
            columns |= {f"{name}_{index}": np.ascontiguousarray(array[:, index]) for index in range(array.shape[1])}
        else:
            raise ValueError(
                f"array {name} has {array.ndim} dimensions, and columns have 1 or 2; from images learn families "
                "ConvolutionalNetwork and Custom, without data.columns and data.sequence"
            )
    return columns


def json_lines(content: bytes, types: Any = None) -> Any:
    """A field that a row does not have, or that is null, is missing there.

    Args:
        types: an Arrow schema of the columns that are wanted, where these are not all, of types that are to be found out.
    """
    wanted = pyarrow.json.ParseOptions(explicit_schema=types, unexpected_field_behavior="ignore") if types else None
    table = pyarrow.json.read_json(io.BytesIO(content), pyarrow.json.ReadOptions(block_size=csv_rows.LONGEST_ROW), wanted)
    # Arrow's reader of JSON takes text as it comes; this finds what is not UTF-8.
    table.validate(full=True)
    return table


def _column(name: str, values: Any) -> Column:
    type_ = values.type
    if pa.types.is_dictionary(type_):
        values, type_ = values.cast(type_.value_type), type_.value_type
    if pa.types.is_boolean(type_):
        return Column(Kind.BOOLEAN, _floats(values.cast(pa.int8())))
    if pa.types.is_integer(type_):
        numbers = _floats(values)
        if np.nanmax(np.abs(numbers), initial=0) > EXACT_INTEGER:
            raise DataInvalid(
                f"column {name} holds whole numbers beyond 2^53, which lose digits as float64: "
                "say Identifier in data.columns, or Categorical if it is to be learned from"
            )
        return Column(Kind.INTEGER, numbers)
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_) or pa.types.is_null(type_):
        return Column(Kind.REAL, _floats(values))
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        texts = np.array([value or None for value in values.to_pylist()], dtype=np.object_)
        return Column(Kind.TEXT, texts)
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        raise DataInvalid(
            f"column {name} holds bytes that are no text in UTF-8: save the data in UTF-8, or leave it out by data.features"
        )
    raise DataInvalid(
        f"column {name} holds {type_}, which is neither a number, true/false nor text: "
        "turn it into one of them, leave it out by data.features, or say Categorical in data.columns"
    )


def _numbers(name: str, values: Any, place: Callable[[int], str]) -> Column:
    """A column as numbers: true is 1, false is 0, blank text is missing."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return Column(Kind.REAL, _column(name, values).values)
    trimmed = pc.utf8_trim_whitespace(values)
    written = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return Column(Kind.REAL, _floats(written.cast(pa.float64())))
    except pa.ArrowInvalid as error:
        row, value = next((row, value) for row, value in enumerate(written.to_pylist()) if not _is_number(value))
        raise DataInvalid(
            f"column {name} holds {value[:40]!r} in {place(row)}, which is no number, but data.columns says Numeric: correct it, "
            "leave it empty, or set the type to Categorical"
        ) from error


def _is_number(value: str | None) -> bool:
    try:
        pa.scalar(value, pa.string()).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _texts(name: str, values: Any) -> Column:
    """A column as text: a whole number without point, however it was stored."""
    try:
        if pa.types.is_floating(values.type):
            numbers = _floats(values).tolist()
            texts = [None if math.isnan(n) else str(int(n)) if n.is_integer() else repr(n) for n in numbers]
        else:
            texts = [value or None for value in values.cast(pa.string()).to_pylist()]
    except pa.ArrowException as error:
        raise DataInvalid(f"column {name} holds {values.type}, which is not one value a row: leave it out") from error
    return Column(Kind.TEXT, np.array(texts, dtype=np.object_))


def _floats(values: Any) -> Any:
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) if len(values) else np.empty(0)
    # A copy of our own: arrow's memory is read-only.
    return np.array(numbers, dtype=np.float64)
