"""`tagger config check` opens what the settings name, for a moment, and tells what is wrong from what is away."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.config import reach
from tagger.config.build import resolve
from tagger.errors import TaggerError, UserError
from tagger.events import Block
from tagger.sources import open_source
from tagger.sources.portaudio import MissingDeviceError
from tests.fakes import FakeSource
from tests.programs import Mosquitto, free_port, refused, run, write_wav
from tests.servers import serving


@pytest.fixture
def microphones(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeSource | TaggerError]:
    """What `mic:NAME` is, by the whole URI; all other sources are real."""
    there: dict[str, FakeSource | TaggerError] = {}

    def fake(uri: str, *args: Any) -> Any:
        if uri not in there:
            return open_source(uri, *args)
        if isinstance(found := there[uri], TaggerError):
            raise found
        return found

    monkeypatch.setattr(reach, "open_source", fake)
    return there


def plays() -> FakeSource:
    return FakeSource([Block(np.zeros(1600, np.float32), 0.0)], live=True, waits=True)


def says(*args: object) -> dict[str, Any]:
    done = run("config", "check", "--json", *args)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (2 if document["problems"] else 1 if document["unreachable"] else 0)
    assert document["ok"] == (done.exit_code == 0)
    return document


def test_only_what_was_set_is_listed_and_the_rest_with_all(tmp_path: Path):
    file = tmp_path / "tagger.toml"
    file.write_text('[listen]\nsources = ["demo"]\n[mqtt]\nurl = "none"\n[events]\ndeny = ["dog"]\n')
    done = run("config", "check", "--config", file)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f'listen.sources = ["demo"]  # {file}:2',
        f'mqtt.url = "none"  # {file}:4',
        f'events.deny = ["dog"]  # {file}:6',
        "opened: demo: the built-in demo, one minute, 32000 Hz, at real-time pace",
        "ok",
    ]
    every = run("config", "check", "--config", file, "--all").stdout.splitlines()
    assert "listen.hop = 1  # default" in every
    assert set(done.stdout.splitlines()) < set(every)
    assert says("--config", file)["options"].keys() == {line.partition(" = ")[0] for line in every if " = " in line}
    nothing = run("config", "check", "--offline")
    assert nothing.stdout.splitlines() == ["# nothing is set; --all lists the defaults", "ok"]


def test_what_is_away_is_no_mistake_and_has_an_exit_code_of_its_own(microphones):
    microphones["mic:USB"] = MissingDeviceError("no input device 'USB'")
    microphones["mic:HDA"] = FakeSource([TaggerError("microphone 'HDA' cannot be opened: busy")], live=True)
    port = free_port()
    done = run("config", "check", "mic:USB", "mic:HDA", "demo", "--mqtt", f"mqtt://127.0.0.1:{port}")
    assert done.exit_code == 1, done.output
    assert done.stderr.splitlines() == [
        "Not reached: SOURCE: mic:USB: no input device 'USB'",
        "Not reached: SOURCE: mic:HDA: microphone 'HDA' cannot be opened: busy",
        f"Not reached: --mqtt: the broker at mqtt://127.0.0.1:{port} cannot be reached: Connection refused",
    ]
    assert done.stdout.splitlines()[-2:] == [
        "opened: demo: the built-in demo, one minute, 32000 Hz, at real-time pace",
        "the settings are right; `tagger listen` waits for what was not reached",
    ]
    assert run("config", "check", "mic:USB", "mic:HDA", "--mqtt", "none", "--offline").exit_code == 0


def test_a_mistake_outweighs_what_is_away(microphones, tmp_path: Path):
    microphones["mic:USB"] = MissingDeviceError("no input device 'USB'")
    microphones["mic:two"] = UserError("several input devices fit 'two'")
    (tmp_path / "no.wav").write_text("no sound")
    found = says("mic:USB", "mic:two", tmp_path / "no.wav", tmp_path / "none.wav", "--mqtt", "none")
    assert found["unreachable"] == ["SOURCE: mic:USB: no input device 'USB'"]
    for words in ("several input devices", "no.wav", "none.wav: no such file"):
        assert sum(words in problem for problem in found["problems"]) == 1
    assert len(found["problems"]) == 3


def test_a_microphone_is_opened_and_closed(microphones):
    microphones["mic:USB"] = plays()
    found = says("mic:USB", "--mqtt", "none")
    assert found["opened"] == ["fake: a fake"]
    assert microphones["mic:USB"].closed.is_set()


def test_a_source_that_never_answers_is_given_up(microphones):
    resolved = resolve({"listen.sources": ("mic:USB", "demo"), "mqtt.url": "none"}, {}, None)
    microphones["mic:USB"] = FakeSource([], live=True, waits=True)
    reached = reach.reach(resolved, wait_s=0.5)
    assert reached.unreachable == ["SOURCE: mic:USB: no answer within 0.5 s"]
    assert len(reached.opened) == 1
    microphones["mic:USB"].close()


def test_a_pipe_is_not_read(tmp_path: Path):
    read, write = os.pipe()
    os.write(write, b"sound")
    done = run("config", "check", "-", "--mqtt", "none")
    assert done.exit_code == 0, done.output
    assert "opened: -: a pipe, which was not read" in done.stdout
    for each in (read, write):
        os.close(each)


def test_a_file_is_opened(tmp_path: Path):
    path = write_wav(tmp_path / "room.wav", np.zeros(32_000))
    assert says(path, "--mqtt", "none")["opened"] == [f"room: {path}, 32000 Hz, at real-time pace"]


def test_a_broker_that_lets_one_in(broker: Mosquitto):
    assert says("demo", "--mqtt", broker.url)["opened"][1:] == [f"broker {broker.url}"]
    assert says("demo", "--mqtt", broker.url, "--mqtt-version", "5")["opened"][1:] == [f"broker {broker.url}"]


@pytest.mark.broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_wrong_password_is_a_mistake(version: str, tmp_path: Path):
    passwords, password = tmp_path / "passwords", tmp_path / "password"
    passwords.write_text("")
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "me", "Xy7right"], check=True)
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        url = f"mqtt://me@127.0.0.1:{broker.port}"
        for text, code in (("Xy7right", 0), ("Xy7wrong", 2)):
            password.write_text(text)
            password.chmod(0o600)
            args = ("--mqtt", url, "--password-file", password, "--mqtt-version", version)
            done = run("config", "check", "demo", *args)
            assert done.exit_code == code, done.output
            if code:
                refused(done, "check user and password")
            assert "Xy7" not in done.output


@pytest.mark.slow
def test_one_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reach, "WAIT_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        resolved = resolve(
            {"listen.sources": ("demo",), "mqtt.url": f"mqtt://127.0.0.1:{deaf.getsockname()[1]}"}, {}, None
        )
        reached = reach.reach(resolved, wait_s=3)
    (said,) = reached.unreachable
    assert "cannot be reached: no answer within 0.5 s" in said


def test_a_web_server_is_connected_to_and_gets_no_request():
    with serving(b"") as server:
        url = server.url("secret-path")
        found = says("demo", "--mqtt", "none", "--webhook", url)
        assert server.asked == []
    assert found["opened"][1] == f"web server http://127.0.0.1:{server.server_address[1]}"
    (said,) = says("demo", "--mqtt", "none", "--webhook", f"http://127.0.0.1:{free_port()}/secret-path")["unreachable"]
    assert "cannot be reached: Connection refused" in said
    assert "secret-path" not in said


def test_nothing_is_opened_offline(microphones, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("something was opened"))
    done = run("config", "check", "--offline", "mic:USB")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "ok")
