"""Raw samples, and when it is said that they are of another format."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tagger.audio.raw import ENCODINGS, FormatDoubt
from tests.fuzz.sounds import write_av
from tests.sources.test_pcm import encode

RATE = 32_000
TIME = np.arange(RATE) / RATE
NOISE = np.random.default_rng(0)
ROOM = np.cumsum(NOISE.normal(0, 1, RATE))
ROOM = 0.02 * (ROOM - np.convolve(ROOM, np.ones(200) / 200, "same"))
SOUNDS = {
    "tone": 0.3 * np.sin(2 * np.pi * 440 * TIME),
    "loud tone": 0.95 * np.sin(2 * np.pi * 6_000 * TIME),
    "quiet noise": NOISE.normal(0, 0.001, RATE),
    "noise": NOISE.normal(0, 0.1, RATE),
    "loud noise": NOISE.uniform(-0.8, 0.8, RATE),
    "room": ROOM,
    "silence": np.zeros(RATE),
}


def said(samples: NDArray[np.float64], true: str, given: str, channels: int = 1) -> list[str]:
    lines: list[str] = []
    doubt, data = FormatDoubt("stdin", given, RATE, channels, lines.append), encode(samples, true)
    for start in range(0, len(data), 10_000):
        doubt.look(data[start : start + 10_000])
    doubt.finish()
    return lines


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_right_format_needs_no_word(sound: str, encoding: str) -> None:
    assert said(SOUNDS[sound], encoding, encoding) == []


@pytest.mark.parametrize(
    ("true", "given"),
    [
        ("f32le", "s16le"),
        ("f32le", "s32le"),
        ("f32le", "u8"),
        ("s16le", "f32le"),
        ("s16le", "f64be"),
        ("s16be", "s16le"),
        ("s24le", "s16le"),
        ("s16le", "s24le"),
        ("s32le", "f32le"),
        ("s16le", "u8"),
        ("u8", "s8"),
        ("u8", "s16le"),
        ("f64le", "s16le"),
    ],
)
def test_another_format_is_said_with_the_likely_one(true: str, given: str) -> None:
    (line,) = said(SOUNDS["room"], true, given)
    assert f"stdin: as {given}, its samples are hardly sound" in line
    assert f"they look like {true}: --format {true}" in line


def test_garbage_of_no_format_is_said_where_half_of_it_is_no_number() -> None:
    lines: list[str] = []
    doubt = FormatDoubt("stdin", "f32le", RATE, 1, lines.append)
    doubt.look((0x7F80_0001 + NOISE.integers(0, 1 << 22, RATE)).astype("<u4").tobytes())  # all of these are NaN
    (line,) = lines
    assert "100 % of them are no numbers or at full scale" in line
    assert "check --format, --rate and --channels" in line


def bytes_said(data: bytes, given: str) -> list[str]:
    lines: list[str] = []
    doubt = FormatDoubt("stdin", given, RATE, 1, lines.append)
    doubt.look(data)
    doubt.finish()
    return lines


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_bytes_are_said_in_every_format(encoding: str) -> None:
    (line,) = bytes_said(np.random.default_rng(1).bytes(2 * RATE * ENCODINGS[encoding].size), encoding)
    assert f"as {encoding}, its samples are hardly sound" in line
    assert "check --format, --rate and --channels" in line
    if encoding[0] != "f":
        assert "white noise at full scale, as of random, compressed or encrypted bytes" in line


@pytest.mark.parametrize("name", ["noise.flac", "noise.mp3", "noise.opus"])
def test_the_middle_of_a_compressed_recording_is_said(name: str, tmp_path: Path) -> None:
    path, noise = tmp_path / name, np.random.default_rng(2).normal(0, 0.05, 8 * 48_000).astype(np.float32)
    if name.endswith("mp3"):
        write_av(path, "libmp3lame", noise, 48_000)
    else:
        soundfile.write(path, noise, 48_000, **({"format": "OGG", "subtype": "OPUS"} if "opus" in name else {}))
    (line,) = bytes_said(path.read_bytes()[9_001:], "s16le")
    assert "white noise at full scale" in line


def test_it_is_said_within_two_seconds_of_sound_and_once() -> None:
    lines: list[str] = []
    doubt, data = FormatDoubt("stdin", "f32le", RATE, 2, lines.append), encode(np.tile(SOUNDS["room"], 8), "s16le")
    for start in range(0, len(data), 3_333):
        doubt.look(data[start : start + 3_333])
        if start > 2 * RATE * 8:
            assert len(lines) == 1
    assert len(lines) == 1


def test_silence_at_the_beginning_says_nothing_yet() -> None:
    data = encode(np.concatenate([np.zeros(5 * RATE), SOUNDS["room"]]), "s16be")
    lines: list[str] = []
    doubt = FormatDoubt("stdin", "s16le", RATE, 1, lines.append)
    for start in range(0, len(data), 4_000):
        doubt.look(data[start : start + 4_000])
    assert len(lines) == 1


def test_24_bits_are_packed_as_ffmpeg_and_alsa_do() -> None:
    assert ENCODINGS["s24le"].floats(b"\x00\x00\x40\xff\xff\xff").tolist() == [0.5, pytest.approx(-(2**-23))]
    assert ENCODINGS["s24be"].floats(b"\x40\x00\x00").tolist() == [0.5]
    assert ENCODINGS["s24_32le"].floats(b"\x00\x00\x40\x00\x00\x00\xc0\xff").tolist() == [0.5, -0.5]
