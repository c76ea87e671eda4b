"""Which sinks the settings ask for. A new kind is a file in `tagger/sinks/` and a line in `_SINKS`."""

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tagger.daemon.fanout import Fanout
from tagger.daemon.state import StateFolder
from tagger.errors import TaggerError, UserError
from tagger.events import Stream
from tagger.health import SinkHealth
from tagger.mqtt import homeassistant
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Controls, Requests
from tagger.mqtt.sink import Discovery, Journal, MqttSink
from tagger.mqtt.topics import Topics
from tagger.names import slug
from tagger.settings import HomeAssistantSettings, ListenSettings, MqttSettings
from tagger.sinks import Sink
from tagger.sinks.console import ConsoleSink
from tagger.sinks.eventlog import EventLogSink
from tagger.sinks.jsonl import JsonLinesSink
from tagger.sinks.scores import ScoreHistorySink
from tagger.sinks.webhook import WebhookSink
from tagger.words import called

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
"""Longest wait for a removed sink to deliver what it still has, seconds."""

_SINKS: Mapping[str, tuple[str, Callable[[Any], Sink]]] = {
    "jsonl": ("jsonl", JsonLinesSink),
    "webhook": ("webhook", WebhookSink),
    "log": ("event_log", EventLogSink),
    "scores": ("score_history", ScoreHistorySink),
}
"""Sinks that need nothing but their own settings. The name in messages; the field of ListenSettings with the settings
(None there: no such sink); and the sink's class."""


@dataclass(frozen=True)
class SinkContext:
    """What the sinks are made from."""

    settings: ListenSettings
    mqtt: MqttSettings | None
    """The broker, with the port that an embedded one got. None: nothing is published over MQTT."""
    streams: tuple[Stream, ...]
    keys: Mapping[str, str]
    """Name of each source -> a key that stays when the name changes."""
    state: StateFolder | None
    controls: Controls
    """Carries out requests that arrive over MQTT."""
    on_refused: Callable[[UserError], None] | None
    """Called when the broker refuses the connection for good. None: the sink keeps trying."""
    journal: Journal | None = None
    """Keeps what is open known to others. None: no other takes over."""


Wanted = Mapping[tuple[str, Hashable], Callable[[], Sink]]
"""(kind, settings) -> a function that makes the sink. A sink stays open as long as its key is wanted."""


def wanted(context: SinkContext) -> Wanted:
    """The sinks that the settings ask for."""
    settings, mqtt = context.settings, context.mqtt
    sinks: dict[tuple[str, Hashable], Callable[[], Sink]] = {}
    if not settings.watch:
        sinks["console", None] = lambda: ConsoleSink(as_json=settings.json, explain=settings.explain)
    if mqtt is not None:
        home = settings.homeassistant
        made_of = (
            mqtt,
            certificate_times(mqtt),
            home,
            context.streams,
            home and _enabled(context),
        )
        sinks["mqtt", made_of] = lambda: _mqtt(context, mqtt)
    for kind, (field, make) in _SINKS.items():
        if (own := getattr(settings, field)) is not None:
            sinks[kind, own] = partial(make, own)
    return sinks


def has_lasting_sinks(settings: ListenSettings) -> bool:
    """Whether events go to a sink that keeps them after the daemon has ended; MQTT's is not counted."""
    return any(getattr(settings, field) is not None for field, _ in _SINKS.values())


class OpenSinks:
    """The sinks that the settings ask for, as members of a fan-out."""

    def __init__(self, context: SinkContext, fanout: Fanout) -> None:
        """
        Raises:
            TaggerError: a sink cannot be made.
        """
        self.context = context
        self._fanout, self._want = fanout, wanted(context)
        self._open = {key: make() for key, make in self._want.items()}
        """Open sinks by their key in `Wanted`."""
        for sink in self._open.values():
            fanout.add(sink)

    def health(self) -> list[SinkHealth]:
        """How each receiver of events does. From any thread."""
        found = []
        for (kind, _), sink in list(self._open.items()):
            if counts := sink.counts():
                found.append(
                    SinkHealth(
                        name=kind,
                        waiting=counts.get("waiting", 0),
                        dropped=counts.get("dropped", 0),
                        reconnects=counts.get("reconnects", 0),
                        trouble=sink.trouble(),
                    )
                )
        return found

    def event_log(self) -> Path | None:
        """The event log that is written at present. None: there is none."""
        settings = self.context.settings.event_log
        return None if settings is None else settings.path

    def score_history(self) -> Path | None:
        """The history of scores that is written at present. None: there is none."""
        settings = self.context.settings.score_history
        return None if settings is None else settings.path

    def broker(self) -> MqttSettings | None:
        """The broker that is published to at present. None: there is none."""
        return self.context.mqtt

    def change(self, context: SinkContext) -> list[str]:
        """Closes the sinks that are no longer wanted and opens new ones. What is published meanwhile waits for them.

        Returns:
            A phrase for each change, to be logged: "jsonl was opened", "webhook was closed".
        """
        # A broker that refuses the new settings does not stop the daemon: its own settings may be about to change.
        self.context = replace(context, on_refused=None)
        want, before = wanted(self.context), self._want
        gone, new = [key for key in self._open if key not in want], [key for key in want if key not in self._open]
        went: list[str] = []
        came: list[str] = []
        if not (gone or new):
            return []
        with self._fanout.changing() as sinks:
            for key in gone:
                sink = self._open.pop(key)
                sinks.remove(sink)
                went.append(key[0])
                try:
                    sink.close(_CLOSE_SECONDS)
                except TaggerError as error:
                    log.warning("reload: %s", error)
            for key in new:
                # If the new sink cannot be opened, the old one of its kind is opened again.
                choices = [(key, want[key]), *((old, before[old]) for old in gone if old[0] == key[0])]
                for choice, make in choices:
                    try:
                        sink = make()
                        sink.open(context.streams)
                    except TaggerError as error:
                        log.warning("reload: %s", error)
                        continue
                    self._open[choice] = sink
                    sinks.append(sink)
                    came.append(key[0])
                    break
        self._want = {**want, **{key: before[key] for key in self._open if key not in want}}
        return [
            *(f"{kind} was {'closed and opened again' if kind in went else 'opened'}" for kind in came),
            *(f"{kind} was closed" for kind in went if kind not in came),
        ]


def certificate_times(mqtt: MqttSettings) -> tuple[int, ...]:
    """Times at which the certificate files were written, so that a renewed file under the same name is noticed."""
    paths = (mqtt.tls_ca_certs, mqtt.tls_client_cert, mqtt.tls_client_key)
    return tuple(path.stat().st_mtime_ns if path is not None and path.exists() else 0 for path in paths)


def _mqtt(context: SinkContext, mqtt: MqttSettings) -> Sink:
    state, home = context.state, context.settings.homeassistant
    return MqttSink(
        mqtt,
        context.on_refused,
        outbox=None if state is None or mqtt.embedded else Outbox(state.outbox, mqtt.queue_events),
        client_id="" if state is None else f"tagger-{state.id}",
        paused=() if state is None else state.paused,
        requests=Requests(context.controls) if mqtt.commands else None,
        discovery=None if home is None else _home(context, mqtt, home),
        journal=context.journal,
    )


def _enabled(context: SinkContext) -> tuple[str, ...]:
    """Labels and groups that the user named, as the streams call them."""
    known = dict.fromkeys(label for stream in context.streams for label in stream.labels)
    return tuple(label for name in context.settings.named_labels for label in called(name, known))


def _home(context: SinkContext, mqtt: MqttSettings, home: HomeAssistantSettings) -> Discovery:
    device_id = f"tagger_{context.state.id if context.state is not None else slug(mqtt.node)}"
    return Discovery(
        homeassistant.config_topic(home, device_id),
        homeassistant.status_topic(home),
        lambda streams, gone: homeassistant.device_message(
            device_id,
            home,
            Topics(mqtt.prefix, mqtt.node),
            streams,
            context.keys,
            _enabled(context),
            mqtt.commands,
            gone,
            context.settings.audio_s,
            context.settings.stats_s,
        ),
        homeassistant.components,
        homeassistant.removal_message,
    )
