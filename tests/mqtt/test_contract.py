"""The MQTT contract, against a real broker: topics, payloads, retain flags, QoS.

Automations depend on it: change this file only on purpose, and with it README.md, docs/mqtt.md and CHANGELOG.md.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.programs import Mosquitto, Subscriber, running, stop, subscribed, tagger, until, write_siren

EVENT_FIELDS = {
    "schema": int,
    "id": str,
    "type": str,
    "label": str,
    "score": float,
    "peak_score": float,
    "onset": str,
    "offset": (str, type(None)),
    "duration_s": (float, type(None)),
    "published": str,
    "node": str,
    "source": str,
    "model": str,
    "laeq_before_db": (float, type(None)),
}
SCORES_FIELDS = {
    "schema": int,
    "start": float,
    "end": float,
    "time": str,
    "top": list,
    "why": (str, type(None)),
    "latency_ms": float,
    "node": str,
    "source": str,
    "model": str,
}
AUDIO_FIELDS = {
    "schema": int,
    "time": str,
    "rms_dbfs": float,
    "peak_dbfs": float,
    "clipped": int,
    "laeq_db": float,
    "lafmax_db": float,
    "la10_db": float,
    "la90_db": float,
    "third_octaves_db": dict,
    "reference": str,
    "node": str,
    "source": str,
}
STATS_FIELDS = {
    "schema": int,
    "time": str,
    "uptime_s": int,
    "windows": int,
    "skipped": int,
    "overruns": int,
    "reconnects": int,
    "broker_reconnects": int,
    "queue": int,
    "dropped": int,
    "latency_ms": (dict, type(None)),
    "sources": dict,
    "node": str,
    "version": str,
    "verdict": str,
    "problems": list,
    "memory_mb": (float, type(None)),
}
BASE = "tagger/room"
FLAGS = ("--node", "room", "--threshold", "0.3")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with frequent levels and statistics."""
    path = tmp_path / "quick.toml"
    path.write_text("[listen]\naudio_s = 5\nstats_s = 1\n")
    return path


@pytest.mark.slow
def test_what_a_file_publishes(broker: Mosquitto, clip: Path, config: Path) -> None:
    with subscribed(broker.port) as live:
        done = tagger("listen", clip, "--no-realtime", "--mqtt", broker.url, *FLAGS, "--config", config)
        assert done.returncode == 0, done.stderr
        until(lambda: live.payloads(f"{BASE}/status")[-1:] == ["offline"], "the node said offline")

        assert live.payloads(f"{BASE}/status") == ["online", "offline"]
        assert live.payloads(f"{BASE}/clip/status")[-2:] == ["online", "offline"]
        assert live.payloads(f"{BASE}/clip/status/detail")[-1] == "ended"

        events = live.jsons(f"{BASE}/clip/event")
        assert {event["type"] for event in events} == {"begin", "end"}
        for event in events:
            assert list(event) == list(EVENT_FIELDS)
            assert all(isinstance(event[key], kind) for key, kind in EVENT_FIELDS.items())
            assert (event["schema"], event["node"], event["source"], event["model"]) == (1, "room", "clip", "esc50")
            assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", event["id"])
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event["onset"])
        begins = {event["id"]: event for event in events if event["type"] == "begin"}
        ends = {event["id"]: event for event in events if event["type"] == "end"}
        assert begins.keys() == ends.keys()
        assert len(begins) + len(ends) == len(events)
        for each, begin in begins.items():
            end = ends[each]
            assert (begin["offset"], begin["duration_s"]) == (None, None)
            assert (end["label"], end["onset"]) == (begin["label"], begin["onset"])
            lasted = datetime.fromisoformat(end["offset"]) - datetime.fromisoformat(end["onset"])
            assert end["duration_s"] == pytest.approx(lasted.total_seconds(), abs=0.002)

        reports = live.jsons(f"{BASE}/clip/scores")
        assert [report["start"] for report in reports] == [float(start) for start in range(31)]
        for report in reports:
            assert list(report) == list(SCORES_FIELDS)
            assert all(isinstance(report[key], kind) for key, kind in SCORES_FIELDS.items())
            assert len(report["top"]) == 5
            assert all(list(each) == ["label", "score", "why"] for each in report["top"])
            assert (report["why"] is None) or report["why"].startswith(f"{report['top'][0]['label']}: ")
        for level in live.jsons(f"{BASE}/clip/audio"):
            assert list(level) == list(AUDIO_FIELDS)
            assert all(isinstance(level[key], kind) for key, kind in AUDIO_FIELDS.items())
        assert len(live.jsons(f"{BASE}/clip/audio")) == 7
        qos = {message.topic: (message.qos, message.retain) for _, message in live.messages}
        assert qos[f"{BASE}/clip/event"] == (1, False)
        for topic in ("clip/scores", "clip/audio"):
            assert qos[f"{BASE}/{topic}"] == (0, False)

        announced = {event["label"] for event in events}
        states = [live.payloads(f"{BASE}/clip/{level}/state") for level in (*announced, "any")]
        assert all(set(each) <= {"ON", "OFF"} and each[-1] == "OFF" for each in states)
        # A state that changes before it is sent is sent with its last value only, and this file is heard in a second.
        assert any("ON" in each for each in states)

    with subscribed(broker.port) as late:
        late.catch_up()
        kept = {message.topic: message.payload.decode() for _, message in late.messages if message.retain}
    states = {topic for topic in kept if topic.endswith("/state")}
    assert len(states) == 53  # fifty labels, two alarms, and `any`
    assert {kept[topic] for topic in states} == {"OFF"}
    rest = {f"{BASE}/status", f"{BASE}/clip/status", f"{BASE}/clip/status/detail", f"{BASE}/clip/enabled"}
    assert kept.keys() - states == rest
    assert kept[f"{BASE}/clip/enabled"] == "ON"
    assert kept[f"{BASE}/status"] == kept[f"{BASE}/clip/status"] == "offline"


class Room:
    """A daemon that listens to a quiet file at real-time pace, obeys, and is announced in Home Assistant."""

    def __init__(self, broker: Mosquitto, process: Any, subscriber: Subscriber) -> None:
        self.broker, self.process, self.subscriber = broker, process, subscriber

    def request(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Sends a request and returns its answer."""
        topic = f"{BASE}/response/{kind}"
        before = len(self.subscriber.payloads(topic))
        self.subscriber.publish(f"{BASE}/request/{kind}", json.dumps(fields))
        until(lambda: len(self.subscriber.payloads(topic)) > before, f"the answer to {kind}")
        return self.subscriber.jsons(topic)[-1]

    def last(self, topic: str) -> str:
        return (self.subscriber.payloads(f"{BASE}/{topic}") or [""])[-1]


@pytest.fixture
def room(broker: Mosquitto, tmp_path: Path, config: Path) -> Iterator[Room]:
    quiet = write_siren(tmp_path / "clip.wav", silent_s=90)
    flags = ("--node", "room", "--config", config, "--commands", "--homeassistant", "--deny", "cat")
    with subscribed(broker.port) as subscriber, running("listen", quiet, "--mqtt", broker.url, *flags) as process:
        until(lambda: "online" in subscriber.payloads(f"{BASE}/clip/status"), "it listens")
        until(lambda: subscriber.payloads(f"{BASE}/clip/any/state"), "the last of the states came")
        yield Room(broker, process, subscriber)


def test_statistics(room: Room) -> None:
    until(lambda: len(room.subscriber.jsons(f"{BASE}/stats")) >= 2, "two of them")
    for message in room.subscriber.jsons(f"{BASE}/stats"):
        assert list(message) == list(STATS_FIELDS)
        assert all(isinstance(message[key], kind) for key, kind in STATS_FIELDS.items())
        assert (message["queue"], message["dropped"]) == (0, 0)
        assert list(message["sources"]) == ["clip"]
        assert list(message["sources"]["clip"]) == [
            *("windows", "skipped", "overruns", "lag_ms", "state", "reason", "detail", "since"),
            *("reconnects", "last_audio_s", "rms_dbfs", "latency_ms"),
        ]
    with subscribed(room.broker.port, f"{BASE}/stats") as late:
        late.catch_up()
        assert not [message for _, message in late.messages if message.retain]


def test_requests_are_answered(room: Room) -> None:
    labels = room.request("labels", transaction="a")
    assert (labels["transaction"], labels["status"]) == ("a", "ok")
    (of_clip,) = labels["data"].values()
    by_label = {each["label"]: each for each in of_clip}
    assert len(by_label) == 50
    assert list(by_label["dog"]) == ["label", "topic", "enter", "exit", "announced"]
    assert (by_label["dog"]["announced"], by_label["cat"]["announced"]) == (True, False)

    changed = room.request("threshold", transaction=2, label="dog", enter=0.75)
    assert (changed["transaction"], changed["data"]["enter"]) == (2, 0.75)
    until(
        lambda: {each["label"]: each for each in room.request("labels")["data"]["clip"]}["dog"]["enter"] == 0.75,
        "the threshold is in force",
    )
    refused = room.request("threshold", transaction=3, label="dgo", enter=0.75)
    assert (refused["transaction"], refused["status"]) == (3, "error")
    assert "did you mean dog" in refused["error"]


def test_a_test_event_is_an_event_with_its_states(room: Room) -> None:
    # So long that the begin is sent before the end is queued: else the states are sent with their last value only.
    answer = room.request("test", transaction="t", label="dog", duration_s=2)
    until(lambda: len(room.subscriber.jsons(f"{BASE}/clip/event")) == 2, "begin and end")
    begin, end = room.subscriber.jsons(f"{BASE}/clip/event")
    for event in (begin, end):
        assert list(event) == [*EVENT_FIELDS, "cause"]
        assert (event["id"], event["label"], event["cause"]) == (answer["data"]["id"], "dog", "test")
    until(lambda: room.subscriber.payloads(f"{BASE}/clip/any/state")[-2:] == ["ON", "OFF"], "the states")
    assert room.subscriber.payloads(f"{BASE}/clip/dog/state")[-2:] == ["ON", "OFF"]


@pytest.mark.slow
def test_a_source_is_paused_and_stays_so_over_a_restart(room: Room, tmp_path: Path) -> None:
    room.subscriber.publish(f"{BASE}/clip/enabled/set", "OFF")
    until(lambda: room.last("clip/status") == "disabled", "it is paused")
    until(lambda: room.last("clip/enabled") == "OFF", "the switch says so")
    scores = len(room.subscriber.payloads(f"{BASE}/clip/scores"))
    stats = len(room.subscriber.payloads(f"{BASE}/stats"))
    until(lambda: len(room.subscriber.payloads(f"{BASE}/stats")) >= stats + 2, "more than a second passes")
    assert len(room.subscriber.payloads(f"{BASE}/clip/scores")) == scores
    code, _, err = stop(room.process)
    assert code == 0
    assert "clip: paused; what it hears is discarded until it is resumed" in err
    until(lambda: room.last("status") == "offline", "the node said offline")
    assert (room.last("clip/status"), room.last("clip/enabled")) == ("offline", "OFF")
    flags = ("--node", "room", "--commands")
    with running("listen", tmp_path / "clip.wav", "--mqtt", room.broker.url, *flags) as again:
        until(lambda: room.last("clip/status") == "disabled", "it is still paused")
        assert room.request("resume", source="clip")["status"] == "ok"
        until(lambda: room.last("clip/status") == "online", "it listens again")
        until(lambda: room.last("clip/enabled") == "ON", "the switch says so")
        _, _, err = stop(again)
    assert "listening to" not in err
    assert f"paused; publish ON to {BASE}/clip/enabled/set to resume it" in err
    assert "clip: resumed" in err
    assert "stopped after" in err


@pytest.mark.slow
def test_retained_requests_are_ignored(broker: Mosquitto, tmp_path: Path) -> None:
    """They would take effect again at every start."""
    quiet = write_siren(tmp_path / "clip.wav", silent_s=90)
    with subscribed(broker.port) as subscriber:
        subscriber.publish(f"{BASE}/clip/enabled/set", "OFF", retain=True)
        subscriber.publish(f"{BASE}/request/pause", "{}", retain=True)
        with running("listen", quiet, "--mqtt", broker.url, "--node", "room", "--commands"):
            until(lambda: subscriber.payloads(f"{BASE}/clip/scores"), "it listens")
            assert subscriber.payloads(f"{BASE}/clip/status")[-1] == "online"
            assert subscriber.payloads(f"{BASE}/response/pause") == []


@pytest.mark.slow
def test_without_commands_no_request_is_read(broker: Mosquitto, tmp_path: Path) -> None:
    quiet = write_siren(tmp_path / "clip.wav", silent_s=90)
    with subscribed(broker.port) as subscriber, running("listen", quiet, "--mqtt", broker.url, "--node", "room") as it:
        until(lambda: "online" in subscriber.payloads(f"{BASE}/clip/status"), "it listens")
        subscriber.publish(f"{BASE}/request/pause", '{"transaction": 1}')
        subscriber.publish(f"{BASE}/clip/enabled/set", "OFF")
        for topic, foreign in ((f"{BASE}/clip/dog/state", "ON"), (f"{BASE}/clip/status", "offline")):
            subscriber.publish(topic, foreign, retain=True)  # as another daemon of the same name does
        subscriber.publish(f"{BASE}/status", "offline")
        until(lambda: subscriber.payloads(f"{BASE}/status")[-2:] == ["offline", "online"], "it reads its own topic")
        until(lambda: subscriber.payloads(f"{BASE}/clip/status")[-2:] == ["offline", "online"], "all is right again")
        until(lambda: subscriber.payloads(f"{BASE}/clip/dog/state")[-2:] == ["ON", "OFF"], "states, too")
        assert not [m for _, m in subscriber.messages if m.topic.startswith(f"{BASE}/response/")]
        assert subscriber.payloads(f"{BASE}/clip/status")[-1] == "online"
        _, _, err = stop(it)
        assert "request" not in err


def test_the_discovery_message_is_published_again_at_home_assistants_birth(room: Room) -> None:
    (topic,) = {m.topic for _, m in room.subscriber.messages if m.topic.startswith("homeassistant/")}
    assert re.fullmatch(r"homeassistant/device/tagger_[0-9a-f]{8}/config", topic)
    message = room.subscriber.jsons(topic)[-1]
    assert {"dev", "o", "cmps", "avty", "qos"} == message.keys()
    switches = [each for each in message["cmps"].values() if each["p"] == "switch"]
    assert [each["cmd_t"].replace("~", each["~"]) for each in switches] == [f"{BASE}/clip/enabled/set"]
    before = len(room.subscriber.messages)
    room.subscriber.publish("homeassistant/status", "online")
    until(lambda: len(room.subscriber.payloads(topic)) == 2, "the config again")

    def again() -> list[str]:
        return [m.topic for _, m in room.subscriber.messages[before:]]

    until(lambda: f"{BASE}/clip/any/state" in again(), "and the states")
    states = [i for i, each in enumerate(again()) if each.endswith("/state")]
    assert again().index(topic) < min(states)
    until(lambda: len({each for each in again() if each.endswith("/state")}) == 53, "all of them")
    assert stop(room.process)[0] == 0
    with subscribed(room.broker.port, "homeassistant/#") as late:
        until(lambda: late.payloads(topic), "the config is retained")


@pytest.mark.slow
def test_home_assistant_removes_what_is_no_longer_announced(room: Room, tmp_path: Path) -> None:
    (topic,) = {m.topic for _, m in room.subscriber.messages if m.topic.startswith("homeassistant/")}
    assert stop(room.process)[0] == 0
    args = ("listen", tmp_path / "clip.wav", "--mqtt", room.broker.url, "--node", "room")
    with running(*args, "--homeassistant"):  # without the switch
        until(lambda: len(room.subscriber.payloads(topic)) == 2, "the config again")
        components = room.subscriber.jsons(topic)[-1]["cmps"]
        assert components["clip-enabled"] == {"p": "switch"}
    with running(*args):
        until(lambda: room.subscriber.payloads(topic)[-1] == "", "the device is removed")
