"""A shard becomes one file of each table, and the same recordings become the same bytes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet

from tagger.archive import plan
from tagger.archive.job import Job, ShardDone
from tagger.archive.plan import Shard
from tagger.archive.shard import Hearer
from tagger.archive.stores import Folder
from tagger.errors import CheckpointError, UserError
from tagger.policy import EventsConfig
from tests.builders import RULES
from tests.fakes import RATE_HZ, FakeClassifier
from tests.programs import write_wav

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Signs:
    """Keeps a worker's signs of life."""

    def __init__(self) -> None:
        self.files: list[int] = []
        self.seconds = 0.0

    def begun(self, number: int) -> None:
        self.files.append(number)

    def heard(self, seconds: float) -> None:
        self.seconds += seconds

    def threads(self) -> int:
        return 1


def job(out: object, embeddings: bool = False) -> Job:
    """Windows of a second, one every half second."""
    return Job(str(out), ("fake",), "auto", "auto", None, 1.0, 0.5, (), 2, EventsConfig(), RULES, embeddings)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """A sound of two seconds, a file that is none, and one that is not there."""
    quiet, sound = np.zeros(2 * RATE_HZ), np.full(2 * RATE_HZ, 0.8)
    write_wav(tmp_path / "a.wav", np.concatenate([quiet, sound, quiet]))
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    files = [(str(tmp_path / name), BEGAN.timestamp()) for name in ("a.wav", "broken.wav", "missing.wav")]
    return Shard(3, "2026-01-31", "attic", tuple(files))


def done(shard: Shard, out: Path, skipped: dict[int, str] | None = None, signs: Signs | None = None) -> ShardDone:
    return Hearer(job(out), FakeClassifier(), Folder(out)).work(shard, skipped or {}, signs or Signs())


def rows(out: Path, shard: Shard, table: str) -> list[dict[str, Any]]:
    path = out / shard.name(table)
    found: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    return found


def bytes_in(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def test_windows_and_events_have_their_time_since_the_recording_and_on_the_clock(shard: Shard, tmp_path: Path) -> None:
    signs = Signs()
    result = done(shard, tmp_path / "out", signs=signs)
    windows = rows(tmp_path / "out", shard, "windows")
    assert [(row["start"], row["end"]) for row in windows][:2] == [(0.0, 1.0), (0.5, 1.5)]
    assert windows[4]["labels"] == ["loud", "never"]
    assert windows[4]["scores"] == pytest.approx([0.8, 0.0], abs=1e-4)
    assert windows[4]["time"] == BEGAN.replace(second=2)
    (event,) = rows(tmp_path / "out", shard, "events")
    assert (event["file"], event["label"]) == (shard.files[0][0], "loud")
    assert (event["onset"], event["offset"]) == pytest.approx((2.0, 4.0), abs=0.1)
    assert event["time"].timestamp() == pytest.approx(BEGAN.timestamp() + event["onset"], abs=0.001)
    assert (result.files, result.bad, result.windows, result.events) == (3, 2, len(windows), 1)
    assert (signs.files, signs.seconds) == ([0, 1, 2], pytest.approx(6.0))


def test_a_bad_file_is_a_row_with_its_reason(shard: Shard, tmp_path: Path) -> None:
    result = done(shard, tmp_path / "out")
    good, broken, missing = rows(tmp_path / "out", shard, "files")
    assert (good["seconds"], good["windows"], good["events"], good["error"]) == (6.0, 11, 1, None)
    assert (broken["file"], broken["seconds"], broken["windows"]) == (shard.files[1][0], 0.0, 0)
    assert broken["error"].startswith("not audio")
    assert missing["error"] == "no such file"
    assert result.first_error == f"{broken['file']}: {broken['error']}"


def test_a_file_that_is_skipped_is_a_row_too(shard: Shard, tmp_path: Path) -> None:
    done(shard, tmp_path / "out", {0: "it ended the process"})
    skipped, *_ = rows(tmp_path / "out", shard, "files")
    assert skipped["error"] == "it ended the process"
    assert rows(tmp_path / "out", shard, "windows") == []


def test_what_is_odd_in_a_file_that_is_read_is_a_note(tmp_path: Path) -> None:
    samples = np.zeros(3 * RATE_HZ, np.float32)
    samples[RATE_HZ] = np.nan
    path = write_wav(tmp_path / "a.wav", samples, subtype="FLOAT")
    shard = Shard(0, None, "attic", ((str(path), None),))
    done(shard, tmp_path / "out")
    (row,) = rows(tmp_path / "out", shard, "files")
    assert (row["began"], row["error"]) == (None, None)
    assert row["notes"] == ["NaN, infinity or an absurd value at 1.000 s; such samples are left out"]
    assert rows(tmp_path / "out", shard, "windows")[0]["time"] is None


def test_the_same_recordings_make_the_same_bytes(shard: Shard, tmp_path: Path) -> None:
    for out in (tmp_path / "one", tmp_path / "two"):
        done(shard, out)
    found = bytes_in(tmp_path / "one")
    assert sorted(found) == [shard.name(table) for table in ("events", "files", "windows")]
    assert found == bytes_in(tmp_path / "two")


def test_nothing_is_there_of_a_shard_that_was_not_done(shard: Shard, tmp_path: Path) -> None:
    class Full(Signs):
        def begun(self, number: int) -> None:
            if number == 1:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        done(shard, tmp_path / "out", signs=Full())
    assert bytes_in(tmp_path / "out") == {}
    assert not plan.is_done(Folder(tmp_path / "out"), shard)
    assert list((tmp_path / "out" / "_tagger" / "partial").iterdir()) == []


def test_embeddings_of_a_model_that_gives_none_are_an_error(shard: Shard, tmp_path: Path) -> None:
    hearer = Hearer(job(tmp_path / "out", embeddings=True), FakeClassifier(), Folder(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="gives no embeddings"):
        hearer.work(shard, {}, Signs())


@pytest.fixture
def memory() -> Iterator[Any]:
    """A file system of this process."""
    found = pytest.importorskip("fsspec").filesystem("memory")
    yield found
    found.store.clear()


def test_recordings_and_tables_may_be_on_another_machine(shard: Shard, tmp_path: Path, memory: Any) -> None:
    from tagger.archive.stores import store_of

    for path, _ in shard.files[:2]:
        memory.pipe(f"/in/{Path(path).name}", Path(path).read_bytes())
    there = Shard(3, shard.date, "attic", tuple((f"memory://in/{Path(path).name}", at) for path, at in shard.files))
    Hearer(job("memory://out"), FakeClassifier(), store_of("memory://out")).work(there, {}, Signs())
    done(shard, tmp_path / "out")
    for table in ("windows", "events", "files"):
        (tmp_path / table).write_bytes(memory.cat(f"/out/{there.name(table)}"))
        theirs = pyarrow.parquet.ParquetFile(tmp_path / table).read().to_pylist()
        ours = rows(tmp_path / "out", shard, table)
        assert [row | {"file": ""} for row in theirs] == [row | {"file": ""} for row in ours]
        assert all(row["file"].startswith("memory://in/") for row in theirs)


def test_a_run_with_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    from tagger.archive.listing import Listing

    (tmp_path / "a.wav").write_bytes(b"x")
    store = Folder(tmp_path / "out")
    assert plan.read(store, {"--hop": 1.0}) is None
    written = plan.write(store, Listing([str(tmp_path / "a.wav")]), {"--hop": 1.0, "--channel": ()}, 1)
    assert plan.read(store, {"--hop": 1.0, "--channel": ()}) == written
    assert [each.files for each in plan.work(store)] == [((str(tmp_path / "a.wav"), None),)]
    with pytest.raises(UserError, match=r"--hop 1\.0 there, 0\.5 here.*name another --out"):
        plan.read(store, {"--hop": 0.5, "--channel": ()})
