"""What the daemon is asked by signals: to stop (SIGINT, SIGTERM), or to read its settings again (SIGHUP).

A part that failed asks it to stop, too.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TextIO

from tagger.errors import TaggerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Set once, by the first signal, by `set` or by `fail`. Within its `with` block, signals do nothing else.

    After an interruption further signals are ignored for good: the process is ending in good order and soon.
    """

    def __init__(self, reloads: bool = False) -> None:
        """
        Args:
            reloads: SIGHUP calls `on_reload`, or waits for it to be set, unless it comes from a terminal that has
                closed.
        """
        self._reloads = reloads
        self.interrupted = False
        """A signal asked for it: someone waits for the end."""
        self.failure: TaggerError | None = None
        """The first that `fail` was told."""
        self.on_reload: Callable[[], None] | None = None
        """Called by `wait`, in its thread."""
        self._stopped, self._called = False, threading.Event()
        self._reload = False
        self._terminals: list[TextIO] = []
        self._previous: dict[int, object] = {}

    def set(self) -> None:
        self._stopped = True
        self._called.set()

    def fail(self, error: TaggerError) -> None:
        """Stop, for this reason. From any thread."""
        self.failure = self.failure or error
        self.set()

    def wait(self, timeout_s: float = threading.TIMEOUT_MAX) -> bool:
        """Until it is set, or for so long. Returns whether it is."""
        if self._stopped or not self._called.wait(max(0.0, min(timeout_s, threading.TIMEOUT_MAX))):
            return self._stopped
        self._called.clear()  # before it is looked why: what comes from now on is seen next time
        if not self._stopped and self._reload and self.on_reload is not None:
            self._reload = False
            self.on_reload()
        return self._stopped

    def __enter__(self) -> "Stop":
        self._terminals = [each for each in (sys.stdin, sys.stdout, sys.stderr) if each is not None and each.isatty()]
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.interrupted:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self.set()
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        # A terminal that has closed is none any more by the time that its signal comes.
        has_closed = bool(self._terminals) and not any(each.isatty() for each in self._terminals)
        if self._reloads and not has_closed:
            self._reload = True
            self._called.set()
        else:
            self._on_signal(number, frame)
