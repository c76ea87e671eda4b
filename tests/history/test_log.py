"""The event log: an SQLite database, written by daemons that may die at any moment."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import retry
from tagger.errors import TaggerError, UserError
from tagger.events import Event, Stream
from tagger.history import sqlite
from tagger.history.log import EventLog, EventRow, reading
from tagger.settings import EventLogSettings
from tagger.sinks.eventlog import EventLogSink
from tests.events import STREAM, begin, end
from tests.fakes import FakeSource, loud, silence
from tests.programs import until
from tests.test_listen import listener


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(sqlite, "WAIT_SECONDS", 0.1)


@contextmanager
def opened(path: Path, keep_days: float | None = None) -> Iterator[EventLogSink]:
    sink = EventLogSink(EventLogSettings(path, keep_days))
    sink.open([STREAM])
    yield sink
    sink.close(10)


def rows(path: Path) -> dict[str, EventRow]:
    with reading(path) as database:
        return {row[0]: EventRow(*row) for row in database.execute("SELECT * FROM events ORDER BY onset, id")}


def written(sink: EventLogSink) -> None:
    until(lambda: not sink.counts()["waiting"], "all is written")


def test_what_a_listener_hears_is_a_row(path: Path) -> None:
    with opened(path.parent / "new folder" / path.name) as sink:
        listener(FakeSource([silence(2, 100), loud(1, 102), silence(2, 103)]), sink).run()  # type: ignore[arg-type]
    (row,) = rows(path.parent / "new folder" / path.name).values()
    assert (row.node, row.source, row.label, row.model, row.cause) == ("node", "fake", "loud", "fake", None)
    assert (row.onset, row.offset) == pytest.approx((102, 103), abs=0.05)
    assert row.peak_score == pytest.approx(0.9, abs=0.01)


def test_an_event_is_open_until_its_end(path: Path) -> None:
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
        written(sink)
        assert rows(path)["A"] == EventRow("A", "attic", "mic", "dog", 1000, None, 0.8, 0.8, "fake", None)
        sink.event(STREAM, end("A"))
    assert rows(path)["A"] == EventRow("A", "attic", "mic", "dog", 1000, 1002, 0.2, 0.9, "fake", None)


def test_ends_without_begin_twice_and_late_begins(path: Path) -> None:
    stream = Stream("attic", "unplugged", "fake", ())
    with opened(path) as sink:
        sink.event(stream, end("A", cause="restart"))
        sink.event(stream, end("A", offset=9999, score=0.7, peak=1))
        sink.event(stream, begin("A"))
    assert rows(path) == {"A": EventRow("A", "attic", "unplugged", "dog", 1000, 1002, 0.2, 0.9, "fake", "restart")}


def test_a_test_stays_one(path: Path) -> None:
    with opened(path) as sink:
        for each in (begin("A", cause="test"), end("A", cause="test"), begin("B", cause="test")):
            sink.event(STREAM, each)
        sink.event(STREAM, end("B", cause="restart"))
        sink.event(STREAM, begin("C"))
        sink.event(STREAM, end("C", cause="restart"))
    assert {id_: row.cause for id_, row in rows(path).items()} == {"A": "test", "B": "test", "C": "restart"}


messages = st.lists(
    st.builds(
        lambda id_, ends, score: end(id_, 1000 + score, score, score) if ends else begin(id_),
        st.sampled_from("ABCD"),
        st.booleans(),
        st.floats(0, 1),
    ),
    max_size=12,
)


@given(first=messages, second=messages)
def test_the_first_end_counts_in_any_order_and_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, first: list[Event], second: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.sqlite"
    for part in (first, second):
        with opened(path) as sink:
            for event in part:
                sink.event(STREAM, event)
    found = rows(path)
    assert found.keys() == {event.id for event in first + second}
    for id_, row in found.items():
        ends = [event for event in first + second if event.id == id_ and event.type == "end"]
        assert row.offset == (ends[0].offset if ends else None)


def test_many_that_wait_are_written_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them, also those of the last, shorter batch."""
    sizes: list[int] = []
    write = EventLog.write
    monkeypatch.setattr(EventLog, "write", lambda log, batch: (sizes.append(len(batch)), write(log, batch)))
    with opened(path) as sink:
        blocker = sqlite3.connect(path)
        with closing(blocker):
            blocker.execute("BEGIN IMMEDIATE")
            for i in range(1_301):
                sink.event(STREAM, begin(f"{i:04d}"))
            assert sink.counts()["waiting"] == 1_301
        written(sink)
    assert max(sizes) == 500
    assert len(sizes) < 20
    assert list(rows(path)) == [f"{i:04d}" for i in range(1_301)]


def test_a_locked_database_is_waited_for(path: Path, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as sink, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        sink.event(STREAM, begin("A"))
        until(lambda: sink.retry.tries > 2, "it was tried again")
        other.rollback()
        written(sink)
    assert list(rows(path)) == ["A"]
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith(f"{path}: database is locked; events wait")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_log_that_is_locked_at_the_start_keeps_nobody_from_listening(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    EventLog(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        sink = EventLogSink(EventLogSettings(path))
        sink.open([STREAM])
        assert time.monotonic() - began < sqlite.WAIT_SECONDS / 2
        assert "locked" in str(sink.trouble())
        assert caplog.text.count(f"{path}: ") == 1
        assert "events wait" in caplog.text
        sink.event(STREAM, begin("A"))
        assert sink.counts()["waiting"] == 1
        other.rollback()
    written(sink)
    assert sink.trouble() is None
    sink.close(10)
    assert list(rows(path)) == ["A"]


def test_the_end_does_not_wait_for_ever(path: Path, impatient: None) -> None:
    sink = EventLogSink(EventLogSettings(path))
    sink.open([STREAM])
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        sink.event(STREAM, begin("A"))
        with pytest.raises(TaggerError, match=r"1 of 1 event was not delivered to .*locked"):
            sink.close(5)


def test_readers_do_not_hold_up_the_daemon(path: Path) -> None:
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
        written(sink)
        with reading(path) as database:
            database.execute("BEGIN")
            assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)
            sink.event(STREAM, begin("B"))
            written(sink)
            assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert list(rows(path)) == ["A", "B"]


@pytest.mark.parametrize("gone", ["moved", "deleted with its folder"])
def test_a_file_that_is_gone_is_made_again(path: Path, impatient: None, gone: str) -> None:
    path = path.parent / "log" / path.name
    moved = path.with_name("old.sqlite")
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
        written(sink)
        if gone == "moved":
            path.rename(moved)
        else:
            for each in path.parent.iterdir():
                each.unlink()
            path.parent.rmdir()
        sink.event(STREAM, begin("B"))
        written(sink)
        assert list(rows(path)) == ["B"]


def test_what_takes_its_place_is_left_as_it_is(path: Path, impatient: None) -> None:
    sink = EventLogSink(EventLogSettings(path))
    sink.open([STREAM])
    path.unlink()
    path.write_bytes(b"SQLite format 3\0" + b"and what is no database " * 20)
    before = path.read_bytes()
    sink.event(STREAM, begin("A"))
    until(lambda: sink.retry.tries > 2, "it was tried again")
    with pytest.raises(TaggerError, match="no event log") as raised:
        sink.close(5)
    assert str(raised.value).count(str(path)) == 1
    assert path.read_bytes() == before


def test_old_events_are_deleted(path: Path) -> None:
    now = time.time()
    with opened(path) as sink:
        for days in range(10):
            sink.event(STREAM, begin(f"{days} days old", onset=now - 86_400 * days - 60))
    with opened(path, keep_days=3) as sink:
        sink.event(STREAM, begin("new", onset=now))
    assert list(rows(path)) == ["2 days old", "1 days old", "0 days old", "new"]


def test_many_old_events_are_deleted_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.sinks.eventlog.MAX_DELETED", 4)
    with opened(path) as sink:
        for i in range(10):
            sink.event(STREAM, begin(f"old {i}", onset=time.time() - 86_400 * 4 + i))
        sink.event(STREAM, begin("newer", onset=time.time() - 86_400 * 2))
    left = []
    with opened(path, keep_days=3) as sink:
        for i in range(3):
            sink.event(STREAM, begin(f"new {i}", onset=time.time()))
            written(sink)
            left.append(len(rows(path)))
    assert left == [8, 5, 4]


@pytest.mark.parametrize("when", ["before the start", "later"])
def test_a_clock_that_is_years_ahead_empties_no_log(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    monkeypatch.setattr("tagger.sinks.eventlog.DELETE_EVERY_SECONDS", 0.0)
    now, jump_s = time.time(), 86_400 * 4000
    with opened(path) as sink:
        for days in range(10):
            sink.event(STREAM, begin(f"{days} days old", onset=now - 86_400 * days - 60))
    if when == "before the start":
        monkeypatch.setattr(time, "time", lambda: now + jump_s)
    with opened(path, keep_days=30) as sink:
        sink.event(STREAM, begin("new", onset=time.time()))
        written(sink)
        monkeypatch.setattr(time, "time", lambda: now + jump_s)
        sink.event(STREAM, begin("newest", onset=time.time()))
    assert len(rows(path)) == 12
    assert "events that would be deleted are kept: 1" in caplog.text


def test_several_daemons_write_one_file(path: Path) -> None:
    """They begin at the same moment, when there is no file yet."""
    code = """
import pathlib, sys
from tests.events import STREAM, begin, end
from tagger.settings import EventLogSettings
from tagger.sinks.eventlog import EventLogSink
sys.stdin.readline()
sink = EventLogSink(EventLogSettings(pathlib.Path(sys.argv[1])))
sink.open([STREAM])
for i in range(100):
    sink.event(STREAM, begin(f"{sys.argv[2]} {i}"))
    sink.event(STREAM, end(f"{sys.argv[2]} {i}"))
sink.close(30)
"""
    daemons = [
        subprocess.Popen([sys.executable, "-c", code, path, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in "abc"
    ]
    for daemon in daemons:
        assert daemon.stdin is not None
        daemon.stdin.write(b"\n")
        daemon.stdin.flush()
    for daemon in daemons:
        _, errors = daemon.communicate(timeout=300)
        assert daemon.returncode == 0, errors.decode()
    found = rows(path)
    assert found.keys() == {f"{name} {i}" for name in "abc" for i in range(100)}
    assert all(row.offset == 1002 for row in found.values())


def test_threads_that_open_a_new_file_at_once_do_not_collide(tmp_path: Path) -> None:
    for attempt in range(5):
        path, failed = tmp_path / f"{attempt}.sqlite", []
        ready = threading.Barrier(4)

        def write(path: Path = path, failed: list[Exception] = failed, ready: threading.Barrier = ready) -> None:
            ready.wait()
            try:
                with closing(EventLog(path)):
                    pass
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert not rows(path)


def test_a_daemon_that_is_killed_leaves_whole_rows(path: Path) -> None:
    code = f"""
import itertools, pathlib
from tests.events import STREAM, begin, end
from tagger.settings import EventLogSettings
from tagger.sinks.eventlog import EventLogSink
sink = EventLogSink(EventLogSettings(pathlib.Path({str(path)!r})))
sink.open([STREAM])
for i in itertools.count():
    sink.event(STREAM, begin(f"{{i:08d}}"))
    sink.event(STREAM, end(f"{{i:08d}}"))
    while sink.counts()["waiting"] > 20:
        pass
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: path.exists() and _count(path) > 300, "some are written")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = rows(path)
    assert list(found) == [f"{i:08d}" for i in range(len(found))]  # none is missing in the middle
    assert all(row.offset == 1002 for row in list(found.values())[:-1])
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with opened(path) as sink:  # the next life ends what was open
        sink.event(STREAM, end(f"{len(found) - 1:08d}", cause="restart"))
    assert all(row.offset == 1002 for row in rows(path).values())


def _count(path: Path) -> int:
    try:
        return len(rows(path))
    except UserError:
        return 0


def refused(path: Path, *words: str, error: type[TaggerError] = UserError) -> None:
    """By daemon and reader, in one line; the file stays as it is."""
    before = path.read_bytes()
    for use in (lambda: EventLogSink(EventLogSettings(path)).open([STREAM]), lambda: rows(path)):
        with pytest.raises(error) as raised:
            use()
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)
        for word in words:
            assert word in str(raised.value)
    assert path.read_bytes() == before


@given(
    content=st.one_of(st.binary(min_size=1, max_size=3000), st.binary().map(lambda tail: b"SQLite format 3\0" + tail))
)
def test_what_is_no_database_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "events.sqlite"
    path.write_bytes(content)
    refused(path, "was left as it is")


def filled(path: Path, events: int = 2_000) -> Path:
    with closing(EventLog(path)) as log:
        log.write(
            [EventRow(f"{i:08d}", "n", "s", f"label {i % 7}", i, i + 1, 0.5, 0.6, "m", None) for i in range(events)]
        )
    return path


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_one_that_was_cut_off_is_refused(path: Path, share: float) -> None:
    content = filled(path).read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="was left as it is"):
        EventLog(path)
    assert len(path.read_bytes()) == int(share * len(content))


def test_one_with_a_damaged_page_is_refused(path: Path) -> None:
    content = bytearray(filled(path).read_bytes())
    content[5 * 4096 : 6 * 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(UserError, match="was left as it is"):
        EventLog(path)
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(filled(path))) as database:
        database.execute("PRAGMA user_version = 2")
        database.execute("PRAGMA journal_mode = DELETE")
    refused(path, "newer version of tagger", "upgrade")


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE photos (a)", "CREATE TABLE events (id)", "PRAGMA user_version = 1"]
)
def test_another_programs_database_is_refused(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
    refused(path, "not an event log")


def test_an_empty_file_becomes_one(path: Path) -> None:
    path.touch()
    with pytest.raises(UserError, match="is an empty file"):
        rows(path)
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
    assert list(rows(path)) == ["A"]


@pytest.mark.parametrize("name", ["folder", "file/events.sqlite"])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=str(tmp_path / name)):
        EventLogSink(EventLogSettings(tmp_path / name)).open([STREAM])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["what? #1 %41.sqlite", "größe.sqlite"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name) as sink:
        sink.event(STREAM, begin("A"))
    assert list(rows(tmp_path / name)) == ["A"]
    files = {each.name for each in tmp_path.iterdir()} - {"home"}
    assert files <= {name, f"{name}-wal", f"{name}-shm"}


def test_bounds_of_settings(path: Path) -> None:
    with pytest.raises(UserError, match="more than 0"):
        EventLogSettings(path, keep_days=0)


def test_what_takes_too_long_to_find_is_given_up(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.sqlite").close()
    endless = "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up) SELECT count(*) FROM up"
    with pytest.raises(UserError, match="too long"), reading(tmp_path / "events.sqlite", 0.0) as database:
        database.execute(endless)
