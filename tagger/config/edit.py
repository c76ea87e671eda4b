"""Changes some values of a TOML file. Comments, order and everything else stay."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from tagger.config.file import Document
from tagger.config.given import absolute

Changes = Mapping[tuple[str, ...], tuple[Any, str]]
"""Key -> new value, and a comment on it."""


def changed(text: str, changes: Changes) -> str:
    r"""The text with these values. The result is checked; if comments cannot be kept, the text comes without them.

    >>> changed("[a]  # mine", {("a", "b"): (0.5, "was 0.4")})
    '[a]  # mine\nb = 0.5 # was 0.4\n'
    """
    expected = tomllib.loads(text)
    for keys, (value, _) in changes.items():
        place = expected
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    for edit in (_edited, _without_comments, _appended):
        try:
            made = edit(text, changes)
            if tomllib.loads(made) == expected:
                return made
        except (TOMLKitError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
            continue  # tables in an order that tomlkit cannot take apart
    return tomlkit.dumps(expected)


def _edited(text: str, changes: Changes, with_comments: bool = True) -> str:
    document = tomlkit.parse(text if not text or text.endswith("\n") else text + "\n")
    for keys, (value, comment) in changes.items():
        place: Any = document
        for depth, key in enumerate(keys[:-1]):
            if key not in place:
                place[key] = tomlkit.table(is_super_table=depth < len(keys) - 2)
            place = place[key]
        item = tomlkit.item(value)
        if with_comments and comment and not isinstance(place, InlineTable):
            old = place[keys[-1]].trivia.comment.lstrip("# ") if keys[-1] in place else ""
            other_comment = re.sub(r"(; )?was [0-9.e-]+$", "", old)
            item.comment("; ".join(filter(None, [other_comment, comment])))
        place[keys[-1]] = item
    return tomlkit.dumps(document)


def _without_comments(text: str, changes: Changes) -> str:
    """The changes come without their own comments."""
    return _edited(text, changes, with_comments=False)


def _appended(text: str, changes: Changes) -> str:
    """The changes are tables at the end. This is right for new tables, wherever the others are."""
    tables: dict[tuple[str, ...], dict[str, Any]] = {}
    for keys, (value, _) in changes.items():
        tables.setdefault(keys[:-1], {})[keys[-1]] = value
    parts = [text if not text or text.endswith("\n") else f"{text}\n"]
    for keys, values in tables.items():
        name = ".".join(tomlkit.key(key).as_string() for key in keys)
        parts.append(f"\n[{name}]\n{tomlkit.dumps(values)}")
    return "".join(parts)


def moved(document: Document, folder: Path) -> Changes:
    """Changes that a file needs when it moves to another folder: its paths are relative to it."""
    if document.file.path.parent.resolve() == folder.resolve():
        return {}
    here = {key: absolute(key, value, document) for key, value in document.values.items()}
    return {
        tuple(key.split(".")): (value if isinstance(value, list) else str(value), "")
        for key, value in here.items()
        if value != document.values[key]
    }
