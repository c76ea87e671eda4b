"""A device where torch and torchaudio cannot be imported: what it does all the same, and what it says of the rest."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tagger.clips.folder import ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.events import Block, Event, Stream
from tagger.history.log import EventLog, EventRow
from tagger.sources.file import DEMO
from tests.programs import ROOT

BLOCKED = "sys.modules.update(torch=None, torchaudio=None, onnx=None)"
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
        timeout=60,
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
def test_a_device_without_torch_listens_tags_and_calibrates(home: Path, tmp_path: Path) -> None:
    log = str(tmp_path / "events.sqlite")
    listen = ("listen", "demo", "--no-realtime", "--mqtt", "none", "--event-log", log)
    for command in (listen, ("tag", "--events", str(DEMO)), ("events", log)):
        code, printed, errors = tagger(*command, answers="", blocked=True)
        assert code == 0, errors
        assert "siren" in printed
    code, _, errors = tagger("calibrate", str(DEMO), "-o", str(tmp_path / "room.toml"), answers="", blocked=True)
    assert code == 0, errors


@pytest.mark.parametrize(
    "command", ["train x", "eval x -m esc50", "features x.wav -o y", "export esc50", "models add x.pt"]
)
def test_what_needs_torch_says_what_to_install(command: str) -> None:
    code, _, errors = tagger(*command.split(), answers="", blocked=True)
    assert code == 2
    assert "not installed: run `./scripts/setup t" in errors
    assert len(errors.splitlines()) == 1
