"""A TOML file's text, and on which line of it a key is set: for errors, and for saying where a value comes from."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """One file, as it was read."""

    path: Path
    text: str = field(repr=False)
    """May hold a password."""

    def place(self, keys: Sequence[str]) -> str:
        """What an error about this key begins with: `FILE, line 3: mqtt.port`."""
        line = self.line(keys) or self.line(keys[:-1])
        return f"{self.path}{f', line {line}' if line else ''}: {'.'.join(map(_written, keys))}"

    def line(self, keys: Sequence[str]) -> int | None:
        r"""Where the statement begins that sets this key, or the first that makes it a table; None: nothing does.

        >>> Source(Path("x"), 'a = 1\n\n[b]\nc = [\n  2,\n]').line(["b", "c"])
        4
        """
        return self._lines.get(tuple(keys))

    @cached_property
    def _lines(self) -> Mapping[tuple[str, ...], int]:
        """Of all keys. The parser tells none; but what the first valid beginning of the text has that the valid one
        before had not, the statement between them sets. Many parses: only done when somebody asks.
        """
        found: dict[tuple[str, ...], int] = {}
        lines, begins = self.text.split("\n"), 0
        for end in range(1, len(lines) + 1):
            line, is_inside = lines[end - 1].strip(), begins < end - 1
            if not line or (line.startswith("#") and not is_inside):
                begins = begins if is_inside else end
                continue
            try:
                document = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:  # inside a statement of several lines
                continue
            for path in _paths(document):
                found.setdefault(path, begins + 1)
            begins = end
        return found


def _written(key: str) -> str:
    """As it can be on one line."""
    return key if key.isprintable() else repr(key)


def _paths(table: Mapping[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = []
    for key, value in table.items():
        paths.append((*at, key))
        if isinstance(value, dict):
            paths += _paths(value, (*at, key))
    return paths
