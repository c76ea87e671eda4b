"""Queries of an event log: which events, and how many of each label."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tagger import files, times
from tagger.history.database import Database
from tagger.history.log import EventRow

_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(EventRow))
Column = Literal["label", "source", "node"]


def default_path() -> Path:
    """The event log that `tagger events` reads if the user names none."""
    return files.home() / "events.sqlite"


@dataclass(frozen=True)
class Query:
    """Conditions. An event must meet all of them."""

    since: float | None = None
    """Earliest onset, seconds since the epoch."""
    until: float | None = None
    """The onset is before this time, seconds since the epoch."""
    labels: tuple[str, ...] = ()
    """Labels to choose from; empty: all. So are the next two."""
    sources: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    min_score: float | None = None
    """Lowest peak score."""
    min_s: float | None = None
    """Shortest duration, seconds. An open event has no duration, so it never meets this."""
    last: int | None = None
    """Number of events: the last ones of those that meet the conditions."""

    def conditions(self) -> tuple[str, list[Any]]:
        """What follows WHERE, empty without conditions, and its parameters. `last` is left out of account."""
        terms: list[str] = []
        values: list[Any] = []
        for term, value in (
            ("onset >= ?", self.since),
            ("onset < ?", self.until),
            ("peak_score >= ?", self.min_score),
            ('"offset" - onset >= ?', self.min_s),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        for column, names in (("label", self.labels), ("source", self.sources), ("node", self.nodes)):
            if names:
                terms.append(f"{column} IN ({', '.join('?' * len(names))})")
                values.extend(names)
        return " AND ".join(terms), values

    def sql(self) -> tuple[str, list[Any]]:
        """A SELECT of whole rows, ordered by onset, and its parameters."""
        terms, values = self.conditions()
        select = f"SELECT {_COLUMNS} FROM events{' WHERE ' if terms else ''}{terms}"
        if self.last is None:
            return f"{select} ORDER BY onset, id", values
        newest = f"{select} ORDER BY onset DESC, id DESC LIMIT ?"
        return f"SELECT * FROM ({newest}) AS newest ORDER BY onset, id", [*values, self.last]


@dataclass(frozen=True)
class LabelCount:
    """Totals of one label."""

    label: str
    events: int
    """Number of events without tests."""
    duration_s: float
    """Sum of the durations, without tests and open events, seconds."""
    peak_score: float | None
    """Highest score; None without events."""
    tests: int
    """Number of tests."""

    def to_json(self) -> dict[str, Any]:
        """A line of `tagger events --count --json`."""
        return {
            "label": self.label,
            "events": self.events,
            "duration_s": round(self.duration_s, 3),
            "peak_score": None if self.peak_score is None else round(self.peak_score, 6),
            "tests": self.tests,
        }


def find(database: Database, query: Query) -> Iterator[EventRow]:
    """Rows that meet a query, ordered by onset."""
    return (EventRow(*row) for row in database.execute(*query.sql()))


def count_by_label(database: Database, query: Query) -> list[LabelCount]:
    """Totals of the events that meet a query, the most frequent label first."""
    select, values = query.sql()
    no_tests = "FILTER (WHERE coalesce(cause, '') <> 'test')"
    return [
        LabelCount(*row)
        for row in database.execute(
            f'SELECT label, count(*) {no_tests} AS events, coalesce(sum("offset" - onset) {no_tests}, 0.0), '
            f"max(peak_score) {no_tests}, count(*) FILTER (WHERE cause = 'test') "
            f"FROM ({select}) AS found GROUP BY label ORDER BY events DESC, label",
            values,
        )
    ]


def count(database: Database, query: Query) -> dict[str, int]:
    """How many events that meet a query each label has. Tests, and `last`, are left out of account."""
    terms, values = query.conditions()
    where = f"{terms} AND " if terms else ""
    return dict(
        database.execute(
            f"SELECT label, count(*) FROM events WHERE {where}coalesce(cause, '') <> 'test' GROUP BY label", values
        )
    )


def has_name(database: Database, column: Column, name: str) -> bool:
    """Whether an event has this name in a column."""
    found = database.execute(f"SELECT 1 FROM events WHERE {column} = ? LIMIT 1", (name,))
    return found.fetchone() is not None


def places(database: Database, most: int) -> Iterator[tuple[str, str]]:
    """Pairs of node and source that have events, in order, at most `most`. Each costs two look-ups in an index."""
    following = "SELECT {} FROM events AS e WHERE (e.node, e.source) > (p.node, p.source) ORDER BY node, source LIMIT 1"
    found = database.execute(
        "WITH RECURSIVE pairs(node, source) AS ("
        "SELECT * FROM (SELECT node, source FROM events ORDER BY node, source LIMIT 1) AS first UNION ALL "
        f"SELECT ({following.format('node')}), ({following.format('source')}) FROM pairs AS p WHERE p.node IS NOT NULL"
        ") SELECT node, source FROM pairs WHERE node IS NOT NULL LIMIT ?",
        (most,),
    )
    return ((node, source) for node, source in found)


def names(database: Database, column: Column) -> Iterator[str]:
    """All names in a column."""
    return (name for (name,) in database.execute(f"SELECT DISTINCT {column} FROM events"))


def to_json(row: EventRow) -> dict[str, Any]:
    """A line of `tagger events --json`: the event's MQTT end message, without what only messages have."""
    return {
        "id": row.id,
        "label": row.label,
        "score": round(row.score, 6),
        "peak_score": round(row.peak_score, 6),
        "onset": times.rfc3339(row.onset),
        "offset": None if row.offset is None else times.rfc3339(row.offset),
        "duration_s": None if row.duration_s is None else round(row.duration_s, 3),
        "node": row.node,
        "source": row.source,
        "model": row.model,
        **({} if row.cause is None else {"cause": row.cause}),
    }
