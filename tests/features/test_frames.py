"""The front ends in numpy, against torch's and against a computation in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.frames import FrontEnd
from tagger.features.logmel import front_end, mel_bank_tensor

CONFIGS = {
    **FRONT_ENDS,
    "limited": replace(MelConfig(), bandwidth_hz=8000.0),
    "odd": replace(MelConfig(), window_samples=801, hop_samples=123),
    "one": replace(MelConfig(), window_samples=1, preemphasis=0.0),
}
RNG = np.random.default_rng(0)
NOISE = (0.3 * RNG.standard_normal((2, 40_000))).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("level", [1.0, 1e-3, 0.0])
def test_features_are_those_of_torch(name, level):
    config = CONFIGS[name]
    for samples in (NOISE.shape[1], 32_000, config.least_samples):
        waveforms = np.float32(level) * NOISE[:, :samples]
        with torch.inference_mode():
            expected = front_end(config)(torch.from_numpy(waveforms)).numpy()
        found = FrontEnd(config)(waveforms)
        assert found.dtype == np.float32
        assert found.shape == (2, 1, config.bands, config.frames(samples))
        assert found == pytest.approx(expected, abs=1e-4)


def test_they_are_no_further_from_float64_than_torchs():
    config = MelConfig()
    waveform = NOISE[0].astype(np.float64)
    padded = np.pad(waveform[1:] - 0.97 * waveform[:-1], 512, mode="reflect")
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799), 112)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::320] * window
    power = np.abs(np.fft.rfft(frames)) ** 2
    exact = ((np.log(power @ mel_bank_tensor(config).numpy().astype(np.float64).T + 1e-5) + 4.5) / 5).T
    with torch.inference_mode():
        torchs = front_end(config)(torch.from_numpy(NOISE[:1])).numpy()[0, 0]
    ours = FrontEnd(config)(NOISE[:1])[0, 0]
    assert np.abs(ours - exact).max() <= max(5e-5, np.abs(torchs - exact).max())


def test_a_waveform_alone_gives_what_it_gives_in_a_batch():
    both = FrontEnd(MelConfig())(NOISE)
    for row, waveform in enumerate(NOISE):
        assert np.array_equal(FrontEnd(MelConfig())(waveform[None])[0], both[row])
