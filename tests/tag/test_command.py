"""`tagger tag` as it is called."""

import csv
import io
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.programs import refused, run, running, siren, stop, until, write_wav

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, one of them damaged, and a text."""
    root = tmp_path_factory.mktemp("heard")
    (root / "sub").mkdir()
    quiet = np.zeros(3 * RATE_HZ)
    for name in ("a.wav", "sub/b.wav"):
        write_wav(root / name, np.concatenate([quiet, siren(12), quiet]))
    (root / "broken.wav").write_bytes(b"RIFF no sound")
    (root / "notes.txt").write_text("of the day")
    return root


def test_a_folder_becomes_one_table_and_errors_are_a_list_at_the_end(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    done = run("tag", folder, "--events", "--format", "csv", "-o", out)
    refused(done, "broken.wav")
    assert done.stdout == ""
    *_, error, summary = done.stderr.splitlines()
    assert error.startswith(f"Error: {folder / 'broken.wav'}")
    assert re.fullmatch(
        rf"{out}: 2 files of 3, 3\d s of sound in \d+ s, \d+ times real time; 1 file left out, no audio by name",
        summary,
    )
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert [row["file"] for row in rows if row["label"] == "siren"] == [
        str(folder / "a.wav"),
        str(folder / "sub" / "b.wav"),
    ]


@pytest.mark.parametrize("style", ["table", "json", "csv", "dcase"])
def test_a_file_holds_what_standard_output_shows_whatever_the_number_of_jobs(
    style: str, folder: Path, tmp_path: Path
) -> None:
    names = (folder / "a.wav", folder / "sub" / "b.wav")
    shown = run("tag", *names, "--format", style, "--jobs", 1)
    assert (shown.exit_code, shown.stderr) == (0, "")
    out = tmp_path / "out"
    assert run("tag", *names, "--format", style, "--jobs", 3, "-o", out).exit_code == 0
    assert out.read_text("utf-8") == shown.stdout


def test_a_folder_of_files_mirrors_the_folder_of_recordings(folder: Path, tmp_path: Path) -> None:
    run("tag", folder, "--format", "raven", "-o", tmp_path / "tables")
    found = sorted(path.relative_to(tmp_path / "tables").as_posix() for path in (tmp_path / "tables").rglob("*.*"))
    assert found == ["a.wav.selections.txt", "sub/b.wav.selections.txt"]
    tracks = f"{tmp_path / 'tracks'}/"
    assert run("tag", folder / "a.wav", "--format", "audacity", "-o", tracks).exit_code == 0
    assert "\tsiren\n" in (tmp_path / "tracks" / "a.wav.labels.txt").read_text()


def test_json_is_what_format_json_is(folder: Path) -> None:
    name = folder / "sub" / "b.wav"
    shown = run("tag", name, "--json")
    assert shown.stdout == run("tag", name, "--format", "json").stdout
    assert list(json.loads(shown.stdout.splitlines()[0])) == ["file", "start", "end", "top"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["{root}", "--format", "audacity"], "a label track is of one recording"),
        (["{root}/a.wav", "--format", "parquet"], "name a file with -o"),
        (["{root}/a.wav", "--format", "csv", "--json"], "exclude each other"),
        (["{root}/a.wav", "--format", "csv", "-o", "{root}/a.wav"], "is one of the recordings"),
        (["{root}/*.aiff"], "no audio file matches this"),
        (["{root}/a.wav", "{root}/sub/../a.wav", "--format", "csv", "-o", "{tmp}"], "name a folder above both"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(args: list[str], words: str, folder: Path, tmp_path: Path) -> None:
    before = (folder / "a.wav").read_bytes()
    refused(run("tag", *(each.format(root=folder, tmp=tmp_path) for each in args)), words)
    assert (folder / "a.wav").read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_leaves_a_whole_table_of_what_was_tagged(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    write_wav(many / "long.wav", np.zeros(3600 * 1000), 1000)
    out = tmp_path / "out.csv"
    with running("tag", many, "--format", "csv", "-o", out, "--hop", "0.1") as tagging:
        until(lambda: any(path.stat().st_size > 200 for path in tmp_path.glob("out.csv*.partial")), "rows are written")
        code, shown, err = stop(tagging, signal.SIGINT)
    assert (code, shown) == (130, "")
    assert "Interrupted: 0 of 1 file tagged to their end" in err
    assert "Traceback" not in err
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert rows
    assert all(float(row["score"]) <= 1 for row in rows)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
