import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.errors import UserError
from tagger.files import sha256
from train.data import layouts, own
from train.data.dataset import FOLDS, Dataset, combined


def write(path: Path, content: int = 0) -> Path:
    """Readers look at no samples, so any bytes are a sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"sound {content}".encode())
    return path


def folder(root: Path, **counts: int) -> Path:
    number = 0
    for label, count in counts.items():
        for _ in range(count):
            write(root / label / f"{number}.wav", number)
            number += 1
    return root


def table(root: Path, *rows: str, header: str = "filename,label", encoding: str = "utf-8") -> Path:
    root.mkdir(exist_ok=True)
    path = root / "sounds.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        own.read(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_label(dataset: Dataset) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    for clip in dataset.clips:
        found.setdefault(None if clip.label is None else dataset.labels[clip.label], []).append(clip.fold)
    return found


def test_clips_are_called_by_folder_and_file(tmp_path):
    write(tmp_path / "kettle" / "loud" / "1.wav", 1)
    write(tmp_path / "kettle" / "1.wav", 2)
    write(tmp_path / "bell" / "1.wav", 3)
    write(tmp_path / "bell" / "2.wav", 4)
    titles = [clip.title for clip in own.read(tmp_path).clips]
    assert sorted(titles) == ["bell/1.wav", "bell/2.wav", "kettle/1.wav", "kettle/loud/1.wav"]


def test_clips_of_a_table_are_called_as_it_names_them(tmp_path):
    for number, place in enumerate(("a/1.wav", "b/1.wav")):
        write(tmp_path / place, number)
    clips = own.read(table(tmp_path, "a/1.wav,kettle", "b/1.wav,kettle")).clips
    assert [clip.title for clip in clips] == ["a/1.wav", "b/1.wav"]


def test_folders(tmp_path):
    dataset = own.read(folder(tmp_path, kettle=5, doorbell=7, background=3))
    assert (dataset.name, dataset.labels, dataset.licences) == ("own", ("doorbell", "kettle"), ())
    assert {label: len(folds) for label, folds in by_label(dataset).items()} == {"doorbell": 7, "kettle": 5, None: 3}
    assert sorted(by_label(dataset)["kettle"]) == list(FOLDS)
    for clip in dataset.clips:
        assert clip.sha256 == sha256(clip.path)
        assert clip.source == f"own/{clip.sha256}"
        assert clip.any_length
        assert clip.start_seconds is None


@settings(max_examples=15)
@given(st.lists(st.integers(2, 17), min_size=1, max_size=6), st.integers(0, 9))
def test_folds_are_balanced_in_each_label_and_in_all(tmp_path_factory, counts, quiet):
    root = folder(tmp_path_factory.mktemp("own"), **{f"label {n}": count for n, count in enumerate(counts)})
    for number in range(quiet):
        write(root / "background" / f"{number}.wav", 10_000 + number)
    dataset = own.read(root)
    for folds in by_label(dataset).values():
        sizes = [folds.count(fold) for fold in FOLDS]
        assert max(sizes) - min(sizes) <= 1
    total = Counter(clip.fold for clip in dataset.clips)
    assert max(total[fold] for fold in FOLDS) - min(total[fold] for fold in FOLDS) <= 2


def test_folds_do_not_depend_on_names_and_places(tmp_path):
    first = own.read(folder(tmp_path / "here", kettle=9, doorbell=4))
    (tmp_path / "here").rename(tmp_path / "there")
    for path in sorted((tmp_path / "there").glob("*/*.wav")):
        path.rename(path.with_name(f"{sha256(path)[:8]}.FLAC"))
    second = own.read(tmp_path / "there")
    assert {clip.sha256: clip.fold for clip in first.clips} == {clip.sha256: clip.fold for clip in second.clips}


def test_copies_are_one_recording(tmp_path):
    root = folder(tmp_path, kettle=4)
    for number in range(3):
        write(root / "kettle" / "copies" / f"{number}.wav", 2)
    dataset = own.read(root)
    assert len(dataset.clips) == 7
    assert len({clip.source for clip in dataset.clips}) == 4
    assert len({clip.fold for clip in dataset.clips if clip.sha256 == sha256(root / "kettle" / "2.wav")}) == 1


def test_pieces_that_esc50_names_stay_together(tmp_path):
    for number, name in enumerate(["1-100-A-3", "1-100-B-3", "2-200-A-3", "kettle", "5-7"]):
        write(tmp_path / "kettle" / f"{number} here" / f"{name}.wav", number)
    write(tmp_path / "kettle" / "0 copy.wav", 2)  # a copy of 2-200-A-3
    sources = {clip.path.name: clip.source for clip in own.read(tmp_path).clips}
    assert sources["1-100-A-3.wav"] == sources["1-100-B-3.wav"] == "esc50/100"
    assert sources["0 copy.wav"] == sources["2-200-A-3.wav"] == "esc50/200"
    assert sources["5-7.wav"].startswith("own/")


def test_one_sound_under_two_labels(tmp_path):
    root = folder(tmp_path, kettle=3, doorbell=3)
    write(root / "doorbell" / "again.wav", 1)
    message = refused(root)
    assert "'kettle'" in message
    assert "'doorbell'" in message
    assert "again.wav" in message
    write(root / "doorbell" / "again.wav", 77)
    write(root / "background" / "again.wav", 1)
    assert "'background'" in refused(root)


def test_hidden_files_and_documents_are_no_sounds(tmp_path):
    root = folder(tmp_path, kettle=5, doorbell=5)
    for name in ("kettle/.DS_Store", ".git/objects/1", "__MACOSX/kettle/._0.wav", "kettle/.cache/2.wav", ".hidden.wav"):
        write(root / name, 500)
    for name in ("kettle/notes.TXT", "kettle/labels.csv", "doorbell/info.json", "README.md", "loose.wav"):
        write(root / name, 501)
    said: list[str] = []
    dataset = own.read(root, said.append)
    assert len(dataset.clips) == 10
    (line,) = said
    for name in ("notes.TXT", "labels.csv", "info.json", "README.md", "loose.wav"):
        assert name in line
    assert "DS_Store" not in line


def test_many_documents_are_one_line(tmp_path):
    root = folder(tmp_path, kettle=5)
    for number in range(30):
        write(root / "kettle" / f"{number}.txt")
    said: list[str] = []
    own.read(root, said.append)
    assert said[0].endswith("and 25 more")


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".xyz", "", ".WAV"])
def test_everything_else_goes_to_the_decoder(tmp_path, suffix):
    root = folder(tmp_path, kettle=2)
    write(root / "kettle" / f"recording{suffix}", 50)
    assert len(own.read(root).clips) == 3


def test_pipes_and_broken_links_are_no_sounds(tmp_path):
    root = folder(tmp_path, kettle=5)
    os.mkfifo(root / "kettle" / "pipe.wav")
    (root / "kettle" / "link.wav").symlink_to("gone.wav")
    (root / "kettle" / "good.wav").symlink_to(write(tmp_path / ".elsewhere" / "1.wav", 50))
    said: list[str] = []
    assert len(own.read(root, said.append).clips) == 6
    assert "pipe.wav" in said[0]
    assert "link.wav" in said[0]


def test_too_few(tmp_path):
    root = folder(tmp_path, kettle=1, doorbell=5)
    assert "'kettle' has 1 recording; a label needs at least 2" in refused(root)
    write(root / "kettle" / "copy.wav", 0)
    assert "'kettle' has 1 recording" in refused(root), "a copy is no other recording"
    write(root / "kettle" / "other.wav", 99)
    said: list[str] = []
    own.read(root, said.append)
    assert said == ["fewer than 5 recordings, so not in every fold: kettle"]


def test_all_labels_that_have_too_few_are_named(tmp_path):
    root = folder(tmp_path, kettle=1, doorbell=1, tap=2)
    assert "'doorbell', 'kettle' have 1 recording each; a label needs at least 2" in refused(root)


def test_labels_of_nearly_the_same_name_are_said(tmp_path):
    root = folder(tmp_path, **{"Door bell": 5, "door_bell": 5, "kettle": 5, "🔔": 5, "🔕": 5})
    said: list[str] = []
    own.read(root, said.append)
    assert said == ["nearly the same names, but different labels: 'Door bell' and 'door_bell'"]


def test_the_folder_above_the_labels_is_said_to_be_one_label(tmp_path):
    folder(tmp_path / "my sounds", kettle=2, doorbell=3)
    said: list[str] = []
    assert own.read(tmp_path, said.append).labels == ("my sounds",)
    assert (
        f"'my sounds' is the label of all sounds in doorbell, kettle; if these are labels, give {tmp_path}" in said[0]
    )


@pytest.mark.parametrize("name", ["kettle", "background"])
def test_folders_in_a_label_or_a_background_need_no_word(tmp_path, name):
    root = folder(tmp_path, doorbell=5, **{name: 5})
    for inside in ("loud", "soft") if name == "background" else ("loud",):
        write(root / name / inside / "1.wav", len(inside) + ord(inside[0]))
    said: list[str] = []
    own.read(root, said.append)
    assert said == []


def test_an_empty_label(tmp_path):
    root = folder(tmp_path, kettle=5)
    (root / "doorbell").mkdir()
    assert "doorbell: has no sounds; a label needs at least 2 recordings" in refused(root)


@pytest.mark.parametrize("name", ["a+b", "a#", "bell\x07", "line\nbreak", "\udcff", " "])
def test_names_that_are_no_labels(tmp_path, name):
    root = folder(tmp_path, kettle=5)
    write(root / name / "1.wav", 100)
    write(root / name / "2.wav", 101)
    assert "label" in refused(root)


@pytest.mark.parametrize("name", ["a/b", "", "  ", "+", "\x00"])
def test_labels_of_a_csv_that_are_none(tmp_path, name):
    write(tmp_path / "1.wav", 1)
    write(tmp_path / "2.wav", 2)
    assert "line 3: the label" in refused(table(tmp_path, "1.wav,kettle", f"2.wav,{name}"))


@pytest.mark.parametrize("header", ["Filename,Label", "FILENAME, LABEL", "fileName,label"])
def test_the_case_of_a_csvs_columns_does_not_matter(tmp_path, header):
    rows = [f"{number}.wav,kettle" for number in range(3) if write(tmp_path / f"{number}.wav", number)]
    assert own.read(table(tmp_path, *rows, header=header)).labels == ("kettle",)


def test_accents_are_written_one_way(tmp_path):
    root = folder(tmp_path, **{"cafe\u0301": 3})
    assert own.read(root).labels == ("caf\u00e9",)


@pytest.mark.parametrize("name", ["background", "_background", "Background"])
def test_background_has_no_label(tmp_path, name):
    dataset = own.read(folder(tmp_path, kettle=2, **{name: 1}))
    assert dataset.labels == ("kettle",)
    assert [clip.label for clip in dataset.clips].count(None) == 1


def test_background_alone_is_no_data_set(tmp_path):
    assert "no labelled sounds" in refused(folder(tmp_path, background=5))


def test_a_folder_of_background(tmp_path):
    root = folder(tmp_path, fan=3, street=4)
    write(root / "loose.wav", 50)
    write(root / "notes.txt", 51)
    write(root / ".hidden.wav", 52)
    dataset = own.read_background(root)
    assert (dataset.name, dataset.labels, len(dataset.clips)) == ("background", (), 8)
    assert {clip.label for clip in dataset.clips} == {None}
    assert {clip.fold for clip in dataset.clips} == set(FOLDS)
    assert len(own.read_background(root / "loose.wav").clips) == 1


@pytest.mark.parametrize("there", [True, False])
def test_no_background(tmp_path, there):
    if there:
        write(tmp_path / "quiet" / "notes.txt")
    with pytest.raises(UserError, match="no background sounds here"):
        own.read_background(tmp_path / "quiet")


def test_a_csv(tmp_path):
    rows = []
    for number in range(10):
        place = tmp_path / "audio" if number % 2 else tmp_path / "deep" / "er"
        path = write(place / f"{number}.wav", number)
        name = path.name if number % 2 else f"deep/er/{path.name}"
        rows.append(f"{name},{'door bell' if number < 5 else 'kettle'}")
    write(tmp_path / "deep" / "er" / "quiet.flac", 50)
    dataset = own.read(table(tmp_path, *rows, "deep/er/quiet.flac,background"))
    assert dataset.labels == ("door bell", "kettle")
    assert [clip.label for clip in dataset.clips] == [0] * 5 + [1] * 5 + [None]
    assert all(clip.any_length for clip in dataset.clips)
    assert sorted(by_label(dataset)["kettle"]) == list(FOLDS)


def test_a_csv_of_folds_and_sources(tmp_path):
    for number in range(6):
        write(tmp_path / f"{number}.wav", number)
    path = table(
        tmp_path,
        *("0.wav,kettle,5,monday", "1.wav,kettle,,monday", "2.wav,kettle,2,", "3.wav,kettle,,", "4.wav,kettle,,"),
        "5.wav,kettle, 1 , tuesday ",
        header="filename, label ,fold,source",
        encoding="utf-8-sig",
    )
    clips = own.read(path).clips
    assert [clip.fold for clip in clips][:3] == [5, 5, 2]
    assert clips[0].source == clips[1].source == "own/monday"
    assert (clips[5].fold, clips[5].source) == (1, "own/tuesday")
    assert {clips[3].fold, clips[4].fold} == {3, 4}, "those without a fold fill the others"


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_of_another_spreadsheet(tmp_path, separator, suffix):
    for number in range(2):
        write(tmp_path / f"{number}.wav", number)
    path = tmp_path / f"table{suffix}"
    lines = [["filename", "label"], ["0.wav", "Wasser, laut"], ["1.wav", "Wasser, laut"], ["", ""]]
    path.write_text("\r\n".join(map(separator.join, lines)) + "\r\n", "utf-8")
    assert layouts.read_any(path).labels == ("Wasser, laut",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.wav,a,,", "gone.wav,a,,"], "line 3: no file gone.wav"),
        (["0.wav,a,,", ",a,,"], "line 3: has no filename"),
        (["0.wav,a,,", "1.wav,a,6,"], "line 3: fold must be 1 to 5, not '6'"),
        (["0.wav,a,,", f"1.wav,a,{'1' * 5000},"], "line 3: fold must be 1 to 5"),
        (["0.wav,a,,", "1.wav,a,0,"], "line 3: fold must be 1 to 5, not '0'"),
        (["0.wav,a,,", "1.wav,a,2.0,"], "line 3: fold must be 1 to 5, not '2.0'"),
        (["0.wav,a,,", "1.wav,a,²,"], "line 3: fold must be 1 to 5, not '²'"),
        (["0.wav,a,,", "1.wav,a,,x,more"], "line 3: has more values than there are columns"),
        (["0.wav,a,,", "1.wav"], "line 3: the label is empty"),
        (["0.wav,a,,", "1.wav,a,,", "0.wav,b,,"], "line 4: 0.wav is on line 2 too"),
        (["0.wav,a,1,x", "1.wav,a,1,x", "2.wav,a,2,x"], "line 4: the same recording as on line 2, but in fold 2"),
        (["0.wav,a,1,", "same.wav,a,2,"], "line 3: the same recording as on line 2, but in fold 2"),
        (["0.wav,a,1,x", "same.wav,a,,y", "1.wav,a,2,y"], "its recording is in fold 1 too"),
        (["0.wav,a,,", '"1.wav,a,,'], "not a CSV in UTF-8"),
        ([], "no labelled sounds; below the columns' names, write a file and its label a line"),
        (["0.wav,background,,"], "no labelled sounds"),
    ],
)
def test_wrong_lines(tmp_path, rows, message):
    for number in range(3):
        write(tmp_path / f"{number}.wav", number)
    write(tmp_path / "same.wav", 0)
    with pytest.raises(UserError) as caught:
        own.read(table(tmp_path, *rows, header="filename,label,fold,source"))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("header", ["filename|label", "file,label", "filename,category", ""])
def test_a_csv_without_its_columns(tmp_path, header):
    write(tmp_path / "0.wav")
    assert "line 1 must name the columns: filename,label" in refused(table(tmp_path, "0.wav,a", header=header))


def test_a_csv_that_is_not_utf8(tmp_path):
    assert "not a CSV in UTF-8" in refused(table(tmp_path, "0.wav,café", encoding="latin-1"))


def test_no_such_folder(tmp_path):
    assert "no such folder" in refused(tmp_path / "gone")


def test_names_that_are_not_utf8_can_be_said(tmp_path):
    write(folder(tmp_path, kettle=5) / "kettle" / "caf\udce9.txt")
    said: list[str] = []
    own.read(tmp_path, said.append)
    assert said[0].encode().endswith(b"caf\\udce9.txt")


def test_the_table_of_a_folder_gives_the_same(tmp_path):
    root = folder(tmp_path, kettle=6, doorbell=5)
    first = own.read(root)
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label"])
        writer.writerows([clip.path.relative_to(root), clip.path.parent.name] for clip in first.clips)
    assert own.read(root / "table.csv") == first


def clips(root: Path, *rows: str, unreviewed: int = 0) -> Path:
    """A folder of saved clips: `label` or `label,source`, one a row, all announced as sirens; then some more."""
    lines = []
    for number, row in enumerate(rows):
        name = f"siren/20270115T080004Z_mic_{number}.flac"
        write(root / name, number)
        label, _, source = row.partition(",")
        lines.append(f"{name},{label},{source or number},,some")
    for number in range(unreviewed):
        write(root / "siren" / f"20270115T080004Z_mic_{len(rows) + number}.flac", 1000 + number)
    (root / "events.jsonl").write_text("{}\n")
    (root / "reviewed.csv").write_text("\n".join(["filename,label,source,fold,verdict", *lines]) + "\n")
    return root


def test_of_saved_clips_the_reviewed_ones_count(tmp_path):
    said: list[str] = []
    dataset = own.read(clips(tmp_path, "siren", "siren", "dog", "dog", "background", unreviewed=3), said.append)
    assert dataset.labels == ("dog", "siren"), "not the folder's name"
    assert [clip.label for clip in dataset.clips] == [1, 1, 0, 0, None]
    assert said[0] == f"{tmp_path}: left out 3 of 8 clips: 3 not reviewed"
    assert dataset.clips[0].title == "siren/20270115T080004Z_mic_0.flac"


def test_clips_of_one_recording_stay_together(tmp_path):
    rows = [f"{label},hour{number % 6}" for number in range(30) for label in ("siren", "dog", "background")]
    dataset = own.read(clips(tmp_path, *rows))
    folds: dict[str, set[int]] = {}
    for clip in dataset.clips:
        folds.setdefault(clip.source, set()).add(clip.fold)
    assert len(folds) == 6
    assert all(len(each) == 1 for each in folds.values())


def test_saved_clips_that_are_gone_or_hold_another_sound_are_left_out(tmp_path):
    root = clips(tmp_path, "siren", "siren", "", "background", "siren")
    (root / "siren" / "20270115T080004Z_mic_4.flac").unlink()
    said: list[str] = []
    assert len(own.read(root, said.append).clips) == 3
    assert "left out 2 of 5 clips: " in said[0]
    assert "1 deleted since" in said[0]
    assert "1 wrong, but with another sound in it" in said[0]


def test_saved_clips_that_are_all_wrong_are_background(tmp_path):
    root = clips(tmp_path, "background", "background")
    dataset = own.read(root)
    assert (dataset.labels, [clip.label for clip in dataset.clips]) == ((), [None, None])
    (tmp_path / "others").mkdir()
    others = own.read(folder(tmp_path / "others", kettle=5))
    both = combined([others, dataset])
    assert both.labels == ("kettle",)
    assert [clip.label for clip in both.clips] == [0] * 5 + [None] * 2


def test_of_saved_clips_only_wrong_ones_are_background(tmp_path):
    said: list[str] = []
    root = clips(tmp_path, "siren", "background", unreviewed=2)
    (clip,) = own.read_background(root, said.append).clips
    assert clip.path.name.endswith("_1.flac")
    assert "2 not reviewed" in said[0]
    with pytest.raises(UserError, match="no background sounds here"):
        own.read_background(clips(tmp_path / "right", "siren"))


def test_labels_with_one_recording_are_left_out_of_saved_clips_but_for_known_ones(tmp_path):
    root = clips(tmp_path, "siren,a", "siren,a", "dog,a", "cat,a", "cat,b", "background,a")
    said: list[str] = []
    assert own.read(root, said.append).labels == ("cat",)
    assert said[0].endswith("left out, as a label needs 2 recordings, and clips of one hour are one: dog, siren")
    dataset = own.read(root, said.append, known=["siren", "kettle"])
    assert dataset.labels == ("cat", "siren")
    assert len(dataset.clips) == 5
    assert own.read(clips(tmp_path / "b", "siren", "background")).labels == ()


def test_a_known_label_needs_no_more_recordings(tmp_path):
    root = folder(tmp_path, kettle=1, doorbell=5)
    said: list[str] = []
    assert own.read(root, said.append, known=["kettle"]).labels == ("doorbell", "kettle")
    assert said == []


def test_saved_clips_that_nobody_reviewed(tmp_path):
    root = clips(tmp_path, unreviewed=3)
    assert "no labelled sounds" in refused(root)
    (root / "reviewed.csv").unlink()
    assert f"none of these clips was reviewed; say what they are: tagger review {root}" in refused(root)
    with pytest.raises(UserError, match="tagger review"):
        own.read_background(root)


def test_a_damaged_table_of_reviews(tmp_path):
    root = clips(tmp_path, "siren", "siren")
    (root / "reviewed.csv").write_text("file;label\n")
    assert "line 1 must name the columns" in refused(root)


def test_real_sounds(shared, tmp_path):
    root = tmp_path / "own"
    for name in ("speech", "music", "typing"):
        samples, rate_hz = soundfile.read(shared / "data" / "streams" / f"{name}.wav")
        for number, piece in enumerate(np.array_split(samples, 3)):
            (root / name).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / name / f"{number}.flac", piece, rate_hz)
    assert own.read(root).labels == ("music", "speech", "typing")
