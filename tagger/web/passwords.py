"""Checks passwords, and counts those that are wrong.

A password is kept as it is, or as a hash that `tagger config password` makes. Hashes cost time and memory on purpose:
one is worked out at a time, and none of an address that has given too many wrong ones.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from tagger.errors import TaggerError
from tagger.settings import is_password_hash
from tagger.web.caller import network_of
from tagger.web.roles import Role

SPAN_SECONDS = 60.0
_MOST_FAILURES = 5
"""Most wrong passwords of one address within the span."""
_MOST_FAILURES_OF_ALL = 30
"""The same of all addresses."""


class BlockedError(TaggerError):
    """A password was not looked at, as too many were wrong within the last minute."""

    def __init__(self) -> None:
        super().__init__("too many wrong passwords; wait a minute")


class Passwords:
    """The passwords of the page. Any thread calls it."""

    def __init__(self, known: Mapping[Role, str], now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            known: the password of each role, or its hash.

        Raises:
            ModuleNotFoundError: one is a hash, and argon2-cffi is not installed.
        """
        self._now = now
        self._salt = secrets.token_bytes(32)
        self._hashes = {role: each for role, each in known.items() if is_password_hash(each)}
        self._digests = {role: self._digest(each) for role, each in known.items() if role not in self._hashes}
        """Of the passwords that are known as they are; then also of hashed ones that were right once."""
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._failures: deque[tuple[float, str]] = deque(maxlen=_MOST_FAILURES_OF_ALL)
        """Time and network of the last wrong passwords."""
        if self._hashes:
            from argon2 import PasswordHasher

            self._verify = PasswordHasher().verify

    def check(self, password: str, address: str) -> Role | None:
        """Whose password it is. None: nobody's. May take as long as a hash.

        Raises:
            BlockedError: it was not looked at.
        """
        if not self._hashes:
            return self._check(password, address)
        with self._hashing:  # those that wait are looked at again: they may be blocked by then, or known
            return self._check(password, address)

    def is_blocked(self, address: str) -> bool:
        """Whether too many passwords were wrong within the last minute, from this address or from all. Those that came
        while it was so were not looked at, and do not count: it lasts a minute, whatever is sent.
        """
        network = network_of(address)
        with self._lock:
            since = self._now() - SPAN_SECONDS
            recent = [of for at, of in self._failures if at > since]
        return len(recent) >= _MOST_FAILURES_OF_ALL or recent.count(network) >= _MOST_FAILURES

    def _check(self, password: str, address: str) -> Role | None:
        if self.is_blocked(address):
            raise BlockedError
        given = self._digest(password)
        found = [role for role, known in self._digests.items() if hmac.compare_digest(given, known)]
        if not found:
            found = [role for role, known in self._hashes.items() if self._is_hash_of(known, password)]
            for role in found:
                self._digests[role] = given
        if found:
            return min(found, key=list(Role).index)
        with self._lock:
            self._failures.append((self._now(), network_of(address)))
        return None

    def _is_hash_of(self, known: str, password: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        try:
            return bool(self._verify(known, password.encode(errors="surrogateescape")))
        except (Argon2Error, InvalidHashError):
            return False

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._salt, password.encode(errors="surrogateescape"), hashlib.sha256)


def hash_of(password: str) -> str:
    """What may stand in a file instead of the password: Argon2id at OWASP's least cost, 19 MiB and two passes on one
    thread, so that a small machine goes on listening.
    https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html

    Raises:
        ModuleNotFoundError: argon2-cffi is not installed.
    """
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(password)
