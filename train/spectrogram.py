"""What is done to a batch of spectrograms before the network sees it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.features import MelConfig, mel_bank
from train.recipe import Recipe

_LOWEST_CUTOFF_HZ = 3_000.0
_CUTOFF_STEP_HZ = 500.0
_HIGH_STEP_HZ = 250.0
"""Drawn frequencies are rounded, so that few different mel banks are made."""


@dataclass(frozen=True)
class Mix:
    """Mixup of a batch with itself, reordered. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018."""

    order: Tensor
    """[B], whom each is mixed with."""
    share: Tensor
    """[B], 0.5 to 1: what each keeps of itself."""

    @classmethod
    def draw(cls, size: int, alpha: float, rng: np.random.Generator) -> "Mix | None":
        """None where `alpha` is 0."""
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
    """A mel bank that begins and ends a little elsewhere, or hears less high. None: nothing was drawn.

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
    return mel_bank(replace(mel, **changes)) if changes else None


def masked(batch: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """SpecAugment: in each spectrogram one band of frequencies and one stretch of time become its mean.

    Args:
        batch: [B, 1, bands, frames].
    """
    if not (recipe.mask_bands or recipe.mask_frames):
        return batch
    hidden = torch.zeros(batch.shape, dtype=torch.bool)
    for each in hidden:
        for axis, widest in ((1, recipe.mask_bands), (2, recipe.mask_frames)):
            width = int(rng.integers(min(widest, each.shape[axis]) + 1))
            start = int(rng.integers(each.shape[axis] - width + 1))
            each.narrow(axis, start, width).fill_(True)
    return torch.where(hidden.to(batch.device), batch.mean((2, 3), keepdim=True), batch)
