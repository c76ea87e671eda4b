"""The socket in a folder by which the processes of one machine reach the coordinator."""

import contextlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tagger.daemon.localsocket import connect, short_path
from tagger.fleet.messages import Orders, Report
from tagger.unforeseen import contained

ASK_SECONDS = 4.0
"""Longest wait for an answer, seconds: well below the term of a lease."""
_MOST_BYTES = 64_000_000
"""Longest message."""

Handler = Callable[[dict[str, Any], int], Any]
"""Takes a message, as JSON, and the id of the process that sent it, 0 where that is not known. Returns the answer.
It is called in any thread.
"""


def socket_of(folder: Path) -> Path:
    return folder / "fleet.sock"


class Server:
    """Answers on the socket of a folder until `close`."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        """
        Raises:
            OSError: the socket cannot be made.
        """
        path = socket_of(folder)
        path.unlink(missing_ok=True)

        class Answering(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                pid = _peer(self.connection)
                with contained("fleet: a message"), contextlib.suppress(OSError, ValueError):
                    while line := self.rfile.readline(_MOST_BYTES):
                        self.wfile.write(json.dumps(handler(json.loads(line), pid)).encode() + b"\n")

        class Listening(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 128

        with short_path(path) as name:
            self._server = Listening(name, Answering)
        path.chmod(0o600)
        threading.Thread(target=self._server.serve_forever, args=[0.2], name="fleet-socket", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _peer(connection: socket.socket) -> int:
    """The id of the process at the other end, as the kernel knows it. 0: not known."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    size = struct.calcsize("3i")
    pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return pid


class Client:
    """Asks a server. One thread at a time uses it."""

    def __init__(self, folder: Path, wait_s: float = ASK_SECONDS) -> None:
        self._path, self._wait_s = socket_of(folder), wait_s
        self._socket: socket.socket | None = None
        self._lines: Any = None

    def ask(self, message: Mapping[str, Any]) -> Any:
        """
        Raises:
            OSError: nobody answers.
        """
        try:
            if self._socket is None:
                self._socket = connect(self._path, self._wait_s)
                self._lines = self._socket.makefile("rb")
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            line = self._lines.readline(_MOST_BYTES)
            if not line:
                raise ConnectionError("the coordinator has hung up")
            return json.loads(line)
        except (OSError, ValueError) as error:
            self.close()
            raise error if isinstance(error, OSError) else ConnectionError(str(error)) from None

    def report(self, report: Report) -> Orders | None:
        """
        Raises:
            OSError: nobody answers.
        """
        found = self.ask({"report": report.to_json()})
        return None if found is None else Orders.from_json(found)

    def close(self) -> None:
        for each in (self._lines, self._socket):
            if each is not None:
                each.close()
        self._lines = self._socket = None
