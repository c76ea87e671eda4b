"""Which channels are heard, and when it is said that little is left of their mean."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tagger.audio.decode import decode_blocks
from tagger.audio.downmix import Downmix
from tagger.errors import AudioError
from tagger.events import Block

RATE = 16_000
Frames = NDArray[np.float32]


def noise(seconds: float, channels: int, seed: int = 0) -> Frames:
    """Channels that have nothing to do with each other."""
    frames: Frames = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * RATE), channels)).astype(np.float32)
    return frames


def said(frames: Frames, channel: tuple[int, ...] = (), size: int = 1_000) -> list[str]:
    """What is said of a recording that comes in blocks of that many frames."""
    lines: list[str] = []
    downmix = Downmix("x", channel, lines.append)
    for start in range(0, len(frames), size):
        downmix.mean(downmix.chosen(frames[start : start + size]), RATE)
    downmix.finish()
    return lines


def inverted(gain: float) -> Callable[[Frames], Frames]:
    return lambda mono: np.concatenate([mono, -gain * mono], axis=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (inverted(1.0), "its 2 channels cancel, so their mean is more than 60 dB below channel 1: one is inverted"),
        (inverted(0.7), "16 dB below channel 1"),
        (inverted(1.2), "22 dB below channel 2"),
        (lambda mono: np.concatenate([inverted(1)(mono), 0.02 * noise(6, 1, 1)], axis=1), "its 3 channels cancel"),
        (lambda mono: inverted(1.0)(mono) + 0.5, "more than 60 dB below"),  # a constant offset is no sound
    ],
)
@pytest.mark.parametrize("seconds", [0.3, 6.0])
def test_a_mean_far_below_its_channels_is_said_once(
    make: Callable[[Frames], Frames], words: str, seconds: float
) -> None:
    (line,) = said(make(noise(6, 1))[: round(seconds * RATE)].astype(np.float32))
    assert words in line
    assert "--channel " in line


@pytest.mark.parametrize(
    "make",
    [
        lambda mono: np.concatenate([mono, mono], axis=1),
        lambda mono: np.concatenate([mono, np.zeros_like(mono)], axis=1),  # panned to one side
        lambda mono: np.concatenate([mono, np.zeros((len(mono), 7))], axis=1),  # surround sound with one voice
        lambda mono: noise(6, 2),
        lambda mono: noise(6, 6),
        inverted(0.3),
        lambda mono: 1e-4 * inverted(1)(mono),  # nothing to be heard anyhow
        lambda mono: mono,
    ],
)
def test_usual_channels_need_no_word(make: Callable[[Frames], Frames]) -> None:
    assert said(make(noise(6, 1)).astype(np.float32)) == []


@pytest.mark.parametrize("size", [1, 333, 100_000])
def test_it_is_said_within_three_seconds_of_sound_however_it_is_cut(size: int) -> None:
    lines: list[str] = []
    downmix, frames = Downmix("x", (), lines.append), inverted(1.0)(noise(3, 1))
    for start in range(0, len(frames), size):
        downmix.mean(frames[start : start + size], RATE)
    assert len(lines) == 1


def test_only_the_first_minute_of_sound_is_compared() -> None:
    assert said(np.concatenate([noise(70, 2), inverted(1.0)(noise(10, 1))])) == []
    assert len(said(np.concatenate([0 * noise(70, 2), inverted(1.0)(noise(10, 1))]))) == 1  # silence does not count


def test_chosen_channels_can_cancel_too() -> None:
    frames = np.concatenate([noise(6, 1), inverted(1.0)(noise(6, 1, 1))], axis=1)
    assert said(frames, (1, 2)) == []
    (line,) = said(frames, (2, 3))
    assert "below channel 2" in line or "below channel 3" in line


@pytest.fixture
def opposite(tmp_path: Path) -> Path:
    """0.25 and -0.25 on two channels: nothing on average."""
    path = tmp_path / "opposite.flac"
    soundfile.write(path, inverted(1.0)(noise(3, 1)), RATE)
    return path


def test_a_file_is_heard_by_the_same_rule(opposite: Path) -> None:
    lines: list[str] = []
    mixed = np.concatenate([block.samples for block in decode_blocks(opposite, RATE, lines.append)])
    assert not mixed.any()
    (line,) = lines
    assert line.startswith(f"{opposite}: its 2 channels cancel")
    second = np.concatenate([block.samples for block in decode_blocks(opposite, RATE, lines.append, (2,))])
    np.testing.assert_allclose(second, -noise(3, 1)[:, 0], atol=1e-4)
    assert len(lines) == 1


def test_a_channel_that_a_file_does_not_have(opposite: Path) -> None:
    with pytest.raises(AudioError, match="has no channel 3: it has 2 channels; choose 1 to 2, or mix"):
        list(decode_blocks(opposite, RATE, channel=(3,)))


def test_a_channel_that_ends_midway_is_an_error_after_all_before_it(tmp_path: Path) -> None:
    path = tmp_path / "joined.flac"
    parts = []
    for channels in (3, 2):
        soundfile.write(path, noise(1, channels), RATE)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    heard: list[Block] = []
    with pytest.raises(AudioError, match="has no channel 3: it has 2 channels"):
        heard.extend(decode_blocks(path, RATE, lambda line: None, (3,)))
    assert sum(len(block.samples) for block in heard) == RATE
    assert sum(len(block.samples) for block in decode_blocks(path, RATE, lambda line: None, (2,))) == 2 * RATE
