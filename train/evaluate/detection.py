"""Measures of events against the sounds of a stream: found, missed, false, late.

Three questions need three rules of which event belongs to which sound:

- Event-based F1 is sed_eval's, and only sed_eval's: a number that others can compare with is made by the tool that
  others use. A sound and an event match if their onsets (and offsets) are within a collar; as many pairs as possible.
- A false alarm (`belongs`) has no sound of its label near or under it. Pairs do not matter: a second event on one sound
  is not a false alarm, though it lowers sed_eval's precision.
- An announcement (`_paired`) is judged as a listener does, in order of time: a sound's event may begin up to a window's
  length after it. sed_eval has no such measure, and its collars are too narrow for delays.
"""

import functools
import importlib.util
import statistics
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from train.evaluate import metrics
from train.evaluate.metrics import Predictions
from train.evaluate.soundscape import Annotation

COLLARS_S = (0.5, 1.0)
"""Largest distances of the onsets of a sound and its event, seconds."""
LENGTH_SHARE = 0.2
"""Where the offset counts too, its largest error is the collar or this share of the sound's length, if that is more."""
BEFORE_S = 1.0
"""Longest time that a sound's event may precede it, seconds."""


@dataclass(frozen=True)
class Found:
    """An event, as it was published. Times are seconds from the beginning of the stream."""

    label: str
    onset_s: float
    offset_s: float
    score: float
    published_s: float
    """When its begin event was published."""


Streams = Mapping[str, tuple[Sequence[Annotation], Sequence[Found], float]]
"""By name: the stream's sounds, the events found in it, and its length, seconds."""
Points = Mapping[float, Mapping[str, Sequence[Found]]]
"""Events, by threshold and by the stream's name."""
_Event = TypeVar("_Event", Annotation, Found)


@dataclass(frozen=True)
class Counts:
    """Numbers of sounds, of events, and of matching pairs."""

    truth: int
    found: int
    right: int

    @property
    def precision(self) -> float | None:
        """None: there is no event."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """None: there is no sound."""
        return self.right / self.truth if self.truth else None

    @property
    def f1(self) -> float | None:
        """None: there is no sound and no event."""
        return 2 * self.right / (self.truth + self.found) if self.truth + self.found else None


@dataclass(frozen=True)
class EventBased:
    """The event-based measure of Mesaros et al., "Metrics for Polyphonic Sound Event Detection" (2016)."""

    collar_s: float
    with_offset: bool
    """Whether the offsets must match, too (`LENGTH_SHARE`)."""
    by_label: Mapping[str, Counts]
    """Labels that occur in sounds or events."""

    @property
    def micro(self) -> Counts:
        """Counts over all labels."""
        every = self.by_label.values()
        return Counts(sum(c.truth for c in every), sum(c.found for c in every), sum(c.right for c in every))

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 over the labels that have sounds. None: there are no sounds."""
        return _mean(counts.f1 for counts in self.by_label.values() if counts.truth)

    def to_document(self) -> dict[str, Any]:
        return {
            "collar_s": self.collar_s,
            "with_offset": self.with_offset,
            "micro": _document(self.micro),
            "macro_f1": self.macro_f1,
            "by_label": {label: _document(counts) for label, counts in self.by_label.items()},
        }


def _document(counts: Counts) -> dict[str, Any]:
    return {**asdict(counts), "precision": counts.precision, "recall": counts.recall, "f1": counts.f1}


@dataclass(frozen=True)
class Spread:
    """Distribution of signed times, seconds. All but the count are None if there are none."""

    count: int
    median_s: float | None
    median_abs_s: float | None
    p90_s: float | None
    """The 90th percentile."""
    p90_abs_s: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        if not seconds:
            return cls(0, None, None, None, None)
        signed, distance = np.array(seconds), np.abs(seconds)
        return cls(
            len(seconds),
            float(np.median(signed)),
            float(np.median(distance)),
            float(np.quantile(signed, 0.9)),
            float(np.quantile(distance, 0.9)),
        )


@dataclass(frozen=True)
class Announced:
    """Which sounds were announced by their own label, and when.

    A sound is announced if an event of its label is on between `BEFORE_S` before the sound and a window's length after
    it, or until `BEFORE_S` before the next sound of that label, if that comes first. Each event is paired with at most
    one sound; a second sound during one long event is announced, but has no delay.
    """

    by_label: Mapping[str, tuple[int, int]]
    """Numbers of announced sounds and of sounds."""
    delay: Spread
    """From onset to publication, over pairs of a sound and an event; so are the next two."""
    onset_error: Spread
    """The event's onset minus the sound's; positive: too late."""
    offset_error: Spread

    @property
    def recall(self) -> float | None:
        """Share of sounds that were announced, 0 to 1. None: there are no sounds."""
        sounds = sum(truth for _, truth in self.by_label.values())
        return sum(heard for heard, _ in self.by_label.values()) / sounds if sounds else None

    def to_document(self) -> dict[str, Any]:
        return {
            "recall": self.recall,
            "by_label": {
                label: {"announced": announced, "truth": truth} for label, (announced, truth) in self.by_label.items()
            },
            "delay": asdict(self.delay),
            "onset_error": asdict(self.onset_error),
            "offset_error": asdict(self.offset_error),
        }


@dataclass(frozen=True)
class Point:
    """False alarms and missed sounds at one threshold."""

    threshold: float
    false_alarms_per_hour: float
    missed: float
    """Share of sounds that were not announced, 0 to 1."""


@dataclass(frozen=True)
class Scenario:
    """Scenario of the polyphonic sound detection score: what counts as found, and what false alarms cost."""

    detection_tolerance: float
    """Least share of an event that overlaps sounds of its label."""
    truth_intersection: float
    """Least share of a sound that such events cover."""
    cross_trigger_tolerance: float
    """Least share of a false event on sounds of another label that makes it a cross-trigger of that label."""
    cross_trigger_cost: float
    instability_cost: float = 1.0
    most_per_hour: float = 100.0
    """Most false events of a label per hour; the score is a mean over rates from 0 to this."""


FAST = Scenario(0.7, 0.7, 0.0, 0.0)
"""DCASE's scenario 1: react quickly, so onset and offset matter. Cross-triggers cost nothing."""
RIGHT = Scenario(0.1, 0.1, 0.3, 0.5)
"""DCASE's scenario 2: do not confuse labels."""


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error of windows' scores, 0 to 1: `train.evaluate.metrics.calibration_error`."""

    highest: float
    """Error of each window's highest score, against whether that label sounds."""
    all: float
    """Error of every score. Most scores are easy: their labels do not sound."""


@dataclass(frozen=True)
class Detection:
    """All measures. `to_document` is for JSON."""

    hours: float
    sounds: int
    events: int
    event_based: tuple[EventBased, ...]
    announced: Announced
    false_alarms: Mapping[str, int]
    """Number of events, by label, that belong to no sound (`belongs`)."""
    psds1: float | None
    psds2: float | None
    curve: tuple[Point, ...]
    """One point for each threshold, lowest first."""
    calibration: Calibration | None

    @property
    def false_alarms_per_hour(self) -> float:
        return sum(self.false_alarms.values()) / self.hours

    def to_document(self) -> dict[str, Any]:
        return {
            "hours": self.hours,
            "sounds": self.sounds,
            "events": self.events,
            "event_based": [each.to_document() for each in self.event_based],
            "announced": self.announced.to_document(),
            "false_alarms_per_hour": self.false_alarms_per_hour,
            "false_alarms_per_hour_by_label": {label: n / self.hours for label, n in self.false_alarms.items()},
            "psds1": self.psds1,
            "psds2": self.psds2,
            "curve": [asdict(point) for point in self.curve],
            "calibration": self.calibration and asdict(self.calibration),
        }


def evaluate(
    streams: Streams, window_s: float, points: Points | None = None, calibrated: Calibration | None = None
) -> Detection:
    """All measures of some streams.

    Args:
        streams: with the events at the threshold that is used.
        window_s: the network's window, seconds: longest time after a sound in which it may be announced.
        points: events at several thresholds. None: there is no curve and no PSDS.

    Raises:
        ValueError: no stream has any length.
    """
    hours = _hours(streams)
    return Detection(
        hours,
        sum(len(truth) for truth, _, _ in streams.values()),
        sum(len(found) for _, found, _ in streams.values()),
        tuple(event_based(streams, collar, offset) for collar in COLLARS_S for offset in (False, True)),
        announced(streams, window_s),
        false_alarms(streams),
        psds(streams, points, FAST) if points else None,
        psds(streams, points, RIGHT) if points else None,
        curve(streams, points, window_s) if points else (),
        calibrated,
    )


def event_based(streams: Streams, collar_s: float, with_offset: bool) -> EventBased:
    """Counts of sed_eval's `EventBasedMetrics`: the largest number of pairs of a sound and an event."""
    measure = _sed_eval().sound_event.EventBasedMetrics
    counts: dict[str, Counts] = {}
    for label in _labels(streams):
        # One label at a time: sed_eval compares every sound with every event, whatever their labels.
        of_label = measure(
            [label], evaluate_offset=with_offset, t_collar=float(collar_s), percentage_of_length=LENGTH_SHARE
        )
        for truth, found, _ in streams.values():
            of_label.evaluate(_rows(truth, label), _rows(found, label))
        got = of_label.class_wise[label]
        counts[label] = Counts(int(got["Nref"]), int(got["Nsys"]), int(got["Ntp"]))
    return EventBased(collar_s, with_offset, counts)


def _rows(events: Iterable[Annotation | Found], label: str) -> list[dict[str, Any]]:
    return [
        {"event_label": label, "event_onset": each.onset_s, "event_offset": each.offset_s}
        for each in events
        if each.label == label
    ]


@functools.cache
def _sed_eval() -> Any:
    """Imports sed_eval. Its dcase_util imports `pkg_resources`, which setuptools 82 lacks, for things not used here."""
    stands_in = importlib.util.find_spec("pkg_resources") is None
    if stands_in:
        sys.modules["pkg_resources"] = ModuleType("pkg_resources")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from old libraries
            import sed_eval
    finally:
        if stands_in:
            del sys.modules["pkg_resources"]
    return sed_eval


def false_alarms(streams: Streams, collar_s: float = max(COLLARS_S)) -> dict[str, int]:
    """Number of events, by label, that belong to no sound of their label (`belongs`).

    Labels that occur in sounds or events, in order of their names.
    """
    counts: Counter[str] = Counter()
    for truth, found, _ in streams.values():
        sounds = _by_label(truth)
        for label, events in _by_label(found).items():
            counts[label] += sum(
                not any(belongs(event, sound, collar_s) for sound in sounds[label]) for event in events
            )
    return {label: counts[label] for label in _labels(streams)}


def belongs(event: Found, sound: Annotation, collar_s: float = max(COLLARS_S)) -> bool:
    """Whether an event of the sound's label overlaps it, or begins within the collar of its onset."""
    overlap = event.onset_s < sound.offset_s and sound.onset_s < event.offset_s
    return overlap or abs(event.onset_s - sound.onset_s) <= collar_s


def announced(streams: Streams, window_s: float) -> Announced:
    """Which sounds were announced by their own label, how late, and with what errors of time."""
    results = [each for truth, found, _ in streams.values() for each in _paired(truth, found, window_s)]
    sounds, heard = (
        Counter(sound.label for sound, is_announced, _ in results if is_announced or not only) for only in (False, True)
    )
    pairs = [(sound, event) for sound, _, event in results if event is not None]
    return Announced(
        {label: (heard[label], sounds[label]) for label in sorted(sounds)},
        Spread.of([event.published_s - sound.onset_s for sound, event in pairs]),
        Spread.of([event.onset_s - sound.onset_s for sound, event in pairs]),
        Spread.of([event.offset_s - sound.offset_s for sound, event in pairs]),
    )


def _paired(
    truth: Sequence[Annotation], found: Sequence[Found], window_s: float
) -> list[tuple[Annotation, bool, Found | None]]:
    """Each sound, whether it was announced, and its event: the first of its label that no earlier sound has."""
    results: list[tuple[Annotation, bool, Found | None]] = []
    of_label = _by_label(found)
    for label, sounds in sorted(_by_label(truth).items()):
        events = of_label[label]
        ends = [sound.onset_s - BEFORE_S for sound in sounds[1:]] + [float("inf")]
        free = events.copy()
        for sound, end in zip(sounds, ends, strict=True):
            first, last = sound.onset_s - BEFORE_S, max(sound.offset_s, min(end, sound.offset_s + window_s))
            event = next((each for each in free if each.onset_s <= last and each.offset_s >= first), None)
            if event is not None:
                free.remove(event)
            heard = event is not None or any(each.onset_s <= last and each.offset_s >= first for each in events)
            results.append((sound, heard, event))
    return results


def curve(streams: Streams, points: Points, window_s: float) -> tuple[Point, ...]:
    """False alarms against missed sounds, lowest threshold first: a DET curve (Martin et al., 1997).

    Raises:
        ValueError: there is no sound.
    """
    hours = _hours(streams)
    found = []
    for threshold in sorted(points):
        at = _at(streams, points[threshold])
        recall = announced(at, window_s).recall
        if recall is None:
            raise ValueError("a curve needs sounds that can be missed")
        found.append(Point(threshold, sum(false_alarms(at).values()) / hours, 1 - recall))
    return tuple(found)


def psds(streams: Streams, points: Points, scenario: Scenario) -> float | None:
    """The polyphonic sound detection score, 0 to 1, as psds_eval 0.5.3 computes it without interpolation.

    Bilen et al., "A Framework for the Robust Evaluation of Sound Event Detection" (ICASSP 2020), section 3. Events of
    labels without sounds do not count. None: there are no sounds.
    """
    labels = sorted({sound.label for truth, _, _ in streams.values() for sound in truth})
    if not labels:
        return None
    rates = [_rates(_at(streams, found), labels, scenario) for found in points.values()]
    # [labels, points + 1]: the first column is a threshold above all scores, with no events.
    false = np.stack([np.zeros(len(labels)), *(each[1] for each in rates)], 1)
    true = np.stack([np.zeros(len(labels)), *(each[0] for each in rates)], 1)
    edges = np.unique(np.append(false[false < scenario.most_per_hour], scenario.most_per_hour))
    best = np.where(false[:, None] <= edges[:-1, None], true[:, None], 0).max(2)  # [labels, edges - 1]
    effective = np.maximum(best.mean(0) - scenario.instability_cost * best.std(0), 0)
    return float(effective @ np.diff(edges) / scenario.most_per_hour)


def _rates(
    streams: Streams, labels: Sequence[str], scenario: Scenario
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of sounds found, and effective false events per hour, [labels] each."""
    n = len(labels)
    sounds, right, false, sounding_s = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    crossed = np.zeros((n, n))  # false events of a label (row) on sounds of another (column)
    number = {label: i for i, label in enumerate(labels)}
    for truth, found, _ in streams.values():
        events = [event for event in found if event.label in number and event.offset_s > event.onset_s]
        of_event, event_on, event_off = _columns(events, number)
        of_sound, on, off = _columns(truth, number)
        shared = np.minimum(event_off[:, None], off) - np.maximum(event_on[:, None], on)
        shared = np.maximum(shared, 0)  # [events, sounds], seconds
        # [events, labels], share of the event that lies on sounds of each label.
        on_label = shared @ np.eye(n)[of_sound] / (event_off - event_on)[:, None]
        own = np.eye(n, dtype=bool)[of_event]
        good = on_label[own] >= scenario.detection_tolerance
        covered = (shared * (good[:, None] & (of_event[:, None] == of_sound))).sum(0)
        np.add.at(sounds, of_sound, 1)
        np.add.at(sounding_s, of_sound, off - on)
        np.add.at(right, of_sound, (covered > 0) & (covered >= scenario.truth_intersection * (off - on)))
        np.add.at(false, of_event, ~good)
        blamed = (on_label > 0) & (on_label >= scenario.cross_trigger_tolerance) & ~own & ~good[:, None]
        np.add.at(crossed, of_event, blamed)
    others = (crossed / sounding_s).sum(1) / max(n - 1, 1) * 3600
    return right / sounds, false / _hours(streams) + scenario.cross_trigger_cost * others


def _columns(
    events: Sequence[Annotation | Found], number: Mapping[str, int]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of the labels, onsets and offsets, [N] each."""
    return (
        np.array([number[each.label] for each in events], np.intp),
        np.array([each.onset_s for each in events], float),
        np.array([each.offset_s for each in events], float),
    )


def calibration(scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> Calibration:
    """Calibration errors of windows' scores.

    Args:
        scores: [windows, labels], 0 to 1.
        truth: [windows, labels], whether each label sounds in each window.

    Raises:
        ValueError: there is no window, or the shapes differ.
    """
    if scores.shape != truth.shape:
        raise ValueError(f"scores {scores.shape} do not go with truth {truth.shape}")
    said = scores.argmax(1)[:, None]
    highest = _calibration_error(np.take_along_axis(scores, said, 1), np.take_along_axis(truth, said, 1))
    return Calibration(highest, _calibration_error(scores, truth))


def _calibration_error(scores: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    """Calibration error with each score as the confidence in a label of its own, which is right or wrong."""
    confidence = scores.reshape(-1).astype(np.float32)
    targets = np.where(right.reshape(-1), 0, 1).astype(np.int64)
    n = len(targets)
    both = np.stack([confidence, np.zeros_like(confidence)], 1)
    predictions = Predictions(("right", "wrong"), both, targets, ("",) * n, np.zeros(n, np.int64))
    return metrics.calibration_error(predictions)


def _at(streams: Streams, found: Mapping[str, Sequence[Found]]) -> Streams:
    """The same streams with the events at another threshold."""
    return {name: (truth, found.get(name, ()), duration) for name, (truth, _, duration) in streams.items()}


def _labels(streams: Streams) -> list[str]:
    """Labels of sounds and events, sorted."""
    occur = {sound.label for truth, _, _ in streams.values() for sound in truth}
    return sorted(occur.union(event.label for _, found, _ in streams.values() for event in found))


def _by_label(events: Iterable[_Event]) -> defaultdict[str, list[_Event]]:
    """Each label's sounds or events, by onset."""
    found: defaultdict[str, list[_Event]] = defaultdict(list)
    for event in sorted(events, key=lambda each: each.onset_s):
        found[event.label].append(event)
    return found


def _hours(streams: Streams) -> float:
    hours = sum(duration for _, _, duration in streams.values()) / 3600
    if not hours:
        raise ValueError("there is no stream, or none has any length")
    return hours


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
