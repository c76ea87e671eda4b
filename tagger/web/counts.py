"""How many events of each label began in each hour, day or other stretch: the page's map of a day."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tagger import times
from tagger.errors import UserError
from tagger.history.query import Query
from tagger.web.kept import Kept

MOST_EDGES = 100
"""Most ends of stretches in a request."""


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


def counts_json(kept: Kept, conditions: Query, edges: Sequence[float]) -> Mapping[str, Any]:
    """The answer: counts of each label, the most frequent first.

    Raises:
        TaggerError: as `Kept.count`.
    """
    found = kept.count(conditions, edges)
    labels = sorted(found, key=lambda label: (-sum(found[label]), label))
    return {
        "kept": kept.where,
        "edges": [times.rfc3339(edge) for edge in edges],
        "labels": [{"label": label, "total": sum(found[label]), "counts": found[label]} for label in labels],
    }
