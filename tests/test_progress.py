import io
import sys
from collections.abc import Callable

import pytest

from tagger.progress import EVERY_S, Progress, counted, in_words


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    def read() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return read


def test_a_log_gets_a_line_at_the_beginning_every_few_seconds_and_at_the_end(clock, lines):
    with Progress("decoding", 2000, "files", clock=clock) as progress:
        for _ in range(4):
            clock.now += EVERY_S / 2
            progress.update(160)
        progress.update(1360)
    assert lines() == [
        "decoding: 2000 files",
        "decoding: 320 of 2000 files, 79 s left",
        "decoding: 640 of 2000 files, 64 s left",
        "decoding: 2000 of 2000 files, took 30 s",
    ]


@pytest.mark.parametrize(
    ("unit", "said"), [("files", "1 file"), ("batches", "1 batch"), ("s", "1 s"), ("min", "1 min"), ("", "1")]
)
def test_one_of_something_is_one(unit, said, clock, lines):
    with Progress("reading", 1, unit, clock=clock) as progress:
        progress.update()
    assert lines() == [f"reading: {said}"]


def test_a_brief_stage_says_nothing_unless_it_lasts(clock, lines):
    with Progress("scoring", 3, "clips", brief=True, clock=clock) as progress:
        progress.update(3)
    assert lines() == []
    with Progress("scoring", 3, "clips", brief=True, clock=clock) as progress:
        clock.now += EVERY_S
        progress.update()
        assert lines() == ["scoring: 1 of 3 clips, 30 s left"]


def test_units_are_scaled_and_notes_are_safe_to_print(clock, lines):
    with Progress("listening", 1200, "min", 60, clock=clock) as progress:
        progress.note = "a\x1b[2J.wav"
        clock.now += EVERY_S
        progress.update(90)
        assert lines() == ["listening: 20.0 min", "listening: 1.5 of 20.0 min, a\\x1b[2J.wav, 3.1 min left"]


def test_a_total_that_is_not_known_is_left_out(clock, lines):
    with Progress("ESC-50", None, "MB", 1e6, clock=clock) as progress:
        clock.now += EVERY_S
        progress.update(12_300_000)
        assert lines() == ["ESC-50: begins", "ESC-50: 12.3 MB"]
        progress.total = 600e6
        assert progress.text.startswith("12.3 of 600 MB, ")


def test_what_is_not_shown_prints_nothing(clock, lines):
    with Progress("decoding", 2, "files", shown=False, clock=clock) as progress:
        clock.now += EVERY_S
        progress.update(2)
    assert lines() == []


def test_a_stage_that_breaks_does_not_say_what_it_took(clock, lines):
    def stage() -> None:
        with Progress("decoding", 2, "files", clock=clock) as progress:
            clock.now += EVERY_S
            progress.update()
            raise KeyError

    with pytest.raises(KeyError):
        stage()
    assert lines() == ["decoding: 2 files", "decoding: 1 of 2 files, 15 s left"]


def test_a_terminal_gets_a_bar_with_count_and_time_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress("decoding", 200, "files", clock=clock) as progress:
        clock.now += 10
        progress.update(50)
        progress.note = "one of them"
        progress.update(0)
    text = terminal.getvalue()
    assert "decoding" in text
    assert "50 of 200 files, 30 s left" in text
    assert "50 of 200 files, one of them, 30 s left" in text


def test_items_are_counted(lines):
    assert list(counted("reading", [3, 4], "files")) == [3, 4]
    assert list(counted("unpacking", [3, 4], "files", brief=False)) == [3, 4]
    assert lines() == ["unpacking: 2 files"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (99, "99 s"), (100, "1.7 min"), (5900, "98.3 min"), (36_000, "10.0 h")]
)
def test_lengths_of_time(seconds, words):
    assert in_words(seconds) == words
