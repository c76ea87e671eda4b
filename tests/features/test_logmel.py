import json
import math
from dataclasses import asdict, replace
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

from tagger.features.config import CONFIGS, FRONT_ENDS, MelConfig, MfccConfig
from tagger.features.logmel import LogMel, Mfcc, front_end, mel_bank_tensor
from tests.programs import ROOT
from tests.torchaudio_shim import double_precision, torchaudio

RATE = 32_000
REFERENCE = ROOT / "tests" / "data" / "mel_reference.json"
"""Values of the peer's own front end; the field `made` says how they were made."""


def chirps(seconds: float = 2.0) -> np.ndarray:
    """Five rising and falling tones from 50 Hz to 15 kHz, and half a second of silence; the same on any machine."""
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


def all_front_ends(test: Any) -> Any:
    return pytest.mark.parametrize("config", FRONT_ENDS.values(), ids=FRONT_ENDS)(test)


def normalised(log_mel: Tensor, config: MelConfig) -> Tensor:
    return (log_mel + config.shift) / config.scale


def real_batch(shared: Path) -> Tensor:
    """[3, 160000]: a dog between digital silences, a sea, a baby."""
    names = ("1-100032-A-0", "1-17367-A-10", "1-187207-A-20")
    return torch.from_numpy(np.stack([real_clip(shared / "data" / "esc10_44k" / f"{name}.wav") for name in names]))


def with_exact_filters(theirs: Any) -> None:
    """Replaces the filters of torchaudio's MelSpectrogram by ones that are computed in float64."""
    scale = theirs.mel_scale
    with double_precision():
        exact = torchaudio.transforms.MelScale(scale.n_mels, scale.sample_rate, scale.f_min, scale.f_max, len(scale.fb))
    theirs.mel_scale = exact.float()


@pytest.mark.parametrize("n_mels", [64, 128])
def test_mel_agrees_with_torchaudio(shared, n_mels):
    config = replace(FRONT_ENDS["mel"], n_mels=n_mels)
    theirs = torchaudio.transforms.MelSpectrogram(RATE, config.n_fft, hop_length=config.hop_samples, n_mels=n_mels)
    with_exact_filters(theirs)
    for signal in (real_batch(shared), torch.from_numpy(chirps())[None], tone(3000)):
        expected = normalised((theirs(signal) + config.log_offset).log(), config)
        torch.testing.assert_close(front_end(config)(signal)[:, 0], expected, atol=1e-4, rtol=0)


def test_mel_agrees_with_torchaudio_in_other_settings(shared):
    config = replace(FRONT_ENDS["mel"], n_fft=512, window_samples=400, hop_samples=160, f_min_hz=50.0, f_max_hz=9e3)
    config = replace(config, n_mels=40)
    theirs = torchaudio.transforms.MelSpectrogram(
        RATE, config.n_fft, config.window_samples, config.hop_samples, config.f_min_hz, config.f_max_hz, n_mels=40
    )
    with_exact_filters(theirs)
    signal = real_batch(shared)
    expected = normalised((theirs(signal) + config.log_offset).log(), config)
    torch.testing.assert_close(front_end(config)(signal)[:, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_mfcc", [13, 40])
def test_mfcc_agrees_with_torchaudio(shared, n_mfcc):
    mel = {"n_fft": 1024, "hop_length": 320, "n_mels": 128}
    theirs = torchaudio.transforms.MFCC(RATE, n_mfcc, log_mels=True, melkwargs=mel)
    preset = FRONT_ENDS["mfcc"]
    assert isinstance(preset, MfccConfig)
    plain = replace(preset, n_mfcc=n_mfcc, shift=0.0, scale=1.0, lifter=0.0)
    for signal in (real_batch(shared), torch.from_numpy(chirps())[None], tone(3000)):
        expected = theirs(signal)
        torch.testing.assert_close(front_end(plain)(signal)[:, 0], expected, atol=1e-3, rtol=1e-4)
        # Normalisation: the shift moves the 0th coefficient alone, and the lifter multiplies each coefficient.
        expected[:, 0] += preset.shift * math.sqrt(preset.n_mels)
        expected *= (1 + torch.arange(n_mfcc))[:, None] / preset.scale
        found = front_end(replace(preset, n_mfcc=n_mfcc))(signal)[:, 0]
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_all_coefficients_of_mfcc_are_the_log_mels_in_another_basis():
    config = MfccConfig(n_mfcc=128, lifter=0.0)
    signal = torch.from_numpy(chirps())[None]
    log_mels, coefficients = LogMel(config)(signal), Mfcc(config)(signal)
    torch.testing.assert_close(coefficients.square().sum(2), log_mels.square().sum(2), atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(coefficients[:, :, 0], log_mels.sum(2) / math.sqrt(128), atol=1e-4, rtol=1e-5)


@all_front_ends
def test_of_real_sounds_the_input_of_a_network_is_near_zero_and_one(shared, config):
    clips = sorted((shared / "data" / "esc10_44k").glob("*.wav"))
    values = torch.cat([front_end(config)(torch.from_numpy(real_clip(clip))[None]) for clip in clips])
    assert abs(values.mean()) < 1
    assert 0.5 < values.std() < 1.5
    rows = values.std((0, 1, 3))  # one value for each band, or coefficient
    assert 0.25 < rows.min() < rows.max() < 2


@all_front_ends
def test_shape_is_what_the_configuration_says(config):
    for samples in (config.least_samples, 32_000, 32_001, 47_999, 160_000):
        features = front_end(config)(torch.zeros(2, samples))
        assert features.shape == (2, 1, config.bands, config.frames(samples))
        assert features.dtype == torch.float32
    with pytest.raises(RuntimeError):
        front_end(config)(torch.zeros(1, config.least_samples - 1))


@all_front_ends
def test_a_batch_equals_its_parts(config):
    batch = torch.cat([tone(440), tone(3000, 0.01), torch.zeros(1, RATE)])
    features = front_end(config)
    for row, single in zip(features(batch), batch, strict=True):
        torch.testing.assert_close(features(single[None])[0], row, atol=1e-5, rtol=0)


@all_front_ends
def test_bandwidth_holds_in_every_front_end(config):
    limited = front_end(replace(config, bandwidth_hz=7_500.0))
    low, high = tone(1000), tone(12_000)
    both, alone = limited(low + high)[..., 5:-5], limited(low)[..., 5:-5]
    torch.testing.assert_close(both, alone, atol=0.02, rtol=0)
    full = front_end(config)
    assert (full(low + high) - full(low))[..., 5:-5].abs().max() > 0.5


@all_front_ends
def test_a_module_moves_as_a_whole(config):
    module = front_end(config)
    assert module.state_dict() == {}
    assert all(buffer.dtype == torch.float64 for buffer in module.double().buffers())
    assert module(torch.zeros(1, RATE, dtype=torch.float64)).dtype == torch.float64


def test_the_origins_window_tells_moments_better_and_tones_worse():
    own, origin = (front_end(FRONT_ENDS[name]) for name in ("efficientat", "origin"))
    click = torch.zeros(1, RATE)
    click[0, 16_000] = 0.9

    def rows_or_columns(features: Tensor, axis: int) -> int:
        """Values that are within 60 dB of the loudest."""
        most = features[0, 0].amax(axis)
        return int((most > most.max() - 6 * math.log(10) / 5).sum())

    assert rows_or_columns(origin(click), 0) < rows_or_columns(own(click), 0)
    assert rows_or_columns(own(tone(1000))[..., 5:-5], 1) < rows_or_columns(origin(tone(1000))[..., 5:-5], 1)


def test_other_filters_for_one_call():
    config = MelConfig()
    jittered = replace(config, f_min_hz=7.0, f_max_hz=14_200.0)
    signal = torch.from_numpy(chirps())[None]
    module = LogMel(config)
    before = module(signal)
    torch.testing.assert_close(module(signal, mel_bank_tensor(jittered)), LogMel(jittered)(signal), atol=0, rtol=0)
    torch.testing.assert_close(module(signal), before, atol=0, rtol=0)
    assert (module(signal, mel_bank_tensor(jittered)) - before).abs().max() > 0.1
    cepstra = MfccConfig()
    changed = Mfcc(replace(cepstra, f_min_hz=7.0, f_max_hz=14_200.0))(signal)
    torch.testing.assert_close(Mfcc(cepstra)(signal, mel_bank_tensor(jittered)), changed, atol=0, rtol=0)


def test_filters_first_made_in_inference_mode_serve_training_too():
    config = MelConfig(f_max_hz=14_321.0)
    with torch.inference_mode():
        assert not mel_bank_tensor(config).is_inference()
    assert mel_bank_tensor(config) is mel_bank_tensor(MelConfig(f_max_hz=14_321.0))
    signal = tone(440).requires_grad_()
    LogMel(config)(signal).sum().backward()
    assert signal.grad is not None
    assert torch.isfinite(signal.grad).all()


@pytest.mark.parametrize("filters", ["kaldi", "htk"])
@given(st.floats(0, 200), st.floats(4_000, 16_000), st.sampled_from([32, 64]))
def test_a_filter_is_largest_at_its_centre(filters, f_min_hz, f_max_hz, n_mels):
    config = MelConfig(f_min_hz=f_min_hz, f_max_hz=f_max_hz, n_mels=n_mels, n_fft=4096, mel_filters=filters)
    bank = mel_bank_tensor(config)
    assert bank.shape == (n_mels, 2049)
    assert bank.min() >= 0
    assert bank.max() <= 1
    bin_hz = RATE / config.n_fft
    for band, peak in enumerate(bank.argmax(1).tolist()):
        # At most one bin away, since frequencies are known in steps of a bin.
        assert config.band_at((peak - 1) * bin_hz) < band < config.band_at((peak + 1) * bin_hz)


def test_bands_by_frequency():
    config = MelConfig()
    assert config.band_at(config.f_min_hz) == -1
    assert config.band_at(config.f_max_hz) == pytest.approx(config.n_mels)
    hertz = [config.band_at(f) for f in range(0, 15_000, 100)]
    assert hertz == sorted(hertz)


def test_fields_come_back_from_a_document():
    for config in FRONT_ENDS.values():
        again = CONFIGS[config.name](**json.loads(json.dumps(asdict(config))))
        assert again == config
        assert type(again) is type(config)
        assert hash(again) == hash(config)
    mel = {field: value for field, value in asdict(MfccConfig()).items() if field not in ("n_mfcc", "lifter")}
    assert MelConfig(**mel) != MfccConfig(**mel)


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
        ({"n_mels": 3}, "n_mels 3"),
        ({"n_fft": 1023}, "n_fft 1023"),
        ({"mel_filters": "bark"}, "mel_filters 'bark'"),
        ({"periodic_window": 1}, "periodic_window 1"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_mfcc": 0}, "n_mfcc 0"),
        ({"n_mfcc": 129}, "n_mels 128"),
        ({"n_mfcc": 12.5}, "n_mfcc 12.5"),
        ({"lifter": -1.0}, "lifter"),
        ({"lifter": math.nan}, "lifter"),
        ({"hop_samples": 0}, "positive"),
    ],
)
def test_cepstra_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MfccConfig(**wrong)


def test_frequencies_above_the_bandwidth_are_not_computed():
    config = MelConfig(bandwidth_hz=7_500.0)
    bank = mel_bank_tensor(config)
    assert config.heard_bins == 241  # 0 Hz to 7,500 Hz, every 31.25 Hz
    assert not bank[:, config.heard_bins :].any()
    assert bank[:, config.heard_bins - 1].any()
    assert MelConfig().heard_bins == MelConfig(bandwidth_hz=1e6).heard_bins == 513
