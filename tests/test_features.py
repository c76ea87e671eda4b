import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tagger.features import LogMel, MelConfig

RATE = 32_000
REFERENCE = Path(__file__).parent / "data" / "mel_reference.json"
"""Values of the peer's own front end; its `made` says how."""


def chirps(seconds: float = 2.0) -> np.ndarray:
    """Five rising and falling tones between 50 Hz and 15 kHz, and half a second of silence: the same on any machine."""
    time = np.arange(int(seconds * RATE)) / RATE
    total = np.zeros_like(time)
    for start, end, level in (
        (50, 400, 0.3),
        (1000, 200, 0.2),
        (500, 6000, 0.1),
        (15000, 8000, 0.05),
        (3000, 15000, 0.01),
    ):
        total += level * np.sin(2 * np.pi * (start * time + (end - start) / (2 * seconds) * time**2))
    total[RATE // 2 : RATE] = 0
    return total.astype(np.float32)


def real_clip(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="float32")
    return soxr.resample(samples, rate_hz, RATE)


def tone(hertz: float, level: float = 0.5, seconds: float = 1.0) -> Tensor:
    time = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    return (level * torch.sin(2 * math.pi * hertz * time)).float()[None]


def log_mel(samples: np.ndarray | Tensor, **config: Any) -> Tensor:
    return LogMel(MelConfig(**config))(torch.as_tensor(samples).reshape(-1, np.shape(samples)[-1]))


def assert_agrees(ours: Tensor, reference: dict[str, Any]) -> None:
    assert list(ours.shape) == reference["shape"]
    grid = ours[0, 0][reference["bands"]][:, reference["frames"]]
    np.testing.assert_allclose(grid.numpy(), reference["values"], atol=1e-3)


def test_agrees_with_the_peer_on_chirps():
    assert_agrees(log_mel(chirps()), json.loads(REFERENCE.read_text())["chirps"])


@pytest.mark.parametrize("number", range(3))
def test_agrees_with_the_peer_on_real_clips(shared, number):
    reference = json.loads(REFERENCE.read_text())["clips"][number]
    assert_agrees(log_mel(real_clip(shared / "data" / "esc10_44k" / reference["file"])), reference)


def test_a_batch_equals_its_parts():
    batch = torch.cat([tone(440), tone(3000, 0.01), torch.zeros(1, RATE)])
    together = log_mel(batch)
    for row, single in zip(together, batch, strict=True):
        torch.testing.assert_close(log_mel(single)[0], row, atol=1e-5, rtol=0)


def test_bandwidth_takes_away_what_is_above_it_and_nothing_else():
    silence = log_mel(torch.zeros(1, RATE))
    low, high = tone(1000), tone(10_000)
    torch.testing.assert_close(log_mel(high, bandwidth_hz=7_500.0)[..., 5:-5], silence[..., 5:-5], atol=0.01, rtol=0)
    limited, full = log_mel(low, bandwidth_hz=7_500.0), log_mel(low)
    below = full.amax((0, 1, 3)).argmax() + 20  # bands well above the tone, well below the bandwidth
    torch.testing.assert_close(limited[:, :, :below], full[:, :, :below], atol=0, rtol=0)
    both = log_mel(low + high, bandwidth_hz=7_500.0)
    torch.testing.assert_close(both[..., 5:-5], limited[..., 5:-5], atol=0.01, rtol=0)


def test_no_bandwidth_hears_all():
    assert (log_mel(tone(10_000)).amax() - log_mel(torch.zeros(1, RATE)).amax()) > 1


def test_silence_is_one_constant():
    np.testing.assert_allclose(log_mel(torch.zeros(1, RATE)).numpy(), (math.log(1e-5) + 4.5) / 5, rtol=1e-6)


def test_twice_the_level_is_four_times_the_power():
    difference = log_mel(tone(1000, 0.5)) - log_mel(tone(1000, 0.25))
    loudest = log_mel(tone(1000)).mean(3)[0, 0].argmax()
    np.testing.assert_allclose(difference[0, 0, loudest, 5:-5].numpy(), math.log(4) / 5, atol=1e-3)


@pytest.mark.parametrize("hertz", [100, 440, 1000, 4000, 12_000])
def test_a_tone_is_loudest_in_its_own_band(hertz):
    config = MelConfig()

    def mel(frequency: float) -> float:  # Kaldi's scale
        return 1127 * math.log(1 + frequency / 700)

    expected = mel(hertz) / mel(config.f_max_hz) * (config.n_mels + 1) - 1
    assert log_mel(tone(hertz)).mean(3)[0, 0].argmax().item() == pytest.approx(expected, abs=1)


def test_a_click_is_heard_when_it_happens():
    samples = torch.zeros(1, RATE)
    samples[0, 16_000] = 0.9
    assert log_mel(samples)[0, 0].mean(0).argmax().item() == pytest.approx(16_000 / 320, abs=1)


@given(st.integers(514, 5_000), st.sampled_from([80, 320, 333]))
def test_frames_is_the_real_number_of_frames(samples, hop):
    config = MelConfig(n_mels=32, hop_samples=hop)
    assert LogMel(config)(torch.zeros(1, samples)).shape == (1, 1, 32, config.frames(samples))


@pytest.mark.parametrize("seconds", [0.5, 1, 5, 10, 60])
def test_frames_of_real_windows(seconds):
    samples = int(seconds * RATE)
    assert log_mel(torch.zeros(1, samples)).shape[3] == MelConfig().frames(samples) == samples // 320


def test_the_seeds_custom_window_is_a_configuration():
    assert log_mel(tone(440), window_samples=320).shape == (1, 1, 128, 100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window_samples": 1025}, "window_samples 1025"),
        ({"window_samples": 0}, "window_samples 0"),
        ({"hop_samples": 0}, "positive"),
        ({"n_mels": 0}, "positive"),
        ({"f_max_hz": 16_001.0}, "f_max_hz"),
        ({"f_min_hz": -1.0}, "f_min_hz"),
        ({"f_min_hz": 15_000.0}, "f_min_hz"),
        ({"f_max_hz": math.nan}, "f_max_hz"),
        ({"sample_rate_hz": 0}, "f_max_hz"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz"),
        ({"f_min_hz": 100.0, "bandwidth_hz": 100.0}, "bandwidth_hz"),
        ({"scale": 0.0}, "scale"),
        ({"log_offset": 0.0}, "log_offset"),
        ({"log_offset": -1.0}, "log_offset"),
        ({"shift": math.nan}, "shift"),
        ({"preemphasis": math.inf}, "preemphasis"),
        ({"bandwidth_hz": math.nan}, "bandwidth_hz"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**wrong)
