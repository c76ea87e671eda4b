import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tagger.errors import UserError
from train import esc50

CATEGORIES = ("dog", "rooster", "sea_waves")
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def rows(takes: int = 1) -> list[dict[str, Any]]:
    """Five folds of three categories, as in the official table: folds first, targets not in order."""
    return [
        {
            "filename": f"{fold}-{100 + target}-{take}-{target}.wav",
            "fold": fold,
            "target": target,
            "category": CATEGORIES[target],
            "esc10": target == 0,
            "src_file": 100 + target,
            "take": "ABCDE"[take],
        }
        for fold in esc50.FOLDS
        for target in (2, 0, 1)
        for take in range(takes)
    ]


def write_table(root: Path, table: list[dict[str, Any]], encoding: str = "utf-8") -> None:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    with (root / "meta" / "esc50.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, table[0].keys() if table else COLUMNS)
        writer.writeheader()
        writer.writerows(table)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A whole, tiny ESC-50: noise of 10 ms."""
    root = tmp_path / "ESC-50"
    (root / "audio").mkdir(parents=True)
    write_table(root, rows())
    rng = np.random.default_rng(0)
    for row in rows():
        soundfile.write(root / "audio" / row["filename"], rng.uniform(-0.5, 0.5, 160), 16_000)
    return root


def refused(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        esc50.read(root)
    assert caught.value.exit_code == 2
    assert str(root) in str(caught.value)
    return str(caught.value)


def changed(root: Path, number: int, **values: Any) -> None:
    table = rows()
    table[number] |= values
    write_table(root, table)


def test_read(root):
    dataset = esc50.read(root)
    assert dataset.labels == CATEGORIES
    assert [clip.path.name for clip in dataset.clips] == [row["filename"] for row in rows()]
    assert [(clip.fold, clip.target) for clip in dataset.clips] == [(row["fold"], row["target"]) for row in rows()]


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".WAV"])
def test_clips_are_found_by_stem(root, suffix):
    for path in sorted((root / "audio").iterdir()):
        path.rename(path.with_suffix(suffix))
    assert {clip.path.suffix for clip in esc50.read(root).clips} == {suffix}


def test_other_files_are_no_clips(root):
    (root / "audio" / "README.txt").write_text("hello")
    (root / "audio" / "9-999-Z-9.wav").write_bytes(b"")
    assert len(esc50.read(root).clips) == 15


def test_the_fingerprint_is_that_of_the_data(root, tmp_path):
    first = esc50.read(root).fingerprint
    assert esc50.read(root).fingerprint == first
    root.rename(tmp_path / "elsewhere")
    assert esc50.read(tmp_path / "elsewhere").fingerprint == first
    clip = sorted((tmp_path / "elsewhere" / "audio").iterdir())[3]
    content = clip.read_bytes()
    clip.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert esc50.read(tmp_path / "elsewhere").fingerprint != first


def test_the_fingerprint_changes_with_the_folds(root):
    first = esc50.read(root).fingerprint
    table = rows()
    table[0]["fold"], table[-1]["fold"] = table[-1]["fold"], table[0]["fold"]
    write_table(root, table)
    assert esc50.read(root).fingerprint != first


@pytest.mark.parametrize("missing", [".", "meta", "meta/esc50.csv"])
def test_no_dataset(root, missing):
    target = root / missing
    target.rename(target.with_name("gone"))
    message = refused(root)
    assert "karolpiczak/ESC-50" in message
    assert "tagger train DATA" in message


def test_no_audio(root):
    (root / "audio").rename(root / "sound")
    assert "15 of 15 clips are missing" in refused(root)


def test_a_missing_clip(root):
    (root / "audio" / rows()[4]["filename"]).unlink()
    assert f"1 of 15 clips are missing, the first {rows()[4]['filename']}" in refused(root)


def test_an_empty_table(root):
    write_table(root, [])
    assert "must have rows" in refused(root)
    (root / "meta" / "esc50.csv").write_text("")
    assert "must have rows" in refused(root)


@pytest.mark.parametrize("column", ["filename", "fold", "target", "category"])
def test_a_missing_column(root, column):
    write_table(root, [{key: value for key, value in row.items() if key != column} for row in rows()])
    assert column in refused(root)


@pytest.mark.parametrize("wrong", [{"fold": "one"}, {"target": "dog"}, {"fold": ""}, {"target": "1.0"}])
def test_numbers_that_are_none(root, wrong):
    changed(root, 3, **wrong)
    assert "invalid literal" in refused(root)


@pytest.mark.parametrize("target", [3, -1, 7])
def test_targets_with_a_hole(root, target):
    table = [row | {"target": target if row["target"] == 1 else row["target"]} for row in rows()]
    write_table(root, table)
    if target == 3:
        assert "targets must be 0 to 2" in refused(root)
    else:
        refused(root)


def test_a_missing_fold(root):
    write_table(root, [row for row in rows() if row["fold"] not in (2, 4)])
    assert "no clips of fold 2, 4" in refused(root)


def test_a_fold_too_many(root):
    changed(root, 3, fold=6)
    refused(root)


def test_one_target_of_two_categories(root):
    changed(root, 3, category="siren")
    refused(root)


def test_two_targets_of_one_category(root):
    write_table(root, [row | {"category": "dog"} for row in rows()])
    refused(root)


def test_a_clip_twice(root):
    changed(root, 3, filename=rows()[0]["filename"])
    refused(root)


def test_a_short_row(root):
    with (root / "meta" / "esc50.csv").open("a", encoding="utf-8") as file:
        file.write(f"{rows()[0]['filename']},1\n")
    refused(root)


def test_a_table_that_is_not_utf8(root):
    changed(root, 3, category="café")
    table = root / "meta" / "esc50.csv"
    table.write_bytes(table.read_text("utf-8").encode("latin-1"))
    refused(root)


def test_a_table_saved_by_a_spreadsheet(root):
    write_table(root, rows(), "utf-8-sig")
    assert len(esc50.read(root).clips) == 15


def test_the_real_one(shared):
    dataset = esc50.read(shared / "data" / "esc50")
    assert (len(dataset.clips), len(dataset.labels)) == (2000, 50)
    assert (dataset.labels[0], dataset.labels[49]) == ("dog", "hand_saw")
    by_fold = np.bincount([clip.fold for clip in dataset.clips])
    assert by_fold.tolist() == [0, 400, 400, 400, 400, 400]
    assert np.bincount([clip.target for clip in dataset.clips]).tolist() == [40] * 50
