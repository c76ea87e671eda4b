"""What may import what: docs of the layout, held by parsing every import in the source."""

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
    """Relative to the repository."""
    module: str
    """Whole dotted name; of `from a import b` it is `a.b`, which may be more than a module."""
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
                assert node.level == 0, f"{path}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
                names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            for name in names:
                yield Import(path.relative_to(ROOT).as_posix(), name, id(node) in inside)


def importers(module: str) -> set[str]:
    return {each.file for each in imports() if f"{each.module}.".startswith(f"{module}.")}


def test_there_is_something_to_look_at():
    assert len(FILES) > 25
    assert importers("click")


@pytest.mark.parametrize("module", ["setproctitle", "tomlkit"])
def test_what_is_seldom_needed_is_imported_in_one_place(module):
    assert {file.rpartition("/")[0] for file in importers(module)} == {"tagger/config"}
    assert len(importers(module)) == 1


def may_use_torch(file: str) -> bool:
    names = ("features/logmel", "engine/runtime_torch")
    names += ("checkpoints/checkpoint", "checkpoints/official")
    return file in {f"tagger/{name}.py" for name in names} or file.startswith(("tagger/models/", "train/"))


@pytest.mark.parametrize("module", ["torch", "safetensors.torch"])
def test_torch_stays_in_its_modules(module):
    assert importers(module)
    assert {file for file in importers(module) if not may_use_torch(file)} == set()


def test_torchaudio_is_for_the_tests_alone():
    assert importers("torchaudio") == set()


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("paho", "tagger/mqtt/connection.py"),
        ("sounddevice", "tagger/sources/portaudio.py"),
        ("soxr", "tagger/audio/resample.py"),
        ("av", "tagger/audio/decode.py"),
        ("amqtt", "tagger/mqtt/embedded.py"),
    ],
)
def test_a_library_has_one_home(module, file):
    assert importers(module) == {file}


def test_one_module_decodes_and_one_encodes():
    assert importers("soundfile") == {
        "tagger/audio/decode.py",
        "tagger/clips/folder.py",
        "train/evaluate/soundscape.py",
    }


@pytest.mark.parametrize(
    ("module", "files"),
    [
        (
            "matplotlib",
            {
                f"train/{name}.py"
                for name in ("features/pictures", "evaluate/plots", "features/files", "evaluate/timeline")
            }
            | {"tagger/history/chart.py"},
        ),
        ("torch.utils.tensorboard", {"train/fit/progress.py"}),
    ],
)
def test_what_draws_stays_in_its_modules(module, files):
    assert importers(module) == files


def test_databases_have_their_homes():
    event_log = {"tagger/history/log.py", "tagger/history/query.py", "tagger/sinks/eventlog.py"}
    assert importers("sqlite3") == {*event_log, "tagger/mqtt/outbox.py"}


def test_only_the_command_line_knows_training_and_only_inside_its_command():
    inward = [each for each in imports() if each.file.startswith("tagger/") and f"{each.module}.".startswith("train.")]
    assert {each.file for each in inward} == {"tagger/cli/train.py"}
    assert all(each.is_inside_function for each in inward)


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in memory after `statement`, in a Python of its own."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import tagger",
        "import tagger.cli.main",
        "import tagger.settings, tagger.checkpoints.store",
        "import tagger.history.listing, tagger.history.chart",  # `tagger events` answers at once
    ],
)
def test_what_is_quick_stays_quick(statement):
    heavy = {"torch", "torchaudio", "numpy", "paho", "sounddevice", "soundfile", "soxr", "av", "amqtt", "safetensors"}
    heavy |= {"matplotlib", "tensorboard", "tomlkit", "setproctitle"}
    assert loaded_by(statement) & heavy == set()


def test_settings_are_checked_without_torch():
    assert "torch" not in loaded_by("import tagger.config.build, tagger.config.check, tagger.config.ask")


def test_the_loop_itself_needs_no_torch():
    assert "torch" not in loaded_by(
        "import tagger.audio.window, tagger.decide, tagger.events, tagger.sources, tagger.sinks"
    )
    assert "torch" not in loaded_by("import tagger.clips.saver, tagger.clips.review, tagger.clips.speaker")
