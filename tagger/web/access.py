"""Who may see the page: hosts that a request may name, where it may come from, who asks, and sessions.

On this machine's own address nobody is asked for a password unless one is set. A web page elsewhere must not read what
is heard here, though it runs in a browser of this machine: see `Access.problem`.
"""

import hashlib
import ipaddress
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping

from tagger.names import is_this_machine
from tagger.settings import WebSettings
from tagger.web.caller import Caller, Proxies
from tagger.web.passwords import Passwords
from tagger.web.roles import Role

COOKIE = "tagger_session"
SESSION_SECONDS = 30 * 86_400.0
"""Time after which a browser must log in again, seconds."""
_MOST_SESSIONS = 64
"""Most browsers of one role that are logged in; the oldest is logged out."""


class Access:
    """Decides about requests. Any thread calls it."""

    def __init__(self, settings: WebSettings, now: Callable[[], float] = time.monotonic) -> None:
        """
        Raises:
            ModuleNotFoundError: a password is hashed, and argon2-cffi is not installed.
        """
        self._is_local, self._now = is_this_machine(settings.host), now
        self._proxies, self._owners = Proxies(settings), frozenset(settings.owners)
        self._has_login_proxies = bool(settings.login_proxies)
        known = {Role.OWNER: settings.password, Role.GUEST: settings.guest_password}
        self._passwords = Passwords({role: each for role, each in known.items() if each is not None}, now)
        self.asks = settings.password is not None
        """Whether a password is wanted."""
        own = socket.gethostname().lower()
        own_names = {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
        self._hosts = {each.lower() for each in settings.hosts} | (set() if self._is_local else own_names)
        self._lock = threading.Lock()
        self._sessions: dict[Role, dict[str, float]] = {role: {} for role in Role}
        """Digest of each session's token -> when it ends."""

    def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        """Who makes a request.

        Args:
            headers: by their names in lower case; those that came more than once are joined by commas.
            address: from which the connection comes.
        """
        return self._proxies.caller(headers, address)

    def problem(self, method: str, path: str, headers: Mapping[str, str], caller: Caller | None = None) -> str | None:
        """Why a request is refused, whoever makes it. None: it is not."""
        caller = caller or self.caller(headers, "127.0.0.1")
        if not self.asks and not caller.is_logged_in:
            if self._has_login_proxies:
                return "only a proxy of web.login_proxies may ask"
            if caller.is_proxied:
                return "a proxy lets others in; set a password (web.password_file)"
        if not self._accepts_host(caller):
            return "this name is not one of this machine's; ask by address, or add the name to web.hosts"
        return "another site's page may not ask" if _is_from_elsewhere(method, path, headers, caller) else None

    def role_of(self, caller: Caller, cookie: str | None) -> Role | None:
        """Who asks, as far as it is known without a password. None: somebody who must log in, or send one."""
        if caller.is_logged_in:
            return Role.OWNER if not self._owners or self._owners & set(caller.users) else Role.GUEST
        if not self.asks:
            return Role.OWNER
        if not cookie:
            return None
        token = _digest(cookie)
        with self._lock:
            return next((role for role in Role if self._sessions[role].get(token, 0.0) > self._now()), None)

    def check(self, password: str, caller: Caller) -> Role | None:
        """Whose password it is. None: nobody's. May take as long as a hash.

        Raises:
            BlockedError: it was not looked at, as too many were wrong within the last minute.
        """
        return self._passwords.check(password, caller.address)

    def is_blocked(self, caller: Caller) -> bool:
        """Whether too many passwords were wrong within the last minute, from this address or from all."""
        return self._passwords.is_blocked(caller.address)

    def log_in(self, role: Role) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            sessions = self._sessions[role]
            while len(sessions) >= _MOST_SESSIONS:
                del sessions[next(iter(sessions))]
            sessions[_digest(token)] = self._now() + SESSION_SECONDS
        return token

    def log_out(self, token: str) -> None:
        with self._lock:
            for sessions in self._sessions.values():
                sessions.pop(_digest(token), None)

    def _accepts_host(self, caller: Caller) -> bool:
        """Whether a request may name this host. A page elsewhere could give its own name this machine's address."""
        match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{1,5})?", caller.host.lower())
        if match is None:
            return False
        name = (match[1] or match[2]).rstrip(".")
        # Of a proxy that asks for the login, a page under another name has none of its cookies.
        if caller.is_logged_in or is_this_machine(name) or name in self._hosts:
            return True
        return not self._is_local and _is_ip(name)


def bearer(headers: Mapping[str, str]) -> str | None:
    """The password that a program sends as `Authorization: Bearer`."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() or None if kind.lower() == "bearer" else None


def _is_from_elsewhere(method: str, path: str, headers: Mapping[str, str], caller: Caller) -> bool:
    """Whether a page of another site makes the request, or may: a browser's request that changes something, and whose
    cookie says who asks, must say where it is from.
    """
    site = headers.get("sec-fetch-site", "none")
    origin = headers.get("origin")
    if origin is not None and not (caller.is_logged_in and site == "same-origin"):
        scheme, _, host = origin.lower().partition("://")
        if host != caller.host.lower() or scheme != (caller.scheme or scheme):
            return True
    if site not in ("none", "same-origin"):
        is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and path in ("/", "/login")
        return not (is_link and headers.get("sec-fetch-dest", "document") == "document")
    return method not in ("GET", "HEAD") and "cookie" in headers and origin is None and site != "same-origin"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
