"""`tagger devices --meter`: the level of a microphone, in place on a terminal, a line a second elsewhere."""

import json
import os
import pty
import re
import select
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tagger import sources
from tagger.cli.main import main
from tagger.errors import TaggerError
from tagger.events import Block
from tagger.sources import portaudio
from tests.fakes import FakeSource
from tests.programs import LONG_S, refused, run

RATE_HZ = 8_000
DEVICE = {"index": 3, "name": "USB Audio", "max_input_channels": 1, "default_samplerate": 8_000.0, "is_default": True}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Ctrl-C is deaf after a command has taken one, since its process is about to end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Microphone(FakeSource):
    """Plays some seconds; then Ctrl-C comes, and it plays on, or breaks."""

    def __init__(self, *seconds: float, breaks: bool = False) -> None:
        blocks = [
            Block(np.full(RATE_HZ // 20, each, np.float32) * (-1) ** np.arange(RATE_HZ // 20), second + part / 20)
            for second, each in enumerate(seconds)
            for part in range(20)
        ]
        super().__init__([*blocks, TaggerError("it has gone")] if breaks else blocks)
        self._breaks = breaks

    def blocks(self) -> Iterator[Block]:
        yield from super().blocks()
        os.kill(os.getpid(), signal.SIGINT)
        yield Block(np.zeros(1, np.float32), 0.0)
        pytest.fail("it goes on after Ctrl-C")


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Set its only element to what the microphone plays. What was opened is appended."""
    play: list[Any] = [None]

    def opened(uri: str, rate_hz: int) -> Any:
        play.extend([uri, rate_hz])
        return play[0]

    monkeypatch.setattr(sources, "open_source", opened)
    monkeypatch.setattr(portaudio, "input_devices", lambda: [DEVICE])
    return play


def test_a_line_a_second_where_there_is_no_terminal(microphone):
    microphone[0] = Microphone(0.1, 0.01, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1)
    done = run("devices", "--meter")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "rms -20.0  peak -20.0 dBFS",
        "rms -40.0  peak -40.0 dBFS",
        "rms 0.0  peak 0.0 dBFS  CLIPPED: too loud",
        *["rms -120.0  peak -120.0 dBFS"] * 3,
        "rms -120.0  peak -120.0 dBFS  silent: is it muted?",
        "rms -20.0  peak -20.0 dBFS",
    ]
    assert microphone[1:] == ["mic", 8_000]


@pytest.mark.parametrize(
    ("given", "opened"), [("USB", "mic:USB"), ("mic:USB", "mic:USB"), ("3", "mic:3"), ("mic", "mic")]
)
def test_the_device_is_named_as_for_listen(given, opened, microphone):
    microphone[0] = Microphone(0.1)
    assert run("devices", "--meter", given).exit_code == 0
    assert microphone[1] == opened


def test_lines_of_json(microphone):
    microphone[0] = Microphone(1.0)
    done = run("devices", "--meter", "--json")
    assert json.loads(done.stdout) == {
        "rms_dbfs": 0.0,
        "peak_dbfs": 0.0,
        "clipped": 8_000,
        "trouble": "CLIPPED: too loud",
    }


def test_a_device_that_goes_is_an_error(microphone):
    microphone[0] = Microphone(0.1, breaks=True)
    done = run("devices", "--meter")
    assert (done.exit_code, done.stdout) == (1, "rms -20.0  peak -20.0 dBFS\n")
    assert "it has gone" in done.stderr


def test_mistakes(microphone):
    refused(run("devices", "USB"), "--meter")
    refused(run("devices", "--meter", "HDMI"), "no input device 'HDMI'")


def test_on_a_terminal_one_line_is_drawn_in_place_and_removed(microphone, monkeypatch):
    microphone[0] = Microphone(0.1, 1.0)
    parent, child = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(child, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        main(["devices", "--meter"], standalone_mode=False)
        shown = ""
        while shown.count("\r\x1b[K") < 21:
            assert select.select([parent], [], [], LONG_S)[0], shown
            shown += os.read(parent, 100_000).decode()
    os.close(parent)
    drawn = shown.split("\r\x1b[K")
    assert "\n" not in shown
    assert len(drawn) == 22
    assert drawn[0] == drawn[-1] == ""
    assert re.fullmatch(r"\[#+-*\| +\]  rms  -20  peak  -20 dB", drawn[5])
    assert re.fullmatch(r"\[#+\|\]  rms    0  peak    0 dB  CLIPPED: too loud", drawn[15])
