"""The events that the page knows: of a database of many machines, of the event log, or of this run."""

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tagger.errors import TaggerError, UserError
from tagger.history import query
from tagger.history.database import Database, reading
from tagger.history.log import EventRow
from tagger.history.query import Query

LONGEST_SECONDS = 5.0
"""Longest time that a question may take, seconds."""
MOST_PLACES = 20_000
"""Most pairs of node and source in an answer."""
MOST_AT_ONCE = 4
"""Most questions to the database at once: connections that all readers of the page have together."""


@dataclass(frozen=True)
class Kept:
    """Where the page's events come from. Any thread may ask."""

    recent: Callable[[], list[EventRow]]
    """Events of this run."""
    event_log: Callable[[], Path | None]
    """The event log. None: there is none."""
    database: str | None = None
    """URL of the database of `tagger collect`, which goes before the event log. None: there is none."""
    _turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MOST_AT_ONCE))

    @property
    def where(self) -> Literal["database", "log", "memory"]:
        """What keeps them."""
        if self.database is not None:
            return "database"
        return "memory" if self.event_log() is None else "log"

    def find(self, conditions: Query) -> list[EventRow]:
        """Events that meet a query, ordered by onset.

        Raises:
            TaggerError: the database or the event log cannot be reached or read, another process keeps it locked, too
                many ask, or this takes too long.
        """
        with self._opened() as database:
            return _among(self.recent(), conditions) if database is None else list(query.find(database, conditions))

    def count(self, conditions: Query, edges: Sequence[float]) -> dict[str, list[int]]:
        """Counts by label of the events that meet a query, one for each stretch; tests are left out.

        Args:
            edges: where stretches begin and end, seconds since the epoch, ascending.

        Raises:
            TaggerError: as `find`.
        """
        with self._opened() as database:
            if database is None:
                return _count(_among(self.recent(), conditions), edges)
            return query.count_by_time(database, conditions, edges)

    def places(self) -> dict[str, list[str]]:
        """The sources of each node that the database has events of; empty without a database.

        Raises:
            TaggerError: as `find`.
        """
        found: dict[str, list[str]] = {}
        if self.database is None:
            return found
        with self._opened() as database:
            assert database is not None
            for node, source in query.places(database, MOST_PLACES):
                found.setdefault(node, []).append(source)
        return found

    @contextmanager
    def _opened(self) -> Iterator[Database | None]:
        """None: only the events of this run are known."""
        place = self.event_log() if self.database is None else self.database
        if place is None or (isinstance(place, Path) and not place.exists()):
            yield None
            return
        with nullcontext() if self.database is None else self._turn():
            try:
                with reading(place, LONGEST_SECONDS) as database:
                    yield database
            except UserError as error:  # the mistake of whoever set the daemon up, not of whoever asks
                raise TaggerError(str(error)) from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until few enough ask the database."""
        if not self._turns.acquire(timeout=LONGEST_SECONDS):
            raise TaggerError("too many ask the database at the moment; try again")
        try:
            yield
        finally:
            self._turns.release()


def _among(rows: list[EventRow], conditions: Query) -> list[EventRow]:
    """As `query.find`, of rows in memory."""
    found = [
        row
        for row in rows
        if (conditions.since is None or row.onset >= conditions.since)
        and (conditions.until is None or row.onset < conditions.until)
        and (not conditions.labels or row.label in conditions.labels)
        and (not conditions.sources or row.source in conditions.sources)
        and (not conditions.nodes or row.node in conditions.nodes)
        and (conditions.min_score is None or row.peak_score >= conditions.min_score)
    ]
    found.sort(key=lambda row: (row.onset, row.id))
    return found[-(conditions.last or len(found)) :]


def _count(rows: Sequence[EventRow], edges: Sequence[float]) -> dict[str, list[int]]:
    counted = Counter((row.label, bisect_right(edges, row.onset) - 1) for row in rows if row.cause != "test")
    found: dict[str, list[int]] = {}
    for (label, place), count in counted.items():
        if 0 <= place < len(edges) - 1:
            found.setdefault(label, [0] * (len(edges) - 1))[place] = count
    return found
