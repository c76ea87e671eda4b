"""The daemon's log: lines with date and level, or JSON, or as the journal takes them; the same fault once a minute.

A fault that repeats, such as a camera that sends garbage ten times a second, would fill a disk and hide all else. So
every warning goes through one place, which lets a fault through once a minute, and says then how often it came.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tagger.printable import LogFormatter, LogHandler, bounded_lines, echo, number_of
from tagger.times import rfc3339

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
LEVELS = ("debug", "info", "warning", "error")

REPEAT_SECONDS = 60.0
"""Time within which the same fault is said once, seconds."""
_MOST_FAULTS = 1_000
"""Most different faults that are remembered; the oldest is forgotten first."""
_NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*(?!\w)")
_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Priorities by which `journalctl -p warning` chooses lines."""


@dataclass
class _Fault:
    """A fault that was said."""

    record: logging.LogRecord
    """As it came last."""
    said_at: float
    """When it was said, on the monotonic clock."""
    since: float
    """When it was said, seconds since the epoch."""
    more: int = 0
    """Times that it came since then."""


class DaemonLog(LogHandler):
    """Writes to standard error. A warning or error that repeats is said once a minute, with a count."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._faults: OrderedDict[tuple[object, ...], _Fault] = OrderedDict()
        self._lock_faults = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        key, now = fault_key(record), self._now()
        with self._lock_faults:
            fault = self._faults.pop(key, None)
            if fault is not None and now - fault.said_at < REPEAT_SECONDS:
                fault.more, fault.record = fault.more + 1, record
                self._faults[key] = fault
                return
            self._faults[key] = _Fault(record, now, record.created)
            if len(self._faults) > _MOST_FAULTS:
                self._faults.popitem(last=False)
        super().emit(record if fault is None else _counted(record, fault))

    def say_repeated(self, at_once: bool = False) -> None:
        """Says what has repeated since it was said a minute ago, and forgets what has not.

        Args:
            at_once: also what was said less than a minute ago; the daemon is about to end.
        """
        now, due = self._now(), []
        with self._lock_faults:
            for key, fault in list(self._faults.items()):
                if now - fault.said_at < REPEAT_SECONDS and not at_once:
                    continue
                del self._faults[key]
                if fault.more:
                    due.append(fault)
                    self._faults[key] = _Fault(fault.record, now, time.time())
        for fault in due:
            super().emit(_counted(fault.record, fault, is_last=True))


def fault_key(record: logging.LogRecord) -> tuple[object, ...]:
    """Equal for the same fault of the same thing. Numbers may differ, but for those in the first value: its name."""
    values = record.args if isinstance(record.args, tuple) else ()
    texts = [each for each in values if not isinstance(each, int | float)]
    return record.name, record.msg, *(_NUMBER.sub("#", str(each)) if i else str(each) for i, each in enumerate(texts))


def _counted(record: logging.LogRecord, fault: _Fault, is_last: bool = False) -> logging.LogRecord:
    """The record with how often it came, since when.

    Args:
        is_last: whether this is the last of those that were counted, else it is one more.
    """
    if not fault.more:
        return record
    said = logging.makeLogRecord(record.__dict__)
    clock = time.strftime("%H:%M:%S", time.localtime(fault.since))
    said.msg = f"{record.getMessage()} ({number_of(fault.more + (not is_last), 'time')} since {clock})"
    said.args, said.repeated = (), fault.more + (not is_last)
    return said


class TextFormatter(LogFormatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(shown)s%(message)s", datefmt="%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.shown = f"{record.levelname}: " if record.levelno != logging.INFO else ""
        return super().formatMessage(record)


class JournalFormatter(LogFormatter):
    """The journal has date and time of its own, and takes the level from the line's beginning: sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_SYSLOG.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (repeated := getattr(record, "repeated", None)) is not None:
            line["repeated"] = repeated
        if record.exc_info:
            line["exception"] = "\n".join(bounded_lines(self.formatException(record.exc_info)))
        return json.dumps(line)


handler: DaemonLog | None = None
"""Takes the whole log. None: it was not configured, as where no daemon runs."""


def configure(level: str = "info", form: Format = "text") -> None:
    """Sends the log of the daemon, and warnings of libraries, to standard error."""
    global handler  # noqa: PLW0603
    handler = DaemonLog()
    formatter = JsonFormatter() if form == "json" else JournalFormatter() if is_journal() else TextFormatter()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    set_level(level)


def tell(line: str) -> None:
    """Says a line about the start on standard error; as a part of the log where that is JSON."""
    if handler is not None and isinstance(handler.formatter, JsonFormatter):
        logging.getLogger("tagger").info("%s", line)
    else:
        echo(line, err=True)


def set_level(level: str) -> None:
    """
    Args:
        level: one of LEVELS.
    """
    logging.getLogger("tagger").setLevel(level.upper())


def say_repeated(at_once: bool = False) -> None:
    """As `DaemonLog.say_repeated`, where the log was configured."""
    if handler is not None:
        handler.say_repeated(at_once)


def is_journal() -> bool:
    """Whether standard error goes to systemd's journal."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
