"""What a node says of itself on `stats`. Anybody may have said it, so what is not as a node writes it is left out."""

import json
from collections.abc import Mapping
from typing import Any, get_args

from tagger.condition import Reason, State
from tagger.names import is_topic
from tagger.times import rfc3339, seconds

MOST_SOURCES = 128
"""Most sources of a node that are kept."""
MOST_BYTES = 65_536
"""Longest message that is read; 128 sources take 60 kB."""
_MOST_CHARACTERS = 300
"""Longest text of a message that is kept; the rest is left out."""
_LONGEST_NAME = 100
_MOST_PROBLEMS = 20


def read_stats(payload: bytes) -> dict[str, Any]:
    """What a message on `stats` says; of what is not as a node writes it, nothing.

    Returns:
        `version`, `verdict`, `uptime_s`, `problems`, `sources` by name, and `more`, whether there are more of them; or
        nothing at all.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    uptime_s, verdict = found.get("uptime_s"), found.get("verdict")
    problems, sources = found.get("problems"), found.get("sources")
    given = sources.items() if isinstance(sources, dict) else ()
    return {
        "version": shown_text(found.get("version"))[:40] or None,
        "verdict": verdict if verdict in ("ok", "degraded", "failing") else None,
        "uptime_s": uptime_s if isinstance(uptime_s, int | float) and 0 <= uptime_s < 1e9 else None,
        "problems": [shown_text(each) for each in problems[:_MOST_PROBLEMS] if isinstance(each, str)]
        if isinstance(problems, list)
        else [],
        "sources": {
            name: _read_source(each) for name, each in list(given)[:MOST_SOURCES] if is_name(name) and _is_source(each)
        },
        "more": len(given) > MOST_SOURCES,
    }


def _is_source(each: Any) -> bool:
    return isinstance(each, dict) and isinstance(each.get("state"), str) and each["state"] in get_args(State)


def _read_source(each: Mapping[str, Any]) -> dict[str, Any]:
    reason, since = each.get("reason"), each.get("since")
    try:
        at = seconds(since) if isinstance(since, str) and len(since) < 40 else None
    except (ValueError, OverflowError):
        at = None
    return {
        "state": each["state"],
        "reason": reason if isinstance(reason, str) and reason in get_args(Reason) else "",
        "detail": shown_text(each.get("detail")),
        "since": None if at is None else rfc3339(at),
    }


def is_name(name: str) -> bool:
    """Whether it can be the name of a node, or of a source."""
    return len(name) <= _LONGEST_NAME and is_topic(name) and name.isprintable()


def shown_text(value: object) -> str:
    """A text of a message, bounded; lone surrogates, which no answer can hold, are replaced."""
    return value[:_MOST_CHARACTERS].encode(errors="replace").decode() if isinstance(value, str) else ""
