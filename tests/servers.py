"""A web server that serves one file, and fails in the ways that servers fail."""

import threading
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
        """It understands Range."""
        self.breaks_at: int | None = None
        """So many bytes into the body, it hangs up."""
        self.says_length = True
        self.chunked = False
        """As GitHub, which makes an archive while it sends it: no length, no ranges."""
        self.status: int | None = None
        """Its answer to everything."""
        self.asked: list[str | None] = []
        """Range headers that came."""

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
