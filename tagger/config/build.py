"""What was given to settings: which of it goes together, and what of it is used."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tagger.config import secret
from tagger.config.file import Document, load, usual
from tagger.config.given import Given, Rank, Values, gather
from tagger.config.options import OPTIONS
from tagger.errors import UserError
from tagger.settings import (
    ClipSettings,
    EventLogSettings,
    HomeAssistantSettings,
    JsonLinesSettings,
    ListenSettings,
    MqttSettings,
    PcmFormat,
    WebhookSettings,
    is_host,
    is_topic,
    pcm_encoding,
)

_Made = TypeVar("_Made")
_TLS = ("tls_ca_certs", "tls_client_cert", "tls_client_key", "tls_host_name", "tls_insecure")


@dataclass
class Resolved:
    """All that came of flags, environment and file."""

    values: Values
    """What of it is in force."""
    document: Document | None
    problems: list[str] = field(default_factory=list)
    """One line each. Empty: `settings` is there."""
    warnings: list[str] = field(default_factory=list)
    settings: ListenSettings | None = None

    def right(self) -> ListenSettings:
        """
        Raises:
            UserError: there are problems; says the first.
        """
        if self.settings is None:
            raise UserError(self.problems[0])
        return self.settings


def settings_from(flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None) -> ListenSettings:
    """Reads the file and builds the settings.

    Raises:
        UserError: something cannot be.
    """
    try:
        return resolve(flags, env, config).right()
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


def resolve(flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None) -> Resolved:
    """
    Args:
        flags: by the option's key, those that were typed.
        config: the file. None: `$TAGGER_HOME/tagger.toml`, if it is there.

    Raises:
        UserError: the file cannot be read. All else is among the problems.
    """
    path = config or usual()
    document = load(path) if path is not None else None
    values, problems, warnings = gather(flags, env, document)
    resolved = Resolved(values, document, problems, warnings)
    made = _Build(resolved).listen()
    if not resolved.problems:
        resolved.settings = made
    return resolved


class _Build:
    """Every method adds to the problems what does not go together, and goes on with the rest.

    What is asked for and cannot have an effect is refused, unless whatever takes its effect away is of a higher rank:
    `--mqtt none` may be tried with a file that says much of a broker.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._given = resolved.values
        self._document, self._problems, self._warnings = resolved.document, resolved.problems, resolved.warnings

    def listen(self) -> ListenSettings | None:
        mqtt = self._mqtt()
        events = self._document.events if self._document is not None else None
        sinks = (self._homeassistant(mqtt), self._jsonl(), self._webhook(), self._event_log())
        clips = self._clips()
        self._warn()
        pcm = self._make(
            lambda: PcmFormat(self._of("--rate"), pcm_encoding(self._of("--format")), self._of("--channels"))
        )
        return self._make(
            lambda: ListenSettings(
                sources=tuple(self._of("listen.sources")),
                model=self._of("listen.model"),
                device=self._of("listen.device"),
                window_seconds=self._of("listen.window"),
                hop_seconds=self._of("listen.hop"),
                config=self._document.source.path if self._document is not None else None,
                events=events,
                threshold=self._of("--threshold"),
                allow=tuple(self._of("--allow")),
                deny=tuple(self._of("--deny")),
                top=self._of("listen.top"),
                realtime=self._of("listen.realtime"),
                pcm=pcm or PcmFormat(),
                mqtt=mqtt,
                json=self._of("--json"),
                watch=self._of("--watch"),
                explain=self._of("--explain"),
                clips=clips,
                homeassistant=sinks[0],
                jsonl=sinks[1],
                webhook=sinks[2],
                event_log=sinks[3],
                state=self._of("listen.state"),
                audio_s=self._of("listen.audio_s"),
                stats_s=self._of("listen.stats_s"),
            )
        )

    # --- MQTT ---

    def _mqtt(self) -> MqttSettings | None:
        url, address = self._given["mqtt.url"], self._asked("mqtt.host", "mqtt.port", "mqtt.tls")
        decided = max([url, *address], key=lambda given: given.rank)
        if address and decided is url:
            if url.rank == max(given.rank for given in address):
                self._problem(address[0], "says again what mqtt.url says: give the URL, or host, port and tls")
            for given in address:
                self._drop(given)
            address = []
        elif address and url.is_given and not self._given["mqtt.host"].is_given:
            self._problem(address[0], "goes with mqtt.host, but mqtt.url names the broker: change it there")
        if not address and url.value == "none":
            self._useless(url, "needs MQTT, and mqtt.url is none", "mqtt.commands")
            return None
        base = self._make(lambda: self._address() if address else MqttSettings.from_url(url.value))
        if base is None:
            return None
        if base.embedded and self._of("mqtt.version") == "5":
            self._useless(decided, "the embedded broker speaks 3.1.1 only", "mqtt.version")
        if not base.tls:
            tls = self._given["mqtt.tls"] if address and self._given["mqtt.tls"].is_given else decided
            self._useless(
                tls, "is for TLS: write mqtts:// in mqtt.url, or mqtt.tls = true", *(f"mqtt.{n}" for n in _TLS)
            )
        self._tls()
        if self._of("mqtt.version") != "5":
            self._useless(self._given["mqtt.version"], 'is for mqtt.version = "5"', "mqtt.expiry_s")
        if address:
            self._given["mqtt.url"] = Given(url.option, None)
        user, password = self._credentials(base, url)
        others = {name: self._of(f"mqtt.{name}") for name in (*_TLS, "client_id", "version", "queue_events", "expiry_s",
                                                             "commands")}  # fmt: skip
        others["prefix"] = self._of("mqtt.topic_prefix")
        if node := self._of("mqtt.node"):
            others["node"] = node
        return self._make(lambda: replace(base, user=user, password=password, **others))

    def _address(self) -> MqttSettings:
        host, tls = self._given["mqtt.host"], bool(self._of("mqtt.tls"))
        if host.is_given and not _is_address(host.value):
            raise UserError(f"{host.place if host.rank < Rank.FLAG else host.name}: is no host's name or address")
        port = self._of("mqtt.port") or (8883 if tls else 1883)
        return MqttSettings(host=host.value or "localhost", port=int(port), tls=tls)

    def _tls(self) -> None:
        insecure = self._given["mqtt.tls_insecure"]
        if insecure.value:
            self._useless(insecure, "has no effect with tls_insecure, which checks no name and no authority",
                          "mqtt.tls_host_name", "mqtt.tls_ca_certs")  # fmt: skip
        cert = self._given["mqtt.tls_client_cert"]
        if not cert.is_given:
            self._useless(cert, "is for mqtt.tls_client_cert", "mqtt.tls_client_key")
        for name in _TLS[:3]:
            given = self._given[f"mqtt.{name}"]
            if given.value is not None and (problem := _unreadable(given.value)):
                self._problem(given, problem)

    def _credentials(self, base: MqttSettings, url: Given) -> tuple[str | None, str | None]:
        """User and password: each from the highest rank that names one."""
        user = self._given["mqtt.user"]
        name = user.value
        if base.user is not None:
            if user.rank == url.rank:
                self._problem(user, "mqtt.url names a user already")
            name = name if user.rank > url.rank else base.user
        candidates = self._asked("mqtt.password", "mqtt.password_file")
        if base.password is not None:
            candidates.append(url)
        if not candidates:
            return name, None
        best = max(candidates, key=lambda given: given.rank)
        same = [given for given in candidates if given.rank == best.rank]
        if len(same) > 1:
            keys = " and ".join(given.option.key for given in same)
            self._problem(same[0], f"one password is enough: {keys} both say one")
        if name is None:
            self._problem(best, "a password needs a user too: mqtt.user")
        if best.option.key == "mqtt.password_file":
            return name, self._secret(best)
        return name, base.password if best is url else best.value

    # --- Home Assistant, sinks, clips ---

    def _homeassistant(self, mqtt: MqttSettings | None) -> HomeAssistantSettings | None:
        enabled, prefix = self._given["homeassistant.enabled"], self._given["homeassistant.prefix"]
        if not enabled.is_given:  # its table, or any of its other options, says so
            if self._document is not None and "homeassistant" in self._document.tables:
                enabled = replace(enabled, value=True, rank=Rank.FILE, source=self._document.source)
            for other in self._asked("homeassistant.prefix", "homeassistant.labels", "homeassistant.device_name"):
                if other.rank > enabled.rank:
                    enabled = replace(other, option=enabled.option, value=True)
            self._given["homeassistant.enabled"] = enabled
        if not enabled.value:
            return None
        if not is_topic(prefix.value):
            self._problem(prefix, "must be topic levels without spaces, `+`, `#` and a leading `$`")
        if mqtt is None:
            if self._of("mqtt.url") == "none":
                self._useless(self._given["mqtt.url"], "needs MQTT, and mqtt.url is none", "homeassistant.enabled")
            return None
        labels = tuple(self._of("homeassistant.labels") or ())
        return HomeAssistantSettings(prefix.value, labels, self._of("homeassistant.device_name"))

    def _jsonl(self) -> JsonLinesSettings | None:
        path = self._with("sinks.jsonl.path", "sinks.jsonl.max_mb", "sinks.jsonl.keep")
        if path is None:
            return None
        return JsonLinesSettings(path, self._of("sinks.jsonl.max_mb"), int(self._of("sinks.jsonl.keep")))

    def _webhook(self) -> WebhookSettings | None:
        names = ("token", "token_file", "queue_events", "give_up_s")
        url = self._with("sinks.webhook.url", *(f"sinks.webhook.{name}" for name in names))
        if url is None:
            return None
        if not _is_web_address(url):
            self._problem(self._given["sinks.webhook.url"], "is no web address: write http://... or https://...")
        tokens = sorted(self._asked("sinks.webhook.token", "sinks.webhook.token_file"), key=lambda given: given.rank)
        if len(tokens) == 2 and tokens[0].rank == tokens[1].rank:
            self._problem(
                tokens[0], "one token is enough: sinks.webhook.token and sinks.webhook.token_file both say one"
            )
        token = None
        if tokens:
            best = tokens[-1]
            token = self._secret(best) if best.option.name == "token_file" else best.value
        return WebhookSettings(
            url, token, int(self._of("sinks.webhook.queue_events")), self._of("sinks.webhook.give_up_s")
        )

    def _event_log(self) -> EventLogSettings | None:
        path = self._with("sinks.log.path", "sinks.log.keep_days")
        return None if path is None else EventLogSettings(path, self._of("sinks.log.keep_days"))

    def _clips(self) -> ClipSettings | None:
        folder = self._with("clips.folder", "clips.keep_days", "clips.keep_mb")
        return None if folder is None else ClipSettings(folder, self._of("clips.keep_days"), self._of("clips.keep_mb"))

    # --- what they have in common ---

    def _of(self, key: str) -> Any:
        return self._given[key].value

    def _asked(self, *keys: str) -> list[Given]:
        return [self._given[key] for key in keys if self._given[key].is_given]

    def _with(self, key: str, *others: str) -> Any:
        """The value of an option without which others mean nothing."""
        given = self._given[key]
        if not given.is_given:
            flag = f" ({' '.join((given.option.flags[0], given.option.metavar or ''))})" if given.option.flags else ""
            self._useless(given, f"is for {key}{flag}", *others)
        return given.value

    def _useless(self, because: Given, problem: str, *keys: str) -> None:
        """Drops what has no effect because of what another option is; refuses it if that has no higher rank."""
        for given in self._asked(*keys):
            if given.value is not False and given.rank >= because.rank:
                self._problem(given, problem)
            self._drop(given)

    def _drop(self, given: Given) -> None:
        self._given[given.option.key] = Given(given.option, given.option.default)

    def _problem(self, given: Given, problem: str) -> None:
        self._problems.append(f"{given.place}: {problem}")

    def _secret(self, given: Given) -> str | None:
        try:
            return secret.first_line(given.value)
        except UserError as error:
            self._problem(given, str(error))
            return None

    def _make(self, make: Callable[[], _Made]) -> _Made | None:
        """What `make` gives; or None, and the problem with the place that the wrong value is from instead of a flag."""
        try:
            return make()
        except UserError as error:
            self._problems.append(at_its_place(str(error), self._given))
            return None

    def _warn(self) -> None:
        """Of secrets that anybody on this machine can read."""
        in_file = [given for given in self._given.values() if given.rank is Rank.FILE and given.is_secret]
        paths = {given.source.path: given.option.key for given in in_file if given.source is not None}
        paths |= {
            given.value: given.option.key for given in self._asked("mqtt.password_file", "sinks.webhook.token_file")
        }
        for path, key in paths.items():
            if secret.is_open_to_all(path):
                self._warnings.append(
                    f"{path}: everybody on this machine can read it, and {key} in it: chmod 600 {path}"
                )


def at_its_place(error: str, values: Values) -> str:
    """Settings name a flag in their errors; this names the file's line or the variable where the value is from."""
    match = re.match(r"--([a-z-]+)(?: .*?)?: ", error)
    for option in OPTIONS if match else ():
        if match and f"--{match[1]}" in option.flags:
            given = values[option.key]
            if given.rank in (Rank.FILE, Rank.ENVIRONMENT):
                return f"{given.place}: {error[match.end() :]}"
    return error


def _is_address(host: str) -> bool:
    if ":" not in host:
        return is_host(host)
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and is_host(parts.hostname or "")
        )
    except ValueError:
        return False


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return f"{path}: {error.strerror}"
