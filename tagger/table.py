"""Tables in CSV, as spreadsheets write them: one reader for every list that a user writes."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tagger.errors import UserError

TableRow = dict[str | Any, str | Any]
"""A row's values by column; None is the key of values beyond the last column."""

_MOST_BYTES, _MOST_LINES, _MOST_COLUMNS = 10_000_000, 200_000, 1000
"""Largest table; that of ESC-50's 2000 clips has 94 kB."""
_LONGEST_HEADER = 10_000
"""Letters of the first line that are searched for a separator."""
_SEPARATORS = (",", ";", "\t")
"""What spreadsheets put between values, by language and format."""


def read_table(
    path: Path, advice: str = "", columns: Sequence[str] = ()
) -> tuple[list[str], list[tuple[int, TableRow]]]:
    """The columns' names, stripped, and the rows with their line numbers (from 1); rows without any value are left out.

    Args:
        advice: ends the error message.
        columns: names that are found in upper case, too; none may be there twice. Empty: so of all columns.

    Raises:
        UserError: too large, with a column twice, or not a CSV in UTF-8, or in UTF-16 with a byte order mark.
        FileNotFoundError: there is no such file.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise UserError(f"{path}: {size / 1e6:.0f} MB are more than any table of clips has{advice}")
        with path.open(newline="", encoding=encoding(path)) as file:
            text = file.read(_MOST_BYTES)
        names, rows = table_of(io.StringIO(text, newline=""), known=columns)
        if doubled := [name for name in columns or names if name and names.count(name) > 1]:
            raise UserError(f"{path}: the column {doubled[0]!r} is there more than once; leave one{advice}")
        if max(map(text.count, "\n\r")) > _MOST_LINES or len(names) > _MOST_COLUMNS:
            most = f"{_MOST_LINES:,} lines or {_MOST_COLUMNS:,} columns"
            raise UserError(f"{path}: has more than {most}, as no table of clips has{advice}")
        return names, list(rows)
    except (UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV in UTF-8 ({error}){advice}") from None


def table_of(
    file: TextIO, missing: str | None = "", known: Sequence[str] = ()
) -> tuple[list[str], Iterator[tuple[int, TableRow]]]:
    """As `read_table`, of a table of any length, row by row.

    Args:
        file: opened with `newline=""`, at its beginning. It can seek.
        missing: what stands for values that a row lacks at its end.
        known: columns whose names are found whatever their case.

    Raises:
        csv.Error: it is no CSV, also while rows are read.
        UnicodeError: it is not in the encoding in which it was opened, also while rows are read.
    """
    header = file.readline(_LONGEST_HEADER)
    file.seek(0)
    reader = csv.DictReader(file, restval=missing, strict=True, delimiter=_separator(header))
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns = [name.lower() if name.lower() in known else name for name in names]
    return columns, _rows(reader)


def _rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, TableRow]]:
    try:
        for row in reader:
            if any(map(_has_text, row.values())):
                yield reader.line_num, _without_empty_columns(row)
    except csv.Error as error:
        raise csv.Error(f"after line {reader.line_num}: {error}") from None


def encoding(path: Path) -> str:
    """The encoding of a text file, by the byte order mark with which it may begin: UTF-16, else UTF-8."""
    with path.open("rb") as file:
        return encoding_of(file.read(2))


def encoding_of(content: bytes) -> str:
    """As `encoding`, of what a file holds."""
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _separator(header: str) -> str:
    """What separates the names of the columns."""
    return max(_SEPARATORS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))


def _without_empty_columns(row: TableRow) -> TableRow:
    """The row without values beyond the last column, if these are empty."""
    if None in row and not _has_text(row[None]):
        del row[None]
    return row


def _has_text(value: Any) -> bool:
    return any(each.strip() for each in (value if isinstance(value, list) else [value]) if each is not None)
