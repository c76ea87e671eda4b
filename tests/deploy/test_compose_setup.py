"""`deploy/compose/setup`, and the broker with the passwords that it makes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from tagger.config.build import resolve
from tests.programs import ROOT, free_port, until

COMPOSE = ROOT / "deploy/compose"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder in which `setup` has run."""
    ours = tmp_path / "compose"
    shutil.copytree(COMPOSE, ours, ignore=shutil.ignore_patterns(".env", "data", "secrets"))
    subprocess.run([ours / "setup"], check=True, capture_output=True)
    return ours


def test_setup_run_again_changes_nothing(folder: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = content()
    done = subprocess.run([folder / "setup"], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert content() == before


def test_passwords_differ_and_only_their_owner_reads_them(folder: Path) -> None:
    files = [folder / "secrets" / name for name in ("mqtt_tagger", "mqtt_homeassistant", "grafana_admin")]
    passwords = {file.read_text().strip() for file in files}
    assert len(passwords) == len(files)
    assert {len(password) for password in passwords} == {32}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_containers_do_not_run_as_root_whoever_ran_setup(folder: Path) -> None:
    values = dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if not line.startswith("#"))
    assert values["TAGGER_UID"].isdecimal()
    assert values["TAGGER_UID"] != "0"
    assert (folder / "data/tagger").stat().st_uid == int(values["TAGGER_UID"])
    for file in values["COMPOSE_FILE"].split(":"):
        assert (folder / file).is_file()


def test_the_daemon_accepts_its_settings(folder: Path) -> None:
    file = folder / "data/tagger/tagger.toml"
    file.write_text(file.read_text().replace("/run/secrets/", f"{folder}/secrets/"))
    resolved = resolve({}, {}, file)
    assert resolved.problems == []


@pytest.fixture
def port(folder: Path, tmp_path: Path) -> Iterator[int]:
    """The broker, as its container starts it; its port."""
    programs = os.environ["PATH"] + ":/usr/sbin"
    if not all(shutil.which(each, path=programs) for each in ("mosquitto", "mosquitto_passwd")):
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    port, users, settings = free_port(), tmp_path / "users", tmp_path / "mosquitto.conf"
    text = (folder / "mosquitto/mosquitto.conf").read_text()
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/run/mosquitto/users", str(users))
    text = text.replace("/mosquitto/data/", f"{tmp_path}/") + ("user root\n" if os.geteuid() == 0 else "")
    settings.write_text(text)
    env = {
        "PATH": programs,
        "SECRETS": str(folder / "secrets"),
        "USERS_FILE": str(users),
        "USERS": "tagger homeassistant",
    }
    process = subprocess.Popen([folder / "mosquitto/start", settings], env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: answer(port, None, None) != "", "mosquitto answers")
        yield port
    finally:
        process.terminate()
        process.wait()


def answer(port: int, user: str | None, password: str | None) -> str:
    """What the broker says to somebody who connects; nothing: it is not there."""
    said: list[str] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    if user is not None:
        client.username_pw_set(user, password)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: said.append(str(reason))
    try:
        client.connect("127.0.0.1", port)
    except OSError:
        return ""
    while not said and client.loop(1) == paho.MQTT_ERR_SUCCESS:
        pass
    client.disconnect()
    return said[0] if said else ""


@pytest.mark.broker
def test_the_broker_takes_the_passwords_and_nobody_else(folder: Path, port: int) -> None:
    for user in ("tagger", "homeassistant"):
        password = (folder / "secrets" / f"mqtt_{user}").read_text().strip()
        assert answer(port, user, password) == "Success"
        assert answer(port, user, "wrong") == "Not authorized"
    assert answer(port, None, None) == "Not authorized"
