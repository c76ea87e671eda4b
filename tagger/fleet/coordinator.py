"""Decides who hears what, and says so to workers that ask. It has no clock, no thread and no network of its own.

Streams move for four reasons: their worker is gone, it is drained, it carries more than it can, or the shares are
uneven. The last waits until no worker has come or gone for `settle_s`, as Kafka Connect does (KIP-415): else a worker
that is restarted would make healthy streams move twice.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tagger.fleet.assignment import Place, assign, is_uneven
from tagger.fleet.leases import Leases, Terms
from tagger.fleet.messages import Orders, Report

_SILENT_SECONDS = 3.5
"""Time without a question after which a worker, which asks once a second, gets no more streams, seconds."""
_PLAN_SECONDS = 0.5
"""Shortest time between two plans of the same workers and streams, seconds."""


@dataclass(frozen=True)
class Habits:
    """How the coordinator acts."""

    terms: Terms = field(default_factory=Terms)
    settle_s: float = 60.0
    """Time without a worker that comes or goes after which shares are evened out, seconds."""
    gather_s: float = 20.0
    """Longest wait for the workers at the start, seconds."""
    most_moving: float = 0.05
    """Part of the healthy streams that may be on their way at one time; at least 8 streams."""


@dataclass
class _Worker:
    report: Report
    came: float
    seen: float
    """When it last asked, by the coordinator's clock."""


class Coordinator:
    """One thread at a time calls it. `at` is always now, by the clock of the leases."""

    def __init__(self, habits: Habits, generation: int, at: float, expected: int = 0, is_first: bool = False) -> None:
        """
        Args:
            generation: higher than that of every coordinator before.
            expected: number of workers that will come. Nothing is assigned before they have, or `gather_s` are over.
            is_first: no worker can hold a lease of a coordinator before.
        """
        self.habits, self._expected = habits, expected
        self.leases = Leases(habits.terms, generation, at, is_first)
        self.sources: Mapping[str, str] = {}
        """Stream -> the text of its source. May be replaced at any time."""
        self.drained: set[str] = set()
        """Nodes and hosts that get no streams. May be changed at any time."""
        self.is_ending = False
        """Whether workers are told to end."""
        self.moved: Counter[str] = Counter()
        """How often a stream was given to another worker, by reason: `lost`, `drained`, `full`, `even`."""
        self._workers: dict[str, _Worker] = {}
        """By session."""
        self._wanted: dict[str, str] = {}
        """Stream -> the session that ought to have it."""
        self._changed = self._began = at
        """When a worker last came or went."""
        self._planned: tuple[float, object] = (-math.inf, None)
        """When the last plan was made, and of what."""

    def renew(self, report: Report, at: float) -> Orders | None:
        """Answers a worker.

        Returns:
            None: what it asked is an old question, which came late, or it has ended.
        """
        session = report.request.session
        if report.is_over:
            self.lose(session, at)
            return None
        worker = self._workers.get(session)
        if worker is None:
            self._workers[session] = _Worker(report, at, at)
            self._changed = at
        elif report.request.number > worker.report.request.number:
            worker.report, worker.seen = report, at
        self.plan(at)
        answer = self.leases.answer(report.request, self._given(session, report), at)
        if answer is None:
            return None
        sources = {stream: self.sources[stream] for stream in answer.streams}
        return Orders(answer, sources, self.is_ending)

    def lose(self, session: str, at: float) -> None:
        """A worker's process has surely ended."""
        self.leases.end(session)
        if self._workers.pop(session, None) is not None:
            self._changed = at

    def plan(self, at: float) -> None:
        """Decides anew who ought to have what."""
        for session in self.leases.lapse(at):
            if self._workers.pop(session, None) is not None:
                self._changed = at
        if not self._is_planning(at):
            return
        made_of = (tuple(self._workers), frozenset(self.drained), id(self.sources))
        if at - self._planned[0] < _PLAN_SECONDS and made_of == self._planned[1]:
            return
        self._planned = at, made_of
        places = self._places(at)
        owners = {stream: session for stream, session in self._wanted.items() if stream in self.sources}
        for stream in self.sources:  # what workers of a coordinator before have
            owner = self.leases.owner(stream)
            if owner in self._workers:
                owners.setdefault(stream, owner)
        for stream, owner in self._before().items():
            owners.setdefault(stream, owner)
        wanted = assign(self.sources, places, owners)
        is_quiet = at - self._changed >= self.habits.settle_s and all(place.takes for place in places)
        is_even_wish = is_quiet and is_uneven(places, wanted)
        if is_even_wish:
            wanted = assign(self.sources, places, wanted, even=True)
        self._wanted = self._in_turn(owners, wanted)
        self._count(owners, is_even_wish)

    def session_of(self, node: str) -> Report | None:
        """What the worker of a node has said last. None: it has none, or one that may have ended."""
        found = [worker for worker in self._workers.values() if worker.report.node == node]
        return max(found, key=lambda worker: worker.came).report if found else None

    @property
    def hosts(self) -> set[str]:
        """Machines that have workers."""
        return {worker.report.host for worker in self._workers.values()}

    def status(self, at: float) -> dict[str, Any]:
        """How the fleet does, for `tagger fleet status` and `/metrics`."""
        loads = Counter(self.leases.owner(stream) for stream in self.sources)
        nodes = {
            worker.report.node: {
                "host": worker.report.host,
                "session": session,
                "streams": loads[session],
                "wanted": sum(each == session for each in self._wanted.values()),
                "capacity": round(worker.report.capacity, 1),
                "silent_s": round(at - worker.seen, 1),
                "waiting": worker.report.waiting,
                "trouble": worker.report.trouble,
                "drained": self._is_drained(worker.report),
            }
            for session, worker in sorted(self._workers.items(), key=lambda each: each[1].came)
        }
        streams = {stream: self._stream_status(stream) for stream in sorted(self.sources)}
        heard = sum(each.get("state") == "hearing" for each in streams.values())
        return {
            "schema": 1,
            "sources": len(self.sources),
            "heard": heard,
            "without_owner": sum(each["node"] is None for each in streams.values()),
            "capacity": round(sum(worker.report.capacity for worker in self._workers.values()), 1),
            "granting": self.leases.is_granting(at),
            "moved": dict(self.moved),
            "nodes": nodes,
            "streams": streams,
        }

    def _stream_status(self, stream: str) -> dict[str, Any]:
        owner = self._workers.get(self.leases.owner(stream) or "")
        if owner is None:
            return {"node": None}
        return {"node": owner.report.node, **owner.report.streams.get(stream, {})}

    def _before(self) -> dict[str, str]:
        """Who heard what until a coordinator before this one was away for too long: stream -> session."""
        found = dict[str, tuple[int, str]]()
        for session, worker in self._workers.items():
            for stream, epoch in worker.report.unanswered.items():
                if stream in self.sources:
                    found[stream] = max(found.get(stream, (0, "")), (epoch, session))
        return {stream: session for stream, (_, session) in found.items()}

    def _is_drained(self, report: Report) -> bool:
        return report.is_leaving or not self.drained.isdisjoint((report.node, report.host))

    def _is_planning(self, at: float) -> bool:
        """Whether the workers are there: else the first one would get everything, and the others would take it away."""
        if not self.leases.is_granting(at) or not self._workers:
            return False
        return bool(self._wanted) or len(self._workers) >= self._expected or at - self._began >= self.habits.gather_s

    def _places(self, at: float) -> list[Place]:
        return [
            Place(
                session,
                max(worker.report.capacity, 0.1),
                is_open=not self._is_drained(worker.report),
                takes=at - worker.seen < _SILENT_SECONDS,
            )
            for session, worker in self._workers.items()
        ]

    def _given(self, session: str, report: Report) -> list[str]:
        """What a worker ought to have now: until there is a plan, what it has."""
        if self.is_ending:
            return []
        if not self._wanted:
            return [stream for stream in report.request.held if stream in self.sources]
        return [stream for stream, owner in self._wanted.items() if owner == session]

    def _in_turn(self, owners: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
        """The plan, of which only so many healthy streams are moved at one time."""
        moving = sum(
            self.leases.owner(stream) is not None and self.leases.owner(stream) != owners.get(stream)
            for stream in self.sources
        )
        room = max(8, math.ceil(self.habits.most_moving * len(self.sources))) - moving
        found = {}
        for stream, session in wanted.items():
            before = owners.get(stream)
            is_healthy = before in self._workers and before != session and self.leases.owner(stream) == before
            if is_healthy and room <= 0:
                assert before is not None
                found[stream] = before
                continue
            room -= is_healthy
            found[stream] = session
        return found

    def _count(self, owners: Mapping[str, str], is_even_wish: bool) -> None:
        for stream, session in self._wanted.items():
            before = owners.get(stream)
            if before is None or before == session:
                continue
            worker = self._workers.get(before)
            if worker is None:
                self.moved["lost"] += 1
            elif self._is_drained(worker.report):
                self.moved["drained"] += 1
            else:
                self.moved["even" if is_even_wish else "full"] += 1
