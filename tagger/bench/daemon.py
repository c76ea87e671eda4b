"""A daemon in its own process, fed through a pipe at the pace of a microphone, and heard through a broker."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from tagger.bench.audio import BLOCK_S, demo
from tagger.bench.broker import Broker
from tagger.bench.child import end, last_words
from tagger.bench.usage import Usage, usage
from tagger.errors import TaggerError
from tagger.mqtt.connection import Connection
from tagger.mqtt.topics import Topics
from tagger.settings import MqttSettings

NODE, SOURCE = "bench", "stdin"
_PATIENCE_SECONDS = 60.0
"""Longest wait for a daemon's first message, seconds."""
_SETTLE_SECONDS = 1.0
"""Time from the first score to the measurement of what listening costs."""
_AFTER_SECONDS = 0.5
"""Time after the last sample in which messages are waited for."""


@dataclass(frozen=True)
class Program:
    """A tagger that is installed somewhere: this one, or one to compare with."""

    command: Sequence[str] = (sys.executable, "-m", "tagger")
    env: Mapping[str, str] = field(default_factory=dict)
    """Changes to the environment."""
    cwd: str | None = None


@dataclass(frozen=True)
class Start:
    """How soon a fresh process was there."""

    ready_s: float
    """From its start to its source's `online` at a subscriber, with the model ready."""
    first_score_s: float
    """From its start to its first window's scores at a subscriber; all the sound of that window was there at once."""


@dataclass(frozen=True)
class Listening:
    """What some seconds of one live source cost."""

    seconds: float
    cpu_s: float
    """Processor time of the whole process, seconds."""
    resident_bytes: int
    latencies_s: tuple[float, ...]
    """Of each window: from its last sample, written to the pipe, to its message at a subscriber."""


class Subscriber:
    """Notes when a daemon's messages arrive. Its connection has a thread of its own."""

    def __init__(self, broker: Broker) -> None:
        """
        Raises:
            TaggerError: the broker does not answer.
        """
        topics = Topics("tagger", NODE)
        self._scores, self._status = topics.scores(SOURCE), topics.source_status(SOURCE)
        self.scores: dict[float, float] = {}
        """End of a window in its stream, seconds -> monotonic time at which its message arrived."""
        self.first_score, self.online = threading.Event(), threading.Event()
        self.first_score_at = self.online_at = 0.0
        self._connection = Connection(MqttSettings(host="127.0.0.1", port=broker.port), None, quiet=True)
        self._connection.on_message = self._take
        subscribed = threading.Event()
        self._connection.on_connected = lambda: self._connection.subscribe([self._scores, self._status])
        self._connection.on_subscribed = subscribed.set
        self._connection.start()
        if not subscribed.wait(_PATIENCE_SECONDS):
            raise TaggerError(f"{broker.name} does not answer")

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        now = time.monotonic()
        if topic == self._scores:
            self.scores[json.loads(payload)["end"]] = now
            if not self.first_score.is_set():
                self.first_score_at = now
                self.first_score.set()
        elif payload == b"online" and not retained and not self.online.is_set():
            self.online_at = now
            self.online.set()

    def close(self) -> None:
        self._connection.stop()


class Daemon:
    """`tagger listen -`, which is ended at the end of the `with` block. It sees no configuration of the user's."""

    def __init__(
        self,
        broker: Broker,
        model: str,
        rate_hz: int,
        window_s: float,
        hop_s: float,
        runtime: str | None = None,
        program: Program | None = None,
    ) -> None:
        """
        Args:
            model: a name that it knows, or the checkpoint's path.
            rate_hz: rate of the samples in the pipe: the model's.
            runtime: None: that which it chooses.
        """
        program = program or Program()
        self._rate_hz, self._window_s = rate_hz, window_s
        samples = np.clip(demo(rate_hz), -1, 1)
        self._pcm = (samples * np.float32(32_767)).astype("<i2")
        self._written = 0
        """Samples."""
        self._home = tempfile.TemporaryDirectory()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self.subscriber = Subscriber(broker)
        command = [*program.command, "listen", f"{SOURCE}=-", "--model", model, "--node", NODE]
        command += ["--hop", f"{hop_s:g}", "--window", f"{window_s:g}", "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
        command += [] if runtime is None else ["--runtime", runtime]
        own = {key: value for key, value in os.environ.items() if not key.startswith("TAGGER_")}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env={**own, "TAGGER_HOME": self._home.name, **program.env},
            cwd=program.cwd,
            start_new_session=True,
        )

    def start(self) -> Start:
        """Gives it the first window at once. Returns when its scores have arrived.

        Raises:
            TaggerError: it ended, or did not answer.
        """
        self._write(round(self._window_s * self._rate_hz))
        self._wait(self.subscriber.first_score)
        self._wait(self.subscriber.online)
        at = self.subscriber
        return Start(at.online_at - self.began, at.first_score_at - self.began)

    def listen(self, seconds: float, tick: Callable[[float], None] = lambda seconds: None) -> Listening:
        """Feeds it at the pace of the clock, and measures.

        Args:
            tick: called with the seconds that have passed since the last call.

        Raises:
            TaggerError: it ended.
        """
        block = round(BLOCK_S * self._rate_hz)
        began, at_start = time.monotonic(), self._written
        written: dict[int, float] = {}
        before: tuple[float, Usage] | None = None
        while True:
            given_s = (self._written - at_start) / self._rate_hz
            if before is None and given_s >= _SETTLE_SECONDS:
                before = time.monotonic(), usage(self.process.pid)
            if before is not None and given_s >= _SETTLE_SECONDS + seconds:
                break
            time.sleep(max(0.0, began + given_s + BLOCK_S - time.monotonic()))
            self._write(block)
            written[self._written] = time.monotonic()
            tick(BLOCK_S)
        now, after = time.monotonic(), usage(self.process.pid)
        time.sleep(_AFTER_SECONDS)
        arrived = {round(end_s * self._rate_hz): at for end_s, at in dict(self.subscriber.scores).items()}
        latencies = tuple(at - written[samples] for samples, at in sorted(arrived.items()) if samples in written)
        return Listening(now - before[0], after.cpu_s - before[1].cpu_s, after.resident_bytes, latencies)

    def _write(self, samples: int) -> None:
        """Writes the next samples of the demo, which repeats."""
        assert self.process.stdin is not None
        at = (self._written + np.arange(samples)) % len(self._pcm)
        try:
            self.process.stdin.write(self._pcm[at].tobytes())
            self.process.stdin.flush()
        except OSError:
            raise TaggerError(f"the daemon ended: {last_words(self.process, self._said)}") from None
        self._written += samples

    def _wait(self, event: threading.Event) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not event.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TaggerError(f"the daemon did not publish: {last_words(self.process, self._said)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end(self.process)
        self.subscriber.close()
        self._said.close()
        self._home.cleanup()


def quantiles_ms(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 99th percentile and the longest of some times, milliseconds; `windows` is their number."""
    if not seconds:
        return {"windows": 0, "median_ms": None, "p99_ms": None, "longest_ms": None}
    median, p99 = (float(1000 * each) for each in np.quantile(seconds, (0.5, 0.99)))
    return {"windows": len(seconds), "median_ms": median, "p99_ms": p99, "longest_ms": 1000 * max(seconds)}
