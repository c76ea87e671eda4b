r"""Text that is safe to print: the one way to standard output, standard error and the log.

Labels, file names, topics and messages are written by others. What they hold besides text (control characters that
steer a terminal, line breaks that forge a line, marks that turn the direction of writing, halves of characters) is
shown as an escape, such as `\x1b`. Every line goes through here; `click.echo` and `print` are banned elsewhere.
"""

import io
import logging
import os
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TextIO

_MOST_LINES, _LONGEST_LINE = 80, 500
"""Most lines of a traceback in the log, and characters of a line."""
_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""One line of text, in which whatever is no visible character is an escape.

    JSON without letters beyond ASCII stays as it is.

    Args:
        encoding: of the file that the line is for; letters that it lacks are escapes, too.

    >>> printable("dog\x1b[2J\n")
    'dog\\x1b[2J\\n'
    """
    if not text.isprintable():
        text = "".join(letter if _is_visible(letter) else _escape(letter) for letter in text)
    return text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)


def echo(line: str = "", err: bool = False) -> None:
    """Prints one line.

    Args:
        err: on standard error, instead of standard output.
    """
    echo_lines([line], err)


def echo_lines(lines: Iterable[str], err: bool = False, tabs: bool = False) -> None:
    """Prints lines in one write; nothing if there are none.

    Args:
        tabs: whether tabs stay, since they separate the cells of a table.
    """
    file = sys.stderr if err else sys.stdout
    if text := "".join(_line(line, file, tabs) for line in lines):
        try:
            with _above_status():
                file.write(text)
                file.flush()
        except OSError as error:
            error.filename = "standard error" if err else "standard output"
            raise


def open_missing_streams() -> None:
    """Opens standard streams that were closed before the start, as `>&-` and some supervisors do.

    Else a file or connection would get the stream's number, and what libraries print would be written into it. To read
    from such an input gives its end; to print on such an output is an error; what goes to standard error is discarded.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdout is None:  # a file that can only be read, without a buffer that is written again at the end
        closed = open(os.open(os.devnull, os.O_RDONLY), "wb", buffering=0)  # noqa: SIM115, PTH123
        sys.stdout = io.TextIOWrapper(closed, "utf-8", write_through=True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def write_line(line: str, file: TextIO) -> None:
    """Writes one line to an open text file, and flushes it."""
    with _above_status():
        file.write(_line(line, file))
        file.flush()


def is_terminal(file: TextIO) -> bool:
    """Whether the file is a terminal on which a line can be drawn again."""
    try:
        return file.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    except ValueError:  # it is closed
        return False


class StatusLine:
    """The last line of a terminal, which is drawn again and again. What is printed meanwhile appears above it.

    A process has one at a time. Any thread may call it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file, self._text = file, ""

    @property
    def columns(self) -> int:
        """Number of characters that fit."""
        return shutil.get_terminal_size().columns - 1

    def show(self, text: str) -> None:
        """Draws the line."""
        global _status  # noqa: PLW0603
        with _LOCK:
            _status = self
            self._text = _fit(printable(text, getattr(self._file, "encoding", None) or "utf-8"), self.columns)
            self._write(f"\r\x1b[K{self._text}")

    def clear(self) -> None:
        """Removes the line."""
        global _status  # noqa: PLW0603
        with _LOCK:
            self.hide()
            _status = None

    def hide(self) -> None:
        """Makes room for another line. Holds _LOCK."""
        self._write("\r\x1b[K")

    def redraw(self) -> None:
        """Draws the line again. Holds _LOCK."""
        self._write(self._text)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal has gone, or the file is closed
            self._file.write(text)
            self._file.flush()


_LOCK = threading.RLock()
"""Held while a line is written, so that none is written into another or into the status."""
_status: StatusLine | None = None


@contextmanager
def _above_status() -> Iterator[None]:
    """Lines that are written in this block appear above the status line."""
    with _LOCK:
        status = _status
        if status is not None:
            status.hide()
        try:
            yield
        finally:
            if status is not None:
                status.redraw()


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes the log to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with _above_status():
            super().emit(record)


def number_of(count: int, one: str, several: str = "") -> str:
    """A number of things, in words.

    >>> number_of(1, "label"), number_of(0, "label"), number_of(1234, "entry", "entries")
    ('1 label', '0 labels', '1,234 entries')

    Args:
        several: the plural, where it is not the singular with an `s`.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


class LogFormatter(logging.Formatter):
    """One line a message. A traceback, which only debugging shows, is more than one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802
        return "\n".join(map(printable, bounded_lines(super().formatException(ei))))


def bounded_lines(text: str) -> list[str]:
    """The lines of a text such as a traceback, of which others may have written a part: neither too many nor too long.

    Those left out are in its middle, since its end says most.
    """
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        out = len(lines) - _MOST_LINES
        lines[_MOST_LINES // 2 : -(_MOST_LINES // 2)] = [f"  ... {number_of(out, 'line')} ..."]
    return [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..." for line in lines]


def _line(line: str, file: TextIO, tabs: bool = False) -> str:
    encoding = getattr(file, "encoding", None) or "utf-8"
    cells = line.split("\t") if tabs else [line]
    return "\t".join(printable(cell, encoding) for cell in cells) + "\n"


def _fit(text: str, columns: int) -> str:
    """The text, cut to what a terminal shows in one line; some letters take two columns.

    >>> _fit("abc", 2), _fit("\u72ac\u72ac", 3)
    ('ab', '\u72ac')
    """
    used = 0
    for at, letter in enumerate(text):
        used += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if used > columns:
            return text[:at]
    return text


def _is_visible(letter: str) -> bool:
    # str.isprintable: no control, format, surrogate, private or unassigned character, no separator but a plain space.
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
