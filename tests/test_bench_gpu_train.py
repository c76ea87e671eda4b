"""`bench/gpu_train.py` runs whole on the processor, in little, so that no minute of a GPU is lost to a mistake."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import gpu_train as bench
from bench.gpu_plan import PARTS, Plan, tasks
from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.network import build
from train.fit.pretrain import PRETRAINED

pytestmark = pytest.mark.train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two labels of ESC-50, with a short tone in each fold."""
    root = tmp_path / "ESC-50"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    (root / "LICENSE").write_text("CC BY-NC", "utf-8")
    rows = []
    for fold in range(1, 6):
        for target, category in enumerate(("high", "low")):
            name = f"{fold}-{fold}{target}-A-{target}.wav"
            sound = 0.3 * np.sin(2 * np.pi * (400 + 10 * fold) * (2 - target) * np.arange(16_000) / 16_000)
            soundfile.write(root / "audio" / name, sound, 16_000)
            rows.append({"filename": name, "fold": fold, "target": target, "category": category})
    with (root / "meta" / "esc50.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "home"))


@pytest.fixture
def official(tmp_path: Path) -> None:
    """A small network in place of AudioSet's."""
    labels = tuple(f"class {number}" for number in range(7))
    info = CheckpointInfo(
        name="mn04_as",
        architecture="efficientat",
        config=EfficientATConfig(labels=7, width=0.1),
        mel=MelConfig(),
        window_seconds=5.0,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.5,) * 7,
    )
    path = tmp_path / "home" / "models" / "mn04_as.safetensors"
    path.parent.mkdir(parents=True)
    checkpoint.save(path, info, build("efficientat", info.config), half=True)


def test_a_fold_is_trained_and_not_again(data: Path, tmp_path: Path, official: None):
    plan = Plan(data, tmp_path / "out", "cpu", tiny=True, folds=(2,))
    said: list[str] = []
    for part in ("head", "crnn"):
        plan.train(part, 2, said.append)
    assert {part: set(found) for part, found in plan.finished().items() if found} == {"head": {2}, "crnn": {2}}
    results = bench.written(plan, 1.0)
    assert json.loads((plan.out / "results.json").read_text("utf-8"))["crnn"]["mean"] is None
    assert set(results["head"]["accuracy"]) == {2}

    with zipfile.ZipFile(plan.out / "checkpoints-1.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    again = Plan(data, tmp_path / "elsewhere", "cpu", tiny=True, folds=(2,))
    said.clear()
    for part in ("head", "crnn"):
        again.train(part, 2, said.append)
    assert not said


def test_what_is_not_finished_is_brought_back_too(data: Path, tmp_path: Path):
    plan = Plan(data, tmp_path / "out", "cpu", tiny=True)
    kept = [plan.folder("crnn", 2) / "state" / "esc50-fold2" / name for name in ("pretrain.pt", PRETRAINED)]
    kept[0].parent.mkdir(parents=True)
    for path in kept:
        path.write_bytes(b"weights")
    bench.written(plan, 1.0)
    with zipfile.ZipFile(plan.out / "states-1.zip") as archive:
        assert archive.namelist() == [path.relative_to(plan.out).as_posix() for path in kept]


def test_windows_that_several_make_are_the_ones_that_a_stream_learns_from(data: Path, tmp_path: Path):
    plan = Plan(data, tmp_path / "out", "cpu", tiny=True, makers=2)
    for maker in range(2):
        plan.make_windows("stream-rooms", maker)
    made = set((tmp_path / "home").rglob("*windows*"))
    assert made
    plan.train("stream-rooms", 3, lambda text: None)
    assert set((tmp_path / "home").rglob("*windows*")) == made
    assert set(plan.finished()["stream-rooms"]) == {3}


def test_what_is_needed_comes_first(data: Path, tmp_path: Path):
    plan = Plan(data, tmp_path, makers=2)
    every = list(tasks(plan))
    names = [task.name for task in every]
    assert len(names) == len(set(names))
    for part in PARTS:
        assert [task.stage for task in every if (task.kind, task.part) == ("train", part)] == [*plan.stages]
    for task in every:
        for need in task.needs:
            assert any(name.startswith(need) for name in names[: names.index(task.name)])


def test_only_the_parts_that_are_asked_for_are_trained(data: Path, tmp_path: Path):
    plan = Plan(data, tmp_path, what=("stream-rooms",), folds=(1,))
    assert {(task.kind, task.part) for task in tasks(plan)} == {("windows", "stream-rooms"), ("train", "stream-rooms")}


def test_when_the_time_is_over_all_stop_and_what_is_finished_is_written(data: Path, tmp_path: Path):
    results = bench.train(Plan(data, tmp_path / "out", "cpu", tiny=True, folds=(1,)), 0.0, 2)
    assert results["crnn"]["mean"] is None
    assert (tmp_path / "out" / "checkpoints-1.zip").is_file()
