"""The sink publishes to a real broker."""

import json
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tagger import settings
from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.requests import Requests
from tagger.mqtt.sink import Discovery, MqttSink
from tagger.mqtt.topics import Topics
from tests.mqtt.test_requests import FakeControls
from tests.programs import (
    LONG_S,
    Mosquitto,
    Subscriber,
    free_port,
    running,
    stop,
    subscribed,
    tagger,
    until,
    until_said,
    write_siren,
)
from tests.relay import Relay

BASE = "tagger/room"


@pytest.fixture
def door(broker: Mosquitto) -> Iterator[Relay]:
    """A relay to the broker, which lets a test reconnect its subscribers before the daemon: a broker does not deliver
    what was published before a subscriber is back.
    """
    relay = Relay(broker.port)
    yield relay
    relay.close()


@pytest.mark.slow
def test_the_last_will_says_offline_when_the_daemon_is_killed(broker: Mosquitto, clip: Path) -> None:
    with (
        subscribed(broker.port) as subscriber,
        running("listen", clip, "--mqtt", broker.url, "--node", "room") as daemon,
    ):
        until(lambda: "online" in subscriber.payloads(f"{BASE}/status"), "the node is online")
        stop(daemon, signal.SIGKILL)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1] == "offline", "its last will arrived")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_events_says_offline_and_exits_0(broker: Mosquitto, clip: Path, number: int) -> None:
    with subscribed(broker.port) as subscriber:
        listen = ("listen", clip, "--mqtt", broker.url, "--node", "room", "--hop", "0.5", "--threshold", "0.1")
        with running(*listen) as daemon:
            until(lambda: subscriber.jsons(f"{BASE}/clip/event"), "something is announced")
            code, _, err = stop(daemon, number)
        assert code == 0, err
        assert "Traceback" not in err
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1] == "offline", "the node said offline")
        events = subscriber.jsons(f"{BASE}/clip/event")
        assert {event["id"] for event in events if event["type"] == "begin"} == {
            event["id"] for event in events if event["type"] == "end"
        }
        assert subscriber.payloads(f"{BASE}/clip/any/state")[-1] == "OFF"


@pytest.mark.slow
@pytest.mark.broker
def test_a_broker_that_comes_late_gets_everything(tmp_path: Path, clip: Path) -> None:
    port = free_port()
    listen = (
        "listen",
        clip,
        "--no-realtime",
        "--mqtt",
        f"mqtt://127.0.0.1:{port}",
        "--node",
        "room",
        "--threshold",
        "0.3",
    )
    with running(*listen) as daemon:
        said = until_said(daemon, "cannot reach")  # it waits for the broker
        assert daemon.poll() is None
        broker = Mosquitto(tmp_path)
        with subscribed(broker.port) as subscriber:
            door = Relay(broker.port, port)
            _, rest = daemon.communicate(timeout=LONG_S)
            err = said + rest.decode()
            assert daemon.returncode == 0, err
            until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")
            assert {event["type"] for event in subscriber.jsons(f"{BASE}/clip/event")} == {"begin", "end"}
        broker.kill()
        door.close()
    assert "cannot reach mqtt://127.0.0.1" in err
    assert "trying again" in err


@pytest.mark.slow
def test_a_broker_lost_in_the_middle_is_found_again_and_nothing_is_lost(
    broker: Mosquitto, door: Relay, tmp_path: Path
) -> None:
    path = write_siren(tmp_path / "late.wav", silent_s=9)
    listen = ("listen", path, "--mqtt", f"mqtt://127.0.0.1:{door.port}", "--node", "room", "--threshold", "0.2")
    with running(*listen) as daemon:
        with subscribed(broker.port) as before:
            until(lambda: before.payloads(f"{BASE}/late/scores"), "it listens")
        door.shut()
        broker.kill()
        assert daemon.stdout is not None
        assert any(b"siren begins" in line for line in daemon.stdout), "the siren begins while there is no broker"
        broker.start()
        with subscribed(broker.port) as after:
            door.open()
            _, err = daemon.communicate(timeout=LONG_S)
            until(lambda: after.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")
            events = after.jsons(f"{BASE}/late/event")
            states = after.payloads(f"{BASE}/late/any/state")
    assert daemon.returncode == 0, err.decode()
    assert b"reconnecting, events wait" in err
    assert sorted(event["id"] for event in events if event["type"] == "begin") == sorted(
        event["id"] for event in events if event["type"] == "end"
    )
    assert "siren" in {event["label"] for event in events}
    assert states[-1] == "OFF"


@pytest.mark.slow
@pytest.mark.broker
def test_a_broker_that_refuses_the_password_ends_it_with_2(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "passwords").write_text("")
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    try:
        done = tagger("listen", clip, "--mqtt", f"mqtt://me:verysecret@127.0.0.1:{broker.port}")
    finally:
        broker.kill()
    assert done.returncode == 2
    assert "refuses" in done.stderr
    assert "verysecret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_file_whose_events_reach_no_broker_says_so(clip: Path) -> None:
    done = tagger("listen", clip, "--no-realtime", "--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--threshold", "0.3")
    assert done.returncode == 1
    assert "nothing was published" in done.stderr
    assert "begins" in done.stdout


@pytest.mark.slow
def test_two_sources_have_topics_of_their_own(broker: Mosquitto, clip: Path) -> None:
    with subscribed(broker.port) as subscriber:
        listen = ("listen", clip, clip, f"garden={clip}", "--no-realtime", "--mqtt", broker.url, "--node", "room")
        done = tagger(*listen)
        assert done.returncode == 0, done.stderr
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")
        seen = [subscriber.jsons(f"{BASE}/{source}/scores") for source in ("clip", "clip_2", "garden")]
    tops = [[report["top"] for report in each] for each in seen]
    assert tops[0] == tops[1] == tops[2]
    assert len(tops[0]) == 31


@pytest.mark.slow
def test_the_line_that_listen_suggests_works(broker: Mosquitto, clip: Path) -> None:
    with running("listen", clip, "--mqtt", broker.url, "--node", "room") as daemon:
        assert daemon.stderr is not None
        line = next(text for text in map(bytes.decode, daemon.stderr) if text.startswith("try"))
        command = [*shlex.split(line.removeprefix("try")), "-W", f"{LONG_S:g}"]
        assert command[0] == "mosquitto_sub"
        if shutil.which(command[0]) is None:
            pytest.skip("mosquitto_sub is not installed (apt install mosquitto-clients)")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as subscriber:
            assert subscriber.stdout is not None
            is_online = any(line == f"{BASE}/status online\n" for line in subscriber.stdout)
            subscriber.kill()
    assert is_online


@pytest.mark.slow
def test_json_on_standard_output_is_what_the_broker_gets(broker: Mosquitto, clip: Path) -> None:
    with subscribed(broker.port) as subscriber:
        listen = (
            "listen",
            clip,
            "--no-realtime",
            "--json",
            "--mqtt",
            broker.url,
            "--node",
            "room",
            "--threshold",
            "0.3",
        )
        done = tagger(*listen)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")
        published = subscriber.jsons(f"{BASE}/clip/event")
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    for event in (*published, *printed):
        event.pop("published")
    assert printed == published


STREAM = Stream("room", "mic", "fake", ("dog", "cat"))


def begin(number: int, label: str = "dog") -> Event:
    return Event("begin", f"{number:026}", label, 0.9, 0.9, float(number))


def end(number: int, label: str = "dog") -> Event:
    return replace(begin(number, label), type="end", offset=number + 1.0)


def open_sink(broker: Mosquitto | Relay, outbox: Outbox | None = None, **options: Any) -> MqttSink:
    made = MqttSink(settings.MqttSettings("127.0.0.1", broker.port, node="room"), pytest.fail, outbox, **options)
    made.open([STREAM])
    return made


def sink_that_lost_its_broker(broker: Mosquitto, door: Relay, outbox: Outbox | None = None) -> MqttSink:
    """A sink that was connected and has noticed that the broker is gone. It cannot connect until `door` opens."""
    sink = open_sink(door, outbox)
    until(sink.connection.ready.is_set, "connected")
    lost, on_lost = threading.Event(), sink.connection.on_lost
    sink.connection.on_lost = lambda: (on_lost(), lost.set())  # type: ignore[func-returns-value]
    door.shut()
    broker.kill()
    assert lost.wait(LONG_S), "the loss is noticed"
    return sink


def ids(subscriber: Subscriber) -> list[tuple[str, str]]:
    return [(event["id"].lstrip("0"), event["type"]) for event in subscriber.jsons(f"{BASE}/mic/event")]


def test_states_are_right_after_an_outage_that_overflowed_the_queue(broker: Mosquitto, door: Relay) -> None:
    sink = sink_that_lost_its_broker(broker, door, Outbox(None, limit=40))
    for number in range(1, 31):
        sink.event(STREAM, begin(number))
        sink.event(STREAM, end(number))
    sink.event(STREAM, begin(31, "cat"))
    until(lambda: sink.counts()["waiting"] == 40, "the events wait")
    assert sink.counts()["dropped"] == 21
    broker.start()
    with subscribed(broker.port) as subscriber:
        door.open()
        until(lambda: sink.counts()["waiting"] == 0, "the events were delivered")
        for level, state in {"any": "ON", "dog": "OFF", "cat": "ON"}.items():  # in which order is not promised
            until(
                lambda level=level, state=state: subscriber.payloads(f"{BASE}/mic/{level}/state")[-1:] == [state],  # type: ignore[misc]
                f"the state of {level} arrived",
            )
        all_of_them = [(str(number), kind) for number in range(1, 31) for kind in ("begin", "end")]
        assert ids(subscriber) == [*all_of_them[21:], ("31", "begin")]
        with pytest.raises(TaggerError, match="21 events were dropped"):
            sink.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")


def test_after_an_outage_a_state_never_arrives_before_its_event(broker: Mosquitto, door: Relay) -> None:
    sink = sink_that_lost_its_broker(broker, door)
    sink.event(STREAM, begin(1))
    broker.start()
    with subscribed(broker.port) as subscriber:
        door.open()
        until(lambda: "ON" in subscriber.payloads(f"{BASE}/mic/any/state"), "the state arrived")
        seen = [message.topic for _, message in subscriber.messages if message.payload != b"OFF"]
        sink.close(10)
    assert seen.index(f"{BASE}/mic/event") < seen.index(f"{BASE}/mic/dog/state")


def test_events_that_waited_at_the_end_are_delivered_at_the_next_start(
    broker: Mosquitto, door: Relay, tmp_path: Path
) -> None:
    sink = sink_that_lost_its_broker(broker, door, Outbox(tmp_path / "outbox.sqlite", 100))
    for each in (begin(1), end(1), begin(2)):
        sink.event(STREAM, each)
    with pytest.raises(TaggerError, match=r"3 events were not delivered to .*; kept on disk"):
        sink.close(0.2)
    broker.start()
    with subscribed(broker.port) as subscriber:
        again = open_sink(broker, Outbox(tmp_path / "outbox.sqlite", 100))
        again.event(STREAM, replace(end(2), cause="restart"))
        again.event(STREAM, replace(end(2), cause="restart"))  # a second end
        again.event(STREAM, replace(end(3), cause="restart"))  # its begin was never published
        again.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "all came")
        assert ids(subscriber) == [("1", "begin"), ("1", "end"), ("2", "begin"), ("2", "end")]
        assert [event.get("cause") for event in subscriber.jsons(f"{BASE}/mic/event")] == [None] * 3 + ["restart"]
    third = open_sink(broker, Outbox(tmp_path / "outbox.sqlite", 100))
    with subscribed(broker.port) as subscriber:
        third.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "all came")
        assert ids(subscriber) == []


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_sink_that_replaces_another_repeats_nothing(broker: Mosquitto, tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "outbox.sqlite" if on_disk else None
    with subscribed(broker.port) as subscriber:
        sink = open_sink(broker, Outbox(path, 100))
        sink.event(STREAM, begin(1))
        sink.close(10)
        again = open_sink(broker, Outbox(path, 100))
        again.resume(STREAM, "online", "a microphone", [begin(1)])
        until(lambda: subscriber.payloads(f"{BASE}/mic/status")[-1:] == ["online"], "it goes on")
        again.event(STREAM, begin(2))
        until(lambda: subscriber.payloads(f"{BASE}/mic/dog/state")[-1] == "ON", "its state too")
        again.event(STREAM, end(1))
        again.event(STREAM, end(2))
        again.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-2:] == ["online", "offline"], "all came")
        assert ids(subscriber) == [("1", "begin"), ("2", "begin"), ("1", "end"), ("2", "end")]
        assert subscriber.payloads(f"{BASE}/mic/any/state")[-1] == "OFF"


def test_topics_that_no_longer_exist_are_emptied(broker: Mosquitto, tmp_path: Path) -> None:
    sink = open_sink(broker, Outbox(tmp_path / "outbox.sqlite", 100))
    sink.close(10)
    again = MqttSink(
        settings.MqttSettings("127.0.0.1", broker.port, node="room"), pytest.fail, Outbox(tmp_path / "outbox.sqlite", 9)
    )
    again.open([Stream("room", "kitchen", "other", ("dog", "bird"))])
    again.close(10)
    with subscribed(broker.port) as late:
        until(lambda: f"{BASE}/kitchen/bird/state" in {m.topic for _, m in late.messages}, "retained topics came")
        late.catch_up()
        kept = {message.topic for _, message in late.messages}
    assert {topic.split("/")[2] for topic in kept} == {"kitchen", "status"}


def test_everything_is_published_again_while_topics_are_being_emptied(broker: Mosquitto) -> None:
    """Home Assistant starts, or the sink reconnects, before the broker has acknowledged the empty payloads."""
    outbox = Outbox(None, 100)
    outbox.add_retained(f"{BASE}/mic/old{number}/state" for number in range(300))
    discovery = Discovery("ha/device/x/config", "ha/status", lambda *_: {"cmps": {}}, lambda _: {}, dict)
    with subscribed(broker.port) as subscriber:
        sink = open_sink(broker, outbox, discovery=discovery)
        for _ in range(50):
            subscriber.publish("ha/status", "online")
        sink.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["offline"], "all came")
        assert set(subscriber.payloads(f"{BASE}/mic/old299/state")) == {""}
    with subscribed(broker.port) as late:
        until(lambda: late.payloads(f"{BASE}/mic/dog/state"), "retained topics came")
        assert not any("/old" in message.topic for _, message in late.messages)


def test_events_reach_the_broker_though_the_disk_is_full(broker: Mosquitto, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    sink = open_sink(broker, outbox)
    with subscribed(broker.port) as subscriber:
        sink.event(STREAM, begin(1))
        sink.event(STREAM, end(1))
        until(lambda: len(ids(subscriber)) == 2 and not sink.counts()["waiting"], "the events came")
        sink.delivery.enqueue(lambda: outbox.database.execute("PRAGMA max_page_count = 1") and None)
        long = "dog" * 100_000
        for each in (begin(2, long), end(2, long), begin(3)):
            sink.event(STREAM, each)
        until(lambda: len(ids(subscriber)) == 5, "later events came too")
        sink.close(10)


def test_close_returns_though_the_broker_accepts_no_more_data(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = MqttSink(settings.MqttSettings("127.0.0.1", server.getsockname()[1], node="room"), pytest.fail)
        sink.open([STREAM])
        stalled, _ = server.accept()
        with stalled:
            stalled.sendall(b"\x20\x02\x00\x00")  # CONNACK, and no more
            until(lambda: sink.connection.is_connected, "connected")
            for _ in range(200):
                sink.stats({"filling": "x" * 100_000})
            began = time.monotonic()
            sink.event(STREAM, begin(1))
            with pytest.raises(TaggerError, match="not delivered"):
                sink.close(0.5)
            assert time.monotonic() - began < 25  # paho's keepalive would be 30
    assert "Normal disconnection" not in caplog.text


@pytest.mark.broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_message_too_large_for_the_broker_holds_up_no_other(
    tmp_path: Path, version: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3.1.1 the broker cannot name its limit and hangs up; after three times the sink leaves the message out."""
    monkeypatch.setattr("tagger.mqtt.connection.RETRY_SECONDS", (0.1, 1.0))
    broker = Mosquitto(tmp_path, "allow_anonymous true", "max_packet_size 5000")
    message = {"cmps": {"x": "x" * 6_000}}
    discovery = Discovery("ha/device/x/config", "ha/status", lambda *_: message, lambda _: {}, dict)
    chosen = settings.MqttSettings("127.0.0.1", broker.port, node="room", version=version)
    sink = MqttSink(chosen, pytest.fail, discovery=discovery)
    try:
        with subscribed(broker.port) as subscriber:
            sink.open([STREAM])
            sink.event(STREAM, begin(1))
            sink.event(STREAM, end(1))
            until(lambda: len(set(ids(subscriber))) == 2, "the events came")
            subscriber.publish("ha/status", "online")
            sink.event(STREAM, begin(2))
            until(lambda: subscriber.payloads(f"{BASE}/mic/dog/state")[-1:] == ["ON"], "and the states")
            sink.close(10)
            assert list(dict.fromkeys(ids(subscriber))) == [("1", "begin"), ("1", "end"), ("2", "begin")]
            assert subscriber.payloads("ha/device/x/config") == []
    finally:
        broker.kill()
    assert [record.getMessage().count("ha/device/x/config (6") for record in caplog.records].count(1) == 1


def test_a_late_will_is_corrected(broker: Mosquitto) -> None:
    """The will of an earlier connection, which the broker thought alive for longer than the sink did."""
    sink = open_sink(broker)
    with subscribed(broker.port) as subscriber:
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1:] == ["online"], "online")
        subscriber.publish(f"{BASE}/status", "offline", retain=True)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-2:] == ["offline", "online"], "online again")
        sink.close(10)
        until(lambda: subscriber.payloads(f"{BASE}/status")[-1] == "offline", "and offline at the end")


def test_transitions_are_seen_one_by_one_while_there_is_a_broker(broker: Mosquitto) -> None:
    sink = open_sink(broker)
    with subscribed(broker.port) as subscriber:
        until(lambda: subscriber.payloads(f"{BASE}/mic/any/state"), "states are there")
        for number in (1, 2):  # more could be in flight together than the broker accepts without acknowledgement
            sink.event(STREAM, begin(number))
            sink.event(STREAM, end(number))
        sink.close(10)
        until(lambda: len(subscriber.payloads(f"{BASE}/mic/dog/state")) >= 5, "all states came")
        assert subscriber.payloads(f"{BASE}/mic/dog/state")[-5:] == ["OFF", "ON", "OFF", "ON", "OFF"]


class Controls(FakeControls):
    def pause(self, source: str | None, paused: bool) -> dict[str, Any]:
        super().pause(source, paused)
        return {"sources": ["mic"], "enabled": not paused}


@pytest.mark.parametrize(
    ("topic", "off", "on"),
    [("mic/enabled/set", "OFF", "ON"), ("request/{}", "pause", "resume")],
)
def test_enabled_changes_though_the_source_reports_nothing(broker: Mosquitto, topic: str, off: str, on: str) -> None:
    """An unplugged microphone can be paused and resumed."""
    sink = open_sink(broker, requests=Requests(Controls()))
    with subscribed(broker.port) as subscriber:
        until(lambda: subscriber.payloads(f"{BASE}/mic/enabled")[-1:] == ["ON"], "it is enabled")
        for what, then in ((off, "OFF"), (on, "ON")):
            subscriber.publish(f"{BASE}/{topic.format(what)}", what if "set" in topic else "{}")
            until(lambda then=then: subscriber.payloads(f"{BASE}/mic/enabled")[-1] == then, "it is switched")  # type: ignore[misc]
        sink.close(10)


def test_overlapping_events_of_a_label_keep_its_state_on(broker: Mosquitto) -> None:
    sink = open_sink(broker)
    with subscribed(broker.port) as subscriber:
        for each in (begin(1), begin(2), end(1)):
            sink.event(STREAM, each)
        until(lambda: len(ids(subscriber)) >= 3, "the events came")
        sink.event(STREAM, begin(3, "cat"))
        until(lambda: subscriber.payloads(f"{BASE}/mic/cat/state")[-1:] == ["ON"], "and a later state")
        assert subscriber.payloads(f"{BASE}/mic/dog/state")[-1] == "ON"
        sink.event(STREAM, end(2))
        until(lambda: subscriber.payloads(f"{BASE}/mic/dog/state")[-1] == "OFF", "the last has ended")
        assert subscriber.payloads(f"{BASE}/mic/any/state")[-1] == "ON"
        sink.close(10)


def test_topics() -> None:
    topics = Topics("home/sounds", "attic")
    assert topics.node_status == "home/sounds/attic/status"
    assert topics.source_status("mic") == "home/sounds/attic/mic/status"
    assert topics.state("mic", "dog") == "home/sounds/attic/mic/dog/state"
    assert topics.scores("mic") == "home/sounds/attic/mic/scores"
    assert settings.MqttSettings().prefix == "tagger"
