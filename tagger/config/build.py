"""What was given to settings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tagger.config import secret
from tagger.config.broker import BrokerRules
from tagger.config.file import load, usual
from tagger.config.given import Rank, gather
from tagger.config.rules import Resolved
from tagger.errors import UserError
from tagger.names import is_topic
from tagger.settings import (
    ClipSettings,
    EventLogSettings,
    HomeAssistantSettings,
    JsonLinesSettings,
    ListenSettings,
    MqttSettings,
    PcmFormat,
    WebhookSettings,
    pcm_encoding,
)


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


class _Build(BrokerRules):
    """All of `tagger listen`."""

    def listen(self) -> ListenSettings | None:
        self._warn()
        self._sources()
        mqtt = self._mqtt()
        events = self._document.events if self._document is not None else None
        sinks = (self._homeassistant(mqtt), self._jsonl(), self._webhook(), self._event_log())
        self._apart()
        clips = self._clips()
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
                config=self._document.file.path if self._document is not None else None,
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

    def _sources(self) -> None:
        given = self._given["listen.sources"]
        if not given.value:
            self._problem(given, "no source: name one, such as mic, demo or a file")
            self._drop(given)
        if sum(each == "-" or each.endswith("=-") for each in given.value) > 1:
            self._problem(given, "standard input can be listened to only once")

    def _apart(self) -> None:
        """Two sinks in one file would destroy it."""
        log, jsonl = self._given["sinks.log.path"], self._given["sinks.jsonl.path"]
        if None not in (log.value, jsonl.value) and log.value.absolute() == jsonl.value.absolute():
            self._problem(max(log, jsonl, key=lambda given: given.rank), "is the file of sinks.log and of sinks.jsonl")

    def _homeassistant(self, mqtt: MqttSettings | None) -> HomeAssistantSettings | None:
        enabled, prefix = self._given["homeassistant.enabled"], self._given["homeassistant.prefix"]
        if not enabled.is_given:  # its table, or any of its other options, says so
            if self._document is not None and "homeassistant" in self._document.tables:
                enabled = replace(enabled, value=True, rank=Rank.FILE, file=self._document.file)
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
        max_mb, keep = self._of("sinks.jsonl.max_mb"), int(self._of("sinks.jsonl.keep"))
        return self._make(lambda: JsonLinesSettings(path, max_mb, keep))

    def _webhook(self) -> WebhookSettings | None:
        names = ("token", "token_file", "queue_events", "give_up_s")
        url = self._with("sinks.webhook.url", *(f"sinks.webhook.{name}" for name in names))
        if url is None:
            return None
        tokens = sorted(self._asked("sinks.webhook.token", "sinks.webhook.token_file"), key=lambda given: given.rank)
        if len(tokens) == 2 and tokens[0].rank == tokens[1].rank:
            self._problem(
                tokens[0], "one token is enough: sinks.webhook.token and sinks.webhook.token_file both say one"
            )
        token = None
        if tokens:
            token = self._secret(tokens[-1]) if tokens[-1].option.name == "token_file" else tokens[-1].value
        queue_events, give_up_s = int(self._of("sinks.webhook.queue_events")), self._of("sinks.webhook.give_up_s")
        try:
            return WebhookSettings(url, token, queue_events, give_up_s)
        except UserError as error:
            problem = str(error).removeprefix("webhook: ")
            self._problem(tokens[-1] if tokens and "token" in problem else self._given["sinks.webhook.url"], problem)
            return None

    def _event_log(self) -> EventLogSettings | None:
        path = self._with("sinks.log.path", "sinks.log.keep_days")
        return None if path is None else self._make(lambda: EventLogSettings(path, self._of("sinks.log.keep_days")))

    def _clips(self) -> ClipSettings | None:
        folder = self._with("clips.folder", "clips.keep_days", "clips.keep_mb")
        keep = self._of("clips.keep_days"), self._of("clips.keep_mb")
        return None if folder is None else self._make(lambda: ClipSettings(folder, *keep))

    def _warn(self) -> None:
        """Of secrets that anybody on this machine can read."""
        in_file = [given for given in self._given.values() if given.rank is Rank.FILE and given.is_secret]
        paths = {given.file.path: given.option.key for given in in_file if given.file is not None}
        paths |= {
            given.value: given.option.key for given in self._asked("mqtt.password_file", "sinks.webhook.token_file")
        }
        for path, key in paths.items():
            if secret.is_open_to_all(path):
                self._warnings.append(
                    f"{path}: everybody on this machine can read it, and {key} in it: chmod 600 {path}"
                )
