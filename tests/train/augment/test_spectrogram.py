from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.features.logmel import front_end, mel_bank_tensor
from train.augment.spectrogram import Mix, equalised, jittered_bank, masked, warped
from train.recipe import RECIPES, Recipe

seeds = st.integers(0, 2**32 - 1)
STILL = Recipe(jitter_low_hz=0, jitter_high_hz=0, bandwidth=0)
MELS = {"narrow": MelConfig(bandwidth_hz=7_500.0), **FRONT_ENDS}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spectrograms(size: int = 6, bands: int = 20, frames: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, 1, bands, frames, generator=torch.Generator().manual_seed(seed))


# Mixing


@given(seeds, st.integers(1, 12), st.floats(0.05, 5))
def test_each_is_mixed_with_one_other_and_keeps_at_least_half_of_itself(seed, size, alpha):
    mix = Mix.draw(size, alpha, generator(seed))
    assert mix is not None
    assert sorted(mix.order.tolist()) == list(range(size))
    assert mix.share.dtype == torch.float32
    assert ((mix.share >= 0.5) & (mix.share <= 1)).all()


@given(seeds, st.integers(1, 12))
def test_a_mixture_lies_between_the_two(seed, size):
    mix, batch = Mix.draw(size, 0.4, generator(seed)), spectrograms(size)
    assert mix is not None
    mixture, other = mix(batch), batch[mix.order]
    assert mixture.shape == batch.shape
    assert (mixture >= torch.minimum(batch, other) - 1e-5).all()
    assert (mixture <= torch.maximum(batch, other) + 1e-5).all()


@given(seeds)
def test_targets_are_mixed_as_the_spectrograms_are(seed):
    mix = Mix.draw(8, 0.4, generator(seed))
    assert mix is not None
    targets = torch.eye(8)
    torch.testing.assert_close(mix(targets).sum(1), torch.ones(8))
    values = torch.arange(8.0)
    batch = values.view(8, 1, 1, 1).expand(8, 1, 3, 4)
    torch.testing.assert_close(mix(batch)[:, 0, 2, 3], mix(targets) @ values)


def test_alpha_of_zero_mixes_nothing():
    assert Mix.draw(8, 0.0, generator()) is None


def test_mixing_leaves_the_batch_as_it_is():
    batch = spectrograms()
    before = batch.clone()
    mix = Mix.draw(6, 0.4, generator())
    assert mix is not None
    mix(batch)
    assert torch.equal(batch, before)


# Warping


def line(bands: int, frames: int, band: int | None = None, frame: int | None = None) -> torch.Tensor:
    """One bright band, or one bright frame, 200 times."""
    batch = torch.zeros(200, 1, bands, frames)
    batch[:, :, band if band is not None else slice(None), frame if frame is not None else slice(None)] = 1
    return batch


def test_bands_move_and_time_does_not():
    result = warped(line(101, 30, band=50), Recipe(warp_bands=0.2), generator())[:, 0]
    torch.testing.assert_close(result, result[..., :1].expand_as(result))
    found = result[..., 0].argmax(1)
    assert found.min() >= 50 - 11 - 1  # a fifth of half of 101 bands, and the same again of what is pressed together
    assert found.max() <= 50 + 11 + 1
    assert len(set(found.tolist())) > 10
    assert found.float().mean() == pytest.approx(50, abs=2)


def test_what_is_slowed_down_or_quickened_changes_in_length_and_not_in_bands():
    batch = torch.zeros(200, 1, 20, 400)
    batch[..., 150:250] = 1
    result = warped(batch, Recipe(warp_frames=0.25), generator())[:, 0]
    torch.testing.assert_close(result, result[:, :1].expand_as(result))
    lengths = (result[:, 0] > 0.5).sum(1)
    assert 78 <= lengths.min() < 85
    assert 118 < lengths.max() <= 127


def test_nothing_new_comes_in_from_beyond_the_edges():
    batch = torch.arange(40.0).view(1, 1, 1, 40).expand(100, 1, 8, 40)
    result = warped(batch, Recipe(warp_frames=0.5, warp_bands=0.5), generator())
    assert result.min() >= 0
    assert result.max() <= 39


@given(seeds, st.floats(0, 2), st.floats(0, 1), st.floats(0, 60))
def test_whatever_a_recipe_may_say_leaves_spectrograms(seed, frames, bands, gain_db):
    recipe = Recipe(warp_frames=frames, warp_bands=bands, equalise_db=gain_db)
    batch = spectrograms(3)
    result = equalised(warped(batch, recipe, generator(seed)), MelConfig(n_mels=20), recipe, generator(seed))
    assert result.shape == batch.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()


# Another microphone


def test_an_equaliser_changes_bands_smoothly_and_not_over_time():
    mel, batch = MelConfig(), torch.zeros(300, 1, 128, 4)
    gain_db = equalised(batch, mel, Recipe(equalise_db=6.0), generator())[:, 0] * mel.scale * 10 / np.log(10)
    torch.testing.assert_close(gain_db, gain_db[..., :1].expand_as(gain_db))
    assert gain_db.diff(dim=1).abs().max() < 12 / 31 + 0.01  # five knots, 31.75 bands from one to the next
    assert 6 < (gain_db.amax(1) - gain_db.amin(1)).max() < 12.01
    assert gain_db.mean((1, 2)).abs().max() < 2.5  # about as loud as before


def test_cepstra_are_not_equalised():
    batch = spectrograms(bands=40)
    assert equalised(batch, FRONT_ENDS["mfcc"], Recipe(equalise_db=6.0), generator()) is batch


def test_without_warping_and_equaliser_nothing_changes():
    batch = spectrograms()
    assert warped(batch, Recipe(), generator()) is batch
    assert equalised(batch, MelConfig(), Recipe(), generator()) is batch


# Masks


def hidden(batch: torch.Tensor, recipe: Recipe, seed: int) -> torch.Tensor:
    """Cells that the mask changed: [B, bands, frames]."""
    return (masked(batch, recipe, generator(seed)) != batch)[:, 0]


@given(seeds, st.integers(0, 30), st.integers(0, 40))
def test_a_mask_is_one_band_and_one_stretch_of_time_at_most_as_wide_as_allowed(seed, bands, frames):
    recipe = Recipe(mask_bands=bands, mask_frames=frames)
    for each in hidden(spectrograms(), recipe, seed):
        rows, columns = each.all(1), each.all(0)
        assert torch.equal(each, rows[:, None] | columns[None])
        if not each.all():
            for line, widest in ((rows, bands), (columns, frames)):
                found = torch.where(line)[0]
                assert len(found) <= widest
                assert not len(found) or found[-1] - found[0] + 1 == len(found)


@given(seeds)
def test_what_is_hidden_is_the_spectrograms_own_mean(seed):
    batch = spectrograms()
    result = masked(batch, Recipe(mask_bands=8, mask_frames=10), generator(seed))
    where = result != batch
    expected = batch.mean((2, 3), keepdim=True).expand_as(batch)
    assert torch.equal(result[where], expected[where])


def test_masks_differ_from_spectrogram_to_spectrogram_and_come_everywhere():
    batch = spectrograms(400)
    masks = hidden(batch, Recipe(mask_bands=8, mask_frames=10), 0)
    assert len({mask.numpy().tobytes() for mask in masks}) > 300
    assert masks.any(0).all()


def test_without_masks_nothing_changes():
    batch = spectrograms()
    assert masked(batch, Recipe(mask_bands=0, mask_frames=0), generator()) is batch


def test_masking_leaves_the_batch_as_it_is():
    batch = spectrograms()
    before = batch.clone()
    masked(batch, Recipe(mask_bands=20, mask_frames=30), generator())
    assert torch.equal(batch, before)


# Mel banks


@pytest.mark.parametrize("mel", MELS.values(), ids=MELS)
def test_where_nothing_is_drawn_the_networks_own_bank_is_used(mel):
    assert jittered_bank(mel, STILL, generator()) is None


@settings(max_examples=12)
@given(st.sampled_from(sorted(MELS)), seeds, st.floats(0, 100), st.floats(0, 3_000), st.floats(0, 1))
def test_whatever_a_recipe_may_say_gives_a_bank(name, seed, low, high, bandwidth):
    """No band is empty, but for those above the bandwidth."""
    assume(low or high)
    mel = MELS[name]
    recipe = replace(STILL, jitter_low_hz=low, jitter_high_hz=high, bandwidth=bandwidth)
    bank = jittered_bank(mel, recipe, generator(seed))
    assert bank is not None
    assert bank.shape == mel_bank_tensor(mel).shape
    assert (bank >= 0).all()
    assert bank.any()
    whole = jittered_bank(mel, replace(recipe, bandwidth=0.0), generator(seed))  # the bandwidth is drawn last
    assert whole is not None
    if mel.mel_filters == "htk":
        assert whole.any(1).all()


@settings(max_examples=12)
@given(seeds)
def test_the_mel_front_end_is_not_asked_for_more_than_there_is(seed):
    """Its bands end at half the sample rate: the last cannot end higher."""
    mel = FRONT_ENDS["mel"]
    assert mel.f_max_hz == mel.sample_rate_hz / 2
    bank = jittered_bank(mel, replace(STILL, jitter_high_hz=3_000.0), generator(seed))
    assert bank is not None
    assert bank.isfinite().all()


@settings(max_examples=12)
@given(seeds, st.sampled_from([None, 3_200.0, 7_500.0, 7_700.0, 20_000.0]))
def test_less_is_heard_and_never_more_than_ever_after(seed, bandwidth_hz):
    mel = MelConfig(bandwidth_hz=bandwidth_hz)
    bank = jittered_bank(mel, replace(STILL, bandwidth=1.0), generator(seed))
    assert bank is not None
    own = mel_bank_tensor(mel)
    is_heard = bank.any(0)
    assert torch.equal(bank[:, is_heard], own[:, is_heard])
    highest = torch.where(is_heard)[0][-1] * mel.sample_rate_hz / mel.n_fft
    assert 2_900 < highest <= min(mel.f_max_hz, bandwidth_hz or mel.f_max_hz)


def test_the_lowest_band_begins_higher_and_the_highest_ends_elsewhere():
    mel = MelConfig()

    def ends(seed: int) -> tuple[int, int]:
        bank = jittered_bank(mel, replace(STILL, jitter_low_hz=100.0, jitter_high_hz=1_000.0), generator(seed))
        assert bank is not None
        heard = torch.where(bank.any(0))[0]
        return int(heard[0]), int(heard[-1])

    found = [ends(seed) for seed in range(40)]
    own = torch.where(mel_bank_tensor(mel).any(0))[0]
    assert {low for low, _ in found} > {int(own[0])}
    assert min(low for low, _ in found) >= own[0]
    assert min(high for _, high in found) < own[-1] < max(high for _, high in found)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_front_end_takes_the_bank(name):
    mel = FRONT_ENDS[name]
    bank = jittered_bank(mel, RECIPES["finetune"], generator())
    module, waves = front_end(mel), torch.zeros(1, 32_000)
    assert module(waves, bank).shape == module(waves).shape


def test_banks_repeat_with_the_generator():
    mel, recipe = MelConfig(), RECIPES["finetune"]
    first, second = (jittered_bank(mel, recipe, generator(3)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
