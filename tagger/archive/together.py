"""One recording in several threads, where there are cores to spare: the last shards of a run, or a recording of a day.

The thread that follows the recording decodes it, and others classify its pieces.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tagger.engine.scores import WindowClassifier
from tagger.events import Scores, Window
from tagger.tag.pieces import Cut, piece_windows, scores_of


class Together:
    """Threads of one worker. Scores do not depend on their number."""

    def __init__(self, classifier: WindowClassifier, window_samples: int, hop_samples: int) -> None:
        """
        Args:
            window_samples, hop_samples: length of windows, and from one to the next.
        """
        self._classifier, self._window, self._hop = classifier, window_samples, hop_samples
        self.piece_windows = piece_windows(hop_samples / classifier.info.mel.sample_rate_hz)
        self._executor = ThreadPoolExecutor(classifier.batches, "classify")  # a thread starts when it is needed

    def scores(self, windows: Iterable[Window], threads: Callable[[], int]) -> Iterator[Scores]:
        """Scores of a recording's windows, in order.

        Args:
            threads: number of threads that may classify now; asked at each piece.

        Raises:
            TaggerError: `windows` raised it; the scores of what came before were given.
        """
        cut, smooth = Cut(windows), self._classifier.smoother()
        waiting: deque[Future[list[Scores]]] = deque()
        try:
            while not cut.is_over:
                piece = cut.piece(self.piece_windows)
                # With more than `batches`, windows of two pieces would share a batch.
                count = max(1, min(threads(), self._classifier.batches))
                if count == 1 and not waiting:
                    yield from smooth(self._scores_of(piece))
                    continue
                waiting.append(self._executor.submit(self._scores_of, piece))
                while waiting and (waiting[0].done() or len(waiting) > count):
                    yield from smooth(waiting.popleft().result())
            while waiting:
                yield from smooth(waiting.popleft().result())
        finally:
            for each in waiting:
                each.cancel()
        if cut.error is not None:
            raise cut.error

    def _scores_of(self, piece: list[Window]) -> list[Scores]:
        return scores_of(piece, self._classifier, self._window, self._hop)
