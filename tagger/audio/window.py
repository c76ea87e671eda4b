"""Cuts blocks of any size into overlapping windows of one size."""

from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np

from tagger.errors import TaggerError
from tagger.events import Block, Window


class SlidingWindows:
    """Cuts a stream into windows of `window` samples, one every `hop` samples.

    The windows depend on the samples alone, never on how they were cut into blocks. A gap empties the buffer: samples
    from before and after it never share a window. In a recording, what was in no window yet makes one, as at the end.

    >>> windows = SlidingWindows(window=4, hop=2, rate_hz=1)
    >>> [w.samples.tolist() for w in windows.feed(Block(np.arange(6, dtype=np.float32), time=0.0))]
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]]
    """

    def __init__(self, window: int, hop: int, rate_hz: int, flush_at_gaps: bool = False, together: int = 1) -> None:
        """
        Args:
            flush_at_gaps: whether half a hop or more of samples before a gap that were in no window make one, padded
                with silence.
            together: windows that lie in one array, which stays as long as one of them does. More of them are cut
                with less copying.

        Raises:
            ValueError: unless 0 < hop <= window.
        """
        if not 0 < hop <= window:
            raise ValueError(f"a hop of {hop} samples does not fit a window of {window}")
        self.window_samples, self.hop_samples = window, hop
        self._rate_hz, self._flush_at_gaps = rate_hz, flush_at_gaps
        self._size = window + (together - 1) * hop
        self._buffer = np.empty(self._size, np.float32)
        """What is before `_at` may be in windows that were given; it is never written again."""
        self._view = self._buffer.data
        self._at = 0
        """Where in the buffer the next window begins."""
        self._filled = 0
        """Samples of the next window."""
        self._seen = 0
        """Samples of it that were in an earlier window."""
        self._start = 0
        """Index in the stream of its first sample."""
        self._time = 0.0
        """Wall-clock time of its first sample, seconds since the epoch."""

    @classmethod
    def of_seconds(
        cls, window_s: float, hop_s: float, rate_hz: int, flush_at_gaps: bool = False, together: int = 1
    ) -> Self:
        """The same, of windows and hops in seconds.

        Raises:
            ValueError: as the constructor.
        """
        return cls(round(window_s * rate_hz), round(hop_s * rate_hz), rate_hz, flush_at_gaps, together)

    def feed(self, block: Block) -> Iterator[Window]:
        """The windows that `block` completes, in order. Reading the iterator to its end takes in the whole block."""
        if block.gap:
            if self._flush_at_gaps and 2 * (self._filled - self._seen) >= self.hop_samples:
                yield from self.flush()
            self.clear()
        used = 0
        while used < block.samples.size:
            taken = min(block.samples.size - used, self.window_samples - self._filled)
            self._time = block.time + (used - self._filled) / self._rate_hz
            to = self._at + self._filled
            # As bytes: numpy would let go of the interpreter's lock, which other sources' threads then take.
            self._view[to : to + taken] = block.samples[used : used + taken].data
            self._filled += taken
            used += taken
            if self._filled == self.window_samples:
                samples = self._buffer[self._at : self._at + self.window_samples]
                yield Window(samples, self._start, self.window_samples, self._time)
                self._start += self.hop_samples
                self._move(self.hop_samples)

    def cut(self, blocks: Iterable[Block], flush: bool = True) -> Iterator[Window]:
        """The windows of a whole stream, in order.

        Args:
            flush: whether the rest of a stream that ends or breaks makes a window, padded with silence.

        Raises:
            TaggerError: `blocks` raised it; the windows of what came before were given.
        """
        error: TaggerError | None = None
        try:
            for block in blocks:
                yield from self.feed(block)
        except TaggerError as broken:
            error = broken
        if flush:
            yield from self.flush()
        if error is not None:
            raise error

    def clear(self) -> None:
        """Drops the samples that are waiting for a window: the next block follows none of them."""
        self._start += self._filled
        self._move(self._filled)

    def flush(self) -> Iterator[Window]:
        """Ends the stream: one window padded with silence, if some samples were in no window yet."""
        if self._filled > self._seen:
            padded = np.zeros(self.window_samples, np.float32)
            padded[: self._filled] = self._buffer[self._at : self._at + self._filled]
            yield Window(padded, self._start, self._filled, self._time)
            self._seen = self._filled

    def _move(self, samples: int) -> None:
        """Begins the next window so many samples later. What is left of the buffer is kept if it can hold a window."""
        kept = self._filled - samples
        at = self._at + samples
        if at + self.window_samples > self._size:
            old, self._buffer = self._buffer, np.empty(self._size, np.float32)
            self._view = self._buffer.data
            self._buffer[:kept] = old[at : at + kept]
            at = 0
        self._at, self._filled, self._seen = at, kept, kept
