"""What another threshold would have given: the daemon's own rules for events, over the scores that were kept."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tagger.decide import ACTIVE_LEAST, Decider, Sound, sounds_of
from tagger.events import Event, Scores
from tagger.history.blocks import CLOSED, FIRST, FLOOR, NEW
from tagger.history.scores import Track
from tagger.policy import LabelPolicy, Policy

_GRID = (*(round(0.05 * step, 2) for step in range(4, 19)), 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
_NOT_FIRST = 5e-324
"""Where a window begins that is not its stream's first, seconds: any number above 0. Added to another it is lost."""
_NO_AXIS = (np.full((1, 1), 0, np.float32), 1.0)
_APART_SECONDS = 10.0
"""Time after which what was long ago changes nothing any more, seconds: longer than a clock is set back unnoticed."""


def least_enter(rules: LabelPolicy) -> float | None:
    """The lowest threshold whose events the kept scores give exactly: its `exit` is not below FLOOR. None: there is
    none, as `exit` is 0.
    """
    share = rules.exit / rules.enter
    return None if not share else min(1.0, max(FLOOR, np.ceil(1000 * FLOOR / share) / 1000))


def offered(rules: LabelPolicy) -> list[float]:
    """The thresholds that are counted, the present one among them."""
    least = least_enter(rules)
    if least is None:
        return []
    return sorted({each for each in (*_GRID, rules.enter) if each >= least and rules.exit_at(each) >= FLOOR})


def replay(kept: Track, label: str, rules: LabelPolicy) -> list[Event]:
    """The events of one label by these rules, as the daemon would have announced them: of each its end, or, where it
    has not ended, its begin; in the order of their begins.
    """
    found = Replay(label, rules)
    found.hear(Windows(kept))
    found.finish(int(kept.flags[-1]))
    return found.events


class Windows:
    """The windows of a part, and when in each the label sounds: the same for most thresholds, so it is found once."""

    def __init__(self, kept: Track) -> None:
        self.kept = kept
        self._scores: dict[int, Scores] = {}
        self._sounds: dict[tuple[int, float, float], list[Sound]] = {}

    def scores(self, at: int) -> Scores:
        """Those of a window, by its number."""
        found = self._scores.get(at)
        if found is None:
            found = self._scores[at] = self._made(at)
        return found

    def sounds(self, scores: Scores, column: int, rules: LabelPolicy, free: float) -> list[Sound]:
        """As `sounds_of`, of `scores` that were given."""
        if not free < scores.time:  # it cuts the window
            return sounds_of(scores, column, rules, free)
        key = id(scores), min(ACTIVE_LEAST, rules.enter), rules.merge_s
        found = self._sounds.get(key)
        if found is None:
            found = self._sounds[key] = sounds_of(scores, column, rules, free)
        return found

    def _made(self, at: int) -> Scores:
        kept, entry = self.kept, int(self.kept.entries[at])
        activity, step_s = (kept.activity[entry][0][None], kept.activity[entry][1]) if entry >= 0 else _NO_AXIS
        start_s = 0.0 if kept.flags[at] & FIRST else _NOT_FIRST
        return Scores(
            values=kept.values[at : at + 1],
            start_s=start_s,
            end_s=start_s + float(kept.duration_s[at]),
            time=float(kept.time[at]),
            activity=activity,
            step_s=step_s,
        )


class Replay:
    """Decides about one label by one set of rules, over windows that come part after part."""

    def __init__(self, label: str, rules: LabelPolicy, memory: Mapping[str, Any] | None = None) -> None:
        """
        Args:
            memory: of another one, which has heard all that came before. None: nothing did.
        """
        self._policy, self._enter = Policy((label,), (rules,)), rules.enter
        self._windows: Windows
        self._decider = self._new()
        self._time = -math.inf
        """When the last window began, seconds since the epoch."""
        if memory is not None:
            self._decider.remember(memory)
        self.events: list[Event] = []
        """Of each event that has begun its end, or, where it has not ended, its begin."""
        self.end: Event | None = None
        """The end of the event that had begun before; None: it goes on, or there was none."""

    def _new(self) -> Decider:
        return Decider(self._policy, lambda time: "", self._sounds)

    def _sounds(self, scores: Scores, column: int, rules: LabelPolicy, free: float) -> list[Sound]:
        return self._windows.sounds(scores, column, rules, free)

    def hear(self, windows: Windows, before: int = 0) -> None:
        """Hears a part.

        Windows that change nothing are passed over: all while nothing is open or waits to be confirmed, and the score
        is below `enter`.

        Args:
            before: flags of the first window, besides its own.
        """
        self._windows, kept = windows, windows.kept
        count, ends = len(kept.time), kept.time + kept.duration_s
        if not count:
            return
        flags = kept.flags[:-1].copy()
        flags[0] |= before
        reaches = kept.values >= self._enter
        is_needed = reaches | ((flags & (CLOSED | NEW)) > 0)
        is_needed[:-1] |= reaches[1:]  # what came just before says whether audio was lost between
        is_needed[1:] |= ends[1:] < ends[:-1] - 1.0  # the clock was set back
        is_needed[0] = is_needed[-1] = True  # the same, of the parts before and after
        at = -1
        for needed in np.flatnonzero(is_needed).tolist():
            if needed <= at:
                continue
            at = needed
            while True:
                if flags[at] & (CLOSED | NEW):
                    self._add(self._decider.close())
                if flags[at] & NEW:
                    self._decider = self._new()
                self._add(self._decider.update(windows.scores(at)))
                if self._decider.is_idle or at + 1 >= count:
                    break
                at += 1
        self._time = float(kept.time[-1])

    def finish(self, after: int) -> None:
        """Notes what came after the last window.

        Args:
            after: CLOSED, or 0.
        """
        if after & CLOSED:
            self._add(self._decider.close())

    def _add(self, found: list[Event]) -> None:
        for event in found:  # no two of them are open at the same time
            if event.type == "begin":
                self.events.append(event)
            elif self.events:
                self.events[-1] = event
            else:
                self.end = event

    def memory(self) -> dict[str, Any]:
        """What another one needs to go on from here. What cannot matter any more is left out, so that those that began
        at different times soon remember the same.
        """
        memory = self._decider.memory()
        (label,) = memory["labels"]
        first, since = memory["first"], label["candidate"] and label["candidate"]["since"]
        if first is not None and memory["until"] - first > _APART_SECONDS and (since is None or since > first):
            memory["first"] = -math.inf
        if self._time - label["free"] > _APART_SECONDS:
            label["free"] = -math.inf
        return memory
