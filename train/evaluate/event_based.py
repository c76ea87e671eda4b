"""Event-based precision, recall and F1, as sed_eval counts them. The only module that imports sed_eval."""

import functools
import importlib.util
import statistics
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from train.evaluate.found import Found, Streams, labels_in
from train.evaluate.soundscape import Annotation

LENGTH_SHARE = 0.2
"""Where the offset counts too, its largest error is the collar or this share of the sound's length, if that is more."""


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


def event_based(streams: Streams, collar_s: float, with_offset: bool) -> EventBased:
    """Counts of sed_eval's `EventBasedMetrics`: the largest number of pairs of a sound and an event."""
    measure = _sed_eval().sound_event.EventBasedMetrics
    counts: dict[str, Counts] = {}
    for label in labels_in(streams):
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


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
