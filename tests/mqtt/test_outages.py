"""Brokers and daemons that die: what a subscriber has received in the end.

    pytest tests/mqtt/test_outages.py -s        prints what was seen

The daemon is the real one. It hears a siren that comes and goes, several times faster than real time. It reaches the
broker through a relay. Two losses would be the witness's, not the daemon's, and the relay rules them out. A broker that
died has forgotten its subscriptions, so the daemon is let in when the witness has subscribed again. And a client whose
broker dies gives up what it has not read yet, although the broker has passed it on and acknowledged it: so the broker
dies when the witness has read everything, while more messages of the daemon's are on their way.
"""

import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import LONG_S, TAGGER, Mosquitto, Subscriber, siren, subscribed, until
from tests.relay import Relay

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RATE_HZ = 32_000
_IN_FLIGHT = 8
"""Number of messages that may be on their way at once here, several times what this daemon sends within a second."""
SPEED = 14.0
"""Seconds of audio a second."""
BASE = "tagger/room/stdin"
CONFIG = """
[events]
allow = ["siren"]
[events.labels.siren]
enter = 0.5
merge_s = 1.0
[events.groups]
alarm = ["siren", "clock_alarm"]
"""


def siren_and_silence() -> bytes:
    """Ten seconds of PCM (16 bit): a siren of four seconds, then silence."""
    return (np.concatenate([siren(4), np.zeros(6 * RATE_HZ)]) * 32767).clip(-32768, 32767).astype("<i2").tobytes()


class Daemon:
    """`tagger listen -`, fed at SPEED. It prints each event that it publishes."""

    def __init__(self, port: int, folder: Path) -> None:
        self._command = [*TAGGER, "listen", "-", "--mqtt", f"mqtt://127.0.0.1:{port}", "--node", "room", "--json"]
        config = folder / "events.toml"
        config.write_text(CONFIG)
        self._command += ["--config", str(config)]
        self.published: list[tuple[str, str]] = []
        """Id and type of each event that the daemon has printed."""
        self._log = (folder / "daemon.log").open("ab")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        self._threads = [threading.Thread(target=each, args=[self._process]) for each in (self._feed, self._read)]
        for thread in self._threads:
            thread.start()

    def kill(self) -> None:
        self._process.kill()
        self._reap()

    def stop(self) -> int:
        self._process.terminate()
        return self._reap()

    def _reap(self) -> int:
        code = self._process.wait(LONG_S)
        for thread in self._threads:
            thread.join()
        return code

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _feed(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        audio, at, block = siren_and_silence(), 0, RATE_HZ  # half a second
        due = time.monotonic()
        with suppress(OSError, ValueError):  # the daemon is gone
            while True:
                process.stdin.write(audio[at : at + block])
                process.stdin.flush()
                at = (at + block) % len(audio)
                due = max(due + block / 2 / RATE_HZ / SPEED, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
        with suppress(OSError):
            process.stdin.close()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                event = json.loads(line)
                self.published.append((event["id"], event["type"]))


class World:
    """A broker that can be killed, a daemon behind a relay, and a witness that receives everything."""

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder)
        self.witness = Subscriber(self.broker.port, f"{BASE}/#", retry_s=0.05)
        self.relay = Relay(self.broker.port)
        self.daemon = Daemon(self.relay.port, folder)

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(event["id"], event["type"]) for event in self.witness.jsons(f"{BASE}/event")]

    def outage(self, seconds: float) -> None:
        self.relay.shut()
        self.relay.hold()
        self.witness.catch_up()
        self.broker.kill()
        time.sleep(seconds)
        before = self.witness.subscriptions
        self.broker.start()
        until(lambda: self.witness.subscriptions > before, "the witness is back")
        self.relay.open()

    def retained(self) -> dict[str, str]:
        with subscribed(self.broker.port, f"{BASE}/+/state") as late:
            until(lambda: len(late.messages) >= 54, "retained states came")
            return {message.topic.split("/")[3]: message.payload.decode() for _, message in late.messages}


@contextmanager
def world(folder: Path) -> Iterator[World]:
    made = World(folder)
    try:
        yield made
    finally:
        made.daemon.close()
        made.witness.close()
        made.broker.kill()
        made.relay.close()


def states(events: list[tuple[str, str]], labels: dict[str, str]) -> dict[str, str]:
    """The retained states that these events must lead to: topic level -> payload."""
    on = {labels[each] for each, kind in events if kind == "begin"}
    ended = {each for each, kind in events if kind == "end"}
    on = {labels[each] for each, kind in events if kind == "begin" and each not in ended}
    return {level: "ON" if level in on or (level == "any" and on) else "OFF" for level in ("siren", "alarm", "any")}


def assert_few_repeats(seen: list[tuple[str, str]], deaths: int) -> None:
    """Asserts that only what was on its way when something died came again.

    A broker that dies between forwarding an event and acknowledging it, or a daemon that dies before it has noted the
    acknowledgement, has it sent again, with the same id and type: QoS 1 cannot do better. How often depends on how busy
    the machine is; on a quiet one a death must fall into a millisecond or two.
    """
    first: dict[tuple[str, str], int] = {}
    apart = [at - first[each] for at, each in enumerate(seen) if first.setdefault(each, at) != at]
    assert len(apart) <= deaths, apart
    assert max(apart, default=0) <= _IN_FLIGHT, apart


def labels_of(witness: Subscriber) -> dict[str, str]:
    return {event["id"]: event["label"] for event in witness.jsons(f"{BASE}/event")}


def print_json(**numbers: Any) -> None:
    print(json.dumps(numbers))


@pytest.mark.parametrize(("events", "kills"), [(200, 20)])
def test_a_broker_that_is_killed_again_and_again(tmp_path: Path, events: int, kills: int) -> None:
    """No event is lost or arrives twice by its id; the order is kept; the retained states are right afterwards."""
    chance = random.Random(5)
    with world(tmp_path) as here:
        until(lambda: here.seen, "the first event")
        for _ in range(kills):
            time.sleep(chance.uniform(0.5, 3))
            here.outage(chance.uniform(0, 2.5))
        until(lambda: len(here.daemon.published) >= events, f"{events} events", 300)
        until(lambda: here.daemon.published[-1] in here.seen, "it has caught up")
        code = here.daemon.stop()
        assert code == 0, (tmp_path / "daemon.log").read_text()
        published = here.daemon.published
        here.witness.catch_up()
        seen = here.seen
        lost, repeated = len(set(published) - set(seen)), len(seen) - len(set(seen))
        print_json(events=len(published), kills=kills, seen=len(seen), lost=lost, repeated=repeated)
        assert list(dict.fromkeys(seen)) == published, (tmp_path / "daemon.log").read_text()
        assert_few_repeats(seen, deaths=kills)
        assert {kind for _, kind in published} == {"begin", "end"}
        kept = here.retained()
        assert {level: kept[level] for level in ("siren", "alarm", "any")} == states(published, labels_of(here.witness))


@pytest.mark.parametrize(("kills", "daemon_kills"), [(6, 10)])
def test_a_daemon_that_is_killed_too(tmp_path: Path, kills: int, daemon_kills: int) -> None:
    """Each event that has begun has exactly one end when the daemon has stopped."""
    chance = random.Random(6)
    deaths = ["broker"] * kills + ["daemon"] * daemon_kills
    chance.shuffle(deaths)
    with world(tmp_path) as here:
        until(lambda: here.seen, "the first event")
        for what in deaths:
            count = len(here.daemon.published)
            until(lambda count=count: len(here.daemon.published) > count, "an event more")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 1.5))
            if what == "broker":
                here.outage(chance.uniform(0, 1.5))
            else:
                here.daemon.kill()
                here.daemon.start()
        count = len(here.daemon.published)
        until(lambda: len(here.daemon.published) > count + 4, "some events more")
        code = here.daemon.stop()
        assert code == 0, (tmp_path / "daemon.log").read_text()
        until(lambda: set(here.daemon.published[count:]) <= set(here.seen), "the last of them arrived")
        here.witness.catch_up()
        messages = here.seen
        seen = Counter(messages)
        begun, ended = ({each for each, kind in seen if kind == wanted} for wanted in ("begin", "end"))
        causes = Counter(event.get("cause") for event in here.witness.jsons(f"{BASE}/event"))
        print_json(
            events=len(seen),
            broker_kills=kills,
            daemon_kills=daemon_kills,
            begun=len(begun),
            ended=len(ended),
            ended_after_a_crash=causes["restart"],
            repeated=seen.total() - len(seen),
        )
        assert begun == ended
        assert_few_repeats(messages, deaths=len(deaths))
        assert causes["restart"] > 0
        kept = here.retained()
        assert {kept[level] for level in ("siren", "alarm", "any")} == {"OFF"}
