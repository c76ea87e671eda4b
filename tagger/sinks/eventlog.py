"""Writes events to an SQLite database, which `tagger events` reads."""

import sqlite3
import time
from collections.abc import Sequence

from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tagger.history.log import EventLog, EventRow
from tagger.history.sqlite import LockedError
from tagger.retention import Retention
from tagger.settings import EventLogSettings
from tagger.sinks.queued import QueuedSink

_MAX_WAITING = 10_000
"""Largest number of events that wait."""
_MAX_BATCH = 500
"""Largest number of events in one transaction."""
DELETE_EVERY_SECONDS = 3_600.0
"""Time between two deletions of old events."""
MAX_DELETED = 2_000
"""Largest number of events deleted in one transaction: few enough that other processes hardly wait."""
OPEN_SECONDS = 0.3
"""Longest wait at the start for another process that writes, seconds."""


class EventLogSink(QueuedSink[EventRow | None]):
    """Writes in batches. Deletes old events if `keep_days` is set.

    A log that another process keeps locked at the start keeps nobody from listening: it is opened in the worker's
    thread, which says so and tries again. The item None has it opened.
    """

    def __init__(self, settings: EventLogSettings) -> None:
        super().__init__("event log", str(settings.path), _MAX_WAITING)
        self._path = settings.path
        self._retention = None if settings.keep_days is None else Retention(86_400 * settings.keep_days, "events")
        self._log: EventLog | None = None
        self._batch: list[EventRow] = []
        self._delete_at = 0.0
        """Time of the next deletion, on the monotonic clock."""

    def open(self, streams: Sequence[Stream]) -> None:
        """
        Raises:
            UserError: the file is damaged, is no event log, or cannot be written to. It is left unchanged.
        """
        try:
            self._log = EventLog(self._path, OPEN_SECONDS)
        except LockedError as error:
            self.retry.failed(str(error).removeprefix(f"{self._path}: "))
        self._start_worker()
        if self._log is None:
            assert self._worker is not None
            self._worker.put(None)

    def event(self, stream: Stream, event: Event) -> None:
        self._enqueue(EventRow.of(stream, event))

    def close(self, wait_s: float) -> None:
        try:
            super().close(wait_s)
        finally:
            if self._log is not None and not self.counts()["waiting"]:  # otherwise the worker's thread may still write
                self._log.close()

    def _deliver(self, item: EventRow | None) -> None:
        assert self._worker is not None
        if item is None:
            self._retry_until_written(self._open, TaggerError, OSError, sqlite3.Error)
            return
        self._batch.append(item)
        if self._worker.waiting > 1 and len(self._batch) < _MAX_BATCH:
            return  # the next events go into the same transaction
        if self._retry_until_written(self._write, TaggerError, OSError, sqlite3.Error):
            self._count_delivered(len(self._batch))
            self._batch.clear()

    def _open(self) -> EventLog:
        if self._log is not None and not self._log.is_in_place:
            self._log.close()
            self._log = None
        self._log = self._log or EventLog(self._path)
        return self._log

    def _write(self) -> None:
        log = self._open()
        log.write(self._batch)
        if self._retention is not None and time.monotonic() >= self._delete_at:
            left = MAX_DELETED
            for start, end in self._retention.old(log.onsets):
                left -= log.delete(start, end, left)
            if left > 0:
                self._delete_at = time.monotonic() + DELETE_EVERY_SECONDS
