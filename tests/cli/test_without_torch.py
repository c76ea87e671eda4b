"""A device that has the base install alone, without torch: what it does, and what it says of the rest."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tagger.checkpoints import store
from tagger.checkpoints.graph import graph_of
from tagger.clips.folder import ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.events import Block, Event, Stream
from tagger.history.log import EventLog, EventRow
from tagger.sources.file import DEMO
from tests.programs import ROOT


def _base(name: str, found: set[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Adds a distribution and all that it requires to `found`."""
    found.add(canonicalize_name(name))
    for text in distribution(name).requires or []:
        needed = Requirement(text)
        is_asked = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""})
        if is_asked and canonicalize_name(needed.name) not in found:
            _base(needed.name, found, frozenset(needed.extras))
    return found


BASE = _base("tagger", set())
EXTRA = sorted(
    package
    for package, owners in packages_distributions().items()
    if package.isidentifier() and not any(canonicalize_name(owner) in BASE for owner in owners)
)
"""Every package that is installed here, but not by the base install: torch, onnx, matplotlib, amqtt ..."""
BLOCKED = f"sys.modules.update(dict.fromkeys({EXTRA!r}))"
STARTED = "sys.argv[0] = 'tagger'; from tagger.cli.main import main; main()"
ONSET = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""


def tagger(*args: str, answers: str, blocked: bool) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = f"import sys; {BLOCKED if blocked else 'pass'}; {STARTED}"
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        input=answers,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def kept(home: Path) -> Path:
    """A home with one event in its log and one clip in `clips`."""
    home.mkdir(exist_ok=True)
    with closing(EventLog(home / "events.sqlite")) as events:
        events.write([EventRow("E1", "attic", "mic", "dog", ONSET, ONSET + 2, 0.5, 0.9, "esc50", None)])
    folder = ClipFolder(home / "clips")
    saver = ClipSaver(folder, Stream("attic", "mic", "fake", ()), 1000, 5.0)
    saver.heard(Block(np.full(4000, 0.1, np.float32), ONSET - 1))
    saver.event(Event("end", "E1", "dog", 0.8, 0.9, ONSET, ONSET + 2))
    saver.close()
    folder.close(10)
    return home


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("models", 0),
        ("config check demo --mqtt none", 0),
        ("config check --model esc50-crnn --threshold 2", 2),
        ("config check demo --mqtt none --allow no_such_label", 2),
        ("config schema", 0),
        ("config init -o {home}/new.toml", 0),
        ("events", 0),
        ("events --count", 0),
        ("events {home}/missing.sqlite", 2),
        ("review {home}/clips --list", 0),
        ("review {home}/clips --mark E1=right", 0),
        ("devices", None),
    ],
)
def test_a_command_answers_the_same_without_torch(kept: Path, command: str, code: int | None) -> None:
    args = command.format(home=kept).split()
    answers = "dog\ndemo\n\n\n\n" if "init" in args else ""
    expected = tagger(*args, answers=answers, blocked=False)
    for made in kept.glob("*.toml"):
        made.unlink()
    assert tagger(*args, answers=answers, blocked=True) == expected
    assert code is None or expected[0] == code, expected


@pytest.mark.slow
def test_every_module_but_those_of_extras_can_be_imported() -> None:
    """Among them what a short run does not reach: the microphone, the meter, MQTT, requests, Home Assistant."""
    code = f"""
import sys; {BLOCKED}
import importlib, pkgutil, tagger
for module in pkgutil.walk_packages(tagger.__path__, "tagger."):
    try:
        module.name.endswith("__main__") or importlib.import_module(module.name)
    except ImportError as error:
        print(error.name, module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=True
    )
    missing = [line.split() for line in done.stdout.splitlines()]
    assert {package.partition(".")[0] for package, _ in missing} <= {
        "torch",
        "onnx",
        "openvino",
        "psycopg",
        "pyarrow",
        "anyio",
        "h11",
        "starlette",
        "uvicorn",
    }
    assert {module for _, module in missing} == {
        "tagger.archive.shard",
        "tagger.archive.tables",
        "tagger.archive.worker",
        "tagger.bench.peer_program",
        "tagger.checkpoints.checkpoint",
        "tagger.checkpoints.official",
        "tagger.checkpoints.second",
        *(f"tagger.engine.{name}" for name in ("export", "int8", "runtime_gpu", "runtime_openvino", "runtime_torch")),
        "tagger.collect.collector",
        "tagger.features.logmel",
        "tagger.history.postgres",
        "tagger.ray.routes",
        "tagger.ray.serve",
        "tagger.tag.parquet",
        *(f"tagger.models.{name}" for name in ("crnn", "dymn", "efficientat", "network", "opinion")),
        *(
            f"tagger.web.{name}"
            for name in (
                "answers",
                "app",
                "clip_routes",
                "connection",
                "guard",
                "health_routes",
                "server",
                "threshold_routes",
            )
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", ["collect postgresql://127.0.0.1/x", "events postgresql://127.0.0.1/x"])
def test_a_command_of_an_extra_says_what_to_install(command: str) -> None:
    code, _, said = tagger(*command.split(), answers="", blocked=True)
    assert code == 2
    assert said.endswith("needs psycopg, which is not installed: run `./scripts/setup collect` in tagger's clone\n")


@pytest.mark.slow
def test_a_device_without_torch_listens_tags_and_calibrates(home: Path, tmp_path: Path) -> None:
    log, clips, mine = tmp_path / "events.sqlite", tmp_path / "clips", tmp_path / "mine.safetensors"
    sound = Path(shutil.copy(DEMO, tmp_path))
    shutil.copy(store.find("esc50"), mine)
    shutil.copy(graph_of(store.find("esc50")), graph_of(mine))
    listen = "listen demo --no-realtime --mqtt none"
    for command, said in (
        (f"models add {mine}", "mine"),
        (f"{listen} --event-log {log} --save-clips {clips} --jsonl {tmp_path / 'events.jsonl'}", "siren"),
        (f"events {log} --chart --day {time.strftime('%Y-%m-%d')}", ""),
        (f"events {log}", "siren"),
        (f"review {clips} --list", "siren"),
        (f"tag --model mine --audacity --channel 1 {sound}", "siren"),
        (f"calibrate {sound} --examples {clips} --sure -o {tmp_path / 'room.toml'}", ""),
    ):
        code, printed, errors = tagger(*command.split(), answers="", blocked=True)
        assert code == 0, (command, errors)
        assert said in printed + errors, command


@pytest.mark.parametrize(
    "command", ["train x", "eval x -m esc50", "features x.wav -o y", "export esc50", "models add x.pt"]
)
def test_what_needs_torch_says_what_to_install(command: str) -> None:
    code, _, errors = tagger(*command.split(), answers="", blocked=True)
    assert code == 2
    assert "not installed: run `./scripts/setup t" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "extra"),
    [("listen demo --mqtt embedded", "broker"), ("events --day today --plot {home}/x.png", "plot")],
)
def test_what_needs_another_extra_says_which(kept: Path, command: str, extra: str) -> None:
    code, _, errors = tagger(*command.format(home=kept).split(), answers="", blocked=True)
    assert code == 2
    assert f"run `./scripts/setup {extra}`" in errors
    assert "Traceback" not in errors


def test_a_model_that_has_a_checkpoint_alone_says_what_to_do(tmp_path: Path) -> None:
    mine = Path(shutil.copy(store.find("esc50"), tmp_path / "mine.safetensors"))
    code, _, errors = tagger("tag", "--model", str(mine), str(DEMO), answers="", blocked=True)
    assert code == 2
    assert "./scripts/setup torch" in errors
    assert "or run `tagger export mine` where torch is and copy mine.onnx beside it" in errors
    assert len(errors.splitlines()) == 1
