"""A node for Home Assistant that is made by hand: publishes what a daemon does, at once what else would take hours."""

import json
import socket
import threading
import time
from typing import Any

import paho.mqtt.client as paho

from bench.home_assistant_server import wait
from tagger.events import Event, Level, Stream
from tagger.mqtt.homeassistant import components, config_topic, device_message, removal_message, status_topic
from tagger.mqtt.topics import ANY_LEVEL, Topics, label_levels
from tagger.settings import HomeAssistantSettings

SETTINGS = HomeAssistantSettings()
ASKED = ("dog", "crying_baby", "glass_breaking")
DEVICE = "tagger_3f9a12bc"
FAREWELL_S = 3


class Node:
    """A node made by hand: publishes as the daemon does, at connect and when Home Assistant has started."""

    def __init__(self, broker_port: int, name: str, labels: tuple[str, ...], source: str = "mic") -> None:
        self._port = broker_port
        self.labels = labels
        self.key = "k1"
        self.gone: dict[str, str] = {}
        self.commands: list[str] = []
        self.births = 0
        self.described: dict[str, Any] = {}
        self.rename(name, source)

    def rename(self, name: str, source: str) -> None:
        self.name, self.source, self.topics = name, source, Topics("tagger", name)
        self.retained = {
            self.topics.source_status(source): "online",
            self.topics.source_detail(source): "listening",
            self.topics.enabled(source): "ON",
        }
        for level in (*label_levels(self.labels).values(), ANY_LEVEL):
            self.retained[self.topics.state(source, level)] = "OFF"

    @property
    def stream(self) -> Stream:
        return Stream(self.name, self.source, "esc50", self.labels)

    def start(self) -> None:
        self.described = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.will_set(self.topics.node_status, "offline", 1, True)
        self._client.on_connect = self._connected
        self._client.on_message = self._told
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        wait(lambda: self.described, "the node is announced", 10)

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(status_topic(SETTINGS), 1), (self.topics.enabled_set(self.source), 1)])
        self.announce()

    def _told(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        said = message.payload.decode()
        if message.topic == status_topic(SETTINGS):
            if said == "online":
                self.births += 1
                if self.gone:
                    self.say(config_topic(SETTINGS, DEVICE), json.dumps(removal_message(self.described)), True)
                    threading.Timer(FAREWELL_S, self.announce).start()
                else:
                    self.announce()
        else:
            self.commands.append(said)
            self.pause(said == "OFF")

    def announce(self) -> None:
        """The message, then the states."""
        args = (SETTINGS, self.topics, [self.stream], {self.source: self.key}, ASKED, True, self.gone, 10.0, 60.0)
        self.described = device_message(DEVICE, *args)
        self.say(config_topic(SETTINGS, DEVICE), json.dumps(self.described), True)
        self.say(self.topics.node_status, "online", True)
        for topic, payload in self.retained.items():
            self.say(topic, payload, True)

    def remember(self) -> None:
        """Adds all components of the present description to `gone`."""
        self.gone |= components(self.described)

    def retain(self, topic: str, payload: str) -> None:
        self.retained[topic] = payload
        self.say(topic, payload, True)

    def say(self, topic: str, payload: str, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain)

    def pause(self, paused: bool) -> None:
        self.retain(self.topics.enabled(self.source), "OFF" if paused else "ON")
        self.retain(self.topics.source_status(self.source), "disabled" if paused else "online")

    def begin(self, label: str, score: float = 0.93) -> None:
        self._event(Event("begin", "01M82C9BXHNTRMQRDVRKQ5T24P", label, score, score, time.time()), "ON")

    def end(self, label: str) -> None:
        now = time.time()
        self._event(Event("end", "01M82C9BXHNTRMQRDVRKQ5T24P", label, 0.2, 0.97, now - 1, now), "OFF")

    def _event(self, event: Event, state: str) -> None:
        self.say(self.topics.event(self.source), json.dumps(event.to_json(self.stream, time.time())))
        for level in (label_levels(self.labels)[event.label], ANY_LEVEL):
            self.retain(self.topics.state(self.source, level), state)

    def measure(self) -> None:
        level = Level(-41.27, -20.0, 0, time.time())
        self.say(self.topics.audio(self.source), json.dumps(level.to_json(self.stream)))
        counted = {"windows": 3600, "skipped": 2, "overruns": 1, "reconnects": 0, "broker_reconnects": 0}
        stats = {
            **counted,
            "queue": 0,
            "dropped": 0,
            "latency_ms": {"p50": 11.6, "p95": 15.25, "p99": 17.6},
            "uptime_s": 3600,
        }
        self.say(self.topics.stats, json.dumps(stats))

    def die(self) -> None:
        """Without a word: the broker says that it is gone."""
        sock = self._client.socket()
        self._client.loop_stop()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def stop(self) -> None:
        self.say(self.topics.node_status, "offline", True)
        time.sleep(0.2)
        self._client.disconnect()
        self._client.loop_stop()
