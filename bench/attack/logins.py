"""Passwords that are guessed, cookies that are forged, and a guest who wants what the owner may."""

import itertools
import random
import threading
import time
from collections import Counter

from bench.attack.target import SOURCE, Target
from bench.attack.wire import GUEST, OWNER, Tries, Wire
from tagger.web import openapi
from tagger.web.passwords import SPAN_SECONDS, Passwords
from tagger.web.roles import Role

_FOR_GUESTS = (
    "/api/me",
    "/api/health",
    "/api/sources",
    "/api/events",
    "/api/counts",
    "/api/levels",
    "/api/nodes",
    "/api/places",
    "/api/labels",
    "/api/openapi.json",
)
_GUESSES = 1_500
_FORGED = 500
_MOST_LOOKED_AT = 5 * 5
"""Passwords that may be looked at while the guesses last: 5 a minute, of at most five minutes."""


def logins(target: Target, tries: Tries, rng: random.Random) -> None:
    """Passwords are not guessed, cookies not forged, and a guest's is no owner's."""
    wire = target.wire()
    _guests(target, wire, tries)
    _cookies(target, wire, tries, rng)
    _guesses(target, tries)
    _addresses(wire, tries)
    tries.notes.append(_timing())
    start = time.monotonic()  # the door opens again by itself, and for the right password alone
    while not (cookie := wire.log_in(OWNER)[1]) and time.monotonic() - start < 3 * SPAN_SECONDS:
        time.sleep(2)
    tries.expect(f"the door stays closed for {time.monotonic() - start:.0f} s", bool(cookie))
    status, _ = wire.ask("/logout", "POST", {"Cookie": cookie, "Origin": target.origin})
    tries.look("log out", status, status == 303)
    status, _ = wire.ask("/api/me", headers={"Cookie": cookie})
    tries.look("a session that has ended", status, status == 401)


def _guests(target: Target, wire: Wire, tries: Tries) -> None:
    for path, methods in openapi.document()["paths"].items():
        for method in methods:
            if path == "/api/live":
                continue
            asked = path.replace("{name}", SOURCE).replace("{id}", "e0")
            sent = {**target.guest, "Content-Type": "application/json"}
            status, _ = wire.ask(asked, method.upper(), sent, b'{"enabled": false}' if method == "post" else b"")
            tries.look(f"guest {method} {path}", status, status == (200 if path in _FOR_GUESTS else 403))


def _cookies(target: Target, wire: Wire, tries: Tries, rng: random.Random) -> None:
    name, _, token = target.owner_cookie.partition("=")
    forged = [token[:-1], token.swapcase(), token[::-1], token + "a", "", "0", "null", "true", "../../x", "' or 1=1--",
              "%00", "\udcff", "x" * 8_000, f"{token[:-1]}%{ord(token[-1]):x}", OWNER, GUEST, "$argon2id$"]  # fmt: skip
    forged += [f"{rng.getrandbits(256):064x}" for _ in range(_FORGED)]
    for each in forged:
        for sent in ({"Cookie": f"{name}={each}"}, {"Cookie": f"{name}={each}; {name}=x"}):
            status, _ = wire.ask("/api/me", headers=sent)
            tries.look(f"cookie {each}", status, status in (401, 400))
    _, planted = wire.log_in(GUEST, Cookie=f"{name}=planted", Origin=target.origin)
    tries.look("a planted session", 303 if planted else 0, bool(planted) and not planted.endswith("planted"))


def _guesses(target: Target, tries: Tries) -> None:
    """Many at once, from 20 connections of 20 addresses of this machine."""
    before, answers, lock = target.processor_seconds(), Counter[str](), threading.Lock()
    numbers = iter(range(_GUESSES))

    def guess() -> None:
        wire = target.wire()
        while True:
            with lock:
                if (number := next(numbers, None)) is None:
                    return
            if number % 3:
                led, cookie = wire.log_in(f"guess {number}")
                is_right = not cookie
            else:
                status, _ = wire.ask("/api/me", headers={"Authorization": f"Bearer guess {number}"})
                led, is_right = f"bearer {status}", status in (401, 429, 0)
            with lock:
                answers[led or "hung up"] += 1
            tries.look(f"guess {number}", 303 if led.startswith("login") else int(led.partition(" ")[2] or 0), is_right)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = target.processor_seconds() - before
    tries.notes.append(f"{_GUESSES:,} guesses: {dict(answers)}; {took:.1f} s of the daemon's processor")
    looked_at = answers["login?wrong"] + answers["bearer 401"]
    tries.expect(f"{looked_at} passwords were looked at", looked_at <= _MOST_LOOKED_AT)


def _addresses(wire: Wire, tries: Tries) -> None:
    """Forged headers do not make another sender of one whose door is closed. It is closed anew first: it opens a minute
    after the wrong passwords that closed it, and those that came meanwhile were not looked at and do not count.
    """
    start, count = time.monotonic(), 0
    while time.monotonic() - start < 3 * SPAN_SECONDS and count < 3:
        count += wire.log_in("guess")[0] == "login?wrong"
        time.sleep(0.5)
    while time.monotonic() - start < 4 * SPAN_SECONDS and wire.log_in("guess")[0] != "login?blocked":
        pass
    for sent in (
        *({name: "198.51.100.7"} for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP")),
        {"Forwarded": "for=198.51.100.9"},
        {"X-Forwarded-For": "127.0.0.1, 198.51.100.7", "X-Forwarded-Host": "localhost"},
        {"X-Remote-User-Name": "owner", "X-Ingress-Path": "/x"},
    ):
        led, cookie = wire.log_in("guess again", **sent)
        tries.look(f"another address by {sent}: {led}", 303, led == "login?blocked" and not cookie)
        led, cookie = wire.log_in(OWNER, **sent)
        tries.look(f"the password from another address by {sent}: {led}", 303, led == "login?blocked" and not cookie)


def _timing() -> str:
    """Whether the time of an answer says how much of a password was right: medians of 2,000, all interleaved."""
    clock = itertools.count(step=1_000)
    passwords = Passwords({Role.OWNER: OWNER}, now=lambda: float(next(clock)))
    given = {"first letter wrong": "x" + OWNER[1:], "last letter wrong": OWNER[:-1] + "x", "another length": OWNER * 3}
    took: dict[str, list[int]] = {name: [] for name in given}
    for _ in range(2_000):
        for name, each in given.items():
            start = time.perf_counter_ns()
            passwords.check(each, "192.0.2.1")
            took[name].append(time.perf_counter_ns() - start)
    return "time of a wrong password: " + ", ".join(
        f"{name} {sorted(each)[1_000] / 1e3:.1f} µs" for name, each in took.items()
    )
