"""How a process is asked to stop, by a signal or by a part that failed; and how a daemon is asked to reload."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self, TextIO

from tagger.errors import TaggerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Set once: by the first signal, by `set` or by `fail`. Within its `with` block, signals do nothing else.

    After the first signal all later ones are ignored for good: the process is about to end by itself.
    """

    def __init__(self) -> None:
        self.interrupted = False
        """Whether a signal set it, so that someone waits for the end."""
        self.failure: TaggerError | None = None
        """The first error that `fail` was given."""
        self._stopped, self._woken = False, threading.Event()
        self._previous: dict[int, object] = {}

    def set(self) -> None:
        self._stopped = True
        self._woken.set()

    def fail(self, error: TaggerError) -> None:
        """Stops because of this error. From any thread."""
        self.failure = self.failure or error
        self.set()

    def wait(self, timeout_s: float = threading.TIMEOUT_MAX) -> bool:
        """Waits until it is set or `timeout_s` has passed. Returns whether it is set."""
        if self._stopped or not self._woken.wait(max(0.0, min(timeout_s, threading.TIMEOUT_MAX))):
            return self._stopped
        self._woken.clear()  # before looking for the reason: what comes from now on is seen next time
        if not self._stopped:
            self._handle_request()
        return self._stopped

    def _handle_request(self) -> None:
        """Called by `wait`, in its thread, when it was woken for something else than to stop."""

    def __enter__(self) -> Self:
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
        self._on_signal(number, frame)


class StopOrReload(Stop):
    """A Stop that SIGHUP does not set: it calls `on_reload`. When the terminal closes, SIGHUP sets it all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.on_reload: Callable[[], None] | None = None
        """Called by `wait`, in its thread. A SIGHUP that comes while this is None waits until it is not."""
        self._reload = False
        self._terminals: list[TextIO] = []

    def __enter__(self) -> Self:
        self._terminals = [each for each in (sys.stdin, sys.stdout, sys.stderr) if each is not None and each.isatty()]
        return super().__enter__()

    def _handle_request(self) -> None:
        if self._reload and self.on_reload is not None:
            self._reload = False
            self.on_reload()

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        # When the signal of a closed terminal arrives, isatty() is already false.
        has_closed = bool(self._terminals) and not any(each.isatty() for each in self._terminals)
        if has_closed:
            self._on_signal(number, frame)
        else:
            self._reload = True
            self._woken.set()
