"""Who asks: what the connection says, and what the proxies say that are trusted."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagger.settings import WebSettings

_PROXY_HEADERS = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-real-ip"),
    *("x-ingress-path", "x-remote-user-id", "x-remote-user-name", "remote-user"),
)
"""Headers by which a proxy says for whom it asks."""
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
_LONGEST_PATH = 500
"""Longest path below which the page may lie, characters."""


@dataclass(frozen=True)
class Caller:
    """Who makes one request."""

    address: str
    """Of the browser or program; of its proxy where that is not trusted."""
    host: str
    """As the browser names this machine, with its port."""
    scheme: str | None = None
    """`http` or `https`, as the browser uses it. None: no trusted proxy says."""
    base: str = "/"
    """Path below which the browser sees the page; it ends with `/`."""
    users: tuple[str, ...] = ()
    """Id and name of the user that a proxy has logged in."""
    is_logged_in: bool = False
    """Whether a proxy that asks for logins lets it in."""
    is_proxied: bool = False
    """Whether a proxy is between that is not trusted."""


class Proxies:
    """The proxies that the settings trust."""

    def __init__(self, settings: WebSettings) -> None:
        self._trusted = [ipaddress.ip_network(each) for each in settings.trusted_proxies]
        self._login = [ipaddress.ip_network(each) for each in settings.login_proxies]

    def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        """
        Args:
            headers: by their names in lower case; those that came more than once are joined by commas.
            address: from which the connection comes.
        """
        host = headers.get("host", "")
        is_login = _is_in(address, self._login)
        if not is_login and not _is_in(address, self._trusted):
            return Caller(address, host, is_proxied=any(name in headers for name in _PROXY_HEADERS))
        scheme = _last(headers.get("x-forwarded-proto", "")).lower()
        path = headers.get("x-ingress-path", headers.get("x-forwarded-prefix", ""))
        base = path if len(path) <= _LONGEST_PATH and _PATH.fullmatch(path) else "/"
        named = [headers.get(name, "") for name in ("x-remote-user-id", "x-remote-user-name")]
        return Caller(
            self._client(headers.get("x-forwarded-for", ""), address),
            _last(headers.get("x-forwarded-host", "")) or host,
            scheme if scheme in ("http", "https") else None,
            base.rstrip("/") + "/",
            tuple(filter(None, named)) if is_login else (),
            is_login,
        )

    def _client(self, forwarded_for: str, address: str) -> str:
        """The last address that no trusted proxy has: what stands before it, anybody may have written."""
        for each in reversed(forwarded_for.split(",")):
            given = each.strip()
            if not _is_ip(given):
                break
            address = given
            if not _is_in(given, [*self._trusted, *self._login]):
                break
        return address


def network_of(address: str) -> str:
    """What stands for all addresses that one sender may have: of IPv6 the first 64 bits.

    >>> network_of("2001:db8::1:2:3:4"), network_of("192.0.2.1"), network_of("::ffff:192.0.2.1"), network_of("")
    ('2001:db8::', '192.0.2.1', '192.0.2.1', '')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))


def _last(listed: str) -> str:
    """The last of a list with commas: the nearest proxy has written it."""
    return listed.rpartition(",")[2].strip()


def _is_in(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
