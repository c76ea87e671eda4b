"""The README says enough: a subscriber written from it alone (tests/follower.py) ends with the right picture."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mqtt.test_outages import Daemon
from tests.programs import LONG_S, ROOT, Mosquitto, subscribed, until
from tests.relay import Relay

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PLACE = "room/stdin"


class Follower:
    """tests/follower.py in its own process."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, str(ROOT / "tests" / "follower.py"), "127.0.0.1", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def known(self) -> dict[str, Any]:
        """The follower's present knowledge."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        known: dict[str, Any] = json.loads(self._process.stdout.readline())
        return known

    def stop(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=LONG_S)
        assert self._process.returncode == 0
        known: dict[str, Any] = json.loads(out)
        return known

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def states_match_events(known: dict[str, Any]) -> bool:
    """Whether the states are those that the events lead to."""
    on = known["on"].get(PLACE, [])
    states = known["states"].get(PLACE, {})
    expected = {label: "ON" if label in on or (label == "any" and on) else "OFF" for label in states}
    return bool(states) and states == expected


def read_all(broker: Mosquitto, follower: Follower) -> None:
    """Waits until the follower has read what the broker has for it. A client whose broker dies gives up the rest,
    although the broker has acknowledged it.
    """
    with subscribed(broker.port) as other:
        other.publish("tagger/other/status", "online")
        until(lambda: "other" in follower.known()["nodes"], "the broker passes on what it has")
        other.publish("tagger/other/status", "")
        until(lambda: "other" not in follower.known()["nodes"], "the follower knows of no other node")


@contextmanager
def world(folder: Path) -> Iterator[tuple[Mosquitto, Follower, Relay, Daemon]]:
    broker = Mosquitto(folder)
    follower = Follower(broker.port)
    until(lambda: follower.known()["subscriptions"] == 1, "the follower has subscribed")
    relay = Relay(broker.port)  # lets the daemon in only when the follower is back: a broker forgets subscriptions
    daemon = Daemon(relay.port, folder)
    try:
        yield broker, follower, relay, daemon
    finally:
        daemon.close()
        follower.close()
        broker.kill()
        relay.close()


def test_a_stranger_follows_through_an_outage(tmp_path: Path) -> None:
    with world(tmp_path) as (broker, follower, relay, daemon):
        until(lambda: len(follower.known()["events"]) >= 6, "events come")
        known = follower.known()
        assert known["nodes"] == {"room": "online"}
        assert known["sources"][PLACE]["status"] == "online"
        assert known["sources"][PLACE]["enabled"] == "ON"
        until(lambda: follower.known()["states"][PLACE]["siren"] == "ON", "the siren is on")

        relay.shut()
        relay.hold()
        read_all(broker, follower)
        broker.kill()
        during = len(daemon.published)
        until(lambda: len(daemon.published) >= during + 4, "the daemon goes on")
        broker.start()
        until(lambda: follower.known()["subscriptions"] >= 2, "the follower is back")
        relay.open()

        until(lambda: len(follower.known()["events"]) >= during + 10, "it hears what it missed, and more")
        until(lambda: states_match_events(follower.known()), "states and events agree")
        until(lambda: {"siren", "alarm"} <= set(follower.known()["on"].get(PLACE, [])), "it sounds again")
        until(lambda: follower.known()["states"][PLACE]["alarm"] == "ON", "which the state says too")

        assert daemon.stop() == 0, (tmp_path / "daemon.log").read_text()
        until(lambda: follower.known()["nodes"] == {"room": "offline"}, "the node says offline")
        known = follower.stop()
    assert [(event["id"], event["type"]) for event in known["events"]] == daemon.published
    assert len(daemon.published) >= 20
    assert {event["label"] for event in known["events"]} == {"siren", "alarm"}
    assert known["sources"][PLACE]["status"] == "offline"
    assert known["on"] == {}
    assert len(known["states"][PLACE]) == 54  # fifty labels, two alarms, the group, and `any`
    assert set(known["states"][PLACE].values()) == {"OFF"}


def test_a_stranger_sees_a_daemon_die(tmp_path: Path) -> None:
    """The last will says so. Events that were open are ended when the daemon is back."""
    with world(tmp_path) as (_, follower, _, daemon):
        until(lambda: follower.known()["on"], "something sounds")
        daemon.kill()
        until(lambda: follower.known()["nodes"] == {"room": "offline"}, "its last will says so")
        left_open = [event["id"] for event in follower.known()["events"] if event["type"] == "begin"]
        daemon.start()
        until(lambda: follower.known()["nodes"] == {"room": "online"}, "it is back")
        assert daemon.stop() == 0, (tmp_path / "daemon.log").read_text()
        until(lambda: follower.known()["nodes"] == {"room": "offline"}, "the node says offline")
        known = follower.stop()
    assert known["on"] == {}
    assert set(left_open) <= {event["id"] for event in known["events"] if event["type"] == "end"}
    assert set(known["states"][PLACE].values()) == {"OFF"}
