"""The outbox: order, bounds, exactly one end for each event, and what survives."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.errors import TaggerError, UserError
from tagger.events import Event, Stream
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.programs import free_port, room_for, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def payloads(box: Outbox) -> list[str]:
    return [each.payload for each in box.read_after(0, 1000)]


def test_messages_wait_in_order_until_they_are_acknowledged(path: Path) -> None:
    box = Outbox(path, 10)
    box.put("t", "1", "a", True)
    box.put("t", "2", "b", True)
    box.put("u", "3", "a", False)
    first, second = box.read_after(0, 2)
    assert (first.topic, first.payload, second.payload) == ("t", "1", "2")
    assert [each.payload for each in box.read_after(second.number, 9)] == ["3"]
    box.acknowledge(second.number)
    box.acknowledge(second.number)
    assert (payloads(box), len(box)) == (["1", "3"], 2)
    box.close()
    again = Outbox(path, 10)
    assert (payloads(again), len(again)) == (["1", "3"], 2)
    again.close()


def test_an_event_ends_once_and_only_if_its_begin_was_added(path: Path) -> None:
    box = Outbox(path, 10)
    box.put("t", "end of nothing", "x", False)
    box.put("t", "begin", "a", True)
    box.put("t", "begin again", "a", True)
    box.close()
    box = Outbox(path, 10)
    box.put("t", "end", "a", False)
    box.put("t", "end again", "a", False)
    assert payloads(box) == ["begin", "end"]
    box.close()


@given(
    limit=st.integers(1, 8),
    steps=st.lists(st.one_of(st.tuples(st.just("put"), st.integers(0, 4)), st.tuples(st.just("done"), st.just(0)))),
)
def test_the_newest_are_kept_and_none_in_flight_is_dropped(limit: int, steps: list[tuple[str, int]]) -> None:
    box, made, kept = Outbox(None, limit), 0, []
    for what, on_way in steps:
        if what == "put":
            handed_over = box.read_after(0, 1000)[:on_way][-1].number if on_way and len(box) else 0
            box.put("t", str(made), str(made), True, handed_over)
            kept.append(made)
            protected = min(on_way, len(kept) - 1)
            excess = max(0, len(kept) - limit)
            del kept[protected : protected + excess]
            made += 1
        elif kept:
            box.acknowledge(box.read_after(0, 1)[0].number)
            kept.pop(0)
        assert payloads(box) == [str(each) for each in kept]
        assert len(box) == len(kept)
    assert box.dropped + len(box) + steps.count(("done", 0)) >= made
    box.close()


def test_damaged_files_that_are_put_aside_at_the_same_time_of_the_clock_all_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a battery for its clock begins at the same time whenever it starts."""
    monkeypatch.setattr(time, "time", lambda: 100.0)
    contents = [bytes([65 + number]) * 5_000 for number in range(3)]
    for content in contents:
        path.write_bytes(content)
        Outbox(path, 10).close()
    assert sorted(each.read_bytes() for each in path.parent.glob("outbox.sqlite.damaged-*")) == contents


def test_a_damaged_file_is_put_aside_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"this is no database at all, but it is long enough to look like one" * 40)
    box = Outbox(path, 10)
    box.put("t", "1", "a", True)
    assert payloads(box) == ["1"]
    (aside,) = path.parent.glob("outbox.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert "put aside" in caplog.text
    box.close()


@pytest.mark.parametrize("page", [1, 2, 3, 5])
def test_damage_within_the_file_is_put_aside_too(path: Path, page: int, caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(path, 1000)
    for number in range(200):
        box.put("t", "x" * 300, str(number), True)
    box.close()
    data = bytearray(path.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = b"\xee" * 4096
    path.write_bytes(data)
    again = Outbox(path, 1000)
    again.put("t", "new", "new", True)
    assert payloads(again) == ["new"]
    assert len(list(path.parent.glob("outbox.sqlite.damaged-*"))) == 1
    assert "put aside" in caplog.text
    again.close()


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    Outbox(path, 10).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UserError, match="later version"):
        Outbox(path, 10)


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--state"):
        Outbox(tmp_path / "nowhere" / "outbox.sqlite", 10)


def test_when_the_disk_is_full_events_wait_in_memory(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(path, 100)
    box.put("t", "1", "a", True)
    box.add_retained(["x"])
    (pages,) = box.database.execute("PRAGMA page_count").fetchone()
    box.database.execute(f"PRAGMA max_page_count = {pages}")
    box.put("t", "2" * 100_000, "b", True)
    box.put("t", "3", "a", False)
    assert payloads(box) == ["1", "2" * 100_000, "3"]
    assert (len(box), box.retained) == (3, {"x"})
    assert caplog.text.count("wait in memory") == 1
    assert not box.is_durable
    box.close()


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file can grow beyond the size that the outbox has on disk now."""
    wal = path.with_name(path.name + "-wal")
    with room_for(max(40_000, *(each.stat().st_size for each in (path, wal) if each.exists()))):
        yield


def copied(path: Path) -> Path:
    """The files as a crash leaves them."""
    folder = path.parent / "crashed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for each in path.parent.glob("outbox.sqlite*"):
        shutil.copy(each, folder)
    return folder / path.name


def test_when_the_disk_has_room_again_events_return_to_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events that waited in memory come first, in order. Nothing that was acknowledged meanwhile returns."""
    caplog.set_level("INFO")
    box = Outbox(path, 1000)
    box.put("t", "begin", "a", True)
    box.put("t", "acknowledged", "b", True)
    box.add_retained(["x", "y"])
    with full_disk(path):
        for number in range(9):
            box.put("t", f"{number}" + "." * 9000, f"c{number}", True)
        box.put("t", "end", "a", False)
        box.acknowledge(2)
        box.remove_retained("y")
        box.return_to_disk(at_once=True)
        assert box.is_displaced
        assert len(box) == 11
    box.return_to_disk(at_once=True)
    assert box.is_durable
    box.put("t", "later", "d", True)
    wanted = ["begin", *(f"{number}" + "." * 9000 for number in range(9)), "end", "later"]
    assert (payloads(box), len(box)) == (wanted, 12)
    crashed = Outbox(copied(path), 1000)
    assert (payloads(crashed), len(crashed), crashed.retained) == (wanted, 12, {"x"})
    crashed.put("t", "end again", "a", False)
    assert len(crashed) == 12, "the end was put while the disk was full"
    assert [each.number for each in crashed.read_after(0, 99)] == [1, *range(3, 14)]
    crashed.close()
    box.close()
    assert caplog.text.count("wait in memory") == 1
    assert caplog.text.count("works again") == 1


def test_a_daemon_returns_to_disk_without_another_event(path: Path) -> None:
    stream = Stream("room", "mic", "fake", ("dog" * 20_000,))
    made = MqttSink(MqttSettings("127.0.0.1", free_port(), node="room"), None, Outbox(path, 1000))
    made.open([stream])
    box = made.delivery.outbox
    try:
        with full_disk(path):
            made.event(stream, Event("begin", "1", stream.labels[0], 0.9, 0.9, 1.0))
            until(lambda: box.is_displaced, "the disk is full")
        until(lambda: box.is_durable, "it is back on disk")
        crashed = Outbox(copied(path), 1000)
        assert len(crashed) == 1
        crashed.close()
    finally:
        with suppress(TaggerError):
            made.close(0)


def test_the_last_chance_to_return_to_disk_is_the_end(path: Path) -> None:
    box = Outbox(path, 1000)
    with full_disk(path):
        box.put("t", "x" * 90_000, "a", True)
        assert box.is_displaced
    box.close()
    again = Outbox(path, 1000)
    assert len(again) == 1
    again.close()


def test_a_disk_that_is_full_again_and_again_is_no_flood_of_messages(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(path, 1000)
    for number in range(20):
        with full_disk(path):
            box.put("t", "x" * 90_000, str(number), True)
        box.return_to_disk(at_once=True)
        assert box.is_durable
    assert len(box) == 20
    assert caplog.text.count("wait in memory") == 1
    assert len(caplog.records) <= 2, "and that it works again"
    box.close()


def damaged_while_open(path: Path, table: str) -> Outbox:
    """An open outbox of 200 messages, one of whose tables cannot be read any more."""
    box = Outbox(path, 1000)
    for number in range(200):
        box.put("t", "x" * 300, str(number), True)
    box.close()
    box = Outbox(path, 1000)
    damage = sqlite3.connect(path)
    damage.execute("PRAGMA writable_schema = ON")
    damage.execute("UPDATE sqlite_schema SET rootpage = 10000 WHERE name = ?", (table,))
    damage.execute("PRAGMA schema_version = 99")
    damage.commit()
    damage.close()
    return box


def test_a_damaged_disk_is_replaced_and_used_again(path: Path) -> None:
    box = damaged_while_open(path, "begun")
    box.put("t", "new", "new", True)
    assert box.is_displaced
    before = payloads(box)
    box.return_to_disk(at_once=True)
    assert box.is_durable
    assert payloads(box) == before
    assert len(list(path.parent.glob("outbox.sqlite.damaged-*"))) == 1
    box.close()


def test_the_disk_is_not_tried_at_every_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(path, 1000)
    with full_disk(path):
        box.put("t", "x" * 90_000, "a", True)
        tried: list[float] = []
        monkeypatch.setattr("tagger.mqtt.outbox.open_database", lambda path: tried.append(1) or 1 / 0)
        for _ in range(100):
            box.return_to_disk()
        assert not tried
        monkeypatch.undo()
        time.sleep(1.01)
        box.return_to_disk()
        assert box.is_displaced
    box.close()


def test_when_the_disk_cannot_be_read_new_events_are_passed_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = damaged_while_open(path, "retained")
    assert box.retained == set()
    assert len(payloads(box)) in (0, 200)
    box.put("t", "new", "new", True)
    assert payloads(box)[-1] == "new"
    assert box.read_after(200, 10)[-1].number == 201
    assert caplog.text.count("wait in memory") == 1
    box.close()


def test_retained_topics_and_components_are_known_at_the_next_start(path: Path) -> None:
    box = Outbox(path, 10)
    box.add_retained(["a", "b"])
    box.add_retained(["b", "c"])
    box.remove_retained("b")
    box.add_components({"one": "sensor", "two": "event"})
    box.close()
    again = Outbox(path, 10)
    assert again.retained == {"a", "c"}
    assert again.components == {"one": "sensor", "two": "event"}
    again.remove_components()
    assert again.components == {}
    again.close()


def test_an_outage_that_drops_events_is_said_however_many_were_dropped_before(caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(None, 1)
    for number in range(200):
        box.put("t", "x", f"id{number}", True)
    assert box.dropped == 199
    assert caplog.text.count("the oldest are dropped") == 8  # the 1st, 2nd, 4th, ... 128th
    box.close()
