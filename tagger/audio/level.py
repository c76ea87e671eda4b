"""How loud a stream is: RMS and peak over some seconds."""

import math

import numpy as np

from tagger.events import SILENCE_DBFS, Block, Level

_FULL_SCALE = 1 - 2**-15
"""A 16-bit sample can be no higher."""


class LevelMeter:
    """Follows one stream."""

    def __init__(self, rate_hz: int, seconds: float) -> None:
        self._rate_hz, self._wanted = rate_hz, max(1, round(seconds * rate_hz))
        self.forget()

    def forget(self) -> None:
        """What was heard so far says nothing about what comes."""
        self._heard, self._squares, self._peak, self._clipped = 0, 0.0, 0.0, 0

    def feed(self, block: Block) -> Level | None:
        """The level, once so many seconds have been heard."""
        samples = block.samples
        if samples.size:
            magnitude = np.abs(samples)
            self._heard += samples.size
            self._squares += float(np.dot(samples, samples))
            self._peak = max(self._peak, float(magnitude.max()))
            self._clipped += int(np.count_nonzero(magnitude >= _FULL_SCALE))
        if self._heard < self._wanted:
            return None
        rms, peak, clipped = math.sqrt(self._squares / self._heard), self._peak, self._clipped
        self.forget()
        return Level(_dbfs(rms), _dbfs(peak), clipped, block.time + samples.size / self._rate_hz)


def _dbfs(amplitude: float) -> float:
    """
    >>> _dbfs(1.0), round(_dbfs(0.5), 2), _dbfs(0.0)
    (0.0, -6.02, -120.0)
    """
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS
