"""SIGHUP: settings change while the daemon listens, and no audio is lost."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tagger.daemon import outputs
from tagger.settings import MqttSettings
from tests.programs import LONG_S, TAGGER, Mosquitto, Subscriber, siren, subscribed, until

pytestmark = pytest.mark.usefixtures("hangups")

BASE = "tagger/room/stdin"
RATE_HZ = 32_000
SPEED = 8.0
"""Seconds of audio that are written per second."""
RECORDED = ("--start-time", "2026-01-31T12:00:00Z")
"""A recording: no window of it is skipped and nothing is taken for a gap, however slow the machine is."""
HEARS = "[events]\nenter = 0.3\n"
"""Announces the siren wherever in a window it begins: its scores are from 0.5 on."""


class Daemon:
    """`tagger listen -` with a settings file, and with a sound that tests switch on and off (`loud`)."""

    def __init__(self, folder: Path, subscriber: Subscriber, port: int, text: str, *flags: str) -> None:
        self.config, self.subscriber = folder / "tagger.toml", subscriber
        self.config.write_text(text)
        self.loud = False
        self.said: list[str] = []
        command = [*TAGGER, "listen", "-", "--mqtt", f"mqtt://127.0.0.1:{port}", "--node", "room"]
        command += [*RECORDED, "--config", str(self.config), *flags]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._threads = [threading.Thread(target=each) for each in (self._feed, self._read)]
        for thread in self._threads:
            thread.start()

    def reload(self, text: str) -> list[str]:
        """Writes the file, sends SIGHUP, and returns the daemon's messages."""
        self.config.write_text(text)
        before = len(self.said)
        self.process.send_signal(signal.SIGHUP)
        last = ("reload: done", "; nothing was changed")
        until(lambda: any(words in line for line in self.said[before:] for words in last), "it says what it did")
        return self.said[before:]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(LONG_S)
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        sound = (siren(20) * 32767).clip(-32768, 32767).astype("<i2").reshape(-1, RATE_HZ // 4)
        silence = np.zeros_like(sound[0])
        with suppress(OSError, ValueError):  # the daemon has exited
            for number in range(100_000):
                pipe.write((sound[number % len(sound)] if self.loud else silence).tobytes())
                pipe.flush()
                time.sleep(1 / 4 / SPEED)
        with suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.said.extend(line.decode().rstrip() for line in lines)

    @property
    def windows(self) -> list[float]:
        return [report["start"] for report in self.subscriber.jsons(f"{BASE}/scores")]

    def events(self) -> list[tuple[str, str]]:
        return [(event["label"], event["type"]) for event in self.subscriber.jsons(f"{BASE}/event")]

    def state(self, label: str) -> str:
        return (self.subscriber.payloads(f"{BASE}/{label}/state") or [""])[-1]


@contextmanager
def daemon(broker: Mosquitto, folder: Path, text: str, *flags: str) -> Iterator[Daemon]:
    with subscribed(broker.port) as subscriber:
        made = Daemon(folder, subscriber, broker.port, text, *flags)
        try:
            until(lambda: made.windows, "it listens")
            yield made
        finally:
            made.close()


def test_thresholds_labels_and_sinks_change_and_no_window_is_lost(broker: Mosquitto, tmp_path: Path) -> None:
    with daemon(broker, tmp_path, '[events]\nenter = 0.3\ndeny = ["siren"]\n') as it:
        it.loud = True
        count = len(it.windows)
        until(lambda: len(it.windows) > count + 10, "it hears the siren")
        assert it.events() == []

        said = it.reload(f'[events]\nenter = 0.3\nallow = ["siren"]\n[sinks.jsonl]\npath = "{tmp_path}/events.jsonl"\n')
        assert [line[20:] for line in said if "reload" in line] == ["reload: done; jsonl was opened"]
        until(lambda: ("siren", "begin") in it.events(), "the siren is announced")
        until(lambda: it.state("siren") == "ON", "and its state")

        # A new group changes the topics: the connection is opened again, and open events stay open.
        text = f'[sinks.jsonl]\npath = "{tmp_path}/events.jsonl"\n[events]\nenter = 0.3\n'
        text += '[events.groups]\nalarm = ["siren", "clock_alarm"]\n'
        said = it.reload(text)
        assert any("mqtt was closed and opened again" in line for line in said), said
        until(lambda: it.subscriber.payloads("tagger/room/status")[-2:] == ["offline", "online"], "it is back")
        until(lambda: it.state("alarm") == "OFF", "the group has a topic")
        until(lambda: it.state("siren") == "ON", "the siren is still on")
        it.loud = False
        until(lambda: ("siren", "end") in it.events(), "it ends")
        it.loud = True
        until(lambda: ("alarm", "begin") in it.events(), "the group is announced with the next")

        it.reload('[events]\nenter = 0.3\ndeny = ["siren"]\n')
        until(lambda: it.events()[-1][1] == "end", "what is denied, or no more a group, has ended")
        until(lambda: it.state("siren") == "OFF", "and its state")
        windows = it.windows
        assert windows == [float(each) for each in range(len(windows))], "no window is missing"
        lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    ids = [(event["id"], event["type"]) for event in it.subscriber.jsons(f"{BASE}/event")]
    assert len(set(ids)) == len(ids)
    assert {each for each, kind in ids if kind == "begin"} == {each for each, kind in ids if kind == "end"}
    assert [(line["id"], line["type"]) for line in lines] == ids[: len(lines)]


def test_a_mistake_changes_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    mistakes = {
        "[events]\nenter = 2\n": "enter = 2 must be",
        '[events]\ndeny = ["sirne"]\n': "did you mean siren",
        "[mqqt]\n": "line 1: mqqt: is unknown",
        "[events\n": "is not TOML",
    }
    with daemon(broker, tmp_path, "[events]\nenter = 0.4\n") as it:
        for text, said in mistakes.items():
            lines = [line for line in it.reload(text) if "reload" in line]
            assert len(lines) == 1
            assert said in lines[0]
            assert lines[0].endswith("; nothing was changed")
            count = len(it.windows)
            it.loud = True
            until(lambda count=count: len(it.windows) > count + 3, "it listens as before")  # type: ignore[misc]
            assert it.process.poll() is None


def test_what_needs_a_restart_is_named(broker: Mosquitto, tmp_path: Path) -> None:
    with daemon(broker, tmp_path, "") as it:
        it.reload('[listen]\nhop = 0.5\ntop = 3\n[mqtt]\ntopic_prefix = "home"\n[events]\nenter = 0.3\n')
        named = "listen.hop, listen.top, mqtt.topic_prefix: changed only by a restart"
        until(lambda: any(f"reload: {named}" in line for line in it.said), "what needs a restart is named")


def test_a_file_that_is_gone_changes_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    with daemon(broker, tmp_path, '[sinks.jsonl]\npath = "events.jsonl"\n') as it:
        it.config.rename(tmp_path / "elsewhere.toml")
        it.process.send_signal(signal.SIGHUP)
        until(lambda: any("no such file" in line for line in it.said), "it says so")
        (line,) = [line for line in it.said if "reload" in line]
        assert line.endswith("; nothing was changed")


def test_the_connection_itself_is_changed(broker: Mosquitto, tmp_path: Path) -> None:
    with daemon(broker, tmp_path, "") as it:
        said = it.reload('[mqtt]\nversion = "5"\nclient_id = "another"\n')
        assert any("mqtt was closed and opened again" in line for line in said), said
        count = len(it.windows)
        until(lambda: len(it.windows) > count + 3, "it publishes, by another version of MQTT")
        assert it.subscriber.payloads("tagger/room/status")[-2:] == ["offline", "online"]


def test_requests_are_allowed_and_forbidden(broker: Mosquitto, tmp_path: Path) -> None:
    def answers(transaction: str) -> list[str]:
        """Asks again and returns all answers so far: a daemon that is online may not have subscribed yet."""
        it.subscriber.publish("tagger/room/request/labels", json.dumps({"transaction": transaction}))
        given = it.subscriber.jsons("tagger/room/response/labels")
        return [each["status"] for each in given if each["transaction"] == transaction]

    def reload(text: str) -> None:
        online = it.subscriber.payloads("tagger/room/status").count("online")
        it.reload(text)
        until(lambda: it.subscriber.payloads("tagger/room/status").count("online") > online, "back")

    with daemon(broker, tmp_path, "") as it:
        answers("first")
        reload("[mqtt]\ncommands = true\n")
        until(lambda: answers("second"), "an answer")
        assert set(answers("second")) == {"ok"}
        reload("")
        for _ in range(20):
            answers("third")
            time.sleep(0.05)
        assert answers("first") == answers("third") == []


@pytest.mark.broker
def test_a_broker_that_refuses_what_was_changed_is_asked_again(tmp_path: Path) -> None:
    """The password changes in the file first, and then at the broker."""
    (tmp_path / "passwords").write_text("")
    broker = Mosquitto(tmp_path, "allow_anonymous true", f"password_file {tmp_path / 'passwords'}")
    try:
        with daemon(broker, tmp_path, "") as it:
            said = it.reload('[mqtt]\nuser = "me"\npassword = "verysecret"\n')
            assert any("mqtt was closed and opened again" in line for line in said), said
            until(lambda: sum("refuses" in line for line in it.said) > 1, "it tries again")
            assert any("check user and password" in line for line in it.said)
            assert "verysecret" not in "".join(it.said)
            it.reload("")
            count = len(it.windows)
            until(lambda: len(it.windows) > count, "it publishes again")
    finally:
        broker.kill()


@pytest.mark.slow
def test_what_cannot_be_opened_leaves_what_there_was(broker: Mosquitto, tmp_path: Path) -> None:
    with daemon(broker, tmp_path, f'{HEARS}[sinks.log]\npath = "{tmp_path}/events.sqlite"\n') as it:
        (tmp_path / "no.sqlite").write_text("this is no database" * 100)
        said = it.reload(f'{HEARS}[sinks.log]\npath = "{tmp_path}/no.sqlite"\n')
        assert sum("no.sqlite" in line for line in said) == 1, said
        it.loud = True
        until(it.events, "it goes on")
    assert (tmp_path / "no.sqlite").read_text().startswith("this is no database")
    done = subprocess.run(
        [*TAGGER, "events", str(tmp_path / "events.sqlite"), "--json"], capture_output=True, check=False, text=True
    )
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["siren"], done.stderr


def test_a_certificate_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("one")
    mqtt = MqttSettings(tls=True, tls_ca_certs=path)
    before = outputs.certificate_times(mqtt)
    assert outputs.certificate_times(mqtt) == before
    os.utime(path, ns=(1, 1))
    assert outputs.certificate_times(mqtt) != before
    path.unlink()
    assert outputs.certificate_times(mqtt) == (0, 0, 0)
