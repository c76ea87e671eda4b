"""The daemon's log: its lines, and what repeats."""

import io
import json
import logging
import os
import re
from collections.abc import Callable

import pytest

from tagger import logs
from tagger.logs import DaemonLog
from tests.programs import run


class Said:
    """A logger with a handler whose clock the test turns."""

    def __init__(self, form: logging.Formatter | None = None) -> None:
        self.now = 0.0
        self.file = io.StringIO()
        self.handler = DaemonLog(lambda: self.now)
        self.handler.setStream(self.file)
        self.handler.setFormatter(form or logging.Formatter("%(message)s"))
        self.log = logging.Logger("tagger.test", logging.DEBUG)
        self.log.addHandler(self.handler)

    def lines(self) -> list[str]:
        """Lines since the last call."""
        found = self.file.getvalue().splitlines()
        self.file.seek(0)
        self.file.truncate()
        return found


def test_a_fault_that_repeats_is_said_once_a_minute_with_a_count() -> None:
    said = Said()
    for step in range(1_800):  # ten times a second, for three minutes
        said.now = step / 10
        said.log.warning("%s: damaged, %d bytes", "door", step)
    first, second, third = said.lines()
    assert first == "door: damaged, 0 bytes"
    assert re.fullmatch(r"door: damaged, 600 bytes \(600 times since \d\d:\d\d:\d\d\)", second)
    assert "(600 times since" in third


def test_what_stopped_repeating_is_said_within_a_minute_and_once() -> None:
    said = Said()
    for _ in range(5):
        said.log.error("%s: gone", "door")
    assert said.lines() == ["door: gone"]
    said.handler.say_repeated()
    assert said.lines() == []
    said.now = 61
    said.handler.say_repeated()
    (line,) = said.lines()
    assert line.startswith("door: gone (4 times since ")
    said.now = 122
    said.handler.say_repeated()
    said.log.error("%s: gone", "door")
    assert said.lines() == ["door: gone"]


def test_at_the_end_all_is_said() -> None:
    said = Said()
    for _ in range(3):
        said.log.error("%s: gone", "door")
    said.handler.say_repeated(at_once=True)
    assert [line.partition(" (")[0] for line in said.lines()] == ["door: gone", "door: gone"]


@pytest.mark.parametrize(
    "say",
    [
        lambda log: (log.warning("%s: gone", "door"), log.warning("%s: gone", "hall")),
        lambda log: (log.warning("%s: gone", "camera 1"), log.warning("%s: gone", "camera 2")),
        lambda log: (log.warning("%s: gone", "camera1"), log.warning("%s: gone", "camera2")),
        lambda log: (log.warning("%s: %s", "door", "refused"), log.warning("%s: %s", "door", "no answer")),
        lambda log: (log.warning("a"), log.warning("b")),
        lambda log: (log.info("the same"), log.info("the same")),
    ],
)
def test_different_faults_and_news_are_all_said(say: Callable[[logging.Logger], object]) -> None:
    said = Said()
    say(said.log)
    assert len(said.lines()) == 2


@pytest.mark.parametrize("detail", ["after %g s", "%s"])
def test_the_same_fault_with_other_numbers_is_the_same(detail: str) -> None:
    said = Said()
    for number in (1.5, 20, 300):
        value = f"no bytes for {number} s" if detail == "%s" else number
        said.log.warning(f"%s: {detail}", "door", value)
    assert len(said.lines()) == 1


def test_memory_is_bounded() -> None:
    said = Said()
    for number in range(3_000):
        said.log.warning("%s: gone", f"source{number}")
    assert len(said.lines()) == 3_000
    said.log.warning("%s: gone", "source2000")
    assert said.lines() == []
    said.log.warning("%s: gone", "source1999")
    assert said.lines() == ["source1999: gone"]  # only the last thousand are remembered


def configured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: logs.Format) -> list[str]:
    """What the configured log writes."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logs, "handler", None)
    logger = logging.getLogger("tagger")
    before = logger.level
    try:
        logs.configure("info", form)
        logs.tell("listening to  mic")
        logger.info("works again")
        logger.debug("not said")
        for _ in range(2):
            logger.warning("%s: gone\x1b[2J", "door")
        logs.set_level("error")
        logger.warning("not said either")
        logs.say_repeated(at_once=True)
    finally:
        logger.setLevel(before)
    return capsys.readouterr().err.splitlines()


def test_text_has_date_and_level(monkeypatch, capsys) -> None:
    told, news, warning, again = configured(monkeypatch, capsys, "text")
    assert told == "listening to  mic"
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(f"{date} works again", news)
    assert re.fullmatch(rf"{date} WARNING: door: gone\\x1b\[2J", warning)
    assert re.fullmatch(rf"{date} WARNING: door: gone\\x1b\[2J \(1 time since .*\)", again)


def test_json_is_one_object_a_line(monkeypatch, capsys) -> None:
    told, news, warning, again = map(json.loads, configured(monkeypatch, capsys, "json"))
    assert told["message"] == "listening to  mic"
    assert (news["level"], news["logger"], news["message"]) == ("info", "tagger", "works again")
    assert warning["message"] == "door: gone\x1b[2J"
    assert again["repeated"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", warning["time"])


def test_an_exception_is_part_of_its_json_line() -> None:
    said = Said(logs.JsonFormatter())
    try:
        raise ValueError("x")
    except ValueError:
        said.log.exception("failed")
    (line,) = said.lines()
    assert "ValueError: x" in json.loads(line)["exception"]


def test_the_journal_gets_priorities_and_no_date(monkeypatch, capsys, tmp_path) -> None:
    with (tmp_path / "journal").open("w") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert not logs.is_journal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", file)
            assert logs.is_journal()
    said = Said(logs.JournalFormatter())
    said.log.info("news")
    said.log.warning("%s", "two\nlines")
    assert said.lines() == ["<6>news", "<4>two\\nlines"]


def test_a_level_that_there_is_not_is_refused(tmp_path) -> None:
    done = run("listen", "demo", "--mqtt", "none", "--log-level", "loud")
    assert done.exit_code == 2
    assert "must be one of debug, info, warning, error" in done.stderr
