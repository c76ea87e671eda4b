"""Web servers that can fail as real ones do: one serves a file, one takes POSTs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CHUNK_BYTES = 50_000


class Server(ThreadingHTTPServer):
    """Serves `content` at any path."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.ranges = True
        """Whether it understands Range."""
        self.breaks_at: int | None = None
        """Number of bytes of the body after which it closes the connection. None: it sends all."""
        self.says_length = True
        self.chunked = False
        """Whether it sends no length and no ranges, like GitHub, which makes an archive while it sends it."""
        self.status: int | None = None
        """Status of every answer. None: it serves the file."""
        self.asked: list[str | None] = []
        """Range headers of the requests so far."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        self.close_connection = True
        if server.status:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: server.breaks_at]
        if not server.chunked:
            self.wfile.write(sent)
            return
        for first in range(0, len(sent), _CHUNK_BYTES):
            chunk = sent[first : first + _CHUNK_BYTES]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if server.breaks_at is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Hook(ThreadingHTTPServer):
    """Takes POSTs and gives them the `answers` in turn."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _HookHandler)
        self.answers: list[tuple[int | None, dict[str, str]]] = []
        """Status and headers for each request. None: it closes the connection. After the last answer: 200."""
        self.hangs_s = 0.0
        """Time before it answers, seconds."""
        self.posts: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        """Path, headers (names in lower case) and JSON of each request so far."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "hook") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def handle_error(self, *_: Any) -> None:
        """Ignores clients that closed the connection."""


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.posts.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, headers = server.answers.pop(0) if server.answers else (200, {})
        if server.hangs_s:
            time.sleep(server.hangs_s)
        if status is None:
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.posts.append((self.path, {"method": "GET"}, {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hooked(port: int = 0) -> Iterator[Hook]:
    with Hook(port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
