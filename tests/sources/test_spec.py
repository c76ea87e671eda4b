"""Sources as the user writes them."""

from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.settings import PcmFormat
from tagger.sources import open_source
from tagger.sources.spec import Spec, repeated_name
from tests.fuzz.sounds import write_tone
from tests.programs import refused, run


@pytest.mark.parametrize(
    ("text", "name", "uri", "options"),
    [
        ("mic", None, "mic", {}),
        ("kitchen=mic:USB,channel=2", "kitchen", "mic:USB", {"channel": "2"}),
        ("mic:HDA Intel: ALC (hw:0,0)", None, "mic:HDA Intel: ALC (hw:0,0)", {}),
        ("mic:hw:CARD=Device,DEV=0,channel=1", None, "mic:hw:CARD=Device,DEV=0", {"channel": "1"}),
        ("a=-,format=S24_3LE,rate=48000,channels=2,channel=1+2", "a", "-",
         {"format": "S24_3LE", "rate": "48000", "channels": "2", "channel": "1+2"}),
        ("door, old.wav", None, "door, old.wav", {}),
    ],
)  # fmt: skip
def test_name_place_and_options(text: str, name: str | None, uri: str, options: dict[str, str]) -> None:
    assert Spec.parse(text) == Spec(name, uri, options)
    assert str(Spec.parse(text)) == text


@pytest.mark.parametrize("name", ["a=b.wav", "x,channel=2", "a=mic,rate=1"])
def test_an_existing_file_is_never_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_tone(tmp_path / "tone.wav").rename(tmp_path / name)
    assert Spec.parse(str(tmp_path / name)).options == {}
    assert Spec.parse(name, tmp_path) == Spec(None, name)
    monkeypatch.chdir(tmp_path)
    assert Spec.parse(f"door={name},channel=1") == Spec("door", name, {"channel": "1"})


def test_options_change_the_defaults() -> None:
    spec = Spec.parse("-,rate=48000,channel=2,channels=2")
    assert spec.pcm(PcmFormat(encoding="u8")) == PcmFormat(48_000, "u8", 2)
    assert spec.channel(()) == (2,)
    assert Spec.parse("-").channel((3,)) == (3,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mic:USB,chanel=2", "a source has no option 'chanel'; did you mean channel"),
        ("mic,channel=left", "channel: must be mix, a number such as 1, or several: 1+3"),
        ("mic,channel=0", "channel: channels are counted from 1"),
        ("-,rate=48k", "rate: must be a whole number"),
        ("-,rate=1", "rate: must be between 1000 and 768000 Hz"),
        ("-,format=mp3", "format: unknown"),
        ("mic,channel=1,channel=2", "has channel twice"),
        ("51.wav,channel=1,9", "51.wav,channel=1,9: write channel=1+9"),
        ("hall=mic:USB,channel=1,2,3", "write channel=1+2+3"),
        ("-,channel=1,2,rate=48000", "write channel=1+2"),
        ("🔔=x.flac", "🔔=x.flac: no such file, and '🔔' is no name: a name has letters, digits, spaces, _ and - only"),
        ("a.b=x.flac", "no such file, and 'a.b' is no name"),
        ("a/b=x.flac", "no such file, and 'a/b' is no name"),
        ("=x.flac", "no such file, and '' is no name"),
        ("hall=", "hall=: names no source; write what is called 'hall' behind it, such as hall=mic"),
        ("hall= ", "hall= : names no source"),
        ("hall=,channel=2", "names no source"),
        (" ", "names no source; write mic or a file"),
        ("a.b=mic", "no such file, and 'a.b' is no name"),
        ("demo,rate=48000", "demo: rate is for raw samples from a pipe, and this has its own"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source(text, 32_000, realtime=False)
    assert words in str(caught.value)
    refused(run("listen", text, "--mqtt", "none"), words)


@pytest.mark.parametrize("others", [["hall=x.aiff"], ["demo", "hall=mic:USB,channel=2"], ["hall=x.flac"]])
def test_a_name_given_twice_is_refused_in_one_line(others: list[str]) -> None:
    result = run("listen", "hall=x.flac", *others, "--mqtt", "none")
    refused(result, "hall is the name of several sources")


def test_one_name_in_two_unicode_forms_is_given_twice() -> None:
    refused(run("listen", "Küche=demo", "Ku\u0308che=demo", "--mqtt", "none"), "is the name of several sources")


def test_names_that_differ_in_case_and_files_of_one_name_are_not_given_twice() -> None:
    given = ["Kitchen=demo", "kitchen=demo", "demo", "demo", "a/clip.wav", "b/clip.wav"]
    assert repeated_name([Spec.parse(each) for each in given]) is None


def test_a_file_says_where_its_sources_are_wrong(tmp_path: Path) -> None:
    config = tmp_path / "tagger.toml"
    config.write_text('[listen]\nchannel = 2\nsources = ["door.wav,channel=x"]\n')
    result = run("config", "check", "--config", config)
    assert result.exit_code == 2
    assert f"{config}, line 3: listen.sources" in result.output
    assert "channel: must be mix" in result.output
    assert 'listen.channel = "2"' in result.output


@pytest.mark.parametrize("value", ["0", '"1+0"', "-1", "true", "1.5", '"left"'])
def test_a_channel_that_cannot_be_is_an_error_of_its_line(tmp_path: Path, value: str) -> None:
    config = tmp_path / "tagger.toml"
    config.write_text(f"[listen]\nchannel = {value}\n")
    refused(run("listen", "--config", config), f"{config}, line 2: listen.channel: ")


def test_one_default_for_all_sources(tmp_path: Path) -> None:
    tone = write_tone(tmp_path / "tone.wav")
    result = run("listen", tone, "--channel", "7", "--no-realtime", "--mqtt", "none")
    refused(result, f"{tone}: has no channel 7: it has")
    result = run("tag", tone, "--channel", "7")
    refused(result, f"{tone}: has no channel 7: it has")
