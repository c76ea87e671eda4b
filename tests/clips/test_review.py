import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.clips import review, speaker, verdicts
from tagger.clips.folder import EVENTS, REVIEWED, ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.errors import UserError
from tagger.events import Block, Event, Stream
from tests.programs import until
from train.data import own
from train.data.dataset import FOLDS

EPOCH = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""
HOUR = 3600.0
RATE = 1000
Sound = tuple[str, str, float, float]
"""Id, label, onset, duration."""


def saved(root: Path, *sounds: Sound) -> Path:
    """A folder as `tagger listen --save-clips` writes it."""
    folder, rng = ClipFolder(root), np.random.default_rng(0)
    for id_, label, onset, lasted in sounds:
        saver = ClipSaver(folder, Stream("attic", "mic", "fake", ()), RATE, 5.0)
        heard = rng.uniform(-0.5, 0.5, round((lasted + 2) * RATE)).astype(np.float32)
        saver.heard(Block(heard, EPOCH + onset - 1))
        saver.event(Event("end", id_, label, 0.8, 0.9, EPOCH + onset, EPOCH + onset + lasted))
        saver.close()
        folder.close(10) if (id_, label, onset, lasted) == sounds[-1] else wait_for(folder)
    assert folder.lost == 0
    return root


def wait_for(folder: ClipFolder) -> None:
    """The folder queues only a few clips at once."""
    until(lambda: folder.waiting <= 4, "most clips are written")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four clips, hours apart: a siren, a dog, a siren, a cat."""
    labels = ("siren", "dog", "siren", "cat")
    return saved(tmp_path / "clips", *((f"E{n}", label, n * HOUR, 2.0) for n, label in enumerate(labels)))


def rows(root: Path) -> dict[str, dict[str, str]]:
    """Event id -> verdict, label given."""
    with (root / REVIEWED).open(newline="") as file:
        return {Path(row["filename"]).stem.rpartition("_")[2]: row for row in csv.DictReader(file)}


def verdict_by_id(root: Path) -> dict[str, tuple[str | None, str | None]]:
    return {clip.id: (clip.verdict, clip.given_label) for clip in verdicts.load(root)}


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def file_of(root: Path, id_: str) -> Path:
    (path,) = root.glob(f"*/*_{id_}.flac")
    return path


def test_marks_are_written_as_training_reads_them(root):
    verdicts.mark(root, {"E0": "wrong", "E1": "right", "E2": "fire alarm"})
    table = rows(root)
    assert [(table[f"E{n}"]["label"], table[f"E{n}"]["verdict"]) for n in range(3)] == [
        *(("background", "wrong"), ("dog", "right"), ("fire alarm", "other"))
    ]
    assert table["E1"]["filename"] == "dog/20270115T090000Z_mic_E1.flac"
    assert [table[f"E{n}"]["source"] for n in range(3)] == [f"attic/mic/2027-01-15T{7 + n:02}" for n in range(3)]
    assert verdict_by_id(root) == {
        "E0": ("wrong", None), "E1": ("right", "dog"), "E2": ("other", "fire alarm"), "E3": (None, None),
    }  # fmt: skip


def test_those_not_reviewed_come_first_and_then_the_oldest(root):
    verdicts.mark(root, {"E0": "right", "E2": "right"})
    assert [clip.id for clip in verdicts.load(root)] == ["E1", "E3", "E0", "E2"]


def test_a_mark_can_be_changed_and_undone(root):
    verdicts.mark(root, {"E0": "wrong", "E1": "right"})
    verdicts.mark(root, {"E0": "right"})
    assert rows(root)["E0"]["label"] == "siren"
    verdicts.mark(root, {"E0": "undo"})
    assert list(rows(root)) == ["E1"]
    verdicts.mark(root, {"E1": "undo"})
    assert rows(root) == {}


@pytest.mark.parametrize("name", ["dog/20270115T090000Z_mic_E1.flac", "20270115T090000Z_mic_E1.flac", "full"])
def test_a_clip_may_be_named_by_its_file(root, name):
    verdicts.mark(root, {str(file_of(root, "E1")) if name == "full" else name: "right"})
    assert list(rows(root)) == ["E1"]


@pytest.mark.parametrize(
    ("said", "told"),
    [("Dog", "dog"), ("siren", "siren"), ("background", None), *((it, it) for it in ("Crying baby", "犬", "!!!"))],
)
def test_labels_are_spelled_as_before(root, said, told):
    (clip,) = verdicts.mark(root, {"E0": said})
    assert clip.given_label == told
    assert clip.verdict == {"siren": "right", None: "wrong"}.get(told, "other")


@pytest.mark.parametrize("label", ["a/b", "a+", "#", "bell\x07", "\udcff"])
def test_what_cannot_be_a_label(root, label):
    assert "cannot be a label" in refused(lambda: verdicts.mark(root, {"E1": "right", "E0": label}))
    assert not (root / REVIEWED).exists(), "all or nothing"


def test_an_unknown_clip(root):
    message = refused(lambda: verdicts.mark(root, {"E0": "right", "E9": "right"}))
    assert message == f"E9: no clip of that id or file in {root}; `tagger review {root} --list` shows them"
    assert not (root / REVIEWED).exists()


def test_a_clip_that_was_deleted(root):
    verdicts.mark(root, {"E0": "right"})
    for id_ in ("E0", "E1"):
        file_of(root, id_).unlink()
    assert "was deleted meanwhile" in refused(lambda: verdicts.mark(root, {"E1": "right"}))
    assert [clip.id for clip in verdicts.load(root)] == ["E2", "E3"]
    verdicts.mark(root, {"E2": "wrong"})
    assert list(rows(root)) == ["E0", "E2"], "what was said of it stays"
    verdicts.mark(root, {"E0": "undo"})
    assert list(rows(root)) == ["E2"]


def test_no_folder_of_clips(tmp_path):
    assert "no such folder; `tagger listen --save-clips" in refused(lambda: verdicts.load(tmp_path / "gone"))
    assert "events.jsonl is missing" in refused(lambda: verdicts.load(tmp_path))
    assert "events.jsonl is missing" in refused(lambda: verdicts.mark(tmp_path, {"E0": "right"}))
    assert list(tmp_path.iterdir()) == [tmp_path / "home"] or not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"file": "a"}', b'"' + b"x" * 50, b"{}"),
        *(b'{"id": 3, "file": "a.flac", "label": "a", "node": "n", "source": "s"}',),
    ],
)
def test_damaged_lines_are_left_out_and_said(root, line):
    good = (root / EVENTS).read_bytes().splitlines()
    (root / EVENTS).write_bytes(b"\n".join([good[0], line, *good[1:], b""]))
    said: list[str] = []
    assert len(verdicts.load(root, said.append)) == 4
    assert said == [f"{root / EVENTS}, line 2: not an event; left out"]
    verdicts.mark(root, {"E3": "right"})
    assert list(rows(root)) == ["E3"]


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["file", "id", "onset", "peak_score", "clip_onset", "node"]), st.data())
def test_no_line_brings_it_down(tmp_path_factory, junk, key, data):
    root = tmp_path_factory.mktemp("junk")
    event = {"file": "a/b.flac", "id": "E", "label": "a", "peak_score": 0.5, "node": "n", "source": "s"}
    event |= {"onset": "2027-01-15T08:00:00+00:00", "offset": "2027-01-15T08:00:01+00:00"}
    json_value = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(["2027"])
    event[key] = data.draw(json_value)
    (root / EVENTS).write_bytes(junk + b"\n" + json.dumps(event).encode() + b"\n")
    assert verdicts.load(root) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,label\n", "line 1 must name the columns filename,label"),
        (b"", "line 1 must name the columns filename,label"),
        (b'filename,label\n"a,b\n', "not a CSV in UTF-8"),
        (b"filename,label\ncaf\xe9,b\n", "not a CSV in UTF-8"),
        (b"filename,label\na,b,c\n", "line 2: has more values than there are columns"),
    ],
)
def test_a_damaged_table_is_never_written_over(root, content, message):
    (root / REVIEWED).write_bytes(content)
    assert message in refused(lambda: verdicts.mark(root, {"E0": "right"}))
    assert message in refused(lambda: verdicts.load(root))
    assert (root / REVIEWED).read_bytes() == content


def test_what_was_written_by_hand_stays(root):
    """A spreadsheet: byte order mark, an extra column, a changed label, a row of another file."""
    file = file_of(root, "E1").relative_to(root)
    text = f"filename, label,fold,note\n{file},wolf,3,howls\nmine.wav,kettle,,\n"
    (root / REVIEWED).write_text(text, "utf-8-sig")
    assert verdict_by_id(root)["E1"] == ("other", "wolf")
    verdicts.mark(root, {"E0": "wrong"})
    table = rows(root)
    assert (table["E1"]["label"], table["E1"]["fold"], table["E1"]["note"]) == ("wolf", "3", "howls")
    assert (table["mine"]["filename"], table["mine"]["label"]) == ("mine.wav", "kettle")
    assert table["E0"]["label"] == "background"


def test_a_table_saved_by_a_german_spreadsheet(root):
    file = file_of(root, "E1").relative_to(root)
    (root / REVIEWED).write_text(f"filename;label;fold\n{file};wolf, grey;3\n;;\n", "utf-8-sig")
    assert verdict_by_id(root)["E1"] == ("other", "wolf, grey")
    verdicts.mark(root, {"E0": "right"})
    assert list(rows(root)) == ["E1", "E0"]


def test_marks_of_two_at_once_are_all_kept(tmp_path):
    root = saved(tmp_path / "clips", *((f"E{n}", "siren", n * HOUR, 1.0) for n in range(12)))
    code = (
        "import sys; from pathlib import Path; from tagger.clips import verdicts\n"
        "for id in sys.argv[2:]: verdicts.mark(Path(sys.argv[1]), {id: 'right'})"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, root, *(f"E{n}" for n in range(12) if n % 3 == part)])
        for part in range(3)
    ]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert len(rows(root)) == 12


def test_clips_of_one_hour_are_one_recording_and_so_are_those_that_overlap(tmp_path):
    root = saved(tmp_path / "hour", ("A", "a", 10, 2), ("B", "b", 3500, 2), ("C", "c", 3700, 2), ("D", "a", 9000, 2))
    verdicts.mark(root, dict.fromkeys("ABCD", "right"))
    assert {id_: row["source"][-2:] for id_, row in rows(root).items()} == {"A": "08", "B": "08", "C": "09", "D": "10"}
    root = saved(
        tmp_path / "border", ("A", "a", 3590, 8), ("B", "b", 3597, 8), ("C", "c", 3605, 2), ("D", "d", 3700, 1)
    )
    verdicts.mark(root, dict.fromkeys("ABCD", "right"))
    assert {id_: row["source"][-2:] for id_, row in rows(root).items()} == {"A": "08", "B": "08", "C": "08", "D": "09"}


@pytest.mark.parametrize(
    ("said", "label"),
    [({}, ""), ({"B": "right"}, ""), ({"B": "wolf"}, ""), ({"B": "wrong"}, "background")],
)
def test_what_is_wrong_is_background_only_if_nothing_else_was_in_it(tmp_path, said, label):
    root = saved(tmp_path / "clips", ("A", "cat", 0, 3), ("B", "dog", 2.5, 3), ("C", "siren", 60, 3))
    verdicts.mark(root, {"A": "wrong", **said})
    assert rows(root)["A"]["label"] == label
    assert verdict_by_id(root)["A"] == ("wrong", None)
    verdicts.mark(root, {"B": "wrong"})
    assert rows(root)["A"]["label"] == "background", "what is said later counts"
    verdicts.mark(root, {"B": "right"})
    assert rows(root)["A"]["label"] == ""


class Person:
    """Gives the prepared answers, then quits."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked, self.said, self.heard = list(answers), [], [], []

    def answer(self, question: str) -> str:
        self.asked.append(question)
        if not self.answers:
            raise click.Abort
        return self.answers.pop(0)

    def play(self, path: Path) -> None:
        self.heard.append(path.stem.rpartition("_")[2])

    def review(self, root: Path, play: Callable[[Path], None] | None = None) -> Sequence[str]:
        review.ask(root, self.answer, play or self.play, self.said.append)
        return self.said


def test_the_loop(root):
    person = Person("r", "p", "w", "o", "fire alarm", "s")
    said = person.review(root)
    assert {id_: row["verdict"] for id_, row in rows(root).items()} == {"E0": "right", "E1": "wrong", "E2": "other"}
    assert person.heard == ["E0", "E1", "E1", "E2", "E3"]
    assert said[-2] == "3 reviewed, 1 left"
    assert said[-1] == f"to learn from them: {verdicts.train_line(root)}"
    assert said[0].startswith("1 of 4: 2027-01-15")
    for part in ("siren", "score 0.90", "2.0 s", "not reviewed"):
        assert part in said[0]
    assert Person().review(root)[0].startswith("1 of 1: ")


@pytest.mark.parametrize("answers", [("r", "q", "r"), ("r",)])
def test_quitting_keeps_what_was_said(root, answers):
    assert "1 reviewed, 3 left" in Person(*answers).review(root)
    assert list(rows(root)) == ["E0"]


def test_other_answers_are_asked_again(root):
    person = Person("", "x", "RIGHT?", "o", "", "o a/b", "o dog")
    said = person.review(root)
    assert rows(root)["E0"]["label"] == "dog"
    assert any("cannot be a label" in line for line in said)


def test_nothing_left_to_review(root):
    verdicts.mark(root, dict.fromkeys(("E0", "E1", "E2", "E3"), "right"))
    assert Person().review(root)[0] == "nothing to review: each clip was"


def test_a_clip_deleted_while_one_listens(root):
    person = Person("r", "r", "r")
    first = file_of(root, "E0")
    said = person.review(root, lambda path: path.unlink() if path == first else None)
    assert f"{first.relative_to(root)}: was deleted meanwhile; left out" in said
    assert list(rows(root)) == ["E1", "E2", "E3"]


def test_without_a_loudspeaker_one_can_still_answer(root):
    def play(path: Path) -> None:
        raise UserError("no loudspeaker")

    said = Person("r", "w", "p", "s", "s").review(root, play)
    assert len(rows(root)) == 2
    assert sum("not played: no loudspeaker" in line for line in said) == 1
    files = [line.strip() for line in said if line.startswith("  ") and line.endswith(".flac")]
    assert len(files) == 5, "each clip's, and once more where it should be played again"
    assert all(Path(file).is_file() for file in files)


def test_ctrl_c_ends_the_sound_not_the_review(root):
    def play(path: Path) -> None:
        raise KeyboardInterrupt

    Person("r", "r", "r", "r").review(root, play)
    assert len(rows(root)) == 4


def test_the_list(root, capsys):
    verdicts.mark(root, {"E0": "wrong", "E1": "wolf"})
    review.show(root)
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["E2", "E3", "E0", "E1"]
    assert out.splitlines()[3].endswith("other: wolf")
    assert err == "4 clips, 2 of them not reviewed\n"
    review.show(root, as_json=True)
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {
        "id": "E2",
        "file": "siren/20270115T100000Z_mic_E2.flac",
        "label": "siren",
        "peak_score": 0.9,
        "onset": "2027-01-15T10:00:00.000+00:00",
        "duration_s": 2.0,
        "verdict": None,
        "told": None,
    }


def test_marks_of_the_command_line(root, capsys):
    review.mark_all(root, ["E0=right", "E1=fire alarm"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["E0", "E1"]
    assert rows(root)["E1"]["label"] == "fire alarm"
    for text in ("E0", "=right", "E0="):
        assert "must be CLIP=right" in refused(lambda text=text: review.mark_all(root, [text]))


class FakePortAudio(ModuleType):
    class PortAudioError(Exception):
        pass

    def __init__(self, rate_hz: float | None) -> None:
        super().__init__("sounddevice")
        self.rate_hz, self.played, self.calls = rate_hz, SimpleNamespace(samples=None, rate_hz=0), 0

    def query_devices(self, kind: str) -> dict[str, Any]:
        assert kind == "output"
        if self.rate_hz is None:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": self.rate_hz}

    def play(self, samples: Any, rate_hz: int, blocking: bool) -> None:
        assert blocking
        self.played = SimpleNamespace(samples=samples, rate_hz=rate_hz)

    def stop(self) -> None:
        self.calls += 1


def test_the_loudspeaker_has_its_own_rate(root, monkeypatch):
    fake = FakePortAudio(8000.0)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    speaker.play(file_of(root, "E0"))
    assert (fake.played.rate_hz, len(fake.played.samples), fake.calls) == (8000, 3.5 * 8000, 1)
    with pytest.raises(UserError, match="no such file"):
        speaker.play(root / "gone.flac")


def test_no_loudspeaker(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio(None))
    with pytest.raises(UserError, match=r"no loudspeaker that can be used$"):
        speaker.play(file_of(root, "E0"))


@pytest.mark.parametrize(("dog", "labels"), [("right", ()), ("wrong", ("siren",)), ("undo", ("siren",))])
def test_two_labels_of_one_moment_are_one_sound(tmp_path, dog, labels):
    """Two events that begin and end together: the same audio twice."""
    root, folder = tmp_path / "clips", ClipFolder(tmp_path / "clips")
    saver = ClipSaver(folder, Stream("attic", "mic", "fake", ()), RATE, 5.0)
    for hour in range(2):
        heard = np.full(5 * RATE, 0.1 * (hour + 1), np.float32)
        saver.heard(Block(heard, EPOCH + hour * HOUR, gap=True))
        for label in ("siren", "dog"):
            onset = EPOCH + hour * HOUR + 1
            saver.event(Event("end", f"{label}{hour}", label, 0.8, 0.9, onset, onset + 2))
    saver.close()
    folder.close(10)
    assert file_of(root, "siren0").read_bytes() == file_of(root, "dog0").read_bytes()
    verdicts.mark(root, {"siren0": "right", "siren1": "right", "dog0": dog, "dog1": dog})
    if not labels:
        assert "no labelled sounds" in refused(lambda: own.read(root))
        return
    dataset = own.read(root)
    assert dataset.labels == labels
    assert [clip.label for clip in dataset.clips] == [0, 0]


def test_from_the_microphone_to_a_data_set(tmp_path):
    """The loop: sounds are saved, a person says what they are, training reads it."""
    labels = ("siren", "siren", "dog", "dog", "siren", "dog", "cat", "cat")
    root = saved(tmp_path / "clips", *((f"E{n}", label, n * HOUR, 2.0) for n, label in enumerate(labels)))
    Person("r", "r", "r", "r", "w", "o doorbell", "o doorbell").review(root)
    said: list[str] = []
    dataset = own.read(root, said.append)
    assert dataset.labels == ("dog", "doorbell", "siren")
    found = {clip.path.stem[-2:]: None if clip.label is None else dataset.labels[clip.label] for clip in dataset.clips}
    assert found == {
        **{"E0": "siren", "E1": "siren", "E2": "dog", "E3": "dog", "E4": None, "E5": "doorbell", "E6": "doorbell"}
    }
    assert f"{root}: left out 1 of 8 clips: 1 not reviewed" in said
    assert {clip.fold for clip in dataset.clips} <= set(FOLDS)
    assert len({clip.source for clip in dataset.clips}) == 7
    assert all(soundfile.info(clip.path).frames == 3.5 * RATE for clip in dataset.clips)
