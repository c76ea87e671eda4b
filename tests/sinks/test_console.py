"""What the console prints: when an event was announced, and its onset or offset beside it."""

import errno
import io
import os
import time
from dataclasses import replace
from datetime import datetime

import pytest

from tagger.events import Event, Stream
from tagger.sinks.console import ConsoleSink, describe

STREAM = Stream("room", "mic", "fake", ("dog", "cat"))


def test_times_are_those_of_the_announcement_and_never_run_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    base = datetime(2026, 11, 26, 14, 3, 0).timestamp()
    dog = Event("begin", "1", "dog", 0.98, 0.98, base)
    cat = Event("begin", "2", "cat", 0.9, 0.9, base + 2.0)
    file = io.StringIO()
    sink = ConsoleSink(file=file)
    for now, event in (
        (base + 4.5, cat),
        (base + 5.0, dog),  # began before
        (base + 9.0, replace(cat, type="end", offset=base + 6.0)),
        (base + 9.5, replace(dog, type="end", peak_score=0.99, offset=base + 3.0)),
    ):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        sink.event(STREAM, event)
    assert file.getvalue().splitlines() == [
        "14:03:04.5  mic        cat begins, score 0.90, onset 14:03:02.0",
        "14:03:05.0  mic        dog begins, score 0.98, onset 14:03:00.0",
        "14:03:09.0  mic        cat ends after 4.0 s, peak score 0.90, offset 14:03:06.0",
        "14:03:09.5  mic        dog ends after 3.0 s, peak score 0.99, offset 14:03:03.0",
    ]


def test_what_was_on_another_day_is_printed_with_its_date() -> None:
    """A recording at full speed."""
    onset = datetime(2024, 1, 31, 23, 59, 59).timestamp()
    dog = Event("begin", "1", "dog", 0.98, 0.98, onset)
    line = describe(dog, STREAM, datetime(2026, 11, 26, 14, 3, 5).timestamp())
    assert line == "14:03:05.0  mic        dog begins, score 0.98, onset 2024-01-31 23:59:59.0"


class FullDisk(io.StringIO):
    """A file on a disk that may be full, or whose reader may be gone."""

    error: int | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(text)


def test_a_disk_that_is_full_for_a_while_loses_lines_and_is_said_each_time(caplog: pytest.LogCaptureFixture) -> None:
    file = FullDisk()
    sink = ConsoleSink(as_json=True, file=file)
    event = Event("begin", "1", "dog", 0.98, 0.98, 1.0)
    for error in (errno.ENOSPC, errno.ENOSPC, None, errno.ENOSPC, None):
        file.error = error
        sink.event(STREAM, event)
    assert len(file.getvalue().splitlines()) == 2
    assert caplog.messages == ["standard output: No space left on device; lines are lost until it works again"] * 2


def test_nothing_is_printed_once_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    file = FullDisk()
    sink = ConsoleSink(file=file)
    for error in (errno.EPIPE, None, None):
        file.error = error
        sink.event(STREAM, Event("begin", "1", "dog", 0.98, 0.98, 1.0))
    assert (file.getvalue(), caplog.messages) == ("", ["standard output: Broken pipe; nothing more is printed"])
