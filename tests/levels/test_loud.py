"""Events of sounds above a level."""

import numpy as np
import pytest

from tagger.levels.loud import LoudDetector

STEP_S = 0.002


def heard(power_db: np.ndarray, piece: int = 100) -> list[tuple[str, float]]:
    """Type and time of the events of a power that begins at 0 s, with a limit of -20 dB."""
    detector, found = LoudDetector(-20.0, STEP_S), []
    power = 10 ** (power_db / 10)
    for at in range(0, len(power), piece):
        found += detector.heard(power[at : at + piece], at * STEP_S)
    found += detector.close()
    return [(event.type, event.onset if event.offset is None else event.offset) for event in found]


def stretches(*parts: tuple[float, float]) -> np.ndarray:
    """Decibels for seconds, one stretch after the other."""
    return np.concatenate([np.full(round(seconds / STEP_S), db) for db, seconds in parts])


@pytest.mark.parametrize("piece", [1, 37, 250, 100_000])
def test_an_event_lasts_while_it_is_loud(piece: int) -> None:
    power_db = stretches((-60, 1), (-10, 2), (-60, 1), (-10, 1), (-60, 3), (-20, 0.002), (-60, 5))
    found = heard(power_db, piece)
    assert [kind for kind, _ in found] == ["begin", "end", "begin", "end"]
    assert [time for _, time in found] == pytest.approx([1, 5, 8, 8], abs=2 * STEP_S)


def test_a_little_quieter_is_still_loud() -> None:
    assert len(heard(stretches((-19, 1), (-22, 30), (-19, 1)))) == 2
    assert heard(stretches((-21, 30))) == []


def test_what_goes_on_ends_with_the_stream() -> None:
    assert [kind for kind, _ in heard(stretches((-60, 1), (-10, 60)))] == ["begin", "end"]
