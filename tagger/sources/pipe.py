"""Pipes: standard input, `/dev/fd/N`, and FIFOs, whose writers may come and go."""

import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tagger.errors import AudioError, UserError

_READ_BYTES = 1 << 16
_POLL_SECONDS = 0.2
"""Longest time until `close` is noticed while the pipe is silent."""
PATIENCE_SECONDS = 5.0
"""Time without a writer, at a FIFO, after which this is said."""


def is_pipe(path: str) -> bool:
    """Whether a path is read from front to end, once: a FIFO, `/dev/stdin`, `/dev/fd/N`, a device."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def is_stdin(uri: str) -> bool:
    """Whether a source is standard input, by one of its names."""
    return uri in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


class Redirected:
    """A regular file in place of a pipe: `tagger listen - < door.flac`. It is read here without being taken."""

    def __init__(self, descriptor: int, modified: float) -> None:
        """
        Args:
            modified: when it was last modified, seconds since the epoch.
        """
        self.modified = modified
        self._descriptor, self._at = descriptor, os.lseek(descriptor, 0, os.SEEK_CUR)

    def read(self) -> bytes:
        """The next bytes; empty at the end."""
        data = os.pread(self._descriptor, _READ_BYTES, self._at)
        self._at += len(data)
        return data


class Pipe:
    """Bytes from a pipe, as they come."""

    def __init__(self, where: str, path: str | None = None, file: BinaryIO | None = None) -> None:
        """
        Args:
            where: for messages.
            path: what is opened, by each call of `open`. None: `file`.
            file: None: standard input.

        Raises:
            UserError: there is no standard input, or the path cannot be read.
        """
        self.where, self._path, self._file = where, path, file
        if path is None and file is None:
            if sys.stdin is None:
                raise AudioError("standard input is closed; pipe raw samples into `tagger listen -`")
            self._file = sys.stdin.buffer
        if path is not None and stat.S_ISSOCK(Path(path).stat().st_mode):
            raise UserError(f"{path}: a socket, which cannot be read as a file")
        if path is not None and not os.access(path, os.R_OK):
            raise UserError(f"{path}: no permission to read it")
        self.is_fifo = path is not None and _is_named(path)
        """Whether it has a name, so that another writer may come when one has ended."""
        self._descriptor: int | None = None
        self._closed = threading.Event()
        self.waited = False
        """Whether the last read had to wait."""
        self.on_wait: Callable[[float], None] = lambda seconds: None
        """Called some times a second while a read waits, with the seconds that it has waited."""

    @property
    def can_tell(self) -> bool:
        """Whether `has_more` knows."""
        return self._descriptor is not None

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def redirected(self) -> Redirected | None:
        """The regular file that is read. None: it is a pipe, a device, or a file object without a descriptor."""
        descriptor = _descriptor(self._file)
        if descriptor is None:
            return None
        status = os.fstat(descriptor)
        return Redirected(descriptor, status.st_mtime) if stat.S_ISREG(status.st_mode) else None

    def open(self) -> None:
        """Begins to read. A file object without a descriptor cannot tell whether it `has_more`.

        Raises:
            UserError: it cannot be opened any more.
        """
        if self._path is None:
            self._descriptor = _descriptor(self._file)
            return
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise UserError(f"{self.where}: {error.strerror}") from None

    def release(self) -> None:
        """Ends what `open` began."""
        if self._path is not None and self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def read(self) -> bytes:
        """The bytes that are there, at least one; waits for them. Empty at the end of the stream and after `close`."""
        if self._descriptor is None:
            return b"" if self.is_closed or self._file is None else self._file.read(_READ_BYTES)
        self.waited = not self.has_more(0)
        since = time.monotonic()
        while not self.is_closed:
            if self.has_more(_POLL_SECONDS):
                try:
                    return os.read(self._descriptor, _READ_BYTES)
                except BlockingIOError:
                    continue
            self.on_wait(time.monotonic() - since)
        return b""

    def wait_for_writer(self, say: Callable[[str], None]) -> bytes:
        """The first bytes of a FIFO's next writer. Empty after `close`.

        Args:
            say: takes a line if none comes for some seconds.
        """
        since = time.monotonic()
        said_at: float | None = since + PATIENCE_SECONDS
        while not self.is_closed:
            if self.has_more(_POLL_SECONDS):
                if data := self.read():
                    self.waited = True
                    return data
                self._closed.wait(_POLL_SECONDS)  # the last writer has ended
            self.on_wait(time.monotonic() - since)
            if said_at is not None and time.monotonic() > said_at:
                say(f"{self.where}: nothing has come yet; it waits for a program that writes")
                said_at = None
        return b""

    def has_more(self, within_s: float) -> bool:
        """Whether a read would return at once, now or within some seconds."""
        descriptor = self._descriptor
        return descriptor is not None and bool(select.select([descriptor], [], [], within_s)[0])

    def close(self) -> None:
        """Ends a read. From any thread."""
        self._closed.set()


def _is_named(path: str) -> bool:
    if not stat.S_ISFIFO(Path(path).stat().st_mode):
        return False
    real = Path(path).resolve()
    return real.parent.name != "fd" and real.exists()


def _descriptor(file: BinaryIO | None) -> int | None:
    """The number that the system knows the file by; None: it is a file object without one."""
    try:
        return file.fileno() if file is not None else None
    except (AttributeError, OSError):
        return None
