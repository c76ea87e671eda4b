"""What others say of what is open costs bounded memory, whoever says it, and what is left out is told."""

import logging
import pickle

import pytest

from tagger.daemon.open_event import OpenEvent
from tagger.events import Event, Stream
from tagger.fleet import others, room
from tagger.fleet.journal import Journal
from tagger.fleet.opened import Record, is_of
from tagger.fleet.others import Messages, Others
from tagger.mqtt.delivery import Delivery
from tagger.settings import MqttSettings

SETTINGS = MqttSettings(node="city-1")


def message(source: str, fleet: str = "city") -> bytes:
    """A worker says that one event is open."""
    event = OpenEvent(Stream("n", source, "fake", ("dog",)), Event("begin", f"e-{source}", "dog", 0.9, 0.9, 1.0), 1.0)
    return Record(fleet, 1, "x", [(event, 1.0)]).to_json().encode()


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 50_000)
    caplog.set_level(logging.WARNING, "tagger.fleet")


def connected() -> tuple[Journal, Delivery]:
    """The journal of a worker that has just connected."""
    journal, delivery = Journal(SETTINGS, "city", lambda *_: None, lambda *_: None), Delivery(SETTINGS, None, None, "x")
    journal.attach(delivery)
    journal.connected()
    return journal, delivery


def test_a_flood_of_topics_of_other_nodes_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    found = Others("city")
    for i in range(1_000):
        found.note(f"n{i}", "yard", message("yard"), True)
    assert 20 < len(list(found.of("yard"))) < 100
    assert "512 messages are left out so far" in caplog.text
    assert len(caplog.records) < 12


def test_a_flood_is_told_again_after_there_was_room(caplog: pytest.LogCaptureFixture) -> None:
    found = Others("city")
    for _ in range(2):
        caplog.clear()
        for i in range(100):
            found.note(f"n{i}", "yard", message("yard"), True)
        assert caplog.text.count("left out so far") > 3
        for i in range(100):
            found.note(f"n{i}", "yard", b"", True)
        assert not list(found.of("yard"))


def test_a_flood_of_topics_of_this_node_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    journal, delivery = connected()
    for i in range(1_000):
        assert journal.note(f"tagger/city-1/s{i}/open", message(f"s{i}"), True)
    journal.caught_up()
    assert 20 < len(list(iter(delivery.backlog.next, None))) < 100, "so many are published anew"
    assert "city-1: the broker retains more than 0.05 MB" in caplog.text


def test_messages_of_another_fleet_take_no_room(caplog: pytest.LogCaptureFixture) -> None:
    journal, _ = connected()
    for i in range(1_000):
        journal.note(f"tagger/town-1/s{i}/open", message(f"s{i}", "town"), True)
        journal.note(f"tagger/town-2/s{i}/open", b"x" * 10_000, True)
    assert not caplog.records


@pytest.mark.parametrize("fleet", ["city", "Köln", 'a "b"', "c\\d"])
def test_a_message_of_a_fleet_is_known_by_a_look(fleet: str) -> None:
    assert is_of(message("yard", fleet), fleet)
    assert is_of(Record(fleet, 1, "x", taken=["e"]).to_json().encode(), fleet)
    assert not is_of(message("yard", fleet), "town")


def test_a_message_that_is_taken_back_gives_its_room_back() -> None:
    found = Messages("city-1")
    for i in range(1_000):
        found.note(f"s{i}", message("yard"))
        found.note(f"s{i}", b"")
    found.note("yard", message("yard"))
    assert found.take_all() == [("yard", message("yard"))]
    assert found.take_all() == []


def test_what_nodes_that_never_answer_were_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "MOST_TOLD", 10)
    found = Others("city")
    for i in range(100):
        found.tell(f"n{i}", "yard", "taken")
    assert [node for node, _, _ in found.untold()] == [f"n{i}" for i in range(90, 100)]
    found.answered("n95", "yard")
    assert (found.told("n95", "yard"), found.told("n96", "yard")) == ("", "taken")


def test_sources_that_come_and_go_for_years_leave_nothing() -> None:
    found = Others("city")
    for i in range(1_000):
        found.note("n", f"s{i}", message(f"s{i}"), False)
        found.note("n", f"s{i}", b"", False)
    assert len(pickle.dumps(found)) == len(pickle.dumps(Others("city")))
