"""Reads `tagger.toml`. Keys that the table of options does not know, and impossible values, are problems."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagger import files
from tagger.config import events, sourcetables
from tagger.config.options import OPTIONS, TABLES
from tagger.config.tomlfile import TomlFile, statement_lines
from tagger.errors import UserError, near
from tagger.policy import EventsConfig

NAME = "tagger.toml"


@dataclass(frozen=True)
class Document:
    """Content of one file."""

    file: TomlFile
    values: Mapping[str, Any] = field(repr=False)
    """Valid values, by the option's key."""
    events: EventsConfig
    tables: frozenset[str]
    """Tables that the file has: `homeassistant` means something even if it is empty."""
    problems: tuple[str, ...]
    """Unknown keys and impossible values, one line each."""


def usual() -> Path | None:
    """The file that is read without --config: `$TAGGER_HOME/tagger.toml`. None: it is not there."""
    path = files.home() / NAME
    return path if path.is_file() else None


def load_right(path: Path) -> Document:
    """
    Raises:
        UserError: the file is missing, no TOML, or has unknown keys or impossible values; the place is named.
    """
    document = load(path)
    if document.problems:
        raise UserError(document.problems[0])
    return document


_MOST_BYTES = 1_000_000
"""Size of the largest file that is read."""


def load(path: Path) -> Document:
    """
    Raises:
        UserError: the file is missing or no TOML. All other mistakes are in `problems`.
    """
    return parse(*read(path))


def read(path: Path) -> tuple[TomlFile, dict[str, Any]]:
    """The text of a file, and its tables.

    Raises:
        UserError: the file is missing or no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"{path}: is larger than {_MOST_BYTES // 1_000_000} MB, which no file of settings is")
        text = (
            content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        )  # some editors begin a file with a byte order mark
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `tagger config init` and `tagger calibrate` write one") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}, {_lines_of(str(error), text)}: is not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: holds a number that is too long, or too many brackets within brackets") from None
    return TomlFile(path, text), table


def _lines_of(error: str, text: str) -> str:
    """Where a mistake is: from where that begins which is not closed, or the like, to where the parser notices it."""
    match = re.search(r"at line (\d+)", error)
    last = int(match[1]) if match else text.rstrip().count("\n") + 1  # the parser says `at end of document`
    first = max((line for line in statement_lines(text) if line <= last), default=last)
    if " (at end of document)" in error:  # a text in three quotes that does not end begins with the last of them
        quotes = "'''" if "'''" in error else '"""' if "Unterminated" in error else ""
        first = text[: text.rindex(quotes)].count("\n") + 1 if quotes and quotes in text else first
    return f"lines {first} to {last}" if first < last else f"line {last}"


def parse(file: TomlFile, table: Mapping[str, Any]) -> Document:
    """The document of a file that is valid TOML."""
    values: dict[str, Any] = {}
    rules, tables, sources = EventsConfig(), set(), list[str]()
    problems: list[str] = []
    for path, value in _walk(table, ()):
        key = ".".join(path)
        if path == ("events",):
            rules, wrong = events.parse(value, file)
            problems += wrong
        elif path == sourcetables.AT:
            sources, wrong = sourcetables.parse(value, file)
            problems += wrong
        elif option := _OPTIONS.get(path):
            if problem := option.problem(value):
                problems.append(f"{file.place(path)}: {problem}")
            else:
                values[key] = option.type(value) if option.type in (int, Path) or option.takes_number else value
        elif path in _TABLES:
            if isinstance(value, dict):
                tables.add(key)
            else:
                problems.append(f"{file.place(path)}: must be a table")
        else:
            depth = len(path) - 1
            known = {each[depth] for each in _KNOWN if len(each) > depth and each[:depth] == path[:-1]}
            problems.append(f"{file.place(path)}: is unknown{near(path[-1], known)}")
    if sources:
        values["listen.sources"] = [*values.get("listen.sources", []), *sources]
    return Document(file, values, rules, frozenset(tables), tuple(problems))


_OPTIONS = {option.path: option for option in OPTIONS if option.is_in_file}
_TABLES = {tuple(name.split(".")) for name in TABLES}
_KNOWN = (*_OPTIONS, *_TABLES, ("events",), sourcetables.AT)


def _walk(table: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All keys with their values; known tables are followed by their content."""
    for key, value in table.items():
        path = (*at, key)
        yield path, value
        if path in _TABLES and isinstance(value, dict):
            yield from _walk(value, path)
