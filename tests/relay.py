"""A relay between the daemon and its broker, which a test can hold, shut and open."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Relay:
    """Passes bytes on in both directions. If the broker dies, its last bytes arrive before the end."""

    def __init__(self, broker_port: int, port: int = 0) -> None:
        """
        Args:
            port: to listen on. 0: any that is free.
        """
        self._broker_port = broker_port
        self._listening = socket.create_server(("127.0.0.1", port), backlog=8)
        self.port: int = self._listening.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._to_broker = threading.Lock()
        """Taken while bytes go to the broker, and by `hold`."""
        self._is_held = False
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def shut(self) -> None:
        """Lets no new connection through. Those that are open stay."""
        self._open.clear()

    def hold(self) -> None:
        """Passes nothing on to the broker any more, until `open`. What the broker answers still arrives."""
        self._to_broker.acquire()
        self._is_held = True

    def open(self) -> None:
        """Lets connections through, and bytes to the broker."""
        self._release()
        self._open.set()

    def close(self) -> None:
        """Call it when the daemon and the broker have ended."""
        self._closed = True
        self._release()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _release(self) -> None:
        if self._is_held:  # otherwise a thread that passes bytes on has it locked
            self._is_held = False
            self._to_broker.release()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self._open.is_set():
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            self._start(self._join, client, broker)

    def _start(self, what: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self, client: socket.socket, broker: socket.socket) -> None:
        with client, broker:
            up = threading.Thread(target=_pass_on, args=(client, broker, self._to_broker), daemon=True)
            up.start()
            _pass_on(broker, client, contextlib.nullcontext())
            up.join()


def _pass_on(source: socket.socket, target: socket.socket, allowed: contextlib.AbstractContextManager[object]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            with allowed:
                target.sendall(data)
    for each in (target, source):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
