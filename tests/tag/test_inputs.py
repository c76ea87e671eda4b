"""Files, folders and patterns become recordings."""

from pathlib import Path

import pytest

from tagger.tag.inputs import recordings

FILES = ("b.wav", "a.flac", "notes.txt", ".hidden.wav", "sub/c.ogg", "sub/deep/d.mp3", ".git/e.wav", "__MACOSX/b.wav")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "heard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "heard"


def names(*paths: Path) -> list[str]:
    return [each.name for each in recordings(paths).recordings]


def test_a_folder_stands_for_all_below_that_may_be_audio(folder: Path) -> None:
    found = recordings([folder])
    assert [each.name for each in found.recordings] == ["a.flac", "b.wav", "sub/c.ogg", "sub/deep/d.mp3"]
    assert [each.path for each in found.recordings][-1] == folder / "sub" / "deep" / "d.mp3"
    assert (found.left_out, found.errors, found.are_many) == (1, (), True)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.wav", ["b.wav"]),
        ("*", ["a.flac", "b.wav", "sub/c.ogg", "sub/deep/d.mp3"]),
        ("**/*.[om]*", ["sub/c.ogg", "sub/deep/d.mp3"]),
        ("su?/*.ogg", ["sub/c.ogg"]),
        ("*/deep", ["sub/deep/d.mp3"]),
    ],
)
def test_a_pattern_stands_for_what_matches(pattern: str, expected: list[str], folder: Path) -> None:
    assert names(folder / pattern) == expected


def test_a_pattern_below_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(Path("*.wav")) == ["b.wav"]
    assert names(Path("**/*.ogg")) == ["sub/c.ogg"]
    assert [each.path for each in recordings([Path("**/*.ogg")]).recordings] == [Path("sub/c.ogg")]


def test_a_file_that_is_named_itself_is_taken_whatever_its_name(folder: Path) -> None:
    assert names(folder / "notes.txt", folder / ".hidden.wav", folder / "missing") == [
        "notes.txt",
        ".hidden.wav",
        "missing",
    ]
    odd = folder / "take[1].wav"
    odd.touch()
    assert names(odd) == ["take[1].wav"], "a name that exists is no pattern"
    assert not recordings([odd]).are_many


def test_each_file_comes_once_in_the_order_of_the_arguments(folder: Path) -> None:
    assert names(folder / "sub" / "c.ogg", folder) == ["c.ogg", "a.flac", "b.wav", "sub/deep/d.mp3"]


def test_an_empty_folder_and_a_pattern_without_a_match_are_errors_of_their_own(folder: Path) -> None:
    (folder / "empty").mkdir()
    found = recordings([folder / "empty", folder / "*.aiff", folder / "b.wav"])
    assert [each.name for each in found.recordings] == ["b.wav"]
    assert [str(each) for each in found.errors] == [
        f"{folder / 'empty'}: no audio files in this folder",
        f"{folder / '*.aiff'}: no audio file matches this",
    ]
