"""Whole files: `tagger tag`, by the loop of `tagger listen`."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.joint import ModelInfo
from tagger.decide import Decider
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError
from tagger.events import Block, Event, Samples, Scores, top
from tagger.files import replacing
from tagger.listen import follow
from tagger.policy import Policy
from tagger.printable import echo
from tagger.settings import Channel

_BATCH = 8


def tag(
    path: Path, classifier: WindowClassifier, window_s: float, hop_s: float, channel: Channel = ()
) -> Iterator[Scores]:
    """Scores of a file's windows, the same as `tagger listen` gets from this file.

    Raises:
        AudioError: the file is missing, not audio, damaged, or without one of the channels. The scores before the
            damage were given.
    """
    rate_hz = classifier.info.mel.sample_rate_hz
    sliding = SlidingWindows.of_seconds(window_s, hop_s, rate_hz, flush_at_gaps=True)
    return follow(decode_blocks(path, rate_hz, channel=channel), classifier, sliding, _BATCH)


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


def show_events(path: Path, found: Iterable[Event], as_json: bool, track: Path | None) -> None:
    """Prints events as they come, and writes them to `track` as labels for Audacity.

    Raises:
        AudioError: `found` raised it. The events before the damage were printed and written.
    """
    lines: list[str] = []
    error: AudioError | None = None
    try:
        for event in found:
            assert event.offset is not None
            lines.append(f"{event.onset:.6f}\t{event.offset:.6f}\t{event.label}\n")
            echo(_event_line(path, event) if as_json else _event_row(event))
    except AudioError as damage:
        error = damage
    if track is not None and (lines or error is None):  # a file that is no audio gets no track
        with replacing(track) as partial:
            partial.write_text("".join(sorted(lines, key=lambda line: float(line.split("\t")[0]))), "utf-8")
    if error is not None:
        raise error


def _event_line(path: Path, event: Event) -> str:
    assert event.offset is not None
    times = {"onset": round(event.onset, 3), "offset": round(event.offset, 3)}
    return json.dumps({"file": str(path), **times, "label": event.label, "peak_score": round(event.peak_score, 6)})


def _event_row(event: Event) -> str:
    return f"{event.onset:8.2f} - {event.offset:7.2f} s   {event.peak_score:4.2f} {event.label}"


def as_line(path: Path, scores: Scores, info: ModelInfo, k: int) -> str:
    """One window's best labels as a line of JSON. Times are seconds from the file's start."""
    best = [{"label": label, "score": round(score, 6)} for label, score in top(scores.values, info.labels, k)]
    start, end = round(scores.time, 6), round(scores.end_time, 6)
    return json.dumps({"file": str(path), "start": start, "end": end, "top": best})


def as_row(scores: Scores, info: ModelInfo, k: int) -> str:
    """One window's best labels as a row of a table."""
    best = [f"{score:4.2f} {label}" for label, score in top(scores.values, info.labels, k)]
    return f"{scores.time:8.1f} - {scores.end_time:6.1f} s   " + "   ".join(f"{cell:<20}" for cell in best).rstrip()
