"""Events as lines of JSON in a file, which is rotated when it has grown."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tagger.errors import UserError
from tagger.events import Event, Stream
from tagger.files import append_line
from tagger.settings import JsonLinesSettings
from tagger.sinks.queued import QueuedSink

log = logging.getLogger(__name__)

_WAITING = 10_000
"""Lines: 4 MB, while the disk is full."""


class JsonLinesSink(QueuedSink[str]):
    """The file is opened for each line: who moves it away finds a new one in its place."""

    def __init__(self, settings: JsonLinesSettings) -> None:
        super().__init__("jsonl", str(settings.path), _WAITING)
        self._path, self._max_bytes, self._keep = settings.path, 1e6 * settings.max_mb, settings.keep
        self._stuck = False

    def open(self, streams: Sequence[Stream]) -> None:
        """
        Raises:
            UserError: the file cannot be made or written to.
        """
        try:
            if self._path.exists() and not self._path.is_file():
                raise UserError(f"{self._path}: is no file, so no events can be appended to it")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab"):
                pass
        except OSError as error:
            raise UserError(f"{self._path}: events cannot be written here ({error.strerror or error})") from None
        self._start()

    def event(self, stream: Stream, event: Event) -> None:
        self._put(json.dumps(event.to_json(stream, time.time()), allow_nan=False))

    def _do(self, item: str) -> None:
        if self._persist(lambda: self._write(item), OSError):
            self._delivered()

    def _write(self, line: str) -> None:
        """A folder that is gone is waited for, not made: it may be of a disk that is not mounted."""
        self._rotate(len(line) + 1)
        append_line(self._path, line)

    def _rotate(self, more: int) -> None:
        """Before the file would become too large: renames NAME to NAME.1, what had this name to NAME.2, and so on."""
        try:
            size = self._path.stat().st_size
            if not size or size + more <= self._max_bytes:
                return
            free = 1
            while free < self._keep and self._numbered(free).exists():
                free += 1
            for i in range(free, 0, -1):
                self._numbered(i - 1).replace(self._numbered(i))
        except FileNotFoundError:  # moved away by someone else just now
            pass
        except OSError as error:  # a larger file is better than none
            if not self._stuck:
                log.warning("%s: cannot be renamed (%s), so it grows", self._path, error.strerror or error)
            self._stuck = True

    def _numbered(self, i: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{i}") if i else self._path
