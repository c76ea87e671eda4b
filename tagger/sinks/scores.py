"""Keeps the scores of each window that could begin or hold an event, for the live page's view of thresholds."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from tagger.errors import TaggerError
from tagger.events import Report, Stream
from tagger.history.blocks import CLOSED, NEW, Block, KeptWindow
from tagger.history.scores import ScoreHistory
from tagger.retention import Retention
from tagger.retry import Retry
from tagger.settings import ScoreHistorySettings
from tagger.sinks import SourceState
from tagger.sinks.queued import QueuedSink

_MAX_WAITING = 10_000
"""Largest number of windows that wait."""
WRITE_SECONDS = 60.0
"""Time between two writes: what a crash loses at most, seconds."""
_DELETE_EVERY_SECONDS = 3_600.0
_Item = tuple[Stream, KeptWindow | None] | None
"""A window; None within: the open events of the stream were ended. None: the file is to be opened."""


class ScoreHistorySink(QueuedSink[_Item]):
    """Collects windows in blocks, each of one source, and writes them once a minute.

    A file that cannot be used, as it is damaged or another process keeps it locked, keeps nobody from listening: it is
    opened in the worker's thread, which says why not, and tries again.
    """

    def __init__(self, settings: ScoreHistorySettings) -> None:
        super().__init__("score history", str(settings.path), _MAX_WAITING)
        self.retry = Retry(str(settings.path), "scores wait, trying again, every {longest:g} s at last")
        self._settings = settings
        self._retention = Retention(86_400 * settings.keep_days, "scores")
        self._history: ScoreHistory | None = None
        self._blocks: dict[str, Block] = {}
        """The block of each source that is not full."""
        self._full: list[Block] = []
        self._pending: dict[str, int] = {}
        """Flags of the next window of each source."""
        self._write_at = time.monotonic() + WRITE_SECONDS
        self._delete_at = 0.0

    def open(self, streams: Sequence[Stream]) -> None:
        self._pending = {stream.source: NEW for stream in streams}
        self._start_worker()
        self._enqueue(None)

    def report(self, stream: Stream, report: Report) -> None:
        self._enqueue((stream, KeptWindow.of(report.scores)))

    def status(self, stream: Stream, state: SourceState, detail: str) -> None:
        if state != "online":  # then the open events have just been ended
            self._enqueue((stream, None))

    def close(self, wait_s: float) -> None:
        """
        Raises:
            TaggerError: not all could be written.
        """
        try:
            super().close(wait_s)
            if not self.counts()["waiting"] and (self._full or self._blocks):
                self._write()
        except (OSError, sqlite3.Error) as error:
            raise TaggerError(f"{self._settings.path}: the last scores could not be written ({error})") from None
        finally:
            if self._history is not None and not self.counts()["waiting"]:  # else the worker's thread may still write
                self._history.close()

    def _deliver(self, item: _Item) -> None:
        self._count_delivered()
        if item is None:
            self._retry_until_written(self._open, TaggerError, OSError, sqlite3.Error)
            return
        stream, window = item
        if window is None:
            self._pending[stream.source] = self._pending.get(stream.source, 0) | CLOSED
            if (block := self._blocks.get(stream.source)) is not None:
                block.after = CLOSED
            return
        window = replace(window, flags=window.flags | self._pending.pop(stream.source, 0))
        block = self._blocks.get(stream.source)
        if block is None or not block.fits(window, stream.labels):
            if block is not None:
                self._full.append(block)
            block = self._blocks[stream.source] = Block(stream.node, stream.source, stream.labels)
        block.windows.append(window)
        block.after = 0
        if time.monotonic() >= self._write_at:
            self._retry_until_written(self._write, TaggerError, OSError, sqlite3.Error)

    def _open(self) -> ScoreHistory:
        self._history = self._history or ScoreHistory(self._settings.path)
        return self._history

    def _write(self) -> None:
        history = self._open()
        history.write([*self._full, *self._blocks.values()])
        self._full.clear()
        self._write_at = time.monotonic() + WRITE_SECONDS
        if time.monotonic() >= self._delete_at:
            for start, end in self._retention.old(history.ends):
                history.delete(start, end)
            history.shrink(1e6 * self._settings.keep_mb)
            self._delete_at = time.monotonic() + _DELETE_EVERY_SECONDS
