"""Address of a stream: a URL, in parts, with and without its secrets. What FFmpeg is asked for, by scheme."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tagger.errors import UserError
from tagger.names import is_address, slug
from tagger.sources.network import protocols
from tagger.sources.network.reasons import LET_OTHERS

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp")
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
"""Ports of URLs without one. The other schemes need one."""
ENCRYPTED = ("rtsps", "https", "rtmps")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
VARIABLES = re.compile(r"(?:[^/:@=]*:)?\$\{\w+\}@|\$\{\w+\}")
"""User and password whose password is an environment variable, or any variable."""
OPEN_SECONDS = 6.0
"""Longest time until a stream gives its first sound, seconds. A status within 10 s needs less than that."""
SILENT_SECONDS = 6.0
"""Longest time without sound of a stream that flows, seconds."""
HLS_SECONDS = 20.0
"""The same of HLS, which comes in pieces of up to 10 s, seconds."""
_PROBE = {"probesize": "200000", "analyzeduration": "1000000"}
"""Most bytes, and microseconds of sound, that FFmpeg reads to find out what a stream is."""
_LIVE = {"flags": "low_delay"}

Mode = Mapping[str, str]
"""FFmpeg's options of one way to ask for a stream."""
_RTSP_MODES: tuple[Mode, ...] = (
    {"rtsp_transport": "tcp", "allowed_media_types": "audio"},
    {"rtsp_transport": "tcp"},
    {"rtsp_transport": "udp"},
)
"""TCP first, which loses nothing. Sound alone first: pictures are most of the traffic. Some cameras then send nothing
at all, and some know UDP only."""


@dataclass(frozen=True)
class Trust:
    """Which servers of encrypted streams are believed to be who they say."""

    verify: bool = True
    """Whether a server's certificate is checked."""
    ca_certs: Path | None = None
    """PEM file of the authorities that may have signed it, or of the certificate itself. None: the system's."""

    @property
    def ca_file(self) -> str:
        """The file that is read; "" where the system has none."""
        import ssl  # the processes of streams need none

        return str(self.ca_certs or ssl.get_default_verify_paths().cafile or "")


SYSTEM = Trust()
"""Those that this machine's authorities vouch for."""


@dataclass(frozen=True)
class Address:
    """Where a stream comes from."""

    url: str = field(repr=False)
    """With user and password."""
    scheme: str
    host: str
    port: int
    trust: Trust = SYSTEM

    @classmethod
    def parse(cls, text: str, trust: Trust = SYSTEM) -> "Address":
        """
        Args:
            text: a URL; `${NAME}` in it stands for the environment variable of that name.
            trust: which servers are believed.

        Raises:
            UserError: it cannot be. The message never shows a user, a password, a path or a query.
        """
        url = expanded(text)
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise UserError(f"{_plain_scheme(scheme)}: this kind of URL is no source; there is {', '.join(SCHEMES)}")
        form = f"write {scheme}://{'user:password@' if scheme in _PORTS else ''}host:port/path"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise UserError(f"{scheme}://...: the URL's host or port is malformed; {form}") from None
        if scheme == "udp" and not host and port:
            host = "0.0.0.0"
        host = (host or "").removeprefix("@")
        if not host or not is_address(host) or re.search(r"[\s\x00-\x1f]", url):
            hint = "; letters such as @ / : # % in a password are written as %40 %2F %3A %23 %25"
            raise UserError(f"{scheme}://...: the URL names no host{hint if '@' in url else ''}; {form}")
        port = port or _PORTS.get(scheme)
        if not port:
            raise UserError(f"{scheme}://{host}: the URL names no port; {form}")
        if trust != SYSTEM and scheme not in ENCRYPTED:
            raise UserError(
                f"{scheme}://{host}: is not encrypted; tls_verify and tls_ca_certs are for {', '.join(ENCRYPTED)}"
            )
        if trust.ca_certs is not None and not trust.ca_certs.is_file():
            raise UserError(f"{scheme}://{host}: tls_ca_certs: {trust.ca_certs}: no such file")
        if protocols.lacks(scheme):
            raise UserError(
                f"{scheme}://{host}: the FFmpeg that PyAV has here was built without {scheme}; {LET_OTHERS}"
            )
        return cls(url, scheme, host, port, trust)

    @property
    def shown(self) -> str:
        """Scheme, host and port, for people to read. Holds no secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port == _PORTS.get(self.scheme) else f':{self.port}'}"

    @property
    def level(self) -> str:
        """A topic level: the host's name."""
        return slug(self.host)

    @property
    def is_hls(self) -> bool:
        return self.scheme.startswith("http") and urlsplit(self.url).path.lower().endswith((".m3u8", ".m3u"))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may hold."""
        parts = urlsplit(self.url)
        found = [parts.username, parts.password, parts.query, parts.path.strip("/")]
        found += [unquote(each) for each in found if each]
        return tuple({each for each in found if each})

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Ways to ask for it, the best first."""
        if not self.scheme.startswith("rtsp"):
            return ({},)
        return _RTSP_MODES[:2] if self.scheme == "rtsps" else _RTSP_MODES

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's options, whatever the mode. FFmpeg refuses none that it does not need."""
        socket_us = str(round(1e6 * (HLS_SECONDS if self.is_hls else SILENT_SECONDS)))
        options = {**_PROBE, **_LIVE}
        if self.scheme in (*ENCRYPTED, "http"):  # a server may send its clients on from http to https
            options |= {"tls_verify": str(int(self.trust.verify))}
            options |= {"ca_file": self.trust.ca_file} if self.trust.ca_file else {}
        if self.is_hls:
            return options | {
                "rw_timeout": socket_us,
                "max_reload": "3",
                "m3u8_hold_counters": "3",
                "seg_max_retry": "1",
            }
        if self.scheme.startswith("http"):
            return options | {"rw_timeout": socket_us, "icy": "1"}
        if self.scheme.startswith("rtsp"):
            return options | {"timeout": socket_us, "max_delay": "500000"}
        if self.scheme == "udp":
            return options | {"fifo_size": "50000", "overrun_nonfatal": "1", "buffer_size": "1000000"}
        if self.scheme in ("tcp", "rtmp", "rtmps"):
            return options | {"rw_timeout": socket_us}
        return options

    @property
    def silent_s(self) -> float:
        """Longest time without sound, seconds."""
        return HLS_SECONDS if self.is_hls else SILENT_SECONDS

    def check_raw(self, encoding: str) -> None:
        """
        Raises:
            UserError: raw samples do not come this way.
        """
        if encoding == "s24_32le":
            raise UserError(f"{self.shown}: format: samples of 24 bits in four bytes are read from pipes only")
        if self.scheme not in ("tcp", "udp", "http", "https"):
            raise UserError(f"{self.shown}: rate, format and channels are for raw samples, and this has its own format")


def expanded(text: str) -> str:
    """The text with environment variables for each `${NAME}`.

    Raises:
        UserError: a variable is not set.
    """

    def value(found: "re.Match[str]") -> str:
        if not (found_value := os.environ.get(found[1])):
            raise UserError(f"${{{found[1]}}}: this environment variable is not set")
        return found_value

    return _VARIABLE.sub(value, text)


def without_user(url: str) -> str:
    """The URL without user, password and query, to know it again by. A malformed one is reduced to its scheme.

    >>> without_user("rtsp://me:pw@camera/live?token=1"), without_user("rtsp://${USER}:${PASSWORD}@camera:8554/live")
    ('rtsp://camera/live', 'rtsp://camera:8554/live')
    """
    scheme, separator, rest = url.partition("://")
    place, slash, path = re.split("[?#]", rest)[0].partition("/")
    if "@" in path:  # a password may hold a slash
        return f"{scheme}{separator}..."
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def shown(url: str) -> str:
    """Scheme, host and port of a URL that may be malformed, for people to read. Holds no secret.

    >>> shown("rtsp://me:p@w@camera:8554/live"), shown("http://me:a/b@radio/x")
    ('rtsp://camera:8554', 'http://...')
    """
    scheme, separator, rest = without_user(url).partition("://")
    return f"{_plain_scheme(scheme)}{separator}{rest.partition('/')[0]}"


def _plain_scheme(scheme: str) -> str:
    return scheme if re.fullmatch("[a-z0-9+.-]{1,16}", scheme.lower()) else "a URL"
