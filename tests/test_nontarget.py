"""`scripts/nontarget.py`: which sounds it takes, MIDI by other instruments, the manifest. Nothing is downloaded."""

import csv
import importlib
import shutil
import wave
from array import array
from pathlib import Path
from types import ModuleType

import pytest

from tests.programs import ROOT

LOUD = array("h", ([1000] * 8 + [-1000] * 8) * 4_000).tobytes()
"""Four seconds."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("nontarget")


@pytest.fixture
def midi(script: ModuleType) -> ModuleType:
    return importlib.import_module("nontarget_midi")


def track(*events: bytes) -> bytes:
    body = b"".join(events) + b"\x00\xff\x2f\x00"
    return b"MTrk" + len(body).to_bytes(4, "big") + body


def piece() -> bytes:
    """96 ticks a quarter: one second at 60 beats a minute, then half a second at 120."""
    slow, fast = b"\x00\xff\x51\x03\x0f\x42\x40", b"\x60\xff\x51\x03\x07\xa1\x20"
    tune = track(
        b"\x00\xc0\x00",  # a piano
        b"\x00\xb0\x00\x01",  # a bank
        b"\x00\x90\x3c\x40",
        b"\x60\x3c\x00",  # running status: ends the note
        b"\x00\xf0\x02\x01\xf7",  # a message of one maker
    )
    drums = track(b"\x00\x99\x26\x40", b"\x30\x99\x27\x40", b"\x81\x10\x99\x26\x00")
    return b"MThd\x00\x00\x00\x06\x00\x01\x00\x03\x00\x60" + track(slow, fast) + tune + drums


def messages(read: object) -> list[bytes]:
    return [event.data for part in read.tracks for event in part]  # type: ignore[attr-defined]


def test_a_piece_lasts_as_long_as_its_tempos_say(midi: ModuleType) -> None:
    assert midi.read(piece()).seconds == pytest.approx(1 + (0x30 + 0x90 - 0x60) / 96 / 2)


def test_brass_plays_the_tune_without_drums_and_banks(midi: ModuleType) -> None:
    found = messages(midi.read(midi.read(piece()).played_by("brass", 2)))
    programs = [data[1] for data in found if data[0] & 0xF0 == 0xC0]
    assert len(programs) == 15
    assert set(programs) == set(midi.PROGRAMS["brass"])
    assert [data for data in found if data[0] < 0xF0 and data[0] & 0xF0 != 0xC0] == [b"\x90\x3c\x40", b"\x90\x3c\x00"]
    assert not [data for data in found if data[0] == 0xF0]


def test_percussion_is_the_drums_alone_and_nobody_claps(midi: ModuleType) -> None:
    played = midi.read(midi.read(piece()).played_by("percussion", 0))
    assert [data for data in messages(played) if data[0] < 0xF0] == [b"\x99\x26\x40", b"\x99\x26\x00"]
    assert played.seconds == midi.read(piece()).seconds  # the pause of what is left out stays


def test_drones_are_slower(midi: ModuleType) -> None:
    assert midi.read(midi.read(piece()).played_by("drones", 0)).seconds == 4 * midi.read(piece()).seconds


def test_a_damaged_piece_is_a_value_error(midi: ModuleType) -> None:
    whole = piece()
    for end in range(len(whole)):
        with pytest.raises(ValueError):  # noqa: PT011
            midi.read(whole[:end]).played_by("brass", 0)


def test_no_package_is_in_both_sets(script: ModuleType) -> None:
    packages = {set_: set(script.read_choices(set_)) | set(script.FONTS[set_]) for set_ in ("test", "train")}
    assert not packages["test"] & packages["train"]


def test_every_line_is_of_a_kind_that_can_be_made(script: ModuleType, midi: ModuleType) -> None:
    kinds = {choice.kind for choices in script.read_choices("all").values() for choice in choices}
    assert kinds == {"music", *script.JOINED_S, *midi.PROGRAMS}


@pytest.mark.parametrize(
    "name",
    ["dog2", "BarkGrowl", "chicken_die1", "Rain", "water0", "FootStepGrass1", "door_close", "fire", "clock", "car_rev"],
)
def test_a_sound_that_is_a_label_is_left_out(script: ModuleType, name: str) -> None:
    assert script.IS_LABEL.search(name)


@pytest.mark.parametrize(
    "name", ["wolf_00", "explosion1", "scissors", "anvil2", "goldspin_00", "scatter", "hit_05", "laser", "whistle"]
)
def test_a_sound_that_is_only_like_a_label_stays(script: ModuleType, name: str) -> None:
    assert not script.IS_LABEL.search(name)


@pytest.fixture
def without_network(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packages that were downloaded. Each has one audio file."""
    downloaded = []

    def unpack(package: str, root: Path) -> str:
        if package == "gone":
            raise script.AbsentError(package)
        downloaded.append(package)
        inside = root / package / "usr/share/games"
        inside.mkdir(parents=True)
        (inside / f"{package}.ogg").write_bytes(bytes(300_000))
        return "1.0"

    def encode(sound: bytes, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound)

    def mixed(kind: str, paths: list[Path], number: int) -> bytes:
        assert all(path.is_file() for path in paths)
        return LOUD

    for name, stand_in in {"unpack": unpack, "encode": encode, "mixed": mixed}.items():
        monkeypatch.setattr(script, name, stand_in)
    monkeypatch.setattr(script, "decode", lambda path, most_s: LOUD)
    monkeypatch.setattr(script, "decoded", lambda paths, most_s: [LOUD for _ in paths])
    monkeypatch.setattr(script.shutil, "which", lambda program: program)
    kinds = {"talk": "speech", "song": "music", "game": "effects", "gone": "music"}
    choices = {name: [script.Choice("test", kind, name, 60.0, "", "", "CC0-1.0")] for name, kind in kinds.items()}
    choices["talk"] = [script.Choice("test", "places", "talk", 60.0, "", "", "CC0-1.0"), *choices["talk"]]
    monkeypatch.setattr(script, "read_choices", lambda wanted: dict(choices))
    monkeypatch.setattr(script, "MIXES", {"test": {"radio": 600}, "train": {}})
    return downloaded


def test_the_manifest_says_what_each_file_was_made_of(
    script: ModuleType, without_network: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="left out: gone"):
        script.gather_all(tmp_path, "test")
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["kind"], row["package"], row["seconds"]) for row in rows} == {
        ("speech", "talk", "4.5"),
        ("places", "talk", "4.5"),
        ("music", "song", "4.0"),
        ("effects", "game", "4.5"),
        ("radio", "song + talk", "4.0"),
    }
    assert all((tmp_path / row["path"]).is_file() and row["licence"] == "CC0-1.0" for row in rows)


def test_the_same_command_goes_on_where_it_was_interrupted(
    script: ModuleType, without_network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test/music").mkdir(parents=True)
    (tmp_path / "test/music/song__song.ogg").write_bytes(LOUD)
    line = "test/music/song__song.ogg,test,music,song,1.0,4.0,CC0-1.0"
    (tmp_path / "manifest.csv").write_text(f"{script.COLUMNS}\n{line}\n")
    with pytest.raises(RuntimeError, match="left out: gone"):
        script.gather_all(tmp_path, "test")
    assert without_network == ["talk", "game"]
    printed = capsys.readouterr().out
    assert "1/4 talk: 0.1 min of sound; about 0 min left" in printed
    assert "4/4 test/radio" in printed
    with pytest.raises(RuntimeError, match="left out: gone"):
        script.gather_all(tmp_path, "test")
    assert without_network == ["talk", "game"]


def test_without_any_of_the_packages_it_says_what_to_do(
    script: ModuleType, without_network: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = {"gone": script.read_choices("test")["gone"]}
    monkeypatch.setattr(script, "read_choices", lambda wanted: gone)
    monkeypatch.setattr(script, "MIXES", {"test": {}})
    with pytest.raises(script.UserError, match="sudo apt-get update"):
        script.gather_all(tmp_path, "test")


def test_a_foreign_manifest_is_refused(script: ModuleType, without_network: list[str], tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label\n")
    with pytest.raises(script.UserError, match="none of this script's"):
        script.gather_all(tmp_path, "test")


def test_without_fluidsynth_it_says_how_to_get_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda program: None if program == "fluidsynth" else program)
    with pytest.raises(script.UserError, match="apt-get install fluidsynth"):
        script.gather_all(tmp_path, "test")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg")
def test_a_file_that_cannot_be_read_costs_no_other_one(script: ModuleType, tmp_path: Path) -> None:
    sound = importlib.import_module("nontarget_sound")
    for name, seconds in {"one": 0.5, "two": 1.0}.items():
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, sound.RATE_HZ, 0, "NONE", ""))
            file.writeframes(LOUD[: round(2 * seconds * sound.RATE_HZ)])
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    paths = [tmp_path / f"{name}.wav" for name in ("one", "damaged", "two")]
    assert [sound.seconds(each) for each in sound.decoded(paths, 0.75)] == [0.5, 0.0, 0.75]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg")
@pytest.mark.parametrize("kind", ["radio", "crowd"])
def test_a_mixture_is_as_long_as_it_should_be_however_short_its_parts(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    sound = importlib.import_module("nontarget_sound")
    monkeypatch.setattr(sound, "MIX_S", 3)
    for name in ("music", "speech"):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, sound.RATE_HZ, 0, "NONE", ""))
            file.writeframes(LOUD[: 2 * sound.RATE_HZ])
    mixed = sound.mixed(kind, [tmp_path / "music.wav", tmp_path / "speech.wav"], 0)
    assert sound.seconds(mixed) == pytest.approx(3, abs=0.5)
    assert sound.is_audible(mixed[-2 * sound.RATE_HZ :])
