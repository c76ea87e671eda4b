"""Formats that `tagger tag` writes as text: tables for people, programs, and annotation tools.

`json` and `csv` hold windows or events; an annotation format holds events. Times are seconds from the recording's
beginning. What each tool reads:

- Audacity: label tracks, https://manual.audacityteam.org/man/importing_and_exporting_labels.html
- Raven: selection tables with `Begin Path` and `File Offset (s)`, as the Raven Pro User's Manual describes them
- DCASE: tab-separated `filename`, `onset`, `offset`, `event_label`, which sed_eval, psds_eval and DESED read
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.events import Event, Scores, top
from tagger.printable import printable
from tagger.tag.inputs import Recording


@dataclass(frozen=True)
class TaggedWindow:
    """The highest scores of one window. Times are seconds from the recording's beginning."""

    start_s: float
    end_s: float
    top: tuple[tuple[str, float], ...]
    """Labels and scores, highest first."""

    @classmethod
    def of(cls, scores: Scores, labels: tuple[str, ...], k: int) -> "TaggedWindow":
        """The `k` highest."""
        return cls(scores.time, scores.end_time, top(scores.values, labels, k))


Item = TaggedWindow | Event
Cell = str | int | float


def as_row(item: Item) -> tuple[dict[str, Cell], ...]:
    """Rows of a table, without the recording: one for an event, and one for each of a window's labels."""
    if isinstance(item, TaggedWindow):
        times: dict[str, Cell] = {"start": round(item.start_s, 6), "end": round(item.end_s, 6)}
        return tuple({**times, "label": label, "score": round(score, 6)} for label, score in item.top)
    onset, offset = times_of(item)
    peak_score = round(item.peak_score, 6)
    return ({"onset": round(onset, 3), "offset": round(offset, 3), "label": item.label, "peak_score": peak_score},)


def columns(events: bool) -> tuple[str, ...]:
    """Columns of a table of windows, or of events."""
    return ("file", "onset", "offset", "label", "peak_score") if events else ("file", "start", "end", "label", "score")


def times_of(event: Event) -> tuple[float, float]:
    """Onset and offset of an event that has ended."""
    assert event.offset is not None
    return event.onset, event.offset


class TextFormat(ABC):
    """A format of lines."""

    suffix: str
    """End of the name of a recording's file."""
    has_tabs = False
    """Whether tabs separate cells."""

    def head(self) -> Sequence[str]:
        """The first lines of a file."""
        return ()

    def heading(self, recording: Recording) -> Sequence[str]:
        """Lines before a recording's."""
        return ()

    @abstractmethod
    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        """Lines of a window or an event.

        Args:
            number: counts a file's items from 1.
        """


class Table(TextFormat):
    """For people."""

    suffix = ".txt"

    def heading(self, recording: Recording) -> Sequence[str]:
        return (str(recording.path),)

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        if isinstance(item, TaggedWindow):
            best = [f"{score:4.2f} {label}" for label, score in item.top]
            cells = "   ".join(f"{cell:<20}" for cell in best).rstrip()
            yield f"{item.start_s:8.1f} - {item.end_s:6.1f} s   {cells}"
        else:
            onset, offset = times_of(item)
            yield f"{onset:8.2f} - {offset:7.2f} s   {item.peak_score:4.2f} {item.label}"


class JsonLines(TextFormat):
    """One line of JSON for each window, or event."""

    suffix = ".jsonl"

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        yield json.dumps(self.as_object(str(recording.path), item))

    def as_object(self, file: str, item: Item) -> dict[str, Any]:
        """What the line of a window or an event holds.

        Args:
            file: name of the recording.
        """
        if isinstance(item, TaggedWindow):
            best = [{"label": label, "score": round(score, 6)} for label, score in item.top]
            return {"file": file, "start": round(item.start_s, 6), "end": round(item.end_s, 6), "top": best}
        (row,) = as_row(item)
        return {"file": file, **row}


class Csv(TextFormat):
    """One row for each event, or for each of a window's labels."""

    suffix = ".csv"

    def __init__(self, events: bool) -> None:
        self._columns = columns(events)

    def head(self) -> Sequence[str]:
        return (",".join(self._columns),)

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        for row in as_row(item):
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow([str(recording.path), *row.values()])
            yield line.getvalue()


class Audacity(TextFormat):
    """A label track: onset, offset and label."""

    suffix, has_tabs = ".labels.txt", True

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        assert isinstance(item, Event)
        onset, offset = times_of(item)
        yield f"{onset:.6f}\t{offset:.6f}\t{printable(item.label)}"


class Raven(TextFormat):
    """A selection table."""

    suffix, has_tabs = ".selections.txt", True
    _HEAD = (
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
        *("Begin Path", "File Offset (s)", "Annotation", "Score"),
    )

    def __init__(self, low_hz: float, high_hz: float, channel: int = 1) -> None:
        """
        Args:
            low_hz, high_hz: band in which the model hears.
            channel: the one that is shown, from 1.
        """
        self._band, self._channel = f"{low_hz:g}\t{high_hz:g}", channel

    def head(self) -> Sequence[str]:
        return ("\t".join(self._HEAD),)

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        assert isinstance(item, Event)
        onset, offset = times_of(item)
        path = printable(str(Path(recording.path).absolute()))
        yield (
            f"{number}\tSpectrogram 1\t{self._channel}\t{onset:.6f}\t{offset:.6f}\t{self._band}\t{path}\t{onset:.6f}\t"
            f"{printable(item.label)}\t{item.peak_score:.6f}"
        )


class Dcase(TextFormat):
    """Tab-separated events. The file's name is that below the folder that was named."""

    suffix, has_tabs = ".tsv", True

    def head(self) -> Sequence[str]:
        return ("filename\tonset\toffset\tevent_label",)

    def lines(self, recording: Recording, item: Item, number: int) -> Iterable[str]:
        assert isinstance(item, Event)
        onset, offset = times_of(item)
        yield f"{printable(recording.name)}\t{onset:.3f}\t{offset:.3f}\t{printable(item.label)}"
