"""Imports that the contracts in `pyproject.toml` (`lint-imports`) cannot express: what a command loads, and when."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.programs import ROOT

FILES = sorted(path for package in ("tagger", "train") for path in (ROOT / package).rglob("*.py"))


class Import(NamedTuple):
    file: str
    """Path relative to the repository."""
    module: str
    """Whole dotted name. For `from a import b` it is `a.b`, which may be a module or a name in one."""
    is_inside_function: bool


def imports() -> Iterator[Import]:
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                yield Import(path.relative_to(ROOT).as_posix(), name, id(node) in inside)


def importers(module: str) -> set[str]:
    return {each.file for each in imports() if f"{each.module}.".startswith(f"{module}.")}


def test_there_is_something_to_look_at():
    assert len(FILES) > 25
    assert importers("click")


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("torch.utils.tensorboard", "train/fit/progress.py"),
        ("safetensors.torch", "tagger/checkpoints/checkpoint.py"),
    ],
)
def test_a_part_of_a_library_has_one_home(module, file):
    """The contracts see whole libraries only."""
    assert importers(module) == {file}


def test_imports_by_name_are_few():
    """The contracts do not see such imports."""
    by_name = ("import_module", "__import__")
    found = {path.relative_to(ROOT).as_posix() for path in FILES if any(name in path.read_text() for name in by_name)}
    assert found == {"tagger/models/network.py", "tagger/sources/__init__.py", "train/fit/distributed.py"}


def test_training_is_imported_only_inside_its_command():
    inward = [each for each in imports() if each.file.startswith("tagger/") and f"{each.module}.".startswith("train.")]
    assert inward
    assert all(each.is_inside_function for each in inward)


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in memory after `statement`, in a new Python."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import tagger",
        "import tagger.cli.main",
        "import tagger.settings, tagger.checkpoints.store, tagger.checkpoints.info",
        "import tagger.history.listing, tagger.history.chart",  # `tagger events` answers at once
        "import tagger.fleet.ray_coordinator",  # it is back before leases end
    ],
)
def test_what_is_quick_stays_quick(statement):
    heavy = {"torch", "torchaudio", "numpy", "paho", "sounddevice", "soundfile", "soxr", "av", "amqtt", "safetensors"}
    heavy |= {"matplotlib", "tensorboard", "tomlkit", "setproctitle"}
    assert loaded_by(statement) & heavy == set()
