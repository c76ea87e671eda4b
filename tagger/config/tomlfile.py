"""A TOML file's text, and the line on which a key is set: for errors, and for saying where a value comes from."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Keys = tuple[str, ...]
"""A dotted key, taken apart: `("mqtt", "port")`."""


@dataclass(frozen=True)
class TomlFile:
    """One file, as it was read. The text is valid TOML."""

    path: Path
    text: str = field(repr=False)
    """May hold a password."""

    def place(self, keys: Sequence[str]) -> str:
        """Beginning of an error about this key: `FILE, line 3: mqtt.port`."""
        line = self.line(keys) or self.line(keys[:-1])
        return f"{self.path}{f', line {line}' if line else ''}: {'.'.join(map(_written, keys))}"

    def line(self, keys: Sequence[str]) -> int | None:
        r"""The line where the statement begins that sets this key, or the first that makes it a table.

        None: no statement does. Keys of the tables within an array, such as `[[a]]`, have no line of their own.

        >>> TomlFile(Path("x"), 'a = 1\n\n[b]\nc = [\n  2,\n]').line(["b", "c"])
        4
        """
        return self._lines.get(tuple(keys))

    @cached_property
    def _lines(self) -> Mapping[Keys, int]:
        """The line of every key. The parser tells none; but each statement by itself can be parsed for its keys."""
        found: dict[Keys, int] = {}
        arrays: set[Keys] = set()
        table: Keys = ()
        for line, statement in _statements(self.text):
            paths = _paths(tomllib.loads(statement))
            if statement.startswith("["):
                table = paths[-1]
                if statement.startswith("[["):
                    arrays.add(table)
            else:
                paths = [(*table, *path) for path in paths]
            for path in paths:
                for end in range(1, len(path) + 1):
                    found.setdefault(path[:end], line)
                    if path[:end] in arrays:
                        break
        return found


_TOKEN = re.compile(
    r'''
    """ (?: [^"\\] | \\. | "{1,2}(?!") )*+ "{3,5}      # text of several lines; up to two quotes may precede its end
    | \'\'\' (?: [^'] | '{1,2}(?!') )*+ '{3,5}
    | " (?: [^"\\\n] | \\. )*+ "
    | ' [^'\n]*+ '
    | \# [^\n]*+
    | [\[\]{}\n]
    | [^\[\]{}"'\#\n]++
    ''',
    re.VERBOSE | re.DOTALL,
)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The key-value pairs and table headers of a valid document, in order: line (from 1) and text of each."""
    depth, begin, line = 0, 0, 1
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if (token[0] == "\n" and not depth) or token.end() == len(text):
            whole = text[begin : token.end()]
            statement = whole.strip()
            if statement and not statement.startswith("#"):
                yield line, statement
            begin = token.end()
            line += whole.count("\n")


def statement_lines(text: str) -> Iterator[int]:
    """The lines on which statements begin, also in a document that is not valid."""
    return (line for line, _ in _statements(text))


def _paths(table: Mapping[str, Any], at: Keys = ()) -> list[Keys]:
    """All keys below, each before those within it."""
    paths = []
    for key, value in table.items():
        paths.append((*at, key))
        if isinstance(value, dict):
            paths += _paths(value, (*at, key))
    return paths


def _written(key: str) -> str:
    """A key as it can be on one line."""
    return key if key.isprintable() else repr(key)


def toml(value: Any) -> str:
    """A text, number, boolean or list of texts in TOML.

    >>> toml(["mic", 1.0, True])
    '["mic", 1, true]'
    """
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str | bool):
        text = json.dumps(value, ensure_ascii=False)  # JSON allows what TOML does not
        return re.sub(r"[\x7f-\x9f]", lambda control: f"\\u{ord(control[0]):04x}", text)
    return str(value)
