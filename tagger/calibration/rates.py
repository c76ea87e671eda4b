"""Rates of false alarms: counted in recordings, and extrapolated to rates that the recordings are too short to show.

A recording of ten minutes cannot show one false alarm a day. It shows how fast a label's scores become rarer as they
become higher; the extrapolation continues that trend, with upper limits for its error.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tagger.calibration.tracks import STRETCH_S, ThresholdedPolicy, Track, begins, confirmed

HIGHEST = 0.99
"""Highest threshold that is set; hardly any sound has a higher score."""
SURE = 0.95
"""Confidence of upper limits."""
_GRID = tuple(round(0.01 * step, 2) for step in range(1, 100))
_DRAWS = 20_000
_PRIOR = 5
"""Weight of a prior, in stretches: that of all labels for one label, and that of `_PRIOR_MEAN` for all labels."""
_PRIOR_MEAN = 1.0
"""Mean excess of a stretch before anything is heard, logits."""
_SHARE, _LEAST = 0.1, 10
"""The stretches with the highest scores are the tail: this share of all stretches, and at least this many."""
_RAREST = 121
"""Number of rates that are tried, from 10,000 an hour down in steps of a tenth of a decade."""


@dataclass(frozen=True)
class Tail:
    """Model of a label's rare high scores: how often they exceed `above`, and by how much.

    Peaks over threshold (Davison and Smith 1990, J. R. Stat. Soc. B 52), with exponential excesses, on the logit: the
    excess of a stretch's highest confirmed score over `above` is taken as exponential with mean s. On 3.4 h of speech
    and music, s is 0.2 to 1.8 for ESC-50's labels, and the standard deviation mostly 0.6 to 1.3 of it (exponential: 1;
    less is a lighter tail). 1/s has a gamma prior worth `_PRIOR` stretches of all labels, so that a single excess does
    not decide alone.
    """

    above: float
    """Where the tail begins, logit."""
    count: int
    """Stretches whose score is beyond `above`."""
    shape: float
    """Shape of the gamma posterior of 1/s: the number of excesses, with those of the prior."""
    scale: float
    """Rate of that posterior: the sum of the excesses, with those of the prior, logits."""
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
    """What the recordings show about one label."""

    rules: ThresholdedPolicy
    hours: float
    enters: tuple[float, ...]
    """Thresholds to choose from, ascending."""
    counts: tuple[int, ...]
    """Events in the recordings at each threshold; at a higher one, where that has more (a pause can split an event)."""
    tail: Tail | None
    """None: the label was never heard."""

    @property
    def now(self) -> float:
        return self.rules.now.enter

    def at(self, enter: float) -> int:
        """Index of a threshold, or of the next lower one, in `enters`, `counts`, `rates` and `limits`."""
        return int(np.searchsorted(self.enters, enter, side="right")) - 1

    def count(self, enter: float) -> int:
        """Events in the recordings at this threshold, or at a higher one."""
        return self.counts[self.at(enter)]

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Expected events per hour at each threshold; 0 for a label that was never heard."""
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
        """Index of the lowest threshold with at most `wish` events per hour. None: there is none.

        A label that was never heard keeps its threshold.

        Args:
            sure: the upper limit must meet the wish, not only the expected rate.
        """
        if self.tail is None:
            return self.at(self.now)
        pairs = zip(self.rates, self.limits if sure else self.rates, strict=True)
        return next((i for i, both in enumerate(pairs) if max(both) <= wish), None)


def weigh(
    recordings: Sequence[Sequence[Track]], rules: Iterable[ThresholdedPolicy], hours: float, lower: bool
) -> list[Evidence]:
    """Counts each label's events at all thresholds and fits the tails.

    Args:
        recordings: for each recording, the tracks of all labels.
        rules: the policy of each label.
        hours: length of all recordings together.
        lower: whether to try thresholds below those in force.
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
    """The lowest thresholds at which no label has more than `each` events per hour, and all together no more than
    `together`.

    A label that no threshold can bring so low gets the highest one, and counts with its share alone. A higher wish
    never gives a higher threshold.
    """
    chosen: list[int] = []
    for step in range(_RAREST):  # all labels get the same share
        share = min(each, 10 ** (4 - step / 10))
        found = [label.lowest(share, sure) for label in evidence]
        chosen = [len(label.enters) - 1 if i is None else i for label, i in zip(evidence, found, strict=True)]
        pairs = [(label, i) for label, i in zip(evidence, chosen, strict=True) if label.tail is not None]
        if sum(min((label.limits if sure else label.rates)[i], share) for label, i in pairs) <= together:
            break
    return [label.enters[i] for label, i in zip(evidence, chosen, strict=True)]


def most(count: int) -> float:
    """Upper limit of the expected count, with confidence SURE, when `count` events were seen.

    For no event it is 3: the rule of three (Hanley and Lippman-Hand 1983, JAMA 249).
    """
    return float(np.quantile(np.random.default_rng(0).gamma(count + 1, size=_DRAWS), SURE))


def logit(score: float) -> float:
    score = min(max(score, 1e-9), 1 - 1e-6)
    return math.log(score / (1 - score))


def _counts(
    tracks: Sequence[Track], rules: ThresholdedPolicy, enters: Sequence[float], highest: float
) -> tuple[int, ...]:
    """Events at each threshold; at a higher one, where that has more."""
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
    """Where the tail of these stretches begins, as a logit, and the excess of each stretch in it."""
    levels = np.sort([logit(level) for level in levels if level > 0])[::-1]
    size = max(_LEAST, round(_SHARE * hours * 3600 / STRETCH_S))
    above = levels[size] if len(levels) > size else logit(least)
    return float(above), levels[:size] - above


def _tail(above: float, excesses: NDArray[np.float64], mean: float, hours: float) -> Tail | None:
    if not len(excesses):
        return None
    return Tail(above, len(excesses), len(excesses) + _PRIOR, float(excesses.sum()) + _PRIOR * mean, hours)
