"""How often will a label be announced wrongly? Counted where it was heard, extrapolated to what is rarer.

A recording of ten minutes cannot show one false alarm a day. What it shows is how fast a label's scores become rarer as
they become higher, and that is drawn out; with how much that may be wrong.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tagger.calibration.tracks import STRETCH_S, ThresholdedPolicy, Track, begins, confirmed

HIGHEST = 0.99
"""No threshold is set above it: hardly a sound reaches more."""
SURE = 0.95
"""Confidence of upper limits."""
_GRID = tuple(round(0.01 * step, 2) for step in range(1, 100))
_DRAWS = 20_000
_PRIOR = 5
"""So many stretches count what is known of a label from others, and so many of others what was known before."""
_PRIOR_MEAN = 1.0
"""Logits by which a stretch exceeds, before anything is heard."""
_SHARE, _LEAST = 0.1, 10
"""Of all stretches, those with the highest scores are the tail: this share, but not fewer than so many."""
_RAREST = 121
"""Wishes that are tried, from 10,000 an hour down in steps of a tenth of a decade."""


@dataclass(frozen=True)
class Tail:
    """How often what is beyond `above` comes, and how far beyond it goes.

    Peaks over threshold (Davison and Smith 1990, J. R. Stat. Soc. B 52), with exponential excesses, on the logit: by
    how much a stretch's highest confirmed score exceeds `above` is taken for exponential with mean s. On 3.4 h of
    speech and music, s is 0.2 to 1.8 for ESC-50's labels, and the deviation mostly 0.6 to 1.3 of it (exponential: 1;
    less is a lighter tail). 1/s has a gamma prior worth `_PRIOR` stretches of all labels, so that one excess is no law.
    """

    above: float
    """Logit."""
    count: int
    """Stretches beyond it."""
    shape: float
    """Of the gamma posterior of 1/s: excesses ..."""
    scale: float
    """... and their sum, both with those of the prior."""
    hours: float

    def rate(self, enter: float) -> float:
        """Expected per hour: exp(-x/s), averaged over the posterior of s, is (1 + x/scale)^-shape."""
        beyond = max(logit(enter) - self.above, 0.0)
        return float(self.count / self.hours * (1 + beyond / self.scale) ** -self.shape)

    def limit(self, enter: float) -> float:
        """Per hour, not exceeded with confidence SURE. At `above` it is Garwood's limit of a count (1936)."""
        beyond = max(logit(enter) - self.above, 0.0)
        return float(np.quantile(self._counts * np.exp(-beyond * self._slopes), SURE) / self.hours)

    @cached_property
    def _counts(self) -> NDArray[np.float64]:
        return np.random.default_rng(0).gamma(self.count + 1, size=_DRAWS)

    @cached_property
    def _slopes(self) -> NDArray[np.float64]:
        return np.random.default_rng(1).gamma(self.shape, size=_DRAWS) / self.scale


@dataclass(frozen=True)
class Evidence:
    """What was heard of one label."""

    rules: ThresholdedPolicy
    hours: float
    enters: tuple[float, ...]
    """Thresholds to choose from, ascending."""
    counts: tuple[int, ...]
    """Events in the recordings at each of them, or at a higher one if there are more (a pause can split an event)."""
    tail: Tail | None
    """None: nothing was heard."""

    @property
    def now(self) -> float:
        return self.rules.now.enter

    def at(self, enter: float) -> int:
        """Where in `enters`, `counts`, `rates` and `limits` this threshold is, or the next below."""
        return int(np.searchsorted(self.enters, enter, side="right")) - 1

    def count(self, enter: float) -> int:
        """Events in the recordings at this threshold, or at a higher one."""
        return self.counts[self.at(enter)]

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Expected events per hour. None are expected of a label of which nothing was heard."""
        return self._each(lambda count: count, lambda tail, enter: tail.rate(enter))

    @cached_property
    def limits(self) -> tuple[float, ...]:
        """Events per hour that are not exceeded with confidence SURE."""
        return self._each(most, lambda tail, enter: tail.limit(enter))

    def _each(self, counted: Callable[[int], float], drawn: Callable[[Tail, float], float]) -> tuple[float, ...]:
        if self.tail is None:
            return (counted(0) / self.hours,) * len(self.enters)
        return tuple(
            max(counted(count) / self.hours if count else 0.0, drawn(self.tail, enter))
            for enter, count in zip(self.enters, self.counts, strict=True)
        )

    def lowest(self, wish: float, sure: bool) -> int | None:
        """The lowest threshold with no more than `wish` events per hour, expected or also at most; None: there is none.

        A label of which nothing was heard stays as it is.
        """
        if self.tail is None:
            return self.at(self.now)
        pairs = zip(self.rates, self.limits if sure else self.rates, strict=True)
        return next((i for i, both in enumerate(pairs) if max(both) <= wish), None)


def weigh(
    recordings: Sequence[Sequence[Track]], rules: Iterable[ThresholdedPolicy], hours: float, lower: bool
) -> list[Evidence]:
    """
    Args:
        recordings: of each, all labels' tracks.
        rules: of each label.
        hours: how long the recordings are, all together.
        lower: look also at thresholds below those that hold now.
    """
    heard = []
    for column, each in enumerate(rules):
        tracks = [tracks[column] for tracks in recordings]
        levels = [confirmed(windows, each) for track in tracks for windows in track.stretches(each.lead_s)]
        least = each.least if lower else each.now.enter
        enters = tuple(sorted({each.now.enter, *(enter for enter in _GRID if least < enter <= HIGHEST)}))
        counts = _counts(tracks, each, enters, max(levels, default=0.0))
        heard.append((each, enters, counts, *_excesses(np.array(levels), each.least, hours)))
    excesses = np.concatenate([excesses for *_, excesses in heard]) if heard else np.zeros(0)
    mean = (_PRIOR * _PRIOR_MEAN + excesses.sum()) / (_PRIOR + len(excesses))
    return [
        Evidence(each, hours, enters, counts, _tail(above, excesses, float(mean), hours))
        for each, enters, counts, above, excesses in heard
    ]


def choose(evidence: Sequence[Evidence], each: float, together: float, sure: bool) -> list[float]:
    """The lowest threshold of each label with which no label has more than `each` events per hour, nor all of them
    more than `together`. A label for which there is none gets the highest, and costs the others its share, no more.
    A higher wish never gives a higher threshold.
    """
    chosen: list[int] = []
    for step in range(_RAREST):  # any label may have as many as any other
        share = min(each, 10 ** (4 - step / 10))
        found = [label.lowest(share, sure) for label in evidence]
        chosen = [len(label.enters) - 1 if i is None else i for label, i in zip(evidence, found, strict=True)]
        pairs = [(label, i) for label, i in zip(evidence, chosen, strict=True) if label.tail is not None]
        if sum(min((label.limits if sure else label.rates)[i], share) for label, i in pairs) <= together:
            break
    return [label.enters[i] for label, i in zip(evidence, chosen, strict=True)]


def most(count: int) -> float:
    """The expected count that so many, or fewer, do not exceed with confidence SURE; of none it is 3: the rule of three
    (Hanley and Lippman-Hand 1983, JAMA 249).
    """
    return float(np.quantile(np.random.default_rng(0).gamma(count + 1, size=_DRAWS), SURE))


def logit(score: float) -> float:
    score = min(max(score, 1e-9), 1 - 1e-6)
    return math.log(score / (1 - score))


def _counts(
    tracks: Sequence[Track], rules: ThresholdedPolicy, enters: Sequence[float], highest: float
) -> tuple[int, ...]:
    """Events at each threshold or, if there are more, at a higher one."""
    counts = np.zeros(len(enters), int)
    reached = [i for i, enter in enumerate(enters) if enter <= highest]
    if reached:
        at = [rules.at(enters[i]) for i in reached]
        level = min(policy.each[0].exit for policy in at)
        for track in tracks:
            for windows in track.passages(level, rules.memory_s):
                counts[reached] += [sum(1 for _ in begins(windows, policy)) for policy in at]
    return tuple(int(count) for count in np.maximum.accumulate(counts[::-1])[::-1])


def _excesses(levels: NDArray[np.float64], least: float, hours: float) -> tuple[float, NDArray[np.float64]]:
    """Where the tail of these stretches begins, as a logit, and by how much each of its stretches exceeds that."""
    levels = np.sort([logit(level) for level in levels if level > 0])[::-1]
    size = max(_LEAST, round(_SHARE * hours * 3600 / STRETCH_S))
    above = levels[size] if len(levels) > size else logit(least)
    return float(above), levels[:size] - above


def _tail(above: float, excesses: NDArray[np.float64], mean: float, hours: float) -> Tail | None:
    if not len(excesses):
        return None
    return Tail(above, len(excesses), len(excesses) + _PRIOR, float(excesses.sum()) + _PRIOR * mean, hours)
