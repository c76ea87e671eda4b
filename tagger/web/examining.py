"""`tagger doctor` on demand: its checks run in a thread of their own, one run at a time."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tagger import unforeseen
from tagger.times import rfc3339


class Examining:
    """The last run of the checks, and the one that runs. Any thread calls its methods."""

    def __init__(self, examine: Callable[[], Iterable[Mapping[str, str]]]) -> None:
        """
        Args:
            examine: looks at everything; gives each finding as `tagger doctor --json` has it, as soon as it is known.
        """
        self._examine = examine
        self._lock = threading.Lock()
        self._is_running = False
        self._began: float | None = None
        self._ended: float | None = None
        self._findings: list[Mapping[str, str]] = []

    def start(self) -> dict[str, Any]:
        """Begins a run, unless one runs. Returns at once, as `to_json`."""
        with self._lock:
            if not self._is_running:
                self._is_running, self._began, self._ended, self._findings = True, time.time(), None, []
                threading.Thread(target=self._run, name="doctor", daemon=True).start()
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """The answer to `/api/doctor`."""
        with self._lock:
            return {
                "running": self._is_running,
                "began": None if self._began is None else rfc3339(self._began),
                "ended": None if self._ended is None else rfc3339(self._ended),
                "findings": list(self._findings),
            }

    def _run(self) -> None:
        try:
            for each in self._examine():
                with self._lock:
                    self._findings.append(each)
        except Exception as error:  # the daemon listens on
            unforeseen.tell("the live page: doctor", error)
            failed = {"about": "doctor", "state": "fail", "said": f"{type(error).__name__}: {error}", "advice": ""}
            with self._lock:
                self._findings.append(failed)
        finally:
            with self._lock:
                self._is_running, self._ended = False, time.time()
