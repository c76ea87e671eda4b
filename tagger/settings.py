"""Settings of `tagger listen`: built once by `tagger.config`, validated, frozen. No module below reads flags.

A new setting is two lines: a field here, and an Option in `tagger/config/options.py` that names it.
"""

import ipaddress
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from tagger import times
from tagger.errors import SettingError, near
from tagger.names import DATABASE_URLS, is_address, is_this_machine, is_topic, slug
from tagger.policy import EventsConfig

DEFAULT_MODEL = "esc50"
DEFAULT_MQTT_URL = "mqtt://localhost:1883"
DEFAULT_WEB_ADDRESS = "127.0.0.1:8420"
LEAST_PASSWORD = 8
"""Shortest password of the live page, characters."""
RUNTIMES = ("auto", "onnx", "openvino", "torch")
"""What may run a network (`tagger.engine.runtime`)."""
PCM_ENCODINGS = (
    *("s16le", "s16be", "s24le", "s24be", "s24_32le", "s32le", "s32be"),
    *("f32le", "f32be", "f64le", "f64be", "u8", "s8"),
)
Channel = tuple[int, ...]
"""Numbers of the channels that are heard, from 1. Empty: all of them, averaged."""
_LOOPBACK = {
    4: [ipaddress.ip_network("127.0.0.0/8")],
    6: [ipaddress.ip_network("::1/128"), ipaddress.ip_network("::ffff:127.0.0.0/104")],
}
"""Addresses of this machine alone, by version of IP."""
_MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_WEB_PORTS = {"http": 80, "https": 443}


def host_node() -> str:
    """The node that is taken where none is set: the host's name as one level of a topic."""
    return slug(socket.gethostname().partition(".")[0])


@dataclass(frozen=True)
class MqttSettings:
    """Broker, credentials and topics of MQTT."""

    host: str = "localhost"
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    """Encrypt, and check the broker's certificate against the system's authorities (`mqtts://`)."""
    embedded: bool = False
    """Start a broker in this process, on `host` and the first free port from `port` on."""
    prefix: str = "tagger"
    """First level of every topic."""
    node: str = field(default_factory=host_node)
    """Second level: this machine."""
    client_id: str | None = None
    """None: an id that is kept in the state folder."""
    version: Literal["3.1.1", "5"] = "3.1.1"
    """MQTT protocol version."""
    tls_ca_certs: Path | None = None
    """PEM file of the authorities that may sign the broker's certificate. None: the system's."""
    tls_client_cert: Path | None = None
    """PEM file of this client's certificate."""
    tls_client_key: Path | None = None
    """PEM file of its key, if the key is not in the same file."""
    tls_host_name: str | None = None
    """Name that the broker's certificate must have. None: `host`."""
    tls_insecure: bool = False
    """Accept any certificate."""
    queue_events: int = 10_000
    """Most events that wait on disk while the broker is away. The oldest are dropped first."""
    expiry_s: int = 86_400
    """MQTT 5: seconds after which the broker may drop an event that it could not deliver."""
    commands: bool = False
    """Whether the daemon obeys requests over MQTT."""

    def __post_init__(self) -> None:
        _check_level("mqtt.prefix", self.prefix)
        _check_node(self.node)

    @classmethod
    def from_url(cls, url: str, **others: Any) -> "MqttSettings":
        """Settings from `mqtt://user:password@host:port`, `mqtts://...`, `embedded` or `embedded:PORT`.

        User and password are percent-encoded. `others` are more fields.

        Raises:
            SettingError: anything else. The message never shows the password.
        """
        if url == "embedded" or url.startswith("embedded:"):
            port = url.partition(":")[2] or "1883"
            if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
                raise SettingError("mqtt.url", "the port must be a number from 1 to 65535")
            return cls(host="127.0.0.1", port=int(port), embedded=True, **others)
        form = "write mqtt://user:password@host:port, mqtts://..., embedded or none"
        try:
            parts = urlsplit(url)
            host, port_given = parts.hostname, parts.port
        except ValueError:
            raise SettingError("mqtt.url", f"the URL's host or port is malformed; {form}") from None
        if parts.scheme not in _MQTT_PORTS:
            scheme = f"{parts.scheme}://" if "://" in url else "a URL without scheme"
            raise SettingError("mqtt.url", f"{scheme} is unknown; {form}")
        if host is None:
            raise SettingError("mqtt.url", f"the URL names no host; {form}")
        if not is_address(host):
            raise SettingError("mqtt.url", f"the URL's host is no name or address; {form}")
        if port_given == 0:
            raise SettingError("mqtt.url", "the port must be a number from 1 to 65535")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise SettingError(
                "mqtt.url", f"nothing may follow the host and port; {form} (topics begin with mqtt.prefix)"
            )
        return cls(
            host=host,
            port=port_given or _MQTT_PORTS[parts.scheme],
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "mqtts",
            **others,
        )

    @property
    def url(self) -> str:
        """URL for people to read, without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{f'{self.user}@' if self.user else ''}{host}:{self.port}"


def pcm_encoding(name: str) -> str:
    """The encoding of this name, which may be written as ALSA does, or without a byte order.

    Raises:
        SettingError: `name` is none of PCM_ENCODINGS.

    >>> pcm_encoding("S16_LE"), pcm_encoding("f32"), pcm_encoding("S24_3LE"), pcm_encoding("S24_LE")
    ('s16le', 'f32le', 's24le', 's24_32le')
    """
    lower = name.lower()
    if lower in ("s24_le", "s24_32le", "s2432le"):  # ALSA's S24_LE has four bytes a sample, FFmpeg's s24le three
        return "s24_32le"
    plain = lower.replace("_", "").replace("float64", "f64").replace("float32", "f32").replace("s243", "s24")
    plain = plain.replace("floatle", "f32le").replace("floatbe", "f32be")
    for candidate in (plain, f"{plain}le"):
        if candidate in PCM_ENCODINGS:
            return candidate
    raise SettingError("pcm.encoding", f"unknown{near(name, PCM_ENCODINGS)}", name)


def channel_numbers(text: str) -> Channel:
    """The channels of `mix` (all), of one number, or of several with `+` between, which are averaged.

    Raises:
        SettingError: it is something else.

    >>> channel_numbers("mix"), channel_numbers("2"), channel_numbers("1+3")
    ((), (2,), (1, 3))
    """
    if text == "mix":
        return ()
    if not re.fullmatch(r"[0-9]{1,4}([+,][0-9]{1,4})*", text):
        raise SettingError("channel", "must be mix, a number such as 1, or several: 1+3", text)
    numbers = tuple(dict.fromkeys(map(int, re.split("[+,]", text))))
    if 0 in numbers:
        raise SettingError("channel", "channels are counted from 1", text)
    return numbers


def start_seconds(text: str) -> float:
    """A time as `--start-time` takes it, in seconds since the epoch.

    Raises:
        SettingError: it is no time in ISO 8601, or in the future.
    """
    try:
        found = times.seconds(text)
    except (ValueError, OverflowError):
        form = "must be a time such as 2026-11-26T14:30:00 (local), 2026-11-26T13:30:00Z or 2026-11-26T14:30:00+01:00"
        raise SettingError("start_time", form, text) from None
    if found > time.time():
        raise SettingError("start_time", f"is in the future ({times.local_text(found)})", text)
    return found


@dataclass(frozen=True)
class PcmFormat:
    """Format of raw samples on standard input."""

    rate_hz: int = 32_000
    encoding: str = "s16le"
    """One of PCM_ENCODINGS."""
    channels: int = 1

    def __post_init__(self) -> None:
        if not 1_000 <= self.rate_hz <= 768_000:
            raise SettingError("pcm.rate_hz", "must be between 1000 and 768000 Hz", self.rate_hz)
        if not 1 <= self.channels <= 64:
            raise SettingError("pcm.channels", "must be between 1 and 64", self.channels)


@dataclass(frozen=True)
class ClipSettings:
    """Folder of the audio of events, and how long it is kept."""

    folder: Path
    keep_days: float | None = None
    """Age at which clips are deleted, days. None: never."""
    keep_mb: float | None = None
    """Largest size of all clips together, MB. The oldest are deleted first. None: no limit."""
    pre_roll_s: float = 3.0
    """Audio before the onset in a clip, seconds: what the network had heard when it decided."""
    without_speech: bool = False
    """Leave out every clip in which somebody may be speaking."""

    def __post_init__(self) -> None:
        for name, value in (("keep_days", self.keep_days), ("keep_mb", self.keep_mb)):
            if value is not None and not value > 0:
                raise SettingError(f"clips.{name}", "must be more than 0", value)


@dataclass(frozen=True)
class HomeAssistantSettings:
    """Appearance of this node in Home Assistant."""

    prefix: str = "homeassistant"
    """First level of Home Assistant's discovery topics, and of its `status` topic."""
    labels: tuple[str, ...] = ()
    """Labels whose sensors are enabled from the start. Empty: those that the user's file or flags name, and groups."""
    device_name: str | None = None
    """None: `tagger NODE`."""

    def __post_init__(self) -> None:
        if not is_topic(self.prefix):
            raise SettingError(
                "homeassistant.prefix", "must be topic levels without spaces, `+`, `#` and a leading `$`", self.prefix
            )


@dataclass(frozen=True)
class JsonLinesSettings:
    """Events as lines of JSON in a file."""

    path: Path
    max_mb: float = 10.0
    """Largest size of the file, MB. Then it is renamed to `NAME.1`, that one to `NAME.2`, and so on."""
    keep: int = 5
    """Number of renamed files that are kept."""

    def __post_init__(self) -> None:
        if not self.max_mb > 0:
            raise SettingError("jsonl.max_mb", "must be more than 0", self.max_mb)
        if not 1 <= self.keep <= 1_000:
            raise SettingError("jsonl.keep", "must be between 1 and 1000", self.keep)


@dataclass(frozen=True)
class WebhookSettings:
    """Web server that gets each event by POST."""

    url: str = field(repr=False)
    """Address. Its path and query may be a secret."""
    token: str | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer ...`."""
    queue_events: int = 1_000
    """Most events that wait while the server is away. The oldest are dropped first."""
    give_up_s: float = 3_600.0
    """Time after which an event that could not be delivered is dropped, seconds."""

    def __post_init__(self) -> None:
        form = "write http://host:port/path or https://user:password@host/path"
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise SettingError("webhook.url", f"the URL's host or port is malformed; {form}") from None
        if parts.scheme not in _WEB_PORTS:
            raise SettingError("webhook.url", f"the URL must begin with http:// or https://; {form}")
        if not host or not re.fullmatch(r"[^\s/\\%]+", host) or not is_address(host) or port == 0:
            raise SettingError("webhook.url", f"the URL names no host; {form}")
        if self.token is not None and not re.fullmatch("[!-~]+", self.token):
            raise SettingError("webhook.token", "the token must be of letters, digits and punctuation, without spaces")
        if self.token is not None and parts.username is not None:
            raise SettingError("webhook.token", "a token, and a user in the URL, are both given; choose one")
        if self.queue_events < 1:
            raise SettingError("webhook.queue_events", "must be at least 1", self.queue_events)
        if not self.give_up_s > 0:
            raise SettingError("webhook.give_up_s", "must be more than 0", self.give_up_s)

    @property
    def where(self) -> str:
        """Scheme, host and port, for people to read. Holds no secret."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port or _WEB_PORTS[parts.scheme]}"


@dataclass(frozen=True)
class EventLogSettings:
    """SQLite database of events, for `tagger events`."""

    path: Path
    keep_days: float | None = None
    """Age at which events are deleted, days. None: never."""

    def __post_init__(self) -> None:
        if self.keep_days is not None and not self.keep_days > 0:
            raise SettingError("event_log.keep_days", "must be more than 0", self.keep_days)


@dataclass(frozen=True)
class ScoreHistorySettings:
    """What is kept of the scores, for the live page's view of thresholds."""

    path: Path
    keep_days: float = 31.0
    """Age at which scores are deleted, days."""
    keep_mb: float = 200.0
    """Size of all scores above which the oldest are deleted, MB."""

    def __post_init__(self) -> None:
        for name, value in (("keep_days", self.keep_days), ("keep_mb", self.keep_mb)):
            if not value > 0:
                raise SettingError(f"score_history.{name}", "must be more than 0", value)


@dataclass(frozen=True)
class HttpSettings:
    """Port on which the daemon says how it does."""

    port: int
    host: str = "127.0.0.1"
    """Address of this machine that is listened on. Not a loopback address: others can read which sounds were heard."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise SettingError("http.port", "must be from 1 to 65535", self.port)
        if not is_address(self.host):
            raise SettingError("http.host", "is no host's name or address", self.host)

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True)
class WebSettings:
    """The live page (`tagger.web`)."""

    address: str = DEFAULT_WEB_ADDRESS
    """`HOST:PORT`, `HOST` or `PORT`: what is listened on."""
    password: str | None = field(default=None, repr=False)
    """None: nobody is asked for one, and only this machine reaches the page."""
    hosts: tuple[str, ...] = ()
    """Names by which browsers may reach the page, besides addresses and this machine's own name."""
    guest_password: str | None = field(default=None, repr=False)
    """Whoever has this one sees what is heard and how the daemon does, and no more."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of the proxies whose `X-Forwarded-*` is believed."""
    login_proxies: tuple[str, ...] = ()
    """The same of proxies that ask for the login themselves: whom they let in is asked for no password."""
    owners: tuple[str, ...] = ()
    """Ids or names of the users whom these proxies let in as owners; the others are guests. Empty: all are owners."""
    database: str | None = field(default=None, repr=False)
    """URL of the PostgreSQL database that the page's events come from. None: they come from the event log."""

    def __post_init__(self) -> None:
        if self.database is not None and not self.database.startswith(DATABASE_URLS):
            raise SettingError("web.database", "must be the URL of a database: postgresql://user@host/name")
        if not is_web_address(self.address) or not 1 <= self.port <= 65535:
            raise SettingError("web.address", f"must be an address such as {DEFAULT_WEB_ADDRESS}", self.address)
        if wrong := [host for host in self.hosts if not is_address(host)]:
            raise SettingError("web.hosts", f"{wrong[0]!r} is no host's name, without port")
        if self.password is None and not self.login_proxies and not is_this_machine(self.host):
            raise SettingError(
                "web.address",
                "whoever reaches it could see what is heard: set a password (web.password_file = FILE, or "
                f"web.password), or use {DEFAULT_WEB_ADDRESS}, which only this machine reaches",
                self.address,
            )
        self._check_passwords()
        self._check_proxies()

    def _check_passwords(self) -> None:
        for key, password in (("web.password", self.password), ("web.guest_password", self.guest_password)):
            if password is not None and len(password) < LEAST_PASSWORD:
                raise SettingError(key, f"must have at least {LEAST_PASSWORD} characters")
            if password is not None and password.startswith("$argon2") and not is_password_hash(password):
                raise SettingError(key, "is no complete hash of Argon2; `tagger config password FILE` makes one")
        if self.guest_password is not None and self.password is None:
            raise SettingError("web.guest_password", "is for nobody: without web.password everybody is the owner")
        if self.guest_password is not None and self.guest_password == self.password:
            raise SettingError("web.guest_password", "must be another one than web.password")

    def _check_proxies(self) -> None:
        for key, given in (("web.trusted_proxies", self.trusted_proxies), ("web.login_proxies", self.login_proxies)):
            if wrong := [each for each in given if _network(each) is None]:
                raise SettingError(key, f"{wrong[0]!r} is no address such as 172.30.32.2, and no network")
        for each in self.login_proxies:
            if (network := _network(each)) is not None and any(
                network.overlaps(own) for own in _LOOPBACK[network.version]
            ):
                raise SettingError(
                    "web.login_proxies", f"every program on this machine comes from {each}: set a password instead"
                )
        if self.trusted_proxies and self.password is None:
            raise SettingError(
                "web.trusted_proxies", "whoever comes by a proxy must be asked for a password: set web.password_file"
            )
        if self.owners and not self.login_proxies:
            raise SettingError("web.owners", "only web.login_proxies say which user asks")

    @property
    def host(self) -> str:
        return self._parts[0]

    @property
    def port(self) -> int:
        return self._parts[1]

    @property
    def _parts(self) -> tuple[str, int]:
        host, _, port = DEFAULT_WEB_ADDRESS.partition(":")
        if self.address.isdecimal():
            return host, int(self.address)
        if match := re.fullmatch(r"(?:\[(.*)\]|([^:]*))(?::([0-9]+))?", self.address):
            return match[1] or match[2] or host, int(match[3] or port)
        return self.address, int(port)  # an IPv6 address alone

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


def is_password_hash(text: str) -> bool:
    """Whether a text is the hash of a password by Argon2, as `tagger config password` makes it.

    >>> [is_password_hash(each) for each in ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRz$aGFzaGhhc2hoYXNo", "$argon2")]
    [True, False]
    """
    match = re.fullmatch(
        r"\$argon2(?:id|i|d)\$v=19\$m=[0-9]{1,6},t=[0-9]{1,2},p=[0-9]{1,2}(?:\$[A-Za-z0-9+/]{11,}){2}", text
    )
    return match is not None


def _check_level(key: str, value: str) -> None:
    if not is_topic(value):
        raise SettingError(key, "must be a topic level without spaces, `+`, `#` and a leading `$`", value)


def _check_node(node: str) -> None:
    _check_level("mqtt.node", node)
    if "/" in node:
        raise SettingError("mqtt.node", "must be one topic level, without `/`", node)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address, or a network such as 192.0.2.0/24. None: it is neither."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def is_web_address(text: str) -> bool:
    """Whether a text is an address as `--web` takes it; a source, such as `demo`, is none.

    >>> [is_web_address(each) for each in ("8420", "0.0.0.0", "attic:80", ":80", "[::1]:8420", "::1", "localhost")]
    [True, True, True, True, True, True, True]
    >>> [is_web_address(each) for each in ("demo", "mic", "mic:USB", "a.wav", "http://attic:80", "-", "1.2.3")]
    [False, False, False, False, False, False, False]
    """
    if re.fullmatch(r"[0-9]{1,5}", text) or text == "localhost" or _is_ip(text.strip("[]")):
        return True
    host, colon, port = text.rpartition(":")
    return bool(colon and re.fullmatch("[0-9]{1,5}", port)) and (not host or is_address(host.strip("[]")))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class ListenSettings:
    """All settings of `tagger listen`."""

    sources: tuple[str, ...] = ("mic",)
    """`mic`, `mic:NAME`, `demo`, `auto`, `-`, or a file; each may be named: `kitchen=mic:USB`."""
    model: str | Sequence[str] = DEFAULT_MODEL
    """A name that `tagger models` lists, or a checkpoint's path; or several, which listen together."""
    device: str = "auto"
    runtime: str = "auto"
    """What runs the network: a key of `tagger.engine.runtime.RUNTIMES`, or auto."""
    window_seconds: float | None = None
    """Length of a window. None: the length that the checkpoint was trained on."""
    hop_seconds: float = 1.0
    """Time between the starts of two windows."""
    config: Path | None = None
    """The file that was read."""
    events: EventsConfig | None = None
    """The file's table `events`: what counts as an event."""
    threshold: float | None = None
    """Score that begins an event. None: the checkpoint's own, one per label."""
    allow: tuple[str, ...] = ()
    """Labels that are announced. Empty: all."""
    deny: tuple[str, ...] = ()
    """Labels that are never announced."""
    top: int = 5
    """Number of labels in a `scores` message."""
    realtime: bool = True
    """Replay files at the pace of the clock."""
    start_time: str | None = None
    """When recordings began, in ISO 8601, of each source that does not say it itself. None: their own dates."""
    channel: str = "mix"
    """Channels that are heard of each source that does not say it itself: as `channel_numbers` takes them."""
    pcm: PcmFormat = field(default_factory=PcmFormat)
    mqtt: MqttSettings | None = field(default_factory=MqttSettings)
    """None: no broker gets events."""
    node: str = field(default_factory=host_node)
    """This machine in events where `mqtt` is None; elsewhere `mqtt.node` is."""
    json: bool = False
    """Print events as lines of JSON instead of text."""
    watch: bool = False
    """Print events as they arrive back from the broker, not as they are sent."""
    explain: bool = False
    """Print for every window what is heard, and why it is announced or not."""
    clips: ClipSettings | None = None
    """None: no audio is kept."""
    homeassistant: HomeAssistantSettings | None = None
    """None: this node does not appear there; what an earlier run announced is removed."""
    jsonl: JsonLinesSettings | None = None
    webhook: WebhookSettings | None = None
    event_log: EventLogSettings | None = None
    score_history: ScoreHistorySettings | None = None
    """None: no scores are kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of what the log says."""
    log_format: Literal["text", "json"] = "text"
    """What a line of the log is."""
    http: HttpSettings | None = None
    """None: no port is opened."""
    web: WebSettings | None = None
    """None: there is no live page."""
    state: Path | None = None
    """Folder for what must survive a restart. None: `$TAGGER_HOME/state`."""
    audio_s: float = 10.0
    """Time between `audio` messages, seconds."""
    calibrate_db: float | None = None
    """Sound pressure level of full scale, decibels, of each source that does not say its own. None: not known."""
    loud_db: float | None = None
    """Level from which any sound is an event, of each source that does not say its own. None: no such events."""
    alarms: bool = True
    """Look for the patterns of smoke and carbon monoxide alarms."""
    stats_s: float = 60.0
    """Time between `stats` messages, seconds."""

    @property
    def rules(self) -> EventsConfig:
        """Rules for events: the file's table, with `allow` and `deny` from the flags, if given."""
        return (self.events or EventsConfig()).but(self.allow, self.deny)

    @property
    def named_labels(self) -> tuple[str, ...]:
        """Labels and groups that the user named: those of Home Assistant, or all that the rules name."""
        if self.homeassistant is not None and self.homeassistant.labels:
            return self.homeassistant.labels
        rules = self.rules
        return tuple(dict.fromkeys([*(rules.allow or ()), *rules.labels, *rules.groups]))

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise SettingError("threshold", "must be above 0 and at most 1", self.threshold)
        if self.top < 1:
            raise SettingError("top", "must be at least 1", self.top)
        if not self.sources:
            raise SettingError("sources", "no source: name one, such as mic, demo or a file")
        _check_node(self.node)
        channel_numbers(self.channel)
        if self.start_time is not None:
            start_seconds(self.start_time)
        for name, value in (("calibrate_db", self.calibrate_db), ("loud_db", self.loud_db)):
            if value is not None:
                check_level(name, value)
        check_window(self.window_seconds, self.hop_seconds)


LEVELS_DB = {"calibrate_db": (0.0, 250.0), "loud_db": (-120.0, 250.0)}
"""Lowest and highest value of the levels that a user can set, decibels."""


def check_level(name: str, value: float) -> float:
    """The value, in decibels.

    Raises:
        SettingError: it is out of bounds.
    """
    least, most = LEVELS_DB[name]
    if not least <= value <= most:
        raise SettingError(name, f"must be from {least:g} to {most:g} dB", value)
    return value


def model_names(model: str | Sequence[str]) -> tuple[str, ...]:
    """Names or paths of the models that listen together: of the one, or of several."""
    return (model,) if isinstance(model, str) else tuple(model)


def check_window(window_seconds: float | None, hop_seconds: float, default_seconds: float | None = None) -> None:
    """
    Raises:
        SettingError: the hop does not fit the window, or one of them is out of bounds.
    """
    if window_seconds is not None and not 0.5 <= window_seconds <= 60:
        raise SettingError("window_seconds", "must be between 0.5 and 60 seconds", window_seconds)
    if not hop_seconds >= 0.01:
        raise SettingError("hop_seconds", "must be at least 0.01 seconds", hop_seconds)
    window = window_seconds if window_seconds is not None else default_seconds
    if window is not None and hop_seconds > window:
        raise SettingError(
            "hop_seconds",
            f"longer than the window of {window:g} s, so sounds between windows would be lost; use at most {window:g}",
            hop_seconds,
        )
