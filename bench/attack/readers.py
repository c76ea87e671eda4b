"""Streams that nobody reads, and connections on which nobody asks."""

import random
import socket
import time
from contextlib import ExitStack, suppress

from bench.attack.target import SOURCE, Target
from bench.attack.wire import Tries

_READERS = 60
_LIMIT = 32
_CONNECTIONS = 600


def readers(target: Target, tries: Tries, rng: random.Random) -> None:
    """Streams that are read slowly, not at all, or were half closed, are bounded; when they end, others may read."""
    asked = (
        f"GET /api/live?columns={SOURCE} HTTP/1.1\r\nHost: localhost\r\nCookie: {target.owner_cookie}\r\n\r\n".encode()
    )
    with ExitStack() as opened:
        clients, served = [], 0
        for number in range(_READERS):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.settimeout(10)
            with suppress(OSError):
                client.connect(("127.0.0.1", target.port))
                client.sendall(asked)
                is_served = client.recv(12).endswith(b"200")
                if number % 3 == 1:
                    client.shutdown(socket.SHUT_WR)  # it ends, and another may come
                else:
                    served += is_served
            clients.append(client)
            tries.answers["streams"] += 1
        tries.expect(f"{served} streams at once", 0 < served <= _LIMIT)
        for _ in range(20):
            for client in clients[::3]:  # one byte a round
                with suppress(OSError):
                    client.recv(1)
            status, _ = target.wire().ask("/api/me", headers=target.owner)
            tries.look("the owner, beside streams", status, status == 200)
            time.sleep(0.5)
        tries.notes.append(f"{served} of {_READERS} streams were served at once; {target.cost()}")
    for _ in range(60):  # they come and go at once
        with socket.create_connection(("127.0.0.1", target.port), timeout=10) as client:
            client.sendall(asked)
        tries.answers["streams"] += 1
    deadline, status = time.monotonic() + 60, 0
    while status != 200 and time.monotonic() < deadline:
        status, _ = target.wire(5).ask("/api/live", headers=target.owner)
        time.sleep(0.5)
    tries.look("a reader afterwards", status, status == 200)


def connections(target: Target, tries: Tries, rng: random.Random) -> None:
    """Hundreds who connect and do not ask keep nobody out."""
    host = b"Host: localhost\r\n"
    starts = (
        b"",
        b"G",
        b"GET / HTTP/1.1\r\n" + host,
        b"POST /login HTTP/1.1\r\n" + host + b"Content-Length: 4000\r\n\r\npass",
    )
    longest = 0.0
    with ExitStack() as opened:
        clients = []
        for number in range(_CONNECTIONS):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=30))
            with suppress(ConnectionError):
                client.sendall(starts[number % 4])
            clients.append(client)
            if number % 50 == 49:
                start = time.monotonic()
                status, _ = target.wire().ask("/api/health", headers=target.owner)
                longest = max(longest, time.monotonic() - start)
                tries.look(f"the owner, beside {number + 1} connections", status, status == 200)
            tries.answers["connections"] += 1
        for _ in range(20):  # a header a round, never the last
            for client in clients:
                with suppress(OSError):
                    client.send(b"X-A: b\r\n")
            time.sleep(0.2)
        status, _ = target.wire().ask("/api/health", headers=target.owner)
        tries.look("the owner, beside slow headers", status, status == 200)
    tries.notes.append(f"the owner's longest wait beside them: {longest * 1e3:.0f} ms")
