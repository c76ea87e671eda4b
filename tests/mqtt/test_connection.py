"""The connection to a broker when something fails: unreachable, silent and mad brokers, two clients with one id."""

import gc
import itertools
import json
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from tagger.errors import UserError
from tagger.events import Stream
from tagger.mqtt import connection
from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.programs import LONG_S, Mosquitto, free_port, subscribed, until

WELCOME = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}


class Server:
    """Accepts clients, calls `handle` with each one's socket in a separate thread, and then hangs up."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.times: list[float] = []
        """Times at which clients connected, on the monotonic clock."""
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.times.append(time.monotonic())
            self._clients.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._handle(client)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG_S)


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[Server]:
    made = Server(handle)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def connecting(port: int, client_id: str = "", **settings: Any) -> Iterator[Connection]:
    made = Connection(MqttSettings(**{"host": "127.0.0.1", "port": port} | settings), pytest.fail, client_id)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def info_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def shorten_waits(monkeypatch: pytest.MonkeyPatch, first: float, longest: float) -> None:
    monkeypatch.setattr(connection, "RETRY_SECONDS", (first, longest))


def note_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list that gets the length of each wait between two connections when it has passed, seconds.

    It is the length that paho counts: on a busy machine, a client may come later.
    """
    waits: list[float] = []
    wait = paho.Client._reconnect_wait

    def noted(client: paho.Client) -> None:
        wait(client)
        waits.append(client._reconnect_delay or 0.0)

    monkeypatch.setattr(paho.Client, "_reconnect_wait", noted)
    return waits


def hang_up(client: socket.socket) -> None:
    client.recv(1000)


def welcome(client: socket.socket) -> None:
    client.recv(1000)
    client.sendall(WELCOME["3.1.1"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handle", "wanted_s"), [(hang_up, [0.1, 0.2, 0.4, 0.4, 0.4]), (welcome, [0.2, 0.4, 0.4, 0.4, 0.4])]
)
def test_a_broker_that_hangs_up_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, handle: Callable[[socket.socket], None], wanted_s: list[float]
) -> None:
    """A broker that accepts each connection first would otherwise get a new one every second, for ever."""
    shorten_waits(monkeypatch, 0.1, 0.4)
    monkeypatch.setattr(connection, "SHORT_SECONDS", LONG_S)
    waits = note_waits(monkeypatch)
    with serving(handle) as server, connecting(server.port):
        until(lambda: len(waits) >= 5, "it has waited five times")
        assert len(server.times) >= 5
    # The first wait, twice that, and so on; each up to a quarter shorter or longer.
    for wait, wanted in zip(waits, wanted_s, strict=False):
        assert wanted * 0.75 <= wait <= wanted * 1.25, waits


@pytest.mark.slow
def test_default_waits_do_not_overload_a_broker() -> None:
    began = time.monotonic()
    with serving(welcome) as first, serving(hang_up) as second, connecting(first.port), connecting(second.port):
        until(lambda: len(first.times) >= 2 and len(second.times) >= 3, "both were asked again")
    # The servers may note a client late, but never early.
    assert first.times[1] - began >= 1.5
    assert second.times[1] - began >= 0.75
    assert second.times[2] - began >= 0.75 + 1.5


@pytest.mark.slow
def test_after_a_good_while_the_first_wait_is_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch, 0.1, 10)
    monkeypatch.setattr(connection, "SHORT_SECONDS", LONG_S)
    waits, asked = note_waits(monkeypatch), itertools.count(1)

    def handle(client: socket.socket) -> None:
        if next(asked) == 5:
            monkeypatch.setattr(connection, "SHORT_SECONDS", 0.0)  # it lasts long enough
        welcome(client)

    with serving(handle) as server, connecting(server.port):
        until(lambda: len(waits) >= 5, "it has waited five times")
    assert waits[3] >= 0.6, "eight times the first"
    assert waits[4] <= 0.125, "the fifth connection was a good one"


def test_after_a_broker_was_away_the_first_wait_is_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that restarts again and again is no broker that rejects this client."""
    shorten_waits(monkeypatch, 0.1, 10)
    monkeypatch.setattr(connection, "SHORT_SECONDS", LONG_S)
    waits = note_waits(monkeypatch)
    answers = iter([welcome, welcome, welcome, hang_up, welcome])

    def answer(client: socket.socket) -> None:
        next(answers, hang_up)(client)

    with serving(answer) as server, connecting(server.port):
        until(lambda: len(waits) >= 4, "it has waited four times")
    assert waits[2] >= 0.6, "eight times the first"
    assert waits[3] <= 0.125


def note_tries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list that gets the time of each try that fails, on the monotonic clock."""
    tried: list[float] = []
    describe = connection.describe

    def counted(error: BaseException | None) -> str:
        tried.append(time.monotonic())
        return describe(error)

    monkeypatch.setattr(connection, "describe", counted)
    return tried


@pytest.mark.slow
def test_an_unreachable_broker_is_tried_again_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten_waits(monkeypatch, 0.5, 10)
    tried = note_tries(monkeypatch)
    waits = note_waits(monkeypatch)
    with connecting(free_port()):
        until(lambda: len(tried) >= 3, "three times")
    assert len(waits) >= 2, "one wait between two tries"
    assert 0.375 <= waits[0] <= 0.625
    assert 0.75 <= waits[1] <= 1.25
    first, second = (later - sooner for sooner, later in pairwise(tried[:3]))
    assert (first, second) >= (waits[0], waits[1])
    (said,) = (record.getMessage() for record in caplog.records)
    assert "(Connection refused); trying again" in said
    assert "Is a broker running there? Start one" in said


def test_clients_do_not_reconnect_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance lengthens or shortens each client's waits by up to a quarter."""
    waits: list[tuple[float, float]] = []
    monkeypatch.setattr(connection.paho.Client, "reconnect_delay_set", lambda self, *delays: waits.append(delays))
    for _ in range(60):
        Connection(MqttSettings(), pytest.fail)
    firsts, longests = zip(*waits, strict=True)
    assert len(set(firsts)) == len(set(longests)) == 60
    assert 0.75 <= min(firsts) < 0.9
    assert 1.1 < max(firsts) <= 1.25
    assert min(longests) >= 60
    assert max(longests) <= 75


@pytest.mark.broker
def test_a_broker_that_comes_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten_waits(monkeypatch, 0.1, 0.2)
    port = free_port()
    tried = note_tries(monkeypatch)
    with connecting(port) as made:
        until(lambda: len(tried) > 2, "it is tried again and again")
        assert caplog.text.count("cannot reach") == 1
        assert not made.ready.is_set()
        late = Mosquitto(tmp_path, port=port)
        try:
            until(lambda: made.is_connected, "connected")
            assert made.reconnects == 0
        finally:
            late.kill()


def test_an_unknown_host_name_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    shorten_waits(monkeypatch, 0.1, 0.2)
    tried = note_tries(monkeypatch)
    with connecting(1883, host="nobody.invalid"):
        until(lambda: len(tried) > 1, "it is tried twice")
    assert caplog.text.count("cannot reach mqtt://nobody.invalid:1883") == 1
    assert "Traceback" not in caplog.text


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("tls", [False, True])
def test_a_silent_server_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    """After the keepalive; with TLS, after the time limit of a connection."""
    shorten_waits(monkeypatch, 0.1, 0.2)
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1.0)

    def read_only(client: socket.socket) -> None:
        while client.recv(1000):
            pass

    with serving(read_only) as server:
        settings = MqttSettings("127.0.0.1", server.port, tls=tls, tls_insecure=tls)
        made = Connection(settings, pytest.fail)
        made.start()
        until(lambda: len(server.times) > 2, "it is tried again")
        assert not made.is_connected
        begun = time.monotonic()
        made.stop()
        assert time.monotonic() - begun < 20, "and it can be stopped"
    words = "(The handshake operation timed out); trying again" if tls else "does not answer (Keep alive timeout"
    assert words in caplog.text


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_rubbish_ends_no_thread(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """After each of 150 connections to a server that sends rubbish comes another. pytest fails if a thread dies."""
    shorten_waits(monkeypatch, 0.002, 0.004)
    chance = random.Random(1)
    kinds = [0x20, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0]

    def send_rubbish(client: socket.socket) -> None:
        client.recv(1000)
        if chance.random() < 0.7:
            client.sendall(WELCOME[version])
        for _ in range(20):
            length = chance.choice([0, 1, 2, 3, 5, 12, 60])
            client.sendall(bytes([chance.choice(kinds), length]) + chance.randbytes(length))

    monkeypatch.setattr(connection, "SHORT_SECONDS", 0)
    with serving(send_rubbish) as server, connecting(server.port, version=version):
        until(lambda: len(server.times) > 150, "it goes on")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_an_unavailable_broker_is_tried_again_with_one_line_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    shorten_waits(monkeypatch, 0.1, 0.2)
    unavailable = {"3.1.1": b"\x20\x02\x00\x03", "5": b"\x20\x03\x00\x88\x00"}[version]

    def refuse(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(unavailable)
        client.recv(1000)

    with serving(refuse) as server, connecting(server.port, version=version):
        until(lambda: len(server.times) > 3, "it is tried again")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) <= len(server.times)
    assert all("refuses (Server unavailable); trying again" in each for each in said)


def test_a_refused_subscription_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(client: socket.socket) -> None:
        welcome(client)
        number = client.recv(1000)[2:4]
        client.sendall(b"\x90\x03" + number + b"\x80")
        client.recv(1000)

    asked = threading.Event()
    with serving(refuse) as server, connecting(server.port) as made:
        made.on_subscribed = asked.set
        assert made.ready.wait(LONG_S)
        made.subscribe(["tagger/room/request/+"])
        assert asked.wait(LONG_S)
    assert "refuses a subscription (Unspecified error); nothing arrives there" in caplog.text


PROGRAM = """
import json, sys, time
from tagger.mqtt.connection import Connection
from tagger.settings import MqttSettings
settings = json.loads(sys.argv[1])
connection = Connection(MqttSettings(**settings), print)
connection.set_will("tagger/room/status", "offline")
connection.start()
connection.ready.wait(90)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_the_last_will_is_published_when_the_process_is_killed(broker: Mosquitto, version: str) -> None:
    given = json.dumps({"host": "127.0.0.1", "port": broker.port, "version": version})
    with subscribed(broker.port) as witness:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, given], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"up\n"
            assert witness.payloads("tagger/room/status") == []
            process.kill()
            process.wait()
        until(lambda: witness.payloads("tagger/room/status")[-1:] == ["offline"], "the broker tells its will")
    with subscribed(broker.port) as late:
        until(lambda: late.payloads("tagger/room/status")[-1:] == ["offline"], "and keeps it")


@pytest.mark.slow
def test_two_clients_with_one_id_do_not_disconnect_each_other_for_ever(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gives way, and connects less and less often; the other is connected for most of the time."""
    first, short = 0.3, connection.SHORT_SECONDS / connection.RETRY_SECONDS[0]
    shorten_waits(monkeypatch, first, 60 * first)
    monkeypatch.setattr(connection, "SHORT_SECONDS", short * first)
    with connecting(broker.port, "same") as one, connecting(broker.port, "same") as other:
        time.sleep(4)
        until(lambda: one.reconnects + other.reconnects >= 2, "they meet")
        before, began, up = one.reconnects + other.reconnects, time.monotonic(), 0
        for _ in range(40):
            time.sleep(0.1)
            up += one.is_connected or other.is_connected
        more, passed_s = one.reconnects + other.reconnects - before, time.monotonic() - began
    assert more <= 5 / 4 * passed_s  # 13 in 4 s, if neither gave way
    assert up > 20


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_stop_returns_soon_while_the_broker_is_frozen(broker: Mosquitto, version: str) -> None:
    with connecting(broker.port, version=version) as made:
        until(lambda: made.is_connected, "connected")
        broker.signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                made.publish(Outgoing("tagger/room/status", "online"))
            time.sleep(0.2)
            begun = time.monotonic()
            made.stop()
            assert time.monotonic() - begun < 20  # the keepalive is 30
        finally:
            broker.signal(signal.SIGCONT)


def test_a_final_refusal_is_reported_once_and_ends_the_attempts() -> None:
    def refuse(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(b"\x20\x02\x00\x05")
        client.recv(1000)

    refusals: list[UserError] = []
    with serving(refuse) as server:
        made = Connection(MqttSettings("127.0.0.1", server.port, user="me", password="sesame"), refusals.append)
        made.start()
        until(lambda: refusals, "it is refused")
        assert made.ready.wait(LONG_S)
        time.sleep(1.5)
        made.stop()
        assert len(server.times) == 1
    assert [str(each) for each in refusals] == [
        f"the broker at mqtt://me@127.0.0.1:{server.port} refuses: Not authorized; check user and password"
    ]


def test_a_stopped_connection_is_freed_at_once(broker: Mosquitto) -> None:
    """With its sockets: a daemon opens a connection at each reload."""

    def clients() -> int:
        return sum(issubclass(type(each), paho.Client) for each in gc.get_objects())

    gc.collect()
    before = clients()
    made = MqttSink(MqttSettings("127.0.0.1", broker.port), pytest.fail)
    made.open([Stream("room", "mic", "fake", ("dog",))])
    assert made.connection.ready.wait(LONG_S)
    gc.disable()
    try:
        assert clients() == before + 1
        made.close(10)
        del made
        assert clients() == before
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_two_clients_with_one_id_are_told_what_to_do(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    """Such as those of a memory card and its copy. Said by each of them, once."""
    shorten_waits(monkeypatch, 0.2, 1.0)
    monkeypatch.setattr(connection, "SHORT_SECONDS", 0.3)
    advice = "another client with this id (same)"
    with (
        connecting(broker.port, "same", version=version) as one,
        connecting(broker.port, "same", version=version) as other,
    ):
        until(lambda: one.reconnects >= 4 and other.reconnects >= 4, "they meet again and again")
    said = [record.getMessage() for record in caplog.records if advice in record.getMessage()]
    assert len(said) == 2
    assert all("remove known.json" in each and "client_id" in each for each in said)


@pytest.mark.broker
def test_a_broker_that_restarts_again_and_again_is_no_other_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten_waits(monkeypatch, 0.1, 0.2)
    tried = note_tries(monkeypatch)
    with Mosquitto(tmp_path) as here, connecting(here.port, "alone") as made:
        for _ in range(5):
            until(lambda: made.is_connected, "connected")
            here.kill()
            until(lambda: not made.is_connected, "the loss is noticed")
            refused_before = len(tried)
            until(lambda before=refused_before: len(tried) > before, "it is away")  # type: ignore[misc]
            here.start()
    assert "another client" not in caplog.text
    assert 1 <= caplog.text.count("cannot reach") <= 5, "once each time"
