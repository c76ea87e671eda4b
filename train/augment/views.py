"""What validation and calibration listen to: clips as they are, and as a stream would have them. Always the same."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from train.augment import waveform
from train.augment.waveform import Waveform
from train.data.dataset import Rows
from train.data.waveforms import Waveforms

VIEWS = ("plain", "placed", "fragment", "background")
"""As it is; somewhere in the window, over noise; too little of it to know it by; noise without it."""
NOTHING = ("fragment", "background")
"""In these there is no label to be found."""
_SEED = 9
BATCH = 50


class Views:
    """The same windows each time they are asked for."""

    def __init__(self, waveforms: Waveforms, rate_hz: int, seed: int) -> None:
        self._waveforms, self._rate_hz, self._seed = waveforms, rate_hz, seed
        self._noise = waveform.Noise(waveforms.samples, np.random.default_rng([seed, _SEED]), pool=8)

    def batches(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """[up to 50, samples], float32, full scale -1 to 1."""
        for first in range(0, len(rows), BATCH):
            yield torch.from_numpy(np.stack([self.window(int(row), view) for row in rows[first : first + BATCH]]))

    def window(self, row: int, view: str) -> Waveform:
        """[samples]"""
        clip = self._waveforms[row]
        rng = np.random.default_rng([self._seed, _SEED, VIEWS.index(view), row])
        if view == "placed":
            return waveform.placed(clip, self._noise, self._rate_hz, rng)
        if view == "fragment":
            return waveform.fragment(clip, self._noise, self._rate_hz, rng)
        if view == "background":
            return waveform.background(self._noise, self._waveforms.samples, self._rate_hz, rng)
        return clip


def targets_of(view: str, targets: Tensor) -> Tensor:
    """[rows, labels]: what is right to say of the view, given what the clips are."""
    return torch.zeros_like(targets) if view in NOTHING else targets
