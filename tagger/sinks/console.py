"""Prints each event on standard output, in one line: text for people, or JSON."""

import errno
import json
import logging
import sys
import threading
import time
from typing import TextIO

from tagger.events import Event, Report, Stream
from tagger.printable import write_line
from tagger.sinks import Sink
from tagger.times import local

log = logging.getLogger(__name__)


_GONE = (errno.EPIPE, errno.EBADF, errno.EINVAL)
"""Errors of a standard output that nobody reads any more; Windows says EINVAL."""


class ConsoleSink(Sink):
    """Prints events and, with `explain`, the scores of each window. Stops when nobody reads any more."""

    def __init__(self, as_json: bool = False, explain: bool = False, file: TextIO | None = None) -> None:
        self._as_json, self._explain, self._file = as_json, explain, file or sys.stdout
        self._lock = threading.RLock()
        self._broken = False
        """Whether nobody reads any more."""
        self._trouble: str | None = None
        """Why lines are lost at present."""

    def event(self, stream: Stream, event: Event) -> None:
        with self._lock:  # so that the times of lines never run backwards
            now = time.time()
            self._print(json.dumps(event.to_json(stream, now)) if self._as_json else describe(event, stream, now))

    def report(self, stream: Stream, report: Report) -> None:
        if self._explain:
            self._print(explain(report, stream))

    def _print(self, line: str) -> None:
        with self._lock:
            if self._broken:
                return
            try:
                write_line(line, self._file)
                self._trouble = None
            except OSError as error:  # other sinks still work
                self._broken = error.errno in _GONE
                if error.strerror != self._trouble:
                    fate = "nothing more is printed" if self._broken else "lines are lost until it works again"
                    log.warning("standard output: %s; %s", error.strerror, fate)
                self._trouble = error.strerror


def explain(report: Report, stream: Stream) -> str:
    """One line a window: local time of its end; then score and label, and why the label is not announced."""
    labels = [f"{each.score:4.2f} {each.label} ({each.why or 'announced'})" for each in report.top]
    return f"{_local_time(report.scores.end_time)}  {stream.source:<10} {'  '.join(labels)}"


def describe(event: Event, stream: Stream, now: float) -> str:
    """One line an event: local time of the announcement, source, what happened, and local time of onset or offset,
    with the date if that was another day.

    Args:
        now: when the event is announced, seconds since the epoch.
    """
    line = f"{_local_time(now)}  {stream.source:<10} {event.label}"
    if event.offset is None:
        return f"{line} begins, score {event.score:.2f}, onset {_local_time(event.onset, now)}"
    lasted, offset = event.offset - event.onset, _local_time(event.offset, now)
    return f"{line} ends after {lasted:.1f} s, peak score {event.peak_score:.2f}, offset {offset}"


def _local_time(time: float, now: float | None = None) -> str:
    """The time of day, with the date if it is not that of `now`."""
    at = local(time)
    is_another_day = now is not None and at.date() != local(now).date()
    return at.strftime("%Y-%m-%d %H:%M:%S.%f" if is_another_day else "%H:%M:%S.%f")[:-5]
