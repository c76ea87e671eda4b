"""The daemon as a worker has it: one engine, one set of sinks, and sources that come and go."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagger import unforeseen
from tagger.daemon.control import Control
from tagger.daemon.fanout import Fanout
from tagger.daemon.listeners import Listeners
from tagger.daemon.memory import share_arenas
from tagger.daemon.model import open_model
from tagger.daemon.outputs import OpenSinks, SinkContext
from tagger.daemon.record import Health, Record
from tagger.daemon.start import patient_threads
from tagger.daemon.state import StateFolder
from tagger.errors import TaggerError
from tagger.events import Event, Level, Report, Stream
from tagger.fleet.journal import ALIVE_SECONDS, Journal
from tagger.fleet.worker import Figures, Permit
from tagger.levels.process import MeasuringProcess
from tagger.listen import Listener
from tagger.settings import ListenSettings, channel_numbers
from tagger.sinks import Sink, SourceState
from tagger.sources import open_source
from tagger.sources.spec import Spec

log = logging.getLogger(__name__)

_HEADROOM = 0.6
"""Part of what the network could classify that is planned for. The rest is for decoding, levels and bad moments."""
_MOST_SKIPPED = 0.02
"""Part of the recent windows that may be skipped before a worker counts as full."""
_MEMORY = 0.9
"""Weight of the capacity so far against a new measurement, once a second."""
_JOIN_SECONDS = 1.0
"""Longest wait for listeners to finish the window in hand, seconds. Streams that are stopped together wait together."""
_CLOSE_SECONDS = 2.0
"""Longest wait for the last messages at the end, seconds."""
_TICK_SECONDS = 1.0


class LeasedSink(Sink):
    """Passes on what a stream's lease allows. What has begun may still end while the stream is being stopped; later on,
    another worker ends it.
    """

    def __init__(self, sink: Sink, permit: Permit) -> None:
        self._sink, self._permit = sink, permit
        self._begun: set[str] = set()
        """Ids of open events."""

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        self._sink.status(stream, state, detail)

    def event(self, stream: Stream, event: Event) -> None:
        if event.type == "begin":
            if not self._permit.may_hear():
                return
            self._begun.add(event.id)
        elif event.id in self._begun and self._permit.may_end():
            self._begun.remove(event.id)
        else:
            return
        self._sink.event(stream, event)

    def report(self, stream: Stream, report: Report) -> None:
        if self._permit.may_hear():
            self._sink.report(stream, report)

    def audio(self, stream: Stream, level: Level) -> None:
        if self._permit.may_hear():
            self._sink.audio(stream, level)


@dataclass
class _Heard:
    """A stream that is heard, or cannot be."""

    listener: Listener | None
    thread: threading.Thread | None = None
    problem: str = ""
    """Why it cannot be heard. Empty: it can."""


class DaemonHearing:
    """Hears streams as `tagger listen` does. A context manager: leaving it stops all."""

    def __init__(
        self, settings: ListenSettings, folder: Path, on_refused: Callable[[TaggerError], None], fleet: str
    ) -> None:
        """
        Args:
            settings: the worker's; its sources do not count.
            folder: the worker's state. Events that an earlier run left open there are ended with `takeover`.
            fleet: its name: workers of one fleet end what others of it left open.
            on_refused: called, in any thread, when the broker refuses for good.

        Raises:
            TaggerError: the model or a sink cannot be opened.
        """
        assert settings.mqtt is not None
        self._settings, self._node = settings, settings.mqtt.node
        self._folder, self._on_refused, self._fleet = folder, on_refused, fleet
        self._stack = ExitStack()
        self._heard: dict[str, _Heard] = {}
        self._listeners: list[Listener] = []
        self._by_name: dict[str, Listener] = {}
        self._capacity = 0.0

    def __enter__(self) -> "DaemonHearing":
        share_arenas()
        self._stack.enter_context(patient_threads())
        settings = self._settings
        self._model = open_model(settings)
        rate_hz = self._model.rate_hz
        self._model.classifier.warm_up(round(self._model.window_s * rate_hz))
        self._warm_engine()
        state = StateFolder(self._folder)
        self._stack.callback(state.close)
        record = Record()
        self.fanout = Fanout([record], state)
        control = Control(self.fanout, state)
        assert settings.mqtt is not None
        self._journal = Journal(settings.mqtt, self._fleet, self.fanout.event, self.fanout.forget)
        context = SinkContext(settings, settings.mqtt, (), {}, state, control, self._on_refused, self._journal)
        outputs = OpenSinks(context, self.fanout)
        control.listeners = self._by_name
        self._health = Health(self._node, self._listeners, record, outputs.health, self.fanout.counts)
        for stream, end in state.left_open("takeover"):
            self._journal.restore(stream, end)
        self.fanout.open(())
        self._stack.callback(self._close_sinks)
        measuring = self._stack.enter_context(MeasuringProcess())
        self._make = Listeners.of(settings, self._model, measuring.measurer)
        ticking = threading.Event()
        threading.Thread(target=self._tick, args=[ticking, state], name="alive", daemon=True).start()
        self._stack.callback(ticking.set)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._heard))
        self._stack.close()

    def start(self, stream: str, source: str, permit: Permit) -> None:
        try:
            listener = self._listener(stream, source, permit)
        except TaggerError as error:
            log.warning("%s: %s", stream, error)
            self._heard[stream] = _Heard(None, problem=str(error))
            return
        except Exception as error:  # whatever a source's text leads to
            unforeseen.tell("fleet: a source", error)
            self._heard[stream] = _Heard(None, problem=f"cannot be opened ({type(error).__name__}); the log says why")
            return
        thread = threading.Thread(target=self._follow, args=[listener], name=stream, daemon=True)
        self._heard[stream] = _Heard(listener, thread)
        self._listeners.append(listener)
        self._by_name[stream] = listener
        thread.start()

    def stop(self, streams: Collection[str]) -> None:
        stopped = [self._heard.pop(stream) for stream in streams if stream in self._heard]
        for each in stopped:
            if each.listener is not None:
                each.listener.stop()
        until = time.monotonic() + _JOIN_SECONDS
        for each in stopped:
            if each.listener is not None and each.thread is not None:
                each.thread.join(max(0.0, until - time.monotonic()))
                each.listener.finish("heard by another worker")
                self._listeners.remove(each.listener)
                del self._by_name[each.listener.stream.source]
                self.fanout.leave(each.listener.stream)
                self._journal.leaves(each.listener.stream.source)

    def figures(self) -> Figures:
        snapshot = self._health.snapshot()
        streams: dict[str, dict[str, Any]] = {}
        for each in snapshot.sources:
            latency_s = max(each.latencies_s, default=None)
            streams[each.source] = {
                "state": each.condition.state,
                "detail": each.condition.detail or each.condition.reason,
                "windows": each.windows,
                "skipped": each.skipped,
                "latency_s": None if latency_s is None else round(latency_s, 3),
                "events": sum(each.events.values()),
            }
        for stream, heard in self._heard.copy().items():
            if heard.problem:
                streams[stream] = {"state": "failed", "detail": heard.problem}
        recent = [latency for each in snapshot.sources for latency in each.recent]
        self._measure(len(snapshot.sources), recent.count(None) / len(recent) if recent else 0.0)
        trouble = next((f"{each.name}: {each.trouble}" for each in snapshot.sinks if each.trouble is not None), None)
        return Figures(self._capacity, snapshot.counts.get("waiting", 0), streams, trouble)

    def _measure(self, count: int, skipped: float) -> None:
        """Follows what the engine can do, by the batches that it has run; a worker that skips windows is full."""
        possible = _HEADROOM * self._model.classifier.engine.windows_per_s * self._settings.hop_seconds
        if skipped > _MOST_SKIPPED:
            possible = min(possible, (1 - skipped) * count)
        self._capacity = _MEMORY * self._capacity + (1 - _MEMORY) * possible if self._capacity else possible

    def _warm_engine(self) -> None:
        """Runs some windows, so that the engine knows what they cost."""
        import numpy as np

        from tagger.events import Window

        size = round(self._model.window_s * self._model.rate_hz)
        silence = Window(np.zeros(size, np.float32), 0, size, 0.0)
        for _ in range(5):
            self._model.classifier.classify([silence])

    def _listener(self, name: str, source: str, permit: Permit) -> Listener:
        settings, model, spec = self._settings, self._model, Spec.parse(source)
        own = replace(settings, sources=(source,))
        (policy,) = model.policies(own)
        opened = open_source(
            source, model.rate_hz, settings.realtime, settings.pcm, channel_numbers(settings.channel), is_dated=True
        )
        stream = Stream(self._node, name, model.info.name, policy.names, model.deciders(own))
        self.fanout.join(stream)
        self._journal.hears(stream, permit.epoch or 0, permit.may_hear)
        return self._make.listener(opened, spec, stream, LeasedSink(self.fanout, permit), policy)

    def _follow(self, listener: Listener) -> None:
        try:
            listener.run()
        except Exception:  # one stream's failure is not the others'; it is shown as ended
            log.exception("%s: its thread has failed", listener.stream.source)

    def _tick(self, ending: threading.Event, state: StateFolder) -> None:
        """Notes that open events are still open, takes over those of others, and publishes statistics."""
        last = noted = time.monotonic()
        while not ending.wait(_TICK_SECONDS):
            now = time.monotonic()
            self._journal.tick()
            if now - noted >= ALIVE_SECONDS:
                noted = now
                state.alive()
            if now - last >= self._settings.stats_s:
                last = now
                self.fanout.stats(self._health.stats())

    def _close_sinks(self) -> None:
        with suppress(TaggerError):
            self.fanout.close(_CLOSE_SECONDS)
