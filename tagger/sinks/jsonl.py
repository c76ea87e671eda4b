"""Writes events as lines of JSON to a file, and rotates the file when it has grown."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tagger.errors import UserError
from tagger.events import Event, Stream
from tagger.files import append_line, make_folders, make_private, open_private
from tagger.settings import JsonLinesSettings
from tagger.sinks.queued import QueuedSink

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Largest number of lines that wait in memory, about 4 MB, while the disk is full."""


class JsonLinesSink(QueuedSink[str]):
    """Opens the file for each line, so that another program may move it away. The next line then starts a new file."""

    def __init__(self, settings: JsonLinesSettings) -> None:
        super().__init__("jsonl", str(settings.path), MAX_WAITING)
        self._path, self._max_bytes, self._keep = settings.path, 1e6 * settings.max_mb, settings.keep
        self._cannot_rotate = False
        """Whether the log says so already."""

    def open(self, streams: Sequence[Stream]) -> None:
        """
        Raises:
            UserError: the file cannot be created or written to.
        """
        try:
            if self._path.exists() and not self._path.is_file():
                raise UserError(f"{self._path}: is no file, so no events can be appended to it")
            make_folders(self._path.parent, is_private=True)
            with open_private(self._path):
                pass
            for i in range(self._keep + 1):
                if self._numbered(i).exists():
                    make_private(self._numbered(i))
        except OSError as error:
            raise UserError(f"{self._path}: events cannot be written here ({error.strerror or error})") from None
        self._start_worker()

    def event(self, stream: Stream, event: Event) -> None:
        self._enqueue(json.dumps(event.to_json(stream, time.time()), allow_nan=False))

    def _deliver(self, item: str) -> None:
        if self._retry_until_written(lambda: self._write(item), OSError):
            self._count_delivered()

    def _write(self, line: str) -> None:
        """Appends a line. Does not create a missing folder: its disk may not be mounted.

        Raises:
            OSError: the line could not be written.
        """
        self._rotate(len(line) + 1)
        append_line(self._path, line)

    def _rotate(self, line_bytes: int) -> None:
        """If the file would become too large: renames NAME to NAME.1, the old NAME.1 to NAME.2, and so on."""
        try:
            size = self._path.stat().st_size
            if not size or size + line_bytes <= self._max_bytes:
                return
            free = 1
            while free < self._keep and self._numbered(free).exists():
                free += 1
            for i in range(free, 0, -1):
                self._numbered(i - 1).replace(self._numbered(i))
            self._cannot_rotate = False
        except FileNotFoundError:  # another program has just moved it away
            pass
        except OSError as error:  # a file that is too large is better than none
            if not self._cannot_rotate:
                log.warning("%s: cannot be renamed (%s), so it grows", self._path, error.strerror or error)
            self._cannot_rotate = True

    def _numbered(self, i: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{i}") if i else self._path
