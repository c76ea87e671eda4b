"""Live sources that are simulated: each has its thread and its loop, as a microphone has, and is as late as one."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.bench.audio import BLOCK_S, demo
from tagger.bench.usage import usage
from tagger.daemon.listeners import Listeners
from tagger.engine.scores import WindowClassifier
from tagger.errors import TaggerError
from tagger.events import Block, Event, Level, Report, Samples, Stream
from tagger.latencies import SkipLog
from tagger.levels.measure import Measurer
from tagger.levels.process import MANY, MeasuringProcess
from tagger.listen import Listener
from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.topics import Topics
from tagger.policy import ALARMS, policy
from tagger.settings import MqttSettings
from tagger.sinks import Sink
from tagger.sources import Source, wait_idly
from tagger.sources.spec import Spec

NODE = "bench"
_GOLDEN = 0.618033988749895
"""Phases of sources are multiples of this, modulo a hop: spread evenly, however many there are."""
_APART_BLOCKS = 37
"""Distance in the demo between the places where two sources begin, blocks."""
_CONNECT_SECONDS = 10.0
_NEVER_S = 1e6
"""Lag where no window was classified."""
_TOP = 5
"""Labels in a report: the daemon's default."""
_SPEC = Spec(None, "demo")
"""A source without options of its own."""
_AUDIO_S = 10.0
"""Time between two levels: the daemon's default."""


class LiveSource:
    """The demo at the pace of the clock, 50 ms at a time. All but the last of the first window comes at once."""

    live = True

    def __init__(self, number: int, samples: Samples, rate_hz: int, ahead_s: float, phase_s: float) -> None:
        """
        Args:
            number: in its name; each begins at another place of the demo.
            samples: [N], a whole number of blocks.
            ahead_s: length of what comes at once.
            phase_s: time to wait before it.
        """
        self.name, self.description = f"lane{number}", "simulated"
        self.on_wait: Callable[[float], None] = wait_idly
        self._samples, self._rate_hz, self._ahead_s, self._phase_s = samples, rate_hz, ahead_s, phase_s
        self._first_block = _APART_BLOCKS * number
        self._began = time.monotonic() + phase_s
        self._given = 0
        """Blocks that were given at the pace of the clock."""
        self._closed = threading.Event()

    def blocks(self) -> Iterator[Block]:
        began_wall = time.time() + self._phase_s
        block, size = round(BLOCK_S * self._rate_hz), len(self._samples)
        at = self._first_block * block % size
        self._closed.wait(self._phase_s)
        ahead = round(self._ahead_s / BLOCK_S) * block
        yield Block(np.take(self._samples, np.arange(at, at + ahead), mode="wrap"), began_wall - self._ahead_s)
        at += ahead
        while not self._closed.is_set():
            due = self._began + (self._given + 1) * BLOCK_S
            if (wait_s := due - time.monotonic()) > 0:
                time.sleep(wait_s)
            start = at % size
            yield Block(self._samples[start : start + block], began_wall + self._given * BLOCK_S)
            self._given += 1
            at += block

    def behind(self) -> float:
        complete = int((time.monotonic() - self._began) / BLOCK_S)
        return max(0, complete - self._given - 1) * BLOCK_S

    def close(self) -> None:
        self._closed.set()


class _Publisher(Sink):
    """Publishes the report of every window, as the daemon's sink does."""

    def __init__(self, connection: Connection | None, on_report: Callable[[], None]) -> None:
        self._connection, self._on_report, self._topics = connection, on_report, Topics("tagger", NODE)

    def report(self, stream: Stream, report: Report) -> None:
        self._publish(self._topics.scores(stream.source), report.to_json(stream))
        self._on_report()

    def audio(self, stream: Stream, level: Level) -> None:
        self._publish(self._topics.audio(stream.source), level.to_json(stream))

    def _publish(self, topic: str, message: Mapping[str, Any]) -> None:
        payload = json.dumps(message, allow_nan=False)
        if self._connection is not None:
            self._connection.publish(Outgoing(topic, payload, qos=0))


def _ignore() -> None:
    pass


@dataclass(frozen=True)
class LanesResult:
    """What some seconds of live sources showed."""

    streams: int
    seconds: float
    windows: int
    skipped: int
    lag_p50_s: float
    """From the arrival of a window's last sample to its report."""
    lag_p99_s: float
    lag_most_s: float
    cpu_s: float
    """Processor time of the process and of that which measures levels, sources and publishing included."""


class Lanes:
    """Live sources that share one model. Their number can change."""

    def __init__(
        self,
        classifier: WindowClassifier,
        window_s: float,
        hop_s: float,
        broker: MqttSettings | None = None,
        timed: Callable[[Callable[[Block], list[Event]]], Callable[[Block], list[Event]]] = lambda method: method,
    ) -> None:
        """
        Args:
            broker: where reports are published. None: they are made, and dropped.
            timed: is given what measures a source's levels, and returns what is called instead.

        Raises:
            TaggerError: the broker does not answer.
        """
        self._classifier, self._window_s, self._hop_s, self._timed = classifier, window_s, hop_s, timed
        self._rate_hz = classifier.info.mel.sample_rate_hz
        self._samples = demo(self._rate_hz)
        labels, thresholds = classifier.info.labels, classifier.info.thresholds
        self._policy = policy(labels, thresholds, window_s, hop_s, detected=ALARMS)
        self._connection = None if broker is None else _connected(broker)
        self._skips = SkipLog(hop_s)
        self._numbers = itertools.count()
        self._lanes: list[tuple[Listener, threading.Thread]] = []
        self._stack = ExitStack()
        self._measuring: MeasuringProcess | None = None
        self._before = 0.0, 0.0, 0, 0
        """At the last `begin`: monotonic time, processor time, windows, skipped ones."""
        classifier.warm_up(round(window_s * self._rate_hz))

    def resize(self, count: int) -> None:
        """Starts or stops sources, until there are so many."""
        if count >= MANY and self._measuring is None:  # as in the daemon, all are measured in one place
            self.resize(0)
            self._measuring = self._stack.enter_context(MeasuringProcess())
        leaving = self._lanes[count:]
        del self._lanes[count:]
        for listener, _ in leaving:
            listener.stop()
        for _, thread in leaving:
            thread.join()
        while len(self._lanes) < count:
            self._lanes.append(self._start(next(self._numbers)))

    def _start(self, number: int) -> tuple[Listener, threading.Thread]:
        phase_s = number * _GOLDEN % 1.0 * self._hop_s
        ahead_s = max(BLOCK_S, self._window_s - self._hop_s)
        return self._listen(LiveSource(number, self._samples, self._rate_hz, ahead_s, phase_s), _ignore)

    def add(self, source: Source, on_report: Callable[[], None]) -> None:
        """One more source.

        Args:
            on_report: called after each window that is published.
        """
        self._lanes.append(self._listen(source, on_report))

    def _listen(self, source: Source, on_report: Callable[[], None]) -> tuple[Listener, threading.Thread]:
        stream = Stream(NODE, source.name, self._classifier.info.name, self._policy.names)
        sink = _Publisher(self._connection, on_report)
        measuring = Measurer if self._measuring is None else self._measuring.measurer
        make = Listeners(self._classifier, self._window_s, self._hop_s, _TOP, _AUDIO_S, True, measuring, self._skips)
        monitor = make.monitor(self._policy, _SPEC)
        monitor.heard = self._timed(monitor.heard)  # type: ignore[method-assign,assignment]
        listener = make.listener(source, _SPEC, stream, sink, self._policy, monitor)
        thread = threading.Thread(target=listener.run, name=source.name, daemon=True)
        thread.start()
        return listener, thread

    def begin(self) -> None:
        """Counts from now on."""
        listeners = [listener for listener, _ in self._lanes]
        for each in listeners:
            each.take_latencies()
        self._before = time.monotonic(), self._cpu_s(), *_counts(listeners)

    def count(self) -> LanesResult:
        """What happened since `begin`."""
        listeners = [listener for listener, _ in self._lanes]
        began, cpu_s, windows, skipped = self._before
        passed_s, used_s = time.monotonic() - began, self._cpu_s() - cpu_s
        now_windows, now_skipped = _counts(listeners)
        lags = np.array([lag for each in listeners for lag in each.take_latencies()] or [_NEVER_S])
        p50, p99 = (float(each) for each in np.quantile(lags, (0.5, 0.99)))
        return LanesResult(
            streams=len(listeners),
            seconds=passed_s,
            windows=now_windows - windows,
            skipped=now_skipped - skipped,
            lag_p50_s=p50,
            lag_p99_s=p99,
            lag_most_s=float(lags.max()),
            cpu_s=used_s,
        )

    def _cpu_s(self) -> float:
        pid = None if self._measuring is None else self._measuring.pid
        return time.process_time() + (0.0 if pid is None else usage(pid).cpu_s)

    def close(self) -> None:
        self.resize(0)
        self._stack.close()
        if self._connection is not None:
            self._connection.stop()


def _counts(listeners: list[Listener]) -> tuple[int, int]:
    return sum(each.windows for each in listeners), sum(each.skipped for each in listeners)


def _connected(broker: MqttSettings) -> Connection:
    connection = Connection(broker, on_refused=None, quiet=True)
    connection.start()
    if not connection.ready.wait(_CONNECT_SECONDS):
        connection.stop()
        raise TaggerError(f"the broker at {broker.host}:{broker.port} does not answer")
    return connection
