"""Attacks the live page as somebody would who shall not be let in, and says what was tried and what gave way.

    python bench/attack.py [--rounds 1] [--only NAME]

A page is served on this machine, with a password, guests, and names and labels that are markup; all requests go over
the wire. Exit code 1: something gave way. The part `browser` needs Chromium and Playwright (`pip install playwright`).
"""

import argparse
import itertools
import json
import random
import re
import resource
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tagger.events import LabelScore, Stream
from tagger.web import openapi
from tagger.web.passwords import Passwords, hash_of
from tagger.web.roles import Role
from tests.healths import snapshot, source
from tests.web.pages import Page, event, page, report

OWNER, GUEST = "correct horse battery", "staple of the guests"
MARKUP = (
    "<img src=x data-evil onerror=window.hit=1>",
    "<script data-evil>window.hit=1</script>",
    '"><svg data-evil onload=window.hit=1>',
    "'-alert(1)-'",
    "javascript:window.hit=1",
    "</title><b data-evil>",
    "{{7*7}}${window.hit=1}",
    "a\u202eb\u0000c",
)
FORM = "application/x-www-form-urlencoded"


class Wire:
    """One connection on which bytes are sent as they are."""

    def __init__(self, port: int, timeout: float = 30) -> None:
        self._port, self._timeout, self._socket = port, timeout, socket.socket()
        self._socket.close()

    def ask(
        self, path: bytes | str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str]:
        """Status, and headers with body, of an answer; status 0: the other side hung up."""
        sent = {"Host": f"127.0.0.1:{self._port}", **(headers or {})}
        if body or method == "POST":
            sent.setdefault("Content-Length", str(len(body)))
        lines = [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in sent.items()]
        target = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        return self.raw(b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""]) + body)

    def raw(self, data: bytes) -> tuple[int, str]:
        try:
            if self._socket.fileno() < 0:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=self._timeout)
            self._socket.sendall(data)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := self._socket.recv(65_536)):
                    raise ConnectionError
                head += more
            text, _, body = head.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: ([0-9]+)", text.lower())
            while length is not None and len(body) < int(length[1]):
                if not (more := self._socket.recv(65_536)):
                    break
                body += more
            status = int(text.split(b" ")[1])
            if status in (400, 413) or b"connection: close" in text.lower() or length is None:
                self._socket.close()
            return status, (text + b"\r\n\r\n" + body).decode("utf-8", "replace")
        except (ConnectionError, TimeoutError):
            self._socket.close()
            return 0, ""


class Tries:
    """What was tried of one kind, what came of it, and what gave way."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.gave_way: list[str] = []
        self.notes: list[str] = []

    def look(self, what: str, status: int, is_right: bool) -> None:
        self.answers[str(status or "hung up")] += 1
        if not is_right or status >= 500:
            self.gave_way.append(f"{status}: {what[:160]!r}")


def log_in(wire: Wire, password: str, **headers: str) -> tuple[str, str]:
    """Where the login leads, and the cookie that it gives."""
    body = f"password={password.replace(' ', '+')}".encode()
    _, text = wire.ask("/login", "POST", {"Content-Type": FORM, **headers}, body)
    led, cookie = re.search(r"location: (\S+)", text), re.search(r"set-cookie: ([^;]+)", text)
    return (led[1] if led else ""), (cookie[1] if cookie else "")


def paths(served: Page, tries: Tries) -> None:
    """No path leads out of the page's files, and none past the login."""
    owner = {"Authorization": f"Bearer {OWNER}"}
    ups = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        ".%2e/",
        "..\\",
        "..%5c",
        "%252e%252e%252f",
        "..%c0%af",
        "%c0%ae%c0%ae/",
        "%e0%80%ae%e0%80%ae/",
        "..;/",
        "....//",
        "..%00/",
        "..%u2215",
        "%uff0e%uff0e/",
    )
    targets = ("etc/passwd", "app.py", "../access.py", "proc/self/environ", "windows%5cwin.ini", "%00", "events.sqlite")
    starts = ("/static/", "/api/clips/", "/api/sources/", "/api/", "/", "/login/", "//")
    whole = (
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "C:%5cwindows%5cwin.ini",
        "%2fetc%2fpasswd",
        "~root/.ssh",
        "%5c%5chost%5cshare",
        "CON",
        "NUL",
        "a%00.js",
        "app.js%00",
        "app.js/",
        "APP.JS",
        "app.js%20",
        "app.js.",
        "*",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV.flac",
        "%",
        "%zz",
        "%ff",
        "?",
        "#",
    )
    made = [
        start + up * depth + target for start, up, depth, target in itertools.product(starts, ups, range(1, 6), targets)
    ]
    made += [start + each for start, each in itertools.product(starts, whole)]
    known, stranger = Wire(served.port), Wire(served.port)
    for path in made:
        if any(letter in path for letter in " #"):
            continue
        status, text = known.ask(path, headers=owner)
        tries.look(path, status, is_right=status != 200 or path in ("/?", "//?") or not path.strip("/"))
        if "root:x" in text or "import " in text or "PATH=" in text:
            tries.gave_way.append(f"content: {path}")
        status, text = stranger.ask(path)
        tries.look(f"stranger {path}", status, is_right=status != 200 and "verdict" not in text)


def login(served: Page, tries: Tries) -> None:
    """Passwords are not guessed, cookies not forged, and a guest's is no owner's."""
    wire = Wire(served.port)
    _, guest = log_in(wire, GUEST)
    for path, methods in openapi.document()["paths"].items():
        for method in methods:
            if path == "/api/live":
                continue
            asked = path.replace("{name}", "mic").replace("{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
            sent = {"Cookie": guest, "Origin": f"http://127.0.0.1:{served.port}", "Content-Type": "application/json"}
            status, _ = wire.ask(asked, method.upper(), sent, b'{"enabled": false}' if method == "post" else b"")
            allowed = method == "get" and path in (
                "/api/me",
                "/api/health",
                "/api/sources",
                "/api/events",
                "/api/labels",
            )
            tries.look(f"guest {method} {path}", status, status == (200 if allowed else 403))
    _, planted = log_in(wire, OWNER, Cookie="tagger_session=planted", Origin=f"http://127.0.0.1:{served.port}")
    tries.look("a planted session", 200 if planted.endswith("planted") else 303, not planted.endswith("planted"))
    name, _, token = planted.partition("=")
    forged = [
        token[:-1],
        token + "=",
        token.swapcase(),
        token[::-1],
        "",
        "0",
        "null",
        "true",
        "../../x",
        "' or 1=1--",
        "%00",
        "\udcff",
        "x" * 8_000,
    ]
    forged += [f"{random.getrandbits(256):064x}" for _ in range(1_500)]
    for each in [*forged, *(guest.partition("=")[2] + letter for letter in "ab=;")]:
        if each == token or each.rstrip("=;") == guest.partition("=")[2] or (each == token + "="):
            continue
        status, _ = wire.ask("/api/me", headers={"Cookie": f"{name}={each}"})
        tries.look(f"cookie {each}", status, status in (401, 400))
    before, answers = time.process_time(), Counter[str]()
    guesses = iter([f"guess {number}" for number in range(3_000)])
    lock = threading.Lock()

    def guess() -> None:
        own = Wire(served.port)
        while True:
            with lock:
                each = next(guesses, None)
            if each is None:
                return
            led, cookie = log_in(own, each)
            with lock:
                answers[led or "hung up"] += 1
                tries.look(f"guess {each}", 303 if led else 0, not cookie)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tries.notes.append(
        f"3,000 guesses on 20 connections: {dict(answers)}, {time.process_time() - before:.1f} s of processor"
    )
    if answers["login?wrong"] > 30:
        tries.gave_way.append(f"{answers['login?wrong']} passwords were looked at")
    for _ in range(6):
        log_in(wire, "guess")
    for sent in ({"X-Forwarded-For": "198.51.100.7"}, {"X-Real-IP": "198.51.100.8"}, {"Forwarded": "for=198.51.100.9"}):
        led, cookie = log_in(wire, "guess again", **sent)
        tries.look(f"another address by {sent}", 303, led == "login?blocked" and not cookie)
    tries.notes.append(timing())


def timing() -> str:
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


def connections(served: Page, tries: Tries) -> None:
    """A thousand who connect and do not ask keep nobody out."""
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
        for number in range(1_000):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
            with suppress(ConnectionError):
                client.sendall(starts[number % 4])
            clients.append(client)
            if number % 50 == 49:
                start = time.monotonic()
                status, _ = Wire(served.port).ask("/api/health", headers={"Authorization": f"Bearer {OWNER}"})
                longest = max(longest, time.monotonic() - start)
                tries.look(f"the owner, beside {number + 1} connections", status, status == 200)
            tries.answers["opened"] += 1
        for _ in range(20):  # a header a round, never the last
            for client in clients:
                with suppress(OSError):
                    client.send(b"X-A: b\r\n")
        status, _ = Wire(served.port).ask("/api/health", headers={"Authorization": f"Bearer {OWNER}"})
        tries.look("the owner, beside slow headers", status, status == 200)
    tries.notes.append(f"the owner's longest wait beside them: {longest * 1e3:.0f} ms")


def browser(served: Page, tries: Tries) -> None:
    """Names, labels and reasons that are markup are shown as text by Chromium, on every view."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        tries.notes.append("not tried: Chromium or Playwright is missing")
        return
    shown = [each.replace("\u0000", " ") for each in MARKUP]
    streams = [Stream("attic", each, "fake", tuple(shown)) for each in shown]
    served.live.open(streams)
    served.found = snapshot(
        *(source(each, detail=each, state="retrying", reason=each) for each in shown), trouble=shown[0]
    )
    for stream, (number, label) in itertools.product(streams, enumerate(shown)):
        served.live.report(stream, report(time.time(), LabelScore(label, 0.7, label)))
        served.live.event(stream, event(f"{stream.source}-{number}", time.time() - 5, time.time(), label=label))
    with sync_playwright() as run:
        made = run.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = made.new_page(extra_http_headers={"Authorization": f"Bearer {OWNER}"})
        said: list[str] = []
        tab.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        for view in ("now", "day", "review", "thresholds", "health"):
            tab.goto(f"{served.url}#{view}", wait_until="load")
            tab.wait_for_timeout(3_000)
            found = tab.evaluate(
                "[window.hit ?? null, document.querySelectorAll('[data-evil], main script').length,"
                " document.body.innerText.length]"
            )
            tries.look(
                f"view {view}: {found} {said}", 200, found[0] is None and found[1] == 0 and found[2] > 100 and not said
            )
        tries.answers["names, labels and reasons"] += len(streams) * len(shown)
        made.close()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


PARTS: dict[str, Callable[[Page, Tries], None]] = {each.__name__: each for each in (paths, connections, browser, login)}


@contextmanager
def _page() -> Iterator[Page]:
    with page(password=hash_of(OWNER), guest_password=hash_of(GUEST)) as served:
        yield served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, most), most))
    gave_way = 0
    for _ in range(given.rounds):
        for name, attack in PARTS.items():
            if given.only in (None, name):
                tries, start = Tries(), time.monotonic()
                with _page() as served:
                    attack(served, tries)
                took = time.monotonic() - start
                print(f"{name}: {tries.answers.total():,} in {took:.0f} s {json.dumps(tries.answers)}", flush=True)
                print(
                    *(f"  {each}" for each in tries.notes),
                    *(f"  GAVE WAY {each}" for each in tries.gave_way[:20]),
                    sep="\n",
                )
                gave_way += len(tries.gave_way)
    print(f"{gave_way} gave way")
    sys.exit(1 if gave_way else 0)


if __name__ == "__main__":
    main()
