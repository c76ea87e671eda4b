"""Level of a stream: RMS and peak, dBFS, around the mean: a constant offset is no sound."""

import math
from collections.abc import Callable

import numpy as np

from tagger.events import SILENCE_DBFS, AudioTap, Block, Level, Samples

_FULL_SCALE = 1 - 2**-15
"""Highest 16-bit sample. One from here on counts as clipped."""
_PIECE_SECONDS = 0.5
"""Sound that is measured together. Measuring a small block costs as much as measuring a large one."""


class LevelMeter:
    """Measures one stream, span after span."""

    def __init__(self, rate_hz: int, seconds: float) -> None:
        """
        Args:
            rate_hz: the stream's rate.
            seconds: length of a span.
        """
        self._rate_hz, self._span = rate_hz, max(1, round(seconds * rate_hz))
        self._piece = round(_PIECE_SECONDS * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Begins a new span."""
        self._waiting: list[Samples] = []
        """Blocks that were not measured yet."""
        self._fed, self._measured, self._clipped = 0, 0, 0
        self._origin = 0.0
        """The span's first sample. The sums are of differences from it, which keeps them exact beside an offset."""
        self._sum, self._squares, self._highest, self._lowest = 0.0, 0.0, -math.inf, math.inf

    def feed(self, block: Block) -> Level | None:
        """Measures a block. Returns the level when a span is complete, else None; the next block begins a new span."""
        samples = block.samples
        if samples.size:
            self._waiting.append(samples)
            self._fed += samples.size
        if self._waiting and self._fed >= min(self._span, self._measured + self._piece):
            self._measure(np.concatenate(self._waiting) if len(self._waiting) > 1 else samples)
            self._waiting = []
        if self._measured < self._span:
            return None
        mean, clipped = self._sum / self._measured, self._clipped
        rms = math.sqrt(max(0.0, self._squares / self._measured - mean * mean))
        peak = max(self._highest - mean, mean - self._lowest)
        self.reset()
        return Level(_dbfs(rms), _dbfs(peak), clipped, block.time + samples.size / self._rate_hz)

    def _measure(self, samples: Samples) -> None:
        if not self._measured:
            self._origin = float(samples[0])
        differences = np.subtract(samples, self._origin, dtype=np.float64)
        highest, lowest = float(samples.max()), float(samples.min())
        self._measured += samples.size
        self._sum += float(differences.sum())
        self._squares += float(np.einsum("i,i->", differences, differences))  # BLAS would wake other threads
        self._highest = max(self._highest, highest - self._origin)
        self._lowest = min(self._lowest, lowest - self._origin)
        if max(highest, -lowest) >= _FULL_SCALE:
            self._clipped += int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))


class LevelTap(AudioTap):
    """Follows one stream's audio and publishes its level every few seconds."""

    def __init__(self, rate_hz: int, seconds: float, publish: Callable[[Level], None]) -> None:
        self._meter, self._publish = LevelMeter(rate_hz, seconds), publish

    def heard(self, block: Block) -> None:
        if (level := self._meter.feed(block)) is not None:
            self._publish(level)

    def pause(self) -> None:
        self._meter.reset()


def _dbfs(amplitude: float) -> float:
    """Amplitude, 1 at full scale, in dBFS: 20 log10, at least `SILENCE_DBFS`.

    >>> _dbfs(1.0), round(_dbfs(0.5), 2), _dbfs(0.0)
    (0.0, -6.02, -120.0)
    """
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS
