"""Converts audio of any rate and channel count to mono at one rate, block by block."""

import numpy as np
from numpy.typing import NDArray

from tagger.events import Samples

LOUDEST = 1e3
"""Limit of a sample's magnitude, 60 dB over full scale. A sample beyond it is damage, not sound."""


def is_plausible(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True for each sample that is a number below `LOUDEST`; False for NaN, infinity and absurd values. Any shape."""
    return np.abs(samples) < LOUDEST


class ToMono:
    """Averages channels and resamples. The output depends on the samples alone, not on how they were cut into blocks.

    The filter is soxr's "HQ": linear phase, passband to 0.913 of the lower Nyquist frequency. Its delay is compensated,
    so times do not shift; `flush` gives the samples that wait in the filter.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        """
        Args:
            from_hz: rate of the frames fed.
            to_hz: rate of the samples returned.
            channels: channels of the frames fed.
        """
        self._stream = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        self._channels = channels

    def feed(self, frames: NDArray[np.float32]) -> Samples:
        """Converts a block.

        Args:
            frames: [N, channels], float32.

        Returns:
            [M], float32; M may be 0 while the filter fills.
        """
        mono = frames[:, 0] if self._channels == 1 else frames.mean(axis=1, dtype=np.float32)
        return self._resampled(np.ascontiguousarray(mono), last=False)

    def flush(self) -> Samples:
        """Ends the stream: the samples that wait in the filter, [M], float32."""
        return self._resampled(np.zeros(0, np.float32), last=True)

    def _resampled(self, mono: Samples, last: bool) -> Samples:
        if self._stream is None:
            return mono
        resampled: Samples = self._stream.resample_chunk(mono, last=last)
        return resampled
