"""What the daemon remembers of its sources, and the snapshot of its health that is made of it."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tagger.condition import Condition
from tagger.events import Event, Level, Stream
from tagger.health import SinkHealth, Snapshot, SourceHealth, usage
from tagger.listen import Listener
from tagger.sinks import Sink, SourceState

_MOST_ZEROS = 2_000
"""Most labels of all sources that are counted from 0. Else those that were heard are: Prometheus then misses the first
event of each, as a counter that begins with 1 has not grown."""


@dataclass
class _Noted:
    """What the sinks were told of one source."""

    state: SourceState | None = None
    rms_dbfs: float | None = None
    events: Counter[str] = field(default_factory=Counter)


class Record(Sink):
    """Notes what all sinks are told: the state of each source, its level, and its events by label."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted = defaultdict[str, _Noted](_Noted)

    def open(self, streams: Sequence[Stream]) -> None:
        with self._lock:
            self._noted.clear()
            if sum(len(stream.labels) for stream in streams) <= _MOST_ZEROS:
                for stream in streams:
                    self._noted[stream.source].events.update(dict.fromkeys(stream.labels, 0))

    def leave(self, stream: Stream) -> None:
        with self._lock:
            self._noted.pop(stream.source, None)

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        with self._lock:
            noted = self._noted[stream.source]
            if noted.state != state:
                noted.state, noted.rms_dbfs = state, None

    def event(self, stream: Stream, event: Event) -> None:
        if event.type == "begin" and event.cause is None:
            with self._lock:
                self._noted[stream.source].events[event.label] += 1

    def audio(self, stream: Stream, level: Level) -> None:
        with self._lock:
            self._noted[stream.source].rms_dbfs = level.rms_dbfs

    def source(self, listener: Listener) -> SourceHealth:
        """How a listener's source does now."""
        now, source = time.monotonic(), listener.stream.source
        with self._lock:
            noted = self._noted[source]
            return SourceHealth(
                source=source,
                condition=_condition(listener),
                idle_s=now - listener.moved_at,
                behind_s=listener.source.behind(),
                rms_dbfs=noted.rms_dbfs,
                windows=listener.windows,
                skipped=listener.skipped,
                overruns=listener.overruns,
                recent=tuple(listener.latencies.recent()),
                histogram=listener.latencies.histogram(),
                events=dict(noted.events),
            )


def _condition(listener: Listener) -> Condition:
    """How a source is. What the daemon could not wait for any longer has ended, too."""
    condition = listener.condition
    return replace(condition, state="ended") if listener.finished and condition.state != "ended" else condition


class Health:
    """The health of a running daemon. From any thread."""

    def __init__(
        self,
        node: str,
        listeners: Sequence[Listener],
        record: Record,
        sinks: Callable[[], Sequence[SinkHealth]] = lambda: (),
        counts: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """
        Args:
            record: a member of the listeners' sink.
            sinks: how each receiver of events does now.
            counts: sums over all sinks since the start, as `Sink.counts` has them.
        """
        self._node, self._listeners, self._record = node, listeners, record
        self._sinks, self._counts = sinks, counts
        self._started = time.monotonic()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            node=self._node,
            time=time.time(),
            uptime_s=time.monotonic() - self._started,
            sources=tuple(map(self._record.source, self._listeners)),
            sinks=tuple(self._sinks()),
            usage=usage(),
            counts=self._counts(),
        )

    def stats(self) -> dict[str, Any]:
        """The message on `stats`. Its latencies are those since the last call."""
        return self.snapshot().stats({each.stream.source: each.take_latencies() for each in self._listeners})
