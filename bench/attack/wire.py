"""Bytes that are sent as they are, at a bounded pace; what came of them."""

import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress

OWNER, GUEST = "correct horse battery", "staple of the guests"
CANARY = "canary-7f3a91c2"
"""Stands in all that may not be read: a file beside the clips, the configuration, a variable of the environment."""
FORM = "application/x-www-form-urlencoded"
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
_SECRETS = (CANARY, "$argon2", "root:x:", "PATH=", "Traceback (", "import annotations", "from tagger")
"""What no answer may hold."""


class Pace:
    """Lets so many requests a second pass, all threads together: the attack waits most of its time."""

    def __init__(self, per_second: float) -> None:
        self._step, self._next, self._lock = 1 / per_second, 0.0, threading.Lock()

    def wait(self) -> None:
        with self._lock:
            self._next = max(time.monotonic(), self._next + self._step)
            delay = self._next - time.monotonic()
        time.sleep(max(0.0, delay))


class Wire:
    """One connection at a time to the page, opened again where it was ended."""

    def __init__(self, port: int, pace: Pace, timeout: float = 30) -> None:
        self.port, self._pace, self._timeout = port, pace, timeout
        self._socket = socket.socket()
        self._socket.close()
        self.leaks: list[str] = []
        """Answers that held what no answer may hold."""

    def ask(
        self, path: bytes | str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str]:
        """Status, and headers with body, of an answer; status 0: the other side hung up, or never answered."""
        sent = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        if body or method == "POST":
            sent.setdefault("Content-Length", str(len(body)))
        lines = [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in sent.items()]
        target = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        head = b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""])
        return self.raw(head + body, has_body=method != "HEAD")

    def raw(self, data: bytes, has_body: bool = True) -> tuple[int, str]:
        """As `ask`, of bytes."""
        self._pace.wait()
        try:
            if self._socket.fileno() < 0:
                self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=self._timeout)
            with suppress(ConnectionError):  # refused while it was sent: the answer may be there
                self._socket.sendall(data)
            head = self._until_empty_line()
            text, _, body = head.partition(b"\r\n\r\n")
            if text.startswith(b"HTTP/1.1 100"):
                text, _, body = (body or self._until_empty_line()).partition(b"\r\n\r\n")
            status, low = int(text.split(b" ")[1]), text.lower()
            length = re.search(rb"content-length: ([0-9]+)", low)
            wanted = int(length[1]) if length is not None and has_body and status not in (204, 304) else 0
            while len(body) < wanted and (more := self._socket.recv(65_536)):
                body += more
            if status in (400, 413, 500) or b"connection: close" in low or b"text/event-stream" in low:
                self._socket.close()
        except (OSError, ValueError, IndexError):
            self._socket.close()
            return 0, ""
        found = (text + b"\r\n\r\n" + body).decode("utf-8", "replace")
        self._note_leaks(data, found)
        return status, found

    def all(self, data: bytes) -> tuple[int, str]:
        """As `raw`, with all that comes until the other side hangs up, or says nothing for as long as `timeout`."""
        self._pace.wait()
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=self._timeout) as own, suppress(OSError):
            own.sendall(data)
            while more := own.recv(65_536):
                found += more
        text = found.decode("utf-8", "replace")
        self._note_leaks(data, text)
        status = re.match(r"HTTP/1\.1 ([0-9]{3})", text)
        return (int(status[1]) if status is not None else 0), text

    def log_in(self, password: str, **headers: str) -> tuple[str, str]:
        """Where the login leads, and the cookie that it gives."""
        body = f"password={password.replace(' ', '+')}".encode()
        _, text = self.ask("/login", "POST", {"Content-Type": FORM, **headers}, body)
        led, cookie = re.search(r"location: (\S+)", text), re.search(r"set-cookie: ([^;]+)", text)
        return (led[1] if led else ""), (cookie[1] if cookie else "")

    def _note_leaks(self, data: bytes, answer: str) -> None:
        self.leaks += [f"{secret} in the answer to {data[:100]!r}" for secret in _SECRETS if secret in answer]

    def _until_empty_line(self) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := self._socket.recv(65_536)):
                raise ConnectionError
            head += more
        return head


class Tries:
    """What was tried of one kind, what came of it, and what gave way."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.gave_way: list[str] = []
        self.notes: list[str] = []
        self._lock = threading.Lock()

    def look(self, what: str, status: int, is_right: bool) -> None:
        """Notes an answer. An error of the daemon's own is never right."""
        with self._lock:
            self.answers[str(status or "hung up")] += 1
            if not is_right or (status >= 500 and status != 503):
                self.gave_way.append(f"{status}: {what[:200]!r}")

    def expect(self, what: str, is_right: bool) -> None:
        """Notes what is no answer."""
        if not is_right:
            self.gave_way.append(what[:300])
