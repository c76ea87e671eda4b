"""One owner a stream, whatever dies and whatever is late: leases (Gray and Cheriton, 1989).

A worker asks for its streams again and again; each answer lets it hear them for a `term`. The worker counts the term
from the moment at which it asked, the coordinator from the later one at which it answered, and adds a margin. So the
worker gives up first, and no two clocks are ever compared: each side measures durations by its own. The margin is for
clocks that run at different speeds, and for the time that a worker takes to stop.

What makes lost and late messages harmless:

- A worker has one request on its way. It forgets the answer to a request when it sends the next one.
- A request names all that the worker hears. What it does not name is free.
- An answer names all that the worker may hear. What it does not name, the worker stops; it says so in its next request.
- A coordinator that has just begun grants nothing for a term and a margin. Until then workers of the coordinator before
  it say what they hear, and keep it.

Times are seconds of the caller's own clock, which never goes back and also counts while the machine sleeps.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

STOP_SECONDS = 2.0
"""Time from the end of a lease for which a worker may still publish ends, seconds. Less than any `Terms.margin_s`."""

_REMEMBERED_SECONDS = 120.0
"""Time for which a worker tells a coordinator that comes back what it has heard, seconds. By then it has ended."""


def now() -> float:
    """A clock for leases, seconds. Where the system has one, it also counts while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Terms:
    """How long leases last."""

    term_s: float = 12.0
    """Time for which a worker may hear what it was told, from its request, seconds."""
    margin_s: float = 3.0
    """Time that the coordinator waits longer, seconds."""

    @property
    def whole_s(self) -> float:
        """Time from the coordinator's last answer until a silent worker has surely given up, seconds."""
        return self.term_s + self.margin_s


@dataclass(frozen=True)
class Request:
    """What a worker asks."""

    session: str
    """Names this run of the worker; no other has the name, not even a later run of the same worker."""
    number: int
    """1, 2, 3 ... of the session."""
    held: Mapping[str, int]
    """Streams that it hears or has not yet stopped, and the epoch of each one's lease."""
    ended: frozenset[str] = frozenset()
    """Those of them that it is stopping. It may hear them again only after it has said that they are stopped."""


@dataclass(frozen=True)
class Answer:
    """What a worker may hear for a term from its request."""

    number: int
    """Of the request."""
    terms: Terms
    streams: Mapping[str, int]
    """Stream -> epoch of its lease. Of two leases of a stream, the later one has the higher epoch."""


@dataclass
class _Session:
    number: int
    until: float
    """When its leases have surely ended, by the coordinator's clock."""


class Leases:
    """The coordinator's side. Knows who may hear which stream, and who therefore may not."""

    def __init__(self, terms: Terms, generation: int, at: float, is_first: bool = False) -> None:
        """
        Args:
            generation: higher than that of every coordinator before.
            at: now.
            is_first: no lease of a coordinator before can be in force, so there is nothing to wait for.
        """
        self.terms = terms
        self._grants_from = at if is_first else at + terms.whole_s
        self._epoch = generation << 32
        self._sessions: dict[str, _Session] = {}
        self._owners: dict[str, tuple[str, int]] = {}
        """Stream -> the session that may be hearing it, and the epoch of its lease."""

    def owner(self, stream: str) -> str | None:
        """The session that may be hearing a stream. None: surely nobody is."""
        lease = self._owners.get(stream)
        return None if lease is None else lease[0]

    def owned(self, session: str) -> list[str]:
        """The streams that a session may be hearing."""
        return [stream for stream, (owner, _) in self._owners.items() if owner == session]

    @property
    def sessions(self) -> list[str]:
        """Sessions whose leases have not ended."""
        return list(self._sessions)

    def is_granting(self, at: float) -> bool:
        """Whether streams are given to new owners: not just after the start."""
        return at >= self._grants_from

    def answer(self, request: Request, wanted: Iterable[str], at: float) -> Answer | None:
        """Answers a worker.

        Args:
            wanted: streams that this worker ought to have.

        Returns:
            None: the request is an old one, which came late; nobody waits for its answer.
        """
        self.lapse(at)
        session = self._sessions.get(request.session)
        if session is not None and request.number <= session.number:
            return None
        for stream in self.owned(request.session):
            if stream not in request.held:
                del self._owners[stream]
        if not self.is_granting(at):
            self._adopt(request)
        self._sessions[request.session] = _Session(request.number, at + self.terms.whole_s)
        streams = dict[str, int]()
        for stream in wanted:
            lease = self._owners.get(stream)
            if lease is None and self.is_granting(at) and stream not in request.held:
                self._epoch += 1
                lease = self._owners[stream] = request.session, self._epoch
            if lease is not None and lease[0] == request.session and stream not in request.ended:
                streams[stream] = lease[1]
        return Answer(request.number, self.terms, streams)

    def _adopt(self, request: Request) -> None:
        """Notes what a worker hears by the word of the coordinator before this one."""
        for stream, epoch in request.held.items():
            self._epoch = max(self._epoch, epoch)
            lease = self._owners.get(stream)
            if lease is None or lease[1] < epoch:  # the other has been told to stop
                self._owners[stream] = request.session, epoch

    def lapse(self, at: float) -> list[str]:
        """Ends the leases of sessions that have been silent for too long.

        Returns:
            These sessions.
        """
        ended = [name for name, session in self._sessions.items() if at >= session.until]
        for name in ended:
            self.end(name)
        return ended

    def end(self, session: str) -> None:
        """Ends a session's leases at once: it is known to hear nothing any more, such as a process that has ended."""
        self._sessions.pop(session, None)
        for stream in self.owned(session):
            del self._owners[stream]


@dataclass
class Holding:
    """The worker's side: what it may hear now, and what it hears.

    The caller starts what `to_start` names and stops what `to_stop` names, and says so by `started` and `stopped`; it
    asks `may_hear` before it publishes anything that begins.
    """

    session: str
    heard: dict[str, int] = field(default_factory=dict)
    """Streams that are heard or not yet stopped -> epoch of the lease under which they began."""
    _ended: set[str] = field(default_factory=set)
    """Those of them that are to be stopped."""
    _lost: set[str] = field(default_factory=set)
    """Those of them that another worker may hear by now."""
    _unanswered: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Streams whose lease ended as nobody answered -> its epoch, and when that was noticed."""
    _allowed: Mapping[str, int] = field(default_factory=dict)
    _until: float = -math.inf
    _number: int = 0
    _asked_at: float = 0.0
    _is_waiting: bool = False

    def request(self, at: float) -> Request:
        """The next request. The answer to the one before counts no more, except for what is heard already."""
        self._end(at)
        self._allowed = {stream: epoch for stream, epoch in self._allowed.items() if stream in self.heard}
        self._number += 1
        self._asked_at, self._is_waiting = at, True
        return Request(self.session, self._number, dict(self.heard), frozenset(self._ended))

    def take(self, answer: Answer, at: float) -> None:
        """Takes the answer to the last request. Any other changes nothing, nor one that comes when its term is over."""
        if not self._is_waiting or answer.number != self._number or at >= self._asked_at + answer.terms.term_s:
            return
        self._end(at)
        self._is_waiting = False
        self._allowed, self._until = dict(answer.streams), self._asked_at + answer.terms.term_s

    def may_hear(self, stream: str, at: float) -> bool:
        """Whether what is heard of a stream may be published."""
        is_in_time = at < self._until and stream in self.heard and stream not in self._ended
        return is_in_time and self._allowed.get(stream) == self.heard[stream]

    def may_end(self, stream: str, at: float) -> bool:
        """Whether the end of what has begun may be published: also while a stream is being stopped, as long as no other
        worker can have it.
        """
        return stream in self.heard and stream not in self._lost and at < self._until + STOP_SECONDS

    def to_start(self, at: float) -> dict[str, int]:
        """Streams to begin with, and their epochs. One that is still being stopped is not among them."""
        if at >= self._until:
            return {}
        return {stream: epoch for stream, epoch in self._allowed.items() if stream not in self.heard}

    def to_stop(self, at: float) -> list[str]:
        """Streams to stop: the coordinator wants them back, or has not answered for a term."""
        self._end(at)
        return list(self._ended)

    def unanswered(self, at: float) -> dict[str, int]:
        """Streams that are not heard any more because no coordinator answered, and the epoch of each one's lease."""
        self._unanswered = {
            stream: (epoch, ended)
            for stream, (epoch, ended) in self._unanswered.items()
            if at - ended < _REMEMBERED_SECONDS
        }
        return {stream: epoch for stream, (epoch, _) in self._unanswered.items()}

    def started(self, stream: str, epoch: int) -> None:
        """Called before the worker begins to hear a stream."""
        self.heard[stream] = epoch
        self._unanswered.pop(stream, None)

    def stopped(self, stream: str) -> None:
        """Called after the last that was heard of a stream is published."""
        self.heard.pop(stream, None)
        self._ended.discard(stream)
        self._lost.discard(stream)

    def _end(self, at: float) -> None:
        """Notes which leases have ended."""
        if at >= self._until:
            self._unanswered.update(
                (stream, (epoch, at)) for stream, epoch in self.heard.items() if stream not in self._ended
            )
        self._ended.update(stream for stream in self.heard if not self.may_hear(stream, at))
        if at >= self._until + STOP_SECONDS:
            self._lost.update(self.heard)
