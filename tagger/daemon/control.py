"""Requests to a running daemon: pause, thresholds, labels, a test. `Requests` publishes what these methods return."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tagger.daemon.state import StateFolder
from tagger.errors import UserError, near
from tagger.events import Event, Stream, new_id
from tagger.listen import Listener
from tagger.mqtt.topics import label_levels
from tagger.policy import Policy, with_threshold
from tagger.sinks import Sink

log = logging.getLogger(__name__)

_LONGEST_TEST_SECONDS = 60.0


class Control:
    """Changes a daemon while it runs. Its methods may be called from any thread."""

    def __init__(self, sink: Sink, state: StateFolder | None = None) -> None:
        self.listeners: Mapping[str, Listener] = {}
        """Listeners by the name of their source. Set before the first request can arrive."""
        self._sink, self._state = sink, state
        self._tests: dict[str, tuple[threading.Timer, Stream, Event, float]] = {}
        self._closed = False
        self._lock = threading.Lock()

    def pause(self, source: str | None, paused: bool) -> dict[str, Any]:
        for name, listener in self._of(source).items():
            if self._state is not None:
                self._state.pause(name, paused)
            listener.pause(paused)
        return {"sources": list(self._of(source)), "enabled": not paused}

    def threshold(self, source: str | None, label: str, enter: float) -> dict[str, Any]:
        listeners = self._of(source)
        changed = {
            name: listener.change_policy(lambda policy: with_threshold(policy, label, enter))
            for name, listener in listeners.items()
        }
        rules = next(iter(changed.values()))
        each = rules.each[rules.labels.index(label)]
        return {
            "sources": list(changed),
            "label": label,
            "enter": each.enter,
            "exit": each.exit,
            "until": "restart or reload",
        }

    def labels(self, source: str | None) -> dict[str, Any]:
        return {name: _labels(listener.policy) for name, listener in self._of(source).items()}

    def test(self, source: str | None, label: str, duration_s: float) -> dict[str, Any]:
        if not 0 <= duration_s <= _LONGEST_TEST_SECONDS:
            raise UserError(f"duration_s: must be from 0 to {_LONGEST_TEST_SECONDS:g} s")
        name, listener = next(iter(self._of(source).items()))
        stream = listener.stream
        if label not in stream.labels:
            raise UserError(f"label: this model has no {label[:60]!r}{near(label[:60], stream.labels)}")
        now = time.time()
        begin = Event("begin", new_id(now), label, 1.0, 1.0, now, cause="test")
        began = time.monotonic()  # the clock may be set meanwhile
        timer = threading.Timer(duration_s, lambda: self._end(begin.id))
        timer.daemon = True
        with self._lock:
            if self._closed:
                raise UserError("the daemon is stopping")
            self._tests[begin.id] = (timer, stream, begin, began)
            self._sink.event(stream, begin)
            timer.start()
        log.info("%s: a test was requested: %s for %g s", name, label, duration_s)
        return {"source": name, "label": label, "id": begin.id, "duration_s": duration_s}

    def close(self) -> None:
        """Ends the tests that are under way. A later `test` raises UserError."""
        with self._lock:
            self._closed = True
        for each in list(self._tests):
            self._end(each)

    def _end(self, event_id: str) -> None:
        with self._lock:
            if (test := self._tests.pop(event_id, None)) is not None:
                timer, stream, begin, began = test
                timer.cancel()
                offset = begin.onset + time.monotonic() - began
                self._sink.event(stream, replace(begin, type="end", offset=offset))

    def _of(self, source: str | None) -> dict[str, Listener]:
        if source is None:
            return dict(self.listeners)
        if source not in self.listeners:
            raise UserError(f"source: there is no {source[:60]!r}{near(source[:60], self.listeners)}")
        return {source: self.listeners[source]}


def _labels(policy: Policy) -> list[dict[str, Any]]:
    levels = label_levels(policy.names)
    labels = [
        {
            "label": name,
            "topic": levels[name],
            "enter": rules.enter,
            "exit": rules.exit,
            "announced": name not in policy.denied,
        }
        for name, rules in zip(policy.labels, policy.each, strict=True)
    ]
    return labels + [{"label": name, "topic": levels[name], "group": list(of)} for name, of in policy.groups.items()]
