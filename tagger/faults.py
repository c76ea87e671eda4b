"""The last faults that the daemon has told: of sources, the broker, other receivers and all else; bounded."""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tagger.logs import fault_key
from tagger.times import rfc3339

MOST_FAULTS = 200
"""Most faults that are kept; the oldest is forgotten first."""
SAME_SECONDS = 600.0
"""Time within which the same fault is counted, seconds; later it is a new one."""
_MOST_CHARACTERS = 1_000
_LONGEST_NAME = 24
"""Longest beginning of a message that names what it is about, characters."""


@dataclass(eq=False)
class _Fault:
    """A fault, however often it was told."""

    key: object
    """Equal for the same fault of the same thing."""
    about: str
    said: str
    advice: str
    level: str
    first: float
    """When it was told first, seconds since the epoch."""
    last: float
    times: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
            "times": self.times,
            "level": self.level,
            "about": self.about,
            "said": self.said,
            "advice": self.advice,
        }


class Faults(logging.Handler):
    """Keeps warnings and errors of the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[_Fault] = deque(maxlen=MOST_FAULTS)
        """The one that was told last is last."""
        self._lock_kept = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            key, (about, said, advice), now = fault_key(record), parts_of(record), record.created
        except Exception:  # a message whose values do not fit must not end the thread that tells it
            self.handleError(record)
            return
        with self._lock_kept:
            fault = next((each for each in reversed(self._kept) if each.key == key), None)
            if fault is None or now - fault.last > SAME_SECONDS:
                level = "error" if record.levelno >= logging.ERROR else "warning"
                self._kept.append(_Fault(key, about, said, advice, level, now, now))
                return
            fault.said, fault.advice, fault.last, fault.times = said, advice, now, fault.times + 1
            self._kept.remove(fault)
            self._kept.append(fault)

    def to_json(self) -> dict[str, Any]:
        """The answer to `/api/faults`: the one that was told last comes first."""
        with self._lock_kept:
            return {"faults": [fault.to_json() for fault in reversed(self._kept)]}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes what `tagger` logs, within the block."""
        log = logging.getLogger("tagger")
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)


def parts_of(record: logging.LogRecord) -> tuple[str, str, str]:
    """What a message is about, what is wrong, and what to do or what is done about it. The log writes
    `ABOUT: SAID; ADVICE`; parts that are missing are "".
    """
    text = record.getMessage()[:_MOST_CHARACTERS].encode(errors="replace").decode()
    form, colon, _ = str(record.msg).partition(": ")
    about = ""
    if form == "%s" and colon and isinstance(record.args, tuple) and record.args:
        about = str(record.args[0])
    elif "%" not in form and len(form) <= _LONGEST_NAME and text.startswith(f"{form}: "):
        about = form
    rest = text.removeprefix(f"{about}: ") if about else text
    said, _, advice = rest.partition("; ")
    return about[:_MOST_CHARACTERS], said, advice
