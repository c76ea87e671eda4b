"""What one worker knows of its own sources: under which lease it hears each, and which of their events are open."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tagger.daemon.open_event import Lasting, OpenEvent
from tagger.events import Stream
from tagger.fleet.opened import Record

_MOST_TAKEN = 10_000
"""Most ids of events that were taken over which are kept."""


@dataclass
class Kept:
    """An event of which the broker must know that it is open."""

    event: OpenEvent
    epoch: int
    """Of the lease under which it began, or was taken over."""
    lasting: Lasting
    is_ending: bool = False
    """Whether its end waits for the broker."""
    is_sent: bool = False
    """Whether its end was sent on this connection."""


@dataclass
class Own:
    """A source that this worker hears, or of which it keeps events."""

    epoch: int = 0
    stream: Stream | None = None
    may_hear: Callable[[], bool] | None = None
    """None: it is not heard any more."""
    since: float = field(default_factory=time.monotonic)
    """When it was taken or left, on the monotonic clock."""
    alive: float = field(default_factory=time.monotonic)
    """When the lease was last in force, on the monotonic clock."""
    events: dict[str, Kept] = field(default_factory=dict)
    """By id."""
    is_earlier: bool = False
    """Whether an earlier run of this worker has heard it: its states may still be there, and by the message whoever has
    the source next knows to remove them.
    """

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it that anybody must know."""
        return self.may_hear is None and not self.events and not self.is_earlier

    @property
    def open(self) -> list[Kept]:
        """The events that have not ended."""
        return [kept for kept in self.events.values() if not kept.is_ending]

    def hear(self, stream: Stream, epoch: int, may_hear: Callable[[], bool]) -> None:
        """Notes that it is heard from now on, under this lease."""
        self.epoch, self.stream, self.may_hear, self.since = epoch, stream, may_hear, time.monotonic()
        self.is_earlier = False

    def leave(self) -> None:
        """Notes that it is not heard any more."""
        self.may_hear, self.since = None, time.monotonic()

    def alive_at(self, kept: Kept) -> float:
        """When the worker that heard an event is last known to have lived, seconds since the epoch, by the clock as it
        was when the event began.
        """
        return kept.event.noted + kept.lasting.seconds(self.alive)

    def record(self, fleet: str, session: str) -> Record | None:
        """What the broker is told to be open. None: nothing is, and nobody hears the source."""
        left = [(kept.event, self.alive_at(kept)) for kept in self.events.values() if not kept.is_sent]
        return Record(fleet, self.epoch, session, left) if left or self.may_hear is not None else None


class Ledger:
    """The sources of one worker, by name, and their events. For one thread."""

    def __init__(self) -> None:
        self._own: dict[str, Own] = {}
        self._where: dict[str, str] = {}
        """Id of each event that is kept -> its source."""
        self._taken: dict[str, None] = {}

    def __iter__(self) -> Iterator[tuple[str, Own]]:
        """All sources, with their names; they may come and go meanwhile."""
        return iter(list(self._own.items()))

    def get(self, source: str) -> Own | None:
        return self._own.get(source)

    def of(self, source: str) -> Own:
        """The source, which is known from now on."""
        return self._own.setdefault(source, Own())

    def kept(self, event_id: str) -> Kept | None:
        source = self._where.get(event_id)
        return None if source is None else self._own[source].events[event_id]

    def keep(self, kept: Kept) -> None:
        """Keeps an event of a source, which is known from now on."""
        event_id, source = kept.event.begin.id, kept.event.stream.source
        self.of(source).events[event_id] = kept
        self._where[event_id] = source

    def remove(self, event_id: str) -> None:
        """Forgets an event that is kept."""
        del self._own[self._where.pop(event_id)].events[event_id]

    def clean(self, source: str) -> None:
        """Forgets a source of which nothing is left."""
        own = self._own.get(source)
        if own is not None and own.is_over:
            del self._own[source]

    def begin_connection(self) -> None:
        """What was sent on an earlier connection may not have arrived."""
        for own in self._own.values():
            for kept in own.events.values():
                kept.is_sent = False

    def take(self, event_id: str) -> bool:
        """Notes that an event of another worker is taken over. Returns whether this is the first time."""
        if event_id in self._taken:
            return False
        self._taken[event_id] = None
        if len(self._taken) > _MOST_TAKEN:
            del self._taken[next(iter(self._taken))]
        return True
