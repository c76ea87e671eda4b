"""The daemon: blocks -> windows -> classifier -> decide -> sinks, one plain loop for each source.

What others ask of a listener (`pause`, `adopt`) is noted, and done by the loop itself, between two blocks.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tagger.audio.level import LevelMeter
from tagger.audio.window import SlidingWindows
from tagger.clips.saver import ClipSaver
from tagger.decide import Decider
from tagger.engine.runtime_torch import Classifier
from tagger.errors import TaggerError
from tagger.events import Block, Event, Report, Scores, Stream, Window
from tagger.policy import Policy
from tagger.retry import Retry, is_power_of_two
from tagger.sinks import Sink, SourceState
from tagger.sources import Source
from tagger.stop import Stop

log = logging.getLogger(__name__)

_DELIVERY_SECONDS = 10.0
"""At a stream's own end, so long may the last messages take to reach the broker."""
_DELIVERY_SECONDS_INTERRUPTED = 2.0
"""The same, when someone waits for the daemon to stop."""
_JOIN_SECONDS = 2.0
"""So long may a listener take to finish the window in hand."""
_LATENCIES = 10_000
"""So many are kept for the next statistics."""
_PAUSED = "paused"
_WAITING = "trying again in {first:g} s, then less often, up to every {longest:g} s"
"""What happens while a live source is away."""


class Listener:
    """Follows one source, in a thread of its own."""

    def __init__(
        self,
        source: Source,
        stream: Stream,
        classify: Classifier,
        turn: threading.Lock,
        sink: Sink,
        window_s: float,
        hop_s: float,
        policy: Policy,
        top_k: int,
        clips: ClipSaver | None = None,
        audio_s: float = 10.0,
        paused: bool = False,
    ) -> None:
        rate_hz = classify.info.mel.sample_rate_hz
        self.source, self.stream = source, stream
        self.error: TaggerError | None = None
        self.windows, self.skipped, self.overruns, self.reconnects = 0, 0, 0, 0
        self.paused = paused
        """What is heard goes nowhere."""
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._online, self._was_online = False, False
        self._is_resumed = False
        """The next block is the first after a pause."""
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._level = LevelMeter(rate_hz, audio_s)
        self._classify, self._turn, self._sink = classify, turn, sink
        self._sliding = SlidingWindows(round(window_s * rate_hz), round(hop_s * rate_hz), rate_hz)
        self._decider, self._policy = Decider(policy), policy
        self._adopting = threading.Lock()
        self._clips = clips
        self._rate_hz, self._hop_s, self._top_k = rate_hz, hop_s, top_k
        self._stopping, self._called = threading.Event(), threading.Event()
        self._lock = threading.RLock()
        """Held by whichever thread touches the decider or the clips, or says something of the source: the listener's
        own, and at the end, if that takes too long, the daemon's in `finish`.
        """
        self._finished = False
        self._retry = Retry(stream.source, _WAITING)

    def run(self) -> None:
        """Until the source ends or is stopped. A live source that breaks is tried again; another's error is kept."""
        if self.paused:
            self._tell_status("disabled", _PAUSED)
        while not self._stopping.is_set():
            try:
                self._follow()
                self._hear_rest()
                break
            except TaggerError as error:
                if not self.source.live:
                    self.error = error
                    self._hear_rest()
                    break
                wait_s = self._retry.failed(str(error))
                with self._lock:
                    if self._finished:
                        break
                    self._end_events()
                    self._tell_status("disabled" if self.paused else "offline", str(error))
                self._wait(wait_s)
        why = "stopped" if self._stopping.is_set() else "ended"
        self.finish(why if self.error is None else str(self.error))

    def stop(self) -> None:
        """Makes `run` return soon. From any thread."""
        self._stopping.set()
        self._called.set()
        self.source.close()

    def pause(self, paused: bool) -> None:
        """Ends open events, and from then on forgets what is heard; or hears again. From any thread."""
        self._ask(lambda: self._pause(paused))

    def adopt(self, policy: Policy, stream: Stream) -> None:
        """Other rules from the next window on, and the names of what they announce. From any thread."""
        with self._adopting:
            self._policy = policy
            self._ask(lambda: self._adopt(policy, stream))

    def amend(self, change: Callable[[Policy], Policy]) -> Policy:
        """Changes the rules that were adopted last, and returns what they are now. From any thread; raises what
        `change` raises.
        """
        with self._adopting:
            self._policy = policy = change(self._policy)
            self._ask(lambda: self._tell(self._decider.adopt(policy)))
        return policy

    @property
    def policy(self) -> Policy:
        """Adopted last; in force from the next block on."""
        return self._policy

    def take_latencies(self) -> list[float]:
        """Of the windows since the last call, seconds; from any thread."""
        taken = []
        while self._latencies:
            taken.append(self._latencies.popleft())
        return taken

    def finish(self, why: str) -> None:
        """Ends open events and says that the source is gone. The first call counts: `run`'s, or the daemon's."""
        with self._lock:
            if self._finished:
                return
            self._end_events()
            if self._clips is not None:
                self._clips.close()
            self._tell_status("offline", why)
            self._finished = True

    @property
    def finished(self) -> bool:
        return self._finished

    def _follow(self) -> None:
        """The loop. Time of a window's last sample to the sinks: one pass."""
        for each in self.source.blocks():
            arrived = time.monotonic()
            with self._lock:
                if self._finished:  # the daemon could not wait any longer
                    return
                self._obey()
                if self.paused:
                    continue
                if not self._online:
                    self.reconnects += self._was_online and not self._is_resumed
                    self._tell_status("online", self.source.description)
                elif each.gap:
                    self.overruns += 1
                block = replace(each, gap=True) if self._is_resumed else each
                self._is_resumed = False
                if (level := self._level.feed(block)) is not None:
                    self._sink.audio(self.stream, level)
                if self._clips is not None:
                    self._clips.heard(block)
            self._take_in(block, arrived)

    def _take_in(self, block: Block, arrived: float) -> None:
        for window in self._sliding.feed(block):
            if self.source.behind() > self._hop_s:
                self._skip(window)
            else:
                self._hear(window, arrived)

    def _hear_rest(self) -> None:
        if not (self._stopping.is_set() or self.paused):
            for window in self._sliding.flush():
                self._hear(window, time.monotonic())

    def _hear(self, window: Window, arrived: float) -> None:
        with self._turn:
            heard = self._classify(window.samples[None])
        scores = Scores.of(window, heard, 0, self._rate_hz)
        with self._lock:
            if self._finished:
                return
            self._tell(self._decider.update(scores))
            latency_s = time.monotonic() - arrived
            self._latencies.append(latency_s)
            report = Report(scores, *self._decider.answers(scores, self._top_k), latency_s)
            self._sink.report(self.stream, report)
            self.windows += 1
        if self._retry.why is not None:
            self._retry.worked()

    def _skip(self, window: Window) -> None:
        """The next window is nearly here: looking at this one would only make its labels late."""
        self.skipped += 1
        if is_power_of_two(self.skipped):
            log.warning(
                "%s: inference is slower than the hop of %g s; %d of %d windows skipped so far; use a longer --hop",
                *(self.stream.source, self._hop_s, self.skipped, self.skipped + self.windows),
            )

    def _ask(self, what: Callable[[], None]) -> None:
        self._asked.put(what)
        self._called.set()

    def _obey(self) -> None:
        self._called.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                step = self._asked.get_nowait()
                with self._lock:
                    if not self._finished:
                        step()

    def _wait(self, seconds: float) -> None:
        """For a source that is gone; what is asked meanwhile is done."""
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set() and self._called.wait(max(0.0, deadline - time.monotonic())):
            self._obey()

    def _pause(self, paused: bool) -> None:
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            self._end_events()
            self._level.reset()
            self._tell_status("disabled", _PAUSED)
        else:
            self._is_resumed = True
            self._tell_status("offline", "waiting for audio")

    def _adopt(self, policy: Policy, stream: Stream) -> None:
        self._tell(self._decider.adopt(policy))
        self.stream = stream

    def _end_events(self) -> None:
        self._tell(self._decider.close())

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self._sink.event(self.stream, event)
            if self._clips is not None:
                self._clips.event(event)

    def _tell_status(self, state: SourceState, detail: str) -> None:
        self._online = state == "online"
        self._was_online |= self._online
        self._sink.status(self.stream, state, detail)


@dataclass(frozen=True)
class Task:
    """Something that the daemon does now and then."""

    every_s: float
    do: Callable[[], None]


class Daemon:
    """All listeners, until their sources end or someone asks to stop."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        sink: Sink,
        stop: Stop,
        tasks: Sequence[Task] = (),
        before_close: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            tasks: done now and then, in the thread that calls `run`.
            before_close: called when nothing more is heard, while the sink still listens.
        """
        self._listeners, self._sink, self._stop = listeners, sink, stop
        self._tasks, self._before_close = tasks, before_close

    def run(self) -> None:
        """Returns when everything was heard, or when asked to stop.

        Raises:
            TaggerError: a source or a sink failed. Everything else was delivered before. After an interruption it is
                only said: whoever stopped the daemon knows that not all was heard.
        """
        threads = [threading.Thread(target=self._follow, args=[each], daemon=True) for each in self._listeners]
        for thread in threads:
            thread.start()
        due = {task: time.monotonic() + task.every_s for task in self._tasks}
        while not self._stop.wait(min(due.values(), default=math.inf) - time.monotonic()):
            for task, at in due.items():
                if time.monotonic() >= at:
                    task.do()
                    due[task] = time.monotonic() + task.every_s
        for listener in self._listeners:
            listener.stop()
        for thread in threads:
            thread.join(timeout=_JOIN_SECONDS)
        for listener in self._listeners:
            listener.finish("stopped")
        self._before_close()
        self._close_sink()
        errors = [self._stop.failure, *(listener.error for listener in self._listeners)]
        for error in errors:
            if error is not None and self._stop.interrupted:
                log.warning("%s", error)
            elif error is not None:
                raise error

    def _close_sink(self) -> None:
        try:
            self._sink.close(_DELIVERY_SECONDS_INTERRUPTED if self._stop.interrupted else _DELIVERY_SECONDS)
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
