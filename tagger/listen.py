"""The daemon: blocks -> windows -> classifier -> decide -> sinks, one plain loop for each source."""

import logging
import threading
import time
from collections.abc import Sequence

from tagger.classifier import Classifier
from tagger.clips import ClipSaver
from tagger.decide import Decider
from tagger.errors import TaggerError
from tagger.events import Event, Report, Scores, Stream, Window
from tagger.policy import Policy
from tagger.sinks import Sink, SourceState
from tagger.sources import Source
from tagger.stop import Stop
from tagger.window import SlidingWindows

log = logging.getLogger(__name__)

_DELIVERY_SECONDS = 10.0
"""At a stream's own end, so long may the last messages take to reach the broker."""
_DELIVERY_SECONDS_INTERRUPTED = 2.0
"""The same, when someone waits for the daemon to stop."""
_JOIN_SECONDS = 2.0
"""So long may a listener take to finish the window in hand."""
_RETRY_SECONDS = (1.0, 60.0)
"""First and longest wait before a broken live source is tried again."""


class Listener:
    """Follows one source, in a thread of its own."""

    def __init__(
        self,
        source: Source,
        stream: Stream,
        classify: Classifier,
        turn: threading.Lock,
        sinks: Sequence[Sink],
        window_s: float,
        hop_s: float,
        policy: Policy,
        top_k: int,
        clips: ClipSaver | None = None,
    ) -> None:
        rate_hz = classify.info.mel.sample_rate_hz
        self.source, self.stream = source, stream
        self.error: TaggerError | None = None
        self.windows, self.skipped = 0, 0
        self._online = False
        self._classify, self._turn, self._sinks = classify, turn, sinks
        self._sliding = SlidingWindows(round(window_s * rate_hz), round(hop_s * rate_hz), rate_hz)
        self._decider = Decider(policy)
        self._clips = clips
        self._rate_hz, self._hop_s, self._top_k = rate_hz, hop_s, top_k
        self._stopping = threading.Event()
        self._finishing = threading.Lock()

    def run(self) -> None:
        """Until the source ends or is stopped. A live source that breaks is tried again; another's error is kept."""
        wait_s = _RETRY_SECONDS[0]
        while not self._stopping.is_set():
            heard = self.windows
            try:
                self._follow()
                self._hear_rest()
                break
            except TaggerError as error:
                if not self.source.live:
                    self.error = error
                    self._hear_rest()
                    break
                wait_s = _RETRY_SECONDS[0] if self.windows > heard else min(2 * wait_s, _RETRY_SECONDS[1])
                log.warning("%s: %s; trying again in %g s", self.stream.source, error, wait_s)
                self._end_events()
                self._tell_status("offline", str(error))
                self._stopping.wait(wait_s)
        why = "stopped" if self._stopping.is_set() else "ended"
        self.finish(why if self.error is None else str(self.error))

    def stop(self) -> None:
        """Makes `run` return soon. From any thread."""
        self._stopping.set()
        self.source.close()

    def finish(self, why: str) -> None:
        """Ends open events and says that the source is gone. The first call counts: `run`'s, or the daemon's."""
        if self._finishing.acquire(blocking=False):
            self._end_events()
            if self._clips is not None:
                self._clips.close()
            self._tell_status("offline", why)

    @property
    def finished(self) -> bool:
        return self._finishing.locked()

    def _follow(self) -> None:
        """The loop. Time of a window's last sample to the sinks: one pass."""
        for block in self.source.blocks():
            arrived = time.monotonic()
            if not self._online:
                self._tell_status("online", self.source.description)
            if self._clips is not None:
                self._clips.heard(block)
            for window in self._sliding.feed(block):
                if self.source.behind() > self._hop_s:
                    self._skip(window)
                else:
                    self._hear(window, arrived)

    def _hear_rest(self) -> None:
        if not self._stopping.is_set():
            for window in self._sliding.flush():
                self._hear(window, time.monotonic())

    def _hear(self, window: Window, arrived: float) -> None:
        with self._turn:
            heard = self._classify(window.samples[None])
        if self.finished:  # the daemon could not wait any longer
            return
        scores = Scores.of(window, heard, 0, self._rate_hz)
        self._tell(self._decider.update(scores))
        report = Report(scores, *self._decider.answers(scores, self._top_k), time.monotonic() - arrived)
        for sink in self._sinks:
            sink.report(self.stream, report)
        self.windows += 1

    def _skip(self, window: Window) -> None:
        """The next window is nearly here: looking at this one would only make its labels late."""
        self.skipped += 1
        if self.skipped & (self.skipped - 1) == 0:  # 1st, 2nd, 4th, 8th ...: said, but never a flood
            log.warning(
                "%s: inference is slower than the hop of %g s; %d of %d windows skipped so far; use a longer --hop",
                *(self.stream.source, self._hop_s, self.skipped, self.skipped + self.windows),
            )

    def _end_events(self) -> None:
        self._tell(self._decider.close())

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            for sink in self._sinks:
                sink.event(self.stream, event)
            if self._clips is not None:
                self._clips.event(event)

    def _tell_status(self, state: SourceState, detail: str) -> None:
        self._online = state == "online"
        for sink in self._sinks:
            sink.status(self.stream, state, detail)


class Daemon:
    """All listeners, until their sources end or someone asks to stop."""

    def __init__(self, listeners: Sequence[Listener], sinks: Sequence[Sink], stop: Stop) -> None:
        self._listeners, self._sinks, self._stop = listeners, sinks, stop

    def run(self) -> None:
        """Returns when everything was heard, or when asked to stop.

        Raises:
            TaggerError: a source or a sink failed. Everything else was delivered before. After an interruption it is
                only said: whoever stopped the daemon knows that not all was heard.
        """
        threads = [threading.Thread(target=self._follow, args=[each], daemon=True) for each in self._listeners]
        for thread in threads:
            thread.start()
        self._stop.wait()
        for listener in self._listeners:
            listener.stop()
        for thread in threads:
            thread.join(timeout=_JOIN_SECONDS)
        for listener in self._listeners:
            listener.finish("stopped")
        self._close_sinks()
        errors = [self._stop.failure, *(listener.error for listener in self._listeners)]
        for error in errors:
            if error is not None and self._stop.interrupted:
                log.warning("%s", error)
            elif error is not None:
                raise error

    def _close_sinks(self) -> None:
        for sink in self._sinks:
            try:
                sink.close(_DELIVERY_SECONDS_INTERRUPTED if self._stop.interrupted else _DELIVERY_SECONDS)
            except TaggerError as error:
                self._stop.fail(error)

    def _follow(self, listener: Listener) -> None:
        try:
            listener.run()
        except Exception as error:
            log.debug("in the listener's thread", exc_info=True)
            self._stop.fail(TaggerError(f"{listener.stream.source}: {type(error).__name__}: {error}"))
        if all(each.finished for each in self._listeners):
            self._stop.set()
