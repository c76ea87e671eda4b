"""Times of a live stream's blocks: as even as the samples, and never far from the wall clock."""

_TOLERANCE_SECONDS = 0.25
"""Largest difference of sample count and wall clock; beyond it, times follow the wall clock again."""


class SampleClock:
    """Counts samples, because readings of the wall clock jitter.

    >>> clock = SampleClock(rate_hz=10)
    >>> clock.time_of(10, captured=100.0, gap=False), clock.time_of(10, captured=101.1, gap=False)
    (100.0, 101.0)
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._next: float | None = None
        """Time of the sample that comes next, seconds since the epoch; None before the first block."""

    def time_of(self, samples: int, captured: float, gap: bool) -> float:
        """Time of a block's first sample, seconds since the epoch.

        Args:
            samples: length of the block.
            captured: wall-clock time of the block's first sample, seconds since the epoch.
            gap: samples were lost before this block, so its time is `captured`.
        """
        if self._next is None or gap or abs(captured - self._next) > _TOLERANCE_SECONDS:
            self._next = captured
        time_of_first = self._next
        self._next += samples / self._rate_hz
        return time_of_first
