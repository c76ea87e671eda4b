"""The wheel that a device installs: complete, and alive away from its checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.programs import ROOT

pytestmark = pytest.mark.slow  # a build, in an environment of its own


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    python = next((each for each in (sys.executable, shutil.which("python3")) if each and has_pip(each)), None)
    if python is None:
        pytest.skip("no Python here has pip")
    command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("the build needs hatchling, which pip cannot fetch here")
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def has_pip(python: str) -> bool:
    return subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0


def test_it_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "tagger", "train"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == set(listed.stdout.split())
    assert {"tagger/checkpoints/esc50.safetensors", "tagger/checkpoints/esc50.onnx"} <= packed


def test_it_tags_the_demo_outside_the_checkout_and_without_torch(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    (tmp_path / "torch.py").write_text('raise ImportError("a device has no torch")\n')
    env = {**os.environ, "PYTHONPATH": f"{installed}:{tmp_path}", "TAGGER_HOME": str(tmp_path / "home")}
    code = "import runpy, tagger; print(tagger.__file__); runpy.run_module('tagger', run_name='__main__')"
    clip = installed / "tagger/sources/demo/demo.ogg"
    command = [sys.executable, "-c", code, "tag", str(clip), "--json", "--top", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    place, first, *_ = done.stdout.splitlines()
    assert place.startswith(str(installed))
    assert json.loads(first)["top"]
