"""The process in which a model's cost is measured: `python -m tagger.bench.worker`."""

import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from tagger.audio.window import SlidingWindows
from tagger.bench.audio import endless
from tagger.bench.child import serve
from tagger.bench.lanes import Lanes
from tagger.engine.runtime import open_model
from tagger.engine.scores import WindowClassifier
from tagger.errors import UserError
from tagger.events import Block, Samples, Scores
from tagger.listen import follow
from tagger.settings import MqttSettings
from tagger.sources import wait_idly

R = TypeVar("R")
_WARM_WINDOWS = 3
"""Windows before the first that is timed."""


class _Timer:
    """Processor time while some methods run, seconds: of all threads, since some runtimes have threads of their own."""

    def __init__(self) -> None:
        self.cpu_s = 0.0

    def around(self, method: Callable[..., R]) -> Callable[..., R]:
        @wraps(method)
        def timed(*args: Any, **named: Any) -> R:
            began = time.process_time()
            try:
                return method(*args, **named)
            finally:
                self.cpu_s += time.process_time() - began

        return timed


class _Timers:
    """Time in the two halves of a classifier's work, what it makes of each stream, and what it makes of a batch; and in
    what is measured beside it.
    """

    def __init__(self, classifier: WindowClassifier) -> None:
        self.features, self.network, self.levels = _Timer(), _Timer(), _Timer()
        preparer = classifier.preparer
        classifier.preparer = lambda *lengths: self.features.around(preparer(*lengths))  # type: ignore[method-assign]
        classifier.of_prepared = self.network.around(classifier.of_prepared)  # type: ignore[method-assign]


class Stream:
    """One source at full speed: what a second of its audio costs when nothing waits.

    Its blocks have the length of a microphone's. A `Listener` takes them, decides, and publishes every window.
    """

    def __init__(self, classifier: WindowClassifier, timers: _Timers, window_s: float, hop_s: float, port: int) -> None:
        """
        Args:
            port: where a broker is, on 127.0.0.1.

        Raises:
            TaggerError: the broker does not answer.
        """
        self._timers, self._hop_s = timers, hop_s
        self._source = _Gated(classifier.info.mel.sample_rate_hz)
        _share_lock_as_the_daemon()
        broker = MqttSettings(host="127.0.0.1", port=port)
        self._lanes = Lanes(classifier, window_s, hop_s, broker, timers.levels.around)
        self._lanes.add(self._source, self._source.count)
        self.run(_WARM_WINDOWS)

    def run(self, windows: int) -> dict[str, float]:
        """Processor time of so many windows, seconds: all, and that in the features, the network and the levels."""
        timers = self._timers
        features_s, network_s, levels_s = timers.features.cpu_s, timers.network.cpu_s, timers.levels.cpu_s
        wall, cpu = time.perf_counter(), time.process_time()
        self._source.let(windows)
        return {
            "audio_s": windows * self._hop_s,
            "windows": windows,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "features_s": timers.features.cpu_s - features_s,
            "network_s": timers.network.cpu_s - network_s,
            "levels_s": timers.levels.cpu_s - levels_s,
        }

    def close(self) -> None:
        self._source.close()
        self._lanes.close()


class _Gated:
    """The demo at full speed, as far as it is let."""

    live = False

    def __init__(self, rate_hz: int) -> None:
        self.name, self.description = "gated", "at full speed"
        self.on_wait: Callable[[float], None] = wait_idly
        self._rate_hz, self._let, self._counted = rate_hz, 0, 0
        """The last two: windows."""
        self._changed, self._closed = threading.Condition(), False

    def blocks(self) -> Iterator[Block]:
        for block in endless(self._rate_hz):
            with self._changed:
                self._changed.wait_for(lambda: self._counted < self._let or self._closed)
            if self._closed:
                return
            yield block

    def let(self, windows: int) -> None:
        """Returns when so many windows more have been published."""
        with self._changed:
            self._let += windows
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._counted >= self._let)

    def count(self) -> None:
        """A window has been published."""
        with self._changed:
            self._counted += 1
            self._changed.notify_all()

    def behind(self) -> float:
        return 0.0

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Bare:
    """One source at full speed, on this thread, as far as its scores: what EfficientAT's code is compared with."""

    def __init__(self, classifier: WindowClassifier, window_s: float, hop_s: float) -> None:
        rate_hz = classifier.info.mel.sample_rate_hz
        sliding = SlidingWindows.of_seconds(window_s, hop_s, rate_hz)
        self._scores: Iterator[Scores] = follow(endless(rate_hz), classifier.lane(sliding), sliding)
        self.run(_WARM_WINDOWS)

    def run(self, windows: int) -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in itertools.islice(self._scores, windows):
            pass
        return {"windows": windows, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


class Worker:
    """Answers the requests of `tagger.bench.parts`."""

    def __init__(self) -> None:
        self._classifier: WindowClassifier | None = None
        self._timers: _Timers | None = None
        self._stream: Stream | Bare | None = None
        self._lanes: Lanes | None = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request.pop("do")
        answer: dict[str, Any] = getattr(self, what)(**request)
        return answer

    def open(self, model: str, runtime: str, device: str = "auto") -> dict[str, Any]:
        began = time.monotonic()
        self._classifier = open_model(model, runtime, device)
        info = self._classifier.info
        return {
            "model": info.name,
            "runs_on": self._classifier.runs_on,
            "rate_hz": info.mel.sample_rate_hz,
            "window_s": info.window_seconds,
            "open_s": time.monotonic() - began,
        }

    def stream(self, window_s: float, hop_s: float, port: int) -> dict[str, Any]:
        if isinstance(self._stream, Stream):
            self._stream.close()
        self._timers = self._timers or _Timers(self._opened)
        self._stream = Stream(self._opened, self._timers, window_s, hop_s, port)
        return {}

    def bare(self, window_s: float, hop_s: float) -> dict[str, Any]:
        self._stream = Bare(self._opened, window_s, hop_s)
        return {}

    def run(self, windows: int) -> dict[str, Any]:
        assert self._stream is not None
        return self._stream.run(windows)

    def logits(self, samples: str, window_s: float, hop_s: float, out: str) -> dict[str, Any]:
        """Writes the logits of each window of a recording, [windows, labels], as they follow from the scores.

        Args:
            samples: file with the recording, [N], at the model's rate.
        """
        classifier = self._opened
        sliding = SlidingWindows.of_seconds(window_s, hop_s, classifier.info.mel.sample_rate_hz)
        blocks = [Block(np.load(samples), 0.0)]
        scores = [
            each.values.astype(np.float64) for each in follow(blocks, classifier.lane(sliding), sliding, flush=False)
        ]
        np.save(out, logits_of(np.stack(scores)))
        return {"windows": len(scores)}

    def lanes(self, window_s: float, hop_s: float, port: int | None) -> dict[str, Any]:
        broker = None if port is None else MqttSettings(host="127.0.0.1", port=port)
        _share_lock_as_the_daemon()
        self._lanes = Lanes(self._opened, window_s, hop_s, broker)
        return {}

    def resize(self, count: int) -> dict[str, Any]:
        assert self._lanes is not None
        self._lanes.resize(count)
        return {}

    def begin(self) -> dict[str, Any]:
        assert self._lanes is not None
        self._lanes.begin()
        return {}

    def count(self) -> dict[str, Any]:
        assert self._lanes is not None
        return vars(self._lanes.count())

    @property
    def _opened(self) -> WindowClassifier:
        if self._classifier is None:
            raise UserError("no model was opened")
        return self._classifier


def _share_lock_as_the_daemon() -> None:
    """Threads ask for Python's lock as seldom as in `tagger listen`."""
    from tagger.daemon.start import SWITCH_SECONDS

    sys.setswitchinterval(SWITCH_SECONDS)


def logits_of(scores: Samples) -> np.ndarray[Any, Any]:
    """Logits of sigmoid scores.

    >>> logits_of(np.array([0.5, 0.1])).round(3).tolist()
    [0.0, -2.197]
    """
    least = math.ulp(0.5)
    values = np.clip(scores.astype(np.float64), least, 1 - least)
    return np.asarray(np.log(values) - np.log1p(-values))


def main() -> None:
    worker = Worker()
    try:
        serve(worker.handle)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
