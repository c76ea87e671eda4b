"""Which stretches of a stream are known to be without speech, by what the network heard in each window."""

from collections import deque

LEAST_SPEECH = 0.1
"""Score of speech from which a window counts as one with speech. Low: who asks for no speech wants none."""
_LEAST_SECONDS = 0.5
"""Shortest part of a clip in a window by which the clip is judged by the window."""
_ROUNDING = 0.01
"""Seconds between two windows that count as none."""


class SpeechJudge:
    """Remembers the windows of the newest minutes. Times are seconds of the stream's sound: the clock may be set."""

    def __init__(self, memory_s: float, known_s: float) -> None:
        """
        Args:
            memory_s: time for which windows are remembered, seconds.
            known_s: length of the end of each window of which its scores of speech speak, seconds.
        """
        self._memory_s, self._known_s = memory_s, known_s
        self._windows: deque[tuple[float, float, bool]] = deque()
        """Begin, end, and whether there is speech, or may be."""

    def scored(self, begin: float, end: float, speech: float | None) -> None:
        """Takes what was heard in the next window.

        Args:
            speech: as in `Scores`.
        """
        self._windows.append((begin, end, speech is None or not speech < LEAST_SPEECH))
        while self._windows and self._windows[0][1] < end - self._memory_s:
            self._windows.popleft()

    def is_settled(self, end: float) -> bool:
        """Whether no later window can hold enough of a stretch that ends then."""
        return bool(self._windows) and self._windows[-1][0] > end - _LEAST_SECONDS

    def is_without_speech(self, begin: float, end: float) -> bool:
        """Whether windows without speech cover a whole stretch, and none with speech holds a part of it."""
        until = begin
        for first, last, has_speech in sorted(self._windows):
            if has_speech and min(last, end) - max(first, begin) >= min(_LEAST_SECONDS, end - begin):
                return False
            if max(first, last - self._known_s) <= until + _ROUNDING:
                until = max(until, last)
        return until >= end - _ROUNDING
