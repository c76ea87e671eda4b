"""Where `tagger tag` writes: standard output, one file for all recordings, or a folder with a file for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol, TextIO

from tagger.errors import UserError
from tagger.files import is_special, replacing
from tagger.printable import echo_lines
from tagger.tag.formats import Item, TextFormat
from tagger.tag.inputs import Recording


class Sheet(Protocol):
    """What takes rows."""

    def begin(self, recording: Recording) -> None:
        """Called before a recording's rows."""

    def add(self, recording: Recording, item: Item) -> None:
        """Takes a window or an event."""

    def close(self) -> None:
        """Makes the file whole."""


OpenSheet = Callable[[Path], Sheet]
"""Opens a new file."""


class Output(Protocol):
    """Takes the rows of one recording after the other."""

    def recording(self, recording: Recording) -> AbstractContextManager[Callable[[Item], None]]:
        """For a recording, what takes its rows. They stay if the block raises an error and there were some."""


class TextSheet:
    """Lines of a format, to an open file or, as safe text, to standard output."""

    def __init__(self, style: TextFormat, file: TextIO | None = None) -> None:
        """
        Args:
            file: is closed in the end. None: standard output.
        """
        self._style, self._file = style, file
        self._number = 0
        self._write(style.head())

    def begin(self, recording: Recording) -> None:
        self._write(self._style.heading(recording))

    def add(self, recording: Recording, item: Item) -> None:
        self._number += 1
        self._write(self._style.lines(recording, item, self._number))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, lines: Iterable[str]) -> None:
        if self._file is None:
            echo_lines(lines, tabs=self._style.has_tabs)
        else:
            self._file.writelines(f"{line}\n" for line in lines)


def text_file(style: TextFormat) -> OpenSheet:
    """Opens files of a format. Names that are not Unicode keep their bytes."""
    return lambda path: TextSheet(style, path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n"))


class Printed:
    """On standard output."""

    def __init__(self, style: TextFormat) -> None:
        self._sheet = TextSheet(style)

    @contextmanager
    def recording(self, recording: Recording) -> Iterator[Callable[[Item], None]]:
        self._sheet.begin(recording)
        yield lambda item: self._sheet.add(recording, item)


class _NothingError(Exception):
    """No recording could be read: an older file stays."""


class InOneFile:
    """In one file."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self.is_empty = True
        """Whether no recording was read, not even in part."""

    @contextmanager
    def recording(self, recording: Recording) -> Iterator[Callable[[Item], None]]:
        self._sheet.begin(recording)

        def add(item: Item) -> None:
            self.is_empty = False
            self._sheet.add(recording, item)

        yield add
        self.is_empty = False


@contextmanager
def in_one_file(path: Path, open_sheet: OpenSheet) -> Iterator[InOneFile]:
    """Gives a file for all recordings. It appears at the end, in one step; not where no recording could be read.

    What is no regular file, such as `/dev/stdout` or a named pipe, is written to as it is.
    """
    with suppress(_NothingError), nullcontext(path) if is_special(path) else replacing(path) as partial:
        sheet = open_sheet(partial)
        try:
            output = InOneFile(sheet)
            yield output
        finally:
            sheet.close()
        if output.is_empty:
            raise _NothingError


class InFolder:
    """In a file for each recording, below a folder."""

    def __init__(self, path: Callable[[Recording], Path], open_sheet: OpenSheet) -> None:
        """
        Args:
            path: the file of a recording.
        """
        self._path, self._open_sheet = path, open_sheet

    @contextmanager
    def recording(self, recording: Recording) -> Iterator[Callable[[Item], None]]:
        error: UserError | None = None
        with in_one_file(self._path(recording), self._open_sheet) as file:
            try:
                with file.recording(recording) as add:
                    yield add
            except UserError as damage:
                error = damage
        if error is not None:
            raise error


def below(root: Path, recordings: Sequence[Recording], suffix: str) -> Callable[[Recording], Path]:
    """The files of recordings in a folder: `sub/door.wav.csv`.

    Raises:
        UserError: two recordings would have the same.
    """
    taken: dict[str, Recording] = {}
    for each in recordings:
        if (other := taken.setdefault(each.name, each)) is not each:
            raise UserError(
                f"{other.path} and {each.path}: both would be {root / each.name}{suffix}; name a folder above both"
            )
    return lambda recording: root / f"{recording.name}{suffix}"
