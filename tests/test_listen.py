"""The daemon's loop, with a fake source, classifier and sink."""

import json
import math
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from ulid import ULID

from tagger import retry
from tagger.audio.level import LevelTap
from tagger.clips.folder import EVENTS, ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.daemon import outputs
from tagger.daemon.daemon import Daemon, Task
from tagger.decide import Decider
from tagger.engine.scores import BatchScores
from tagger.errors import AudioError, TaggerError, UserError
from tagger.events import AudioTap, Block, Event, Report, Samples, Scores, Stream, Window
from tagger.latencies import SkipLog
from tagger.levels.monitor import SoundMonitor
from tagger.listen import Listener
from tagger.policy import SMOKE_ALARM, LabelPolicy, Policy
from tagger.sources import Source, open_source
from tagger.stop import Stop
from tagger.tag import recording as tag
from tests.fakes import RATE_HZ, FakeClassifier, FakeSource, RecordingSink, loud, silence
from tests.levels.alarms import alarm
from tests.programs import LONG_S, run, until, write_wav

WINDOW_S, HOP_S = 1.0, 0.5
RULES = Policy(FakeClassifier.LABELS, (LabelPolicy(confirm_s=0, merge_s=0.5),) * 2)


def listener(
    source: Source,
    sink: RecordingSink,
    classify: FakeClassifier | None = None,
    policy: Policy = RULES,
    taps: Sequence[AudioTap] = (),
    **options: Any,
) -> Listener:
    stream = Stream("node", source.name, "fake", FakeClassifier.LABELS)
    return Listener(
        source=source,
        stream=stream,
        classifier=classify or FakeClassifier(),
        sink=sink,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        policy=policy,
        top_k=2,
        taps=taps,
        **options,
    )


def kinds(sink: RecordingSink, *wanted: str) -> Sequence[str]:
    return [kind for kind, _ in sink.told if kind in wanted]


def test_a_sound_begins_ends_and_is_reported_every_hop() -> None:
    sink = RecordingSink()
    listener(FakeSource([silence(2, 100), loud(1, 102), silence(2, 103)]), sink).run()
    (begin,), (end,) = sink.of("begin"), sink.of("end")
    assert (begin.id, begin.label) == (end.id, "loud")
    assert (begin.onset, end.offset) == pytest.approx((102, 103), abs=FakeClassifier.STEP_S)
    reports = sink.of("report")
    assert [report.scores.start_s for report in reports] == [0.5 * i for i in range(9)]
    assert reports[0].why == "loud: below enter 0.50"
    assert [(each.label, each.why) for each in reports[0].top] == [
        ("loud", "below enter 0.50"),
        ("never", "below enter 0.50"),
    ]
    assert reports[4].why is None
    assert (reports[4].top[0].label, reports[4].top[0].why) == ("loud", None)
    assert reports[-1].scores.activity.shape == (2, 20)


@pytest.mark.parametrize("confirm_s", [0.0, 0.5])
def test_events_of_a_file_are_those_of_the_listener(tmp_path: Path, confirm_s: float) -> None:
    """The file ends inside a window and inside a sound."""
    sound, quiet = loud(0.8).samples, silence(1.7).samples
    path = write_wav(tmp_path / "sound.wav", np.concatenate([quiet, sound, quiet, sound, sound, quiet, sound[:7_000]]))
    each = LabelPolicy(confirm_s=confirm_s, merge_s=0.5)
    rules = Policy(FakeClassifier.LABELS, (each, each), groups={"sound": FakeClassifier.LABELS})
    found = list(tag.events(tag.tag(path, FakeClassifier(), WINDOW_S, HOP_S), rules))
    assert {event.label for event in found} == {"loud", "sound"}

    sink = RecordingSink()
    listener(open_source(str(path), RATE_HZ, realtime=False), sink, policy=rules).run()
    zero = sink.of("report")[0].scores.time
    heard = [(e.label, e.onset - zero, e.offset - zero, e.peak_score, e.score) for e in sink.of("end")]
    assert len(heard) == len(found) == 2 * (3 if confirm_s == 0 else 2)
    for one, other in zip(found, heard, strict=True):
        assert (one.label, one.onset, one.offset, one.peak_score, one.score) == pytest.approx(other, abs=1e-5)


def test_clips_of_events_are_saved_by_who_is_given_a_folder(tmp_path: Path) -> None:
    sound = np.linspace(0.6, 0.9, RATE_HZ, dtype=np.float32)  # tells which part of the stream a clip holds
    blocks = [silence(2, 100), replace(loud(1, 102), samples=sound), silence(3, 103), loud(1, 106), silence(1, 107)]
    folder, source = ClipFolder(tmp_path / "clips"), FakeSource(blocks)
    stream = Stream("node", source.name, "fake", FakeClassifier.LABELS)
    sink = RecordingSink()
    each = listener(source, sink, taps=[ClipSaver(folder, stream, RATE_HZ, WINDOW_S + HOP_S, pre_roll_s=1.0)])
    each.run()
    folder.close(10)
    lines = [json.loads(line) for line in (tmp_path / "clips" / EVENTS).read_text().splitlines()]
    assert [line["id"] for line in lines] == [event.id for event in sink.of("end")]
    assert len(lines) == 2
    saved, rate_hz = soundfile.read(tmp_path / "clips" / lines[0]["file"], dtype="float32")
    assert rate_hz == RATE_HZ
    first = int(np.flatnonzero(saved)[0])
    assert first / RATE_HZ == pytest.approx(1.0, abs=FakeClassifier.STEP_S)
    assert saved[first : first + RATE_HZ] == pytest.approx(sound, abs=1e-4)


def test_events_end_when_a_live_stream_says_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    """The writer of a pipe lives on: the event ends where it was last heard, and sound brings the source back."""
    sink = RecordingSink()
    blocks = [silence(2, 100), loud(3, 102), 14.9, 15.0, 15.2, silence(2, 130, gap=True), loud(1, 132), silence(2, 133)]
    listener(FakeSource(blocks), sink).run()
    assert kinds(sink, "begin", "end", "online", "offline") == [
        *("online", "begin", "end", "offline", "online", "begin", "end", "offline")
    ]
    assert [(each.onset, each.offset) for each in sink.of("end")] == [
        pytest.approx((102, 105), abs=FakeClassifier.STEP_S),
        pytest.approx((132, 133), abs=FakeClassifier.STEP_S),
    ]
    assert sink.of("offline")[0] == "nothing has come for 15 s, though the stream has not ended"
    assert caplog.messages == ["fake: nothing has come for 15 s, though the stream has not ended (1 so far)"]


def test_what_comes_late_at_once_goes_on_where_the_stream_stopped() -> None:
    sink = RecordingSink()
    listener(FakeSource([silence(2, 100), loud(3, 102), 16.0, loud(2, 105), silence(2, 107)]), sink).run()
    ends = [(each.onset, each.offset) for each in sink.of("end")]
    assert ends[0] == pytest.approx((102, 105), abs=FakeClassifier.STEP_S)
    assert ends[1][1] == pytest.approx(107, abs=FakeClassifier.STEP_S)


def test_requests_are_done_while_a_source_waits() -> None:
    sink = RecordingSink()
    each = listener(FakeSource([silence(2, 100), 0.0, loud(3, 102)]), sink)
    each.pause(True)
    source = each.source
    assert isinstance(source, FakeSource)
    each.source.on_wait(0.0)
    assert sink.told == [("disabled", "paused")]


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listener(FakeSource([silence(2, 100), loud(1, 102), silence(2, 103)]), RecordingSink()).run()
    assert list(tmp_path.rglob("*")) == []


def test_what_is_open_at_the_end_is_ended_before_the_source_is_offline() -> None:
    sink = RecordingSink()
    listener(FakeSource([loud(3)]), sink).run()
    assert kinds(sink, "online", "begin", "end", "offline") == ["online", "begin", "end", "offline"]
    assert sink.of("offline") == ["ended"]


def test_a_file_that_breaks_is_heard_to_the_break_and_its_error_kept() -> None:
    sink, error = RecordingSink(), AudioError("broken after 1.2 s")
    each = listener(FakeSource([loud(1.2), error]), sink)
    each.run()
    assert each.error is error
    assert [report.scores.end_s for report in sink.of("report")] == pytest.approx([1.0, 1.2])
    assert sink.of("offline") == ["broken after 1.2 s"]


def test_a_live_source_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    sink = RecordingSink()
    gone = TaggerError("unplugged")
    source = FakeSource([loud(1.5), gone], [gone], [silence(1, gap=True)], live=True)
    each = listener(source, sink)
    each.run()
    assert each.error is None
    states = kinds(sink, "online", "begin", "end", "offline")
    assert states == ["online", "begin", "end", "offline", "offline", "online", "offline"]


def test_a_live_source_that_is_missing_at_the_start_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    caplog.set_level("INFO", "tagger")
    sink, missing = RecordingSink(), UserError("no input device: connect a microphone")
    other = listener(FakeSource([silence(2)]), RecordingSink())
    source = FakeSource([missing], [missing], [missing], [loud(2)], live=True)
    each = listener(source, sink)
    Daemon([each, other], sink, Stop()).run()
    assert each.error is None
    assert other.windows == 3
    assert sink.of("offline") == [*[str(missing)] * 3, "ended"]
    assert kinds(sink, "online", "begin") == ["online", "begin"]
    assert each.reconnects == 0
    assert [record.getMessage() for record in caplog.records] == [
        "fake: no input device: connect a microphone; trying again in 0.01 s, then less often, up to every 0.02 s",
        "fake: works again",
    ]


def test_late_windows_are_skipped_whole_and_counted() -> None:
    sink, source = RecordingSink(), FakeSource([silence(3)])
    source.late_s = 0.6  # more than a hop of audio waits: the next window is nearly complete
    each = listener(source, sink)
    each.run()
    assert (each.skipped, each.windows, sink.of("report")) == (5, 0, [])


def test_a_window_that_became_late_while_it_waited_for_the_network_is_skipped() -> None:
    held = Held()

    def slow(samples: Samples) -> float:
        held()
        return 0.0

    network, sink, source = FakeClassifier(slow), RecordingSink(), FakeSource([silence(1)])
    other = threading.Thread(target=network.classify, args=[[Window(silence(1).samples, 0, RATE_HZ, 0.0)]])
    other.start()
    assert held.reached.wait(LONG_S)
    each = listener(source, sink, classify=network)
    waiting = threading.Thread(target=each.run)
    waiting.start()
    until(lambda: sink.of("online"), "its block has come")  # and it waits for the network, or soon will
    source.late_s = 2 * HOP_S
    held.go_on.set()
    for thread in (other, waiting):
        thread.join(LONG_S)
    assert (each.skipped, each.windows, sink.of("report")) == (1, 0, [])


class RealTime(FakeSource):
    """Plays silence at the pace of the clock, in blocks of 0.05 s. Its times are those of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__(live=True)
        self._count, self._due = round(seconds / 0.05), math.inf

    def blocks(self) -> Iterator[Block]:
        began = time.monotonic()
        for number in range(self._count):
            self._due = began + 0.05 * (number + 1)
            time.sleep(max(0.0, self._due - time.monotonic()))
            yield silence(0.05, self._due - 0.05)

    def behind(self) -> float:
        return time.monotonic() - self._due


@pytest.mark.slow
def test_labels_are_no_later_than_two_hops_when_many_sources_share_a_slow_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Eight sources want 16 windows a second of a network that does 6."""

    def slow(samples: Samples) -> float:
        time.sleep(0.008)  # for the window and its 20 steps
        return 0.0

    lags_s: list[float] = []
    taken_s: list[float] = []

    class Lags(RecordingSink):
        def report(self, stream: Stream, report: Report) -> None:
            lags_s.append(time.monotonic() - report.scores.end_time)

    class Timed(FakeClassifier):
        def __call__(self, waveforms: Samples) -> BatchScores:
            began = time.monotonic()
            scores = super().__call__(waveforms)
            taken_s.append(time.monotonic() - began)
            return scores

    network, skips = Timed(slow), SkipLog(HOP_S)
    each = [listener(RealTime(6), Lags(), classify=network, skips=skips) for _ in range(8)]
    threads = [threading.Thread(target=one.run) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert sum(one.skipped for one in each) > 20
    assert all(one.windows for one in each)
    # A busy machine makes the network slower still, and the last tenth is left to its scheduler.
    network_s = sorted(taken_s)[len(taken_s) * 9 // 10]
    assert sorted(lags_s)[len(lags_s) * 9 // 10] <= max(2 * HOP_S, HOP_S + 2 * network_s)
    assert sum("slower than the hop" in message for message in caplog.messages) == 1


def test_sound_before_and_after_a_gap_is_never_in_one_window() -> None:
    sink = RecordingSink()
    blocks = [silence(0.9, 0), loud(0.9, 50, gap=True), loud(0.2, 50.9)]
    listener(FakeSource(blocks, live=True), sink).run()
    first = sink.of("report")[0]
    assert first.scores.time == pytest.approx(50)


def test_of_a_recording_what_is_before_a_gap_is_heard_too() -> None:
    sink = RecordingSink()
    blocks = [silence(0.9, 0), loud(0.9, 50, gap=True), loud(0.2, 50.9)]
    listener(FakeSource(blocks), sink).run()
    scores = [report.scores for report in sink.of("report")]
    assert [each.time for each in scores[:2]] == pytest.approx([0, 50])
    assert [each.duration_s for each in scores[:2]] == pytest.approx([0.9, 1.0])


def test_a_signal_ends_everything_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sink = RecordingSink()
    source = FakeSource([loud(2)], waits=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Stop() as stop:
        daemon = Daemon([listener(source, sink)], sink, stop)
        sender = threading.Thread(target=_signal_when, args=(lambda: sink.of("begin"),))
        sender.start()
        daemon.run()
        sender.join()  # the signal must come while `stop` handles it
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert stop.interrupted
    assert source.closed.is_set()
    assert kinds(sink, "online", "begin", "end", "offline") == ["online", "begin", "end", "offline"]
    assert sink.closed
    stopping, stopped = (record.getMessage() for record in caplog.records)
    assert stopping == "stopping"
    assert re.fullmatch(r"stopped after \d+ s; windows: \d+, skipped: 0, events: 1", stopped)


def test_one_broken_file_does_not_stop_the_other_source() -> None:
    sink = RecordingSink()
    error = AudioError("not whole")
    broken, whole = listener(FakeSource([error]), sink), listener(FakeSource([loud(2)]), sink)
    with pytest.raises(AudioError, match="not whole"):
        Daemon([broken, whole], sink, Stop()).run()
    assert whole.windows == 3
    assert sink.closed


def test_a_defect_in_the_loop_stops_the_daemon_and_says_where() -> None:
    def explode(samples: object) -> float:
        raise ZeroDivisionError("by nothing")

    sink = RecordingSink()
    each = listener(FakeSource([loud(2)], waits=True), sink, classify=FakeClassifier(explode))
    with pytest.raises(TaggerError, match="fake: ZeroDivisionError: by nothing"):
        Daemon([each], sink, Stop()).run()
    assert sink.of("offline")


class Held:
    """Callable that holds the thread that calls it until the test lets it go."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.reached.set()
        assert self.go_on.wait(LONG_S), "nobody let it go"


@pytest.mark.parametrize("where", ["decider", "tap"])
def test_the_daemon_never_closes_what_its_listener_is_inside_of(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The listener's thread is held inside its decider or its clip saver while the daemon ends the listener."""
    held, order = Held(), list[str]()
    sink = RecordingSink()

    class Saver:
        def heard(self, block: Block) -> None:
            if where == "tap":
                order.append("enter")
                held()
                order.append("leave")

        def scored(self, scores: Scores) -> None: ...

        def event(self, event: Event) -> None: ...

        def pause(self) -> None: ...

        def close(self) -> None:
            order.append("close")

    def update(decider: Decider, scores: Scores) -> list[Event]:
        order.append("enter")
        held()
        events = real(decider, scores)
        order.append("leave")
        return events

    real = Decider.update
    if where == "decider":
        monkeypatch.setattr(Decider, "update", update)
    each = listener(FakeSource([loud(1)], waits=True), sink, taps=[Saver()])
    hearing = threading.Thread(target=each.run)
    hearing.start()
    assert held.reached.wait(LONG_S)
    ending = threading.Thread(target=each.finish, args=["stopped"])
    ending.start()
    ending.join(0.2)  # it waits for the listener's thread; only if it did not, this would return early
    before = list(order)
    held.go_on.set()
    ending.join(LONG_S)
    each.stop()
    hearing.join(LONG_S)
    assert not ending.is_alive()
    assert not hearing.is_alive()
    assert before == ["enter"]
    assert order == ["enter", "leave", "close"]
    assert len(sink.of("begin")) == len(sink.of("end"))
    assert kinds(sink, "online", "offline") == ["online", "offline"], "nothing is told once the source is offline"


def test_a_window_that_comes_after_the_end_is_told_to_nobody() -> None:
    """The network takes longer than the daemon waits for it."""
    held, sink = Held(), RecordingSink()

    def slow(samples: Samples) -> float:
        held()
        return 0.9

    each = listener(FakeSource([loud(1)], waits=True), sink, classify=FakeClassifier(slow))
    thread = threading.Thread(target=each.run)
    thread.start()
    assert held.reached.wait(LONG_S)
    each.finish("stopped")
    each.pause(True)
    held.go_on.set()
    each.stop()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert [kind for kind, _ in sink.told] == ["online", "offline"]


def _signal_when(ready: object) -> None:
    while not ready():  # type: ignore[operator]
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


class Fed(FakeSource):
    """Plays the blocks that a test puts into `queue`."""

    def __init__(self) -> None:
        super().__init__(live=True)
        self.queue: queue.SimpleQueue[Block | TaggerError | None] = queue.SimpleQueue()

    def blocks(self) -> Iterator[Block]:
        while (each := self.queue.get(timeout=LONG_S)) is not None:
            if isinstance(each, TaggerError):
                raise each
            yield each

    def close(self) -> None:
        self.queue.put(None)


@contextmanager
def fed(sink: RecordingSink, **options: object) -> Iterator[tuple[Listener, Callable[..., None]]]:
    source = Fed()
    each = listener(source, sink, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=each.run)
    thread.start()
    now = [100.0]

    def feed(block: Callable[[float, float], Block], seconds: float) -> None:
        source.queue.put(block(seconds, now[0]))
        now[0] += seconds

    try:
        yield each, feed
    finally:
        each.stop()
        thread.join(LONG_S)


def test_a_paused_source_is_heard_by_nobody() -> None:
    sink = RecordingSink()
    with fed(sink) as (each, feed):
        feed(loud, 2)
        until(lambda: sink.of("begin"), "it is heard")
        each.pause(True)
        feed(loud, 2)
        until(lambda: sink.of("disabled"), "it is paused")
        assert kinds(sink, "begin", "end", "disabled") == ["begin", "end", "disabled"]
        reports = len(sink.of("report"))
        each.pause(False)
        feed(silence, 0.9)
        until(lambda: len(sink.of("online")) >= 2, "it is heard again")
        feed(silence, 1.5)
        until(lambda: len(sink.of("report")) > reports, "a window")
    # The first window after the pause holds no sound from the pause.
    assert sink.of("report")[reports].scores.time == pytest.approx(104)
    assert [value for report in sink.of("report")[reports:] for value in report.scores.values] == [0] * 2 * (
        len(sink.of("report")) - reports
    )
    assert each.reconnects == 0
    assert kinds(sink, "online", "disabled", "offline") == ["online", "disabled", "offline", "online", "offline"]


def test_a_source_that_was_paused_before_starts_paused() -> None:
    sink = RecordingSink()
    with fed(sink, paused=True) as (each, feed):
        until(lambda: sink.of("disabled"), "it says so")
        feed(loud, 3)
        each.pause(False)
        feed(loud, 2)
        until(lambda: sink.of("begin"), "then it is heard")
    assert kinds(sink, "online", "disabled", "begin")[0] == "disabled"


def test_a_source_that_is_gone_can_be_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (30, 30))
    sink, source = RecordingSink(), FakeSource([TaggerError("unplugged")], live=True)
    each = listener(source, sink)
    thread = threading.Thread(target=each.run)
    thread.start()
    until(lambda: sink.of("offline"), "it is gone")
    each.pause(True)
    until(lambda: sink.of("disabled"), "it is paused while nothing comes")
    each.stop()
    thread.join(LONG_S)
    assert not thread.is_alive()


def test_levels_come_whether_or_not_windows_are_skipped() -> None:
    wave = np.where(np.arange(RATE_HZ) % 2, 0.9, -0.9).astype(np.float32)
    sink, source = RecordingSink(), FakeSource([Block(wave, 100), Block(wave, 101), silence(2, 102)])
    source.late_s = 9.0
    stream = Stream("node", "fake", "fake", FakeClassifier.LABELS)
    listener(source, sink, taps=[LevelTap(RATE_HZ, 2.0, lambda level: sink.audio(stream, level))]).run()
    first, second = sink.of("audio")
    assert first.peak_dbfs == pytest.approx(20 * np.log10(0.9), abs=1e-4)
    assert (first.time, second.time, second.peak_dbfs) == (102, 104, -120)


def test_losses_and_returns_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    source = FakeSource([silence(1), silence(1, gap=True), TaggerError("gone")], [silence(1, gap=True)], live=True)
    each = listener(source, RecordingSink())
    each.run()
    assert (each.overruns, each.reconnects) == (1, 1)
    assert len(each.take_latencies()) == each.windows
    assert each.take_latencies() == []


def test_rules_change_between_two_blocks() -> None:
    sink = RecordingSink()
    with fed(sink) as (each, feed):
        feed(loud, 2)
        until(lambda: sink.of("begin"), "it is heard")
        each.set_policy(replace(RULES, denied=frozenset(["loud"])), each.stream)
        feed(loud, 2)
        until(lambda: sink.of("end"), "it is not announced any more")
        assert each.policy.denied == {"loud"}
    assert len(sink.of("begin")) == 1


def test_tasks_are_done_now_and_then() -> None:
    done: list[float] = []
    sink, source = RecordingSink(), FakeSource([silence(1)], waits=True)
    stop = Stop()

    def task() -> None:
        done.append(time.monotonic())
        if len(done) == 3:
            stop.set()

    Daemon([listener(source, sink)], sink, stop, [Task(0.02, task), Task(3600, pytest.fail)]).run()
    assert len(done) == 3
    assert done[2] - done[0] >= 0.04


def test_requests_that_come_at_once_find_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An automation may ask as soon as it sees `online`."""
    heard: list[dict[str, object]] = []

    class Asking(RecordingSink):
        def __init__(self, daemon: outputs.SinkContext) -> None:
            super().__init__()
            self._controls = daemon.controls

        def open(self, streams: Sequence[Stream]) -> None:
            heard.append(self._controls.threshold(None, "dog", 0.5))

    monkeypatch.setattr(outputs, "wanted", lambda daemon: {("asking", None): lambda: Asking(daemon)})
    path = write_wav(tmp_path / "clip.wav", np.zeros(6 * 32_000))
    done = run("listen", path, "--no-realtime", "--mqtt", "none")
    assert done.exit_code == 0, done.output
    assert [each["sources"] for each in heard] == [["clip"]]


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, -2.5, 1.8e9])
@pytest.mark.parametrize("sound", [(101.0, 101.6), (101.5, 103.0)], ids=["just before", "over that moment"])
def test_a_clock_that_is_set_neither_splits_nor_repeats_an_event(
    set_s: float, sound: tuple[float, float], tmp_path: Path
) -> None:
    """A sound is one event, as long as itself, by the clock as it was when it began; and its clip holds it."""
    sink, folder = RecordingSink(), ClipFolder(tmp_path)
    stream = Stream("node", "fake", "fake", FakeClassifier.LABELS)
    saver = ClipSaver(folder, stream, RATE_HZ, WINDOW_S + HOP_S, pre_roll_s=0.5, post_roll_s=0.5)
    times = 99 + np.arange(8 * RATE_HZ) / RATE_HZ
    samples = np.where((times >= sound[0]) & (times < sound[1]), 0.9, 0.0).astype(np.float32)
    cut = 3 * RATE_HZ
    listener(FakeSource([Block(samples[:cut], 99), Block(samples[cut:], 102 + set_s)]), sink, taps=[saver]).run()
    folder.close(10)
    (begin,), (end,) = sink.of("begin"), sink.of("end")
    assert begin.id == end.id
    assert (end.onset, end.offset) == pytest.approx(sound, abs=2 * FakeClassifier.STEP_S)
    assert sink.of("report")[-1].scores.end_time == pytest.approx(107 + set_s)
    (line,) = map(json.loads, (tmp_path / EVENTS).read_text().splitlines())
    saved, _ = soundfile.read(tmp_path / line["file"])
    length_s = sound[1] - sound[0]
    assert len(saved) / RATE_HZ == pytest.approx(length_s + 1, abs=4 * FakeClassifier.STEP_S)
    assert np.count_nonzero(saved) / RATE_HZ == pytest.approx(length_s, abs=0.01)


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, -2.5, 1.8e9])
def test_a_clock_that_is_set_splits_no_loud_sound_and_levels_go_on(set_s: float) -> None:
    sink = RecordingSink()
    monitor = SoundMonitor(RATE_HZ, 1.0, loud_db=-10.0)
    blocks = [silence(2, 9_999), loud_wave(2, 10_001), loud_wave(1, 10_003 + set_s), silence(4, 10_004 + set_s)]
    blocks += [loud_wave(1, 10_008 + set_s), silence(1, 10_009 + set_s)]
    listener(FakeSource(blocks), sink, FakeClassifier(lambda samples: 0.0), monitor=monitor).run()
    first, second = sink.of("end")
    assert (first.onset, first.offset) == pytest.approx((10_001, 10_004), abs=0.3)
    assert (second.onset, second.offset) == pytest.approx((10_008 + set_s, 10_009 + set_s), abs=0.3)
    assert [each.id for each in sink.of("begin")] == [first.id, second.id]
    assert ULID.from_str(second.id).timestamp == pytest.approx(10_008 + set_s, abs=0.3)
    assert second.level_before == pytest.approx(-8.4, abs=0.5)  # three of eight and a half seconds were loud
    times = [*range(10_000, 10_004), *(each + set_s for each in range(10_004, 10_011))]
    assert [each.time for each in sink.of("audio")] == pytest.approx(times)


@pytest.mark.parametrize("set_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_splits_no_alarm(set_s: float) -> None:
    sink, cut = RecordingSink(), 18 * RATE_HZ
    wave = (0.3 * alarm(SMOKE_ALARM, 30, np.random.default_rng(0))[0]).astype(np.float32)
    blocks = [Block(wave[:cut], 10_000), Block(wave[cut:], 10_018 + set_s)]
    monitor = SoundMonitor(RATE_HZ, 1.0, has_alarms=True)
    listener(FakeSource(blocks), sink, FakeClassifier(lambda samples: 0.0), monitor=monitor).run()
    (begin,), (end,) = sink.of("begin"), sink.of("end")
    assert (begin.id, begin.label) == (end.id, SMOKE_ALARM)
    assert 10_000 < end.onset < 10_010
    assert end.offset - end.onset > 15


def loud_wave(seconds: float, time: float) -> Block:
    wave = np.sin(2 * np.pi * 1000 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    return Block((0.9 * wave).astype(np.float32), time)
