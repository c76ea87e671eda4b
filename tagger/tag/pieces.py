"""Pieces of a recording: consecutive windows that one thread classifies.

A piece is always cut at the same place and begins anew with its features, so who classifies it changes nothing.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

from tagger.engine.engine import Lane
from tagger.engine.scores import WindowClassifier
from tagger.errors import TaggerError
from tagger.events import Scores, Window

PIECE_WINDOWS = 32
"""Most windows of one piece."""
_SECONDS = 60.0
"""Longest piece, beyond its first window: it is kept in memory."""
_BATCH = 8
"""Windows that are classified together."""


def piece_windows(hop_s: float) -> int:
    """Number of windows of one piece."""
    return max(1, min(PIECE_WINDOWS, int(_SECONDS / hop_s)))


class Cut:
    """A recording's windows, piece by piece."""

    def __init__(self, windows: Iterable[Window]) -> None:
        self._windows = iter(windows)
        self.is_over = False
        self.error: TaggerError | None = None
        """Why it is over, if not at its end."""

    def piece(self, most: int) -> list[Window]:
        """The next windows; fewer than `most` at the end only."""
        taken: list[Window] = []
        try:
            for window in itertools.islice(self._windows, most):
                taken.append(window)
        except TaggerError as error:
            self.error = error
        self.is_over = len(taken) < most
        return taken


def scores_of(
    piece: Sequence[Window],
    classifier: WindowClassifier,
    window_samples: int,
    hop_samples: int,
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[Scores]:
    """Scores of a piece's windows, before smoothing. From any thread.

    Args:
        is_stopped: asked again and again; the rest is left out where it returns True.
    """
    lane = Lane(classifier.engine, classifier.preparer(window_samples, hop_samples))
    found: list[Scores] = []
    for start in range(0, len(piece), _BATCH):
        if is_stopped():
            break
        found += lane.scores(piece[start : start + _BATCH])
    return found
