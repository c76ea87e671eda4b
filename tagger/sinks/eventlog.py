"""Events in an SQLite database, which `tagger events` reads."""

import sqlite3
import time
from collections.abc import Sequence

from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tagger.history.log import EventLog, Row
from tagger.settings import EventLogSettings
from tagger.sinks.queued import QueuedSink

_WAITING = 10_000
_AT_ONCE = 500
"""Events in one transaction, when so many wait."""
_DELETE_EVERY_SECONDS = 3_600.0
_DELETED_AT_ONCE = 2_000
"""Few enough that another process's events hardly wait."""


class EventLogSink(QueuedSink[Row]):
    def __init__(self, settings: EventLogSettings) -> None:
        super().__init__("event log", str(settings.path), _WAITING)
        self._path, self._keep_days = settings.path, settings.keep_days
        self._log: EventLog | None = None
        self._batch: list[Row] = []
        self._delete_at = 0.0
        """On the monotonic clock."""

    def open(self, streams: Sequence[Stream]) -> None:
        """
        Raises:
            UserError: the file is damaged, something else, or cannot be written to. It is left as it was.
        """
        self._log = EventLog(self._path)
        self._start()

    def event(self, stream: Stream, event: Event) -> None:
        self._put(
            Row(
                id=event.id,
                node=stream.node,
                source=stream.source,
                label=event.label,
                onset=event.onset,
                offset=event.offset,
                score=event.score,
                peak_score=event.peak_score,
                model=stream.model,
                cause=event.cause,
            )
        )

    def close(self, wait_s: float) -> None:
        try:
            super().close(wait_s)
        finally:
            if self._log is not None and not self.counts()["waiting"]:  # else its thread may still be at it
                self._log.close()

    def _do(self, item: Row) -> None:
        assert self._worker is not None
        self._batch.append(item)
        if self._worker.waiting > 1 and len(self._batch) < _AT_ONCE:
            return  # the next ones are written with it
        if self._persist(self._write, TaggerError, OSError, sqlite3.Error):
            self._delivered(len(self._batch))
            self._batch.clear()

    def _write(self) -> None:
        if self._log is not None and not self._log.is_in_place:
            self._log.close()
            self._log = None
        self._log = self._log or EventLog(self._path)
        self._log.write(self._batch)
        if self._keep_days is not None and time.monotonic() >= self._delete_at:
            deleted = self._log.delete_before(time.time() - 86_400 * self._keep_days, _DELETED_AT_ONCE)
            if deleted < _DELETED_AT_ONCE:
                self._delete_at = time.monotonic() + _DELETE_EVERY_SECONDS
