"""`tagger features`: arrays and pictures of what a network is given."""

import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tagger.audio.decode import decode
from tagger.checkpoints import checkpoint
from tagger.checkpoints.store import BUNDLED
from tagger.cli.main import main
from tagger.features.config import FRONT_ENDS, MelConfig, MfccConfig
from tagger.features.logmel import front_end
from tests.programs import write_wav
from train.features import files, pictures

RATE_HZ = 32_000


def run(*args: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["features", *(str(arg) for arg in args)])


def refused(result: click.testing.Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(word in error for word in words), error


def noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate_hz))


def expected(path: Path, config: MelConfig) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """All of the file at once."""
    samples = np.concatenate(list(decode(path, config.sample_rate_hz)))
    return np.asarray(front_end(config)(torch.from_numpy(samples)[None])[0, 0].numpy())


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_wav(tmp_path / "in" / "sound.wav", noise(1))


# --- arrays ---


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("seconds", [1.0, 12.34])
def test_the_array_is_what_a_network_gets(wav: Path, tmp_path: Path, name: str, seconds: float) -> None:
    write_wav(wav, np.stack([noise(seconds, 44_100)] * 2, axis=1), 44_100)
    result = run(wav, "-o", tmp_path / "out", "--front-end", name, "--no-picture")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sound.npy"]
    found = np.load(tmp_path / "out" / "sound.npy")
    whole = expected(wav, FRONT_ENDS[name])
    assert found.dtype == np.float32
    assert found.shape == whole.shape
    assert f"sound.npy  {whole.shape[0]} x {whole.shape[1]}" in result.stdout
    np.testing.assert_allclose(found, whole, atol=1e-4)


@given(
    samples=st.integers(0, 20_000),
    block=st.integers(1, 30_000),
    hop=st.integers(20, 400),
    window=st.sampled_from([64, 100, 256]),
    preemphasis=st.sampled_from([0.0, 0.97]),
)
def test_pieces_are_the_whole(samples: int, block: int, hop: int, window: int, preemphasis: float) -> None:
    config = MelConfig(
        sample_rate_hz=1_000,
        n_fft=256,
        window_samples=window,
        hop_samples=hop,
        n_mels=8,
        f_max_hz=500.0,
        preemphasis=preemphasis,
    )
    signal = noise(samples / RATE_HZ)[:samples].astype(np.float32)
    module = front_end(config)

    def blocks() -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        for start in range(0, len(signal), block):
            yield signal[start : start + block]

    if len(signal) < config.least_samples:
        with pytest.raises(files.TooShortError, match=f"{len(signal)} samples"):
            list(files.pieces(module, blocks()))
        return
    pieces = list(files.pieces(module, blocks()))
    if block < 6_000 < len(signal) < 10_000:
        assert len(pieces) > 1
    whole = module(torch.from_numpy(signal)[None])[0, 0].numpy()
    assert whole.shape[1] == config.frames(len(signal))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_real_recordings(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data" / "streams").glob("*.wav"))
    assert run(*files, "-o", tmp_path / "out", "--no-picture").exit_code == 0
    for file in files:
        found = np.load(tmp_path / "out" / f"{file.stem}.npy", mmap_mode="r")
        np.testing.assert_allclose(found, expected(file, MelConfig()), atol=1e-4)


def test_as_a_model_gets_them(wav: Path, tmp_path: Path) -> None:
    config = checkpoint.load(BUNDLED / "esc50.safetensors").info.mel
    assert config.bandwidth_hz
    assert run(wav, "-o", tmp_path, "--model", "esc50", "--no-picture").exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "sound.npy"), expected(wav, config), atol=1e-4)


def test_a_file_that_was_there_is_replaced(wav: Path, tmp_path: Path) -> None:
    (tmp_path / "sound.npy").write_text("old")
    assert run(wav, "-o", tmp_path, "--no-picture").exit_code == 0
    assert np.load(tmp_path / "sound.npy").shape == (128, 100)


# --- pictures ---


def is_png(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 5_000


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_picture_lies_beside_the_array(wav: Path, tmp_path: Path, name: str) -> None:
    result = run(wav, "-o", tmp_path / "out", "--front-end", name)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sound.npy", "sound.png"]
    assert is_png(tmp_path / "out" / "sound.png")


@pytest.mark.parametrize("config", [MelConfig(), MfccConfig()])
def test_silence_can_be_drawn(config: MelConfig, tmp_path: Path) -> None:
    pictures.write(tmp_path / "silence.png", np.zeros((config.bands, 100), np.float32), config, "silence")
    pictures.write(tmp_path / "one.png", np.zeros((config.bands, 1), np.float32), config, "")
    assert is_png(tmp_path / "silence.png")


def test_axes_are_in_seconds_and_hertz() -> None:
    from matplotlib.figure import Figure

    config = MelConfig()
    axes = Figure().subplots()
    values = np.zeros((128, 500), np.float32)
    hertz = 2_000
    values[round(config.band_at(hertz)), 250] = 1  # at 2.5 s
    image = pictures.draw(axes, values, config)
    left, right, bottom, top = image.get_extent()
    row, column = np.unravel_index(np.argmax(image.get_array()), values.shape)
    assert left + (column + 0.5) / 500 * (right - left) == pytest.approx(2.5)
    drawn = bottom + (row + 0.5) / 128 * (top - bottom)
    labels = {label.get_text(): at for at, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert labels["2,000"] == pytest.approx(drawn, abs=0.5)
    assert {"125", "8,000"} <= set(labels)
    assert (axes.get_xlabel(), "Hz" in axes.get_ylabel()) == ("seconds", True)
    cepstra = Figure().subplots()
    pictures.draw(cepstra, np.zeros((40, 500), np.float32), MfccConfig())
    assert cepstra.get_ylabel() == "coefficient"


@given(st.integers(2_001, 20_000))
def test_a_long_recording_is_averaged(frames: int) -> None:
    from matplotlib.figure import Figure

    values = np.tile(np.linspace(0, 1, frames, dtype=np.float32), (4, 1))
    image = pictures.draw(Figure().subplots(), values, MelConfig(n_mels=4))
    shown = image.get_array()
    assert shown is not None
    assert shown.shape == (4, 2_000)
    np.testing.assert_allclose(shown, np.tile(np.linspace(0, 1, 2_000), (4, 1)), atol=1e-3)
    assert image.get_extent()[1] == pytest.approx((frames - 0.5) * 0.01)


@pytest.mark.parametrize(
    "name", ["$x_{ $.wav", "a\nb.wav", "犬 🐕.wav", "x" * 200 + ".wav", os.fsdecode(b"bad\xff.wav")]
)
def test_any_name_can_be_a_title(wav: Path, tmp_path: Path, name: str) -> None:
    odd = tmp_path / name
    shutil.copy(wav, odd)
    result = run(odd, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert is_png(tmp_path / "out" / f"{odd.stem}.png")


# --- mistakes ---


def test_two_files_of_one_name_do_not_overwrite_each_other(wav: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("sound.wav", "SOUND.flac"):
        other = tmp_path / "other" / name
        shutil.copy(wav, other)
        refused(run(wav, other, "-o", tmp_path / "out"), str(wav), str(other), "a folder of its own")
    assert not (tmp_path / "out").exists()
    assert run(wav, wav, "-o", tmp_path / "out", "--no-picture").exit_code == 0


def test_a_bad_file_leaves_nothing_and_costs_no_other(wav: Path, tmp_path: Path) -> None:
    cut = write_wav(tmp_path / "cut.wav", noise(12))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    result = run(cut, wav, "-o", tmp_path / "out", "--no-picture")
    refused(result, "cut.wav", "truncated")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sound.npy"]
    refused(run(tmp_path / "none.wav", "-o", tmp_path), "none.wav", "no such file")


def test_too_short_for_a_frame(tmp_path: Path) -> None:
    short = write_wav(tmp_path / "short.wav", noise(0.01))
    refused(run(short, "-o", tmp_path / "out"), "short.wav", "320 samples at 32000 Hz; features need 16 ms")
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_are_none(wav: Path, tmp_path: Path) -> None:
    refused(run(wav, "-o", tmp_path, "--front-end", "mfc"), "--front-end mfc is unknown", "did you mean mfcc?")
    refused(run(wav, "-o", tmp_path, "--model", "esc5O"), "no model 'esc5O'")
    refused(run(wav, "-o", tmp_path, "--model", "esc50", "--front-end", "mel"), "--front-end and --model")
    assert run(wav).exit_code == 2
    assert run("-o", tmp_path).exit_code == 2
    refused(run(wav, "-o", wav), str(wav))


def test_help_names_every_front_end() -> None:
    text = run("--help").stdout
    assert all(name in text for name in FRONT_ENDS)


def test_without_matplotlib_arrays_are_still_written(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"] or ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    refused(run(wav, "-o", tmp_path / "out"), "./scripts/setup train", "--no-picture")
    assert not (tmp_path / "out").exists()
    assert run(wav, "-o", tmp_path / "out", "--no-picture").exit_code == 0
    assert (tmp_path / "out" / "sound.npy").is_file()


def test_presets_differ_where_they_should() -> None:
    assert replace(FRONT_ENDS["origin"], window_samples=800) == FRONT_ENDS["efficientat"]
    mel, mfcc = FRONT_ENDS["mel"], FRONT_ENDS["mfcc"]
    assert replace(mfcc, scale=mel.scale) == MfccConfig(**vars(mel))
    assert math.isclose(mel.f_max_hz, mel.sample_rate_hz / 2)
