"""Several recordings at once: a few threads decode, classify and decide, and the results come in the files' order.

A thread follows one recording. Where threads have nothing else to do, they classify pieces of a long recording that
another thread decodes. The results do not depend on the number of threads (`tagger.tag.pieces`).
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from tagger.engine.scores import WindowClassifier
from tagger.events import Scores, Window
from tagger.tag.pieces import Cut, piece_windows, scores_of

T = TypeVar("T")
_AHEAD = 64
"""Most recordings that are begun before the first of them is given to its end."""
_LOOK_SECONDS = 0.2
"""Interval at which the reader looks whether it was interrupted, seconds."""
MOST_WAITING = 20_000
"""Most results of one recording that wait to be taken."""


class Crew(Generic[T]):
    """Threads that work on recordings, as a context manager. Leaving it early stops them."""

    def __init__(
        self,
        classifier: WindowClassifier,
        window_samples: int,
        hop_samples: int,
        count: int,
        follow: Callable[["Crew[T]", int], Iterable[T]],
        threads: int,
    ) -> None:
        """
        Args:
            window_samples, hop_samples: length of windows, and from one to the next.
            count: number of recordings.
            follow: gives the results of the recording of this number; it gets their scores from `scores`. A TaggerError
                that it raises comes behind the results.
            threads: recordings that are followed at once.
        """
        self._classifier, self._window, self._hop = classifier, window_samples, hop_samples
        self._piece = piece_windows(hop_samples / classifier.info.mel.sample_rate_hz)
        self._follow = follow
        self._results = [_Results[T]() for _ in range(count)]
        self._begun = self._ended = self._taken = 0
        """Recordings that were begun, and that are over; the one whose results are being taken."""
        self._pieces: deque[_Piece] = deque()
        """Pieces that an idle thread may take."""
        self._idle, self._stopped = 0, False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, name=f"tag {k}", daemon=True) for k in range(threads)]

    def __enter__(self) -> "Crew[T]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def results(self, is_interrupted: Callable[[], bool] = lambda: False) -> Iterator[Iterator[T]]:
        """For each recording, in order, its results as they come. Each must be read to its end before the next.

        Args:
            is_interrupted: asked again and again while there is nothing to give.

        Raises:
            TaggerError: while a recording's results are read: it could not be read to its end.
            InterruptedEarlyError: while a recording's results are read: `is_interrupted` returned True.
        """
        for number in range(len(self._results)):
            with self._changed:
                self._taken = number
                self._changed.notify_all()
            yield self._results_of(number, is_interrupted)

    def _results_of(self, number: int, is_interrupted: Callable[[], bool]) -> Iterator[T]:
        results = self._results[number]
        while True:
            if is_interrupted():
                raise InterruptedEarlyError
            with self._changed:
                if not self._changed.wait_for(lambda: results.waiting or results.is_done, _LOOK_SECONDS):
                    continue
                taken = list(results.waiting)
                results.waiting.clear()
                is_done = results.is_done
                self._changed.notify_all()
            yield from taken
            if is_done:
                break
        self._results[number] = _Results(is_done=True)
        if results.error is not None:
            raise results.error

    def scores(self, windows: Iterable[Window]) -> Iterator[Scores]:
        """Scores of a recording's windows, in order. `follow` calls it, in its thread.

        Raises:
            TaggerError: `windows` raised it; the scores of what came before were given.
        """
        waiting: deque[_Piece] = deque()
        cut, smooth = Cut(windows), self._classifier.smoother()
        while not cut.is_over:
            if self._stopped:
                raise _StoppedError
            piece = _Piece(cut.piece(self._piece))
            waiting.append(piece)
            if cut.is_over or not self._offer(piece):
                self._classify(piece)
            while waiting and (waiting[0].is_done or len(waiting) > len(self._threads)):
                yield from smooth(self._scores_of(waiting.popleft()))
        for piece in waiting:
            yield from smooth(self._scores_of(piece))
        if cut.error is not None:
            raise cut.error

    def _classify(self, piece: "_Piece") -> None:
        try:
            piece.scores = scores_of(piece.windows, self._classifier, self._window, self._hop, lambda: self._stopped)
        except Exception as error:  # raised by the thread that has the recording
            piece.error = error
        piece.windows = []
        piece.is_done = True

    def _offer(self, piece: "_Piece") -> bool:
        """Lets an idle thread classify a piece. Returns whether there is one."""
        with self._changed:
            if self._idle <= len(self._pieces):
                return False
            self._pieces.append(piece)
            self._changed.notify_all()
            return True

    def _scores_of(self, piece: "_Piece") -> list[Scores]:
        with self._changed:
            is_mine = piece in self._pieces
            if is_mine:
                self._pieces.remove(piece)
        if is_mine:
            self._classify(piece)
        with self._changed:
            self._changed.wait_for(lambda: piece.is_done or self._stopped)
        if piece.error is not None:
            raise piece.error
        if self._stopped:
            raise _StoppedError
        return piece.scores

    def _run(self) -> None:
        """A thread: takes pieces and recordings until there are no more."""
        try:
            while True:
                job = self._next()
                if job is None:
                    return
                if isinstance(job, _Piece):
                    self._classify(job)
                    with self._changed:
                        self._changed.notify_all()
                else:
                    self._follow_one(job)
        except _StoppedError:
            return

    def _next(self) -> "_Piece | int | None":
        with self._changed:
            while not self._stopped:
                if self._pieces:
                    return self._pieces.popleft()
                if self._begun < min(len(self._results), self._taken + _AHEAD):
                    self._begun += 1
                    return self._begun - 1
                if self._ended == len(self._results):
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
        return None

    def _follow_one(self, number: int) -> None:
        results = self._results[number]
        try:
            for result in self._follow(self, number):
                self._put(number, results, result)
        except _StoppedError:
            raise
        except Exception as error:  # the reader raises it
            results.error = error
        with self._changed:
            results.is_done = True
            self._ended += 1
            self._changed.notify_all()

    def _put(self, number: int, results: "_Results[T]", result: T) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(results.waiting) < MOST_WAITING)
            if self._stopped:
                raise _StoppedError
            results.waiting.append(result)
            if number == self._taken:
                self._changed.notify_all()


class InterruptedEarlyError(Exception):
    """The results are not wanted any more."""


class _StoppedError(Exception):
    """The crew was left early."""


class _Results(Generic[T]):
    """What was found in one recording."""

    def __init__(self, is_done: bool = False) -> None:
        self.waiting: deque[T] = deque()
        self.error: Exception | None = None
        """Why there are no more."""
        self.is_done = is_done


class _Piece:
    """Consecutive windows of one recording."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows
        self.scores: list[Scores] = []
        self.error: Exception | None = None
        self.is_done = False
