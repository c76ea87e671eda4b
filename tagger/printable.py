r"""Text that is safe to print: the one way to standard output, standard error and the log.

Labels, file names, topics and messages are written by others. What they hold besides text (control characters that
steer a terminal, line breaks that forge a line, marks that turn the direction of writing, halves of characters) is
shown as an escape, such as `\x1b`. Every line goes through here; `click.echo` and `print` are banned elsewhere.
"""

import logging
import sys
import unicodedata
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO

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


def echo_lines(lines: Iterable[str], err: bool = False) -> None:
    """Prints lines in one write; nothing if there are none."""
    file = sys.stderr if err else sys.stdout
    if text := "".join(_line(line, file) for line in lines):
        file.write(text)
        file.flush()


def write_line(line: str, file: TextIO) -> None:
    """Writes one line to an open text file, and flushes it."""
    file.write(_line(line, file))
    file.flush()


class LogFormatter(logging.Formatter):
    """One line a message. A traceback, which only debugging shows, is more than one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def _line(line: str, file: TextIO) -> str:
    return f"{printable(line, getattr(file, 'encoding', None) or 'utf-8')}\n"


def _is_visible(letter: str) -> bool:
    # str.isprintable: no control, format, surrogate, private or unassigned character, no separator but a plain space.
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
