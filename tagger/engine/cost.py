"""How long a batch will take, learned from those before it."""

_MEMORY = 0.9
"""Weight of a batch against the one after it."""
_DEVIATIONS = 2.0
"""Mean deviations that are added to the mean, for a batch that takes longer than most."""


class BatchCost:
    """Time of a batch as a line over its number of windows, fitted to the latest batches.

    >>> cost = BatchCost()
    >>> for windows in (1, 2, 4, 1):
    ...     cost.learn(windows, 0.010 + 0.002 * windows)
    >>> round(cost.mean_s(8), 3)
    0.026
    """

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        """Weighted sums over the batches: of 1, windows, seconds, and their products."""
        self._start_s = self._window_s = 0.0
        """The line: seconds of any batch, and of each window."""
        self._deviation_s = 0.0

    def learn(self, windows: int, seconds: float) -> None:
        """Takes the measured time of a batch."""
        if self._weight:
            missed_s = abs(seconds - self.mean_s(windows))
            self._deviation_s += (1 - _MEMORY) * (missed_s - self._deviation_s)
        self._weight = _MEMORY * self._weight + 1
        self._n = _MEMORY * self._n + windows
        self._t = _MEMORY * self._t + seconds
        self._nn = _MEMORY * self._nn + windows * windows
        self._nt = _MEMORY * self._nt + windows * seconds
        spread = self._nn - self._n * self._n / self._weight
        slope = (self._nt - self._n * self._t / self._weight) / spread if spread > 1e-6 * self._nn else 0.0
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        if 0 < slope <= mean_t / mean_n:
            self._start_s, self._window_s = mean_t - slope * mean_n, slope
        else:  # sizes are too much alike to tell, or noise: all of it is taken to be the windows'
            self._start_s, self._window_s = 0.0, mean_t / mean_n

    def mean_s(self, windows: int) -> float:
        """Seconds, on average; 0 before the first batch."""
        return self._start_s + self._window_s * windows

    def most_s(self, windows: int) -> float:
        """Seconds that few batches exceed."""
        return self.mean_s(windows) + _DEVIATIONS * self._deviation_s
