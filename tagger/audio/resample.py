"""Converts mono audio of any rate to one rate, block by block; and tells sound from damage."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tagger.events import Samples

LOUDEST = 1e3
"""Limit of a sample's magnitude, 60 dB over full scale. A sample beyond it is damage, not sound."""

SHORTEST_SECONDS = 0.1
"""Shortest sound between damage that is heard."""


def is_plausible(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True for each sample that is a number below `LOUDEST`; False for NaN, infinity and absurd values. Any shape."""
    return np.abs(samples) < LOUDEST


def stretches(frames: NDArray[np.float32], rate_hz: int) -> list[tuple[int, int, bool]]:
    """Begin and end of each stretch of frames, and whether it is sound. A frame is if it is plausible on all channels.

    Sound of less than 0.1 s between two stretches that are none is left out with them: so damage takes no longer than
    sound.

    Args:
        frames: [N, channels].
    """
    if frames.size and frames.min() > -LOUDEST and frames.max() < LOUDEST:  # nearly always; false for NaN
        return [(0, len(frames), True)]
    good = np.atleast_1d(is_plausible(frames).all(axis=1))
    borders = _borders(good)
    starts, ends = borders[:-1], borders[1:]
    is_short = good[starts] & (starts > 0) & (ends < len(good)) & (ends - starts < SHORTEST_SECONDS * rate_hz)
    if is_short.any():
        changes = np.zeros(len(good) + 1, np.int8)
        changes[starts[is_short]], changes[ends[is_short]] = 1, -1
        good = good & ~np.cumsum(changes[:-1]).astype(bool)
        borders = _borders(good)
    return [(start, end, bool(good[start])) for start, end in pairwise(borders.tolist())]


def _borders(good: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where stretches of equal values begin, and the end; empty for none."""
    if not len(good):
        return np.zeros(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(good[1:] != good[:-1]) + 1, [len(good)]])


class Resampler:
    """Resamples one channel. The output depends on the samples alone, not on how they were cut into blocks.

    The filter is soxr's "HQ": linear phase, passband to 0.913 of the lower Nyquist frequency. Its delay is compensated,
    so times do not shift; `flush` gives the samples that wait in the filter.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """
        Args:
            from_hz: rate of the samples fed.
            to_hz: rate of the samples returned.
        """
        self._stream = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def feed(self, mono: Samples) -> Samples:
        """Converts a block.

        Args:
            mono: [N], float32.

        Returns:
            [M], float32; M may be 0 while the filter fills.
        """
        return self._resampled(np.ascontiguousarray(mono), last=False)

    def flush(self) -> Samples:
        """Ends the stream: the samples that wait in the filter, [M], float32."""
        return self._resampled(np.zeros(0, np.float32), last=True)

    def _resampled(self, mono: Samples, last: bool) -> Samples:
        if self._stream is None:
            return mono
        resampled: Samples = self._stream.resample_chunk(mono, last=last)
        return resampled
