"""`tagger tag` as a whole: recordings in, tables out, errors at the end."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tagger.audio.window import SlidingWindows
from tagger.engine.scores import WindowClassifier
from tagger.errors import UserError
from tagger.events import Scores
from tagger.policy import Policy
from tagger.printable import number_of
from tagger.progress import Progress, in_words
from tagger.settings import Channel
from tagger.stop import Stop
from tagger.tag.crew import Crew, InterruptedEarlyError
from tagger.tag.formats import Audacity, Csv, Dcase, Item, JsonLines, Raven, Table, TaggedWindow, TextFormat
from tagger.tag.inputs import Found, Recording
from tagger.tag.output import (
    InFolder,
    OpenSheet,
    Output,
    Printed,
    below,
    in_one_file,
    text_file,
)
from tagger.tag.pieces import piece_windows
from tagger.tag.recording import events, windows

FORMATS = ("table", "json", "csv", "parquet", "audacity", "raven", "dcase")
_EVENTS_ONLY = ("audacity", "raven", "dcase")
_OF_ONE = {"audacity": "a label track", "raven": "a selection table"}
"""Formats that take one recording."""
_NOTE_SECONDS = 0.5
"""Interval at which the progress is drawn while a recording lasts."""


@dataclass(frozen=True)
class Listening:
    """How recordings are heard."""

    classifier: WindowClassifier
    window_s: float
    hop_s: float
    channel: Channel
    rules: Policy | None
    """What counts as an event. None: windows are wanted."""
    top: int
    """Labels of a window."""
    threads: int
    """Recordings at once."""


@dataclass
class Done:
    """What came of it."""

    whole: int = 0
    """Recordings that were read to their end."""
    heard_s: float = 0.0
    """Sound that was tagged, seconds."""
    took_s: float = 0.0
    errors: list[UserError] = field(default_factory=list)
    interrupted: bool = False


def holds_events(style: str) -> bool:
    """Whether a format can hold events only."""
    return style in _EVENTS_ONLY


def opened(
    style: str, out: str | None, recordings: tuple[Recording, ...], are_many: bool, how: Listening, tracks: bool
) -> AbstractContextManager[Output]:
    """Opens what takes the rows.

    Args:
        style: one of FORMATS.
        out: file; or folder, if there is one or the text ends with a slash. None: standard output.
        are_many: whether several recordings were asked for.
        tracks: whether to write a label track beside each recording too.

    Raises:
        UserError: `out` cannot take this.
    """
    main = _main(style, out, recordings, are_many, how)
    if not tracks:
        return main
    beside = InFolder(lambda each: each.path.with_name(f"{each.path.name}{Audacity.suffix}"), text_file(Audacity()))
    return _both(main, beside)


@contextmanager
def _both(main: AbstractContextManager[Output], beside: Output) -> Iterator[Output]:
    with main as output:
        yield _Both(output, beside)


class _Both:
    def __init__(self, *outputs: Output) -> None:
        self._outputs = outputs

    @contextmanager
    def recording(self, recording: Recording) -> Iterator[Callable[[Item], None]]:
        with ExitStack() as stack:
            adds = [stack.enter_context(output.recording(recording)) for output in self._outputs]

            def add(item: Item) -> None:
                for each in adds:
                    each(item)

            yield add


def _main(
    style: str, out: str | None, recordings: tuple[Recording, ...], are_many: bool, how: Listening
) -> AbstractContextManager[Output]:
    if style == "parquet":
        if out is None:
            raise UserError("--format parquet: is no text for a terminal; name a file with -o")
        from tagger.tag.parquet import SUFFIX, ParquetSheet

        suffix, open_sheet = SUFFIX, _parquet(ParquetSheet, how)
    else:
        text = _text(style, how)
        suffix, open_sheet = text.suffix, text_file(text)
    if out is None:
        if are_many and style in _OF_ONE:
            raise UserError(f"--format {style}: {_OF_ONE[style]} is of one recording; -o FOLDER writes one for each")
        return nullcontext(Printed(text))
    path = Path(out)
    if any(each.path.exists() and path.exists() and each.path.samefile(path) for each in recordings):
        raise UserError(f"-o {out}: is one of the recordings")
    if path.is_dir() or out.endswith(("/", os.sep)) or (are_many and style in _OF_ONE):
        if path.is_file():
            raise UserError(f"-o {out}: is a file, and each recording gets one of its own; name a folder")
        return nullcontext(InFolder(below(path, recordings, suffix), open_sheet))
    return in_one_file(path, open_sheet)


def _parquet(sheet: "Callable[[Path, bool], object]", how: Listening) -> OpenSheet:
    return lambda path: sheet(path, how.rules is not None)  # type: ignore[return-value]


def _text(style: str, how: Listening) -> TextFormat:
    if style == "csv":
        return Csv(how.rules is not None)
    if style == "raven":
        mel = how.classifier.info.mel
        return Raven(mel.f_min_hz, mel.f_max_hz, how.channel[0] if len(how.channel) == 1 else 1)
    plain: dict[str, type[TextFormat]] = {"table": Table, "json": JsonLines, "audacity": Audacity, "dcase": Dcase}
    return plain[style]()


def tag_all(recordings: tuple[Recording, ...], output: Output, how: Listening, shown: bool) -> Done:
    """Tags recordings, several at once, and gives the output their rows in order. Ctrl-C ends it early.

    Args:
        shown: whether to show the progress.
    """
    done, rows = Done(), _Rows(recordings, how)
    sizes = SlidingWindows.of_seconds(how.window_s, how.hop_s, how.classifier.info.mel.sample_rate_hz)
    began = noted = time.monotonic()
    with (
        Stop() as stop,
        Progress("tagging", len(recordings), "files", brief=True, shown=shown) as progress,
        Crew(how.classifier, sizes.window_samples, sizes.hop_samples, len(recordings), rows.of, how.threads) as crew,
    ):

        def is_interrupted() -> bool:
            nonlocal noted
            if time.monotonic() - noted >= _NOTE_SECONDS:
                noted = time.monotonic()
                progress.note = f"{in_words(rows.heard_s)} of sound"
                progress.update(0)
            return stop.interrupted

        try:
            for recording, found in zip(recordings, crew.results(is_interrupted), strict=True):
                error = _written(found, recording, output)
                done.whole += error is None
                if error is not None:
                    done.errors.append(error)
                progress.update()
        except InterruptedEarlyError:
            done.interrupted = True
    done.heard_s, done.took_s = rows.heard_s, time.monotonic() - began
    return done


def _written(rows: Iterable[Item], recording: Recording, output: Output) -> UserError | None:
    """Gives the output a recording's rows. Returns why not all: the other recordings are still worth tagging."""
    try:
        with output.recording(recording) as add:
            for row in rows:
                add(row)
    except UserError as error:
        return error
    return None


class _Rows:
    """Makes the rows of recordings, each in a thread of the crew, and counts the sound that was heard."""

    def __init__(self, recordings: tuple[Recording, ...], how: Listening) -> None:
        self._recordings, self._how = recordings, how
        self._heard_s = [0.0] * len(recordings)

    @property
    def heard_s(self) -> float:
        """Sound of all recordings that was tagged until now, seconds."""
        return sum(self._heard_s)

    def of(self, crew: Crew[Item], number: int) -> Iterable[Item]:
        """Rows of a recording, by its number: events, or else windows."""
        how = self._how
        info, path = how.classifier.info, self._recordings[number].path
        rate_hz = info.mel.sample_rate_hz
        cut = windows(path, rate_hz, how.window_s, how.hop_s, how.channel, piece_windows(how.hop_s))
        scores = self._counted(number, crew.scores(cut))
        if how.rules is not None:
            return events(scores, how.rules)
        return (TaggedWindow.of(each, info.labels, how.top) for each in scores)

    def _counted(self, number: int, scores: Iterable[Scores]) -> Iterator[Scores]:
        for each in scores:
            self._heard_s[number] = each.end_time
            yield each


def summary(done: Done, found: Found, out: str) -> str:
    """What was done, in a line."""
    asked = len(found.recordings)
    files = f"{number_of(done.whole, 'file')} of {asked:,}" if done.whole < asked else number_of(asked, "file")
    speed = f", {done.heard_s / done.took_s:.0f} times real time" if done.took_s else ""
    left = f"; {number_of(found.left_out, 'file')} left out, no audio by name" if found.left_out else ""
    return f"{out}: {files}, {in_words(done.heard_s)} of sound in {in_words(done.took_s)}{speed}{left}"
