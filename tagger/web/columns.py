"""Columns of a spectrogram, as bytes, from a stream's blocks: what the network's front end makes, every 20 ms.

Windows come once a hop, which is a second: their features would be shown a second late. Columns are made only while
somebody looks.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tagger.events import Block
from tagger.features.config import MelConfig
from tagger.features.frames import FrontEnd
from tagger.features.incremental import inner_frames

STEP_SECONDS = 0.02
"""Wished distance of columns, seconds."""
RANGE_DB = 100.0
"""Power that the bytes 0 to 255 span, decibels, from the front end's least."""
_LONGEST_SECONDS = 2.0
"""Longest sound that one call turns into columns, seconds."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Some columns that follow each other."""

    time: float
    """Wall-clock time of the first column's middle, seconds since the epoch."""
    columns: NDArray[np.uint8]
    """[columns, bands], low frequencies first."""


def shown_config(mel: MelConfig) -> MelConfig:
    """The front end of the columns: the model's own mel bands, at another distance."""
    every = max(1, round(STEP_SECONDS * mel.sample_rate_hz / mel.hop_samples))
    own = {each.name: getattr(mel, each.name) for each in fields(MelConfig)}
    return replace(MelConfig(**own), hop_samples=mel.hop_samples * every, shift=0.0, scale=1.0)


def heard_bands(config: MelConfig) -> int:
    """Number of bands, from the lowest, that `bandwidth_hz` leaves."""
    if config.bandwidth_hz is None:
        return config.n_mels
    return max(1, min(config.n_mels, math.ceil(config.band_at(config.bandwidth_hz))))


class Columns:
    """The columns of one stream. One thread at a time calls it."""

    def __init__(self, mel: MelConfig) -> None:
        """
        Args:
            mel: the model's front end.
        """
        self.config = shown_config(mel)
        self._front_end = FrontEnd(self.config)
        self._rate_hz = self.config.sample_rate_hz
        self._floor = float(np.log(self.config.log_offset))
        self._per_unit = 255 / (RANGE_DB * np.log(10) / 10)
        self.bands = heard_bands(self.config)
        self._rest = np.empty(0, np.float32)
        """Samples of which not all columns were made, oldest first."""

    @property
    def step_s(self) -> float:
        """Distance of columns, seconds."""
        return self.config.hop_samples / self._rate_hz

    def clear(self) -> None:
        """The next block does not follow the one before."""
        self._rest = np.empty(0, np.float32)

    def add(self, blocks: list[Block]) -> Strip | None:
        """Columns that these blocks complete. None: there are none.

        Args:
            blocks: at least one; each follows the one before, unless it has a gap.
        """
        if gaps := [at for at, block in enumerate(blocks) if block.gap]:
            self.clear()
            blocks = blocks[gaps[-1] :]
        samples = np.concatenate([self._rest, *(block.samples for block in blocks)])
        samples = samples[-round(_LONGEST_SECONDS * self._rate_hz) :]
        last = blocks[-1]
        begin = last.time + (len(last.samples) - len(samples)) / self._rate_hz
        if len(samples) < self.config.least_samples:
            self._rest = samples
            return None
        frames = inner_frames(self._front_end, len(samples))
        self._rest = samples[len(frames) * self.config.hop_samples :]
        if not frames:
            return None
        powers = self._front_end.of_frames(self._front_end.frames(samples, frames.start, frames.stop))
        values = np.clip((powers[: self.bands].T - self._floor) * self._per_unit, 0, 255).astype(np.uint8)
        return Strip(begin + frames.start * self.step_s, values)
