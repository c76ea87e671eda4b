"""An event's message, as it arrives from any node, to a row of the database. Anybody may have published it."""

import json
import math
import re
from datetime import datetime
from typing import Any

from tagger.history.log import EventRow

_ID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""A ULID."""
_LONGEST_TEXT = 300
"""Longest name in a message, characters. A file's has 255 at most; two of these fit into an index of PostgreSQL."""
_LATEST = 253_402_300_800.0
"""Begin of the year 10000, seconds since the epoch."""


class NoEventError(ValueError):
    """A message is no event. The text says why."""


def row_of(topic: str, payload: bytes) -> EventRow:
    """The row that a message on `PREFIX/NODE/SOURCE/event` stands for.

    Raises:
        NoEventError: it is no event, or one that was shortened for its broker, or one of another node than its topic
            says: a broker may let a node write only its own topics.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise NoEventError("is no JSON") from None
    if not isinstance(found, dict):
        raise NoEventError("is no JSON object")
    if found.get("schema") != 1:
        raise NoEventError("is not of schema 1")
    if found.get("type") not in ("begin", "end"):
        raise NoEventError("is neither begin nor end of an event")
    identity = _text(found, "id")
    if not _ID.fullmatch(identity):
        raise NoEventError("has no ULID as its id")
    node = _text(found, "node")
    if node != topic.split("/")[-3]:
        raise NoEventError("says that it is of another node than its topic")
    has_ended = found["type"] == "end"
    score = _number(found, "score")
    row = EventRow(
        id=identity,
        node=node,
        source=_text(found, "source"),
        label=_text(found, "label"),
        onset=_time(found, "onset"),
        offset=_time(found, "offset") if has_ended else None,
        score=score,
        peak_score=max(score, _number(found, "peak_score")),
        model=_text(found, "model"),
        cause=None if found.get("cause") is None else _text(found, "cause"),
    )
    if row.offset is not None and row.offset < row.onset:
        raise NoEventError("ends before it begins")
    return row


def merged(one: EventRow, other: EventRow) -> EventRow:
    """The row of an event of which two messages have come, in any order: the end's, if either is one."""
    ended, begun = (one, other) if one.offset is not None else (other, one)
    return EventRow(
        **vars(ended) | {"peak_score": max(ended.peak_score, begun.peak_score), "cause": begun.cause or ended.cause}
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or "\0" in value:
        raise NoEventError(f"has no {name}")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        raise NoEventError(f"has no {name}") from None
    return value


def _number(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoEventError(f"has no {name}")
    if not (0 <= value <= 1):  # nan is in no interval
        raise NoEventError(f"has a {name} that is not from 0 to 1")
    return float(value)


def _time(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
        seconds = at.timestamp() if at is not None and at.tzinfo is not None else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < _LATEST:
        raise NoEventError(f"has no {name}")
    return seconds
