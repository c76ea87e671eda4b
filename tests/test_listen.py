"""The daemon's loop, with a fake source, classifier and sink."""

import os
import signal
import threading
import time
from collections.abc import Sequence

import pytest

from tagger import listen
from tagger.errors import AudioError, TaggerError
from tagger.events import Stream
from tagger.listen import Daemon, Listener
from tagger.stop import Stop
from tests.fakes import FakeClassifier, FakeSource, RecordingSink, noise, silence


def listener(source: FakeSource, *sinks: RecordingSink, classify: FakeClassifier | None = None) -> Listener:
    stream = Stream("node", source.name, "fake", FakeClassifier.LABELS)
    return Listener(
        source=source,
        stream=stream,
        classify=classify or FakeClassifier(),  # type: ignore[arg-type]
        turn=threading.Lock(),
        sinks=sinks,
        window_s=1.0,
        hop_s=0.5,
        thresholds=(0.5, 0.5),
        top_k=2,
    )


def kinds(sink: RecordingSink, *wanted: str) -> Sequence[str]:
    return [kind for kind, _ in sink.told if kind in wanted]


def test_a_sound_begins_ends_and_is_reported_every_hop() -> None:
    sink = RecordingSink()
    listener(FakeSource([silence(2, 100), noise(1, 102), silence(2, 103)]), sink).run()
    (begin,), (end,) = sink.of("begin"), sink.of("end")
    assert (begin.id, begin.label) == (end.id, "loud")
    assert begin.onset == pytest.approx(102, abs=0.5)
    assert end.offset == pytest.approx(103, abs=0.5)
    reports = sink.of("report")
    assert [report.scores.start_s for report in reports] == [0.5 * i for i in range(9)]
    assert reports[0].why == "loud 0.00 is below its threshold 0.50"
    assert reports[4].why is None
    assert reports[4].top[0][0] == "loud"


def test_what_is_open_at_the_end_is_ended_before_the_source_is_offline() -> None:
    sink = RecordingSink()
    listener(FakeSource([noise(3)]), sink).run()
    assert kinds(sink, "online", "begin", "end", "offline") == ["online", "begin", "end", "offline"]
    assert sink.of("offline") == ["ended"]


def test_a_file_that_breaks_is_heard_to_the_break_and_its_error_kept() -> None:
    sink, error = RecordingSink(), AudioError("broken after 1.2 s")
    each = listener(FakeSource([noise(1.2), error]), sink)
    each.run()
    assert each.error is error
    assert [report.scores.end_s for report in sink.of("report")] == pytest.approx([1.0, 1.2])
    assert sink.of("offline") == ["broken after 1.2 s"]


def test_a_live_source_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_RETRY_SECONDS", (0.01, 0.02))
    sink = RecordingSink()
    gone = TaggerError("unplugged")
    source = FakeSource([noise(1.5), gone], [gone], [silence(1, gap=True)], live=True)
    each = listener(source, sink)
    each.run()
    assert each.error is None
    states = kinds(sink, "online", "begin", "end", "offline")
    assert states == ["online", "begin", "end", "offline", "offline", "online", "offline"]


def test_late_windows_are_skipped_whole_and_counted() -> None:
    sink, source = RecordingSink(), FakeSource([silence(3)])
    source.late_s = 0.6  # more than a hop waits: this window's successor is nearly here
    each = listener(source, sink)
    each.run()
    assert (each.skipped, each.windows, sink.of("report")) == (5, 0, [])


def test_sound_before_and_after_a_gap_is_never_in_one_window() -> None:
    sink = RecordingSink()
    blocks = [silence(0.9, 0), noise(0.9, 50, gap=True), noise(0.2, 50.9)]
    listener(FakeSource(blocks), sink).run()
    first = sink.of("report")[0]
    assert first.scores.time == pytest.approx(50)


def test_a_signal_ends_everything_in_order() -> None:
    sink = RecordingSink()
    source = FakeSource([noise(2)], waits=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Stop() as stop:
        daemon = Daemon([listener(source, sink)], [sink], stop)
        threading.Thread(target=_signal_when, args=(lambda: sink.of("begin"),)).start()
        daemon.run()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert stop.interrupted
    assert source.closed.is_set()
    assert kinds(sink, "online", "begin", "end", "offline") == ["online", "begin", "end", "offline"]
    assert sink.closed


def test_one_broken_file_does_not_stop_the_other_source() -> None:
    sink = RecordingSink()
    error = AudioError("not whole")
    broken, whole = listener(FakeSource([error]), sink), listener(FakeSource([noise(2)]), sink)
    with pytest.raises(AudioError, match="not whole"):
        Daemon([broken, whole], [sink], Stop()).run()
    assert whole.windows == 3
    assert sink.closed


def test_a_defect_in_the_loop_stops_the_daemon_and_says_where() -> None:
    def explode(samples: object) -> float:
        raise ZeroDivisionError("by nothing")

    sink = RecordingSink()
    each = listener(FakeSource([noise(2)], waits=True), sink, classify=FakeClassifier(explode))
    with pytest.raises(TaggerError, match="fake: ZeroDivisionError: by nothing"):
        Daemon([each], [sink], Stop()).run()
    assert sink.of("offline")


def _signal_when(ready: object) -> None:
    while not ready():  # type: ignore[operator]
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
