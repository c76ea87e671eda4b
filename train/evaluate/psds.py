"""The polyphonic sound detection score, in DCASE's two scenarios. Other measures of events: `detection`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluate.found import Found, Points, Streams, at_threshold, hours_of
from train.evaluate.soundscape import Annotation


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


def psds(streams: Streams, points: Points, scenario: Scenario) -> float | None:
    """The polyphonic sound detection score, 0 to 1, as psds_eval 0.5.3 computes it without interpolation.

    Bilen et al., "A Framework for the Robust Evaluation of Sound Event Detection" (ICASSP 2020), section 3. Events of
    labels without sounds do not count. None: there are no sounds.
    """
    labels = sorted({sound.label for truth, _, _ in streams.values() for sound in truth})
    if not labels:
        return None
    rates = [_rates(at_threshold(streams, found), labels, scenario) for found in points.values()]
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
    return right / sounds, false / hours_of(streams) + scenario.cross_trigger_cost * others


def _columns(
    events: Sequence[Annotation | Found], number: Mapping[str, int]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of the labels, onsets and offsets, [N] each."""
    return (
        np.array([number[each.label] for each in events], np.intp),
        np.array([each.onset_s for each in events], float),
        np.array([each.offset_s for each in events], float),
    )
