"""`tagger archive` as it is called."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow.dataset
import pyarrow.parquet

from tagger.archive import pool as pools
from tagger.archive.pool import Message
from tests.programs import ROOT, refused, run, running, siren, until, write_wav

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with three recordings each, one of them damaged, and a text. Two recordings make a shard of 2 MB."""
    root = tmp_path_factory.mktemp("recordings")
    quiet = np.zeros(3 * RATE_HZ)
    for source in ("attic", "barn"):
        (root / source).mkdir()
        for hour in range(3):
            sound = np.concatenate([quiet, siren(12 + hour), quiet])
            write_wav(root / source / f"x_2026013{hour // 2}_0{hour}0000.wav", sound)
    (root / "barn" / "x_20260130_020000.wav").write_bytes(b"RIFF no sound")
    (root / "notes.txt").write_text("of the day")
    return root


@pytest.fixture(scope="module")
def archived(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an undisturbed run."""
    out = tmp_path_factory.mktemp("archive") / "out"
    done = run("archive", folder, "--out", out, "--shard-mb", 2, "--jobs", 1, "--embeddings")
    assert done.exit_code == 0, done.output
    assert re.search(r": 7 files, .* of sound in .* times real time; \d+ windows, \d+ events", done.stderr)
    assert "could not be read whole" in done.stderr
    assert "1 file left out, no audio by name" in done.stderr
    return out


def files_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def table(out: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.dataset.dataset(out / name, partitioning="hive").to_table().to_pylist()
    return found


def test_tables_are_partitioned_by_date_and_source(archived: Path) -> None:
    assert {path.parent.relative_to(archived).as_posix() for path in archived.rglob("files/**/*.parquet")} == {
        "files/date=2026-01-30/source=attic",
        "files/date=2026-01-30/source=barn",
        "files/date=2026-01-31/source=attic",
        "files/date=2026-01-31/source=barn",
    }
    assert {row["source"] for row in table(archived, "events") if row["label"] == "siren"} == {"attic", "barn"}
    assert (archived / "_SUCCESS").is_file()
    embedded = table(archived, "embeddings")
    assert len(embedded) == len(table(archived, "windows"))
    assert len({len(row["embedding"]) for row in embedded}) == 1


def test_windows_and_events_are_those_of_tagger_tag(archived: Path, folder: Path, tmp_path: Path) -> None:
    for name, extra in (("windows", []), ("events", ["--events"])):
        out = tmp_path / f"{name}.parquet"
        assert run("tag", folder / "attic", "--format", "parquet", "-o", out, "--jobs", 1, *extra).exit_code == 0
        theirs = pyarrow.parquet.ParquetFile(out).read().to_pylist()
        ours = [row for row in table(archived, name) if row["source"] == "attic"]
        if name == "events":
            assert [(r["file"], r["onset"], r["offset"], r["label"]) for r in ours] == [
                (r["file"], r["onset"], r["offset"], r["label"]) for r in theirs
            ]
        else:
            flat = [(r["file"], r["start"], s) for r in ours for s in r["scores"]]
            assert [each[:2] for each in flat] == [(r["file"], r["start"]) for r in theirs]
            assert [each[2] for each in flat] == pytest.approx([r["score"] for r in theirs], abs=2e-6)


def test_what_is_done_is_not_done_again_and_another_run_is_refused(
    archived: Path, folder: Path, tmp_path: Path
) -> None:
    again = run("archive", folder, "--out", archived, "--shard-mb", 2, "--embeddings", "--resume")
    assert again.exit_code == 0
    assert "all is done already, 7 files in 5 shards" in again.stderr
    refused(
        run("archive", folder, "--out", archived, "--hop", 0.5, "--shard-mb", 2, "--embeddings"), "--hop 1.0 there, 0.5"
    )
    refused(run("archive", folder / "attic", "--out", archived, "--shard-mb", 2, "--embeddings"), "sources")
    refused(run("archive", folder, "--out", tmp_path / "new", "--resume"), "holds no run")
    refused(run("archive", tmp_path / "missing", "--out", tmp_path / "new"), "there is no such file or folder")


@pytest.mark.parametrize("out", ["s3://", "s3:///", "s3://?scheme=http"])
def test_a_url_that_names_nothing_is_no_folder_here(
    out: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run("archive", folder, "--out", out), f"{out}: names no bucket or server; write s3://NAME/folder")
    assert not list(tmp_path.iterdir())


def test_one_long_recording_has_the_same_bytes_in_one_thread_and_in_three(folder: Path, tmp_path: Path) -> None:
    (recording,) = folder.glob("attic/x_20260130_000000.wav")
    for jobs in (1, 3):
        done = run("archive", recording, "--out", tmp_path / str(jobs), "--hop", 0.1, "--embeddings", "--jobs", jobs)
        assert done.exit_code == 0, done.output
    assert len(table(tmp_path / "3", "windows")) > 100, "pieces of 32 windows"
    assert files_of(tmp_path / "3") == files_of(tmp_path / "1")


class Killing(pools.LocalPool):
    """Kills a worker as soon as it is ready for a shard, twice."""

    left = 2

    def wait(self, seconds: float) -> list[Message]:
        if self.left and self._workers[0].is_ready:
            self.left -= 1
            os.kill(self.processes[0], signal.SIGKILL)
        return super().wait(seconds)


@pytest.mark.slow
def test_after_workers_and_the_run_were_killed_the_archive_has_the_same_bytes(
    archived: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("archive", folder, "--out", out, "--shard-mb", 2, "--jobs", 1, "--embeddings")
    with running(*command) as driver:
        until(lambda: list(out.glob("files/**/*.parquet")) or driver.poll() is not None, "a shard is done")
        driver.kill()
    monkeypatch.setattr(pools, "LocalPool", Killing)
    resumed = run(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert files_of(out) == files_of(archived)
    assert list((out / "_tagger").glob("partial/*")) == []


@pytest.mark.slow
def test_ctrl_c_leaves_an_archive_that_goes_on(folder: Path, tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.mkdir()
    write_wav(long / "a.wav", np.zeros(3600 * 1000), 1000)
    with running("archive", long, "--out", tmp_path / "out", "--hop", "0.1") as driver:
        until(lambda: list((tmp_path / "out").glob("_tagger/partial/*.parquet")), "the shard is begun")
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate()
    assert driver.returncode == 130
    assert "Interrupted: 0 of 1 shard done; the same command goes on" in err.decode()
    assert "Traceback" not in err.decode()


def examples() -> Iterator[tuple[str, str]]:
    """The libraries that docs/archive.md shows, and what it does with each. None of them is in the group `dev`."""
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "archive.md").read_text("utf-8"), re.DOTALL):
        yield re.findall(r"import (\w+)", code)[0], code


@pytest.mark.parametrize(("library", "code"), [pytest.param(*each, id=each[0]) for each in examples()])
def test_examples_in_the_documentation_run(
    library: str, code: str, archived: Path, folder: Path, tmp_path: Path
) -> None:
    for needed in (library, *(["pandas"] if library == "ray" else [])):  # Ray Data imports it, Ray does without
        pytest.importorskip(needed)
    (tmp_path / "archive").symlink_to(archived)
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "a.wav").symlink_to(folder / "attic" / "x_20260130_000000.wav")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "siren" in done.stdout
