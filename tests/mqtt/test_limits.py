"""Brokers that take only small messages, and publishers of huge ones."""

import json
import logging
import math
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tagger.mqtt import connection
from tagger.mqtt.connection import Connection
from tagger.mqtt.limits import SizeLimits, TooLarge, shorter
from tagger.mqtt.message import Outgoing
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.programs import LONG_S, Mosquitto, Subscriber, subscribed, until

BASE = "tagger/room"
STREAM = Stream("room", "mic", "fake", ("dog", "cat"))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(connection, "RETRY_SECONDS", (0.1, 0.3))
    caplog.set_level(logging.INFO)


@contextmanager
def sink(port: int, version: Any = "3.1.1", outbox: Outbox | None = None) -> Iterator[MqttSink]:
    made = MqttSink(MqttSettings("127.0.0.1", port, node="room", version=version), pytest.fail, outbox)
    made.open([STREAM])
    try:
        yield made
    finally:
        with suppress(TaggerError):
            made.close(5)


def event(number: int, kind: Any, label: str = "dog") -> Event:
    return Event(kind, f"{number:026}", label, 0.9, 0.9, float(number), None if kind == "begin" else number + 1.0)


def ids(subscriber: Subscriber) -> list[tuple[str, str]]:
    return list(dict.fromkeys((e["id"].lstrip("0"), e["type"]) for e in subscriber.jsons(f"{BASE}/mic/event")))


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("limit", [400, 250, 180])
def test_an_event_above_the_brokers_limit_is_shortened(
    tmp_path: Path, version: str, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Mosquitto(tmp_path, "allow_anonymous true", f"max_packet_size {limit}") as broker,
        subscribed(broker.port) as subscriber,
        sink(broker.port, version) as made,
    ):
        for number in (1, 2):
            made.event(STREAM, event(number, "begin"))
            made.event(STREAM, event(number, "end"))
        wanted = [("1", "begin"), ("1", "end"), ("2", "begin"), ("2", "end")]
        until(lambda: ids(subscriber) == wanted, "the events came")
        until(lambda: made.counts()["waiting"] == 0, "nothing waits")
        made.event(STREAM, event(3, "begin", "cat"))
        until(lambda: subscriber.payloads(f"{BASE}/mic/cat/state")[-1:] == ["ON"], "and the states")
        assert all({"schema", "id", "type", "label"} <= each.keys() for each in subscriber.jsons(f"{BASE}/mic/event"))
        assert made.counts()["dropped"] == 0
    if version == "5":
        assert made.counts()["reconnects"] == 0, "this broker says its limit"
    if limit < 250:
        assert caplog.text.count("sent with fewer fields") == 1


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_an_event_that_cannot_be_shortened_is_left_out_by_name(
    tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream("room", "mic", "fake", ("dog", "c" * 150))
    with (
        Mosquitto(tmp_path, "allow_anonymous true", "max_packet_size 200") as broker,
        subscribed(broker.port) as subscriber,
        sink(broker.port, version, Outbox(tmp_path / "outbox.sqlite", 100)) as made,
    ):
        made.event(stream, event(1, "begin", stream.labels[1]))
        made.event(stream, event(2, "begin"))
        made.event(stream, event(1, "end", stream.labels[1]))
        made.event(stream, event(2, "end"))
        until(lambda: ids(subscriber) == [("2", "begin"), ("2", "end")], "what is small enough comes")
        until(lambda: made.counts()["waiting"] == 0, "nothing waits")
        assert made.counts()["dropped"] == 2
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert f"the begin of '{stream.labels[1]}' on {BASE}/mic/event" in said[0]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_scores_above_the_limit_are_left_out_and_the_connection_stays(
    tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Mosquitto(tmp_path, "allow_anonymous true", "max_packet_size 1000") as broker,
        subscribed(broker.port) as subscriber,
        sink(broker.port, version) as made,
    ):
        until(lambda: made.connection.is_connected, "connected")

        def tell() -> bool:
            made.stats({"text": "x" * 2000})
            return "stats (2" in caplog.text

        until(tell, "the log names it")
        made.event(STREAM, event(1, "begin"))
        until(lambda: subscriber.payloads(f"{BASE}/mic/dog/state")[-1:] == ["ON"], "the rest is delivered")
        before = made.counts()["reconnects"]
        for _ in range(20):
            made.stats({"text": "x" * 2000})
        made.stats({"text": "small"})
        until(lambda: subscriber.payloads(f"{BASE}/stats"), "what is small enough comes")
        assert made.counts()["reconnects"] == before


@pytest.mark.slow
def test_a_broker_that_hangs_up_whatever_it_gets_loses_nothing(tmp_path: Path) -> None:
    """No message is to blame where a connection on which nothing is sent ends too."""
    answers: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)

        def welcome_and_hang_up() -> None:
            with suppress(OSError):
                while len(answers) < 12:
                    client, _ = listening.accept()
                    with client:
                        client.recv(1000)
                        client.sendall(b"\x20\x02\x00\x00")
                        client.recv(1000)
                    answers.append(1)

        thread = threading.Thread(target=welcome_and_hang_up)
        thread.start()
        with sink(listening.getsockname()[1]) as made:
            made.event(STREAM, event(1, "begin"))
            thread.join(LONG_S)
            assert len(answers) == 12
            assert (made.counts()["waiting"], made.counts()["dropped"]) == (1, 0)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_huge_message_takes_no_memory(broker: Mosquitto, version: Any) -> None:
    """It is cut off (3.1.1), or never sent to this client (5); the next message is read as ever."""
    came: list[tuple[str, int]] = []
    made = Connection(MqttSettings("127.0.0.1", broker.port, version=version), pytest.fail)
    made.on_message = lambda topic, payload, retained: came.append((topic, len(payload)))
    subscribed_ = threading.Event()
    made.on_subscribed = subscribed_.set
    made.start()
    try:
        assert made.ready.wait(LONG_S)
        made.subscribe(["huge/#"])
        assert subscribed_.wait(LONG_S)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        publisher = (
            "import paho.mqtt.client as p, sys\n"
            "c = p.Client(p.CallbackAPIVersion.VERSION2); c.connect('127.0.0.1', int(sys.argv[1])); c.loop_start()\n"
            "for t, n in (('a', 80_000_000), ('b', 5), ('d', 9)):\n"
            "    c.publish(f'huge/{t}', b'x' * n, qos=1).wait_for_publish(60)\n"
        )
        subprocess.run([sys.executable, "-c", publisher, str(broker.port)], check=True, timeout=300)
        until(lambda: ("huge/d", 9) in came, "the last came")
        assert ("huge/b", 5) in came
        assert all(size < 200_000 for _, size in came)
        assert made.is_connected
        assert made.reconnects == 0
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown_mb < 30
    finally:
        made.stop()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@given(
    payload=st.text(st.characters(codec="utf-8"), max_size=40) | st.integers(80, 20_000).map("x".__mul__),
    topic=st.text("abc/", min_size=1, max_size=300),
    qos=st.integers(0, 1),
    plain=st.booleans(),
)
def test_the_size_of_a_packet_is_what_is_sent(version: Any, payload: str, topic: str, qos: int, plain: bool) -> None:
    made = Connection(MqttSettings(version=version), pytest.fail)
    client = made._client
    message = Outgoing(topic, payload, qos, expiry_s=5, is_plain=plain)
    sent: list[int] = []
    client._packet_queue = lambda command, packet, *_: sent.append(len(packet))  # type: ignore[method-assign,assignment]
    client._sock = socket.socket()
    try:
        made.publish(message)
    finally:
        client._sock.close()
        client._sock = None
    assert sent == [made.packet_bytes(message)]


@given(st.text() | st.sampled_from(["[" * 5000, "[]", "3", '{"id": 1}', "null"]))
def test_what_is_no_event_can_be_shortened_or_not(payload: str) -> None:
    assert all(isinstance(json.loads(each), dict) for each in shorter(payload))


def test_forms_of_an_event_are_ever_shorter_and_an_end_is_as_short_as_its_begin() -> None:
    begins, ends = ([*shorter(json.dumps(event(1, kind).to_json(STREAM, 5.0)))] for kind in ("begin", "end"))
    for forms in (begins, ends):
        assert sorted(forms, key=len, reverse=True) == forms
        assert json.loads(forms[-1]).keys() == {"schema", "id", "type", "label"}
        assert json.loads(forms[0]) == event(1, json.loads(forms[0])["type"]).to_json(STREAM, 5.0)
    assert len(ends[-1]) <= len(begins[-1])


@given(limit=st.integers(2, 5000), sizes=st.lists(st.integers(1, 6000), min_size=1, max_size=60))
def test_what_fits_is_never_refused_for_good(limit: int, sizes: list[int]) -> None:
    limits = SizeLimits()
    for size in sizes:
        if limits.allows(size):
            (limits.accept if size <= limit else limits.reject)(size)
        else:
            assert size > limit
    assert limits.accepted <= limit < limits.rejected


def test_what_a_broker_has_rejected_is_tried_again_after_it_was_restarted() -> None:
    now = [0.0]
    limits = SizeLimits(lambda: now[0])
    assert limits.connect(math.inf) is False
    limits.reject(1_000)
    assert (limits.connect(math.inf), limits.allows(1_000)) == (False, False), "it has just hung up"
    tries = 0
    for _ in range(7 * 24 * 60):  # a connection a minute, for a week, to a broker whose limit stays
        now[0] += 60
        if limits.connect(math.inf):
            tries += 1
            assert limits.allows(1_000)
            limits.reject(1_000)
    assert 10 < tries < 20
    now[0] += 86_400
    assert limits.connect(math.inf)
    limits.accept(1_000)
    limits.reject(2_000)
    now[0] += 60
    assert limits.connect(math.inf), "after a change it is tried soon again"
    assert limits.connect(500)
    assert not limits.connect(500)


def test_what_is_too_large_again_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    found = TooLarge("mqtt://there")
    for _ in range(2):
        for _ in range(3):
            found.leave_out("tagger/a/b", 100)
            found.shorten(10)
        found.begin_anew()
    assert len(caplog.messages) == 4
