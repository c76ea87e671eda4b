"""Home Assistant's ingress, emulated: what Core and then its Supervisor do to a request and its answer on the way to
an add-on's page, as in `homeassistant/components/hassio/ingress.py` and `supervisor/api/ingress.py`.

Of each request they pass on cookies and the host; Core asks for what is packed in its own way, writes X-Ingress-Path
and X-Forwarded-*, and hands bodies over in chunks. Of each answer they unpack the body and leave out how it was packed,
its length and the character set of its type; what has no length is passed on piece by piece.
"""

import gzip
import http.client
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pytest

TOKEN = "q3zKxr8T_dB-iVb0yYzJ2aRgXw1LkE6m"
PREFIX = f"/api/hassio_ingress/{TOKEN}"
SESSION = "ingress_session=5f0c3a"
_NOT_ASKED = {"content-length", "content-encoding", "transfer-encoding", "connection"}
_NOT_ANSWERED = {"content-length", "content-encoding", "transfer-encoding", "content-type", "connection"}
_USER = {"x-remote-user-id", "x-remote-user-name", "x-remote-user-display-name"}
_LARGEST = 4_194_000
"""Longest body that is read whole before it is passed on, bytes."""


def own_address() -> str:
    """This machine's address in its network. Skips the test where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine is in no network: what comes from 127.0.0.1 is never Home Assistant")
        return str(probe.getsockname()[0])


class _Hop(BaseHTTPRequestHandler):
    """One of the two: passes a request on, and its answer back."""

    protocol_version = "HTTP/1.1"
    upstream: tuple[str, int]

    def target(self, path: str) -> str | None:
        """Where a decoded path leads; None: it was answered here."""
        raise NotImplementedError

    def changed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of the request that is passed on, by lower-case name."""
        raise NotImplementedError

    def handle_one_request(self) -> None:
        with suppress(OSError, http.client.HTTPException):  # one of the sides has gone
            super().handle_one_request()

    def pass_on(self) -> None:
        split = urlsplit(self.path)
        target = self.target(unquote(split.path))
        if target is None:
            return
        body = self._body()
        if split.query:  # each value is decoded and encoded again
            target += "?" + urlencode(parse_qsl(split.query, keep_blank_values=True))
        given = {name.lower(): value for name, value in self.headers.items() if name.lower() not in _NOT_ASKED}
        upstream = http.client.HTTPConnection(*self.upstream, timeout=90)
        self.server.opened.append(upstream)  # type: ignore[attr-defined]
        try:
            upstream.request(self.command, target, body, self.changed(given))
            self._answer(upstream.getresponse())
        finally:
            upstream.close()

    def do_GET(self) -> None:
        self.pass_on()

    def do_HEAD(self) -> None:
        self.pass_on()

    def do_POST(self) -> None:
        self.pass_on()

    def _body(self) -> bytes | None:
        if self.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, found: http.client.HTTPResponse) -> None:
        self.send_response_only(found.status)
        for name, value in found.getheaders():
            if name.lower() not in _NOT_ANSWERED:
                self.send_header(name, value)
        if kind := found.headers.get("content-type"):
            self.send_header("Content-Type", kind.partition(";")[0].strip())
        length = found.headers.get("content-length")
        if self.command == "HEAD" or found.status in (204, 304) or (length and int(length) < _LARGEST):
            self._whole(found)
        else:
            self._stream(found)

    def _whole(self, found: http.client.HTTPResponse) -> None:
        body = found.read()
        packing = found.headers.get("content-encoding")
        if body and packing:
            body = gzip.decompress(body) if packing == "gzip" else zlib.decompress(body)
        if found.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, found: http.client.HTTPResponse) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := found.read1(1 << 16):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class _Core(_Hop):
    """Home Assistant itself: its own page holds the add-on's in a frame, as its sidebar does."""

    def target(self, path: str) -> str | None:
        if path.startswith("/api/hassio_ingress/"):
            return quote(path.replace("/api/hassio_ingress/", "/ingress/", 1))
        frame = f'<!doctype html><title>Home Assistant</title><iframe src="{PREFIX}/" width=390 height=800></iframe>'
        self.send_response_only(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", f"{SESSION}; Path=/api/hassio_ingress/; SameSite=Strict")
        self.send_header("Content-Length", str(len(frame)))
        self.end_headers()
        self.wfile.write(frame.encode())
        return None

    def changed(self, headers: Mapping[str, str]) -> dict[str, str]:
        before = headers.get("x-forwarded-for")
        token = unquote(self.path).split("/")[3]
        return {
            **headers,
            "accept-encoding": "gzip, deflate",
            "x-hass-source": "core.ingress",
            "x-ingress-path": f"/api/hassio_ingress/{token}",
            "x-forwarded-for": (f"{before}, " if before else "") + self.client_address[0],
            "x-forwarded-host": headers.get("x-forwarded-host", headers["host"]),
            "x-forwarded-proto": headers.get("x-forwarded-proto", "http"),
        }


class _Supervisor(_Hop):
    """The Supervisor: asks for Home Assistant's session, and says whose it is."""

    user: str

    def target(self, path: str) -> str | None:
        if SESSION not in self.headers.get("cookie", ""):
            self.send_response_only(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if not path.startswith(f"/ingress/{TOKEN}/"):
            self.send_response_only(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return quote("/" + path.removeprefix(f"/ingress/{TOKEN}/"))

    def changed(self, headers: Mapping[str, str]) -> dict[str, str]:
        passed = {name: value for name, value in headers.items() if name not in _USER}
        user = {"x-remote-user-id": "8d31", "x-remote-user-name": self.user, "x-remote-user-display-name": "Anna"}
        return {**passed, **user, "x-forwarded-for": f"{headers.get('x-forwarded-for')}, {self.client_address[0]}"}


@contextmanager
def ingress(page: tuple[str, int], user: str = "anna") -> Iterator[str]:
    """Serves Home Assistant within the block. Yields its address: its own page holds the add-on's.

    Args:
        page: address and port of the page. The Supervisor asks from that address, too.
        user: who is logged in to Home Assistant.
    """
    with ExitStack() as serving:
        supervisor = serving.enter_context(_serving(_Supervisor, page, page[0], user))
        yield f"http://127.0.0.1:{serving.enter_context(_serving(_Core, (page[0], supervisor), '127.0.0.1', user))}"


@contextmanager
def _serving(kind: type[_Hop], upstream: tuple[str, int], host: str, user: str) -> Iterator[int]:
    handler = type(kind.__name__, (kind,), {"upstream": upstream, "user": user})
    with ThreadingHTTPServer((host, 0), handler) as server:
        server.daemon_threads, server.opened = True, []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            for each in server.opened:  # type: ignore[attr-defined]
                with suppress(OSError, AttributeError):
                    each.sock.shutdown(socket.SHUT_RDWR)
            server.shutdown()
            thread.join()
