"""Whole recordings, by the loop of `tagger listen`: scores of their windows, and events."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from tagger.audio.chunk import Warn
from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.decide import Decider
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError
from tagger.events import Block, Event, Samples, Scores, Window
from tagger.listen import follow
from tagger.policy import Policy
from tagger.settings import Channel

log = logging.getLogger(__name__)

_BATCH = 8


def tag(
    path: Path,
    classifier: WindowClassifier,
    window_s: float,
    hop_s: float,
    channel: Channel = (),
    warn: Warn = log.warning,
) -> Iterator[Scores]:
    """Scores of a file's windows, the same as `tagger listen` gets from this file.

    Args:
        warn: takes one line for each thing that is wrong with a file that is read all the same.

    Raises:
        AudioError: the file is missing, not audio, damaged, or without one of the channels. The scores before the
            damage were given.
    """
    rate_hz = classifier.info.mel.sample_rate_hz
    sliding = SlidingWindows.of_seconds(window_s, hop_s, rate_hz, flush_at_gaps=True)
    return follow(decode_blocks(path, rate_hz, warn, channel), classifier.lane(sliding), sliding, _BATCH)


def windows(
    path: Path,
    rate_hz: int,
    window_s: float,
    hop_s: float,
    channel: Channel = (),
    together: int = 1,
    warn: Warn = log.warning,
) -> Iterator[Window]:
    """The windows that `tag` classifies.

    Args:
        together: windows that lie in one array.
        warn: as `tag`.

    Raises:
        AudioError: as `tag`. The windows before the damage were given.
    """
    sliding = SlidingWindows.of_seconds(window_s, hop_s, rate_hz, flush_at_gaps=True, together=together)
    return sliding.cut(decode_blocks(path, rate_hz, warn, channel))


def in_blocks(pieces: Iterable[Samples], rate_hz: int) -> Iterator[Block]:
    """Makes blocks of consecutive pieces of a stream, each [N] of any length. The first sample's time is 0."""
    given = 0
    for samples in pieces:
        yield Block(samples, given / rate_hz)
        given += len(samples)


def events(scores: Iterable[Scores], rules: Policy) -> Iterator[Event]:
    """Events as `tagger listen` announces them, but each once, in order of onset. Times are seconds from the file.

    An event is given when it has ended, and no other that began before it can still be announced or is still open.

    Raises:
        AudioError: `scores` raised it. The events before the damage were given.
    """
    decider = Decider(rules)
    error: AudioError | None = None
    longest_s = max((max(each.confirm_s, each.min_s) for each in rules.each), default=0.0)
    open_at: dict[str, float] = {}
    """Onsets of events that have begun and not ended, by id."""
    ended: list[Event] = []

    def take(found: Iterable[Event]) -> None:
        for event in found:
            if event.type == "begin":
                open_at[event.id] = event.onset
            else:
                open_at.pop(event.id, None)
                ended.append(event)
        ended.sort(key=_onset)

    try:
        for each in scores:
            take(decider.update(each))
            settled = 2 * each.time - each.end_time - longest_s  # windows are no further apart than they are long
            until = min([settled, *open_at.values()])
            while ended and ended[0].onset <= until:
                yield ended.pop(0)
    except AudioError as damage:
        error = damage
    take(decider.close())
    yield from ended
    if error is not None:
        raise error


def _onset(event: Event) -> float:
    return event.onset
