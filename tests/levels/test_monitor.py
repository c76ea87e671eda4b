"""Levels of a stream, and what is kept with its events."""

import threading

import numpy as np
import pytest

from tagger.events import Block, Event, Level
from tagger.levels.monitor import SoundMonitor
from tagger.levels.monitor import turn as the_turn

RATE_HZ = 32_000


def monitored(samples: np.ndarray, size: int, **settings: float) -> tuple[list[Level], list[Event], SoundMonitor]:
    """Plays a stream that began at 100 s, in blocks of `size`."""
    levels: list[Level] = []
    events: list[Event] = []
    monitor = SoundMonitor(RATE_HZ, settings.pop("seconds", 1.0), levels.append, **settings)
    for at in range(0, len(samples), size):
        events += monitor.heard(Block(samples[at : at + size].astype(np.float32), 100 + at / RATE_HZ))
    return levels, events, monitor


def tone(seconds: float, amplitude: float = 0.5, frequency_hz: float = 1000.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)


def numbers(level: Level) -> list[float | None]:
    """A level's decibels."""
    sound = level.sound
    assert sound is not None
    bands = sound.third_octaves_db.values()
    return [level.rms_dbfs, level.peak_dbfs, sound.laeq_db, sound.lafmax_db, sound.la10_db, sound.la90_db, *bands]


def test_a_tone_of_1_khz_has_one_level_whatever_is_asked() -> None:
    levels, _, _ = monitored(tone(3.0), 1600)
    sound = levels[-1].sound
    assert sound is not None
    wanted = pytest.approx(levels[-1].rms_dbfs, abs=0.05)
    assert (sound.laeq_db, sound.lafmax_db, sound.third_octaves_db["1000"]) == (wanted,) * 3
    assert (sound.la10_db, sound.la90_db) == (pytest.approx(levels[-1].rms_dbfs, abs=0.15),) * 2
    assert not sound.is_calibrated
    assert sound.to_json()["reference"] == "relative"


def test_a_calibrated_source_has_sound_pressure_levels() -> None:
    plain = monitored(tone(2.0), 1600)[0][-1].sound
    levels, _, monitor = monitored(tone(2.0), 1600, calibrate_db=103.03)
    assert plain is not None
    assert levels[-1].sound is not None
    assert levels[-1].sound.laeq_db == pytest.approx(94.0, abs=0.05)
    assert levels[-1].sound.third_octaves_db["1000"] == pytest.approx(94.0, abs=0.05)
    assert levels[-1].sound.la90_db == pytest.approx(plain.la90_db + 103.03)
    assert levels[-1].sound.to_json()["reference"] == "calibrated"
    assert monitor.level_before(102.0) == pytest.approx(94.0, abs=0.05)


@pytest.mark.parametrize("size", [1, 777, 16_000, 200_000])
def test_the_size_of_blocks_changes_nothing(size: int) -> None:
    seconds = 1 if size == 1 else 5
    noise = np.random.default_rng(0).normal(0, 0.1, seconds * RATE_HZ)
    noise[RATE_HZ // 2 :] *= 0.1
    wanted, events, _ = monitored(noise, 1600, seconds=0.7, loud_db=-30.0)
    found, others, _ = monitored(noise, size, seconds=0.7, loud_db=-30.0)
    assert [numbers(level) for level in found] == [pytest.approx(numbers(level), abs=0.005) for level in wanted]
    assert [level.time for level in found] == pytest.approx([level.time for level in wanted])
    assert [(event.type, round(event.onset, 6)) for event in others] == [
        (event.type, round(event.onset, 6)) for event in events
    ]


def test_while_another_stream_is_measured_a_stream_goes_on_and_its_levels_come_later() -> None:
    sound = tone(20.0, 0.1).astype(np.float32)
    sound[3 * RATE_HZ : 4 * RATE_HZ] *= 5
    wanted, events, _ = monitored(sound, 1600, loud_db=-15.0)
    found: list[Level] = []
    others: list[Event] = []
    monitor = SoundMonitor(RATE_HZ, 1.0, found.append, loud_db=-15.0)

    def hear(begin_s: float, end_s: float) -> None:
        for at in range(round(begin_s * RATE_HZ), round(end_s * RATE_HZ), 1600):
            others.extend(monitor.heard(Block(sound[at : at + 1600], 100 + at / RATE_HZ)))

    hear(0, 2)
    with the_turn:
        hear(2, 5.4)
        assert len(found) == 2
        assert not others
    hear(5.4, 5.5)
    assert len(found) == 5
    assert [event.type for event in others] == ["begin"]
    hear(5.5, 20)
    assert [numbers(level) for level in found] == [pytest.approx(numbers(level), abs=0.005) for level in wanted]
    assert [(event.type, event.onset) for event in others] == [
        (event.type, pytest.approx(event.onset, abs=1e-6)) for event in events
    ]


def test_a_stream_that_waits_for_long_measures_before_it_goes_on() -> None:
    found: list[Level] = []
    monitor = SoundMonitor(RATE_HZ, 1.0, found.append)
    the_turn.acquire()
    thread = threading.Thread(
        target=lambda: [monitor.heard(Block(np.zeros(RATE_HZ, np.float32), 100 + at)) for at in range(20)]
    )
    thread.start()
    thread.join(0.5)  # nobody gives it the turn, however long this is
    assert thread.is_alive()
    assert not found
    the_turn.release()
    thread.join()
    assert len(found) == 20


def test_a_live_stream_never_waits_and_what_it_cannot_measure_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A machine that is too slow for the levels still has the network hear the newest sound."""
    levels: list[Level] = []
    now = 0.0
    monitor = SoundMonitor(RATE_HZ, 1.0, levels.append, loud_db=-20.0, now=lambda: now)
    events: list[Event] = []

    def hear(begin_s: int, end_s: int, amplitude: float) -> None:
        nonlocal now
        for second in range(begin_s, end_s):
            for part in range(10):
                now = second + part / 10
                events.extend(monitor.heard(Block(tone(0.1, amplitude).astype(np.float32), 100 + now)))

    hear(0, 2, 0.5)
    assert [(event.label, event.type) for event in events] == [("loud", "begin")]
    with the_turn:
        hear(2, 30, 0.5)
    assert len(levels) == 2
    assert "were left out" in caplog.text
    hear(30, 34, 0.01)
    assert [level.time for level in levels[:2]] == [101, 102]
    late = [level for level in levels[2:] if level.time > 131.5]
    assert late
    assert all(level.rms_dbfs == pytest.approx(-43.0, abs=0.1) for level in late)
    assert [(event.label, event.type) for event in events] in (
        [("loud", "begin"), ("loud", "end")],
        [("loud", "begin"), ("loud", "end"), ("loud", "begin"), ("loud", "end")],
    )
    assert events[1].offset == pytest.approx(102, abs=0.1)


def test_what_was_heard_before_a_gap_is_measured() -> None:
    """The last part of a stream is shorter than what is measured together."""
    _, events, monitor = monitored(tone(0.3), 1600, loud_db=-15.0)
    assert events == []
    assert [event.type for event in monitor.interrupt()] == ["begin", "end"]


def test_a_span_is_exactly_as_long_as_asked() -> None:
    levels, _, _ = monitored(np.zeros(10 * RATE_HZ), 7777, seconds=2.0)
    assert [level.time for level in levels] == pytest.approx([102, 104, 106, 108, 110])
    assert levels[0].sound is not None
    assert levels[0].sound.laeq_db == -120


def test_percentiles_are_levels_that_were_exceeded_for_a_share_of_the_time() -> None:
    steps = np.repeat(np.array([0.5, 0.05, 0.05, 0.05]), 3 * RATE_HZ)
    levels, _, _ = monitored(steps * tone(12.0, 1.0), 3200, seconds=12.0)
    sound = levels[0].sound
    assert sound is not None
    assert sound.la10_db == pytest.approx(-9.0, abs=0.2)
    assert sound.la90_db == pytest.approx(-29.0, abs=0.2)
    assert sound.laeq_db == pytest.approx(10 * np.log10((0.125 + 3 * 0.00125) / 4), abs=0.1)


def test_a_gap_begins_anew() -> None:
    levels: list[Level] = []
    monitor = SoundMonitor(RATE_HZ, 2.0, levels.append, loud_db=-20.0)
    loud = Block(tone(1.5).astype(np.float32), 100)
    (begin,) = monitor.heard(loud)
    (end,) = monitor.heard(Block(np.zeros(2 * RATE_HZ, np.float32), 200, gap=True))
    assert (begin.label, end.type, end.offset) == ("loud", "end", pytest.approx(101.5, abs=0.01))
    (level,) = levels
    assert (level.time, level.rms_dbfs) == (202, -120)
    assert level.sound is not None
    assert level.sound.lafmax_db == -120
    assert monitor.level_before(200.5) is None
    assert monitor.level_before(202.4) == -120


def test_what_is_no_number_does_not_stay() -> None:
    samples = tone(4.0)
    samples[1000] = np.nan
    levels, _, _ = monitored(samples, 1600)
    assert levels[-1].sound is not None
    assert levels[-1].sound.laeq_db == pytest.approx(-9.03, abs=0.05)


def test_the_level_before_an_event_is_that_of_ten_seconds_without_the_event() -> None:
    samples = np.concatenate([tone(6, 0.5), tone(10.5, 0.005), tone(3, 0.9)])
    _, _, monitor = monitored(samples, 1600, memory_s=8.0)
    assert monitor.level_before(116.8) == pytest.approx(-49.0, abs=0.1)
    assert monitor.level_before(111.5) == pytest.approx(10 * np.log10(0.125 / 2), abs=0.1)
    assert monitor.level_before(101.4) is None
