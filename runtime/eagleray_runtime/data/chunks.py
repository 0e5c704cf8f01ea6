"""Files as chunks, each of which can be read by itself: whole rows of CSV or JSON Lines, or a row group of Parquet."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from eagleray_runtime.contract.blocks import DataFormat
from eagleray_runtime.contract.config import Location
from eagleray_runtime.data import csv_rows, reading
from eagleray_runtime.data.csv_rows import Header
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.storage import Store

CHUNK_BYTES = 2**21
"""Of CSV and JSON Lines that are read at a time: enough for a store to answer in less time than it takes to understand them."""

LARGEST_ROW_GROUP = 2**28
"""Bytes of a row group of Parquet, which is read as a whole."""

END = b"\n"


@dataclass(frozen=True)
class Chunk:
    """Rows that are read at a time: bytes from `start` up to `stop` of a file, or of Parquet the row group `start`.

    `header` is that of a file of CSV; `first` is the number of the first row among those of all files, from 0.
    """

    path: str
    kind: DataFormat
    start: int
    stop: int
    rows: int
    first: int
    header: Header | None = None

    def changed(self) -> DataInvalid:
        """What to raise where the rows are not those that were there before."""
        return DataInvalid(f"{_name(self.path)} has changed while it was learned from: leave files of a running job as they are")


@dataclass(frozen=True)
class Chunks:
    """All rows of the files at a location; `schema` is the Arrow schema that they have in common."""

    location: Location
    chunks: tuple[Chunk, ...]
    schema: Any
    digest: str

    def reader(self, names: Sequence[str]) -> Callable[[Chunk], Any]:
        """What reads these columns of a chunk as an Arrow table, for one pass over the data.

        It raises DataInvalid where the file is not what it was, and StoreRefused where it cannot be read.
        """
        # Opened anew for each pass: the store's keys may be other ones by then.
        store = Store(self.location)
        types = pa.schema([self.schema.field(name) for name in names])

        def read(chunk: Chunk) -> Any:
            understood = reading.understood(_name(chunk.path), chunk.kind)
            if chunk.kind is DataFormat.PARQUET:
                with store.open(chunk.path) as file, understood:
                    table = pyarrow.parquet.ParquetFile(file).read_row_group(chunk.start, columns=list(names))
                    table = table.select(list(names)).cast(types)
            else:
                content = store.read_range(chunk.path, chunk.start, chunk.stop)
                with understood:
                    table = _table(content, chunk.header, types)
            if table.num_rows != chunk.rows:
                raise chunk.changed()
            return table

        return read


def find(location: Location, format_: DataFormat, texts: Collection[str] = ()) -> Chunks:
    """The chunks of the files at a location; everything is read once.

    The digest is the one that `reading.read_files` has of the same files, and the columns `texts` of CSV are text.

    Raises:
        DataInvalid: a file cannot be read as what it should be, or two files have different columns.
        StoreRefused: they cannot be read.
    """
    store, digest = Store(location), hashlib.sha256()
    chunks: list[Chunk] = []
    schema, first = None, 0
    paths = store.find()
    for path in paths:
        name = _name(path)
        kind = reading.kind_of(name, format_)
        if kind not in (DataFormat.CSV, DataFormat.JSON_LINES, DataFormat.PARQUET):
            raise DataInvalid(f"{name}: data.loading Stream reads CSV, Parquet and JSON Lines: use Memory for {kind}")
        if name.lower().endswith(reading.PACKED):
            raise DataInvalid(f"{name}: data.loading Stream cannot begin in the midst of a packed file: unpack it, or use Memory")
        digest.update(store.size(path).to_bytes(8, "big"))
        with store.open(path) as file, reading.understood(name, kind):
            found = _row_groups(name, file, digest) if kind is DataFormat.PARQUET else _pieces(file, kind, digest, texts)
            for number, (start, stop, rows, header, types) in enumerate(found):
                if schema is None:
                    schema = types
                if not number:
                    reading.require_distinct(name, types.names)
                    if kind is not DataFormat.JSON_LINES:
                        reading.require_alike(name, types.names, _name(paths[0]), schema.names)
                schema = _common(schema, types, kind)
                if rows:
                    chunks.append(Chunk(path, kind, start, stop, rows, first, header))
                    first += rows
    if not chunks:
        raise DataInvalid(f"{_name(paths[0])} holds no rows: a header alone cannot be learned from")
    return Chunks(location, tuple(chunks), schema, f"sha256:{digest.hexdigest()}")


def _row_groups(name: str, file: BinaryIO, digest: Any) -> Iterator[tuple[int, int, int, Header | None, Any]]:
    """Number, bytes, rows and schema of each row group."""
    while block := file.read(CHUNK_BYTES):
        digest.update(block)
    parquet = pyarrow.parquet.ParquetFile(file)
    schema = reading.without_views(parquet.schema_arrow.remove_metadata())
    if not parquet.num_row_groups:
        yield 0, 0, 0, None, schema
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        if group.total_byte_size > LARGEST_ROW_GROUP:
            raise DataInvalid(
                f"{name}: row group {number} has {group.total_byte_size >> 20} MiB, and data.loading Stream reads at most "
                f"{LARGEST_ROW_GROUP >> 20} MiB at a time: write the file with smaller row groups"
            )
        yield number, group.total_byte_size, group.num_rows, None, schema


def _pieces(
    file: BinaryIO, kind: DataFormat, digest: Any, texts: Collection[str]
) -> Iterator[tuple[int, int, int, Header | None, Any]]:
    """First and last byte, number of rows, header and schema of each piece of whole rows."""
    start, rest, header, is_csv = 0, b"", None, kind is DataFormat.CSV
    while True:
        block = file.read(CHUNK_BYTES)
        digest.update(block)
        rest += block
        if is_csv and header is None:
            before = csv_rows.start_of_header(rest)
            start, rest = start + before, rest[before:]
            if end := csv_rows.end_of_header(rest) or (0 if block else len(rest)):
                header = csv_rows.header_of(rest)
                start, rest = start + end, rest[end:]
        is_ready = header is not None or not is_csv
        plain = csv_rows.unquoted(rest, header.separator) if header is not None else rest
        cut = plain.rfind(END) + 1 if block else len(rest)
        if is_ready and rest[:cut].strip():
            table = _table(rest[:cut], header, None, texts)
            yield start, start + cut, table.num_rows, header, table.schema
        if is_ready:
            start, rest = start + cut, rest[cut:]
        if len(rest) > csv_rows.LONGEST_ROW:
            raise ValueError(f"the row at byte {start} has more than {csv_rows.LONGEST_ROW >> 20} MiB")
        if not block:
            return


def _table(content: bytes, header: Header | None, types: Any, texts: Collection[str] = ()) -> Any:
    return reading.json_lines(content, types) if header is None else csv_rows.rows(content, header, types, texts)


def _common(one: Any, other: Any, kind: DataFormat) -> Any:
    """The schema that holds the rows of both; a column that holds now numbers and now text is text, but for Parquet, where files
    say what they hold."""
    if one.equals(other):
        return one
    try:
        return pa.unify_schemas([one, other], promote_options="permissive")
    except pa.ArrowException as error:
        if kind is DataFormat.PARQUET:
            raise DataInvalid(f"the files' columns have types that do not go together: {error}: write them alike") from error
    fields = {field.name: field for field in one}
    for field in other:
        try:
            fields[field.name] = reading.joined(fields.get(field.name, field), field)
        except pa.ArrowException:
            fields[field.name] = pa.field(field.name, pa.string())
    return pa.schema(list(fields.values()))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
