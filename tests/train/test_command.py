"""`tagger train`, `tagger eval` and `tagger recipes` as a person calls them, on a few short sounds of three labels."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tagger.checkpoints.header import METADATA_KEY, read_header
from tagger.checkpoints.store import BUNDLED
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tests.programs import LONG_S, refused, run, running, write_wav
from tests.trainings import publish
from train.evaluate import plots
from train.fit.loop import StepResult
from train.fit.stream import StreamLearner
from train.fit.trainer import TrainingStoppedError
from train.recipe import RECIPES

pytestmark = pytest.mark.train

LABELS = ("bell", "hiss", "whistle")
EACH = 5
# Seconds on one core, and enough to learn something.
QUICK = {
    "epochs": 3,
    "batch": 4,
    "crop_seconds": 1,
    "learning_rate": 0.003,
    "head_learning_rate": 0.003,
    "warmup_epochs": 0,
    "average": 0,
    "placed": 0,
    "mix_spectrograms": 0,
    "stored_views": 0,
}


def settings(**changes: object) -> tuple[str, ...]:
    return tuple(word for name, value in (QUICK | changes).items() for word in ("--set", f"{name}={value}"))


CRNN = ("-m", "crnn", *settings())
# A network that learns nothing, for tests of all that is around it.
IDLE = ("-m", "mn01", "--start", "nothing", *settings(epochs=1, batch=8))
ACCURACY = r"^fold (\d): +([\d.]+) %"


def sound(label: int, number: int) -> tuple[np.ndarray[Any, Any], int]:
    """Strokes of a bell, a breathing hiss or a wavering whistle, 1 to 5 s; samples and their rate."""
    rate_hz = (16_000, 44_100)[number % 2]
    time_s = np.arange(int((1 + 0.9 * (number % 5)) * rate_hz)) / rate_hz
    if label == 0:
        samples = np.sin(2 * np.pi * (300 + 40 * number) * time_s) * np.exp(-4 * (time_s % 0.7))
    elif label == 1:
        noise = np.random.default_rng(number).standard_normal(len(time_s))
        samples = noise * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * time_s))
    else:
        samples = np.sin(2 * np.pi * 1500 * time_s + 60 * np.sin(2 * np.pi * (2 + number / 4) * time_s))
    return 0.2 * samples, rate_hz


def make(root: Path, each: int = EACH, labels: tuple[str, ...] = LABELS) -> Path:
    """A folder for each label; all of them hold files of the same names."""
    for label, name in enumerate(labels):
        for number in range(each):
            (root / name).mkdir(parents=True, exist_ok=True)
            write_wav(root / name / f"{number}.wav", *sound(label, number))
    return root


def listed(folder: Path, folds: int) -> Path:
    """A CSV of what `make` made: the first of each label in fold 1, the second in fold 2, and so on."""
    clips = sorted(path.relative_to(folder) for path in folder.rglob("*.wav"))
    lines = [f"{clip},{clip.parent},{1 + int(clip.stem) % folds}" for clip in clips]
    (folder / "clips.csv").write_text("\n".join(["filename,label,fold", *lines]))
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sounds") / "own")


@dataclass(frozen=True)
class Trained:
    folder: Path
    printed: str

    def predictions(self) -> list[dict[str, str]]:
        return rows_of(self.folder / "report" / "predictions.csv")


@pytest.fixture(scope="module")
def trained(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All five folds and the checkpoint of all clips."""
    folder = tmp_path_factory.mktemp("run")
    done = run("train", own, *CRNN, "-o", folder, TAGGER_HOME=str(tmp_path_factory.mktemp("home")))
    assert done.exit_code == 0, done.output
    return Trained(folder, done.stdout)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the pictures, which take a second: the test of `trained` draws them. Other processes still draw."""
    monkeypatch.setattr(plots, "write", lambda *_: ())


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def report_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return document


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def succeeded(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.stdout


def edited(path: Path, source: Path, labels: tuple[str, ...] | None = None, **training: object) -> Path:
    """A copy of a checkpoint that says something else of itself; None takes a statement on its training away."""
    document = read_header(source)
    said = document["training"] | training
    document["training"] = {key: value for key, value in said.items() if value is not None}
    document["labels"] = labels or document["labels"]
    save_file(load_file(source), path, {METADATA_KEY: json.dumps(document)})
    return path


# --- what a training leaves behind ---


def test_each_fold_has_a_checkpoint_and_all_clips_have_one(trained: Trained) -> None:
    assert set(checkpoints(trained.folder)) == {
        *(f"fold{fold}.safetensors" for fold in range(1, 6)),
        "own.safetensors",
    }


def test_the_terminal_shows_each_fold_and_the_mean(trained: Trained) -> None:
    by_fold = [float(percent) for _, percent in re.findall(ACCURACY, trained.printed, re.MULTILINE)]
    mean = re.search(r"^mean +: +([\d.]+) %   standard deviation ([\d.]+)", trained.printed, re.MULTILINE)
    assert len(by_fold) == 5
    assert mean
    assert [float(each) for each in mean.groups()] == pytest.approx(
        [np.mean(by_fold), np.std(by_fold, ddof=1)], abs=0.02
    )


def test_it_has_learnt_something(trained: Trained) -> None:
    assert np.mean([row["right"] == "1" for row in trained.predictions()]) > 0.5


def test_the_report_has_text_numbers_a_table_and_pictures(trained: Trained) -> None:
    files = content(trained.folder / "report")
    assert {"report.md", "report.json", "predictions.csv", *plots.NAMES} == set(files)
    assert all(files[name].startswith(b"\x89PNG") for name in plots.NAMES)


def test_the_report_says_what_it_was_made_with(trained: Trained) -> None:
    facts = report_of(trained.folder / "report")["facts"]
    assert facts["recipe"]["name"] == "crnn"
    assert facts["recipe"]["learning_rate"] == 0.003
    assert facts["data"]["name"] == "own"
    assert facts["test-time options"] == "none"


def test_every_clip_is_scored_once_and_known_by_its_folder_and_file(trained: Trained) -> None:
    names = [f"{label}/{number}.wav" for label in LABELS for number in range(EACH)]
    assert sorted(row["clip"] for row in trained.predictions()) == names
    assert all(row["clip"].split("/")[0] == row["truth"] for row in trained.predictions())


def test_a_folds_checkpoint_has_heard_all_but_that_fold(trained: Trained) -> None:
    everything = set(read_header(trained.folder / "own.safetensors")["training"]["trained_on"])
    heard = read_header(trained.folder / "fold2.safetensors")["training"]
    assert heard["held_out_fold"] == 2
    # Each sound is its own recording, so that it is known by two names: the recording's and the file's.
    assert (len(everything), len(everything - set(heard["trained_on"]))) == (2 * 15, 2 * 3)


def test_a_folds_checkpoint_says_how_good_it_is(trained: Trained) -> None:
    by_fold = dict(re.findall(ACCURACY, trained.printed, re.MULTILINE))
    for fold, percent in by_fold.items():
        metrics = read_header(trained.folder / f"fold{fold}.safetensors")["metrics"]
        assert 100 * metrics["accuracy"] == pytest.approx(float(percent), abs=0.01)


def test_the_final_checkpoint_says_how_good_its_like_are(trained: Trained) -> None:
    document = read_header(trained.folder / "own.safetensors")
    results = report_of(trained.folder / "report")["results"]
    assert document["training"]["held_out_fold"] is None
    assert document["metrics"] == {
        "five_fold_accuracy": results["accuracy_mean"],
        "five_fold_std": results["accuracy_std"],
        "five_fold_ece": results["calibration_error"],
    }


@pytest.mark.parametrize("name", ["fold1", "own"])
def test_a_trained_checkpoint_tags_files(trained: Trained, own: Path, name: str) -> None:
    path = own / "whistle" / "4.wav"
    lines = succeeded("tag", "--json", "-m", trained.folder / f"{name}.safetensors", path).splitlines()
    (window,) = map(json.loads, lines)
    assert sorted(each["label"] for each in window["top"]) == list(LABELS)


def test_a_trained_checkpoint_listens(trained: Trained, own: Path) -> None:
    listen = ("listen", own / "whistle" / "4.wav", "--no-realtime", "--mqtt", "none", "--json", "--threshold", "0.01")
    events = [json.loads(line) for line in succeeded(*listen, "-m", trained.folder / "fold1.safetensors").splitlines()]
    assert {event["label"] for event in events} <= set(LABELS)
    assert "whistle" in {event["label"] for event in events}


def test_the_usual_crnn_learns_from_spectrograms_that_are_made_once(own: Path, tmp_path: Path, home: Path) -> None:
    train = ("train", own, "-m", "crnn", "--set", "crop_seconds=1", "--epochs", "1", "--fold", "1")
    first = run(*train, "-o", tmp_path / "first")
    again = run(*train, "-o", tmp_path / "again")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "spectrograms" in first.stderr
    assert "spectrograms" not in again.stderr
    assert checkpoints(tmp_path / "first") == checkpoints(tmp_path / "again")


def test_another_seed_gives_another_network(trained: Trained, own: Path, tmp_path: Path) -> None:
    succeeded("train", own, *CRNN, "--fold", "1", "--seed", "7", "-o", tmp_path)
    ours, other = ((folder / "fold1.safetensors").read_bytes() for folder in (trained.folder, tmp_path))
    assert ours != other


def test_the_last_layer_alone_is_fitted_to_features_that_are_computed_once(own: Path, tmp_path: Path) -> None:
    freeze = ("train", own, "-m", "mn01", "--start", "nothing", "--freeze", "--fold", "1")
    first = run(*freeze, "-o", tmp_path / "first")
    again = run(*freeze, "-o", tmp_path / "again")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    document = read_header(tmp_path / "first" / "fold1.safetensors")
    assert (document["training"]["recipe"], document["activation"]) == ("head", "sigmoid")
    assert "features" in first.stderr
    assert "features" not in again.stderr
    assert checkpoints(tmp_path / "first") == checkpoints(tmp_path / "again")


def test_the_folder_of_a_run_takes_its_name(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = ("train", own, *IDLE, "--all-clips")
    assert "all clips: runs/kitchen/kitchen.safetensors" in succeeded(*train, "--name", "kitchen")
    assert "all clips: runs/own/own.safetensors" in succeeded(*train)
    refused(run(*train), "runs/own: holds a run already", "another --name or --output")


def test_a_name_of_its_own(own: Path, tmp_path: Path) -> None:
    succeeded("train", own, *IDLE, "--all-clips", "--name", "kitchen", "-o", tmp_path)
    assert list(checkpoints(tmp_path)) == ["kitchen.safetensors"]
    assert read_header(tmp_path / "kitchen.safetensors")["name"] == "kitchen"
    assert read_header(tmp_path / "kitchen.safetensors")["metrics"] == {}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "fold3", "x" * 201, "ü" * 120, "a\u202eb"])
def test_a_name_that_is_no_name_of_a_file_there(own: Path, tmp_path: Path, name: str) -> None:
    refused(run("train", own, *IDLE, "--name", name, "-o", tmp_path), "--name")


def test_a_training_may_start_from_a_checkpoint_that_never_heard_the_fold(
    trained: Trained, own: Path, tmp_path: Path
) -> None:
    start = trained.folder / "fold1.safetensors"
    succeeded("train", own, "-m", start, *settings(epochs=1), "--fold", "1", "-o", tmp_path)
    assert read_header(tmp_path / "fold1.safetensors")["architecture"]["name"] == "crnn"


def test_a_training_that_starts_from_the_held_out_clips_is_refused_before_it_begins(
    trained: Trained, own: Path, tmp_path: Path
) -> None:
    start = trained.folder / "fold1.safetensors"
    result = run("train", own, "-m", start, *settings(), "--fold", "2", "-o", tmp_path / "run")
    refused(result, "own-fold1 was trained on 3 of the 3 clips of fold 2", "--allow-leak")
    assert not (tmp_path / "run").exists()


def test_a_leak_that_is_allowed_is_marked_everywhere_and_stays_so(trained: Trained, own: Path, tmp_path: Path) -> None:
    start = trained.folder / "fold1.safetensors"
    train = ("train", own, "-m", start, *settings(epochs=1), "--fold", "2", "-o", tmp_path)
    leak = "LEAK: own-fold1 was trained on 3 of the 3 clips of fold 2"
    assert leak in succeeded(*train, "--allow-leak")
    assert leak in (tmp_path / "report" / "report.md").read_text("utf-8")
    assert leak in report_of(tmp_path / "report")["marks"][0]
    assert read_header(tmp_path / "fold2.safetensors")["metrics"] == {}
    shutil.rmtree(tmp_path / "report")
    assert leak in succeeded(*train, "--resume")
    assert leak in report_of(tmp_path / "report")["marks"][0]


# --- the folder of a run ---


def test_a_folder_that_holds_a_run_is_left_as_it_is(trained: Trained, own: Path) -> None:
    before = content(trained.folder)
    refused(run("train", own, *CRNN, "-o", trained.folder), "holds a run already", "--resume")
    assert content(trained.folder) == before


def test_resuming_what_is_finished_shows_it_and_trains_nothing(trained: Trained, own: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    shutil.rmtree(folder / "report")
    printed = succeeded("train", own, *CRNN, "--resume", "-o", folder)
    assert re.findall(ACCURACY, printed, re.MULTILINE) == re.findall(ACCURACY, trained.printed, re.MULTILINE)
    assert "epoch" not in printed
    assert checkpoints(folder) == checkpoints(trained.folder)
    for part in ("results", "curves"):
        assert report_of(folder / "report")[part] == report_of(trained.folder / "report")[part]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (("--seed", "1"), "the seed of"),
        (("--set", "gain_db=3", "--set", "roll=0"), "the recipe (gain_db, roll) of"),
        (("--name", "kitchen"), "the name of"),
        (("-m", "mn01", "--start", "nothing", "--recipe", "crnn"), "the start of"),
    ],
)
def test_another_run_is_not_resumed(trained: Trained, own: Path, changes: tuple[str, ...], named: str) -> None:
    before = content(trained.folder)
    refused(run("train", own, *CRNN, *changes, "--resume", "-o", trained.folder), "--resume cannot continue it", named)
    assert content(trained.folder) == before


def test_a_run_on_other_data_is_not_resumed(trained: Trained, tmp_path: Path) -> None:
    other = make(tmp_path / "other", EACH + 1)
    refused(run("train", other, *CRNN, "--resume", "-o", trained.folder), "--resume cannot continue it: the data of")


def test_a_fold_may_be_added_later(own: Path, tmp_path: Path) -> None:
    succeeded("train", own, *IDLE, "--fold", "1", "-o", tmp_path)
    first = checkpoints(tmp_path)
    printed = succeeded("train", own, *IDLE, "--fold", "2", "--resume", "-o", tmp_path)
    assert list(checkpoints(tmp_path)) == ["fold1.safetensors", "fold2.safetensors"]
    assert checkpoints(tmp_path)["fold1.safetensors"] == first["fold1.safetensors"]
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["1", "2"]
    assert list(report_of(tmp_path / "report")["results"]["accuracy_by_fold"]) == ["1", "2"]


def test_what_was_refused_for_its_data_does_not_claim_the_folder(own: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(own, tmp_path / "damaged")
    (damaged / "bell" / "0.wav").write_bytes(b"no sound")
    refused(run("train", damaged, *IDLE, "--strict", "--fold", "1", "-o", tmp_path / "run"), "bell/0.wav")
    succeeded("train", own, *IDLE, "--fold", "1", "-o", tmp_path / "run")


def test_an_output_that_is_a_file(own: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run("train", own, *IDLE, "-o", tmp_path / "file"), str(tmp_path / "file"))


# --- interruptions ---


def wait_for(stream: IO[bytes] | None, words: bytes) -> None:
    """Reads lines until one of them has these words."""
    assert stream is not None
    for line in stream:
        if words in line:
            return
    pytest.fail(f"it ended before it said {words.decode()}")


LONG = ("-m", "crnn", *settings(epochs=3, batch=2), "--fold", "1")
GOES_ON = re.compile("continuing after (1 epoch|2 epochs)")
"""On a busy machine, another epoch may end before the signal comes."""


@pytest.fixture(scope="module")
def uninterrupted(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run("train", own, *LONG, "-o", folder, TAGGER_HOME=str(tmp_path_factory.mktemp("home")))
    assert done.exit_code == 0, done.output
    return folder


def is_same(folder: Path, other: Path) -> bool:
    """To the last bit: weights, what they say of all clips, and losses and rates of all epochs."""

    def epochs(each: Path) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = report_of(each / "report")["curves"]["fold 1"]["epochs"]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    tables = [rows_of(each / "report" / "predictions.csv") for each in (folder, other)]
    return checkpoints(folder) == checkpoints(other) and tables[0] == tables[1] and epochs(folder) == epochs(other)


@pytest.mark.slow
def test_ctrl_c_in_an_epoch_loses_nothing(own: Path, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running("train", own, *LONG, "-o", folder) as training:
        wait_for(training.stdout, b"epoch   1 of 3")
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=LONG_S)
    said = err.decode().splitlines()
    assert training.returncode == 130, err
    assert said[-1] == "Error: stopped; the same command with --resume goes on"
    assert "Traceback" not in err.decode()
    assert torch.load(folder / "state" / "own-fold1" / "state.pt")["state"]["step"] > 0
    assert not (folder / "report").exists()
    assert GOES_ON.search(succeeded("train", own, *LONG, "--resume", "-o", folder))
    assert is_same(folder, uninterrupted)


@pytest.mark.slow
def test_a_process_that_is_killed_in_an_epoch_goes_on_from_the_last_one(
    own: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with running("train", own, *LONG, "-o", folder) as training:
        wait_for(training.stdout, b"epoch   1 of 3")
        training.kill()
        training.communicate(timeout=LONG_S)
    assert GOES_ON.search(succeeded("train", own, *LONG, "--resume", "-o", folder))
    assert is_same(folder, uninterrupted)


def test_the_recipe_for_streams_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = listed(make(tmp_path / "sounds", each=3), 3)
    torch.manual_seed(0)
    publish(EfficientAT(EfficientATConfig(labels=527, width=0.1)), MelConfig())
    quick = (word for name in ("epochs=2", "batch=8", "frozen_blocks=14") for word in ("--set", name))
    flags = ("train", sounds, "--recipe", "stream", *quick, "--fold", "1")
    succeeded(*flags, "-o", tmp_path / "whole")
    step, steps = StreamLearner.step, 0

    def stopped(*args: Any) -> StepResult:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise TrainingStoppedError
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(StreamLearner, "step", stopped)
        done = run(*flags, "-o", tmp_path / "run")
    assert done.exit_code == 130
    assert "the same command with --resume goes on" in done.stderr
    assert "continuing after 1 epoch" in succeeded(*flags, "--resume", "-o", tmp_path / "run")
    assert is_same(tmp_path / "run", tmp_path / "whole")
    document = read_header(tmp_path / "run" / "fold1.safetensors")
    assert document["training"]["recipe"] == "stream"
    assert document["activation"] == "sigmoid"
    assert document["architecture"]["config"]["moments"]
    assert document["architecture"]["config"]["seconded"]
    assert document["opinion"]["share"] > 0
    assert document["training"]["inner_loss"] > 0


@pytest.mark.slow
def test_ctrl_c_while_features_are_extracted_ends_it_at_once(own: Path, tmp_path: Path) -> None:
    freeze = ("train", own, "-m", "mn40", "--start", "nothing", "--freeze", "--fold", "1", "-o", tmp_path / "run")
    with running(*freeze) as training:
        wait_for(training.stderr, b", plain")
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=LONG_S)
    assert training.returncode == 130, err
    assert err.decode().splitlines()[-1] == "Error: stopped; the same command with --resume goes on"
    assert b"Traceback" not in err
    assert b", fragment" not in err


@pytest.mark.slow
def test_ctrl_c_while_clips_are_decoded_ends_it_at_once(own: Path, tmp_path: Path) -> None:
    data = shutil.copytree(own, tmp_path / "own")
    write_wav(data / "bell" / "hour.wav", np.zeros(8_000 * 3600, np.int16), 8_000)
    with running("train", data, *IDLE, "-o", tmp_path / "run") as training:
        wait_for(training.stderr, b"decoding")
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=LONG_S)
    assert training.returncode == 130
    assert err.decode().splitlines()[-1] == "Aborted!"
    assert b"Traceback" not in err
    assert not (tmp_path / "run").exists()


# --- eval ---


def test_a_folds_checkpoint_is_scored_on_its_own_fold(trained: Trained, own: Path, tmp_path: Path) -> None:
    printed = succeeded("eval", own, "-m", trained.folder / "fold3.safetensors", "-o", tmp_path)
    assert re.findall(ACCURACY, printed, re.MULTILINE) == re.findall(ACCURACY, trained.printed, re.MULTILINE)[2:3]
    assert rows_of(tmp_path / "predictions.csv") == [row for row in trained.predictions() if row["fold"] == "3"]


def test_a_run_is_scored_as_its_training_scored_it(trained: Trained, own: Path, tmp_path: Path) -> None:
    printed = succeeded("eval", own, "-m", trained.folder, "--folds", "all", "-o", tmp_path)
    assert re.findall(ACCURACY, printed, re.MULTILINE) == re.findall(ACCURACY, trained.printed, re.MULTILINE)
    assert rows_of(tmp_path / "predictions.csv") == trained.predictions()
    assert report_of(tmp_path)["results"] == report_of(trained.folder / "report")["results"]
    assert report_of(tmp_path)["marks"] == []


def test_folds_of_a_run_can_be_named(trained: Trained, own: Path, tmp_path: Path) -> None:
    printed = succeeded("eval", own, "-m", trained.folder, "--folds", "4,2", "-o", tmp_path)
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["4", "2"]


def test_what_was_trained_on_all_clips_has_nothing_to_be_scored_on(trained: Trained, own: Path, tmp_path: Path) -> None:
    final = trained.folder / "own.safetensors"
    refused(run("eval", own, "-m", final, "-o", tmp_path), "has no test fold of its own: it was trained on all")
    refused(
        run("eval", own, "-m", final, "--folds", "all", "-o", tmp_path), "was trained on 3 of the 3 clips of fold 1"
    )
    assert not list(tmp_path.iterdir())


def test_a_fold_that_was_heard_is_refused_by_the_name_of_a_clip(trained: Trained, own: Path, tmp_path: Path) -> None:
    result = run("eval", own, "-m", trained.folder / "fold1.safetensors", "--folds", "2", "-o", tmp_path)
    refused(result, "own-fold1 was trained on 3 of the 3 clips of fold 2", "the first: bell/", "--allow-leak")


def test_a_leak_that_is_allowed_is_scored_and_marked_everywhere(trained: Trained, own: Path, tmp_path: Path) -> None:
    checkpoint = trained.folder / "fold1.safetensors"
    printed = succeeded("eval", own, "-m", checkpoint, "--folds", "1,2", "--allow-leak", "-o", tmp_path)
    leak = "LEAK: own-fold1 was trained on 3 of the 3 clips of fold 2; not a result"
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["1", "2"]
    assert leak in printed.splitlines()
    assert f"**WARNING: {leak}**" in (tmp_path / "report.md").read_text("utf-8")
    assert report_of(tmp_path)["marks"] == [leak]


def test_another_name_does_not_hide_a_clip_that_was_heard(trained: Trained, own: Path, tmp_path: Path) -> None:
    folds = {row["clip"]: row["fold"] for row in trained.predictions()}
    heard = next(clip for clip, fold in folds.items() if fold == "2" and clip.startswith("bell"))
    data = shutil.copytree(own, tmp_path / "own")
    (data / heard).rename(data / "bell" / "new.wav")
    folds["bell/new.wav"] = "1"
    del folds[heard]
    lines = [f"{clip},{clip.split('/')[0]},{fold}" for clip, fold in folds.items()]
    (data / "clips.csv").write_text("\n".join(["filename,label,fold", *lines]))
    result = run("eval", data / "clips.csv", "-m", trained.folder / "fold1.safetensors", "-o", tmp_path / "report")
    refused(result, "own-fold1 was trained on 1 of the 4 clips of fold 1 (the first: bell/new.wav)")


def test_what_does_not_say_what_it_heard_is_scored_with_a_warning(trained: Trained, own: Path, tmp_path: Path) -> None:
    silent = edited(tmp_path / "silent.safetensors", trained.folder / "fold1.safetensors", trained_on=None)
    warning = "own-fold1 does not say what it was trained on: it may have heard these clips"
    assert warning in succeeded("eval", own, "-m", silent, "-o", tmp_path / "report")
    assert report_of(tmp_path / "report")["marks"] == [warning]


def test_time_shifts_change_the_scores_and_are_reported(trained: Trained, own: Path, tmp_path: Path) -> None:
    checkpoint = trained.folder / "fold1.safetensors"
    succeeded("eval", own, "-m", checkpoint, "--shifts", "3", "-o", tmp_path)
    assert report_of(tmp_path)["facts"]["test-time options"] == "mean of 3 time shifts"
    assert "mean of 3 time shifts" in (tmp_path / "report.md").read_text("utf-8")
    plain = [row["score"] for row in trained.predictions() if row["fold"] == "1"]
    assert [row["score"] for row in rows_of(tmp_path / "predictions.csv")] != plain


def test_checkpoints_of_several_folds_can_be_named_one_by_one(trained: Trained, own: Path, tmp_path: Path) -> None:
    several = [word for fold in (1, 2) for word in ("-m", trained.folder / f"fold{fold}.safetensors")]
    printed = succeeded("eval", own, *several, "-o", tmp_path)
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["1", "2"]
    assert "mean" in printed


def test_labels_that_a_checkpoint_does_not_know(trained: Trained, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 2, ("bell", "gong", "whistle"))
    refused(run("eval", other, "-m", trained.folder, "--folds", "1"), "does not know 1 of the labels: gong")


def test_checkpoints_that_do_not_go_together(trained: Trained, own: Path, tmp_path: Path) -> None:
    one, two = (trained.folder / f"fold{fold}.safetensors" for fold in (1, 2))
    turned = edited(tmp_path / "turned.safetensors", two, labels=("whistle", "hiss", "bell"))
    refused(run("eval", own, "-m", one, "-m", one), "two checkpoints for one fold")
    refused(run("eval", own, "-m", one, "-m", turned), "different labels")


@pytest.mark.parametrize("folds", ["6", "0", "none", " ", "1,", "1-3"])
def test_folds_that_are_none(own: Path, folds: str) -> None:
    refused(run("eval", own, "-m", "esc50", "--folds", folds), f"--folds {folds}: must be own, all, or numbers")


def test_a_run_that_lacks_checkpoints(trained: Trained, own: Path, tmp_path: Path) -> None:
    shutil.copy(trained.folder / "fold2.safetensors", tmp_path)
    refused(run("eval", own, "-m", tmp_path, "--folds", "all"), "has no fold1.safetensors")
    refused(run("eval", own, "-m", own), "holds no fold1.safetensors")


def test_a_checkpoint_that_is_not_there(own: Path) -> None:
    refused(run("eval", own, "-m", "esc5O"), "no model 'esc5O'", "did you mean esc50")


@pytest.mark.parametrize("folds", ["own", "1", "all"])
def test_the_bundled_model_is_not_scored_on_what_it_was_trained_on(shared: Path, tmp_path: Path, folds: str) -> None:
    """It has heard every clip of ESC-50."""
    why = (
        "it was trained on all"
        if folds == "own"
        else "esc50 was trained on 400 of the 400 clips of fold 1 (the first: "
    )
    data = shared / "data" / "esc50"
    refused(run("eval", data, "-m", BUNDLED / "esc50.safetensors", "--folds", folds, "-o", tmp_path), why)


def test_models_that_have_a_fold_in_common_are_compared_on_it(trained: Trained, own: Path, tmp_path: Path) -> None:
    succeeded("train", own, *IDLE, "--fold", "1", "-o", tmp_path / "idle")
    printed = succeeded("eval", own, "-m", trained.folder, "-m", tmp_path / "idle", "-o", tmp_path / "report")
    assert "compared on fold 1; not every model has fold 2, 3, 4, 5" in printed
    assert re.search(
        rf"^{tmp_path / 'idle'} +[\d.]+ % .* points \(.*\), p .*: \d clips? gained, \d lost$", printed, re.M
    )
    assert "3 clips of fold 1, the same for each model" in printed
    document = json.loads((tmp_path / "report" / "comparison.json").read_text("utf-8"))
    by_fold = dict(re.findall(ACCURACY, trained.printed, re.MULTILINE))
    assert 100 * document["models"][str(trained.folder)]["accuracy"] == pytest.approx(float(by_fold["1"]), abs=0.01)
    two = trained.folder / "fold2.safetensors"
    refused(
        run("eval", own, "-m", tmp_path / "idle", "-m", two), "compared on the same clips, and no fold is one of each"
    )
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(two, mixed)
    shutil.copy(tmp_path / "idle" / "fold1.safetensors", mixed)
    done = run("eval", own, "-m", mixed, "--folds", "1,2")
    refused(done, "was trained otherwise than fold 1", "epochs 3, not 1", "score each with --folds 2")


# --- one label ---


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on one label and background; ESC-50, of four clips, is at home."""
    folder = tmp_path_factory.mktemp("lone")
    data = make(folder / "door", 4, ("whistle",))
    make(folder, 4, ("rooms",))
    home = make(folder / "home" / "esc50", 2, ("dog", "rain"))
    names = [f"{1 + number}-{number}-A-{label}.wav" for label in (0, 1) for number in (0, 1)]
    (home / "audio").mkdir()
    for name, label in zip(names, ("dog", "dog", "rain", "rain"), strict=True):
        (home / label / f"{name.split('-')[1]}.wav").rename(home / "audio" / name)
    table = [f"{name},{name[0]},{name[-5]},{('dog', 'rain')[int(name[-5])]},False,,A" for name in names]
    (home / "meta").mkdir()
    (home / "meta" / "esc50.csv").write_text(
        "\n".join(["filename,fold,target,category,esc10,src_file,take", *table]) + "\n"
    )
    sigmoid = ("--set", "activation=sigmoid")
    train = ("train", data, "--background", folder / "rooms", *IDLE, *sigmoid, "-o", folder / "run")
    done = run(*train, TAGGER_HOME=str(folder / "home"))
    assert done.exit_code == 0, done.output
    return Trained(folder / "run", done.stdout)


def test_the_accuracy_of_one_label_is_not_said(lone: Trained) -> None:
    assert "100.00 %" not in lone.printed
    assert "mean  :" not in lone.printed
    assert re.search(r"^fold 1: \d of 1 clips reach the threshold", lone.printed, re.MULTILINE)
    assert "ONE LABEL: accuracy is always 100 % and means nothing" in lone.printed
    assert "| accuracy | means nothing: whistle is the only label" in (lone.folder / "report" / "report.md").read_text()
    assert read_header(lone.folder / "fold1.safetensors")["metrics"].keys() == {"found"}
    assert read_header(lone.folder / "door.safetensors")["metrics"].keys() == {"four_fold_found"}


def test_announcements_where_none_of_the_labels_sounds_are_counted(lone: Trained) -> None:
    _, _, said = lone.printed.partition("announcements where none of the labels sounds:\n")
    background, strangers = said.splitlines()[:2]
    assert re.fullmatch(r"  background that was held out: \d+ in \d+ s, .* an hour \(95 %: .*\)", background)
    assert re.match(r"  ESC-50: \d+ in \d s, .* an hour \(95 %: .*\)", strangers)
    assert strangers.strip() in (lone.folder / "report" / "report.md").read_text("utf-8")


def test_one_label_is_scored_by_its_threshold_and_not_compared_by_accuracy(lone: Trained, tmp_path: Path) -> None:
    data = lone.folder.parent / "door"
    printed = succeeded("eval", data, "-m", lone.folder / "fold1.safetensors", "-o", tmp_path)
    assert re.search(r"^fold 1: \d of 1 clips reach the threshold", printed, re.MULTILINE)
    assert "ONE LABEL" in printed
    both = ("-m", lone.folder, "-m", lone.folder / "fold1.safetensors")
    refused(run("eval", data, *both), "accuracy means nothing with one label, whistle: compare with --streamed")


# --- data ---


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on clips of three folds alone."""
    folder = tmp_path_factory.mktemp("three")
    data = listed(make(folder / "own", 3), 3)
    done = run("train", data, *IDLE, "-o", folder / "run", TAGGER_HOME=str(folder / "home"))
    assert done.exit_code == 0, done.output
    return Trained(folder, done.stdout)


def test_folds_without_clips_are_left_out_and_said(three: Trained) -> None:
    assert "no clip of a label is in fold 4, 5, which is left out" in three.printed.splitlines()
    assert [fold for fold, _ in re.findall(ACCURACY, three.printed, re.MULTILINE)] == ["1", "2", "3"]


def test_a_mean_over_three_folds_is_not_called_one_over_five(three: Trained) -> None:
    metrics = read_header(three.folder / "run" / "clips.safetensors")["metrics"]
    assert set(metrics) == {"three_fold_accuracy", "three_fold_std", "three_fold_ece"}


def test_eval_leaves_empty_folds_out_too(three: Trained, tmp_path: Path) -> None:
    data, folder = three.folder / "own" / "clips.csv", three.folder / "run"
    printed = succeeded("eval", data, "-m", folder, "--folds", "all", "-o", tmp_path)
    assert "no clip of a label is in fold 4, 5, which is left out" in printed.splitlines()
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "command", [("train", *IDLE, "--fold", "4"), ("eval", "-m", BUNDLED / "esc50.safetensors", "--folds", "4,5")]
)
def test_a_fold_without_clips_cannot_be_all_there_is(three: Trained, command: tuple[str, ...]) -> None:
    refused(
        run(*command, three.folder / "own" / "clips.csv", "-o", three.folder / "none"),
        "own: no clip of a label is in fold 4",
    )


def test_two_recordings_of_a_label_are_enough(tmp_path: Path) -> None:
    data = listed(make(tmp_path / "own", 2), 2)
    printed = succeeded("train", data, *IDLE, "--fold", "1", "-o", tmp_path / "run")
    assert "too few recordings to keep any aside: choices are made on what is learnt from" in printed.splitlines()


def test_a_damaged_clip_is_left_out_and_said(own: Path, tmp_path: Path) -> None:
    data = shutil.copytree(own, tmp_path / "own")
    (data / "bell" / "3.wav").write_bytes((data / "bell" / "3.wav").read_bytes()[:2_000])
    printed = succeeded("train", data, *IDLE, "--fold", "1", "-o", tmp_path / "run")
    assert "left out 1 of 15 files that cannot be used:" in printed.splitlines()
    assert "14 clips of 3 labels (own); mn01, recipe finetune" in printed.splitlines()


def test_a_file_name_that_is_not_unicode(own: Path, tmp_path: Path) -> None:
    data = shutil.copytree(own, tmp_path / "own")
    for number in range(EACH):
        (data / "bell" / f"{number}.wav").rename(data / "bell" / os.fsdecode(b"%d\xff.wav" % number))
    succeeded("train", data, *IDLE, "--fold", "1", "-o", tmp_path / "run")
    clips = [row["clip"] for row in rows_of(tmp_path / "run" / "report" / "predictions.csv")]
    assert re.fullmatch(r"bell/\d\\udcff\.wav", clips[0])


def test_background_is_learnt_as_none_of_the_labels(own: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "street").mkdir(exist_ok=True)
        write_wav(tmp_path / "street" / f"{number}.wav", *sound(1, 20 + number))
    train = ("train", own, *IDLE, "--background", tmp_path / "street", "--fold", "1", "-o", tmp_path / "run")
    printed = succeeded(*train)
    assert "19 clips of 3 labels (own + background); mn01, recipe finetune" in printed.splitlines()
    assert {row["truth"] for row in rows_of(tmp_path / "run" / "report" / "predictions.csv")} == set(LABELS)
    document = read_header(tmp_path / "run" / "fold1.safetensors")
    assert document["labels"] == list(LABELS)
    # Two names each; one of the four is in the fold that is held out.
    assert len(document["training"]["trained_on"]) == 2 * (12 + 3)


def test_own_labels_come_after_those_of_esc_10(own: Path, shared: Path, tmp_path: Path) -> None:
    """One real clip of each label and fold."""
    theirs = shared / "data" / "esc50"
    table = rows_of(theirs / "meta" / "esc50.csv")
    chosen = {(row["fold"], row["target"]): row for row in table if row["esc10"] == "True"}.values()
    (tmp_path / "esc" / "meta").mkdir(parents=True)
    (tmp_path / "esc" / "audio").mkdir()
    with (tmp_path / "esc" / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(chosen)
    for row in chosen:
        name = f"{Path(row['filename']).stem}.ogg"
        (tmp_path / "esc" / "audio" / name).symlink_to(theirs / "audio" / name)
    train = ("train", tmp_path / "esc", "--esc10", "--add", own, *IDLE, "--fold", "1", "-o", tmp_path / "run")
    assert "65 clips of 13 labels (ESC-10 + own); mn01, recipe finetune" in succeeded(*train).splitlines()
    document = read_header(tmp_path / "run" / "fold1.safetensors")
    in_order = sorted({int(row["target"]): row["category"] for row in chosen}.items())
    assert document["labels"] == [*(label for _, label in in_order), *LABELS]
    assert [notice for notice in document["licences"] if "ESC-10" in notice]
    scored = rows_of(tmp_path / "run" / "report" / "predictions.csv")
    assert len(scored) == 10 + 3
    assert {"bell", "dog"} <= {row["truth"] for row in scored}


# --- teachers ---


def test_each_fold_has_a_teacher_that_never_heard_it(trained: Trained, own: Path, tmp_path: Path) -> None:
    teacher = f"{trained.folder}/fold{{fold}}.safetensors"
    train = ("train", own, *IDLE, "--fold", "1", "--fold", "2", "-o")
    succeeded(*train, tmp_path / "taught", "--teacher", teacher)
    succeeded(*train, tmp_path / "alone")
    assert read_header(tmp_path / "taught" / "fold2.safetensors")["training"]["teacher"] == teacher
    assert report_of(tmp_path / "taught" / "report")["facts"]["teacher"] == teacher
    losses = [report_of(tmp_path / run / "report")["curves"]["fold 2"]["epochs"] for run in ("taught", "alone")]
    assert losses[0] != losses[1]


def test_a_crnn_with_a_teacher_has_a_recipe_of_its_own(trained: Trained, own: Path, tmp_path: Path) -> None:
    teacher = ("--teacher", trained.folder / "fold1.safetensors", "--fold", "1")
    printed = succeeded(
        "train", own, "-m", "crnn", *settings(epochs=1, stored_views=2, pretrain_epochs=0), *teacher, "-o", tmp_path
    )
    assert "15 clips of 3 labels (own); crnn, recipe crnn-distilled" in printed.splitlines()


def test_a_teacher_that_heard_the_held_out_clips_is_refused_before_anything_is_trained(
    trained: Trained, own: Path, tmp_path: Path
) -> None:
    teacher = trained.folder / "fold1.safetensors"
    train = ("train", own, *IDLE, "--teacher", teacher, "--fold", "1", "--fold", "2", "-o", tmp_path / "run")
    refused(run(*train), f"--teacher {teacher} was trained on 3 of the 3 clips of fold 2", "--allow-leak")
    assert not (tmp_path / "run").exists()


def test_a_pupil_of_a_teacher_that_heard_too_much_has_heard_it_too(trained: Trained, own: Path, tmp_path: Path) -> None:
    teacher = trained.folder / "fold1.safetensors"
    train = ("train", own, *IDLE, "--teacher", teacher, "--fold", "2", "--allow-leak", "-o", tmp_path / "run")
    assert "LEAK" in succeeded(*train)
    refused(
        run("eval", own, "-m", tmp_path / "run", "-o", tmp_path / "report"), "was trained on 3 of the 3 clips of fold 2"
    )


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("nobody", "--teacher: no model 'nobody'"),
        ("none/fold{fold}.safetensors", "--teacher: none/fold1.safetensors: no such checkpoint file"),
        ("esc50", "--teacher esc50 does not know bell, hiss, whistle"),
    ],
)
def test_a_teacher_that_cannot_teach(own: Path, tmp_path: Path, teacher: str, words: str) -> None:
    refused(run("train", own, *IDLE, "--teacher", teacher, "-o", tmp_path / "run"), words)


def test_the_final_checkpoint_has_the_final_teacher(trained: Trained, own: Path, tmp_path: Path) -> None:
    teacher = f"{trained.folder}/fold{{fold}}.safetensors"
    succeeded("train", own, *IDLE, "--teacher", teacher, "--all-clips", "-o", tmp_path / "run")
    assert list(checkpoints(tmp_path / "run")) == ["own.safetensors"]


def test_teachers_of_folds_alone_cannot_teach_the_final_checkpoint(trained: Trained, own: Path, tmp_path: Path) -> None:
    for fold in range(1, 6):
        shutil.copy(trained.folder / f"fold{fold}.safetensors", tmp_path)
    teacher = f"{tmp_path}/fold{{fold}}.safetensors"
    refused(run("train", own, *IDLE, "--teacher", teacher, "-o", tmp_path / "run"), "for the checkpoint from all clips")


# --- starts from a run ---


@pytest.mark.parametrize("how", [settings(epochs=1), ("--freeze",)])
def test_each_fold_starts_from_the_checkpoint_that_never_heard_it(
    three: Trained, tmp_path: Path, how: tuple[str, ...]
) -> None:
    """A later call may continue with other folds."""
    data, model = three.folder / "own" / "clips.csv", f"{three.folder}/run/fold{{fold}}.safetensors"
    train = ("train", data, "-m", model, *how, "-o", tmp_path)
    succeeded(*train, "--fold", "1")
    printed = succeeded(*train, "--resume")
    assert [fold for fold, _ in re.findall(ACCURACY, printed, re.MULTILINE)] == ["1", "2", "3"]
    started = [read_header(path)["training"]["backbone"]["name"] for path in sorted(tmp_path.glob("*.safetensors"))]
    assert started == ["clips", "clips-fold1", "clips-fold2", "clips-fold3"]
    assert report_of(tmp_path / "report")["facts"]["start"] == {"name": model}


# --- mistakes ---


def corrupt(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ESC-50-master/meta/esc50.csv", "filename\n" * 500)
    path.write_bytes(path.read_bytes()[:-60])
    return path


def texts(path: Path) -> Path:
    (path / "notes").mkdir(parents=True)
    (path / "notes" / "readme.txt").write_text("no sound")
    return path


def one_bell(path: Path) -> Path:
    make(path, 2)
    (path / "bell" / "1.wav").unlink()
    return path


def damaged_bells(path: Path) -> Path:
    for each in (make(path, 2) / "bell").iterdir():
        each.write_text(f"no sound {each}")
    return path


def one_fold(path: Path) -> Path:
    return listed(make(path, 2), 1)


def written(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_text(text)
        return path

    return write


BAD_DATA: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "missing": ("data", lambda path: path, "no such file or folder"),
    "corrupt zip": ("data.zip", corrupt, "not a ZIP archive that can be unpacked"),
    "empty folder": ("data", lambda path: path.mkdir() or path, "no folders of sounds here"),
    "folder without audio": ("data", texts, "no folders of sounds here"),
    "label with one clip": ("data", one_bell, "'bell' has 1 recording; a label needs at least 2"),
    "label without a whole clip": ("data", damaged_bells, "no usable clip is left of bell"),
    "all in one fold": ("data", one_fold, "all labelled clips are in fold 1; nothing is left to learn from"),
    "text": ("data.txt", written("no data"), "neither a CSV nor a ZIP archive"),
    "other columns": ("data.csv", written("name,class\na.wav,dog\n"), "line 1 must name the columns"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_cannot_be_trained_on(kind: str, tmp_path: Path) -> None:
    name, make_it, words = BAD_DATA[kind]
    refused(run("train", make_it(tmp_path / name), *IDLE, "--fold", "1", "-o", tmp_path / "run"), words)
    assert not (tmp_path / "run").exists()


def test_without_data_there_must_be_esc_50_at_home(home: Path) -> None:
    refused(run("train", *IDLE), str(home / "esc50"), "https://github.com/karolpiczak/ESC-50")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--recipe", "crn"), "no recipe 'crn'; did you mean crnn"),
        (("--set", "learningrate=1"), "a recipe has no field 'learningrate'; did you mean learning_rate"),
        (("--set", "epochs=many"), "epochs=many: not a value for epochs"),
        (("--set", "roll=1.5"), "roll 1.5 must be between 0 and 1"),
        (("--set", "roll"), "--set roll: must be FIELD=VALUE"),
        (("--set", "crop_seconds=6"), "crop_seconds 6: a window has only 5 s"),
        (("--epochs", "0"), "--epochs"),
        (("--fold", "9"), "--fold"),
        (("--all-clips", "--fold", "1"), "--all-clips holds nothing out"),
        (("--freeze", "--recipe", "crnn"), "--freeze is the recipe `head`, not crnn"),
        (("--freeze", "-m", "crnn"), "--freeze"),
        (("--freeze", "--teacher", "esc50"), "learns from the labels"),
        (("--recipe", "stream", "--teacher", "esc50"), "learns from the labels"),
        (("-m", "crnn", "--recipe", "crnn-pretrained", "--teacher", "esc50"), "--teacher: with epochs=0"),
        (("--recipe", "stream", "-m", "crnn"), "a CRNN has no"),
        (("-m", "crnn", "--start", "audioset"), "nobody has published such weights of crnn"),
        (("-m", "mn04"), "`tagger models download mn04`"),
        (("-m", "mn04", "--freeze"), "`tagger models download mn04`"),
        (("-m", "mn11"), "no network 'mn11'; did you mean mn"),
        (("-m", "nobody"), "no model 'nobody'"),
        (("-m", "esc50", "--start", "audioset"), "esc50 has its own weights"),
        (("--device", "quantum"), "--device quantum"),
        (("--esc10",), "ESC-10 is a part of ESC-50, and this is not it"),
        (("--add", "nowhere"), "nowhere: no such folder"),
        (("--background", "nowhere"), "nowhere: no background sounds here"),
    ],
)
def test_flags_that_cannot_be(own: Path, tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    usual = () if "-m" in flags else ("-m", "mn01")
    start = () if {"-m", "--start"} & set(flags) else ("--start", "nothing")
    refused(run("train", own, *usual, *start, *flags, "-o", tmp_path / "run"), words)
    assert not (tmp_path / "run").exists()


# --- recipes ---


def test_recipes_are_listed_with_what_each_changes() -> None:
    lines = {line.split()[0]: line for line in succeeded("recipes").splitlines()}
    assert list(lines) == list(RECIPES)
    assert "trainable=head" in lines["head"]
    assert "the usual settings" in lines["finetune"]


def test_recipes_as_json_are_whole() -> None:
    found = {each["name"]: each["settings"] for each in map(json.loads, succeeded("recipes", "--json").splitlines())}
    assert found == {name: json.loads(json.dumps(recipe.to_document())) for name, recipe in RECIPES.items()}


# --- several processes ---


RUNS = ("alone", "together")
MEASURED = ("train_loss", "train_accuracy", "inner_loss", "inner_accuracy", "learning_rate")


def test_two_processes_train_as_one_does_and_speak_with_one_voice(tmp_path: Path) -> None:
    """Without what each draws for itself: dropout, and changes of spectrograms."""
    drawn = ["jitter_low_hz", "jitter_high_hz", "bandwidth", "warp_bands", "warp_frames", "equalise_db"]
    still = dict.fromkeys(["dropout", *drawn, "mask_bands", "mask_frames"], 0)
    alike = settings(epochs=2, batch=8, frozen_norm=True, mixed_precision=False, **still)
    data = make(tmp_path / "own", 3)  # too few for every fold; a warning says so
    train = ("train", data, "-m", "crnn", *alike, "--fold", "1", "-o")
    alone = succeeded(*train, tmp_path / "alone")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")
    done = subprocess.run(
        [*torchrun, "tagger", *map(str, train), str(tmp_path / "together")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert without_numbers(done.stdout) == without_numbers(alone).replace("alone", "together")
    one, two = (report_of(tmp_path / run / "report") for run in ("alone", "together"))
    for ours, theirs in zip(one["curves"]["fold 1"]["epochs"], two["curves"]["fold 1"]["epochs"], strict=True):
        assert [theirs[key] for key in MEASURED] == pytest.approx([ours[key] for key in MEASURED], abs=2e-3)
    scores = [[float(row["score"]) for row in rows_of(tmp_path / run / "report" / "predictions.csv")] for run in RUNS]
    assert scores[1] == pytest.approx(scores[0], abs=5e-3)


def without_numbers(text: str) -> str:
    return re.sub(r"[\d.]+", "0", text)
