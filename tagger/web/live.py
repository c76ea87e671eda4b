"""What is live, as Server-Sent Events for open pages: columns of spectrograms, scores, events, levels and health.

The sources' threads only append to bounded lists, and only while a page is open. The page's own thread turns what they
hold into text five times a second, once for all readers (`Live.tick`). A reader that is too slow begins anew with the
present state, as one does that has just come.
"""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

from tagger import __version__
from tagger.events import Event, Level, Report, Stream
from tagger.features.config import MelConfig
from tagger.health import Snapshot
from tagger.history.log import EventRow
from tagger.history.query import to_json
from tagger.policy import Policy
from tagger.sinks import Sink
from tagger.unforeseen import contained
from tagger.web.columns import RANGE_DB, heard_bands, shown_config
from tagger.web.sound import Sound, Tap

TICK_SECONDS = 0.2
"""Time between two messages to a page, seconds."""
_HEALTH_TICKS = 5
"""Ticks from one message about the daemon's health to the next."""
MOST_READERS = 32
"""Most pages that are open at a time."""
MOST_WAITING = 50
"""Most messages that wait for a reader before it begins anew."""
_MOST_HELD = 5_000
"""Most reports, and most events, that wait for the next tick."""
MOST_EVENTS = 2_000
"""Most events of this run that are kept in memory, for daemons without an event log."""
_LEVELS_SECONDS = 3_600.0
"""Time for which the levels of a source are kept, seconds."""
_MOST_LEVELS = 720
"""Most levels of a source that are kept."""
_RECENT = 200
"""Most events that a page is given when it opens."""


class Reader:
    """One open page."""

    def __init__(self, columns: frozenset[str]) -> None:
        self.columns = columns
        """Sources whose columns it wants."""
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        """Messages that wait to be sent. None: the last was."""
        self.restarts = 0
        """Times that it was too slow."""

    def put(self, message: bytes, anew: Callable[[], bytes]) -> None:
        """
        Args:
            anew: makes what a reader is sent that has just come.
        """
        if self.queue.qsize() >= MOST_WAITING:
            while not self.queue.empty():
                self.queue.get_nowait()
            self.restarts += 1
            message = anew()
        self.queue.put_nowait(message)


class Live(Sink):
    """Gathers what is live. Any thread calls its methods as a sink; the page's own loop calls the others."""

    def __init__(self, mel: MelConfig) -> None:
        """
        Args:
            mel: the model's front end.
        """
        self._mel, self._shown = mel, shown_config(mel)
        self.watched: frozenset[str] = frozenset()
        """Sources whose columns a page wants."""
        self.snapshot: Callable[[], Snapshot] | None = None
        """How the daemon does. Set before the first reader comes."""
        self.policy_of: Callable[[str], Policy | None] = lambda source: None
        """What counts as an event of a source. Set before the first reader comes."""
        self.has_login = False
        """Whether a page can log out."""
        self._streams: tuple[Stream, ...] = ()
        self._taps: dict[str, Tap] = {}
        self._sounds: dict[str, Sound] = {}
        self._readers: list[Reader] = []
        self._is_read = False
        self._reports: deque[tuple[Stream, Report]] = deque(maxlen=_MOST_HELD)
        self._events: deque[tuple[Stream, Event]] = deque(maxlen=_MOST_HELD)
        self._last: dict[str, tuple[Stream, Report]] = {}
        self._lock = threading.Lock()
        self._rows: dict[str, EventRow] = {}
        """Events of this run, by id, the oldest first; at most MOST_EVENTS."""
        self._levels: dict[str, deque[Level]] = {}
        self._enter: dict[str, tuple[Policy, dict[str, float]]] = {}
        self._ticks = 0
        self._ticker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The page's loop, once a reader has come."""
        self._is_closed = False

    def open(self, streams: Sequence[Stream]) -> None:
        self._streams = tuple(streams)

    def event(self, stream: Stream, event: Event) -> None:
        with self._lock:
            before = self._rows.get(event.id)
            self._rows[event.id] = row_of(stream, event, before)
            if len(self._rows) > MOST_EVENTS:
                del self._rows[next(iter(self._rows))]
        if self._is_read:
            self._events.append((stream, event))

    def report(self, stream: Stream, report: Report) -> None:
        self._last[stream.source] = (stream, report)
        if self._is_read:
            self._reports.append((stream, report))

    def audio(self, stream: Stream, level: Level) -> None:
        with self._lock:
            kept = self._levels.setdefault(stream.source, deque(maxlen=_MOST_LEVELS))
            kept.append(level)
            while kept[0].time < level.time - _LEVELS_SECONDS:
                kept.popleft()

    def levels(self, source: str) -> list[tuple[float, float, float]]:
        """Time, RMS and peak of what was measured of a source within the last hour, seconds and dBFS, the oldest first.
        From any thread.
        """
        with self._lock:
            kept = list(self._levels.get(source, ()))
        return [(round(each.time, 1), round(each.rms_dbfs, 1), round(each.peak_dbfs, 1)) for each in kept]

    def tap(self, source: str) -> Tap:
        """The tap of a source's audio; one for each."""
        made = self._taps[source] = Tap(lambda: source in self.watched, self._mel.sample_rate_hz)
        return made

    def events(self) -> list[EventRow]:
        """The events of this run, in the order in which they began; at most MOST_EVENTS. From any thread."""
        with self._lock:
            return list(self._rows.values())

    async def read(self, columns: frozenset[str]) -> AsyncGenerator[bytes]:
        """Messages for a page, until it goes or the daemon stops.

        Args:
            columns: sources whose spectrogram it shows.
        """
        reader = Reader(columns)
        self._loop = asyncio.get_running_loop()
        self._readers.append(reader)
        self._change()
        try:
            yield self.hello()
            while (message := await reader.queue.get()) is not None:
                yield message
        finally:
            self._readers.remove(reader)
            self._change()

    @property
    def readers(self) -> int:
        """Number of open pages."""
        return len(self._readers)

    def hang_up(self) -> None:
        """Ends all that is read, and what would be. From any thread."""
        self._is_closed = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        for reader in self._readers:
            reader.queue.put_nowait(None)

    def tick(self) -> None:
        """Sends what has come since the last time."""
        self._ticks += 1
        common: list[str] = []
        while self._events:
            stream, event = self._events.popleft()
            common.append(_message("event", event.to_json(stream, time.time())))
        while self._reports:
            common.append(_message("scores", self._scores(*self._reports.popleft())))
        if self._ticks % _HEALTH_TICKS == 0 and self.snapshot is not None:
            common.append(_message("health", self.snapshot().to_json()))
        own: dict[str, str] = {}
        for source, tap in self._taps.items():
            if blocks := tap.take():
                if source not in self._sounds:
                    self._sounds[source] = Sound(self._mel)
                own[source] = "".join(_message(*each) for each in self._sounds[source].messages(source, blocks))
        for source in self._sounds.keys() - self.watched:
            del self._sounds[source]
        text, made = "".join(common), dict[frozenset[str], bytes]()
        for reader in self._readers:
            if reader.columns not in made:
                made[reader.columns] = (text + "".join(own.get(each, "") for each in sorted(reader.columns))).encode()
            if made[reader.columns]:
                reader.put(made[reader.columns], self.hello)

    def hello(self) -> bytes:
        """The present state, for a page that has just come."""
        assert self.snapshot is not None
        return _message(
            "hello",
            {
                "version": __version__,
                "login": self.has_login,
                "time": time.time(),
                "sources": [stream.source for stream in self._streams],
                "columns": {
                    "bands": heard_bands(self._shown),
                    "step_s": self._shown.hop_samples / self._shown.sample_rate_hz,
                    "range_db": RANGE_DB,
                    "hertz": [self._shown.f_min_hz, min(self._shown.bandwidth_hz or inf, self._shown.f_max_hz)],
                },
                "scores": [self._scores(*each) for each in list(self._last.values())],
                "events": [to_json(row) for row in self.events()[-_RECENT:]],
                "health": self.snapshot().to_json(),
            },
        ).encode()

    def _scores(self, stream: Stream, report: Report) -> dict[str, Any]:
        """A report's message, with the score from which each label begins an event."""
        enter = self._thresholds(stream.source)
        message = report.to_json(stream)
        for each in message["top"]:
            each["enter"] = enter.get(each["label"])
        return message

    def _thresholds(self, source: str) -> Mapping[str, float]:
        policy = self.policy_of(source)
        if policy is None:
            return {}
        known = self._enter.get(source)
        if known is None or known[0] is not policy:
            known = policy, {name: each.enter for name, each in zip(policy.labels, policy.each, strict=True)}
            self._enter[source] = known
        return known[1]

    def _change(self) -> None:
        """A reader has come or gone."""
        self._is_read = bool(self._readers)
        self.watched = frozenset[str]().union(*(reader.columns for reader in self._readers))
        if self._is_read and self._ticker is None and not self._is_closed:
            self._ticker = asyncio.get_running_loop().create_task(self._run())
        if self._is_closed:
            self._hang_up()

    async def _run(self) -> None:
        """Ticks while somebody reads."""
        try:
            while self._readers:
                await asyncio.sleep(TICK_SECONDS)
                with contained("the live page: a message"):
                    self.tick()
        finally:
            self._ticker = None
            self._events.clear()
            self._reports.clear()
            self._sounds.clear()


def row_of(stream: Stream, event: Event, before: EventRow | None = None) -> EventRow:
    """An event as the event log has it.

    Args:
        before: the row of its begin.
    """
    row = EventRow.of(stream, event)
    if before is None:
        return row
    return replace(row, peak_score=max(row.peak_score, before.peak_score), cause=row.cause or before.cause)


def _message(kind: str, data: Mapping[str, Any]) -> str:
    """One Server-Sent Event. JSON has no line breaks, so it is one line."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n"
