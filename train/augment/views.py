"""Views: the same fixed variants of every clip, for validation, calibration and stored features."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tagger.events import Samples
from train.augment import waveform
from train.data.dataset import Rows
from train.data.waveforms import Waveforms

VIEWS = ("plain", "placed", "fragment", "background")
"""plain: the clip as it is; placed: anywhere in the window, over noise; fragment: too little of it to be recognised;
background: noise without it."""
NOTHING = ("fragment", "background")
"""Views without a label."""
_SEED = 9
BATCH = 50
"""Windows in a batch."""


class Views:
    """The views of a data set's clips; the same windows at every call."""

    def __init__(self, waveforms: Waveforms, rate_hz: int, seed: int) -> None:
        self._waveforms, self._rate_hz, self._seed = waveforms, rate_hz, seed
        self._noise = waveform.Noise(waveforms.samples, np.random.default_rng([seed, _SEED]), pool=8)

    def batches(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """One view of these clips, [up to BATCH, samples] each, float32, full scale -1 to 1."""
        for first in range(0, len(rows), BATCH):
            yield torch.from_numpy(np.stack([self.window(int(row), view) for row in rows[first : first + BATCH]]))

    def window(self, row: int, view: str) -> Samples:
        """One view of one clip, [samples]."""
        clip = self._waveforms[row]
        rng = np.random.default_rng([self._seed, _SEED, VIEWS.index(view), row])
        if view == "placed":
            return waveform.placed(clip, self._noise, self._rate_hz, rng)
        if view == "fragment":
            return waveform.fragment(clip, self._noise, self._rate_hz, rng)
        if view == "background":
            return waveform.noise_window(self._noise, self._waveforms.samples, self._rate_hz, rng)
        return clip


def targets_of(view: str, targets: Tensor) -> Tensor:
    """Targets of a view, [rows, labels], given the targets of the clips."""
    return torch.zeros_like(targets) if view in NOTHING else targets
