"""The events that the page knows: of a database of many machines, of the event log, or of this run."""

import threading
import time
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
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
REMEMBERED_SECONDS = 900.0
"""Time for which the counts of a stretch of time that is over are given again, seconds. Events of a node that was away
may still come.
"""
_MOST_REMEMBERED = 2_000
MOST_AT_ONCE = 4
"""Most questions to the database at once: connections that all readers of the page have together."""


class Counted:
    """Counts of stretches of time that are over, for a while: of a year in a large database, what was counted before
    the time was up need not be counted again by the next question. From any thread.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._found: OrderedDict[Query, tuple[float, dict[str, int]]] = OrderedDict()

    def of(self, database: Database, stretch: Query, may_remember: bool) -> dict[str, int]:
        """How many events of each label there are.

        Args:
            stretch: with its beginning and end.
        """
        now = self._wall()
        with self._lock:
            asked_at, found = self._found.get(stretch, (0.0, None))
        if found is not None and may_remember and 0 <= now - asked_at < REMEMBERED_SECONDS:
            return found
        found = query.count(database, stretch)
        if may_remember and stretch.until is not None and stretch.until < now:
            with self._lock:
                self._found[stretch] = now, found
                self._found.move_to_end(stretch)
                while len(self._found) > _MOST_REMEMBERED:
                    self._found.popitem(last=False)
        return found


@dataclass(frozen=True)
class Kept:
    """Where the page's events come from. Any thread may ask."""

    recent: Callable[[], list[EventRow]]
    """Events of this run."""
    event_log: Callable[[], Path | None]
    """The event log. None: there is none."""
    database: str | None = None
    """URL of the database of `tagger collect`, which goes before the event log. None: there is none."""
    _counted: Counted = field(default_factory=Counted)
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
        found: dict[str, list[int]] = {}
        place = 0
        try:
            with self._opened() as database:
                if database is None:
                    return _count(_among(self.recent(), conditions), edges)
                for place, (since, until) in enumerate(pairwise(edges)):
                    stretch = replace(conditions, since=since, until=until)
                    for label, count in self._counted.of(database, stretch, self.database is not None).items():
                        found.setdefault(label, [0] * (len(edges) - 1))[place] = count
        except TaggerError as error:
            if not place or self.database is None:
                raise
            raise TaggerError(f"{error}, or ask again: what was counted is remembered for a while") from None
        return found

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
