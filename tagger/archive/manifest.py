"""Manifests: tables and texts that list recordings."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from tagger.archive.recording import UNKNOWN_BYTES, Audio, absolute, began
from tagger.archive.stores import Store, is_url, joined, without_query
from tagger.errors import UserError, near
from tagger.table import encoding, table_of
from tagger.times import local_text, seconds

MANIFESTS = (".csv", ".tsv", ".txt", ".parquet")
"""Suffixes of files that list recordings."""
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": ("file", "path", "url", "filename"),
    "source": ("source",),
    "start": ("start", "start_time", "began", "time"),
}
"""What a manifest's columns may be called."""


def listed(place: str, store: Store, source: str | None) -> Iterator[Audio]:
    """Recordings of a manifest. Paths are below the folder in which it is.

    Raises:
        UserError: it cannot be read.
    """
    path_only = without_query(place)
    root = path_only.rpartition("/")[0] + place.removeprefix(path_only)
    suffix = PurePosixPath(path_only).suffix.lower()
    rows = {".parquet": _parquet_rows, ".txt": _text_rows}.get(suffix, _csv_rows)
    try:
        with store.reading() as path:
            for number, row in rows(path, place):
                yield _row(f"{place}, {'row' if suffix == '.parquet' else 'line'} {number}", root, row, source)
    except (UnicodeError, csv.Error) as error:
        raise UserError(f"{place}: is no table in UTF-8 or UTF-16 ({error})") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror or error})") from None


_Rows = Iterator[tuple[int, Mapping[str, Any]]]


def _text_rows(path: Path, place: str) -> _Rows:
    with path.open(encoding=encoding(path), errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if (text := line.rstrip("\r\n")).strip() and not text.startswith("#"):
                yield number, {"file": text}


def _csv_rows(path: Path, place: str) -> _Rows:
    with path.open(encoding=encoding(path), newline="") as file:
        names, rows = table_of(file)
        columns = _columns(place, names)
        for number, row in rows:
            yield number, {key: row[column] for key, column in columns.items()}


def _parquet_rows(path: Path, place: str) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = _columns(place, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(4096, columns=list(columns.values())):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: row[column] for key, column in columns.items()}
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{place}: is no Parquet ({error})") from None


def _columns(where: str, names: Sequence[str]) -> dict[str, str]:
    """The names of the columns that are wanted, by what they are."""
    found = {
        key: next(name for name in names if name.lower() in known)
        for key, known in _COLUMNS.items()
        if any(name.lower() in known for name in names)
    }
    if "file" not in found:
        raise UserError(f"{where}: has no column `file` (or path, url, filename){near('file', names)}")
    return found


def _row(where: str, root: str, row: Mapping[str, Any], source: str | None) -> Audio:
    named = str(row["file"] or "").strip("\r\n")
    if not named:
        raise UserError(f"{where}: names no file")
    path = absolute(named if is_url(named) or named.startswith("/") else joined(root, named))
    size = UNKNOWN_BYTES
    if not is_url(path):
        try:
            size = Path(path).stat().st_size
        except (OSError, ValueError):
            size = 0  # it becomes a row with its reason
    by_row = str(row.get("source") or "").strip()
    parent = PurePosixPath(without_query(path)).parent.name
    start = _start(where, row.get("start"))
    return Audio(path, by_row or source or parent, began(path) if start is None else start, size)


def _start(where: str, value: Any) -> float | None:
    """Seconds since the epoch, of a time as text, number or timestamp; None of nothing.

    Raises:
        UserError: it is no time.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, datetime):
            found = value.timestamp()
        elif isinstance(value, int | float) or re.fullmatch(r"\s*\d{9,10}(\.\d*)?\s*", value):
            found = float(value)
        else:
            found = seconds(value)
        local_text(found)
    except (ValueError, OverflowError, OSError, TypeError, AttributeError):
        raise UserError(f"{where}: {value!r} is no time such as 2026-01-31T23:59:59 or 2026-01-31T23:59:59Z") from None
    return found
