"""All sinks as one. A sink that fails does not keep the others from working, and sinks can change at run time."""

import contextlib
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

    An open event is in the state folder until all sinks were given its end.
    """

    def __init__(self, sinks: Sequence[Sink], state: StateFolder | None = None) -> None:
        self._sinks, self._state = list(sinks), state
        self._lock = threading.RLock()
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

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        with self._lock:
            self._status[stream.source] = (stream, state, detail)
            self._publish(lambda sink: sink.status(stream, state, detail))

    def event(self, stream: Stream, event: Event) -> None:
        with self._lock:
            if event.type == "begin":
                self._open[event.id] = (stream, event)
                if self._state is not None:
                    self._state.begun(stream, event)
            self._publish(lambda sink: sink.event(stream, event))
            if event.type == "end":
                self._open.pop(event.id, None)
                if self._held is not None:
                    self._held.append(lambda: self._forget(event))
                else:
                    self._forget(event)

    def report(self, stream: Stream, report: Report) -> None:
        self._publish(lambda sink: sink.report(stream, report))

    def audio(self, stream: Stream, level: Level) -> None:
        self._publish(lambda sink: sink.audio(stream, level))

    def stats(self, message: Mapping[str, Any]) -> None:
        self._publish(lambda sink: sink.stats(message))

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

    def _forget(self, event: Event) -> None:
        if self._state is not None:
            self._state.ended(event)

    def _publish(self, what: Callable[[Sink], None]) -> None:
        with self._lock:
            if self._held is not None:
                self._held.append(lambda: self._publish(what))
                return
            for sink in self._sinks:
                try:
                    what(sink)
                except Exception as error:  # the others still work
                    if sink not in self._failed:
                        self._failed.add(sink)
                        log.warning("%s: %s: %s", type(sink).__name__, type(error).__name__, error, exc_info=True)
