"""The numpy filters beside torchaudio's.

torchaudio computes in double precision. In single precision its own rounding of the mel scale moves a weight by up to
2e-5, depending on the machine's logarithm.
"""

import math
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tagger.features import logmel
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.filters import dct, mel_bank
from tests.programs import ROOT
from tests.torchaudio_shim import double_precision, torchaudio

CONFIGS = {
    **FRONT_ENDS,
    "64 bands": MelConfig(n_mels=64),
    "from 50 Hz": MelConfig(f_min_hz=50.0, n_fft=2048),
    "16 kHz": MelConfig(sample_rate_hz=16_000, n_fft=512, window_samples=400, f_max_hz=8_000.0, n_mels=40),
    "44.1 kHz": MelConfig(sample_rate_hz=44_100, n_fft=4096, f_max_hz=22_050.0),
    "8 kHz wide": MelConfig(bandwidth_hz=8_000.0),
}
KINDS = ("kaldi", "htk")


def torchaudios_bank(config: MelConfig, is_double: bool = True) -> np.ndarray:
    """torchaudio's filters. Output: [n_mels, n_fft / 2 + 1], float64 or float32."""
    bins = config.n_fft // 2 + 1
    with double_precision() if is_double else nullcontext():
        if config.mel_filters == "kaldi":
            bank, _ = torchaudio.compliance.kaldi.get_mel_banks(
                config.n_mels,
                config.n_fft,
                float(config.sample_rate_hz),
                config.f_min_hz,
                config.f_max_hz,
                vtln_low=100.0,
                vtln_high=-500.0,
                vtln_warp_factor=1.0,
            )
            bank = torch.nn.functional.pad(bank, (0, 1))  # Kaldi leaves the Nyquist bin out
        else:
            bank = torchaudio.functional.melscale_fbanks(
                bins, config.f_min_hz, config.f_max_hz, config.n_mels, config.sample_rate_hz
            ).T
    if config.bandwidth_hz is not None:
        bank = bank * (torch.arange(bins) * config.sample_rate_hz / config.n_fft <= config.bandwidth_hz)
    return bank.numpy()


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")  # torchaudio warns where bands outnumber frequencies
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_mel_bank_equals_torchaudios(config, kind):
    config = replace(config, mel_filters=kind)
    ours = mel_bank(config)
    assert ours.dtype == np.float32
    assert ours.any()
    np.testing.assert_allclose(ours, torchaudios_bank(config), atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", [each for each in CONFIGS.values() if each.mel_filters == "kaldi"])
def test_the_mel_bank_that_networks_are_given_is_torchaudios_bit_for_bit(config):
    np.testing.assert_array_equal(logmel.mel_bank_tensor(config).numpy(), torchaudios_bank(config, is_double=False))


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("kind", KINDS)
@given(
    st.sampled_from([8_000, 16_000, 22_050, 32_000, 48_000]),
    st.sampled_from([400, 512, 1024, 2048]),
    st.integers(4, 128),
    st.floats(0, 300),
    st.floats(1_000, 4_000),
)
def test_any_mel_bank_equals_torchaudios(kind, rate_hz, n_fft, n_mels, f_min_hz, f_max_hz):
    config = MelConfig(
        sample_rate_hz=rate_hz,
        n_fft=n_fft,
        window_samples=n_fft,
        n_mels=n_mels,
        f_min_hz=f_min_hz,
        f_max_hz=f_max_hz,
        mel_filters=kind,
    )
    np.testing.assert_allclose(mel_bank(config), torchaudios_bank(config), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("coefficients", "points"), [(1, 4), (13, 64), (40, 128), (128, 128)])
def test_the_dct_equals_torchaudios(coefficients, points):
    with double_precision():
        expected = torchaudio.functional.create_dct(coefficients, points, "ortho").T.numpy()
    ours = dct(coefficients, points)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-6, rtol=0)


def test_the_dct_is_orthonormal():
    whole = dct(128, 128)
    np.testing.assert_allclose(whole @ whole.T, np.eye(128), atol=1e-5)


def test_a_triangle_is_one_at_its_centre():
    config = MelConfig(n_fft=1 << 16, window_samples=1 << 16, f_max_hz=16_000.0)
    np.testing.assert_allclose(mel_bank(config).max(1), 1, atol=0.02)


def test_of_a_constant_the_dct_keeps_the_level_alone():
    np.testing.assert_allclose(dct(4, 64) @ np.ones(64), [math.sqrt(64), 0, 0, 0], atol=1e-5)


def test_features_are_described_without_torch():
    code = "import sys, tagger.features.filters; print({'torch', 'torchaudio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
