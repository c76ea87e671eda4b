"""How many events of each label began in each hour, day or other stretch: the page's map of a day."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tagger import times
from tagger.errors import UserError
from tagger.history import query
from tagger.history.log import EventRow, reading
from tagger.history.query import Query

MOST_EDGES = 100
"""Most ends of stretches in a request."""
LONGEST_SECONDS = 5.0
"""Longest time that counting may take, seconds."""


def read_edges(text: str, now: float) -> list[float]:
    """Where stretches begin and end, seconds since the epoch: the last 24 hours up to `now` where nothing is said.

    Raises:
        UserError: the text does not say so.
    """
    if not text:
        return [now - 3600 * hours for hours in range(24, -1, -1)]
    try:
        found = [times.seconds(each) for each in text.split(",")[: MOST_EDGES + 1]]
    except (ValueError, OverflowError):
        found = []
    if not 2 <= len(found) <= MOST_EDGES or any(since >= until for since, until in pairwise(found)):
        raise UserError(f"edges: must be 2 to {MOST_EDGES} ascending times in ISO 8601, with commas between")
    return found


def counts_json(
    path: Path | None, rows: Sequence[EventRow], conditions: Query, edges: Sequence[float]
) -> Mapping[str, Any]:
    """The answer: counts of each label, the most frequent first.

    Args:
        path: the event log. None: there is none.
        rows: events of this run that meet the conditions, for daemons without an event log.

    Raises:
        UserError: the event log cannot be read, or it has too many events.
    """
    if path is not None and path.exists():
        with reading(path, LONGEST_SECONDS) as database:
            found = query.count_by_time(database, conditions, edges)
    else:
        found = _count(rows, edges)
    labels = sorted(found, key=lambda label: (-sum(found[label]), label))
    return {
        "kept": "memory" if path is None else "log",
        "edges": [times.rfc3339(edge) for edge in edges],
        "labels": [{"label": label, "total": sum(found[label]), "counts": found[label]} for label in labels],
    }


def _count(rows: Sequence[EventRow], edges: Sequence[float]) -> dict[str, list[int]]:
    counted = Counter((row.label, bisect_right(edges, row.onset) - 1) for row in rows if row.cause != "test")
    found: dict[str, list[int]] = {}
    for (label, place), count in counted.items():
        if 0 <= place < len(edges) - 1:
            found.setdefault(label, [0] * (len(edges) - 1))[place] = count
    return found
