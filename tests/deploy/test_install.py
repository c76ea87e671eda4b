"""The shell scripts of `deploy/`. What they do to a machine is measured by `bench/deploy.py`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import ROOT

INSTALL = ROOT / "deploy/install.sh"
SCRIPTS = sorted(
    path
    for path in (ROOT / "deploy").rglob("*")
    if path.is_file()
    and path.suffix in ("", ".sh")
    and path.read_bytes().startswith(b"#!")
    and b"sh" in path.read_bytes()[:30]
)


def install(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([INSTALL, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt install shellcheck)")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--wheel"], ["--extras"]])
def test_a_wrong_option_is_refused_before_anything_is_done(arguments: list[str]) -> None:
    done = install(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"Error: {arguments[0]}")


def test_help_names_every_option() -> None:
    done = install("--help")
    assert done.returncode == 0
    for option in ("--extras", "--wheel", "--no-start", "--uninstall", "--purge"):
        assert option in done.stdout


def test_the_script_and_the_unit_agree_on_the_places() -> None:
    script, unit = INSTALL.read_text(), (ROOT / "deploy/tagger.service").read_text()
    for place in ("/opt/tagger/current/bin/tagger", "/var/lib/tagger"):
        assert place in script
        assert place in unit


def test_the_package_starts_what_it_installs() -> None:
    build = (ROOT / "deploy/deb/build").read_text()
    assert "ExecStart=/usr/bin/tagger listen" in build
    assert "\nExecStart=" in (ROOT / "deploy/tagger.service").read_text()
