"""Answers of the page's interface, as JSON: health, sources, events and labels. `openapi.py` describes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tagger.errors import UserError
from tagger.faults import Faults
from tagger.health import Snapshot
from tagger.history import query
from tagger.history.query import Query
from tagger.mqtt.nodes import Nodes
from tagger.web.asked import names, number, time, unknown
from tagger.web.clips import Clips
from tagger.web.counts import counts_json, read_edges
from tagger.web.examining import Examining
from tagger.web.kept import Kept
from tagger.web.live import Live
from tagger.web.thresholds import Thresholds

MOST_EVENTS = 5_000
"""Most events in an answer."""
_EVENTS = 500
"""The same where a request does not say."""


@dataclass(frozen=True)
class Daemon:
    """What the page may ask of the daemon, and wish from it. Any thread calls these."""

    live: Live
    snapshot: Callable[[], Snapshot]
    describe: Callable[[], Mapping[str, str]]
    """What each source is, in words, by its name."""
    labels: Callable[[], Mapping[str, Any]]
    """Labels and thresholds of each source."""
    pause: Callable[[str, bool], Mapping[str, Any]]
    """Pauses a source, or resumes it; raises UserError where there is none of this name."""
    kept: Kept
    """The events that are known."""
    clips: Clips | None = None
    """Saved clips. None: no audio is kept."""
    thresholds: Thresholds | None = None
    """What other thresholds would have given, and setting them."""
    others: Nodes = field(default_factory=lambda: Nodes(lambda: None))
    """The other nodes of the broker."""
    faults: Faults = field(default_factory=Faults)
    """The last faults that were told."""
    examining: Examining | None = None
    """What `tagger doctor` finds. None: it cannot be asked."""

    def sources(self) -> dict[str, Any]:
        """Each source, in the order of the command line."""
        found, described = self.snapshot(), self.describe()
        return {
            "sources": [
                {"name": each.source, "description": described.get(each.source, ""), **each.to_json(found.time)}
                for each in found.sources
            ]
        }

    def events(self, wanted: Mapping[str, str], with_clips: bool = True) -> dict[str, Any]:
        """The last events that meet some conditions, ordered by onset.

        Args:
            wanted: the parameters of the request.
            with_clips: whether whoever asks may know which clips there are.

        Raises:
            UserError: a parameter is wrong.
            TaggerError: as `Kept.find`.
        """
        conditions = _query(wanted)
        assert conditions.last is not None
        rows = self.kept.find(conditions)
        found = rows[-(conditions.last - 1) :]
        clips = self.clips.ids() if self.clips is not None and with_clips else frozenset[str]()
        return {
            "kept": self.kept.where,
            "more": len(rows) > len(found),
            "events": [query.to_json(row) | ({"clip": True} if row.id in clips else {}) for row in found],
        }

    def counts(self, wanted: Mapping[str, str]) -> Mapping[str, Any]:
        """How many events of each label that meet some conditions began in each stretch of time.

        Args:
            wanted: the parameters of the request.

        Raises:
            UserError: a parameter is wrong.
            TaggerError: as `Kept.find`.
        """
        edges = read_edges(wanted.get("edges", ""), self.snapshot().time)
        conditions = replace(_query({name: value for name, value in wanted.items() if name != "edges"}), last=None)
        return counts_json(self.kept, conditions, edges)

    def levels(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """How loud sources were within the last hour.

        Args:
            wanted: the parameters of the request.

        Raises:
            UserError: a parameter is wrong.
        """
        unknown(wanted, {"source"})
        known = self.describe()
        chosen = names(wanted, "source") or tuple(known)
        return {"levels": {source: self.live.levels(source) for source in chosen if source in known}}

    def places(self) -> dict[str, Any]:
        """The nodes and their sources that there may be events of, by name.

        Raises:
            TaggerError: as `Kept.places`.
        """
        found = self.snapshot()
        places = self.kept.places() or {found.node: [each.source for each in found.sources]}
        return {"places": [{"node": node, "sources": places[node]} for node in sorted(places)]}


def _query(wanted: Mapping[str, str]) -> Query:
    """The query of a request, for one event more than it asks for."""
    unknown(wanted, {"since", "until", "label", "source", "node", "min_score", "limit"})
    limit = int(number(wanted, "limit", _EVENTS))
    if not 1 <= limit <= MOST_EVENTS:
        raise UserError(f"limit: must be from 1 to {MOST_EVENTS}")
    return Query(
        since=time(wanted, "since"),
        until=time(wanted, "until"),
        labels=names(wanted, "label"),
        sources=names(wanted, "source"),
        nodes=names(wanted, "node"),
        min_score=number(wanted, "min_score", 0.0) if "min_score" in wanted else None,
        last=limit + 1,
    )
