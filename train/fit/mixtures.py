"""Mixtures of pieces of the training clips, which `train.fit.pretrain` learns from."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.dataset import Rows
from train.fit.stored_spectrograms import SOFT, log_mel_of, power_of
from train.fit.trainer import Setup

_MIXED = 0.5
"""Probability that a second clip sounds, too."""
_SECOND_DB = (-20.0, 5.0)
"""Its level against the first one's."""


class Mixtures:
    """Mixtures of pieces of clips, made where their spectrograms are."""

    def __init__(self, plain: Tensor, setup: Setup, frames: int) -> None:
        """
        Args:
            plain: [clips, bands, length], normalised log-mel of each clip as it is.
            frames: length of a piece; all of it, if that is less or `frames` is 0.
        """
        self._plain, self._recipe, self._mel = plain, setup.recipe, setup.backbone.mel
        self._device = setup.place.device
        self._frames = min(frames, plain.shape[2]) or plain.shape[2]
        loudness = torch.stack([each.float().mean(0) for each in plain])
        loud = loudness >= loudness.amax(1, keepdim=True) - SOFT
        self._counted = loud.cumsum(1)
        """[clips, length]: frames up to each that are not soft."""

    def whole(self, rows: Rows) -> Tensor:
        """The clips as they are, [B, 1, bands, length], on the device."""
        chosen = torch.from_numpy(rows).to(self._plain.device)
        return self._plain[chosen][:, None].to(self._device).float()

    def __call__(self, first: Rows, second: Rows, rng: np.random.Generator) -> Tensor:
        """A piece of each of the first clips, perhaps with one of the second: [B, 1, bands, frames], on the device."""
        recipe, size = self._recipe, len(first)
        one, other = self._pieces(first, rng), self._pieces(second, rng)
        gain = self._from_db(rng.uniform(-recipe.gain_db, recipe.gain_db / 2, size))
        ratio = self._from_db(rng.uniform(*_SECOND_DB, size)) * self._numbers(rng.random(size) < _MIXED)
        level = one.mean((1, 2), keepdim=True) / other.mean((1, 2), keepdim=True).clamp(min=1e-12)
        return log_mel_of(gain * (one + ratio * level * other), self._mel)[:, None]

    def _pieces(self, rows: Rows, rng: np.random.Generator) -> Tensor:
        """Power, [B, bands, frames], of a piece of each clip around a frame that is not soft; the clip goes round."""
        chosen = torch.from_numpy(rows).to(self._plain.device)
        counted, length = self._counted[chosen], self._plain.shape[2]
        wanted = torch.from_numpy(rng.random(len(rows))).to(counted.device) * counted[:, -1]
        moment = (counted <= wanted[:, None]).sum(1)
        start = moment - torch.from_numpy(rng.integers(self._frames, size=len(rows))).to(counted.device)
        columns = (start[:, None] + torch.arange(self._frames, device=counted.device)) % length
        found = self._plain[chosen].gather(2, columns[:, None].expand(-1, self._plain.shape[1], -1))
        return power_of(found.to(self._device).float(), self._mel)

    def _from_db(self, gains: NDArray[np.float64]) -> Tensor:
        return self._numbers(10 ** (gains / 10))

    def _numbers(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)[:, None, None]
