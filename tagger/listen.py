"""The loop: blocks -> windows -> scores -> events -> sinks, in one thread for each source.

Other threads queue what they want of a listener (`pause`, `set_policy`); the loop does it between two blocks.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from tagger.audio.window import SlidingWindows
from tagger.condition import Condition
from tagger.decide import Decider
from tagger.engine.engine import Lane
from tagger.engine.scores import WindowClassifier
from tagger.errors import TaggerError
from tagger.events import AudioTap, Block, Event, Level, Report, Scores, Stream, Window
from tagger.latencies import Latencies, SkipLog
from tagger.policy import Policy
from tagger.retry import Repeats
from tagger.sinks import Sink, SourceState
from tagger.sources import Source
from tagger.sources.healing import Healing
from tagger.sources.schedule import ALWAYS, Schedule
from tagger.stream_clock import StreamClock

log = logging.getLogger(__name__)

SILENT_SECONDS = 15.0
"""Time for which a live stream may say nothing before it counts as gone. What comes in pieces, such as HLS, has shorter
ones."""
_PAUSED = "paused"


def follow(
    blocks: Iterable[Block],
    lane: Lane,
    sliding: SlidingWindows,
    batch: int = 1,
    skip: Callable[[Window], bool] = lambda window: False,
    flush: bool = True,
) -> Iterator[Scores]:
    """The one way from audio to scores: for the daemon, for files, for calibration and for evaluation.

    Args:
        blocks: a block is taken when the scores of the one before it have been given (with a batch of 1).
        lane: the stream's own; a window that it finds late gives no scores.
        batch: windows of this stream that are classified together.
        skip: called with each window; it is left out where this returns True.
        flush: whether to classify the rest of a stream that ends or breaks, padded with silence.

    Raises:
        TaggerError: `blocks` raised it; the scores of what came before were given.
    """
    error: TaggerError | None = None

    def windows() -> Iterator[Window]:
        nonlocal error
        try:
            yield from sliding.cut(blocks, flush)
        except TaggerError as broken:
            error = broken

    cut = windows()
    while taken := list(itertools.islice(cut, batch)):
        yield from lane.scores([window for window in taken if not skip(window)])
    if error is not None:
        raise error


class Monitor(Protocol):
    """Measures a stream's audio, and finds events that need no network. One thread at a time calls it. Its times are
    those of the blocks that it is given.
    """

    publish: Callable[[Level], None]
    """Called with each level."""

    def heard(self, block: Block) -> Sequence[Event]:
        """Takes the next block, before its windows are classified. Returns what began and ended."""

    def interrupt(self) -> Sequence[Event]:
        """The next block does not follow the one before, or none follows. Returns the ends of open events."""

    def level_before(self, onset: float) -> float | None:
        """Level of the seconds before a time, decibels. None: not known."""


class Listener:
    """Follows one source, in its own thread."""

    def __init__(
        self,
        source: Source,
        stream: Stream,
        classifier: WindowClassifier,
        sink: Sink,
        window_s: float,
        hop_s: float,
        policy: Policy,
        top_k: int,
        taps: Sequence[AudioTap] = (),
        paused: bool = False,
        skips: SkipLog | None = None,
        monitor: Monitor | None = None,
        schedule: Schedule = ALWAYS,
        gain: float = 1.0,
    ) -> None:
        """
        Args:
            classifier: may be shared with other listeners.
            top_k: labels in each report.
            paused: whether to begin paused.
            skips: warns of skipped windows, for all listeners together. None: for this one alone.
            monitor: measures levels and finds more events. None: there are none.
            schedule: when the source is wanted.
            gain: what samples are multiplied by.
        """
        self.source, self.stream = source, stream
        source.on_wait = self._wait
        self.error: TaggerError | None = None
        """Why the source broke, where it is no live one."""
        self.windows, self.skipped, self.overruns, self.reconnects = 0, 0, 0, 0
        self.events = 0
        """Events that have begun."""
        self.paused = paused
        """Blocks are dropped."""
        self._sink, self._taps, self._monitor = sink, taps, monitor
        if monitor is not None:
            monitor.publish = self._publish_level
        self._levels: dict[str, float | None] = {}
        """Level before each open event, by its id."""
        rate_hz = classifier.info.mel.sample_rate_hz
        self._sliding = SlidingWindows.of_seconds(window_s, hop_s, rate_hz, flush_at_gaps=not source.live)
        self._lane = classifier.lane(self._sliding, source.behind, self._count_late)
        self._clock = StreamClock(rate_hz)
        self.decider, self._policy = Decider(policy), policy
        """Holds the policy that is in force; `policy` is the one that was set last. Its times are the stream's own."""
        self._top_k = top_k
        self._skips = skips or SkipLog(hop_s)
        self._arrived = 0.0
        """Arrival of the newest block, on the monotonic clock."""
        self.latencies = Latencies()
        self.moved_at = time.monotonic()
        """When the loop last gave a sign of life, on the monotonic clock; in the future while it waits on purpose."""
        self._online, self._was_online = False, False
        self._is_resumed = False
        """The next block is the first after a pause."""
        self._silences = Repeats()
        self._told = ""
        """What was published last of a source that is online."""
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping, self._called = threading.Event(), threading.Event()
        self._changing_policy = threading.Lock()
        self._lock = threading.RLock()
        """Held by the thread that touches the decider or a tap, or publishes: the listener's own, or the daemon's in
        `finish`.
        """
        self._finished = False
        self._healing = Healing(
            source, stream.source, rate_hz, self._lose_source, self._wait_for, self._stopping.is_set, schedule, gain
        )

    def run(self) -> None:
        """Follows the source until it ends or `stop` is called. An error of a source that is not live is kept."""
        self.moved_at = time.monotonic()
        if self.paused:
            self._publish_status("disabled", _PAUSED)
        try:
            for scores in follow(self._blocks(), self._lane, self._sliding, skip=self._is_dropped):
                self._publish(scores)
        except TaggerError as error:
            self.error = error
        why = "stopped" if self._stopping.is_set() else "ended"
        self.finish(why if self.error is None else str(self.error))

    def stop(self) -> None:
        """Makes `run` return soon. From any thread."""
        self._stopping.set()
        self._called.set()
        self._lane.close()
        self.source.close()

    def pause(self, paused: bool) -> None:
        """Ends open events and drops the audio from then on; or takes it again. From any thread."""
        self.request(lambda: self._pause(paused))

    def set_policy(self, policy: Policy, stream: Stream) -> None:
        """Decides by another policy from the next window on, and publishes as another stream. From any thread."""
        with self._changing_policy:
            self._policy = policy
            self.request(lambda: self._set_policy(policy, stream))

    def change_policy(self, change: Callable[[Policy], Policy]) -> Policy:
        """Changes the policy that was set last. From any thread.

        Returns:
            The new policy.

        Raises:
            Exception: what `change` raises.
        """
        with self._changing_policy:
            self._policy = policy = change(self._policy)
            self.request(lambda: self._publish_events(self.decider.set_policy(policy)))
        return policy

    @property
    def condition(self) -> Condition:
        """How the source is now. From any thread."""
        condition = replace(self._healing.condition, reconnects=self.reconnects)
        return replace(condition, state="off", reason="paused", detail=_PAUSED) if self.paused else condition

    @property
    def policy(self) -> Policy:
        """The policy that was set last; the loop decides by it from the next block on."""
        return self._policy

    def take_latencies(self) -> list[float]:
        """Latencies of the windows since the last call, seconds. From any thread."""
        return self.latencies.take()

    def finish(self, why: str) -> None:
        """Ends open events, closes the taps, and publishes that the source is offline. After it, nothing is published.

        Only the first call does so: that of `run`, or that of the daemon.
        """
        with self._lock:
            if self._finished:
                return
            self._close_events()
            for tap in self._taps:
                tap.close()
            self._publish_status("offline", why)
            self._finished = True

    @property
    def finished(self) -> bool:
        return self._finished

    def _blocks(self) -> Iterator[Block]:
        """The source's blocks, but for those of a pause."""
        try:
            for block in self._healing.blocks():
                self._arrived = time.monotonic() - self.source.behind()
                if (accepted := self._take_in(block)) is not None:
                    yield accepted
        finally:
            self._arrived = time.monotonic()

    def _wait(self, silent_s: float) -> None:
        """While the source waits: does what was requested, and ends the events of a stream that says nothing more."""
        self.moved_at = time.monotonic()
        self.do_requests()
        if silent_s < SILENT_SECONDS or not self._online:
            return
        why = f"nothing has come for {SILENT_SECONDS:g} s, though the stream has not ended"
        self._healing.fell_silent(why)
        with self._lock:
            if not self._finished:
                self._close_events()
                self._publish_status("offline", why)
        if self._silences.add():
            log.warning("%s: %s (%d so far)", self.stream.source, why, self._silences.count)

    def _take_in(self, block: Block) -> Block | None:
        """Between two blocks: does what was requested, publishes that the source is there, and feeds the taps.

        Returns:
            The block to classify; None in a pause.
        """
        self.moved_at = time.monotonic()
        self.do_requests()
        with self._lock:
            if self.paused or self._finished:
                return None
            oddity = self._healing.detail
            if not self._online:
                self.reconnects += self._was_online and not self._is_resumed
            elif block.gap:
                self.overruns += 1
            if not self._online or oddity != self._told:
                self._publish_status("online", oddity or self.source.description)
            self._told = oddity
            taken = replace(block, gap=True) if self._is_resumed else block
            self._is_resumed = False
            if jump_s := self._clock.jump_s(taken):
                self._tell_jump(jump_s)
            self._clock.take(taken)
            for tap in self._taps:
                tap.heard(taken)
            own = replace(taken, time=self._clock.own(taken.time))
            if self._monitor is not None:
                self._join(self._monitor.heard(own))
        return own

    def _tell_jump(self, jump_s: float) -> None:
        """The clock was set, and no sound is missing: what is open goes on."""
        where = "forward" if jump_s > 0 else "back"
        log.info("%s: the clock went %s by %.1f s; no sound is missing", self.stream.source, where, abs(jump_s))

    def _is_dropped(self, window: Window) -> bool:
        """Whether to leave a window out: at the end of a pause or when stopping."""
        return self._stopping.is_set() or self.paused

    def _count_late(self, window: Window) -> None:
        """Called with a window that is left out because its scores would come too late."""
        self.skipped += 1
        self.latencies.skip()
        self._skips.skipped(self.stream.source)

    def _publish(self, scores: Scores) -> None:
        """Decides what a window's scores begin and end, and publishes that and the report."""
        with self._lock:
            if self._finished:  # the daemon could not wait any longer
                return
            dated = replace(scores, time=self._clock.wall(scores.time))
            for tap in self._taps:
                tap.scored(dated)
            self._publish_events(self.decider.update(scores))
            latency_s = time.monotonic() - self._arrived
            self.latencies.add(latency_s)
            report = Report(dated, *self.decider.answers(scores, self._top_k), latency_s)
            self._sink.report(self.stream, report)
            self.windows += 1
            self._skips.classified(self.stream.source)

    def _lose_source(self, why: str) -> None:
        """Ends open events, and publishes that a live source is gone."""
        with self._lock:
            if not self._finished:
                self._close_events()
                self._publish_status("disabled" if self.paused else "offline", why)

    def _wait_for(self, seconds: float) -> None:
        """Waits, at most until the next request, and does what was requested."""
        self.moved_at = time.monotonic() + seconds
        if not self._stopping.is_set() and self._called.wait(seconds):
            self.do_requests()

    def request(self, step: Callable[[], None]) -> None:
        """Queues a step for the loop, which takes it between two blocks. From any thread."""
        self._requests.put(step)
        self._called.set()

    def do_requests(self) -> None:
        """Takes all queued steps. The loop calls it between two blocks."""
        if self._requests.empty() and not self._called.is_set():  # as nearly always
            return
        self._called.clear()
        while not self._requests.empty():  # no other thread takes any
            step = self._requests.get_nowait()
            with self._lock:
                if not self._finished:
                    step()

    def _pause(self, paused: bool) -> None:
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            self._sliding.clear()
            self._close_events()
            for tap in self._taps:
                tap.pause()
            self._publish_status("disabled", _PAUSED)
            log.info("%s: paused; what it hears is discarded until it is resumed", self.stream.source)
        else:
            self._is_resumed = True
            log.info("%s: resumed", self.stream.source)
            self._publish_status("offline", "waiting for audio")

    def _set_policy(self, policy: Policy, stream: Stream) -> None:
        self._publish_events(self.decider.set_policy(policy))
        self.stream = stream

    def _close_events(self) -> None:
        """Ends open events: the next block does not follow the one before, or none follows."""
        self._publish_events(self.decider.close())
        if self._monitor is not None:
            self._join(self._monitor.interrupt())

    def _join(self, events: Sequence[Event]) -> None:
        """Publishes what the monitor has found."""
        if events:  # rarely, and this is asked of every block
            self._publish_events(self.decider.join(events))

    def _publish_events(self, events: Sequence[Event]) -> None:
        for found in events:
            if found.type == "begin" and self._monitor is not None:
                self._levels[found.id] = self._monitor.level_before(found.onset)
            event = replace(self._clock.wall_event(found), level_before=self._levels.get(found.id))
            if found.type == "end":
                self._levels.pop(found.id, None)
            self.events += event.type == "begin"
            self._sink.event(self.stream, event)
            for tap in self._taps:
                tap.event(event)

    def _publish_level(self, level: Level) -> None:
        self._sink.audio(self.stream, replace(level, time=self._clock.wall(level.time)))

    def _publish_status(self, state: SourceState, detail: str) -> None:
        self._online = state == "online"
        self._was_online |= self._online
        self._sink.status(self.stream, state, detail)
