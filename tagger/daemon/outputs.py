"""Which sinks the settings ask for. A new kind is a file beside this one, and an entry in `wanted`."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from tagger.daemon.state import State
from tagger.errors import UserError
from tagger.events import Stream
from tagger.mqtt import homeassistant
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Controls, Requests
from tagger.mqtt.sink import Discovery, MqttSink
from tagger.mqtt.topics import Topics
from tagger.names import slug
from tagger.settings import HomeAssistantSettings, ListenSettings, MqttSettings
from tagger.sinks import Sink
from tagger.sinks.console import ConsoleSink
from tagger.sinks.eventlog import EventLogSink
from tagger.sinks.jsonl import JsonLinesSink
from tagger.sinks.webhook import WebhookSink


@dataclass(frozen=True)
class Daemon:
    """What sinks need to know of it."""

    settings: ListenSettings
    mqtt: MqttSettings | None
    """With the port that the embedded broker has."""
    streams: tuple[Stream, ...]
    keys: Mapping[str, str]
    """Of each source's name, what stays when that changes."""
    asked: tuple[str, ...]
    """Labels that the user named."""
    state: State | None
    controls: Controls
    """What requests over MQTT can do."""
    on_refused: Callable[[UserError], None] | None
    """Told when a broker refuses for good. None: it is tried again all the same."""


Wanted = Mapping[tuple[str, Hashable], Callable[[], Sink]]
"""How each sink is made, by its kind and all that it is made of: as long as that is the same, the sink may stay."""


def wanted(daemon: Daemon) -> Wanted:
    settings, mqtt = daemon.settings, daemon.mqtt
    sinks: dict[tuple[str, Hashable], Callable[[], Sink]] = {}
    if not settings.watch:
        sinks["console", None] = lambda: ConsoleSink(as_json=settings.json, explain=settings.explain)
    if mqtt is not None:
        home = settings.homeassistant
        made_of = (mqtt, certificate_times(mqtt), home, daemon.streams, None if home is None else daemon.asked)
        sinks["mqtt", made_of] = lambda: _mqtt(daemon, mqtt)
    if (jsonl := settings.jsonl) is not None:
        sinks["jsonl", jsonl] = lambda: JsonLinesSink(jsonl)
    if (webhook := settings.webhook) is not None:
        sinks["webhook", webhook] = lambda: WebhookSink(webhook)
    if (log := settings.event_log) is not None:
        sinks["log", log] = lambda: EventLogSink(log)
    return sinks


def certificate_times(mqtt: MqttSettings) -> tuple[int, ...]:
    """When the certificate files were written: one that was renewed is another, though its name is the same."""
    paths = (mqtt.tls_ca_certs, mqtt.tls_client_cert, mqtt.tls_client_key)
    return tuple(path.stat().st_mtime_ns if path is not None and path.exists() else 0 for path in paths)


def _mqtt(daemon: Daemon, mqtt: MqttSettings) -> Sink:
    state, home = daemon.state, daemon.settings.homeassistant
    return MqttSink(
        mqtt,
        daemon.on_refused,
        outbox=None if state is None or mqtt.embedded else Outbox(state.outbox, mqtt.queue_events),
        client_id="" if state is None else f"tagger-{state.id}",
        paused=() if state is None else state.paused,
        requests=Requests(daemon.controls, mqtt.commands),
        discovery=None if home is None else _home(daemon, mqtt, home),
    )


def _home(daemon: Daemon, mqtt: MqttSettings, home: HomeAssistantSettings) -> Discovery:
    device_id = f"tagger_{daemon.state.id if daemon.state is not None else slug(mqtt.node)}"
    return Discovery(
        homeassistant.config_topic(home, device_id),
        homeassistant.status_topic(home),
        lambda streams, gone: homeassistant.device_message(
            device_id,
            home,
            Topics(mqtt.prefix, mqtt.node),
            streams,
            daemon.keys,
            daemon.asked,
            mqtt.commands,
            gone,
            daemon.settings.audio_s,
            daemon.settings.stats_s,
        ),
        homeassistant.components,
        homeassistant.removal_message,
    )
