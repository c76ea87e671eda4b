"""All sinks as one. A sink that fails does not keep the others from working, and sinks can change at run time."""

import contextlib
import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tagger.daemon.state import StateFolder
from tagger.errors import TaggerError
from tagger.events import Event, Level, Report, Stream
from tagger.sinks import Sink, SourceState

log = logging.getLogger(__name__)


class Fanout(Sink):
    """Passes everything to each sink, in the same order.

    An open event is in the state folder until all sinks were given its end, and have written it down if they do so.
    Sinks take calls of several threads at a time, so no source waits for another one's.
    """

    def __init__(self, sinks: Sequence[Sink], state: StateFolder | None = None) -> None:
        self._sinks, self._state = list(sinks), state
        self._lock = threading.Condition(threading.RLock())
        """Notified when no call is under way any more."""
        self._calls = 0
        """Calls of sinks that are under way."""
        self._held: list[Callable[[], None]] | None = None
        """Calls that wait while sinks are being changed. None: no change is under way."""
        self._status: dict[str, tuple[Stream, SourceState, str]] = {}
        """Last status of each source, by its name."""
        self._open: dict[str, tuple[Stream, Event]] = {}
        """Events that have begun, by id."""
        self._earlier: Counter[str] = Counter()
        """Sums of the counters of sinks that were removed."""
        self._failed: set[Sink] = set()
        """Sinks whose first failure was logged; later ones are not."""

    def add(self, sink: Sink) -> None:
        """Adds a sink. Only before `open`; later, see `changing`."""
        self._sinks.append(sink)

    def open(self, streams: Sequence[Stream]) -> None:
        for sink in self._sinks:
            sink.open(streams)

    def join(self, stream: Stream) -> None:
        self._publish(lambda: self._call(lambda sink: sink.join(stream)))

    def leave(self, stream: Stream) -> None:
        self._publish(
            lambda: self._call(lambda sink: sink.leave(stream)), lambda: self._status.pop(stream.source, None)
        )

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        self._publish(
            lambda: self._call(lambda sink: sink.status(stream, state, detail)),
            lambda: self._status.update({stream.source: (stream, state, detail)}),
        )

    def event(self, stream: Stream, event: Event) -> None:
        if event.type == "begin":
            if self._state is not None:
                self._state.begun(stream, event)
            self._publish(
                lambda: self._call(lambda sink: sink.event(stream, event)),
                lambda: self._open.update({event.id: (stream, event)}),
            )
        else:
            self._publish(lambda: self._end(stream, event), lambda: self._open.pop(event.id, None))

    def report(self, stream: Stream, report: Report) -> None:
        self._publish(lambda: self._call(lambda sink: sink.report(stream, report)))

    def audio(self, stream: Stream, level: Level) -> None:
        self._publish(lambda: self._call(lambda sink: sink.audio(stream, level)))

    def stats(self, message: Mapping[str, Any]) -> None:
        self._publish(lambda: self._call(lambda sink: sink.stats(message)))

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            total = self._earlier.copy()
            for sink in self._sinks:
                total.update(sink.counts())
            return total

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: a sink could not deliver something. All were closed.
        """
        errors: list[TaggerError] = []
        for sink in self._sinks:
            try:
                sink.close(wait_s)
            except TaggerError as error:
                errors.append(error)
        if errors:
            raise TaggerError("; ".join(map(str, errors)))

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[Sink]]:
        """Within the block, the caller may change the list of sinks. What is published meanwhile waits, and goes to the
        sinks that are there after it.
        """
        with self._lock:
            self._held = []
            before = set(self._sinks)
            statuses, events = list(self._status.values()), list(self._open.values())
            self._lock.wait_for(lambda: not self._calls)
        try:
            yield self._sinks
            for sink in set(self._sinks) - before:
                for stream, state, detail in statuses:
                    sink.resume(stream, state, detail, [event for of, event in events if of.source == stream.source])
        finally:
            with self._lock:
                for sink in before - set(self._sinks):
                    self._earlier.update({name: n for name, n in sink.counts().items() if name != "waiting"})
                held, self._held = self._held, None
                for publish in held:
                    publish()

    def forget(self, event: Event) -> None:
        """Forgets an open event that somebody else has ended."""
        with self._lock:
            self._open.pop(event.id, None)
        if self._state is not None:
            self._state.ended(event)

    def _end(self, stream: Stream, event: Event) -> None:
        self._call(lambda sink: sink.event(stream, event))
        if (state := self._state) is not None:
            forget = functools.partial(state.ended, event)
            for sink in self._sinks:
                forget = functools.partial(sink.when_kept, forget)
            forget()

    def _publish(self, publish: Callable[[], None], note: Callable[[], object] = lambda: None) -> None:
        """Calls the sinks, or leaves that for when they have been changed.

        Args:
            publish: calls them.
            note: notes what they are given, for sinks that come later. Called before, with the lock.
        """
        with self._lock:
            note()
            if self._held is not None:
                self._held.append(publish)
                return
            self._calls += 1
        try:
            publish()
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls:
                    self._lock.notify_all()

    def _call(self, what: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            try:
                what(sink)
            except Exception as error:  # the others still work
                if sink not in self._failed:
                    self._failed.add(sink)
                    log.warning("%s: %s: %s", type(sink).__name__, type(error).__name__, error, exc_info=True)
