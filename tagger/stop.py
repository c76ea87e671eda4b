"""How the daemon is asked to stop: by SIGINT or SIGTERM, from its first moment on, or by a part that failed."""

import signal
import threading
from types import FrameType, TracebackType

from tagger.errors import TaggerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Set once, by the first signal, by `set` or by `fail`. Within its `with` block, signals do nothing else.

    After an interruption further signals are ignored for good: the process is ending in good order and soon.
    """

    def __init__(self) -> None:
        self.interrupted = False
        """A signal asked for it: someone waits for the end."""
        self.failure: TaggerError | None = None
        """The first that `fail` was told."""
        self._event = threading.Event()
        self._previous: dict[int, object] = {}

    def set(self) -> None:
        self._event.set()

    def fail(self, error: TaggerError) -> None:
        """Stop, for this reason. From any thread."""
        self.failure = self.failure or error
        self._event.set()

    def wait(self) -> None:
        self._event.wait()

    def __enter__(self) -> "Stop":
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.interrupted:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self._event.set()
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
