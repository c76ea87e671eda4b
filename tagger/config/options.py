"""The one table of all settings, in the file, in environment variables and in flags.

Made from it: the settings, the flags of `tagger listen`, the checks of the file, its JSON Schema, the commented file
that `tagger config init` writes, the list that `tagger config check` prints, and the table in docs/configuration.md.

A new setting is two lines: a field in `tagger/settings.py`, and an Option here whose `field` names it and whose
`reload` says whether a running daemon can change it. (tests/config then print the line for docs/configuration.md.)
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tagger import settings
from tagger.logs import FORMATS, LEVELS
from tagger.policy import KINDS, MOST_SECONDS, LabelPolicy
from tagger.settings import (
    RUNTIMES,
    HomeAssistantSettings,
    HttpSettings,
    JsonLinesSettings,
    ListenSettings,
    MqttSettings,
    PcmFormat,
    ScoreHistorySettings,
    WebhookSettings,
)

ENV_PREFIX = "TAGGER_LISTEN_"
_BOOLEANS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
_NAMES: Mapping[type, str] = {
    str: "text",
    Path: "text, the name of a file or folder",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
}


@dataclass(frozen=True)
class Option:
    """One setting."""

    key: str
    """Table and name in the file, `mqtt.port`; or the flag, `--watch`, if the option has no place in the file."""
    type: type
    """str, Path, int, float, bool, or list (of str)."""
    help: str
    default: Any = None
    """None: no default, or `help` names it."""
    flag: str | None = None
    """Flag as click takes it: `--hop`, `--model -m`, `--realtime/--no-realtime`. None: file and environment only."""
    metavar: str | None = None
    """Name of the flag's value in `--help`."""
    bare: Any = None
    """Value of the flag where none follows it. None: one must."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    """Lowest value."""
    above: float | None = None
    """The value must be more than this."""
    most: float | None = None
    """Highest value."""
    secret: bool = False
    """The value is never shown; of a URL, scheme and host may be."""
    takes_several: bool = False
    """A text for which there may be several: a list in the file, the flag repeated, commas in the variable."""
    takes_number: bool = False
    """A text for which the file may have a whole number."""
    example: Any = None
    """Value in the commented file, where there is no default."""
    formerly: str | None = None
    """A second environment variable that sets it."""
    field: str | None = None
    """Dotted path of the field in ListenSettings that the option sets, `mqtt.host`. None: `config.build` uses it."""
    writes: Literal["file", "folder"] | None = None
    """Whether the path is a file or a folder that the daemon writes. None: it writes nothing there. Two options cannot
    name the same file."""
    reload: bool = False
    """Whether a running daemon can change it (SIGHUP). If not, a change needs a restart."""

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.key.split("."))

    @property
    def is_in_file(self) -> bool:
        return not self.key.startswith("--")

    @property
    def table(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """Name in the file, without the table."""
        return self.key.rpartition(".")[2]

    @property
    def group(self) -> str:
        """Field of ListenSettings that holds the settings of this group: `mqtt`. "": ListenSettings itself."""
        return (self.field or "").rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Last part of `field`: `host`."""
        return (self.field or "").rpartition(".")[2]

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags one by one, the long one first: `--model`, `-m`."""
        return tuple(self.flag.replace("/", " ").split()) if self.flag else ()

    @property
    def env(self) -> str:
        """Environment variable: `TAGGER_LISTEN_` and the name of the flag; without a flag the key, less a leading
        `listen`, `mqtt` or `sinks`.

        >>> BY_KEY["mqtt.url"].env, BY_KEY["mqtt.password"].env, BY_KEY["sinks.webhook.token"].env
        ('TAGGER_LISTEN_MQTT', 'TAGGER_LISTEN_PASSWORD', 'TAGGER_LISTEN_WEBHOOK_TOKEN')
        """
        parts = list(self.path)
        if self.flags:
            parts = [self.flags[0].removeprefix("--")]
        elif parts[0] in ("listen", "mqtt", "sinks"):
            parts = parts[1:]
        return ENV_PREFIX + "_".join(parts).replace("-", "_").upper()

    def problem(self, value: Any) -> str | None:
        """Problem of a value, given as TOML has it. None: it is valid. Never shows text, which may be a secret."""
        if not self._has_type(value):
            return self._wrong_type(value)
        if self.takes_several and isinstance(value, list | tuple):
            return self._problem_of_several(value)
        return self._problem_of_one(value)

    def _problem_of_one(self, value: Any) -> str | None:
        if value == "" or (isinstance(value, str) and "\0" in value):
            return "must not be empty" if value == "" else "must not hold a zero character"
        if isinstance(value, str) and self.type is str and not _is_text(value):
            return "must be UTF-8 text"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if isinstance(value, int | float) and not isinstance(value, bool) and not self.takes_number:
            return self._bounds(value)
        return None

    def _problem_of_several(self, values: Sequence[str]) -> str | None:
        if not values:
            return "must name at least one"
        if twice := [value for value in values if values.count(value) > 1]:
            return f"names {twice[0]} twice"
        return next(filter(None, map(self.problem, values)), None)

    def tidied(self, value: Any) -> Any:
        """The value as settings have it: one of several texts alone is a text."""
        if not self.takes_several or isinstance(value, str):
            return value
        return value[0] if len(value) == 1 else tuple(value)

    def _wrong_type(self, value: Any) -> str:
        if self.type is list and isinstance(value, list | tuple) and "" in value:
            return "must not hold an empty text"
        if self.type is list and isinstance(value, str):
            return 'must be a list of texts, not text: write it as ["..."], with a text for each'
        seen = "text" if isinstance(value, str) else "a table" if isinstance(value, dict) else str(value).lower()
        return f"must be {_NAMES[self.type]}" + ("" if self.secret or isinstance(value, list) else f", not {seen}")

    def _has_type(self, value: Any) -> bool:
        if self.type is bool:
            return isinstance(value, bool)
        if self.type is int:
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()  # as JSON Schema has it
            )
        if self.type is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        if self.type is list:
            return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
        if self.takes_several and isinstance(value, list | tuple):
            return all(isinstance(each, str) for each in value)
        is_number = self.takes_number and isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, str) or is_number

    def _bounds(self, value: float) -> str | None:
        if not abs(value) <= sys.float_info.max:  # a whole number may be larger
            return "must be finite"
        if self.above is not None and not value > self.above:
            most = f" and at most {self.most:g}" if self.most is not None else ""
            return f"must be above {self.above:g}{most}" if self.above or most else "must be more than 0"
        if self.least is not None and self.most is not None and not self.least <= value <= self.most:
            return f"must be from {self.least:.10g} to {self.most:.10g}"
        if self.least is not None and not value >= self.least:
            return f"must be at least {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"must be at most {self.most:g}"
        return None

    def parse(self, text: str) -> Any:
        """Value of an environment variable's text.

        Raises:
            ValueError: the text is of another type; the message says which type is wanted.
        """
        try:
            if self.type is bool:
                return _BOOLEANS[text.strip().lower()]
            if self.type in (int, float):
                return self.type(text)
            if self.type is list:
                return tomllib.loads(f"x = {text}")["x"] if text.lstrip().startswith("[") else text.split()
        except (KeyError, ValueError, RecursionError):
            raise ValueError(f"must be {_NAMES[self.type]}") from None
        return self.tidied([part.strip() for part in text.split(",")]) if self.takes_several else text


def _is_text(value: str) -> bool:
    """Whether the text can be encoded. Bytes of the command line that are not UTF-8 can neither be saved nor sent."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


DEFAULTS = ListenSettings()
_TLS = "TLS only: "

OPTIONS: tuple[Option, ...] = (
    Option("listen.sources", list, "Sources: mic, mic:NAME, URLs, demo, auto, -, files, FIFOs; NAME=SOURCE names one.",
           field="sources", default=["mic"]),
    Option("listen.channel", str,
           "Channels that are heard: mix (all, averaged), a number from 1, or several such as 1+3.", field="channel",
           default=DEFAULTS.channel, flag="--channel", metavar="N", takes_number=True),
    Option("listen.model", str, "Model: a name from `tagger models`, or a path; several listen together.",
           field="model", default=DEFAULTS.model, flag="--model -m", takes_several=True),
    Option("listen.device", str, "Device that runs the network: auto, cpu, cuda, cuda:N or mps.", field="device",
           default=DEFAULTS.device, flag="--device"),
    Option("listen.runtime", str, "What runs the network: auto, onnx or openvino (an exported graph), or torch.",
           default=DEFAULTS.runtime, flag="--runtime", choices=RUNTIMES, field="runtime"),
    Option("listen.window", float, "Length of a window, seconds; without it the model's own.", field="window_seconds",
           flag="--window", metavar="S", least=0.5, most=60, example=5.0),
    Option("listen.hop", float, "Time from one window to the next, seconds.", field="hop_seconds",
           default=DEFAULTS.hop_seconds, flag="--hop", metavar="S", least=0.01),
    Option("--threshold", float, "Score that begins an event; without it the model's own.", field="threshold",
           reload=True, flag="--threshold", metavar="P", above=0, most=1),
    Option("--allow", list, "Announce only this label; repeatable.", field="allow", reload=True, default=[],
           flag="--allow", metavar="LABEL"),
    Option("--deny", list, "Never announce this label; repeatable.", field="deny", reload=True, default=[],
           flag="--deny", metavar="LABEL"),
    Option("listen.top", int, "Number of labels in each `scores` message.", field="top", default=DEFAULTS.top,
           flag="--top", least=1),
    Option("listen.realtime", bool, "Replay files at their own pace, or as fast as possible.", field="realtime",
           default=DEFAULTS.realtime, flag="--realtime/--no-realtime"),
    Option("--start-time", str,
           "When recordings began, ISO 8601: local time, or with Z or +01:00; without it their own dates.",
           field="start_time", flag="--start-time", metavar="TIME"),
    Option("listen.audio_s", float, "Time between `audio` messages (the level of a source), seconds.", field="audio_s",
           default=DEFAULTS.audio_s, least=0.1, most=604_800),
    Option("listen.calibrate_db", float,
           "Sound pressure level of full scale, dB: what is added to levels in dBFS; without it levels are relative.",
           field="calibrate_db", flag="--calibrate-db", metavar="DB", least=settings.LEVELS_DB["calibrate_db"][0],
           most=settings.LEVELS_DB["calibrate_db"][1], example=120.0),
    Option("listen.loud_db", float,
           "Level from which any sound is an event `loud`, dB(A), or dBFS if not calibrated; without it none is.",
           field="loud_db", flag="--loud-db", metavar="DB", least=settings.LEVELS_DB["loud_db"][0],
           most=settings.LEVELS_DB["loud_db"][1], example=85.0),
    Option("listen.alarms", bool, "Recognise smoke and carbon monoxide alarms by the pattern in which they beep.",
           field="alarms", default=DEFAULTS.alarms, flag="--alarms/--no-alarms"),
    Option("listen.stats_s", float, "Time between `stats` messages (how the daemon does), seconds.", field="stats_s",
           default=DEFAULTS.stats_s, least=0.1, most=604_800),
    Option("listen.log_level", str, "Least severity that the log says.", field="log_level", reload=True,
           default=DEFAULTS.log_level, flag="--log-level", choices=LEVELS),
    Option("listen.log_format", str, "What a line of the log is: text, or JSON for programs.", field="log_format",
           default=DEFAULTS.log_format, flag="--log-format", choices=FORMATS),
    Option("listen.state", Path, "Folder for what must survive a restart; without it $TAGGER_HOME/state.",
           field="state", flag="--state", metavar="DIR", writes="folder", example="state"),
    Option("mqtt.url", str, "Broker: mqtt://user:password@host:port, mqtts://..., embedded (in this process) or none.",
           field="mqtt.embedded", default=settings.DEFAULT_MQTT_URL, flag="--mqtt", metavar="URL", secret=True),
    Option("mqtt.host", str, "Broker's host, instead of a URL.", field="mqtt.host", reload=True,
           example="broker.local"),
    Option("mqtt.port", int, "Broker's port; without it 1883, or 8883 with TLS.", field="mqtt.port", reload=True,
           least=1, most=65535, example=1883),
    Option("mqtt.tls", bool, "Encrypt, and check the broker's certificate; goes with `host`. In a URL, write mqtts://.",
           field="mqtt.tls", reload=True, default=False),
    Option("mqtt.user", str, "User name for the broker.", field="mqtt.user", reload=True, example="tagger"),
    Option("mqtt.password", str, "Password for the broker; better in a file or an environment variable.",
           field="mqtt.password", reload=True, secret=True, example="password"),
    Option("mqtt.password_file", Path, "File whose first line is the password.", reload=True, flag="--password-file",
           metavar="FILE", example="password.txt"),
    Option("mqtt.client_id", str, "MQTT client id; without it one that stays the same.", field="mqtt.client_id",
           reload=True, flag="--client-id", metavar="ID", example="tagger-attic"),
    Option("mqtt.topic_prefix", str, "First level of every topic.", field="mqtt.prefix", default=MqttSettings.prefix,
           flag="--prefix"),
    Option("mqtt.node", str, "This machine: second level of every topic; without it the host's name.",
           field="mqtt.node", flag="--node", example="attic"),
    Option("mqtt.version", str, "MQTT protocol version.", field="mqtt.version", reload=True,
           default=MqttSettings.version, flag="--mqtt-version", choices=("3.1.1", "5")),
    Option("mqtt.tls_ca_certs", Path, _TLS + "PEM file of certificate authorities, instead of the system's.",
           field="mqtt.tls_ca_certs", reload=True, flag="--tls-ca-certs", metavar="FILE", example="ca.pem"),
    Option("mqtt.tls_client_cert", Path, _TLS + "PEM file of this client's certificate.", field="mqtt.tls_client_cert",
           reload=True, flag="--tls-client-cert", metavar="FILE", example="client.pem"),
    Option("mqtt.tls_client_key", Path,
           _TLS + "PEM file of the client's key, if the certificate's file does not hold it.",
           field="mqtt.tls_client_key", reload=True, flag="--tls-client-key", metavar="FILE", example="client.key"),
    Option("mqtt.tls_host_name", str, _TLS + "name in the broker's certificate, if it differs from the host.",
           field="mqtt.tls_host_name", reload=True, flag="--tls-host-name", metavar="NAME",
           example="broker.example.org"),
    Option("mqtt.tls_insecure", bool, _TLS + "accept any certificate.", field="mqtt.tls_insecure", reload=True,
           default=False, flag="--tls-insecure"),
    Option("mqtt.queue_events", int, "Most events that wait on disk while the broker is away.",
           field="mqtt.queue_events", reload=True, default=MqttSettings.queue_events, least=1,
           most=10_000_000),
    Option("mqtt.expiry_s", int, "MQTT 5 only: age at which the broker may drop an undelivered event, seconds.",
           field="mqtt.expiry_s", reload=True, default=MqttSettings.expiry_s, least=1, most=2**32 - 1),
    Option("mqtt.commands", bool, "Obey requests that arrive over MQTT.", field="mqtt.commands", reload=True,
           default=MqttSettings.commands, flag="--commands/--no-commands"),
    Option("homeassistant.enabled", bool, "Appear in Home Assistant; true if the file has this table.", reload=True,
           flag="--homeassistant/--no-homeassistant", example=True),
    Option("homeassistant.prefix", str, "First level of Home Assistant's discovery topics.",
           field="homeassistant.prefix", reload=True, default=HomeAssistantSettings.prefix),
    Option("homeassistant.labels", list,
           "Labels whose sensors are enabled from the start; without it those that this file or a flag names.",
           field="homeassistant.labels", reload=True, example=["siren", "glass_breaking"]),
    Option("homeassistant.device_name", str, "Name of the device in Home Assistant; without it `tagger NODE`.",
           field="homeassistant.device_name", reload=True, example="Attic microphone"),
    Option("sinks.jsonl.path", Path, "File that events are written to, as lines of JSON.", field="jsonl.path",
           reload=True, flag="--jsonl", metavar="FILE", writes="file", example="events.jsonl"),
    Option("sinks.jsonl.max_mb", float, "Size at which FILE is renamed to FILE.1, that to FILE.2, and so on, MB.",
           field="jsonl.max_mb", reload=True, default=JsonLinesSettings.max_mb, above=0),
    Option("sinks.jsonl.keep", int, "Number of renamed files to keep.", field="jsonl.keep", reload=True,
           default=JsonLinesSettings.keep, least=1, most=1_000),
    Option("sinks.webhook.url", str, "Web server that gets one POST for each event: http://... or https://...",
           field="webhook.url", reload=True, flag="--webhook", metavar="URL", secret=True,
           example="https://example.org/hook"),
    Option("sinks.webhook.token", str,
           "Token for `Authorization: Bearer`; better in a file or an environment variable.", field="webhook.token",
           reload=True, secret=True, example="token"),
    Option("sinks.webhook.token_file", Path, "File whose first line is the token.", reload=True, example="token.txt"),
    Option("sinks.webhook.queue_events", int, "Most events that wait while the server is away.",
           field="webhook.queue_events", reload=True, default=WebhookSettings.queue_events, least=1,
           most=10_000_000),
    Option("sinks.webhook.give_up_s", float, "Time after which an undelivered event is dropped, seconds.",
           field="webhook.give_up_s", reload=True, default=WebhookSettings.give_up_s, above=0),
    Option("sinks.log.path", Path, "SQLite database that events are written to, for `tagger events`.",
           field="event_log.path", reload=True, flag="--event-log", metavar="FILE", writes="file",
           example="events.sqlite"),
    Option("sinks.log.keep_days", float, "Age at which events are deleted, days; without it none is.",
           field="event_log.keep_days", reload=True, above=0, example=365),
    Option("sinks.scores.path", Path, "SQLite database of scores, for the live page's view of thresholds.",
           field="score_history.path", reload=True, flag="--score-history", metavar="FILE", writes="file",
           example="scores.sqlite"),
    Option("sinks.scores.keep_days", float, "Age at which scores are deleted, days.", field="score_history.keep_days",
           reload=True, default=ScoreHistorySettings.keep_days, above=0),
    Option("sinks.scores.keep_mb", float, "Size of all scores above which the oldest are deleted, MB.",
           field="score_history.keep_mb", reload=True, default=ScoreHistorySettings.keep_mb, above=0),
    Option("http.port", int, "Port of /healthz, /readyz, /metrics and /status; without it none is opened.",
           field="http.port", flag="--http-port", metavar="PORT", least=1, most=65535, example=9494),
    Option("http.host", str, "Address to open it on; 0.0.0.0: other machines can read which sounds were heard.",
           field="http.host", flag="--http-host", metavar="HOST", default=HttpSettings.host),
    Option("web.address", str, "Address of the live page; the flag alone: 127.0.0.1:8420, for this machine only.",
           field="web.address", flag="--web", metavar="[ADDRESS]", bare=settings.DEFAULT_WEB_ADDRESS,
           example=settings.DEFAULT_WEB_ADDRESS),
    Option("web.password", str, "Password of the live page; better in a file or an environment variable.",
           field="web.password", secret=True, example="password"),
    Option("web.password_file", Path, "File whose first line is the password of the live page, or its hash.",
           example="password.txt"),
    Option("web.hosts", list, "Names by which browsers reach the live page, besides addresses and this machine's name.",
           field="web.hosts", example=["tagger.example.org"]),
    Option("web.guest_password", str, "Password of guests, who see what is heard: no clips, no marks, no settings.",
           field="web.guest_password", secret=True, example="password"),
    Option("web.guest_password_file", Path, "File whose first line is the password of guests.",
           example="guests.txt"),
    Option("web.trusted_proxies", list, "Addresses of proxies that say truly for whom they ask (`X-Forwarded-*`).",
           field="web.trusted_proxies", example=["192.0.2.1"]),
    Option("web.login_proxies", list, "Addresses of proxies that ask for the login, such as Home Assistant's ingress.",
           field="web.login_proxies", example=["172.30.32.2"]),
    Option("web.owners", list, "Users of these proxies, by name or id, who are no guests; without it nobody is one.",
           field="web.owners", example=["anna"]),
    Option("web.database", str,
           "Database of `tagger collect` that the live page's events come from, instead of the event log.",
           field="web.database", secret=True, example="postgresql://tagger@db.example.org/sounds"),
    Option("clips.folder", Path, "Folder for the audio of events, for `tagger review`; without it no audio is kept.",
           field="clips.folder", flag="--save-clips", metavar="DIR", writes="folder", example="clips",
           formerly="CLIPS"),
    Option("clips.keep_days", float, "Age at which saved clips are deleted, days.", field="clips.keep_days",
           flag="--keep-days", metavar="D", above=0, example=14),
    Option("clips.keep_mb", float, "Total size above which the oldest clips are deleted, MB.", field="clips.keep_mb",
           flag="--keep-mb", metavar="MB", above=0, example=500),
    Option("clips.without_speech", bool, "Save no clip in which somebody may be speaking.",
           field="clips.without_speech", default=False, flag="--without-speech/--with-speech"),
    Option("--watch", bool, "Print events as they arrive back from the broker.", field="watch", default=False,
           flag="--watch"),
    Option("--json", bool, "Print events as lines of JSON.", field="json", default=False, flag="--json",
           formerly="AS_JSON"),
    Option("--explain", bool, "Print what each window holds, and why it is not announced.", field="explain",
           default=False, flag="--explain"),
    Option("--rate", int, "Sample rate of raw PCM from a pipe, Hz.", field="pcm.rate_hz",
           default=PcmFormat.rate_hz, flag="--rate"),
    Option("--format", str, f"Sample format of raw PCM from a pipe: {', '.join(settings.PCM_ENCODINGS)}.",
           field="pcm.encoding", default=PcmFormat.encoding, flag="--format", formerly="ENCODING"),
    Option("--channels", int, "Number of channels of raw PCM from a pipe.", field="pcm.channels",
           default=PcmFormat.channels, flag="--channels"),
)  # fmt: skip

BY_KEY: Mapping[str, Option] = {option.key: option for option in OPTIONS}
TABLES: Mapping[str, str] = {
    "listen": "Sources, model and window.",
    "mqtt": "The broker.",
    "homeassistant": "Sensors in Home Assistant, by MQTT discovery. The table alone turns it on.",
    "sinks": "",
    "sinks.jsonl": "A file of events, one line of JSON each.",
    "sinks.webhook": "A web server that gets each event.",
    "sinks.log": "A database of events.",
    "sinks.scores": "A database of scores. None are kept unless `path` is set.",
    "http": "A port that says how the daemon does. None is opened unless `port` is set.",
    "web": "The live page. None is served unless `address` is set.",
    "clips": "Audio of events. None is kept unless `folder` is set.",
}
"""Tables of the file besides `events`, and the purpose of each."""

LABEL_FIELDS: tuple[Option, ...] = (
    Option("enter", float, "Score from which an event begins; without it the model's own.", example=0.95),
    Option("exit", float, "Score below which the sound has stopped; without it half of enter.", example=0.4),
    Option("confirm_s", float, "Time for which the score must stay at enter or above, seconds.",
           default=KINDS["one-shot"]["confirm_s"], most=MOST_SECONDS["confirm_s"]),
    Option("sure", float,
           "Score from which a sound that lies wholly inside a window needs no confirm_s; 1: none; without it a little "
           "above enter, for one-shot sounds without a confirm_s of their own.", example=0.9),
    Option("min_s", float, "Shortest sound that is an event, seconds.", default=LabelPolicy.min_s,
           most=MOST_SECONDS["min_s"]),
    Option("max_s", float, "Length at which an event is ended, seconds; without it none is.", example=600),
    Option("refractory_s", float, "Time after an event in which the label begins no other, seconds.",
           default=LabelPolicy.refractory_s, most=MOST_SECONDS["refractory_s"]),
    Option("merge_s", float,
           "Shortest pause that separates two events, seconds; without it 2, or 3 for continuous sounds.", example=2.0,
           most=MOST_SECONDS["merge_s"]),
    Option("kind", str, "Kind of sound, one-shot or continuous; without it the label's usual kind.",
           choices=tuple(KINDS), example="one-shot"),
)  # fmt: skip
"""Fields of `events`, for all labels, and of `events.labels.LABEL`, for one."""
