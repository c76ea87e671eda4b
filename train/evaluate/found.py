"""Events found in streams, next to the streams' sounds. How they are measured: `detection`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from train.evaluate.soundscape import Annotation


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


def at_threshold(streams: Streams, found: Mapping[str, Sequence[Found]]) -> Streams:
    """The same streams with the events at another threshold."""
    return {name: (truth, found.get(name, ()), duration) for name, (truth, _, duration) in streams.items()}


def labels_in(streams: Streams) -> list[str]:
    """Labels of sounds and events, sorted."""
    occur = {sound.label for truth, _, _ in streams.values() for sound in truth}
    return sorted(occur.union(event.label for _, found, _ in streams.values() for event in found))


def by_label(events: Iterable[_Event]) -> defaultdict[str, list[_Event]]:
    """Each label's sounds or events, by onset."""
    found: defaultdict[str, list[_Event]] = defaultdict(list)
    for event in sorted(events, key=lambda each: each.onset_s):
        found[event.label].append(event)
    return found


def hours_of(streams: Streams) -> float:
    """Length of all streams, hours.

    Raises:
        ValueError: it is 0.
    """
    hours = sum(duration for _, _, duration in streams.values()) / 3600
    if not hours:
        raise ValueError("there is no stream, or none has any length")
    return hours
