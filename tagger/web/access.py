"""Who may see the page: hosts that a request may name, where it may come from, passwords and sessions.

On this machine's own address nobody is asked for a password unless one is set. A web page elsewhere must not read what
is heard here, though it runs in a browser of this machine: see `Access.problem`.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from tagger.names import is_this_machine
from tagger.settings import WebSettings

COOKIE = "tagger_session"
SESSION_SECONDS = 30 * 86_400.0
"""Time after which a browser must log in again, seconds."""
_MOST_SESSIONS = 64
"""Most browsers that are logged in; the oldest is logged out."""
_SPAN_SECONDS = 60.0
_MOST_FAILURES = 5
"""Most wrong passwords of one address within the span."""
_MOST_FAILURES_OF_ALL = 30
"""The same of all addresses."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers by which a proxy says for whom it asks."""


class Access:
    """Decides about requests. Any thread calls it."""

    def __init__(self, settings: WebSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._is_local, self._now = is_this_machine(settings.host), now
        self._password = None if settings.password is None else _digest(settings.password)
        own = socket.gethostname().lower()
        own_names = {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
        self._hosts = {each.lower() for each in settings.hosts} | (set() if self._is_local else own_names)
        self._lock = threading.Lock()
        self._sessions: dict[str, float] = {}
        """Digest of each session's token -> when it ends."""
        self._failures: deque[tuple[float, str]] = deque(maxlen=_MOST_FAILURES_OF_ALL)
        """Time and address of the last wrong passwords."""

    @property
    def asks(self) -> bool:
        """Whether a password is wanted."""
        return self._password is not None

    def problem(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused, whoever makes it. None: it is not.

        Args:
            headers: by their names in lower case.
        """
        host = headers.get("host", "")
        if not self._accepts_host(host):
            return "this name is not one of this machine's; ask by address, or add the name to web.hosts"
        if self._is_local and not self.asks and any(name in headers for name in _FORWARDED):
            return "a proxy lets others in; set a password (web.password_file)"
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return "another site's page may not ask"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and path in ("/", "/login")
            if not (is_link and headers.get("sec-fetch-dest", "document") == "document"):
                return "another site's page may not ask"
        return None

    def is_known(self, headers: Mapping[str, str], cookie: str | None, address: str) -> bool:
        """Whether whoever asks is logged in, sends the password as `Authorization: Bearer`, or needs none."""
        if not self.asks:
            return True
        if cookie:
            with self._lock:
                if self._sessions.get(_digest(cookie), 0.0) > self._now():
                    return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and bool(given) and self._is_right(given.strip(), address)

    def log_in(self, password: str, address: str) -> str | None:
        """A new session's token; None: the password is wrong, or too many were (`is_blocked`)."""
        if not self._is_right(password, address):
            return None
        token = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_digest(token)] = self._now() + SESSION_SECONDS
        return token

    def log_out(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def is_blocked(self, address: str) -> bool:
        """Whether too many passwords were wrong within the last minute, from this address or from all."""
        with self._lock:
            since = self._now() - _SPAN_SECONDS
            recent = [of for at, of in self._failures if at > since]
        return len(recent) >= _MOST_FAILURES_OF_ALL or recent.count(address) >= _MOST_FAILURES

    def _is_right(self, password: str, address: str) -> bool:
        if self._password is None or self.is_blocked(address):
            return False
        if hmac.compare_digest(_digest(password), self._password):
            return True
        with self._lock:
            self._failures.append((self._now(), address))
        return False

    def _accepts_host(self, host: str) -> bool:
        """Whether a request may name this host. A page elsewhere could give its own name this machine's address."""
        match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{1,5})?", host.lower())
        if match is None:
            return False
        name = (match[1] or match[2]).rstrip(".")
        if is_this_machine(name) or name in self._hosts:
            return True
        return not self._is_local and _is_ip(name)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
