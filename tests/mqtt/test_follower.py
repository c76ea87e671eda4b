"""That what the README says is enough: a stranger's subscriber, and the picture it has in the end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mqtt.test_outages import Daemon
from tests.programs import ROOT, Mosquitto, until
from tests.relay import Relay

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PLACE = "room/stdin"


class Follower:
    """tests/follower.py in a process of its own."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, str(ROOT / "tests" / "follower.py"), "127.0.0.1", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self) -> dict[str, Any]:
        """What it knows now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        known: dict[str, Any] = json.loads(self._process.stdout.readline())
        return known

    def end(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == 0
        known: dict[str, Any] = json.loads(out)
        return known

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def is_in_tune(known: dict[str, Any]) -> bool:
    """The states say what the events say."""
    on = known["on"].get(PLACE, [])
    states = known["states"].get(PLACE, {})
    expected = {label: "ON" if label in on or (label == "any" and on) else "OFF" for label in states}
    return bool(states) and states == expected


@contextmanager
def world(folder: Path) -> Iterator[tuple[Mosquitto, Follower, Relay, Daemon]]:
    broker = Mosquitto(folder)
    follower = Follower(broker.port)
    until(lambda: follower.ask()["subscriptions"] == 1, "the follower has subscribed")
    relay = Relay(broker.port)  # lets the daemon in only when the follower is back: the broker forgets who subscribed
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
        until(lambda: len(follower.ask()["events"]) >= 6, "events come", 60)
        known = follower.ask()
        assert known["nodes"] == {"room": "online"}
        assert known["sources"][PLACE]["status"] == "online"
        assert known["sources"][PLACE]["enabled"] == "ON"
        until(lambda: follower.ask()["states"][PLACE]["siren"] == "ON", "the siren is on")

        relay.shut()
        broker.kill()
        during = len(daemon.told)
        until(lambda: len(daemon.told) >= during + 4, "the daemon goes on", 60)
        broker.start()
        until(lambda: follower.ask()["subscriptions"] == 2, "the follower is back")
        relay.open()

        until(lambda: len(follower.ask()["events"]) >= during + 10, "it hears what it missed, and more", 60)
        until(lambda: is_in_tune(follower.ask()), "states and events agree")
        until(lambda: {"siren", "alarm"} <= set(follower.ask()["on"].get(PLACE, [])), "it sounds again", 60)
        until(lambda: follower.ask()["states"][PLACE]["alarm"] == "ON", "which the state says too")

        assert daemon.stop() == 0, (tmp_path / "daemon.log").read_text()
        until(lambda: follower.ask()["nodes"] == {"room": "offline"}, "the node says offline")
        known = follower.end()
    assert [(event["id"], event["type"]) for event in known["events"]] == daemon.told
    assert len(daemon.told) >= 20
    assert {event["label"] for event in known["events"]} == {"siren", "alarm"}
    assert known["sources"][PLACE]["status"] == "offline"
    assert known["on"] == {}
    assert len(known["states"][PLACE]) == 52  # fifty labels, the group, and `any`
    assert set(known["states"][PLACE].values()) == {"OFF"}


def test_a_stranger_sees_a_daemon_die(tmp_path: Path) -> None:
    """The last will tells; and what was open is ended, and said, when the daemon is back."""
    with world(tmp_path) as (_, follower, _, daemon):
        until(lambda: follower.ask()["on"], "something sounds", 60)
        daemon.kill()
        until(lambda: follower.ask()["nodes"] == {"room": "offline"}, "its last will says so")
        left_open = [event["id"] for event in follower.ask()["events"] if event["type"] == "begin"]
        daemon.start()
        until(lambda: follower.ask()["nodes"] == {"room": "online"}, "it is back", 60)
        assert daemon.stop() == 0, (tmp_path / "daemon.log").read_text()
        until(lambda: follower.ask()["nodes"] == {"room": "offline"}, "the node says offline")
        known = follower.end()
    assert known["on"] == {}
    assert set(left_open) <= {event["id"] for event in known["events"] if event["type"] == "end"}
    assert set(known["states"][PLACE].values()) == {"OFF"}
