"""Each format is what its tool reads, byte by byte."""

import contextlib
import csv
import io
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tagger.errors import AudioError, UserError
from tagger.events import Event
from tagger.tag.formats import Audacity, Csv, Dcase, JsonLines, Raven, Table, TaggedWindow, TextFormat
from tagger.tag.inputs import Recording
from tagger.tag.output import InFolder, TextSheet, below, in_one_file, text_file

LATER = Event("end", "1", "dog", 0.3, 0.9, 12.5, 13.0625)
LONGER = Event("end", "2", "Glass breaking", 0.3, 0.875, 2.0, 61.3333333)
WINDOW = TaggedWindow(3.0, 8.0, (("dog", 0.75), ("Male speech, man", 0.125)))
HERE = Recording(Path("/clips/sub/a.wav"), "sub/a.wav")


def written(style: TextFormat, *items: Event | TaggedWindow) -> str:
    file = io.StringIO()
    file.close = lambda: None  # type: ignore[method-assign]
    sheet = TextSheet(style, file)
    sheet.begin(HERE)
    for item in items:
        sheet.add(HERE, item)
    sheet.close()
    return file.getvalue()


def test_a_label_track_is_what_audacity_reads() -> None:
    """Onset, offset and label, tabs between them, in seconds with six digits."""
    assert written(Audacity(), LONGER, LATER) == "2.000000\t61.333333\tGlass breaking\n12.500000\t13.062500\tdog\n"
    assert written(Audacity()) == ""


def test_a_selection_table_is_what_raven_reads() -> None:
    head, first, second = written(Raven(0.0, 15_000.0, 2), LONGER, LATER).splitlines()
    assert head.split("\t") == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
        *("Begin Path", "File Offset (s)", "Annotation", "Score"),
    ]
    assert first.split("\t") == [
        *("1", "Spectrogram 1", "2", "2.000000", "61.333333", "0", "15000"),
        *(str(HERE.path.absolute()), "2.000000", "Glass breaking", "0.875000"),
    ]
    assert second.split("\t")[0] == "2"


def test_a_dcase_table_names_the_file_below_the_folder() -> None:
    assert written(Dcase(), LONGER) == (
        "filename\tonset\toffset\tevent_label\nsub/a.wav\t2.000\t61.333\tGlass breaking\n"
    )


def test_csv_has_a_row_for_each_label_of_a_window_or_each_event() -> None:
    rows = list(csv.DictReader(io.StringIO(written(Csv(events=False), WINDOW))))
    assert rows == [
        {"file": "/clips/sub/a.wav", "start": "3.0", "end": "8.0", "label": "dog", "score": "0.75"},
        {"file": "/clips/sub/a.wav", "start": "3.0", "end": "8.0", "label": "Male speech, man", "score": "0.125"},
    ]
    assert written(Csv(events=True), LATER) == (
        "file,onset,offset,label,peak_score\n/clips/sub/a.wav,12.5,13.062,dog,0.9\n"
    )


def test_parquet_has_the_rows_of_csv_with_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    from tagger.tag.parquet import ParquetSheet

    sheet = ParquetSheet(tmp_path / "a.parquet", events=False)
    sheet.begin(HERE)
    sheet.add(HERE, WINDOW)
    sheet.close()
    table = pyarrow.read_table(tmp_path / "a.parquet")
    assert [str(each) for each in table.schema.types] == ["string", "double", "double", "string", "float"]
    assert table.to_pylist() == [
        {"file": "/clips/sub/a.wav", "start": 3.0, "end": 8.0, "label": "dog", "score": 0.75},
        {"file": "/clips/sub/a.wav", "start": 3.0, "end": 8.0, "label": "Male speech, man", "score": 0.125},
    ]
    nothing = ParquetSheet(tmp_path / "b.parquet", events=True)
    nothing.close()
    assert pyarrow.read_table(tmp_path / "b.parquet").column_names == ["file", "onset", "offset", "label", "peak_score"]


def test_a_name_that_is_no_text_makes_no_second_row(tmp_path: Path) -> None:
    evil = Recording(tmp_path / "a\nb\tc,\udcff.wav", "a\nb\tc,\udcff.wav")
    for style in (Dcase(), Raven(0, 1), JsonLines(), Csv(events=True)):
        path = tmp_path / "out"
        sheet = text_file(style)(path)
        sheet.begin(evil)
        sheet.add(evil, LATER)
        sheet.close()
        text = path.read_text("utf-8", errors="surrogateescape")
        if isinstance(style, Csv):
            assert [row["file"] for row in csv.DictReader(io.StringIO(text))] == [str(evil.path)]
        elif isinstance(style, JsonLines):
            assert json.loads(text)["file"] == str(evil.path)
        else:
            head, line = text.splitlines()
            assert len(line.split("\t")) == len(head.split("\t"))


def test_one_file_appears_whole_and_an_old_one_stays_where_nothing_was_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with in_one_file(path, text_file(Table())) as output:
        with output.recording(HERE) as add:
            add(WINDOW)
        assert not path.exists()
    old = path.read_bytes()
    assert old.startswith(b"/clips/sub/a.wav\n")
    with in_one_file(path, text_file(Table())) as output, pytest.raises(AudioError), output.recording(HERE):
        raise AudioError("no audio")
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_gets_a_file_for_each_recording_and_what_was_read_before_damage(tmp_path: Path) -> None:
    others = [Recording(Path(f"/x/{name}"), name) for name in ("b.wav", "c.wav")]
    output = InFolder(below(tmp_path, [HERE, *others], ".labels.txt"), text_file(Audacity()))
    with output.recording(HERE):
        pass
    with contextlib.suppress(AudioError), output.recording(others[0]) as add:
        add(LATER)
        raise AudioError("damaged")
    with pytest.raises(AudioError), output.recording(others[1]):
        raise AudioError("no audio")
    files = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert files == {"sub/a.wav.labels.txt": "", "b.wav.labels.txt": "12.500000\t13.062500\tdog\n"}


def test_two_recordings_never_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"both would be .*a\.wav\.csv; name a folder above both"):
        below(tmp_path, [Recording(Path("x/a.wav"), "a.wav"), Recording(Path("y/a.wav"), "a.wav")], ".csv")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        with in_one_file(pipe, text_file(Audacity())) as output, output.recording(HERE) as add:
            add(LATER)
        assert read.result(60) == "12.500000\t13.062500\tdog\n"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
