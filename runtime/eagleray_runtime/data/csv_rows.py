"""Rows of CSV, whatever separates their fields."""

import codecs
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

SEPARATORS = ",;\t|"

LONGEST_ROW = 2**26
"""Bytes of a row of CSV or JSON Lines, which may hold a long text; Arrow reads so many at a time."""

LOOKED_AT = 2**16
"""Bytes of rows that tell the decimal point."""


_BEFORE = re.compile(rb"(?:%b)?(?: *\r?\n)*" % codecs.BOM_UTF8)

BLANKS = " \t"


def _behind_blanks(words: Sequence[str]) -> list[str]:
    """The words, and the same as people write them behind a separator."""
    return [*words, *(f" {word}" for word in words)]


_PLAIN = pyarrow.csv.ConvertOptions()
NULLS, TRUE, FALSE = (_behind_blanks(words) for words in (_PLAIN.null_values, _PLAIN.true_values, _PLAIN.false_values))
"""What stands for no value in a column of numbers, and for true and false."""


@dataclass(frozen=True)
class Header:
    """Names of the columns, what separates the fields of a row, and the decimal point of its numbers."""

    names: tuple[str, ...]
    separator: str
    point: str


def header_of(content: bytes) -> Header:
    """What the first row of a file, with which the content begins, and the rows behind it say.

    The separator is of comma, semicolon, tab and bar the one that is in the first row and that most of the rows behind it, as far
    as they are looked at, have as often; the first of several. Where it is no comma, the decimal point is one if these rows have
    no other.

    Raises:
        ValueError: it is not UTF-8, or there is none.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is UTF-16: save it as UTF-8")
    first = content[: end_of_header(content[:LOOKED_AT]) or end_of_header(content) or len(content)]
    separator = _separator(first, content[len(first) : len(first) + LOOKED_AT])
    points = set(_points(separator).findall(content, len(first), len(first) + LOOKED_AT))
    header = Header((), separator, "," if separator != "," and points == {b","} else ".")
    return replace(header, names=_names(_read(first, header)))


def _separator(first: bytes, behind: bytes) -> str:
    plain = unquoted(first, SEPARATORS)
    found = [each for each in SEPARATORS if each.encode() in plain]
    if len(found) < 2:
        return found[0] if found else SEPARATORS[0]
    rows = unquoted(behind, SEPARATORS).splitlines()
    return max(found, key=lambda each: sum(row.count(each.encode()) == plain.count(each.encode()) for row in rows))


def start_of_header(content: bytes) -> int:
    """Number of bytes before the first row: the mark of UTF-8 and empty lines."""
    found = _BEFORE.match(content)
    return found.end() if found else 0


def end_of_header(content: bytes) -> int:
    """Number of bytes of the first row, 0 if it goes on."""
    return unquoted(content, SEPARATORS).find(b"\n") + 1


def rows(content: bytes, header: Header, types: Any = None, texts: Collection[str] = ()) -> Any:
    """The rows that follow a header, as an Arrow table.

    Text stays text: `NA` or `null` in a column of words is a word; only an empty field is missing there. Blanks around it are
    none of it.

    Args:
        types: an Arrow schema of the columns that are wanted, where these are not all, of types that are to be found out.
        texts: columns that are text, as it is written, whatever it looks like; those that are not there count for nothing.
    """
    return _tidied(_read(content, header, header.names, types, texts))


def file(content: bytes, texts: Collection[str] = ()) -> Any:
    """A whole file as an Arrow table, as `rows` has it."""
    content = content[start_of_header(content) :]
    header = header_of(content)
    return _tidied(_read(content, header, header.names, texts=texts, is_whole=True))


def unquoted(content: bytes, separators: str) -> bytes:
    """Rows of CSV, each quoted field of them, also one without end, as so many other bytes that end no line."""
    return _quoted(separators).sub(lambda field: bytes(len(field[0])), content) if b'"' in content else content


@cache
def _quoted(separators: str) -> re.Pattern[bytes]:
    """A field within quotes, which begin where the field does; elsewhere they are text like any other."""
    return re.compile(rb'"(?<![^%b\n]")[^"]*(?:""[^"]*)*(?:"|\Z)' % re.escape(separators).encode())


@cache
def _points(separator: str) -> re.Pattern[bytes]:
    """The decimal points of fields that are numbers with one."""
    between = re.escape(separator).encode()
    return re.compile(rb'(?:^|%b)"?[+-]?\d+([.,])\d+"?(?=%b|\r?$)' % (between, between), re.MULTILINE)


def _read(
    content: bytes,
    header: Header,
    names: Sequence[str] | None = None,
    types: Any = None,
    texts: Collection[str] = (),
    *,
    is_whole: bool = False,
) -> Any:
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(block_size=LONGEST_ROW, column_names=names, skip_rows_after_names=int(is_whole)),
        # A text in quotes may have several lines; Arrow reads a file without quotes in parallel.
        parse_options=pyarrow.csv.ParseOptions(delimiter=header.separator, newlines_in_values=b'"' in content),
        convert_options=pyarrow.csv.ConvertOptions(
            strings_can_be_null=False,
            column_types=types or dict.fromkeys(texts, pa.string()),
            include_columns=types.names if types else None,
            decimal_point=header.point,
            null_values=NULLS,
            true_values=TRUE,
            false_values=FALSE,
        ),
    )


def _tidied(table: Any) -> Any:
    """A table with texts without the blanks around them, and of the columns without name the first one."""
    names = table.column_names
    table = table.select([index for index, name in enumerate(names) if name or name not in names[:index]])
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(index, field, pc.utf8_trim(table.column(index), BLANKS))
    return table


def _names(table: Any) -> tuple[str, ...]:
    """Excel and people leave blanks after the separators of a header."""
    return tuple(name.strip() for name in table.column_names)
