"""A head for a few labels of one's own says when they sounded. Sounds are made here; the weights are mn04's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.programs import ROOT, run, tagger

pytestmark = [pytest.mark.train, pytest.mark.slow]

RATE_HZ = 16_000
Made = np.ndarray
LENGTHS_S = (1.4, 1.9, 2.6, 3.3, 2.2, 4.1, 2.9, 1.6)
"""Of the recordings of each label."""
BEGIN_S, END_S = 5.0, 7.3
"""Of the sound that is looked for."""
ACCURACY_S = 0.5


def ring(seconds: float, rng: np.random.Generator) -> Made:
    """A mechanical bell: inharmonic partials, struck some twenty times a second."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    lowest, beats = rng.uniform(1_400, 1_800), rng.uniform(18, 24)
    partials = sum(np.sin(2 * np.pi * lowest * k * time + rng.uniform(0, 6)) / k for k in (1.0, 1.58, 2.24, 2.92))
    return np.exp(-6 * ((time * beats) % 1)) * partials


def knocks(seconds: float, rng: np.random.Generator) -> Made:
    """Wood: short dull thuds, three to five a second."""
    sound = np.zeros(round(seconds * RATE_HZ))
    for begin in np.arange(0.0, seconds - 0.12, rng.uniform(0.2, 0.33)):
        time = np.arange(round(0.12 * RATE_HZ)) / RATE_HZ
        pitch = rng.uniform(180, 260)
        thud = np.exp(-60 * time) * (np.sin(2 * np.pi * pitch * time) + 0.5 * rng.standard_normal(len(time)))
        sound[round(begin * RATE_HZ) :][: len(thud)] += thud
    return sound


def whistle(seconds: float, rng: np.random.Generator) -> Made:
    """A whistled tone that goes up and down."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch = rng.uniform(1_800, 2_400) * (1 + 0.25 * np.sin(2 * np.pi * rng.uniform(0.5, 0.9) * time))
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ) + 0.02 * rng.standard_normal(len(time))


SOUNDS: dict[str, Callable[[float, np.random.Generator], Made]] = {"ring": ring, "knocks": knocks, "whistle": whistle}


def write(path: Path, sound: Made, peak: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound * peak / np.abs(sound).max(), RATE_HZ)
    return path


def room(seconds: float, rng: np.random.Generator) -> Made:
    """Faint brown noise with a hum."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.cumsum(rng.standard_normal(len(time)))
    noise -= np.convolve(noise, np.ones(400) / 400, "same")
    return noise / np.abs(noise).max() + 0.2 * np.sin(2 * np.pi * 50 * time)


def stream(label: str, background: Made, path: Path) -> Path:
    """17 s of the background with one sound in it."""
    whole = np.resize(0.02 * background / np.abs(background).max(), 17 * RATE_HZ)
    sound = SOUNDS[label](END_S - BEGIN_S, np.random.default_rng(99))
    begin = round(BEGIN_S * RATE_HZ)
    whole[begin : begin + len(sound)] += 0.3 * sound / np.abs(sound).max()
    soundfile.write(path, whole, RATE_HZ)
    return path


def events(model: Path, path: Path, home: Path) -> list[tuple[str, float, float]]:
    done = run("tag", "--model", model, path, "--events", "--json", TAGGER_HOME=str(home))
    assert done.exit_code == 0, done.stderr
    return [(each["label"], each["onset"], each["offset"]) for each in map(json.loads, done.stdout.splitlines())]


@pytest.fixture(scope="module")
def home(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    added = run("models", "add", shared / "weights" / "mn04_as_mAP_432.pt", TAGGER_HOME=str(folder))
    assert added.exit_code == 0, added.stderr
    recordings = tmp_path_factory.mktemp("other")
    for kind in ("other_music", "other_speech", "other_street"):
        (recordings / kind).symlink_to(shared / "data" / "home" / kind)
    made = subprocess.run(
        [sys.executable, "scripts/negatives.py", recordings],
        env=os.environ | {"TAGGER_HOME": str(folder), "PYTHONPATH": "."},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize(("labels", "has_background"), [(("ring",), False), (tuple(SOUNDS), True)])
def test_own_labels_are_heard_when_they_sound(
    labels: Sequence[str], has_background: bool, home: Path, shared: Path, tmp_path: Path
) -> None:
    """Also over speech that the training has not heard."""
    rng = np.random.default_rng(7)
    for label in labels:
        for number, seconds in enumerate(LENGTHS_S):
            write(tmp_path / "own" / label / f"{number}.wav", SOUNDS[label](seconds, rng), rng.uniform(0.1, 0.8))
    more = []
    if has_background:
        for number in range(3):
            write(tmp_path / "room" / f"{number}.wav", room(12, rng), 0.05)
        more = ["--background", tmp_path / "room"]
    done = tagger(
        *("train", tmp_path / "own", *more, "--freeze", "--all-clips", "--name", "mine", "-o", tmp_path / "run"),
        TAGGER_HOME=str(home),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    speech, rate_hz = soundfile.read(shared / "data" / "streams" / "speech.wav")
    assert rate_hz == 2 * RATE_HZ
    for label in labels:
        for name, background in (("quiet", room(17, rng)), ("speech", speech[::2])):
            path = stream(label, background, tmp_path / f"{label}-{name}.wav")
            found = events(tmp_path / "run" / "mine.safetensors", path, home)
            assert [each[0] for each in found] == [label], (label, name, found)
            assert found[0][1:] == pytest.approx((BEGIN_S, END_S), abs=ACCURACY_S), (label, name, found)
