"""Scores of recordings, kept so that events can be found at any threshold.

`Decider` finds the events by the label's own policy, as in `tagger listen`. A single high score is not an event.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tagger.decide import Decider
from tagger.events import Scores
from tagger.policy import EventsConfig, LabelPolicy, Policy, enter_of_sure, policy

FLOOR = 0.02
"""Lowest score that is kept. All thresholds are so high that a lower score neither begins nor prolongs an event."""
STRETCH_S = 30.0
"""Length of a stretch, seconds. The stretches of a recording are taken as independent."""


@dataclass(frozen=True)
class ThresholdedPolicy:
    """One label's policy as a function of its threshold. The rest comes from the user's file and the kind of sound."""

    label: str
    own: float
    """The model's threshold."""
    window_s: float
    hop_s: float
    config: EventsConfig

    def at(self, enter: float | None = None) -> Policy:
        """The policy of this label alone. None: the threshold in force, the user's or else the model's."""
        changes = self.config.labels.get(self.label, {})
        changes = changes if enter is None else {**changes, "enter": enter}
        config = replace(self.config, labels={self.label: changes}, allow=None, deny=(), groups={})
        return policy((self.label,), (self.own,), self.window_s, self.hop_s, config)

    @cached_property
    def now(self) -> LabelPolicy:
        return self.at().each[0]

    @cached_property
    def least(self) -> float:
        """Lowest threshold that is tried: its `exit` must not be below the scores that are kept, or above `enter`."""
        has_exit = "exit" in self.config.defaults or "exit" in self.config.labels.get(self.label, {})
        return max(min(2 * FLOOR, self.now.enter), self.now.exit if has_exit else 0.0)

    @property
    def lead_s(self) -> float:
        """Longest time from an event's first score to its begin, seconds."""
        return self.now.confirm_s + self.now.min_s + self.hop_s

    @property
    def memory_s(self) -> float:
        """Length of silence after which no event is open and the next may begin, seconds."""
        return self.window_s + self.hop_s + max(self.now.merge_s, self.now.refractory_s)


class Recorder:
    """Keeps a recording's scores that are at least `floor`, with their activity."""

    def __init__(self, floor: float = FLOOR) -> None:
        self._floor = floor
        self._times: list[tuple[float, float, float]] = []
        self._rows: list[NDArray[np.intp]] = []
        self._values: list[NDArray[np.float32]] = []
        self._activity: list[NDArray[np.float32]] = []
        self._silent: Scores | None = None

    def add(self, scores: Scores) -> None:
        columns = np.flatnonzero(scores.values >= self._floor)
        self._rows.append(np.stack([np.full_like(columns, len(self._times)), columns], axis=1))
        self._values.append(scores.values[columns])
        self._activity.append(scores.activity[columns])
        self._times.append((scores.start_s, scores.end_s, scores.time))
        if self._silent is None:
            nothing = np.zeros(1, np.float32)
            activity = np.zeros((1, scores.activity.shape[1]), np.float32)
            self._silent = replace(scores, values=nothing, plain=nothing, activity=activity, other="", added=None)

    @property
    def windows(self) -> int:
        return len(self._times)

    @property
    def heard_s(self) -> float:
        """Length of the recording, to the end of its last window, seconds."""
        return self._times[-1][1] if self._times else 0.0

    def tracks(self, labels: int) -> "list[Track]":
        """One track for each label, in the order of the scores."""
        if self._silent is None:
            return []
        rows, values = np.concatenate(self._rows), np.concatenate(self._values)
        activity = np.concatenate(self._activity)
        times = np.array(self._times)
        kept = [np.flatnonzero(rows[:, 1] == label) for label in range(labels)]
        return [Track(times, rows[each, 0], values[each], activity[each], self._silent) for each in kept]


@dataclass(frozen=True, eq=False)
class Track:
    """The kept scores of one recording for one label."""

    times: NDArray[np.float64]
    """[windows, 3]: start and end in the stream, and wall-clock time of the start, seconds."""
    rows: NDArray[np.intp]
    """[kept], ascending: windows whose score was kept."""
    values: NDArray[np.float32]
    """[kept], their scores."""
    activity: NDArray[np.float32]
    """[kept, steps]."""
    silent: Scores
    """Scores of a window in which the label is not heard at all."""

    @cached_property
    def ends(self) -> NDArray[np.float64]:
        """[windows], wall-clock time of each end, seconds since the epoch."""
        return self.times[:, 2] + (self.times[:, 1] - self.times[:, 0])

    def windows(self, first: int, last: int) -> list[Scores]:
        """Scores of the windows `first` to `last - 1`. Those that were not kept are silent."""
        made = [
            replace(self.silent, start_s=start_s, end_s=end_s, time=time)
            for start_s, end_s, time in self.times[first:last].tolist()
        ]
        for i in range(*np.searchsorted(self.rows, (first, last))):
            row = self.rows[i] - first
            made[row] = replace(made[row], values=self.values[i : i + 1], activity=self.activity[i : i + 1])
        return made

    def stretches(self, lead_s: float) -> Iterator[list[Scores]]:
        """All stretches that are not silent, each with the `lead_s` before it, so that no sound is cut at its start."""
        number = ((self.ends - self.ends[0]) // STRETCH_S).astype(np.intp)
        for each in np.unique(number[self.rows]):
            first, last = np.searchsorted(number, (each, each + 1))
            first = int(np.searchsorted(self.ends, self.ends[first] - lead_s - 1e-3))
            yield self.windows(first, int(last))

    def passages(self, level: float, quiet_s: float) -> Iterator[list[Scores]]:
        """Windows from a first to a last score of at least `level`; gaps longer than `quiet_s` separate passages."""
        rows = self.rows[self.values >= level]
        if not len(rows):
            return
        pauses = np.flatnonzero(np.diff(self.ends[rows]) > quiet_s)
        for first, last in zip(rows[[0, *pauses + 1]], rows[[*pauses, -1]], strict=True):
            yield self.windows(int(first), int(last) + 1)


def begins(windows: Sequence[Scores], rules: Policy) -> Iterator[float]:
    """Times at which events begin: the end of the window that decided, seconds since the epoch."""
    decider = Decider(rules, lambda time: "")
    for scores in windows:
        yield from (scores.end_time for event in decider.update(scores) if event.type == "begin")


def confirmed(windows: Sequence[Scores], rules: ThresholdedPolicy) -> float:
    """Highest threshold at which an event still begins. 0: none does.

    The search is exact. With a lower threshold the first event begins no later, and a threshold makes a difference only
    where it, or the `sure` that follows from it, reaches a score, so it tries those alone.
    """
    scored = {float(scores.values[0]) for scores in windows}
    values = scored | {enter_of_sure(value) for value in scored if value > 0}
    candidates = sorted(value for value in values if rules.least <= value <= 1)
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if any(True for _ in begins(windows, rules.at(candidates[middle]))):
            low = middle + 1
        else:
            high = middle
    return candidates[low - 1] if low else 0.0
