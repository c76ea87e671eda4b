"""Levels measured in a process of their own."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from tagger.events import Block, Event, Level
from tagger.levels.measure import Measurer
from tagger.levels.monitor import SoundMonitor
from tagger.levels.process import MeasuringProcess
from tests.programs import until

RATE_HZ = 32_000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that is loud from second 3 to 4."""
    samples = np.random.default_rng(seed).normal(0, 0.01, round(seconds * RATE_HZ))
    samples[3 * RATE_HZ : 4 * RATE_HZ] *= 20
    return samples.astype(np.float32)


class Followed:
    """A stream that began at 100 s, and what was found in it."""

    def __init__(self, measuring: object = Measurer, seed: int = 0) -> None:
        self.levels: list[Level] = []
        self.events: list[Event] = []
        self._samples = sound(12, seed)
        self.monitor = SoundMonitor(
            RATE_HZ, 2.0, self.levels.append, loud_db=-30.0, has_alarms=True, measuring=measuring
        )

    def hear(self, begin_s: float = 0, end_s: float = 12) -> None:
        for at in range(round(begin_s * RATE_HZ), round(end_s * RATE_HZ), 3200):
            self.events += self.monitor.heard(Block(self._samples[at : at + 3200], 100 + at / RATE_HZ))

    @property
    def shown(self) -> list[tuple[str, str, float, float | None]]:
        return [(event.type, event.label, event.onset, event.offset) for event in self.events]


def test_a_process_finds_what_this_one_does() -> None:
    here = Followed()
    here.hear()
    with MeasuringProcess() as process:
        there = Followed(process.measurer)
        there.hear()
        assert process.pid is not None
        assert there.levels == here.levels
        assert there.shown == here.shown
        assert len(here.shown) == 2
        assert there.monitor.level_before(110.0) == here.monitor.level_before(110.0) is not None
        there.monitor.interrupt()
        here.monitor.interrupt()
        there.hear()
        here.hear()
        assert there.levels == here.levels
        assert len(here.levels) == 12


def test_streams_in_their_threads_are_not_mixed_up() -> None:
    with MeasuringProcess() as process:
        streams = [Followed(process.measurer, seed) for seed in range(4)]
        threads = [threading.Thread(target=each.hear) for each in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in streams:
            each.monitor.level_before(0.0)  # measures what is left
    for seed, each in enumerate(streams):
        alone = Followed(seed=seed)
        alone.hear()
        found, wanted = ([level.sound for level in one.levels] for one in (each, alone))
        assert [sound.laeq_db for sound in found if sound] == pytest.approx(
            [sound.laeq_db for sound in wanted if sound]
        )


def test_a_process_that_dies_is_said_once_and_its_streams_are_measured_here(caplog: pytest.LogCaptureFixture) -> None:
    with MeasuringProcess() as process:
        one, other = Followed(process.measurer), Followed(process.measurer, 1)
        one.hear(0, 2)
        other.hear(0, 2)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        one.hear(2)
        other.hear(2)
        assert process.pid is None
        assert len(one.levels) == len(other.levels) == 6
        assert [event.type for event in one.events] == ["begin", "end"]
        assert other.monitor.interrupt() == []
    assert caplog.text.count("the process that measures levels is gone") == 1


def test_an_event_that_is_open_in_a_process_that_dies_ends() -> None:
    with MeasuringProcess() as process:
        stream = Followed(process.measurer)
        stream.hear(0, 3.5)
        assert [event.type for event in stream.events] == ["begin"]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        stream.hear(4)
    begin, end = stream.events
    assert (end.type, end.id, end.onset) == ("end", begin.id, begin.onset)
    assert end.offset == pytest.approx(103.5, abs=0.1)


def test_the_process_ends_with_the_context() -> None:
    with MeasuringProcess() as process:
        Followed(process.measurer).hear(0, 1)
        running = Path(f"/proc/{process.pid}")
        assert running.exists()
    until(lambda: not running.exists(), "it has ended")


def test_a_process_that_cannot_be_started_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with MeasuringProcess() as process:
        stream = Followed(process.measurer)
        stream.hear()
    assert len(stream.levels) == 6
    assert "the process that measures levels is gone" in caplog.text


def test_a_process_that_died_is_started_again_and_open_events_end_where_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    with MeasuringProcess(lambda: now[0]) as process:
        stream, quiet = Followed(process.measurer), Followed(process.measurer, 1)
        quiet.hear(0, 2)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        stream.hear(0, 3.5)
        assert process.pid is None
        assert [event.type for event in stream.events] == ["begin"]
        now[0] += 61
        stream.hear(3.5, 12)
        quiet.hear(2)
        assert process.pid not in (None, first)
        ended = stream.events[1]
        assert (ended.type, ended.id) == ("end", stream.events[0].id)
        assert len(quiet.levels) == 6
        later = Followed(process.measurer)
        later.hear()
        alone = Followed()
        alone.hear()
        assert later.shown == alone.shown
    assert caplog.text.count("the process that measures levels is gone") == 1
