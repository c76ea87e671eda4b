"""Measures of events against the sounds of a stream: found, missed, false, late.

Three questions need three rules of which event belongs to which sound:

- Event-based F1 (`event_based`) is sed_eval's, so that others can compare with it. A sound and an event match if
  their onsets (and offsets) are within a collar; as many pairs as possible.
- A false alarm (`belongs`) has no sound of its label near or under it. Pairs do not matter: a second event on one sound
  is not a false alarm, though it lowers sed_eval's precision.
- An announcement (`paired`) is judged as a listener does, in order of time: a sound's event may begin up to a window's
  length after it. sed_eval has no such measure, and its collars are too narrow for delays.

The sounds and events are described in `found`. Event-based F1 and the polyphonic sound detection score are computed in
modules of their own, `event_based` and `psds`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.evaluate import metrics
from train.evaluate.event_based import EventBased, event_based
from train.evaluate.found import Found, Points, Streams, at_threshold, by_label, hours_of, labels_in
from train.evaluate.predictions import Predictions
from train.evaluate.psds import FAST, RIGHT, psds
from train.evaluate.soundscape import Annotation

COLLARS_S = (0.5, 1.0)
"""Largest distances of the onsets of a sound and its event, seconds."""
BEFORE_S = 1.0
"""Longest time that a sound's event may precede it, seconds."""


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
    hours = hours_of(streams)
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


def false_alarms(streams: Streams, collar_s: float = max(COLLARS_S)) -> dict[str, int]:
    """Number of events, by label, that belong to no sound of their label (`belongs`).

    Labels that occur in sounds or events, in order of their names.
    """
    counts: Counter[str] = Counter()
    for truth, found, _ in streams.values():
        sounds = by_label(truth)
        for label, events in by_label(found).items():
            counts[label] += sum(
                not any(belongs(event, sound, collar_s) for sound in sounds[label]) for event in events
            )
    return {label: counts[label] for label in labels_in(streams)}


def belongs(event: Found, sound: Annotation, collar_s: float = max(COLLARS_S)) -> bool:
    """Whether an event of the sound's label overlaps it, or begins within the collar of its onset."""
    overlap = event.onset_s < sound.offset_s and sound.onset_s < event.offset_s
    return overlap or abs(event.onset_s - sound.onset_s) <= collar_s


def announced(streams: Streams, window_s: float) -> Announced:
    """Which sounds were announced by their own label, how late, and with what errors of time."""
    results = [each for truth, found, _ in streams.values() for each in paired(truth, found, window_s)]
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


def paired(
    truth: Sequence[Annotation], found: Sequence[Found], window_s: float
) -> list[tuple[Annotation, bool, Found | None]]:
    """Each sound, whether it was announced, and its event: the first of its label that no earlier sound has."""
    results: list[tuple[Annotation, bool, Found | None]] = []
    of_label = by_label(found)
    for label, sounds in sorted(by_label(truth).items()):
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
    hours = hours_of(streams)
    found = []
    for threshold in sorted(points):
        at = at_threshold(streams, points[threshold])
        recall = announced(at, window_s).recall
        if recall is None:
            raise ValueError("a curve needs sounds that can be missed")
        found.append(Point(threshold, sum(false_alarms(at).values()) / hours, 1 - recall))
    return tuple(found)


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
