"""The systemd unit: systemd accepts it, and it gives the daemon what it needs and little else."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import deploy_probe
from tagger.health import STUCK_SECONDS
from tests.programs import ROOT

UNIT = ROOT / "deploy/tagger.service"
MOST_EXPOSED = 2.0
"""On systemd's scale, where 10 is a service that may do anything."""


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def settings(unit: Path = UNIT) -> dict[str, str]:
    """The section `[Service]`; of keys that are given several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return dict(parser["Service"])


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/tagger/current/bin/tagger", "/bin/true"))  # one that exists here
    done = analyze("verify", "--man=no", str(unit))
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr


def test_the_unit_is_little_exposed() -> None:
    done = analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    last = done.stdout.strip().splitlines()[-1]
    assert float(last.partition(":")[2].split()[0]) <= MOST_EXPOSED, done.stdout


def test_the_daemon_reaches_sound_cards_network_and_its_folder() -> None:
    unit = settings()
    assert unit["DeviceAllow"] == "char-alsa rw"
    assert unit["SupplementaryGroups"] == "audio"
    assert set(unit["RestrictAddressFamilies"].split()) == {"AF_INET", "AF_INET6", "AF_UNIX"}
    assert unit["Environment"] == f"TAGGER_HOME=/var/lib/{unit['StateDirectory']}"
    assert "PrivateNetwork" not in unit
    assert "PrivateDevices" not in unit
    assert "IPAddressDeny" not in unit


def test_network_code_that_is_compiled_at_run_time_still_runs() -> None:
    unit = settings()
    assert "MemoryDenyWriteExecute" not in unit  # torch and OpenVINO
    assert "ProcSubset" not in unit  # ONNX Runtime reads /proc/cpuinfo on ARM


def test_the_daemon_and_nobody_else_notifies_systemd_and_is_watched() -> None:
    unit = settings()
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert float(unit["WatchdogSec"].removesuffix("s")) > STUCK_SECONDS
    assert "WatchdogSignal" not in unit


def test_a_stop_leaves_the_daemon_time_to_say_goodbye_and_ends_its_children() -> None:
    unit = settings()
    assert unit["KillMode"] == "mixed"
    assert unit["TimeoutStopSec"] == "15s"


def test_the_probe_of_the_sandbox_does_nothing_as_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deploy_probe.os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit, match=r"bench/deploy\.py"):
        deploy_probe.main()
    assert capsys.readouterr().out == ""
