"""The last faults: what is kept of the log, and how much."""

import logging
from collections.abc import Iterator

import pytest

from tagger.faults import MOST_FAULTS, SAME_SECONDS, Faults
from tagger.retry import Retry
from tagger.times import rfc3339

log = logging.getLogger("tagger.test")


@pytest.fixture
def faults() -> Iterator[Faults]:
    kept = Faults()
    with kept.listening():
        yield kept


def told(faults: Faults) -> list[tuple[str, str, str, int]]:
    return [(each["about"], each["said"], each["advice"], each["times"]) for each in faults.to_json()["faults"]]


def emit(faults: Faults, at: float, form: str, *values: object, level: int = logging.WARNING) -> None:
    record = logging.makeLogRecord({"name": "tagger.x", "msg": form, "args": values, "levelno": level, "created": at})
    faults.emit(record)


def test_a_source_that_cannot_be_opened_is_told_with_what_is_done(faults: Faults) -> None:
    Retry("door", "trying again in {first:g} s").failed("no answer")
    assert ("door", "no answer", "trying again in 1 s", 1) in told(faults)


@pytest.mark.parametrize(("form", "values", "parts"), [
    ("MQTT: lost %s (%s); reconnecting, events wait", ("mqtt://b:1883", "it hung up"),
     ("MQTT", "lost mqtt://b:1883 (it hung up)", "reconnecting, events wait")),
    ("%s: cannot be written (%s)", ("/var/a: b", "no room"), ("/var/a: b", "cannot be written (no room)", "")),
    ("a batch of %d is too large", (8,), ("", "a batch of 8 is too large", "")),
    ("%s", ("mic: it broke; look",), ("", "mic: it broke", "look")),
    ("the live page: a message could not be made", (), ("the live page", "a message could not be made", "")),
])  # fmt: skip
def test_what_a_message_is_about(form: str, values: tuple[object, ...], parts: tuple[str, str, str]) -> None:
    faults = Faults()
    emit(faults, 1.0, form, *values)
    assert told(faults) == [(*parts, 1)]


def test_news_are_no_faults(faults: Faults) -> None:
    log.setLevel(logging.INFO)
    log.info("connected")
    log.warning("lost")
    assert [said for _, said, _, _ in told(faults) if said in ("connected", "lost")] == ["lost"]


def test_the_same_fault_is_counted_for_a_while_and_the_newest_comes_first() -> None:
    faults = Faults()
    emit(faults, 100.0, "%s: %.1f s of sound did not come", "door", 1.5)
    emit(faults, 101.0, "%s: away", "mic", level=logging.ERROR)
    emit(faults, 102.0, "%s: %.1f s of sound did not come", "door", 2.5)
    assert faults.to_json()["faults"] == [
        {
            **{"first": rfc3339(100.0), "last": rfc3339(102.0), "times": 2, "level": "warning", "about": "door"},
            **{"said": "2.5 s of sound did not come", "advice": ""},
        },
        {
            **{"first": rfc3339(101.0), "last": rfc3339(101.0), "times": 1, "level": "error", "about": "mic"},
            **{"said": "away", "advice": ""},
        },
    ]
    emit(faults, 102.0 + SAME_SECONDS + 1, "%s: %.1f s of sound did not come", "door", 3.5)
    assert [each[3] for each in told(faults)] == [1, 2, 1]


def test_a_message_whose_values_do_not_fit_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # else it is printed
    faults = Faults()
    emit(faults, 1.0, "a batch of %d is too large", "eight")
    emit(faults, 2.0, "lost")
    assert told(faults) == [("", "lost", "", 1)]


def test_a_flood_is_bounded_in_number_and_size() -> None:
    faults = Faults()
    for number in range(3 * MOST_FAULTS):
        emit(faults, float(number), "%s: %s; %s", f"door {number}", "x" * 2_000, "y" * 2_000)
    found = faults.to_json()["faults"]
    assert len(found) == MOST_FAULTS
    assert found[0]["about"] == f"door {3 * MOST_FAULTS - 1}"
    assert max(len(each["about"] + each["said"] + each["advice"]) for each in found) <= 2_000
