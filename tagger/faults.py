"""The last faults that the daemon has told: of sources, the broker, other receivers and all else; bounded."""

import logging
import threading
from collections import OrderedDict
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


@dataclass
class _Fault:
    """A fault, however often it was told."""

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
        self._kept: OrderedDict[int, tuple[object, _Fault]] = OrderedDict()
        """By number, with what makes a fault the same; the one that was told last is last."""
        self._latest: dict[object, int] = {}
        """Number of the last fault that is the same."""
        self._made = 0
        self._lock_kept = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        key, now = fault_key(record), record.created
        about, said, advice = parts_of(record)
        with self._lock_kept:
            number = self._latest.get(key)
            fault = self._kept[number][1] if number is not None else None
            if number is not None and fault is not None and now - fault.last <= SAME_SECONDS:
                fault.said, fault.advice, fault.last, fault.times = said, advice, now, fault.times + 1
                self._kept.move_to_end(number)
                return
            self._made += 1
            level = "error" if record.levelno >= logging.ERROR else "warning"
            self._kept[self._made] = key, _Fault(about, said, advice, level, now, now)
            self._latest[key] = self._made
            if len(self._kept) > MOST_FAULTS:
                gone, (same, _) = self._kept.popitem(last=False)
                if self._latest[same] == gone:
                    del self._latest[same]

    def to_json(self) -> dict[str, Any]:
        """The answer to `/api/faults`: the one that was told last comes first."""
        with self._lock_kept:
            return {"faults": [fault.to_json() for _, fault in reversed(self._kept.values())]}

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
