"""What the user named, as a stream of recordings: folders, patterns and manifests, here and by URL.

Nothing is kept of a recording when it has been given on, so a million of them need no more memory than a thousand.
"""

import csv
import glob
import heapq
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, TextIO

from tagger.archive.stores import Entry, Store, is_url, joined, store_of, without_query
from tagger.audio.recorded import by_name
from tagger.errors import UserError, near
from tagger.files import is_hidden, may_be_audio
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
_UNKNOWN_BYTES = 4_000_000
"""Size that is assumed of a recording on another machine that a manifest lists."""
_SORTED_AT_ONCE = 10_000
"""Names of a folder that are sorted in memory; more are sorted on disk."""
_SECRET = re.compile(r"(secret|token|password|passwd|signature|credential)[^=&]*=", re.IGNORECASE)
"""What a URL's query says of a secret."""
_EARLIEST = 1990
"""First year that is believed of a name. Earlier ones are what clocks say that were never set."""


@dataclass(frozen=True)
class Audio:
    """A recording to be tagged."""

    path: str
    """Absolute path, or URL."""
    source: str
    """What recorded it."""
    began: float | None
    """When it began, seconds since the epoch. None: nobody knows."""
    size: int
    """Bytes, or a guess."""


@dataclass
class Listing:
    """The recordings that the arguments stand for."""

    sources: Sequence[str]
    """Files, folders, patterns, manifests and URLs."""
    source: str | None = None
    """What recorded all of them. None: the manifest says it, or the folder's name."""
    left_out: int = 0
    """Files in folders that are no audio by their names, as far as the listing has come."""
    errors: list[UserError] = field(default_factory=list)
    """Folders without audio, patterns without a match, and what cannot be listed."""

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: a file or folder is named that is in another one.
        """
        places = [absolute(each) for each in self.sources if not _has_magic(each)]
        for outer, inner in itertools.pairwise(sorted(places, key=_levels)):
            levels = _levels(outer)
            if _levels(inner)[: len(levels)] == levels and _there(inner):
                raise UserError(f"{inner}: is named already, by {outer}; name each recording once")

    def recordings(self) -> Iterator[Audio]:
        """Each recording, in the order of the arguments, and below a folder in the order of names.

        Raises:
            UserError: an argument does not exist, or a manifest cannot be read.
        """
        for each in self.sources:
            yield from self._of(absolute(each))

    def _of(self, place: str) -> Iterator[Audio]:
        store = store_of(place)
        kind = _kind(store)
        if kind == "file" and PurePosixPath(without_query(place)).suffix.lower() in MANIFESTS:
            yield from _listed(place, store, self.source)
        elif kind == "file":
            parent = PurePosixPath(without_query(place)).parent.name
            yield Audio(place, self.source or parent, began(place), _size(place))
        elif kind == "folder":
            yield from self._below(place, store)
        elif _has_magic(place):
            yield from self._matches(place)
        else:
            raise _missing(place)

    def _below(
        self, root: str, store: Store, wanted: re.Pattern[str] | None = None, problem: str = ""
    ) -> Iterator[Audio]:
        """Recordings in a folder whose path below it matches."""
        count = 0
        own = PurePosixPath(without_query(root)).name
        for name, size in _files(store, self.errors):
            if wanted is not None and not wanted.match(name):
                continue
            if not may_be_audio(PurePosixPath(name).suffix):
                self.left_out += 1
                continue
            count += 1
            first, separator, _ = name.partition("/")
            yield Audio(joined(root, name), self.source or (first if separator else own), began(name), size)
        if not count:
            self.errors.append(UserError(problem or f"{root}: no audio files in this folder"))

    def _matches(self, pattern: str) -> Iterator[Audio]:
        scheme, separator, path = pattern.partition("://") if is_url(pattern) else ("", "", pattern)
        path, mark, query = path.partition("?") if scheme else (path, "", "")
        parts = path.split("/")
        fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
        root = f"{scheme}{separator}{'/'.join(fixed)}{mark}{query}" or "/"
        store = store_of(root)
        if _kind(store) != "folder":
            raise UserError(f"{pattern}: there is no folder {root}")
        wanted = re.compile(_as_expression(parts[len(fixed) :]), re.DOTALL)
        yield from self._below(root, store, wanted, f"{pattern}: no audio file matches this")


def absolute(place: str) -> str:
    """A URL, or an absolute path, with `/`, and without `.` and `..`.

    Raises:
        UserError: there is a password in the URL, or nothing but its scheme.
    """
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    if is_url(place) and not without_query(place).partition("://")[2].strip("/"):
        raise UserError(f"{place}: names no bucket or server; write {place.partition('://')[0]}://NAME/folder")
    if not is_url(place):
        return Path(os.path.abspath(place)).as_posix()  # noqa: PTH100
    if _has_secret(place):
        raise UserError(
            f"{place.partition('://')[0]}://...: a password in a URL would be written into the archive; give it by the "
            "environment, as the file system's documentation says"
        )
    return place.rstrip("/")


def local_roots(sources: Sequence[str]) -> list[str]:
    """Files and folders of this machine in which the recordings are that are named, as far as they are."""
    here = [each for each in map(absolute, sources) if not is_url(each)]
    return [
        "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), each.split("/"))) or "/" for each in here
    ]


def _has_secret(url: str) -> bool:
    path, _, query = url.partition("?")
    user, at, _ = path.partition("://")[2].partition("/")[0].rpartition("@")
    return bool(at and ":" in user) or _SECRET.search(query) is not None


def _levels(place: str) -> list[str]:
    """What is behind a URL's path, and the names of the path: those of a folder begin those of what is in it."""
    path = without_query(place)
    return [place.removeprefix(path), *path.rstrip("/").split("/")]


def _there(place: str) -> bool:
    """
    Raises:
        UserError: there is nothing at this place.
    """
    if _kind(store_of(place)) not in ("file", "folder"):
        raise _missing(place)
    return True


def _missing(place: str) -> UserError:
    return UserError(f"{place}: there is no such file or folder")


def _has_magic(place: str) -> bool:
    return glob.has_magic(without_query(place))


def began(name: str) -> float | None:
    """When a recording began by its name, seconds since the epoch; a time without a zone is local."""
    found = by_name(PurePosixPath(without_query(name)).stem)
    return found.timestamp() if found is not None and found.year >= _EARLIEST else None


def _kind(store: Store) -> str:
    try:
        return store.kind()
    except OSError as error:
        raise UserError(f"{store.shown}: cannot be reached ({error})") from None


def _size(place: str) -> int:
    return _UNKNOWN_BYTES if is_url(place) else Path(place).stat().st_size


def _files(store: Store, errors: list[UserError]) -> Iterator[tuple[str, int]]:
    """Files of a store, their names and sizes: of each folder first its files, then what is in its folders."""
    folders = [""]
    while folders:
        folder = folders.pop()
        inner: list[str] = []
        try:
            for entry in in_order(each for each in store.entries(folder) if not is_hidden(each.name)):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_folder:
                    inner.append(name)
                else:
                    yield name, entry.size
        except OSError as error:
            errors.append(UserError(f"{joined(store.shown, folder)}: cannot be listed ({error.strerror or error})"))
        folders += reversed(inner)


def in_order(entries: Iterable[Entry], at_once: int = _SORTED_AT_ONCE) -> Iterator[Entry]:
    """Entries by name. Of many, only `at_once` are in memory.

    >>> [each.name for each in in_order((Entry(name, False, 1) for name in "cabed"), at_once=2)]
    ['a', 'b', 'c', 'd', 'e']
    """
    with ExitStack() as stack:
        runs: list[Iterable[Entry]] = []
        source = iter(entries)
        while part := sorted(itertools.islice(source, at_once), key=_name):
            if len(part) < at_once:
                runs.append(part)
                break
            file = stack.enter_context(TemporaryFile("w+", encoding="ascii"))
            file.writelines(f"{json.dumps([each.name, each.is_folder, each.size])}\n" for each in part)
            file.seek(0)
            runs.append(_run(file))
        yield from heapq.merge(*runs, key=_name)


def _run(file: TextIO) -> Iterator[Entry]:
    return (Entry(*json.loads(line)) for line in file)


def _name(entry: Entry) -> str:
    return entry.name


def _as_expression(parts: Sequence[str]) -> str:
    r"""A regular expression for a path below a folder. A folder that matches stands for all below it.

    >>> bool(re.match(_as_expression(["**", "*.wav"]), "a.wav")), bool(re.match(_as_expression(["*.wav"]), "b/a.wav"))
    (True, False)
    """
    text = ""
    for part in parts:
        if part == "**":
            text += r"(?:[^/]+/)*"
            continue
        letters = "".join(
            r"[^/]*"
            if each == "*"
            else r"[^/]"
            if each == "?"
            else _letters(each)
            if each[0] == "["
            else re.escape(each)
            for each in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL)
        )
        text += f"{letters}/"
    return rf"{text.removesuffix('/')}(?:/|\Z)" if not text.endswith(r")*") else text


def _letters(group: str) -> str:
    inner = group[1:-1].replace("\\", r"\\")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


def _listed(place: str, store: Store, source: str | None) -> Iterator[Audio]:
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
    size = _UNKNOWN_BYTES
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
