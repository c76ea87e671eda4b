"""The daemon's side of the readers: starts them, reads what they send, and ends them."""

import atexit
import contextlib
import itertools
import json
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tagger.children import end, start_module
from tagger.condition import SourceError
from tagger.sources.network.wire import ABOUT, BROKEN, HEAD, MOST_BYTES, SOUND, SOUND_HEAD, About, Order

_READ_BYTES = 1 << 16
_POLL_SECONDS = 0.2
"""Longest time until `close` is noticed while nothing comes."""
_GRACE_SECONDS = 2.5
"""Time beyond its own limit after which a reader that says nothing is killed: its watching thread hangs too."""
_END_SECONDS = 3.0


class Readers:
    """The process that readers are forked from. It is started when the first is wanted. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        """The process. None: no reader was wanted yet, or it was ended."""
        self._control: socket.socket | None = None
        self._numbers = itertools.count(1)

    def start(self, order: Order) -> "Reading":
        """A reader that does what the order says.

        Raises:
            SourceError: no process can be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._lock, theirs:
            number = next(self._numbers)
            message = json.dumps({"start": number, "order": asdict(order)}).encode()
            try:
                for is_last in (False, True):
                    try:
                        socket.send_fds(self._host(), [message], [theirs.fileno()])
                        break
                    except OSError:
                        self._end()  # it was killed: the next is started
                        if is_last:
                            raise
            except OSError as error:
                ours.close()
                raise SourceError("failed", f"no process can be started that reads it ({error.strerror})") from None
        return Reading(order, ours, lambda: self._kill(number))

    def stop(self) -> None:
        """Ends the process and all readers."""
        with self._lock:
            self._end()

    def _host(self) -> socket.socket:
        if self._control is not None and self.process is not None and self.process.poll() is None:
            return self._control
        self._end()
        self.process, self._control = start_module("tagger.sources.network.host", socket.SOCK_SEQPACKET)
        return self._control

    def _kill(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._control is not None:
                self._control.send(json.dumps({"kill": number}).encode())

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self.process is not None:
            end(self.process, _END_SECONDS)
        self._control = self.process = None


READERS = Readers()
atexit.register(READERS.stop)


@dataclass(frozen=True, eq=False)
class Sound:
    """Samples as a reader has sent them."""

    rate_hz: int
    channels: int
    stamp_s: float
    """Time stamp of the first, by the stream's own clock, seconds; not a number where it has none."""
    samples: bytes
    """float32, a frame after the other."""


class Reading:
    """What one reader sends. `close` from any thread, the rest from one."""

    def __init__(self, order: Order, socket_: socket.socket, kill: Callable[[], None]) -> None:
        self._order, self._socket, self._kill = order, socket_, kill
        self._data = bytearray()
        self._closed = threading.Event()
        self.on_wait: Callable[[float], None] = lambda seconds: None
        """Called some times a second while it waits, with the seconds without sound."""
        self.about: About | None = None
        self.waited = False
        """Whether the last sound had to be waited for."""
        self._sound_at = time.monotonic()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def next(self) -> Sound | None:
        """The next sound, for which it waits. None after `close`.

        Raises:
            SourceError: the stream ended or broke, or the reader did.
        """
        self.waited = not self.has_more(0)
        while not self._closed.is_set():
            if (message := self._message()) is not None:
                kind, payload = message
                if kind == SOUND:
                    self._sound_at = time.monotonic()
                    rate_hz, channels, stamp_s = SOUND_HEAD.unpack_from(payload)
                    return Sound(rate_hz, channels, stamp_s, payload[SOUND_HEAD.size :])
                if kind == ABOUT:
                    self.about = About(**json.loads(payload))
                elif kind == BROKEN:
                    raise SourceError(**json.loads(payload))
                continue
            if not self._is_readable(_POLL_SECONDS):
                silent_s = time.monotonic() - self._sound_at
                if silent_s > max(self._order.silent_s, self._order.open_s) + _GRACE_SECONDS:
                    raise SourceError("no_bytes", f"its reader hangs: nothing has come for {silent_s:.0f} s")
                self.on_wait(silent_s)
                continue
            if not self._take():
                raise SourceError("failed", "the process that reads it has died")
        return None

    def has_more(self, within_s: float) -> bool:
        """Whether a sound is here, now or within some seconds."""
        deadline = time.monotonic() + within_s
        while not self._is_complete():
            if not self._is_readable(max(0.0, deadline - time.monotonic())) or not self._take():
                return self._is_complete()
        return True

    def close(self) -> None:
        """Ends the reader at once, whatever it hangs in. Once."""
        self._closed.set()
        self._kill()
        self._socket.close()

    def stop_waiting(self) -> None:
        """Makes `next` return soon. From any thread."""
        self._closed.set()

    def _is_complete(self) -> bool:
        return len(self._data) >= HEAD.size and len(self._data) >= HEAD.size + HEAD.unpack_from(self._data)[1]

    def _message(self) -> tuple[bytes, bytes] | None:
        if len(self._data) < HEAD.size:
            return None
        kind, size = HEAD.unpack_from(self._data)
        if size > MOST_BYTES:
            raise SourceError("failed", "its reader sent what is no message")
        if len(self._data) < HEAD.size + size:
            return None
        payload = bytes(self._data[HEAD.size : HEAD.size + size])
        del self._data[: HEAD.size + size]
        return kind, payload

    def _is_readable(self, within_s: float) -> bool:
        return bool(select.select([self._socket], [], [], within_s)[0])

    def _take(self) -> bool:
        """Takes what is there. False: the reader has ended."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            return False
        self._data += data
        return bool(data)
