"""Reads `fleet.toml`: the settings of every worker, the table `fleet`, and the sources, which may be elsewhere."""

import csv
import io
import json
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from tagger.config import sourcetables
from tagger.config.build import resolve_document
from tagger.config.file import parse, read
from tagger.config.option import Option
from tagger.config.tomlfile import TomlFile
from tagger.errors import UserError, near
from tagger.mqtt.topics import NOT_SOURCES
from tagger.names import is_topic
from tagger.settings import ListenSettings
from tagger.sources.network.address import shown
from tagger.sources.spec import Spec
from tagger.table import TableRow, encoding_of, table_of

MOST_BYTES = 64_000_000
"""Largest list of sources that is read."""
_CHUNK_BYTES = 1 << 16
URL_SECONDS = 20.0
"""Longest wait for a server, and for all of its list, seconds."""
_OPTIONS: tuple[Option, ...] = (
    Option("sources", str, "More sources: a CSV or JSON file, or its URL."),
    Option("workers", int, "Workers of this machine.", least=1, most=1_000),
    Option("every_s", float, "Time between two looks at the sources.", least=1, most=86_400),
)
_ALONE = ("jsonl", "event_log", "score_history", "clips", "homeassistant")
"""Settings of one daemon: several cannot share such a file, folder, port or device."""


@dataclass(frozen=True)
class FleetSettings:
    """The table `fleet`."""

    sources: str | None = None
    """Path of a CSV or JSON file with more sources, or its URL. None: all are in the file itself."""
    workers: int | None = None
    """Number of workers of this machine. None: one for each GPU, or for each group of cores."""
    every_s: float = 5.0
    """Time between two looks at the sources, seconds."""


@dataclass(frozen=True)
class FleetFile:
    """What `fleet.toml` says."""

    settings: ListenSettings
    """Those of every worker; its sources are a placeholder."""
    fleet: FleetSettings
    _path: Path
    _texts: Sequence[str]
    """The sources in the file itself."""

    def sources(self) -> dict[str, str]:
        """Reads the list that the file names as well.

        Returns:
            Name -> text of the source (`tagger.sources.spec`).

        Raises:
            UserError: it cannot be read, or something in it cannot be.
        """
        found: dict[str, str] = {}
        _name(found, self._texts, str(self._path))
        if (listed := self.fleet.sources) is not None:
            _name(found, _list(listed, self._path.parent), _shown(listed))
        if not found:
            raise UserError(
                f'{self._path}: no source: write [[source]] tables, or sources = "FILE.csv" in the table fleet'
            )
        return found

    def again(self) -> dict[str, str]:
        """Reads the sources as they are now, those in the file itself too.

        Raises:
            UserError: they cannot be read, or something in the file cannot be.
        """
        return load(self._path).sources()


def load(path: Path) -> FleetFile:
    """Reads the file.

    Raises:
        UserError: it cannot be read, or something in it cannot be.
    """
    file, table = read(path)
    fleet = _fleet(file, table.pop("fleet", {}))
    texts = _texts(table.pop("source", []), file)
    document = parse(file, table)
    settings = resolve_document({"listen.sources": ["demo"]}, os.environ, document).right()
    for name in _ALONE:
        if getattr(settings, name) is not None:
            raise UserError(
                f"{path}: {name} is for one daemon, and a fleet has several; it publishes over MQTT, and "
                "`tagger collect` keeps the events of all"
            )
    if settings.web is not None and settings.web.database is not None:
        raise UserError(
            f"{path}: web.database: a fleet's page shows what is heard now; the page of a daemon shows a database"
        )
    if settings.mqtt is None or settings.mqtt.embedded:
        raise UserError(f'{path}: a fleet needs a broker: write [mqtt] and url = "mqtt://host"')
    return FleetFile(settings, fleet, path, texts)


def node_settings(settings: ListenSettings, node: str) -> ListenSettings:
    """The settings of one worker. The port that says how all do, and the page that shows it, are the coordinator's."""
    assert settings.mqtt is not None
    return replace(settings, mqtt=replace(settings.mqtt, node=node, client_id=None), http=None, web=None)


def _fleet(file: TomlFile, table: Any) -> FleetSettings:
    if not isinstance(table, dict):
        raise UserError(f"{file.place(['fleet'])}: must be a table")
    known = {option.key: option for option in _OPTIONS}
    for key, value in table.items():
        where = file.place(["fleet", key])
        if key not in known:
            raise UserError(f"{where}: is unknown{near(key, known)}")
        if problem := known[key].problem(value):
            raise UserError(f"{where}: {problem}")
    assert {each.name for each in fields(FleetSettings)} == known.keys()
    return FleetSettings(**table)


def _texts(tables: Any, file: TomlFile) -> list[str]:
    texts, problems = sourcetables.parse(tables, file) if tables else ([], [])
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    return texts


def _name(found: dict[str, str], texts: Sequence[str], place: str) -> None:
    """Adds the sources of a file or a list by name. A stream keeps its name wherever it is heard, so each needs one.

    Args:
        place: the file or the list, for people.
    """
    for number, text in enumerate(texts, 1):
        spec = Spec.parse(text)
        level = spec.level
        if level is None:
            raise UserError(f"{place}: source {number} ({spec.shown}): has no name, by which a fleet knows it")
        if level in found or level in NOT_SOURCES or not is_topic(level):
            raise UserError(f"{place}: source {number}: {spec.name} is taken; give it another name")
        spec.check()
        found[level] = text


def _list(place: str, folder: Path) -> list[str]:
    """The sources of a CSV or JSON file, or of a URL."""
    text = _fetched(place) if place.startswith(("http://", "https://")) else _file(folder / place)
    place = _shown(place)
    tables = _from_json(text, place) if text.lstrip().startswith(("[", "{")) else _from_csv(text, place)
    return _texts(tables, TomlFile(Path(place), ""))


def _shown(place: str) -> str:
    return shown(place) if "://" in place else place


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: no path can be so
        raise UserError(f"{path}: {getattr(error, 'strerror', error)}") from None
    return _decoded(content, str(path))


def _fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=URL_SECONDS) as answer:
            content = _all_of(answer)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        raise UserError(f"{shown(url)}: cannot be read ({getattr(error, 'reason', error)})") from None
    return _decoded(content, shown(url))


def _all_of(answer: HTTPResponse) -> bytes:
    """What a server sends, to its end or a bit more than is allowed.

    Raises:
        TimeoutError: it takes too long, however little at a time the server sends.
    """
    until, found = time.monotonic() + URL_SECONDS, bytearray()
    while len(found) <= MOST_BYTES and (more := answer.read1(_CHUNK_BYTES)):
        found += more
        if time.monotonic() > until:
            raise TimeoutError(f"not all of it came within {URL_SECONDS:g} s")
    return bytes(found)


def _decoded(content: bytes, place: str) -> str:
    if len(content) > MOST_BYTES:
        raise UserError(f"{place}: is larger than {MOST_BYTES // 1_000_000} MB")
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError:
        raise UserError(f"{place}: is no text in UTF-8 or UTF-16") from None


def _from_json(text: str, place: str) -> Any:
    try:
        tables = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: is no JSON: {error}") from None
    if not isinstance(tables, list):
        raise UserError(f"{place}: must be a list of sources, [...]")
    return tables


def _from_csv(text: str, place: str) -> list[dict[str, Any]]:
    """The rows as the tables that they stand for. Cells that are empty say nothing."""
    try:
        known = [option.key for option in sourcetables.SOURCE_FIELDS]
        columns, rows = table_of(io.StringIO(text, newline=""), missing=None, known=known)
        return _rows(columns, rows, place)
    except csv.Error as error:
        raise UserError(f"{place}: is no CSV: {error}") from None


def _rows(columns: Sequence[str], rows: Iterable[tuple[int, TableRow]], place: str) -> list[dict[str, Any]]:
    options = {option.key: option for option in sourcetables.SOURCE_FIELDS}
    named = [each for each in columns if each]
    if "url" not in named or "name" not in named:
        raise UserError(f"{place}: the first line must name the columns, among them name and url")
    if unknown := [each for each in named if each not in options]:
        raise UserError(f"{place}: column {unknown[0]!r} is unknown{near(unknown[0], options)}")
    if doubled := [each for each, count in Counter(named).items() if count > 1]:
        raise UserError(f"{place}: column {doubled[0]!r} is there more than once")
    tables = []
    for line, row in rows:
        where = f"{place}, line {line}"
        if None in row or any(row[each] is None for each in named) or (row.get("") or "").strip():
            raise UserError(f"{where}: has not as many cells as the first line")
        if not row["name"].strip():
            raise UserError(f"{where}: has no name, by which a fleet knows it")
        tables.append({key: _cell(options[key], row[key], where) for key in named if row[key].strip()})
    return tables


def _cell(option: Option, cell: str, where: str) -> Any:
    try:
        if option.type is bool:
            return {"true": True, "false": False}[cell.strip().lower()]
        if option.type is list:
            return [each.strip() for each in cell.split(";")]
        if option.type is float:
            return float(cell.strip().replace(",", "."))  # as spreadsheets of many countries write it
        return int(cell.strip()) if option.type is int else cell.strip()
    except (ValueError, KeyError):
        raise UserError(f"{where}: {option.key}: cannot be") from None
