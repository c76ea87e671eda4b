"""Scores to events: when a sound begins, and when it has ended.

The classifier knows nothing of this: scores are maths, and what counts as an event is policy. The code is pure: the
same scores give the same events. A label whose activity is NaN has no time axis.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.events import ACTIVE_SHARE, Event, LabelScore, Scores, new_id, top
from tagger.policy import LabelPolicy, Policy

ACTIVE_LEAST = 0.2
"""Activity that a step in which a sound is heard must reach, besides `ACTIVE_SHARE`; `enter`, if that is lower."""
_REST_SECONDS = 0.5
"""Shortest rest of the window, after a sound, that shows that the sound has ended."""
_ROUNDING = 1e-6
"""Tolerance of comparisons, seconds. Sums of hops are not exact."""
_NEW_SECONDS = 1.0
"""Of a label without a time axis it is only known which windows hold it. Its sound is taken to begin this long before
the end of the first such window, and to end this long after the start of the last one."""
_SET_BACK_SECONDS = 1.0
"""If a window ends this much earlier than the one before it, the clock was set back, seconds."""


@dataclass(frozen=True)
class Sound:
    """Part of a window in which a sound is heard, with its pauses shorter than `merge_s`. Seconds since the epoch."""

    onset: float
    offset: float
    is_cut: bool
    """Whether the sound reaches the start of the window, so that it may have begun earlier."""


Sounds = Callable[[Scores, int, LabelPolicy, float], list[Sound]]
"""What `sounds_of` does."""


@dataclass(frozen=True)
class _Candidate:
    """A sound that waits to be confirmed."""

    since: float
    """End of the first window of the present run of windows whose score is at least `enter`."""
    onset: float
    offset: float
    score: float
    tail_s: float
    """As that of `_Open`."""


@dataclass
class _Open:
    begin: Event
    score: float
    """Score of the last window."""
    peak_score: float
    heard: float
    """Latest time at which the sound was heard, seconds since the epoch."""
    tail_s: float = 0.0
    """Time before `heard` at which the sound may already have ended, seconds; 0 with a time axis."""
    is_told: bool = False
    """Whether its end was published because of `max_s`, although the sound goes on."""


class _Label:
    """Follows one label."""

    def __init__(
        self,
        name: str,
        policy: LabelPolicy,
        new_id: Callable[[float], str],
        labels: Sequence[str],
        sounds_of: Sounds,
    ) -> None:
        """
        Args:
            labels: all of the model.
            sounds_of: as `Decider`.
        """
        self.name, self.policy, self._new_id, self._labels = name, policy, new_id, labels
        self._sounds_of = sounds_of
        self.why: str | None = "nothing heard yet"
        """Why the label is not announced. None: it is."""
        self._candidate: _Candidate | None = None
        self._open: _Open | None = None
        self._free = -math.inf
        """No event may begin before this time; the last event or its refractory time covers it."""

    @property
    def is_on(self) -> bool:
        return self._open is not None and not self._open.is_told

    @property
    def is_idle(self) -> bool:
        """Whether a window whose score is below `enter` changes nothing."""
        return self._open is None and self._candidate is None

    def update(self, scores: Scores, column: int) -> list[Event]:
        """Events that this window ends and begins: at most one end and one begin."""
        value = float(scores.values[column])
        events = self._follow(self._open, value, scores, column) if self._open is not None else []
        if self._open is None:
            events += self._confirm(value, scores, column)
        return events

    def set_policy(self, policy: LabelPolicy) -> None:
        """Decides by another policy from the next window on; an open event stays open."""
        self.policy = policy

    def interrupt(self) -> None:
        """Drops the candidate that waits to be confirmed."""
        self._candidate = None

    def settle(self, first: float, now: float) -> list[Event]:
        """Called at the end of a stream that was too short to confirm. Begins an event if all windows were at `enter`.

        Args:
            first: end of the stream's first window.
        """
        candidate = self._candidate
        is_whole = candidate is not None and candidate.since <= first and self._is_long(candidate)
        return [self._begin(candidate, now)] if candidate is not None and is_whole else []

    def memory(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        return {
            "free": self._free,
            "candidate": self._candidate and asdict(self._candidate),
            "open": self._open and asdict(self._open),
        }

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Goes on with what another has remembered."""
        candidate, event = memory["candidate"], memory["open"]
        self._free = memory["free"]
        self._candidate = candidate and _Candidate(**candidate)
        self._open = event and _Open(**{**event, "begin": Event(**event["begin"])})

    def end(self) -> list[Event]:
        """Ends the open event. Called when the stream is over or the label is denied."""
        self.interrupt()
        event, self._open = self._open, None
        return [self._end(event)] if event is not None and not event.is_told else []

    def _confirm(self, value: float, scores: Scores, column: int) -> list[Event]:
        now, earlier = scores.end_time, self._candidate
        sounds = self._sounds_of(scores, column, self.policy, self._free) if value >= self.policy.enter else []
        if not sounds:
            self.interrupt()
            self.why = self.why_not(value, scores, column)
            return []
        sound = sounds[-1]
        onset = min(earlier.onset, sound.onset) if earlier is not None and sound.is_cut else sound.onset
        since = now if earlier is None else earlier.since
        self._candidate = _Candidate(since, onset, sound.offset, value, _tail_s(scores, column))
        is_whole = not sound.is_cut and sound.offset <= now - _REST_SECONDS
        self.why = self._lacks(
            self._candidate, now, is_sure=is_whole and self.policy.sure < 1 and value >= self.policy.sure
        )
        return [] if self.why else [self._begin(self._candidate, now)]

    def _lacks(self, candidate: _Candidate, now: float, is_sure: bool) -> str | None:
        rules, confirmed = self.policy, now - candidate.since
        if confirmed < rules.confirm_s - _ROUNDING and not is_sure:
            return f"confirming {confirmed:.1f} of {rules.confirm_s:.1f} s"
        if not self._is_long(candidate):
            return f"lasted {candidate.offset - candidate.onset:.1f} of {rules.min_s:.1f} s"
        return None

    def _is_long(self, candidate: _Candidate) -> bool:
        return candidate.offset - candidate.onset >= self.policy.min_s - _ROUNDING

    def _begin(self, candidate: _Candidate, now: float) -> Event:
        score = candidate.score
        begin = Event("begin", self._new_id(now), self.name, score, score, candidate.onset)
        self._open, self.why = _Open(begin, score, score, candidate.offset, candidate.tail_s), None
        self.interrupt()
        return begin

    def _follow(self, event: _Open, value: float, scores: Scores, column: int) -> list[Event]:
        rules, now = self.policy, scores.end_time
        if value >= rules.exit:
            for sound in self._sounds_of(scores, column, rules, -math.inf):
                if sound.onset - event.heard < rules.merge_s:
                    event.heard, event.tail_s = max(event.heard, sound.offset), _tail_s(scores, column)
        if not math.isnan(value):
            event.score, event.peak_score = value, max(event.peak_score, value)
        has_stopped = now - event.heard >= rules.merge_s - _ROUNDING
        is_long = event.heard - event.begin.onset >= rules.max_s
        tail_s = event.tail_s if has_stopped else 0.0
        events = [self._end(event, tail_s)] if not event.is_told and (has_stopped or is_long) else []
        if events:
            self.why = f"longer than {rules.max_s:g} s, and has not stopped"
        if has_stopped:
            self._free, self._open = max(self._free, event.heard + rules.merge_s), None
        return events

    def _end(self, event: _Open, tail_s: float = 0.0) -> Event:
        rules, begin = self.policy, event.begin
        heard = max(event.heard - tail_s, min(begin.onset + _NEW_SECONDS, event.heard))
        offset = min(heard, begin.onset + rules.max_s)
        # Later windows still hold this sound. What they show within `merge_s` is the same event, not a new one.
        self._free = max(event.heard + rules.merge_s, offset + rules.refractory_s)
        self.why, event.is_told = "has just ended", True
        return replace(begin, type="end", score=event.score, peak_score=event.peak_score, offset=offset)

    def why_not(self, value: float, scores: Scores, column: int) -> str:
        """Why a window neither begins an event nor confirms one."""
        enter = self.policy.enter
        if not value >= enter:
            other = scores.other_of(column)
            if scores.plain is None or not other or not float(scores.plain[column]) >= enter:
                return f"below enter {enter:.2f}"
            return f"rather {other}" + ("" if other in self._labels else ", which is none of the labels")
        if scores.end_time < self._free:
            return f"refractory {self._free - scores.end_time:.1f} s left"
        if self._sounds_of(scores, column, self.policy, -math.inf):
            return "still in the window, but its event has ended"
        return "at no moment of the window"


class Decider:
    """Follows one stream. Every begin is followed by exactly one end with the same id; events of a label never overlap.

    An event begins when a label's score has been at least `enter` for `confirm_s`, or is at least `sure` in a window in
    which the sound begins and ends. It ends when its sound has not been
    heard for `merge_s`: the score is below `exit`, or the newest part of the window no longer holds the sound. Onset
    and offset come from the network's own time axis, not from the time of the decision. See `LabelPolicy`.
    """

    def __init__(
        self,
        policy: Policy,
        new_id: Callable[[float], str] = new_id,
        sounds: Sounds | None = None,
    ) -> None:
        """
        Args:
            new_id: makes an event's id from the time of the decision, seconds since the epoch.
            sounds: finds what `sounds_of` does; by one that remembers, several deciders share its work.
        """
        self.policy, self._new_id, self._sounds_of = policy, new_id, sounds or sounds_of
        self._joined: set[str] = set()
        """Ids of open events of other labels than the network's."""
        self._groups: list[_Group]
        self._heard_until: float
        self._first: float | None
        """End of the stream's first window."""
        self._forget()

    def update(self, scores: Scores) -> list[Event]:
        """Events that begin or end with this window. Ends come before begins, and labels in order before groups."""
        events = []
        if scores.end_time < self._heard_until - _SET_BACK_SECONDS:
            events = self.close()
            self._forget()
        if scores.time > self._heard_until + _ROUNDING:
            for label in self._labels.values():
                label.interrupt()
        self._heard_until = scores.end_time
        self._first = scores.end_time if self._first is None else self._first
        found = [event for column in self._concerned(scores) for event in self._update(column, scores)]
        return events + sorted(self._with_groups(found), key=lambda event: event.type == "begin")

    @property
    def is_idle(self) -> bool:
        """Whether windows in which no score reaches `enter` change nothing."""
        return not self._busy

    @property
    def active(self) -> tuple[str, ...]:
        """Labels and groups whose event is open."""
        labels = [self._each[column].name for column in sorted(self._busy) if self._each[column].is_on]
        return (*labels, *(group.name for group in self._groups if group.event is not None))

    def answers(self, scores: Scores, k: int) -> tuple[tuple[LabelScore, ...], str | None]:
        """The `k` highest scores, each with the reason why its label is not announced; and why no label is.

        Args:
            scores: those of the last `update`.

        Returns:
            The answers; and the reason for the highest score, or None if any event is open.
        """
        best = tuple(
            LabelScore(label, score, self._why(label, score, scores))
            for label, score in top(scores.values, self.policy.labels, k)
        )
        return best, None if self.active else f"{best[0].label}: {best[0].why}"

    def set_policy(self, policy: Policy) -> list[Event]:
        """Decides by another policy of the same labels from the next window on.

        Returns:
            Ends of the open events whose label is now denied, or whose group is gone or has other labels.
        """
        if policy.labels != self.policy.labels:
            raise ValueError("a policy of other labels")
        ends = []
        for name, rules in zip(policy.labels, policy.each, strict=True):
            label = self._labels[name]
            label.set_policy(rules)
            if name in policy.denied:
                ends += label.end()
        ends = self._with_groups(ends)
        kept = {group.name: group for group in self._groups if policy.groups.get(group.name) == group.labels}
        for group in self._groups:
            if group.name not in kept:
                ends += group.end()
        self._groups = [kept.get(name) or _Group(name, labels, self._new_id) for name, labels in policy.groups.items()]
        self.policy, self._enter = policy, _enter(policy)
        return ends

    def join(self, events: Sequence[Event]) -> list[Event]:
        """Those of these events of other labels than the network's that are announced, and those of groups that they
        begin or end.
        """
        announced = []
        for event in events:
            if event.type == "begin" and event.label not in self.policy.denied:
                self._joined.add(event.id)
                announced.append(event)
            elif event.type == "end" and event.id in self._joined:
                self._joined.discard(event.id)
                announced.append(event)
        return self._with_groups(announced)

    def close(self) -> list[Event]:
        """Ends open events when the stream is over or interrupted. The offset is when the sound was last heard.

        If the stream was too short to confirm anything, a sound that was in all of it begins and ends here.
        """
        labels, first, self._first = self._labels.values(), self._first, None
        begun = [] if first is None else [each for label in labels for each in label.settle(first, self._heard_until)]
        return self._with_groups(begun) + self._with_groups([event for label in labels for event in label.end()])

    def memory(self) -> dict[str, Any]:
        """What it remembers of its stream, as JSON, for another one of the same policy that goes on from there
        (`remember`). Groups, and events of other labels, are left out.
        """
        labels = [label.memory() for label in self._each]
        return {"until": self._heard_until, "first": self._first, "labels": labels}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Goes on with what another decider has remembered."""
        self._heard_until, self._first = memory["until"], memory["first"]
        for column, (label, own) in enumerate(zip(self._each, memory["labels"], strict=True)):
            label.remember(own)
            if not label.is_idle:
                self._busy.add(column)

    def _concerned(self, scores: Scores) -> list[int]:
        """Columns of the labels that this window can change: of most labels the score is low, and nothing is open."""
        heard = np.flatnonzero(scores.values >= self._enter)
        return sorted(self._busy.union(heard.tolist()))

    def _update(self, column: int, scores: Scores) -> list[Event]:
        label = self._each[column]
        events = [] if label.name in self.policy.denied else label.update(scores, column)
        (self._busy.discard if label.is_idle else self._busy.add)(column)
        return events

    def _why(self, name: str, score: float, scores: Scores) -> str | None:
        """Why a label is not announced after its last update, with these scores."""
        if name in self.policy.denied:
            return "not allowed" if name in self.policy.not_allowed else "denied"
        label = self._labels[name]
        if label.is_idle and not score >= label.policy.enter:  # it was not asked
            return label.why_not(score, scores, self.policy.labels.index(name))
        return label.why

    def _forget(self) -> None:
        policy = self.policy
        labels = zip(policy.labels, policy.each, strict=True)
        self._labels = {
            name: _Label(name, rules, self._new_id, policy.labels, self._sounds_of) for name, rules in labels
        }
        self._each = tuple(self._labels.values())
        self._busy: set[int] = set()
        """Columns of all labels that are not idle, and maybe of others."""
        self._enter = _enter(policy)
        self._groups = [_Group(name, members, self._new_id) for name, members in policy.groups.items()]
        self._heard_until, self._first = -math.inf, None

    def _with_groups(self, events: list[Event]) -> list[Event]:
        now = max([self._heard_until, *(event.onset for event in events)])
        return [*events, *(event for group in self._groups for event in group.update(events, now))]


class _Group:
    """Follows one group: it has an event while any of its labels has one."""

    def __init__(self, name: str, members: Sequence[str], new_id: Callable[[float], str]) -> None:
        self.name, self.labels, self._new_id = name, tuple(members), new_id
        self.event: Event | None = None
        self._open: set[str] = set()
        self._peak, self._offset = 0.0, -math.inf

    def update(self, events: Sequence[Event], now: float) -> list[Event]:
        """
        Args:
            events: events of labels. A label's end comes before its next begin.
        """
        mine = [event for event in events if event.label in self.labels]
        if self.event is None:  # an end here belongs to an event from before this group was made
            mine = [event for event in mine if event.type == "begin"]
        before = self._offset
        for event in mine:
            (self._open.add if event.type == "begin" else self._open.discard)(event.label)
            self._peak = max(self._peak, event.peak_score)
            self._offset = max(self._offset, event.onset if event.offset is None else event.offset)
        if self.event is None and self._open:
            first = min(mine, key=lambda event: event.onset)
            onset = max(first.onset, before)
            self.event = Event("begin", self._new_id(now), self.name, first.score, self._peak, onset)
            return [self.event]
        return self._ended(mine[-1].score) if self.event is not None and not self._open else []

    def end(self) -> list[Event]:
        """Ends the group's event. Called when the group was removed."""
        self._open.clear()
        return self._ended(self.event.score) if self.event is not None else []

    def _ended(self, score: float) -> list[Event]:
        assert self.event is not None
        end = replace(self.event, type="end", score=score, peak_score=self._peak, offset=self._offset)
        self.event, self._peak = None, 0.0
        return [end]


def _enter(policy: Policy) -> NDArray[np.float64]:
    """[labels]"""
    return np.array([rules.enter for rules in policy.each], np.float64)


def sounds_of(scores: Scores, column: int, rules: LabelPolicy, free: float) -> list[Sound]:
    """Parts of a window in which a label is heard after the time `free`, in order.

    Of a label without a time axis, the end of the window.
    """
    if not _has_axis(scores, column):
        is_first = scores.start_s <= 0  # nothing says that it began in this window's end
        onset = max(scores.time, scores.time if is_first else scores.end_time - _NEW_SECONDS, free)
        return [Sound(onset, scores.end_time, is_cut=True)] if onset < scores.end_time else []
    times = scores.step_times
    count = int(np.searchsorted(times, scores.end_time, "right"))  # later steps are padding
    activity = scores.activity[column, :count]
    floor = max(min(ACTIVE_LEAST, rules.enter), ACTIVE_SHARE * float(activity.max(initial=0.0)))
    sounds: list[Sound] = []
    for first, last in _runs(np.flatnonzero((activity >= floor) & (times[:count] > free)).tolist()):
        onset, offset = scores.time, scores.end_time
        if first > 0:
            onset = float(times[first]) - scores.step_s * _beyond(activity[first], activity[first - 1], floor)
        if last + 1 < count:
            offset = float(times[last]) + scores.step_s * _beyond(activity[last], activity[last + 1], floor)
        sound = Sound(max(onset, free), offset, first == 0)
        if sounds and sound.onset - sounds[-1].offset < rules.merge_s:
            sound = replace(sounds.pop(), offset=sound.offset)
        sounds.append(sound)
    return sounds


def _runs(steps: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other, of ascending ones. Of a few, numpy takes longer.

    >>> _runs([2, 3, 4, 7, 9, 10])
    [(2, 4), (7, 7), (9, 10)]
    """
    found: list[tuple[int, int]] = []
    for step in steps:
        if found and step == found[-1][1] + 1:
            found[-1] = found[-1][0], step
        else:
            found.append((step, step))
    return found


def _has_axis(scores: Scores, column: int) -> bool:
    return not math.isnan(scores.activity[column, 0])


def _tail_s(scores: Scores, column: int) -> float:
    """Time at the end of a window in which its sound may be over already, seconds; 0 with a time axis."""
    return 0.0 if _has_axis(scores, column) else max(0.0, scores.duration_s - _NEW_SECONDS)


def _beyond(inside: float, outside: float, floor: float) -> float:
    """Where between a step and its neighbour the activity falls to the floor, as a fraction of a step, 0 to 1."""
    return float((inside - floor) / (inside - outside)) if outside < floor else 1.0
