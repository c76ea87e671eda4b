"""Alarms by their pattern: synthesised ones in noise, and what beeps otherwise. `bench/alarms.py` has recordings."""

import numpy as np
import pytest

from tagger.events import Event
from tagger.levels.alarm import AlarmDetector
from tagger.levels.bands import Frames
from tagger.policy import ALARMS, CO_ALARM, SMOKE_ALARM
from tests.levels.alarms import RATE_HZ, Signal, alarm, noise, reverberant

PIECE = RATE_HZ // 2


def heard(samples: Signal, end: bool = True) -> list[Event]:
    """Events in a stream that begins at 0 s."""
    frames = Frames(RATE_HZ)
    detector = AlarmDetector(frames)
    found: list[Event] = []
    for at in range(0, len(samples), PIECE):
        part = samples[at : at + PIECE].astype(np.float32)
        found += detector.heard(frames(part), (at + len(part)) / RATE_HZ - frames.behind_s)
    return [*found, *detector.close()] if end else found


def beeps(hz: float, *spans_s: tuple[float, float], seconds: float = 20.0) -> Signal:
    """Beeps from and to these seconds, in a little noise."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    on = sum(((time_s >= begin) & (time_s < end)).astype(float) for begin, end in spans_s)
    return 0.1 * np.sin(2 * np.pi * hz * time_s) * on + 0.001 * np.random.default_rng(0).normal(size=time_s.size)


def smoke(begin: float, groups: int) -> list[tuple[float, float]]:
    return [(begin + 4 * g + p, begin + 4 * g + p + 0.5) for g in range(groups) for p in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("label", ALARMS)
@pytest.mark.parametrize("colour", ["white", "pink"])
def test_alarms_are_heard_at_a_signal_to_noise_ratio_of_0_db(label: str, colour: str) -> None:
    hits = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        signal, power = alarm(label, 19.0, rng)
        events = heard(signal + noise(colour, 19.0, rng) * np.sqrt(power))
        hits += {event.label for event in events} == {label}
    assert hits >= 19


@pytest.mark.parametrize("label", ALARMS)
def test_alarms_are_heard_in_a_room_that_echoes(label: str) -> None:
    rng = np.random.default_rng(3)
    signal, power = alarm(label, 19.0, rng)
    mixed = reverberant(signal, 0.5, rng) + 0.3 * noise("pink", 19.0, rng) * np.sqrt(power)
    assert {event.label for event in heard(mixed)} == {label}


def test_an_alarm_begins_with_its_first_group_and_ends_with_its_last() -> None:
    begin, end = heard(beeps(3_100, *smoke(3.0, 4), seconds=32.0), end=False)
    assert (begin.type, begin.label, end.type, end.id) == ("begin", SMOKE_ALARM, "end", begin.id)
    assert begin.onset == pytest.approx(3.0, abs=0.15)
    assert end.offset == pytest.approx(3.0 + 12 + 2.5, abs=0.15)
    assert 0.9 < begin.score <= 1


def test_a_group_that_is_drowned_does_not_end_an_alarm() -> None:
    spans = [span for span in smoke(3.0, 5) if not 10.9 < span[0] < 13.6]
    assert [event.type for event in heard(beeps(3_100, *spans, seconds=24.0))] == ["begin", "end"]


def test_two_groups_are_needed() -> None:
    assert heard(beeps(3_100, *smoke(3.0, 1))) == []
    assert len(heard(beeps(3_100, *smoke(3.0, 2)))) == 2


@pytest.mark.parametrize(
    "spans_s",
    [
        [(1 + t, 1.5 + t) for t in range(18)],  # a reversing lorry
        [(1 + t + 0.2 * k, 1.1 + t + 0.2 * k) for t in range(18) for k in range(4)],  # an alarm clock
        [(1 + 2 * t, 2 + 2 * t) for t in range(9)],  # a telephone
        [(1 + 3 * t + p, 1.5 + 3 * t + p) for t in range(6) for p in range(2)],  # two beeps
        [(1.0, 19.0)],
    ],
)
def test_other_beeps_are_no_alarm(spans_s: list[tuple[float, float]]) -> None:
    assert heard(beeps(3_100, *spans_s)) == []


def test_the_pattern_at_another_frequency_or_of_changing_tones_is_no_alarm() -> None:
    assert heard(beeps(1_200, *smoke(3.0, 4))) == []
    low, high = smoke(3.0, 4)[::2], smoke(3.0, 4)[1::2]
    assert heard(beeps(2_700, *low) + beeps(3_400, *high)) == []


def test_the_piece_in_which_sound_comes_changes_nothing() -> None:
    samples = beeps(3_100, *smoke(3.0, 3)).astype(np.float32)
    frames = Frames(RATE_HZ)
    detector = AlarmDetector(frames)
    found: list[Event] = []
    for at in range(0, len(samples), 5_000):
        part = samples[at : at + 5_000]
        found += detector.heard(frames(part), (at + len(part)) / RATE_HZ - frames.behind_s)
    (begin, *_), wanted = found, heard(samples)[0]
    assert (begin.label, begin.onset) == (wanted.label, pytest.approx(wanted.onset, abs=0.05))


def test_carbon_monoxide_is_no_smoke() -> None:
    spans = [(2 + 5.7 * g + 0.2 * p, 2.1 + 5.7 * g + 0.2 * p) for g in range(3) for p in range(4)]
    assert [(event.type, event.label) for event in heard(beeps(3_300, *spans))] == [
        ("begin", CO_ALARM),
        ("end", CO_ALARM),
    ]
