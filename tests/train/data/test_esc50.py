import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tagger.errors import UserError
from tagger.files import sha256
from train.data import cache, esc50
from train.data.dataset import FOLDS, leaks, trained_on

CATEGORIES = ("dog", "rooster", "sea_waves")
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def rows(takes: int = 1) -> list[dict[str, Any]]:
    """Five folds of three categories, as in the official table: folds first, targets not in order."""
    return [
        {
            "filename": f"{fold}-{10 * fold + target}-{'ABCDE'[take]}-{target}.wav",
            "fold": fold,
            "target": target,
            "category": CATEGORIES[target],
            "esc10": target == 0,
            "src_file": 10 * fold + target,
            "take": "ABCDE"[take],
        }
        for fold in FOLDS
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
    assert [(clip.fold, clip.label) for clip in dataset.clips] == [(row["fold"], row["target"]) for row in rows()]
    assert [clip.source for clip in dataset.clips] == [f"esc50/{row['src_file']}" for row in rows()]
    assert [clip.sha256 for clip in dataset.clips] == [sha256(clip.path) for clip in dataset.clips]
    assert not any(clip.any_length or clip.start_seconds for clip in dataset.clips)
    assert (dataset.name, dataset.licences) == ("ESC-50", (esc50.LICENCE,))


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


def test_a_part_of_the_folds_is_a_data_set_too(root):
    write_table(root, [row for row in rows() if row["fold"] not in (2, 4)])
    assert {clip.fold for clip in esc50.read(root).clips} == {1, 3, 5}


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


@pytest.mark.parametrize("category", ["", "a/b", "x" * 101, "a\x1b"])
def test_a_category_that_cannot_be_a_label(root, category):
    table = rows()
    target = table[0]["target"]
    write_table(root, [row | {"category": category} if row["target"] == target else row for row in table])
    assert "cannot be a label" in refused(root)


def test_a_table_that_is_not_utf8(root):
    changed(root, 3, category="café")
    table = root / "meta" / "esc50.csv"
    table.write_bytes(table.read_text("utf-8").encode("latin-1"))
    refused(root)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_saved_by_a_spreadsheet(root, separator):
    write_table(root, rows(), "utf-8-sig")
    table = root / "meta" / "esc50.csv"
    table.write_bytes(table.read_bytes().replace(b",", separator.encode()) + 6 * separator.encode() + b"\r\n")
    assert len(esc50.read(root).clips) == 15


@pytest.mark.parametrize("stem", ["dog", "1-12-AB-0", "6-12-A-0", "1-12-A"])
def test_other_names_than_the_official_ones(root, stem):
    table = rows()
    first = root / "audio" / table[0]["filename"]
    table[0]["filename"] = f"{stem}.wav"
    first.rename(first.with_name(f"{stem}.wav"))
    write_table(root, table)
    assert esc50.read(root).clips[0].source == f"esc50/{stem}"


def mark(root: Path, targets: tuple[int, ...], mark: str = "True") -> None:
    write_table(root, [row | {"esc10": mark if row["target"] in targets else "False"} for row in rows()])


@pytest.mark.parametrize("spelled", ["True", "true", "TRUE", " True", "1"])
def test_the_esc10_subset(root, spelled):
    mark(root, (0, 2), spelled)
    dataset = esc50.read(root, "esc10")
    assert (dataset.name, dataset.labels) == ("ESC-10", ("dog", "sea_waves"))
    assert [(clip.fold, clip.label) for clip in dataset.clips] == [(fold, label) for fold in FOLDS for label in (1, 0)]
    assert dataset.licences == (esc50.ESC10_LICENCE,)
    assert "CC BY 3.0" in esc50.ESC10_LICENCE


def test_the_subset_is_known_by_what_all_is_known_by(root):
    mark(root, (0, 2))
    whole, part = esc50.read(root), esc50.read(root, "esc10")
    assert len(leaks(part, np.arange(10), trained_on(whole, np.arange(15)))) == 10


def test_clips_that_are_not_of_the_subset_may_be_missing(root):
    mark(root, (0, 2))
    for path in (root / "audio").glob("*-1.wav"):
        path.unlink()
    assert len(esc50.read(root, "esc10").clips) == 10
    assert "5 of 15 clips are missing" in refused(root)


def test_no_esc10_here(root):
    mark(root, ())
    with pytest.raises(UserError, match="marks no clip"):
        esc50.read(root, "esc10")
    write_table(root, [{key: value for key, value in row.items() if key != "esc10"} for row in rows()])
    assert len(esc50.read(root).clips) == 15
    with pytest.raises(UserError, match=r"columns .*esc10"):
        esc50.read(root, "esc10")


def packed(root: Path, top: str = "ESC-50-master/", **extra: bytes) -> Path:
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            file.write(path, top + path.relative_to(root).as_posix())
        for name, content in extra.items():
            file.writestr(name, content)
    return archive


def unpacked_files() -> list[str]:
    (root,) = cache.folder().glob("esc50-*")
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("top", ["ESC-50-master/", "", "a/b/"])
def test_the_archive_is_read_like_its_folder(root, top, capfd):
    archive = packed(root, top)
    whole = esc50.read(root)
    assert esc50.read(archive).fingerprint == whole.fingerprint
    assert "unpacking" in capfd.readouterr().err
    assert esc50.read(archive).labels == whole.labels
    assert "unpacking" not in capfd.readouterr().err, "the same archive was unpacked twice"


def test_only_sounds_and_tables_are_unpacked(root):
    (root / "LICENSE").write_text("CC")
    strange = (
        *("ESC-50-master/esc50.py", "ESC-50-master/audio/deeper/1.wav", "ESC-50-master/audio/.hidden"),
        *("ESC-50-master/audio/../../../out.wav", "ESC-50-master/audio/..", "../out.wav", "/out.wav"),
        *("ESC-50-master/audio/..\\..\\out.wav", "ESC-50-master/audio/C:out.wav", "audio/1.wav"),
    )
    esc50.read(packed(root, **dict.fromkeys(strange, b"x")))
    assert unpacked_files() == ["LICENSE", *sorted(f"audio/{row['filename']}" for row in rows()), "meta/esc50.csv"]
    assert not list(root.parent.rglob("out.wav"))


def test_unpacking_is_continued(root, capfd):
    archive = packed(root)
    clips = esc50.read(archive).clips
    clips[3].path.unlink()
    clips[5].path.write_bytes(b"")  # as a power cut may leave it
    kept = clips[4].path.stat()
    again = esc50.read(archive)
    assert again.fingerprint == esc50.read(root).fingerprint
    assert clips[4].path.stat() == kept


def test_another_archive_is_unpacked_elsewhere(root):
    first = esc50.read(packed(root)).fingerprint
    soundfile.write(root / "audio" / rows()[0]["filename"], np.full(160, 0.1), 16_000)
    assert esc50.read(packed(root)).fingerprint == esc50.read(root).fingerprint != first


def test_a_damaged_archive(root):
    archive = packed(root)
    content = archive.read_bytes()
    at = content.index(b"1-12-A-2.wav") + 60  # within that clip's samples
    archive.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    with pytest.raises(UserError, match="not a ZIP archive that can be unpacked"):
        esc50.read(archive)
    assert not list(cache.folder().rglob("*.partial"))
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a ZIP archive"):
        esc50.read(archive)


def test_an_archive_of_something_else(root):
    (root / "meta" / "esc50.csv").rename(root / "meta" / "other.csv")
    with pytest.raises(UserError, match=r"no ESC-50 in it \(meta/esc50.csv is missing\)"):
        esc50.read(packed(root))


def test_the_real_one(shared):
    dataset = esc50.read(shared / "data" / "esc50")
    assert (len(dataset.clips), len(dataset.labels)) == (2000, 50)
    assert (dataset.labels[0], dataset.labels[49]) == ("dog", "hand_saw")
    by_fold = np.bincount([clip.fold for clip in dataset.clips])
    assert by_fold.tolist() == [0, 400, 400, 400, 400, 400]
    assert np.bincount([clip.label for clip in dataset.clips]).tolist() == [40] * 50
    assert len({clip.source for clip in dataset.clips}) == 1524 + 4
    folds_of = {(clip.source, clip.fold) for clip in dataset.clips}
    assert len(folds_of) == 1524 + 4, "a recording straddles the official folds"
    ten = esc50.read(shared / "data" / "esc50", "esc10")
    assert len(ten.clips) == 400
    assert ten.labels[:3] == ("dog", "rooster", "rain")


def test_wav_copies_are_the_same_recordings(shared, tmp_path):
    dataset = esc50.read(shared / "data" / "esc50")
    trained = trained_on(dataset, np.arange(1000))
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_bytes((shared / "data" / "esc50" / "meta" / "esc50.csv").read_bytes())
    (tmp_path / "audio").mkdir()
    for clip in dataset.clips:
        (tmp_path / "audio" / f"{clip.path.stem}.wav").write_bytes(clip.path.name.encode())  # other content
    other = esc50.read(tmp_path)
    assert other.fingerprint != dataset.fingerprint
    assert set(leaks(other, np.arange(2000), trained)) >= set(range(1000))


def test_an_archive_that_would_fill_the_disk_is_refused_before_anything_is_unpacked(tmp_path, home):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("ESC-50-master/meta/esc50.csv", "filename,fold,target,category\n")
        for number in range(16):
            with archive.open(f"ESC-50-master/audio/1-{number}-A-0.wav", "w") as member:
                for _ in range(10):
                    member.write(bytes(10_000_000))
    with pytest.raises(UserError, match=r"would unpack to 1\.6 GB; ESC-50 has 0\.9 GB"):
        esc50.read(path)
    assert not list(home.rglob("*.wav"))
