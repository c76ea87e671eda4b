"""Tables in CSV, as spreadsheets write them: one reader for every list of clips."""

import codecs
import csv
import io
from pathlib import Path
from typing import Any

from tagger.errors import UserError

TableRow = dict[str | Any, str | Any]
"""A row's values by column; None is the key of values beyond the last column."""

_MOST_BYTES, _MOST_LINES, _MOST_COLUMNS = 10_000_000, 200_000, 1000
"""Largest table; that of ESC-50's 2000 clips has 94 kB."""
_LONGEST_HEADER = 10_000
"""Letters of the first line that are searched for a separator."""
_SEPARATORS = (",", ";", "\t")
"""What spreadsheets put between values, by language and format."""


def read_table(path: Path, advice: str = "") -> tuple[list[str], list[tuple[int, TableRow]]]:
    """The columns' names, stripped, and the rows with their line numbers (from 1); rows without any value are left out.

    Args:
        advice: ends the error message.

    Raises:
        UserError: too large, or not a CSV in UTF-8, or in UTF-16 with a byte order mark.
        FileNotFoundError: there is no such file.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise UserError(f"{path}: {size / 1e6:.0f} MB are more than any table of clips has{advice}")
        with path.open(newline="", encoding=_encoding(path)) as file:
            text = file.read(_MOST_BYTES)
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True, delimiter=_separator(text))
        if max(map(text.count, "\n\r")) > _MOST_LINES or len(reader.fieldnames or ()) > _MOST_COLUMNS:
            most = f"{_MOST_LINES:,} lines or {_MOST_COLUMNS:,} columns"
            raise UserError(f"{path}: has more than {most}, as no table of clips has{advice}")
        reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
        rows = [(reader.line_num, _without_empty_columns(row)) for row in reader]
        return columns, [(line, row) for line, row in rows if any(map(_has_text, row.values()))]
    except (UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV in UTF-8 ({error}){advice}") from None


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator(text: str) -> str:
    """What separates the names of the columns."""
    header = text[:_LONGEST_HEADER].partition("\n")[0].partition("\r")[0]
    return max(_SEPARATORS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))


def _without_empty_columns(row: TableRow) -> TableRow:
    """The row without values beyond the last column, if these are empty."""
    if None in row and not _has_text(row[None]):
        del row[None]
    return row


def _has_text(value: Any) -> bool:
    return any(each.strip() for each in (value if isinstance(value, list) else [value]))
