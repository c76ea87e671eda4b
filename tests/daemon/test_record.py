"""The health of a daemon that listens."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.daemon.record import Health, Record
from tagger.errors import TaggerError
from tagger.events import Level, Stream
from tagger.health import SourceHealth
from tagger.listen import Listener
from tests.builders import RULES
from tests.fakes import FakeClassifier, FakeSource, loud, silence
from tests.programs import LONG_S, until

STREAM = Stream("attic", "fake", "fake", RULES.names)


def listens(source: FakeSource) -> tuple[Listener, Health]:
    record = Record()
    record.open([STREAM])
    listener = Listener(
        source=source,
        stream=STREAM,
        classifier=FakeClassifier(),
        sink=record,
        window_s=1.0,
        hop_s=0.5,
        policy=RULES,
        top_k=1,
    )
    return listener, Health("attic", [listener], record)


class Looks(FakeSource):
    """Calls back before each block but the first."""

    def __init__(self, look: Callable[[], None], *plays: object, live: bool = False) -> None:
        super().__init__(*plays, live=live)  # type: ignore[arg-type]
        self._look = look

    def blocks(self) -> Iterator[object]:  # type: ignore[override]
        for number, block in enumerate(super().blocks()):
            if number:
                self._look()
            yield block


def test_a_source_is_followed_from_start_to_end() -> None:
    seen: list[SourceHealth] = []
    source = Looks(lambda: seen.append(health.snapshot().sources[0]), [silence(2, 100), loud(1, 102), silence(2, 103)])
    listener, health = listens(source)
    (before,) = health.snapshot().sources
    assert (before.condition.state, before.condition.last_audio_s, before.windows) == ("starting", None, 0)
    listener.run()
    assert [each.condition.state for each in seen] == ["hearing", "hearing"]
    assert seen[0].condition.last_audio_s is not None
    assert seen[0].condition.last_audio_s < 90
    assert seen[1].windows == 5
    assert seen[1].events == {"loud": 1, "never": 0}
    assert seen[1].to_json(0.0)["events"] == {"loud": 1}
    (after,) = health.snapshot().sources
    assert (after.condition.state, after.windows) == ("ended", 9)
    assert after.condition.is_healthy
    assert sum(after.histogram[0]) == 9
    assert len(after.latencies_s) == 9


def test_stats_take_each_latency_once() -> None:
    listener, health = listens(FakeSource([loud(3, 100)]))
    listener.run()
    first, second = health.stats(), health.stats()
    assert first["sources"]["fake"]["latency_ms"] is not None
    assert first["latency_ms"] == first["sources"]["fake"]["latency_ms"]
    assert second["latency_ms"] is None
    assert second["windows"] == first["windows"] == listener.windows
    assert len(health.snapshot().sources[0].latencies_s) == listener.windows


def test_a_source_that_waits_before_it_is_opened_again_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.retry.PAUSES", (40.0, 40.0))
    source = FakeSource([silence(2), TaggerError("the cable is out")], live=True)
    listener, health = listens(source)
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        until(lambda: health.snapshot().sources[0].idle_s < -3, "it waits")
        (while_waiting,) = health.snapshot().sources
    finally:
        listener.stop()
        thread.join(LONG_S)
    assert (while_waiting.condition.state, while_waiting.condition.detail) == ("retrying", "the cable is out")
    assert while_waiting.idle_s < -3
    assert not while_waiting.is_stuck


def test_a_thread_that_does_nothing_is_stuck() -> None:
    listener, health = listens(FakeSource())
    listener.moved_at -= 46
    assert health.snapshot().stuck == ["fake"]
    assert health.snapshot().verdict == "failing"
    listener.run()
    assert health.snapshot().stuck == []


def test_the_level_is_that_since_the_source_came() -> None:
    record = Record()
    record.open([STREAM])
    listener, _ = listens(FakeSource())
    record.status(STREAM, "online", "a fake")
    record.audio(STREAM, Level(-31.0, -12.0, 0, 100.0))
    assert record.source(listener).rms_dbfs == -31.0
    record.status(STREAM, "online", "the same")
    assert record.source(listener).rms_dbfs == -31.0
    record.status(STREAM, "offline", "gone")
    assert record.source(listener).rms_dbfs is None


def test_tests_and_restarts_are_no_events(tmp_path: Path) -> None:
    from tests.test_privacy import BEGIN

    record = Record()
    record.open([STREAM])
    listener, _ = listens(FakeSource())
    record.event(STREAM, BEGIN)
    record.event(STREAM, replace(BEGIN, cause="test"))
    record.event(STREAM, replace(BEGIN, type="end", offset=BEGIN.onset + 1))
    assert record.source(listener).events == {"siren": 1, "loud": 0, "never": 0}


def test_labels_of_many_sources_are_not_counted_before_they_are_heard() -> None:
    record = Record()
    record.open([replace(STREAM, labels=tuple(f"label{i}" for i in range(3_000)))])
    listener, _ = listens(FakeSource())
    assert record.source(listener).events == {}
