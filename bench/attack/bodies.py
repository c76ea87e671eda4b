"""Bodies that are too long, too deep, endless, slow, of the wrong kind, or damaged."""

import itertools
import json
import random
import socket
import time

from bench.attack.target import SOURCE, Target
from bench.attack.wire import FORM, Tries

_PATHS = ("/login", f"/api/sources/{SOURCE}", "/none", "/logout", "/api/clips/marks", "/api/thresholds")
_REFUSED = (0, 303, 400, 401, 403, 404, 413, 415)
_JSON = (b"[" * 4_000, b'{"a":' * 800, b'{"enabled": NaN}', b'{"enabled": 1e999}', b"\xff\xfe", b"1" * 4_000,
         b'"' + b"\\ud800" * 100 + b'"', b'{"enabled": "true"}', b'{"enabled": true, "enabled": []}', b"{}", b"null",
         b'{"enabled": true', b"", b"\x00", b'{"enabled": {"$gt": ""}}', b'{"__proto__": {"enabled": true}}',
         b'{"enabled": 1}', b'[{"enabled": false}]', "{\u2018enabled\u2019: false}".encode())  # fmt: skip
_FORMS = (b"password=" + b"a" * 4_000, b"&" * 4_000, b"a=1&" * 900, b"%zz=%", b"password=%ff%00", b"password[]=x",
          b"\xff" * 100, b"password=" + b"%00" * 1_000, b"=" * 4_000)  # fmt: skip
_WRONG = (None, True, [], {}, "x", -1, 1.5, float("nan"), float("inf"), 10**400, "\ud800", "a" * 3_000, [["a"]])
_SLOW = 30
_DAMAGED = 400


def bodies(target: Target, tries: Tries, rng: random.Random) -> None:
    """Bodies that are too long, endless, or no JSON are refused, and change nothing."""
    sender = {**target.owner, "Content-Type": "application/json"}
    for path, sent in itertools.product(_PATHS, ({}, sender)):
        if path == "/logout" and sent:
            continue  # it would log the owner out
        for length in (70_000, 1_000_000, 50_000_000):
            head = {**sent, "Content-Length": str(length)}
            status, _ = target.wire(5).ask(path, "POST", head, b"x" * min(length, 2_000_000))
            tries.look(f"{length} bytes to {path}", status, status in _REFUSED)
        chunks = b"".join(b"1000\r\n" + b"x" * 4_096 + b"\r\n" for _ in range(500))
        status, _ = target.wire(5).ask(
            path, "POST", {**sent, "Transfer-Encoding": "chunked", "Content-Length": "0"}, chunks
        )
        tries.look(f"chunks to {path}", status, status in _REFUSED)
    wire = target.wire(5)
    for body, path in itertools.product(_JSON, _PATHS[1:]):
        if path != "/logout":
            status, _ = wire.ask(path, "POST", sender, body)
            tries.look(f"body {body[:40]!r} to {path}", status, status in (400, 404))
    fields = {
        "/api/sources/" + SOURCE: ("enabled",),
        "/api/thresholds": ("source", "label", "enter"),
        "/api/clips/marks": ("marks",),
    }
    whole = {"source": SOURCE, "label": "Siren", "enter": 0.5}
    for path, names in fields.items():
        for name, wrong in itertools.product(names, _WRONG):
            wanted = (
                {name: wrong}
                if len(names) == 1
                else {**whole, name: wrong, "label": wrong if name == "label" else "none"}
            )
            if name == "enabled" and wrong is True:
                continue
            status, _ = wire.ask(path, "POST", sender, json.dumps(wanted).encode())
            tries.look(f"{path} {wanted}"[:150], status, status in (400, 404))
    for form in _FORMS:
        status, text = wire.ask(
            "/login", "POST", {"Content-Type": FORM, "Expect": rng.choice(("", "100-continue"))}, form
        )
        tries.look(f"form {form[:40]!r}", status, status in (303, 400) and "set-cookie" not in text)
    _slow(target, tries)


def _slow(target: Target, tries: Tries) -> None:
    """Bodies of a byte a second do not wait for longer than a request may take, and nobody waits beside them."""
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 4000\r\n\r\n".encode()
    clients = [socket.create_connection(("127.0.0.1", target.port), timeout=30) for _ in range(_SLOW)]
    for client in clients:
        client.sendall(head)
    opened, start = set(clients), time.monotonic()
    while opened and time.monotonic() - start < 60:
        for client in [*opened]:
            try:
                client.send(b"a")
            except OSError:
                opened.discard(client)
        status, _ = target.wire().ask("/api/me", headers=target.owner)
        tries.look("the owner, beside slow bodies", status, status == 200)
        time.sleep(1)
    tries.answers["slow bodies"] += _SLOW
    tries.expect(f"{len(opened)} slow bodies wait after {time.monotonic() - start:.0f} s", not opened)
    for client in clients:
        client.close()


def noise(target: Target, tries: Tries, rng: random.Random) -> None:
    """Damaged requests are refused, and the page goes on."""
    head = f"POST /api/sources/{SOURCE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = (head + 'Content-Length: 18\r\n\r\n{"enabled": false}').encode()
    wire = target.wire(0.3)
    for _ in range(_DAMAGED):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 3))
        status, text = wire.raw(bytes(data) + b"\r\n\r\n")
        tries.look(repr(bytes(data)), status, status != 200 or "enabled" not in text)
    status, _ = target.wire().ask("/login")
    tries.look("afterwards", status, status == 200)
