"""Scores to events: when does a sound begin, and when has it ended.

For now one threshold a label: an event begins in the first window whose score reaches it and ends in the first one
whose score does not. Scores are maths, "is it an event" is policy; that is why this is apart from the classifier.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ulid import ULID

from tagger.events import Event, Scores


@dataclass
class _Open:
    begin: Event
    score: float
    """Of the last window."""
    peak_score: float
    first_end: float
    """Wall-clock end of the first window that reached the threshold."""
    last_start: float
    last_end: float


class Decider:
    """Follows one stream. Every begin is followed by exactly one end with the same id; events of a label never overlap.

    A window says that a sound is somewhere in it, not where. The sound of the first window over the threshold is taken
    to have begun one hop before that window's end (the window before did not hold it yet), and to have ended one hop
    after the last such window's start (the window after no longer held it), but not before the first window's end.
    """

    def __init__(
        self,
        labels: Sequence[str],
        thresholds: Sequence[float],
        hop_s: float,
        new_id: Callable[[float], str] = lambda now: str(ULID.from_timestamp(now)),
    ) -> None:
        """
        Args:
            labels: names, in the order of the scores.
            thresholds: one a label, 0 to 1.
            hop_s: distance between windows, seconds.
            new_id: makes an event's id from the present time.
        """
        if len(labels) != len(thresholds):
            raise ValueError(f"{len(thresholds)} thresholds for {len(labels)} labels")
        self._labels, self._thresholds, self._hop_s, self._new_id = labels, thresholds, hop_s, new_id
        self._open: dict[str, _Open] = {}

    def update(self, scores: Scores) -> list[Event]:
        """The events that begin or end with this window: ends first, then begins, each in the labels' order."""
        begins, ends = [], []
        for label, threshold, value in zip(self._labels, self._thresholds, scores.values.tolist(), strict=True):
            reached, event = value >= threshold, self._open.get(label)
            if reached and event is None:
                onset = max(scores.time, scores.end_time - self._hop_s)
                begin = Event("begin", self._new_id(time.time()), label, value, value, onset)
                self._open[label] = _Open(begin, value, value, scores.end_time, scores.time, scores.end_time)
                begins.append(begin)
            elif reached and event is not None:
                event.score, event.peak_score = value, max(event.peak_score, value)
                event.last_start, event.last_end = scores.time, scores.end_time
            elif event is not None:
                offset = max(event.first_end, min(event.last_start + self._hop_s, event.last_end))
                ends.append(self._end(label, value, offset))
        return ends + begins

    @property
    def active(self) -> tuple[str, ...]:
        """Labels whose event is open."""
        return tuple(self._open)

    def close(self) -> list[Event]:
        """Ends what is open: the stream is over, or interrupted. The sounds last until the end of what was heard."""
        return [self._end(label, event.score, event.last_end) for label, event in list(self._open.items())]

    def _end(self, label: str, score: float, offset: float) -> Event:
        event = self._open.pop(label)
        return replace(event.begin, type="end", score=score, peak_score=event.peak_score, offset=offset)
