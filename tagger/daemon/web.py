"""Answers those who ask how the daemon does: on a port (off by default), and on a socket in the state folder.

/healthz  200, or 503 where only a restart helps
/readyz   200, or 503 where anything is amiss; what it is, one line each
/metrics  for Prometheus
/status   the whole snapshot as JSON, for `tagger status`
"""

import contextlib
import json
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tagger import __version__, unforeseen
from tagger.daemon import metrics
from tagger.daemon.localsocket import is_answered, short_path, socket_path, sockets
from tagger.errors import SettingError, TaggerError
from tagger.files import PRIVATE, make_folders
from tagger.health import Snapshot
from tagger.names import is_this_machine
from tagger.ports import host_problem, port_problem
from tagger.settings import HttpSettings

log = logging.getLogger(__name__)

_MOST_CLIENTS = 8
"""Most clients that are answered at once. For one more, the one that has been there longest is hung up on."""
_MOST_THREADS = 64
"""Most threads of clients, those that were hung up on and have not ended yet among them."""
CLIENT_SECONDS = 10.0
"""Longest time that a client may take, seconds."""
Answer = tuple[HTTPStatus, str, str]
"""Status, content type, and text."""
Pages = Callable[[str], Answer | None]
"""Path -> answer. None: there is no such page."""


def _hang_up(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def answer(path: str, snapshot: Snapshot) -> Answer | None:
    """The answer to a request. None: there is no such page."""
    text = "text/plain; charset=utf-8"
    if path == "/metrics":
        return HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition(snapshot)
    if path == "/status":
        return HTTPStatus.OK, "application/json", json.dumps(snapshot.to_json(), allow_nan=False)
    if path == "/healthz":
        lines = [f"{name}: its thread is stuck" for name in snapshot.stuck]
    elif path == "/readyz":
        lines = [*snapshot.problems, *(f"{name}: starting" for name in snapshot.starting)]
    else:
        return None
    status = HTTPStatus.SERVICE_UNAVAILABLE if lines else HTTPStatus.OK
    return status, text, "".join(f"{line}\n" for line in lines or ["ok"])


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    timeout = 5.0
    """Longest wait for a client's next bytes, seconds."""
    server_version, sys_version = f"tagger/{__version__}", ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if not self.server.accepts_host(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, "ask by address, or by localhost")
            return
        try:
            found = self.server.page(self.path.partition("?")[0])
        except Exception as error:
            unforeseen.tell("http: a request", error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "something failed; the log says what")
            return
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND, "there is /healthz, /readyz, /metrics and /status")
            return
        status, kind, text = found
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        log.debug(format, *values)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A bounded number of clients, each for a bounded time."""

    daemon_threads, block_on_close, allow_reuse_address = True, False, True
    request_queue_size = 16

    def __init__(self, address: Any, page: Pages) -> None:
        """
        Raises:
            OSError: the address cannot be used.
        """
        self.page = page
        self._clients: dict[socket.socket, float] = {}
        """Clients that are being answered, and since when, on the monotonic clock."""
        self._count = 0
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def accepts_host(self, host: str) -> bool:
        """Whether a request may name this host."""
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._clients) >= _MOST_CLIENTS:  # who asks is answered within milliseconds: the oldest does not ask
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                _hang_up(oldest)
            is_full = self._count >= _MOST_THREADS
            if not is_full:
                self._count += 1
                self._clients[request] = time.monotonic()
        if is_full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._clients.pop(request, None)
                self._count -= 1

    def service_actions(self) -> None:
        """Hangs up on clients that take too long. Called twice a second."""
        with self._lock:
            for client, since in self._clients.items():
                if time.monotonic() - since > CLIENT_SECONDS:
                    _hang_up(client)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client's request", exc_info=True)


class _PortServer(_Server):
    def __init__(self, address: tuple[str, int], page: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._is_local = is_this_machine(address[0])
        super().__init__(address, page)

    def accepts_host(self, host: str) -> bool:
        """On this machine's own address, a request that names another host comes from a web page that has given its
        own name this address, to read what is heard here.
        """
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return not self._is_local or not name or is_this_machine(name.strip("[]"))


class _SocketServer(_Server):
    def __init__(self, path: Path, page: Pages) -> None:
        self.address_family = socket.AF_UNIX
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with short_path(partial) as name:
            super().__init__(name, page)
        partial.chmod(PRIVATE)
        partial.rename(path)  # from here on it is found, and it answers
        self.path = path

    def server_close(self) -> None:
        super().server_close()
        with contextlib.suppress(OSError):
            self.path.unlink()


@contextmanager
def answering(snapshot: Callable[[], Snapshot], http: HttpSettings | None, folder: Path) -> Iterator[None]:
    """Answers within the block.

    Args:
        http: the port. None: none is opened.
        folder: the folder of the local socket. It is made where it is missing, and then removed again if it is empty.

    Raises:
        TaggerError: the port cannot be opened. Where the local socket cannot be made, the log says so.
    """

    def page(path: str) -> Answer | None:
        return answer(path, snapshot())

    with ExitStack() as stack:
        if http is not None:
            stack.enter_context(answering_port(http, page))
        if hasattr(socket, "AF_UNIX"):
            made = [each for each in (folder, *folder.parents) if not each.exists()]
            try:
                server = _socket_server(folder, page)
            except OSError as error:
                log.info("tagger status cannot ask this daemon: %s: %s", folder, error.strerror or error)
            else:
                stack.callback(_remove_if_empty, made)
                stack.enter_context(_serving(server))
        yield


@contextmanager
def answering_port(http: HttpSettings, page: Pages) -> Iterator[None]:
    """Answers on a port within the block.

    Raises:
        TaggerError: the port cannot be opened.
    """
    with _serving(_port_server(http, page)):
        if not is_this_machine(http.host):
            log.info("http: whoever reaches %s:%d can read which sounds were heard", http.host, http.port)
        yield


def _port_server(http: HttpSettings, page: Pages) -> _Server:
    try:
        return _PortServer((http.host, http.port), page)
    except OSError as error:
        if problem := port_problem(error):
            raise SettingError("http.port", problem, http.port) from None
        if problem := host_problem(error):
            raise SettingError("http.host", problem, http.host) from None
        raise TaggerError(f"http: {http.host}:{http.port} cannot be opened: {error.strerror or error}") from None


def _socket_server(folder: Path, page: Pages) -> _Server:
    make_folders(folder, is_private=True)
    for left in sockets(folder):  # by a daemon that was killed
        if not is_answered(left):
            left.unlink(missing_ok=True)
    return _SocketServer(socket_path(folder, os.getpid()), page)


def _remove_if_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def _serving(server: _Server) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
