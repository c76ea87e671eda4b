"""Augmentation of a batch of spectrograms: mixup, warping, equalising, masking, and jitter of the mel bank."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tagger.features.config import MelConfig, MfccConfig
from tagger.features.logmel import mel_bank_tensor
from train.recipe import Recipe

_LOWEST_CUTOFF_HZ = 3_000.0
_CUTOFF_STEP_HZ = 500.0
_HIGH_STEP_HZ = 250.0
"""Drawn frequencies are rounded, so that few different mel banks are made."""

_EQUALISER_KNOTS = 5


@dataclass(frozen=True)
class Mix:
    """Mixup of a batch with itself, reordered. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018."""

    order: Tensor
    """[B], the item that each is mixed with."""
    share: Tensor
    """[B], 0.5 to 1: weight of the item itself."""

    @classmethod
    def draw(cls, size: int, alpha: float, rng: np.random.Generator) -> "Mix | None":
        """Draws weights from the beta distribution (alpha, alpha). None: `alpha` is 0."""
        if not alpha:
            return None
        share = rng.beta(alpha, alpha, size)
        kept = torch.from_numpy(np.maximum(share, 1 - share).astype(np.float32))
        return cls(torch.from_numpy(rng.permutation(size)), kept)

    def __call__(self, batch: Tensor) -> Tensor:
        """[B, ...], mixed along the first axis."""
        share = self.share.to(batch.device).view(-1, *[1] * (batch.dim() - 1))
        return batch * share + batch[self.order.to(batch.device)] * (1 - share)


def jittered_bank(mel: MelConfig, recipe: Recipe, rng: np.random.Generator) -> Tensor | None:
    """A mel bank with moved edges, or with a lower bandwidth. None: nothing changes.

    Output: [n_mels, n_fft / 2 + 1].
    """
    changes: dict[str, Any] = {}
    if recipe.jitter_low_hz:
        changes["f_min_hz"] = float(np.round(mel.f_min_hz + rng.uniform(0, recipe.jitter_low_hz)))
    if recipe.jitter_high_hz:
        wanted = mel.f_max_hz + rng.uniform(-1, 1) * recipe.jitter_high_hz
        changes["f_max_hz"] = float(min(mel.sample_rate_hz / 2, _HIGH_STEP_HZ * np.round(wanted / _HIGH_STEP_HZ)))
    if rng.random() < recipe.bandwidth:
        highest = min(mel.f_max_hz, mel.bandwidth_hz or mel.f_max_hz)
        cutoff = rng.uniform(min(_LOWEST_CUTOFF_HZ, highest), highest)
        changes["bandwidth_hz"] = float(min(highest, _CUTOFF_STEP_HZ * np.ceil(cutoff / _CUTOFF_STEP_HZ)))
    return mel_bank_tensor(replace(mel, **changes)) if changes else None


def warped(batch: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Warps each spectrogram: faster or slower, bands higher or lower, further apart or closer. Edges are repeated.

    Niizumi et al., "BYOL for Audio" (IJCNN 2021), call this random resize crop.

    Args:
        batch: [B, 1, bands, frames].
    """
    if not (recipe.warp_bands or recipe.warp_frames):
        return batch
    size = len(batch)
    maps = np.zeros((size, 2, 3), np.float32)  # from a place in the result to one in the batch, both from -1 to 1
    widest = np.array([recipe.warp_frames, recipe.warp_bands])
    scales = np.exp(rng.uniform(-1, 1, (size, 2)) * np.log1p(widest))
    maps[:, (0, 1), (0, 1)] = scales
    maps[:, 1, 2] = rng.uniform(-1, 1, size) * recipe.warp_bands
    # In time a part of it, or all of it; pieces were cut anywhere already.
    maps[:, 0, 2] = rng.uniform(-1, 1, size) * np.maximum(1 - scales[:, 0], 0)
    grid = functional.affine_grid(torch.from_numpy(maps).to(batch.device), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def equalised(batch: Tensor, mel: MelConfig, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Applies a smooth random gain over the bands to each spectrogram, like another microphone or room.

    Nam et al., "FilterAugment" (ICASSP 2022). Cepstra do not change.

    Args:
        batch: [B, 1, bands, frames], of `mel`.
    """
    if not recipe.equalise_db or isinstance(mel, MfccConfig):
        return batch
    knots = rng.uniform(-1, 1, (len(batch), 1, _EQUALISER_KNOTS)) * recipe.equalise_db
    knots -= knots.mean(-1, keepdims=True)
    gain = torch.from_numpy((knots * np.log(10) / 10 / mel.scale).astype(np.float32)).to(batch.device)
    return batch + functional.interpolate(gain, batch.shape[2], mode="linear", align_corners=True)[..., None]


def masked(batch: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """SpecAugment: replaces one range of bands and one stretch of frames of each spectrogram by its mean.

    Args:
        batch: [B, 1, bands, frames].
    """
    if not (recipe.mask_bands or recipe.mask_frames):
        return batch
    ranges = np.zeros((len(batch), 2, 2), np.int64)  # of bands and of frames: the first, and the one after the last
    for each in ranges:
        for axis, widest in enumerate((recipe.mask_bands, recipe.mask_frames)):
            size = batch.shape[2 + axis]
            width = int(rng.integers(min(widest, size) + 1))
            start = int(rng.integers(size - width + 1))
            each[axis] = start, start + width
    first, after = torch.from_numpy(ranges).to(batch.device).unbind(2)
    band, frame = (torch.arange(size, device=batch.device) for size in batch.shape[2:])
    of_bands = (band >= first[:, :1]) & (band < after[:, :1])  # [B, bands]
    of_frames = (frame >= first[:, 1:]) & (frame < after[:, 1:])  # [B, frames]
    hidden = of_bands[:, None, :, None] | of_frames[:, None, None, :]
    return torch.where(hidden, batch.mean((2, 3), keepdim=True), batch)
