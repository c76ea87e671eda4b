"""The sink that writes JSON lines to a file."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import retry
from tagger.errors import TaggerError, UserError
from tagger.events import Event, Stream
from tagger.settings import JsonLinesSettings
from tagger.sinks.jsonl import JsonLinesSink
from tests.events import STREAM, begin
from tests.fakes import FakeSource, loud, silence
from tests.programs import until
from tests.test_listen import listener


@contextmanager
def opened(path: Path, max_mb: float = 10, keep: int = 5) -> Iterator[JsonLinesSink]:
    sink = JsonLinesSink(JsonLinesSettings(path, max_mb, keep))
    sink.open([STREAM])
    yield sink
    sink.close(10)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_each_event_of_a_listener_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "events.jsonl"
    with opened(path) as sink:
        listener(FakeSource([silence(2, 100), loud(1, 102), silence(2, 103)]), sink).run()  # type: ignore[arg-type]
    first, last = map(json.loads, path.read_text().splitlines())
    assert (first["type"], first["offset"], first["label"]) == ("begin", None, "loud")
    assert (last["type"], last["id"], last["duration_s"]) == ("end", first["id"], pytest.approx(1, abs=0.1))
    assert list(first)[:3] == ["schema", "id", "type"]


def test_an_end_of_an_earlier_run_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    stream = Stream("attic", "unplugged", "fake", ())
    with opened(path) as sink:
        sink.event(stream, Event("end", "A", "cat", 0, 0.9, 1000, 1002, cause="restart"))
    line = json.loads(path.read_text())
    assert (line["source"], line["label"], line["cause"], line["duration_s"]) == ("unplugged", "cat", "restart", 2)


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for id_ in "AB":
        with opened(path) as sink:
            sink.event(STREAM, begin(id_))
    assert ids(path) == ["A", "B"]


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": "A"}\n{"id": "B", "la')
    with opened(path) as sink:
        sink.event(STREAM, begin("C"))
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first)["id"], cut, json.loads(last)["id"]) == ("A", '{"id": "B", "la', "C")


def test_the_file_may_be_moved_away(tmp_path: Path) -> None:
    path, moved = tmp_path / "events.jsonl", tmp_path / "events.jsonl-20261126"
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
        until(lambda: not sink.counts()["waiting"], "A is written")
        path.rename(moved)
        sink.event(STREAM, begin("B"))
    assert (ids(moved), ids(path)) == (["A"], ["B"])


@given(keep=st.integers(1, 4), lines=st.integers(1, 30), gap=st.integers(0, 4))
def test_rotated_files_hold_the_newest_lines_in_order(
    tmp_path_factory: pytest.TempPathFactory, keep: int, lines: int, gap: int
) -> None:
    """Also after an interrupted rotation: `gap` is the number of a file that is missing."""
    folder = tmp_path_factory.mktemp("rotated")
    path = folder / "events.jsonl"
    size = len(json.dumps(begin("00").to_json(STREAM, 0))) + 1
    with opened(path, max_mb=3 * size / 1e6, keep=keep) as sink:
        for i in range(lines):
            sink.event(STREAM, begin(f"{i:02d}"))
            if i == lines // 2 and gap:
                until(lambda: not sink.counts()["waiting"], "all is written")
                path.with_name(f"{path.name}.{gap}").unlink(missing_ok=True)
    files = [path.with_name(f"{path.name}.{i}") for i in range(keep + 2, 0, -1)] + [path]
    kept = [int(id_) for each in files if each.exists() for id_ in ids(each)]
    assert kept == sorted(kept)
    assert kept[-1] == lines - 1
    assert len(list(folder.iterdir())) <= keep + 1
    assert all(each.stat().st_size <= 3 * size for each in files if each.exists())
    if not gap:
        assert kept == list(range(lines))[-len(kept) :]
        assert len(kept) == lines or len(kept) > 3 * keep


def test_a_folder_that_is_gone_is_waited_for(
    tmp_path: Path, short_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disk" / "events.jsonl"
    with caplog.at_level("INFO"), opened(path) as sink:
        shutil.rmtree(path.parent)
        sink.event(STREAM, begin("A"))
        sink.event(STREAM, begin("B"))
        until(lambda: sink.retry.tries > 5, "it was tried again")
        assert sink.counts() == {"waiting": 2, "dropped": 0}
        path.parent.mkdir()
        until(lambda: not sink.counts()["waiting"], "both are written")
    assert ids(path) == ["A", "B"]
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith(f"{path}: No such file or directory; events wait")
    assert said[1] == f"{path}: works again"


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, short_waits: None) -> None:
    path = tmp_path / "events.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(path) as sink:
        sink.event(STREAM, begin("A"))
        until(lambda: not sink.counts()["waiting"], "A is written")
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # a line begins to fit
        try:
            sink.event(STREAM, begin("B"))
            until(lambda: sink.retry.tries > 3, "it was tried again")
            assert sink.retry.why in ("No space left on device", "File too large")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes()[: len(before)] == before
    assert ids(path) == ["A", "B"]


def test_events_that_could_not_be_written_in_time_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "events.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path))
    sink.open([STREAM])
    sink.event(STREAM, begin("A"))
    until(lambda: not sink.counts()["waiting"], "A is written")
    shutil.rmtree(path.parent)
    for id_ in "BCD":
        sink.event(STREAM, begin(id_))
    with pytest.raises(TaggerError, match=r"3 of 4 events were not delivered to .*No such file") as raised:
        sink.close(5)
    assert raised.value.exit_code == 1


def test_when_too_many_wait_the_oldest_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tagger.sinks.jsonl.MAX_WAITING", 3)
    path = tmp_path / "disk" / "events.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path))
    sink.open([STREAM])
    shutil.rmtree(path.parent)
    sink.event(STREAM, begin("held"))
    until(lambda: sink.retry.why, "one is in hand")
    for i in range(10):
        sink.event(STREAM, begin(str(i)))
    assert sink.counts() == {"waiting": 4, "dropped": 7}
    path.parent.mkdir()
    with pytest.raises(TaggerError, match="7 of 11"):
        sink.close(10)
    assert ids(path) == ["held", "7", "8", "9"]
    assert sum("oldest are dropped" in record.message for record in caplog.records) == 3  # the 1st, 2nd and 4th


def test_several_streams_at_a_time_mix_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with opened(path) as sink:
        threads = [
            threading.Thread(target=lambda name=name: [sink.event(STREAM, begin(f"{name}{i}")) for i in range(50)])
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = ids(path)
    assert sorted(written) == sorted(f"{name}{i}" for name in "abcd" for i in range(50))
    assert [each for each in written if each[0] == "a"] == [f"a{i}" for i in range(50)]


def test_written_lines_survive_a_kill(tmp_path: Path) -> None:
    """Every line but the last is whole. The next daemon starts a new line."""
    path = tmp_path / "events.jsonl"
    code = f"""
import itertools, pathlib
from tests.events import STREAM, begin
from tagger.settings import JsonLinesSettings
from tagger.sinks.jsonl import JsonLinesSink
sink = JsonLinesSink(JsonLinesSettings(pathlib.Path({str(path)!r})))
sink.open([STREAM])
for i in itertools.count():
    sink.event(STREAM, begin(str(i)))
    while sink.counts()["waiting"] > 100:
        pass
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: path.exists() and path.stat().st_size > 30_000, "some are written")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with opened(path) as sink:
        sink.event(STREAM, begin("after"))
    *before, last = path.read_text().splitlines()
    whole = [json.loads(line)["id"] for line in before if line.endswith("}")]
    assert len(before) - len(whole) <= 1
    assert whole == [str(i) for i in range(len(whole))]
    assert json.loads(last)["id"] == "after"


@pytest.mark.parametrize("name", ["folder", "file/events.jsonl"])
def test_an_impossible_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=str(tmp_path / name)):
        JsonLinesSink(JsonLinesSettings(tmp_path / name)).open([STREAM])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("bad", [{"max_mb": 0}, {"max_mb": float("nan")}, {"keep": 0}])
def test_bounds_of_settings(tmp_path: Path, bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"^jsonl\.(max_mb|keep) = "):
        JsonLinesSettings(tmp_path / "events.jsonl", **bad)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_rotated_is_said_each_time_that_this_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, size = tmp_path / "events.jsonl", len(json.dumps(begin("00").to_json(STREAM, 0))) + 1
    in_the_way = tmp_path / "events.jsonl.1"
    with opened(path, max_mb=size / 1e6, keep=1) as sink:
        for said in (1, 2):
            in_the_way.unlink(missing_ok=True)
            (in_the_way / "x").mkdir(parents=True)
            for i in range(3):
                sink.event(STREAM, begin(f"0{i}"))
            until(lambda: not sink.counts()["waiting"], "all is written")
            assert caplog.text.count("cannot be renamed") == said
            shutil.rmtree(in_the_way)
            sink.event(STREAM, begin("03"))
            until(in_the_way.is_file, "it is rotated again")
