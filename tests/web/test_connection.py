"""Connections on which nobody asks, or nobody reads, are ended; all others go on."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tagger.events import LabelScore
from tests.programs import until
from tests.web.pages import STREAM, Follower, Page, page, report

connection = pytest.importorskip("tagger.web.connection", reason="uvicorn is not installed: scripts/setup dev")
HOST = b"Host: localhost\r\n"


@pytest.fixture
def served() -> Iterator[Page]:
    with page(password="correct horse") as made:
        yield made


def open_connection(served: Page, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", served.port), timeout=90)
    made.sendall(sent)
    return made


def rest_of(client: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    found = b""
    try:
        while data := client.recv(4096):
            found += data
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n" + HOST,
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\npass",
        b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\r\npass\r\n",
    ],
)
def test_whoever_does_not_ask_in_time_is_hung_up(monkeypatch: pytest.MonkeyPatch, served: Page, sent: bytes) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.1)
    with open_connection(served, sent) as client:
        assert rest_of(client) == b""


def test_whoever_follows_what_is_live_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.1)
    with page() as served:
        reader = Follower(served)
        reader.until("health")
        reader.until("health")
        reader.close()


def test_connections_on_which_nobody_asks_make_room(monkeypatch: pytest.MonkeyPatch, served: Page) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 5)
    with ExitStack() as idle:
        starts = (b"", b"GET", b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n")
        clients = [idle.enter_context(open_connection(served, starts[number % 3])) for number in range(30)]
        for _ in range(3):
            assert served.ask("/login")[0] == 200
        assert rest_of(clients[0]) == b""


def test_a_reader_that_never_reads_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.2)
    with page() as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(b"GET /api/live HTTP/1.1\r\n" + HOST + b"\r\n")
        until(lambda: served.live.readers == 1, "it has come")

        def is_gone() -> bool:
            served.live.report(STREAM, report(100.0, LabelScore("dog", 0.7, "x" * 500_000)))
            return served.live.readers == 0

        until(is_gone, "it was hung up")
        assert served.json("/api/health")["verdict"] == "ok"


def test_each_part_of_an_answer_is_sent_at_once(monkeypatch: pytest.MonkeyPatch, served: Page) -> None:
    made, seen = connection.Connection.connection_made, []

    def note(self: Any, transport: Any) -> None:
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(connection.Connection, "connection_made", note)
    assert served.ask("/login")[0] == 200
    assert [value != 0 for value in seen] == [True]  # else the second part waits for the first one's acknowledgement
