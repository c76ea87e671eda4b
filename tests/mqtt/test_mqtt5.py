"""MQTT 5, against a real broker."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tagger.errors import TaggerError, UserError
from tagger.events import Event, Level, Stream
from tagger.mqtt import connection
from tagger.mqtt.embedded import EmbeddedBroker
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.programs import LONG_S, Mosquitto, Subscriber, free_port, subscribed, until

BASE = "tagger/room"
STREAM = Stream("room", "mic", "fake", ("dog", "cat"))
V5 = MQTTProtocolVersion.MQTTv5


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Shortens the waits between attempts to connect."""
    monkeypatch.setattr(connection, "RETRY_SECONDS", (0.1, 0.3))
    caplog.set_level(logging.INFO)


@contextmanager
def sink(port: int, refusals: list[UserError] | None = None, **settings: Any) -> Iterator[MqttSink]:
    given = {"host": "127.0.0.1", "port": port, "node": "room", "version": "5"} | settings
    made = MqttSink(MqttSettings(**given), pytest.fail if refusals is None else refusals.append)
    made.open([STREAM])
    try:
        yield made
    finally:
        with suppress(TaggerError):  # some connections never reach a broker
            made.close(0.5)


def begin(number: int, label: str = "dog") -> Event:
    return Event("begin", f"{number:026}", label, 0.9, 0.9, float(number))


def properties(subscriber: Subscriber, topic: str) -> Any:
    """MQTT 5 properties of the newest message."""
    return [message.properties for _, message in list(subscriber.messages) if message.topic == topic][-1]


@pytest.mark.broker
def test_messages_say_what_they_are_and_for_how_long(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as here,
        subscribed(here.port, version=V5) as witness,
        sink(here.port, expiry_s=500) as made,
    ):
        until(lambda: witness.payloads(f"{BASE}/mic/any/state"), "states came")
        made.event(STREAM, begin(1))
        made.audio(STREAM, Level(-20.0, -10.0, 0, 0.0))
        until(lambda: "ON" in witness.payloads(f"{BASE}/mic/any/state"), "the event came")
        until(lambda: witness.payloads(f"{BASE}/mic/audio"), "the level came")

        event = properties(witness, f"{BASE}/mic/event")
        assert (event.ContentType, event.PayloadFormatIndicator) == ("application/json", 1)
        assert 400 <= event.MessageExpiryInterval <= 500
        user = dict(event.UserProperty)
        assert user["node"] == "room"
        assert user["producer"].startswith("tagger ")

        for topic in ("status", "mic/status", "mic/status/detail", "mic/dog/state", "mic/enabled"):
            state = properties(witness, f"{BASE}/{topic}")
            assert state.ContentType == "text/plain", topic
            assert not hasattr(state, "MessageExpiryInterval"), f"{topic} is retained, and holds until it changes"
            assert dict(state.UserProperty)["node"] == "room"

        level = properties(witness, f"{BASE}/mic/audio")
        assert level.ContentType == "application/json"
        assert level.MessageExpiryInterval <= 60


class PersistentSubscriber:
    """A subscriber whose session the broker keeps while it is away."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "absent", protocol=V5)
        self._subscribed, self._connected, self._all_came = (threading.Event() for _ in range(3))
        self._count = 0
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_message = lambda _client, _data, message: self._received(message.topic)
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 100
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._client.loop_start()
        assert self._connected.wait(LONG_S)

    def _received(self, topic: str) -> None:
        if topic == "absent/fence":
            self._all_came.set()
        else:
            self._count += 1

    def subscribe(self, topic: str) -> "PersistentSubscriber":
        self._client.subscribe(topic, qos=1)
        assert self._subscribed.wait(LONG_S)
        return self

    def messages(self) -> int:
        """Number of those that the broker has kept for it."""
        self.subscribe("absent/fence")
        self._client.publish("absent/fence", qos=1)  # comes after them
        assert self._all_came.wait(LONG_S)
        self.leave()
        return self._count

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.broker
@pytest.mark.parametrize(("expiry_s", "left"), [(1, 0), (100, 1)])
def test_an_event_that_nobody_fetched_expires(tmp_path: Path, expiry_s: int, left: int) -> None:
    """The broker does not deliver an expired event to a subscriber that was away."""
    with Mosquitto(tmp_path) as here:
        with sink(here.port, expiry_s=expiry_s) as made:
            until(lambda: made.connection.is_connected, "connected")
            PersistentSubscriber(here.port).subscribe(f"{BASE}/mic/event").leave()
            made.event(STREAM, begin(1))
            until(lambda: made.counts()["waiting"] == 0, "the broker has it")
        if not left:
            time.sleep(2.2)  # the broker counts in whole seconds
        assert PersistentSubscriber(here.port).messages() == left


@pytest.mark.broker
def test_it_reconnects_and_publishes_everything_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as here, sink(here.port) as made:
        until(lambda: made.connection.is_connected, "connected")
        here.kill()
        until(lambda: not made.connection.is_connected, "the loss is noticed")
        made.event(STREAM, begin(1))
        here.start()
        until(lambda: made.counts()["waiting"] == 0, "the event was delivered")
        with subscribed(here.port, version=V5) as late:
            until(lambda: late.payloads(f"{BASE}/mic/dog/state")[-1:] == ["ON"], "the state is kept")
            until(lambda: late.payloads(f"{BASE}/status")[-1:] == ["online"], "so is the node's")
        assert made.counts()["reconnects"] == 1


@pytest.mark.broker
def test_no_more_messages_are_in_flight_than_the_broker_wants(tmp_path: Path) -> None:
    numbers = range(1, 201)
    with (
        Mosquitto(tmp_path, "allow_anonymous true", "max_inflight_messages 5") as here,
        subscribed(here.port, version=V5) as witness,
        sink(here.port) as made,
    ):
        until(lambda: made.connection.is_connected, "connected")
        assert made.connection.max_in_flight == 5
        for number in numbers:
            made.event(STREAM, begin(number))
        until(lambda: len(witness.payloads(f"{BASE}/mic/event")) >= len(numbers), "all came")
        assert [int(event["id"]) for event in witness.jsons(f"{BASE}/mic/event")] == list(numbers)
        until(lambda: made.counts() == {"waiting": 0, "dropped": 0, "reconnects": 0}, "the broker has all")


@pytest.mark.broker
def test_a_topic_that_the_broker_does_not_allow_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic readwrite {BASE}/#\ntopic deny {BASE}/mic/event\ntopic deny {BASE}/mic/dog/state\n")
    with (
        Mosquitto(tmp_path, "allow_anonymous true", f"acl_file {rules}") as here,
        subscribed(here.port, version=V5) as witness,
        sink(here.port) as made,
    ):
        for number in range(1, 60):
            made.event(STREAM, begin(number))
        until(lambda: "ON" in witness.payloads(f"{BASE}/mic/any/state"), "a state that is allowed came")
        until(lambda: made.counts()["waiting"] == 0, "nothing is stuck")
        made.event(STREAM, begin(60, "cat"))
        until(lambda: "ON" in witness.payloads(f"{BASE}/mic/cat/state"), "and one more")
        assert witness.payloads(f"{BASE}/mic/event") == witness.payloads(f"{BASE}/mic/dog/state") == []
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert made.counts()["dropped"] == 60, "what the broker will not have is counted"
        assert len(said) == 1, "once a connection, not for each message"
        assert "refuses messages (Not authorized); check its access list" in said[0]
        here.kill()
        until(lambda: not made.connection.is_connected, "the loss is noticed")
        here.start()
        until(lambda: caplog.text.count("refuses messages") == 2, "it is said again")


def test_a_broker_without_version_5_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker knows only 3.1.1, and does not answer a connection with properties."""
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", 1)
    here = EmbeddedBroker("127.0.0.1", free_port())
    refusals: list[UserError] = []
    try:
        with sink(here.port, refusals):
            until(lambda: refusals, "it is refused")
    finally:
        here.stop()
    assert len(refusals) == 1
    assert str(refusals[0]).endswith("Unsupported protocol version; choose another version of MQTT, 3.1.1 or 5")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x20\x02\x00\x01",  # from a broker that knows only 3.1.1
        b"\x20\x03\x00\x84\x00",  # from a broker that knows 5 and refuses it
    ],
)
def test_version_5_is_refused(answer: bytes) -> None:
    refusals: list[UserError] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)
                client.recv(1000)

        thread = threading.Thread(target=refuse)
        thread.start()
        with sink(listening.getsockname()[1], refusals):
            until(lambda: refusals, "it is refused")
        thread.join(LONG_S)
    assert len(refusals) == 1
    assert "Unsupported protocol version" in str(refusals[0])
    assert "\n" not in str(refusals[0])
