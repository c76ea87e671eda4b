"""What `tagger doctor` finds, and the file for whoever helps."""

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tagger import children
from tagger.daemon.web import answering
from tagger.doctor import child, machine, parts
from tagger.doctor.finding import Finding, findings
from tagger.errors import TaggerError, UserError
from tagger.mqtt.probe import round_trip
from tagger.settings import ListenSettings, MqttSettings
from tests.fakes import FakeSource, loud, silence
from tests.healths import snapshot, source
from tests.programs import Mosquitto, refused, run, write_wav

QUICK = ("--mqtt", "none")


def by_about(*args: object, **env: str) -> dict[str, dict[str, str]]:
    done = run("doctor", *args, "--json", **env)
    return {each["about"]: each for each in json.loads(done.stdout.splitlines()[-1])["findings"]}


@pytest.fixture(autouse=True)
def no_sound_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CARDS", tmp_path / "snd")
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "home"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "clip.wav", np.full(64_000, 0.1) * np.tile([1, -1], 32_000))


def test_a_file_a_model_and_no_broker_are_all_well(clip: Path, tmp_path: Path) -> None:
    done = run("doctor", clip, *QUICK)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "ok    settings      no file; flags, environment and defaults"
    (model,) = [line for line in lines if line.startswith("ok    model")]
    assert "esc50, 50 labels, on cpu" in model
    (heard,) = [line for line in lines if "clip.wav" in line]
    assert heard.startswith("ok    source clip")
    assert heard.endswith("heard at -20 dBFS")
    assert not (tmp_path / "home").exists()


def test_a_wrong_setting_is_exit_code_2_and_what_is_away_exit_code_1(clip: Path) -> None:
    wrong = run("doctor", clip, *QUICK, "--hop", "7")
    assert wrong.exit_code == 2
    assert "fail  settings" in wrong.stdout
    away = run("doctor", clip, "--mqtt", "mqtt://127.0.0.1:1")
    assert away.exit_code == 1
    assert "Connection refused" in away.stdout
    assert "-> start one, such as Mosquitto" in away.stdout


def test_a_source_that_cannot_be_opened_is_called_by_its_name(tmp_path: Path) -> None:
    done = run("doctor", f"attic={tmp_path}/none.wav", tmp_path / "away.wav", *QUICK)
    about = [line.split("  ")[1] for line in done.stdout.splitlines() if "none.wav" in line or "away.wav" in line]
    assert {"source attic", "source 2"} <= set(about)


def test_a_check_that_fails_or_hangs_keeps_no_other_from_being_said() -> None:
    def broken() -> Iterator[Finding]:
        raise UserError("it is wrong")

    def hung() -> Iterator[Finding]:
        os.read(read, 1)
        yield Finding("hung", "ok", "too late")

    read, write = os.pipe()
    checks = [("hung", hung), ("broken", broken), ("well", lambda: [Finding("well", "ok", "it is")])]
    found = list(findings(checks, 0.5))
    os.close(write)
    assert [(each.about, each.state, each.is_mistake) for each in found] == [
        ("hung", "fail", False),
        ("broken", "fail", True),
        ("well", "ok", False),
    ]
    assert found[0].said == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("plays", "state", "words"),
    [
        ([silence(2)], "fail", "only digital silence comes"),
        ([loud(2)], "fail", "only digital silence comes"),  # a constant is no sound
        ([TaggerError("the cable is out")], "fail", "the cable is out"),
        ([], "ok", "shorter than a second"),
    ],
)
def test_what_a_source_delivers_is_judged(monkeypatch, plays, state: str, words: str) -> None:
    fake = FakeSource(plays, live=True)
    monkeypatch.setattr(parts, "open_source", lambda *args, **more: fake)
    (found,) = parts.source("mic", ListenSettings(mqtt=None), [])
    assert (found.about, found.state) == ("source fake", state)
    assert words in found.said
    assert fake.closed.is_set()


def test_a_running_daemon_is_asked_for_its_sources(monkeypatch, tmp_path: Path) -> None:
    fake = FakeSource([TaggerError("in use")], live=True)
    monkeypatch.setattr(parts, "open_source", lambda *args, **more: fake)
    away = snapshot(source("mic"), source("fake", state="retrying", detail="the cable is out"))
    with answering(lambda: away, None, tmp_path / "home" / "state"):
        found = by_about("kitchen=mic", "mic", *QUICK)
    assert found["daemon"]["said"] == "attic runs: degraded"
    assert "the cable is out" in found["source fake"]["said"]
    assert found["source kitchen"]["said"] == "in use"


def test_permissions_of_sound_cards_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = tmp_path / "snd"
    cards.mkdir()
    (cards / "pcmC0D0c").write_text("")
    (found,) = machine.permissions("fail")
    assert found.state == "ok"
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    (found,) = machine.permissions("fail")
    assert (found.state, found.about) == ("fail", "permissions")
    assert "usermod -aG audio" in found.advice


@pytest.mark.parametrize(("free_mb", "state"), [(10, "fail"), (200, "warn"), (5_000, "ok")])
def test_room_on_the_disk(monkeypatch, tmp_path: Path, free_mb: int, state: str) -> None:
    use = SimpleNamespace(free=free_mb * 1e6, total=1e10)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: use)
    (found,) = machine.disk([tmp_path / "a" / "b", tmp_path / "c"])
    assert found.state == state


def test_a_clock_before_the_installation_is_wrong() -> None:
    (found,) = machine.clock(1_000_000.0)
    assert (found.state, found.said[:4]) == ("fail", "1970")
    (found,) = machine.clock()
    assert found.state in ("ok", "warn")


@pytest.mark.broker
def test_a_message_goes_to_the_broker_and_back(broker: Mosquitto) -> None:
    took_s = round_trip(MqttSettings(port=broker.port), 90)
    assert took_s is not None
    assert 0 < took_s < 90


@pytest.mark.broker
def test_a_broker_that_passes_nothing_on_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic write #\n")
    config = ("allow_anonymous true", f"acl_file {tmp_path / 'acl'}")
    with Mosquitto(tmp_path, *config) as broker:
        assert round_trip(MqttSettings(port=broker.port), 1.0) is None


def test_the_bundle_holds_no_secret_no_audio_and_no_events(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "hook.token").write_text("TOKENTOKEN\n")
    (tmp_path / "tagger.toml").write_text(
        f"""[listen]
sources = ["{clip}", "cam=rtsp://anna:RTSPSECRET@127.0.0.1:1/PATHSECRET?key=QUERYSECRET"]
[mqtt]
url = "mqtt://me:p%40SSWORD@127.0.0.1:1"
[sinks.webhook]
url = "http://127.0.0.1:1/HOOKSECRET"
token_file = "hook.token"
"""
    )
    leaky = snapshot(source("clip", events={"siren": 3}), source("cam", state="retrying", detail="leaks RTSPSECRET"))
    path = tmp_path / "support.zip"
    with answering(lambda: leaky, None, tmp_path / "home" / "state"):
        done = run("doctor", "--config", tmp_path / "tagger.toml", "--bundle", path)
    assert done.exit_code == 1, done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(zipfile.ZipFile(path)) as file:
        names = file.namelist()
        text = "".join(file.read(name).decode() for name in names)
    assert names == ["doctor.txt", "doctor.json", "settings.txt", "versions.json", "status.json", "journal.txt"]
    for secret in ("RTSPSECRET", "PATHSECRET", "QUERYSECRET", "p@SSWORD", "p%40SSWORD", "HOOKSECRET", "TOKENTOKEN"):
        assert secret not in text, secret
    assert "siren" not in text
    assert "leaks (hidden)" in text
    assert 'mqtt.url = "mqtt://me:(hidden)@127.0.0.1:1"' in text


def test_a_bundle_that_cannot_be_written_is_said(tmp_path: Path, clip: Path) -> None:
    refused(run("doctor", clip, *QUICK, "--bundle", tmp_path), str(tmp_path))
    refused(run("doctor", clip, *QUICK, "--bundle", tmp_path / "no" / "x.zip"), "there is no folder", "make it first")
    assert not (tmp_path / "no").exists()


def test_a_daemon_s_own_checks_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    settings = tmp_path / "tagger.toml"
    settings.write_text("[listen]\nhop = -1\n")
    running = {"node": "attic", "verdict": "ok", "problems": [], "sources": {}}
    found = list(child.examine({}, {"TAGGER_HOME": str(tmp_path)}, settings, running))
    assert {"about": "daemon", "state": "ok", "said": "attic runs: ok", "advice": ""} in found
    assert [each["state"] for each in found if each["about"] == "settings"] == ["fail"]
    (settings).write_text("[listen\n")
    assert [each["state"] for each in child.examine({}, {}, settings, running)] == ["fail"]


def test_a_process_that_dies_before_it_was_asked_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    start = children.start_module
    monkeypatch.setattr(children, "start_module", lambda _, kind: start("tagger.none", kind))
    (found,) = child.examine({}, {}, None, {})
    assert (found["state"], found["said"]) == ("fail", "the checks ended before they were done")
