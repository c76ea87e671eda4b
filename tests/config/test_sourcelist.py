"""Several sources in one text are several sources; and one is one, whatever its name holds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.config.sourcelist import plainly_several, split
from tagger.errors import UserError
from tests.programs import run

DEVICES = ("USB Audio Device: - (hw:1,0)", "HDA Intel PCH: ALC257 Analog (hw:0,0)", "Webcam mic", "pulse")


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("mic", ["mic"]),
        ("mic:USB, demo", ["mic:USB", "demo"]),
        ("mic:USB demo", ["mic:USB", "demo"]),
        ("kitchen=mic:USB garden=mic:HDA", ["kitchen=mic:USB", "garden=mic:HDA"]),
        (f"mic:{DEVICES[1]}, demo", [f"mic:{DEVICES[1]}", "demo"]),
        ("mic:Webcam mic;demo", ["mic:Webcam mic", "demo"]),
        ("1, 2", [f"mic:{DEVICES[0]}", f"mic:{DEVICES[1]}"]),
        ("kitchen=1 hall=demo", [f"kitchen=mic:{DEVICES[0]}", "hall=demo"]),
        ("hall=mic:Nowhere Thing 3, demo", ["hall=mic:Nowhere Thing 3", "demo"]),
        ('mic:"No, such" demo', ["mic:No, such", "demo"]),
        ('["mic:USB", "demo"]', ["mic:USB", "demo"]),
        ("kitchen=1,channel=2, demo,channel=1", [f"kitchen=mic:{DEVICES[0]},channel=2", "demo,channel=1"]),
        ('mic:"No, such",channel=2 demo', ["mic:No, such,channel=2", "demo"]),
        ("1,channel=2, Küche=mic:Nowhere,channel=1", [f"mic:{DEVICES[0]},channel=2", "Küche=mic:Nowhere,channel=1"]),
        ("moc, cim", ["moc", "cim"]),
        ("9", ["9"]),
    ],
)
def test_sources_as_they_are_typed(text, sources):
    assert split(text, DEVICES) == sources


def test_files_may_have_commas_and_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a, b.wav", "c d.wav", "e.wav", "f.wav"):
        Path(name).write_bytes(b"")
    assert split("a, b.wav, c d.wav, e.wav", []) == ["a, b.wav", "c d.wav", "e.wav"]
    assert plainly_several("a, b.wav") == ["a, b.wav"]
    assert plainly_several("e.wav, f.wav") == ["e.wav", "f.wav"]


@pytest.mark.parametrize("text", ["[mic, demo]", "[", "[1]", '[""]'])
def test_what_begins_as_a_list_and_is_none(text):
    with pytest.raises(UserError, match="is no list of sources"):
        split(text, DEVICES)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("mic:USB, demo", 2),
        ("mic, mic:USB", 2),
        ("kitchen=mic:USB garden=mic:HDA", 2),
        ("kitchen=mic garden=demo hall=auto", 3),
        ("mic:USB;mic:HDA", 2),
        ("Küche=mic,channel=2 Flur=mic,channel=1", 2),
        ("mic:USB,channel=2", 1),
        ("mic:HDA Intel PCH: ALC257 Analog (hw:0,0)", 1),
        ("mic:Webcam mic", 1),
        ("mic:USB, second", 1),
        ("none, such.wav", 1),
    ],
)
def test_one_text_that_can_only_be_several(uri, parts):
    assert len(plainly_several(uri)) == parts


@given(st.text("mic:demo=,; \"'[]auto-1(0)x", max_size=40))
def test_any_text_is_some_sources_or_one_error(text):
    try:
        assert all(split(text, DEVICES))
    except UserError:
        assert text.startswith("[")
    assert plainly_several(text)


def problems(*args: object, **env: str) -> str:
    done = run("config", "check", "--offline", "--mqtt", "none", *args, **env)
    assert done.exit_code == 2, done.output
    return done.stderr


def test_sources_written_as_one_text_are_an_error(tmp_path: Path):
    file = tmp_path / "tagger.toml"
    for written, words in (
        ('["mic:USB, demo"]', 'one text names several sources, which are ["mic:USB", "demo"]'),
        ('["kitchen=mic:USB garden=mic:HDA"]', 'which are ["kitchen=mic:USB", "garden=mic:HDA"]'),
        ('"mic, demo"', 'must be a list of texts, not text: write it as ["..."]'),
        ('["rtsp://me:secret@camera, mic"]', 'which are ["rtsp://camera", "mic"]'),
    ):
        file.write_text(f"[listen]\nsources = {written}\n")
        said = problems("--config", file)
        assert said.count("Error: ") == 1
        assert f"{file}, line 2: listen.sources: " in said
        assert words in said
        assert "secret" not in said
    assert "spaces separate them" in problems(TAGGER_LISTEN_SOURCES="mic:USB, demo")
    assert "spaces separate them" in problems("mic:USB,", "demo")
