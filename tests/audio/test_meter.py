"""The meter's line: a bar, a held peak, and words about what is wrong."""

import io
import re

import numpy as np
import pytest

from tagger.audio.meter import Meter, Meters, plain
from tagger.events import Block, Level
from tagger.printable import StatusLine

RATE_HZ = 32_000


def at(time: float, rms: float = -30.0, peak: float = -20.0, clipped: int = 0) -> Level:
    return Level(rms, peak, clipped, time)


def after(*levels: Level) -> Meter:
    meter = Meter()
    for level in levels:
        meter.add(level)
    return meter


def bar(meter: Meter, columns: int = 79) -> str:
    found = re.match(r"\[(.*?)\]", meter.line(columns))
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("peak", "share"), [(-60.0, 0.0), (-30.0, 0.5), (0.0, 1.0), (-120.0, 0.0), (3.0, 1.0)])
def test_the_bar_is_as_long_as_the_level_is_high(peak, share):
    drawn = bar(after(at(0.0, rms=peak, peak=peak)))
    assert abs(len(drawn.rstrip()) - share * len(drawn)) <= 1


def test_the_highest_peak_is_held_for_a_while():
    loud, soft = at(0.0, peak=-6.0), [at(0.1 * each, rms=-50.0, peak=-40.0) for each in range(1, 40)]
    held = bar(after(loud))
    assert bar(after(loud, *soft[:14])).index("|") == held.index("|")
    assert bar(after(loud, *soft[:18])).index("|") < held.index("|")
    assert "peak   -6" in after(loud, *soft[:14]).line(79)


def test_clipping_is_said_and_stays_for_a_moment():
    assert after(at(0.0)).trouble == ""
    assert after(at(0.0, clipped=3), at(1.0)).trouble == "CLIPPED: too loud"
    assert after(at(0.0, clipped=3), at(2.1)).trouble == ""


def test_silence_is_said_after_three_seconds():
    nothing = [at(0.1 * each, rms=-90.0, peak=-80.0) for each in range(40)]
    assert after(*nothing[:30]).trouble == ""
    assert after(*nothing[:32]).trouble == "silent: is it muted?"
    assert after(*nothing, at(4.1)).trouble == ""
    quiet_room = [at(0.1 * each, rms=-75.0, peak=-65.0) for each in range(40)]
    assert after(*quiet_room).trouble == ""


def test_the_line_has_room_for_words_and_fits():
    long = Meter()
    for level in (at(0.0), at(1.0, clipped=1)):
        long.add(level)
        for columns in range(1, 200):
            assert len(long.line(columns)) <= max(columns, 30)
    assert len(bar(after(at(0.0)))) == len(bar(long)) == 31
    assert re.fullmatch(r"\[#+-*\| +\]   -20 dB  CLIPPED: too loud", long.line(42))
    assert long.line(10) == " -20 dB  CLIPPED: too loud"
    assert Meter().line(79) == "no sound yet"


def test_a_line_for_a_file():
    assert plain(at(0.0, rms=-0.04), "") == "rms 0.0  peak -20.0 dBFS"


# --- several sources ---


class Terminal(StatusLine):
    columns = 79  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)


def tone(seconds: float, level: float = 0.1) -> Block:
    return Block(level * np.sin(np.arange(round(seconds * RATE_HZ)) / 10).astype(np.float32), 0.0)


def test_each_source_has_its_place_in_the_line():
    line, times = Terminal(), iter(np.arange(0, 100, 0.2))
    meters = Meters(["kitchen", "hall"], line, now=lambda: float(next(times)))
    kitchen, hall = meters.tap("kitchen", RATE_HZ), meters.tap("hall", RATE_HZ)
    kitchen.heard(tone(0.1))
    assert re.fullmatch(r"kitchen \[.*\]   -20 dB \| hall no audio", line.shown[-1])
    hall.heard(tone(0.1, 0.01))
    assert re.search(r" \| hall \[.*\]   -40 dB$", line.shown[-1])
    assert all(len(each) <= 79 for each in line.shown)


def test_a_source_that_stops_is_said():
    line, now = Terminal(), [0.0]
    meters = Meters(["mic"], line, now=lambda: now[0])
    meters.tap("mic", RATE_HZ).heard(tone(0.1))
    assert "rms" in line.shown[-1]
    now[0] = 2.5
    meters.draw()
    assert line.shown[-1] == "no audio"


def test_a_file_at_full_speed_does_not_flood_the_terminal():
    line = Terminal()
    tap = Meters(["file"], line, now=lambda: 7.0).tap("file", RATE_HZ)
    for _ in range(100):
        tap.heard(tone(0.1))
    assert len(line.shown) == 1


def test_after_the_end_nothing_is_drawn():
    line = Terminal()
    meters = Meters(["mic"], line)
    meters.close()
    meters.tap("mic", RATE_HZ).heard(tone(0.1))
    assert line.shown == []
