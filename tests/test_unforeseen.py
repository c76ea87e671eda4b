"""An exception that nobody foresaw, wherever others are answered: it costs what was asked, never the daemon."""

import asyncio
import json
import logging
import socket
import threading
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tagger.collect import collector
from tagger.daemon.web import answering
from tagger.events import Event, Stream
from tagger.fleet.local import Client
from tagger.fleet.messages import Report
from tagger.fleet.worker import Worker
from tagger.history.log import EventRow
from tagger.mqtt.client import BoundedClient
from tagger.mqtt.connection import Connection
from tagger.mqtt.requests import Requests
from tagger.mqtt.sink import MqttSink
from tagger.printable import LogFormatter
from tagger.settings import HttpSettings, MqttSettings
from tagger.unforeseen import contained, tell
from tests.collect.test_message import BEGIN, STREAM
from tests.daemon.test_web import get
from tests.fleet.fleets import FakeHearing, coordinator, workers
from tests.mqtt.test_requests import FakeControls
from tests.programs import LONG_S, Mosquitto, free_port, subscribed, until

FAILED = "something failed; the log says what"


class StrangeError(Exception):
    """What nobody foresaw."""


def broken(*_: Any, **__: Any) -> Any:
    raise StrangeError("secret detail")


@pytest.fixture(autouse=True)
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The threads that died; none may."""
    names: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda of: names.append(f"{of.thread}: {of.exc_value}"))
    yield names
    assert not names


def test_the_first_of_each_place_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with contained("a letter"):
            broken()
    with contained("a parcel"):
        broken()
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, True]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert "a letter: failed (StrangeError in test_unforeseen.py:" in caplog.messages[0]
    assert "secret" not in caplog.messages[0]


def test_a_traceback_in_the_log_is_bounded_whatever_is_in_it() -> None:
    def deep(left: int) -> None:
        if left % 2:
            deep(left - 1)
        elif left:
            other(left)
        raise StrangeError("x" * 100_000 + "\n" * 10_000)

    def other(left: int) -> None:
        deep(left - 1)

    formatter, records = LogFormatter(), list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.getLogger("tagger.unforeseen")
    log.addHandler(handler)
    try:
        deep(100)
    except StrangeError as error:
        tell("a deep letter", error)
    finally:
        log.removeHandler(handler)
    records[0].exc_text = None  # as another handler has formatted it
    text = formatter.format(records[0])
    assert "StrangeError" in text
    assert len(text) < 50_000


@pytest.mark.parametrize("kind", ["pause", "resume", "threshold", "labels", "test"])
def test_a_request_over_mqtt_is_answered(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    controls = FakeControls()
    for name in ("pause", "threshold", "labels", "test"):
        setattr(controls, name, broken)
    requests = Requests(controls)
    needs = {"threshold": {"label": "dog", "enter": 0.5}, "test": {"label": "dog"}}.get(kind, {})
    answer = requests.answer(kind, json.dumps({"transaction": "7", **needs}).encode())
    assert answer == {"transaction": "7", "status": "error", "error": FAILED}
    assert requests.switch("mic", b"ON") is None
    assert "StrangeError" in caplog.text


@pytest.mark.broker
def test_a_sink_goes_on_after_a_message_that_failed(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(FakeControls())
    sink = MqttSink(MqttSettings("127.0.0.1", broker.port, node="room"), None, requests=requests)
    stream = Stream("room", "mic", "fake", ("dog",))
    monkeypatch.setattr(requests, "answer", broken)
    with subscribed(broker.port) as heard:
        sink.open([stream])
        heard.publish("tagger/room/request/labels", "{}")
        sink.event(stream, Event("begin", "01HZ0000000000000000000000", "dog", 0.9, 0.9, 1_000.0))
        until(lambda: heard.jsons("tagger/room/mic/event"), "the event is there")
        sink.close(LONG_S)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x20\x05\x00\x00\x02\xff\x01",  # CONNACK with a property that does not exist
        b"\x20\x06\x00\x00\x03\x21\x00\x00",
        b"\x20\x03\x00\xff\x00",
        b"\x30\x05\x00\x01t\x05\x01",  # a PUBLISH whose properties are cut off
        b"\x30\x07\x00\x01t\x03\x02\x00\x00",
        b"\x40\x03\x00\x01\xff",
        b"\x90\x04\x00\x01\x00\xff",
        b"\xe0\x02\xff\x00",
        b"\xf0\x00",
        b"\x20\x00",
    ],
)
def test_a_broken_packet_ends_a_connection_and_no_more(packet: bytes) -> None:
    connection = Connection(MqttSettings("127.0.0.1", 1), None)
    client: BoundedClient = connection._client
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client._sock = ours
        theirs.sendall(packet)
        client.loop_read()  # raises nothing
        client._sock = None


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/status"])
def test_a_request_for_the_health_is_answered(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with answering(broken, HttpSettings(port, "127.0.0.1"), tmp_path):
        status, text = get(port, path)
        assert (status, "secret" in text) == (500, False)
    assert "StrangeError" in caplog.text


def test_a_message_to_a_coordinator_costs_that_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strange: list[Any] = [
        {"report": []},
        {"report": {"request": 7}},
        [],
        7,
        "report",
        None,
        {"ended": 7},
        {"ended": [[]]},
    ]
    with coordinator(tmp_path, {"a": "demo"}, 1) as fleet:
        until((tmp_path / "fleet.sock").exists, "it listens")
        for each in strange:
            client = Client(tmp_path, LONG_S)
            with suppress(ConnectionError):
                client.ask(each)
            client.close()
        assert fleet.answer({"status": True})["problem"] == ""
        with workers(tmp_path, "w1") as (worker,):
            until(lambda: worker.hearing.heard == {"a": "demo"}, "a worker gets its stream")
    assert "in a thread" not in caplog.text


def test_a_report_with_a_capacity_that_is_none_is_refused(tmp_path: Path) -> None:
    with coordinator(tmp_path, {"a": "demo"}, 1) as fleet:
        for capacity in ("x", None, float("nan"), []):
            report = {"request": {"session": "s", "ended": []}, "node": "n", "capacity": capacity}
            with pytest.raises(ValueError, match="no report"):
                fleet.answer({"report": report})


def test_a_fleet_looks_at_its_sources_again_after_a_look_that_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Strange(UserDict[str, str]):
        is_broken = False

        def keys(self) -> Any:
            return broken() if self.is_broken else super().keys()

    sources = Strange(a="demo")
    with coordinator(tmp_path, sources, 0) as fleet:
        sources.is_broken = True
        until(lambda: "StrangeError" in caplog.text, "a look has failed")
        sources.is_broken = False
        sources["b"] = "demo"
        until(lambda: "b" in fleet.coordinator.sources, "it looks again")


def test_a_worker_asks_again_after_an_answer_that_failed() -> None:
    asked: list[Report] = []

    def ask(report: Report) -> None:
        asked.append(report)
        if len(asked) == 1:
            broken()

    worker = Worker("n", "s", FakeHearing(), ask)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until(lambda: len(asked) > 1, "it asks again")
    worker.stop()
    thread.join(LONG_S)


class Broker:
    """Stands for a collector's connection."""

    made: "Broker"
    """The last one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        Broker.made = self
        self.acknowledged: list[int] = []
        self.on_held: Callable[[str, bytes, int], None]

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def acknowledge(self, numbers: list[int]) -> None:
        self.acknowledged += numbers


class Rows:
    """Stands for a database that fails at one row."""

    written: list[str]

    def __init__(self, _: str) -> None:
        Rows.written = []

    def write(self, rows: list[EventRow]) -> None:
        if any(row.label == "bad" for row in rows):
            broken()
        self.written += [row.id for row in rows]

    def close(self) -> None: ...


def test_an_event_that_cannot_be_collected_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "Connection", Broker)
    monkeypatch.setattr(collector, "PostgresLog", Rows)
    collecting = collector.Collector(MqttSettings("127.0.0.1", 1), "postgresql://x/y", "c", broken, None)
    topic, event = "tagger/attic/kuche/event", BEGIN.to_json(STREAM, BEGIN.onset)
    ids = [f"01HZ00000000000000000000{k:02}" for k in range(9)]
    for number, each in enumerate(ids):
        label = "bad" if number == 4 else "dog"
        Broker.made.on_held(topic, json.dumps({**event, "id": each, "label": label}).encode(), number)
    monkeypatch.setattr(collector, "row_of", broken)
    Broker.made.on_held(topic, b"{}", 9)
    collecting.start()
    until(lambda: not collecting.waiting, "all are handled")
    collecting.stop()
    assert sorted(Rows.written) == [each for k, each in enumerate(ids) if k != 4]
    assert sorted(Broker.made.acknowledged) == list(range(10))
    assert (collecting.counts.written, collecting.counts.refused) == (8, 2)


def test_a_page_whose_guard_fails_answers(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("starlette", reason="Starlette is not installed: scripts/setup dev")
    from tagger.web.guard import Guard

    for app, access in ((broken, None), (None, broken)):
        said: list[Mapping[str, Any]] = []

        async def send(message: Any, said: list[Mapping[str, Any]] = said) -> None:
            said.append(message)

        scope = {"type": "http", "method": "GET", "path": "/static/x", "query_string": b"", "headers": []}

        class Access:
            caller = staticmethod(access or (lambda *_: None))

            @staticmethod
            def problem(*_: Any) -> None: ...

        asyncio.run(Guard(app, Access())(scope, broken, send))  # type: ignore[arg-type]
        assert said[0]["status"] == 500
        assert json.loads(said[1]["body"]) == {"error": FAILED}
    assert "StrangeError" in caplog.text
