"""`tagger models opinion`: an official network's upper layers in a checkpoint that was trained from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.checkpoints import checkpoint, second
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.opinion import read_constants
from tagger.checkpoints.release import audioset_labels
from tagger.engine.runtime import open_model
from tagger.engine.runtime_torch import Classifier
from tagger.features.config import MelConfig
from tagger.models.config import EfficientATConfig
from tagger.models.efficientat import EfficientAT
from tests.programs import refused, run

LABELS = ("dog", "Doorbell")


def saved(path: Path, labels: tuple[str, ...], model: EfficientAT, **more: object) -> Path:
    info = CheckpointInfo(
        name=path.stem,
        architecture="efficientat",
        config=model.config,
        mel=MelConfig(),
        window_seconds=1.0,
        labels=labels,
        activation="sigmoid",
        thresholds=(0.5,) * len(labels),
        **more,  # type: ignore[arg-type]
    )
    checkpoint.save(path, info, model, half=True)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An official network `mn04_as`, narrower than the real one, and `mine`, which was trained from it."""
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / "models"
    torch.manual_seed(0)
    other = EfficientAT(EfficientATConfig(labels=527, width=0.1)).eval()
    torch.manual_seed(1)
    mine = EfficientAT(EfficientATConfig(labels=2, width=0.1, moments=True)).eval()
    for ours, theirs in zip(mine.blocks[:10], other.blocks[:10], strict=True):
        ours.load_state_dict(theirs.state_dict())
    saved(models / "mn04_as.safetensors", audioset_labels(), other, training={"recipe": "official", "data": "AudioSet"})
    saved(models / "mine.safetensors", LABELS, mine, training={"backbone": {"name": "mn04_as"}})
    return models


def sound() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 32_000)).astype(np.float32) / 10


def test_a_checkpoint_gets_the_opinion_of_the_network_that_it_was_trained_from(home, tmp_path):
    out = tmp_path / "new" / "mine.safetensors"
    done = run("models", "opinion", "mine", "--bias", "0.25", "-o", out)
    assert done.exit_code == 0, done.output
    assert "shares 10 layers with its second opinion" in done.stdout
    loaded, before = checkpoint.load(out), Classifier(checkpoint.load(home / "mine.safetensors"), "cpu")
    opinion = loaded.info.opinion
    assert opinion.classes == audioset_labels()
    assert opinion.means == (("Dog", "Bark", "Yip", "Howl", "Bow-wow", "Growling", "Whimper (dog)"), ("Doorbell",))
    assert opinion.mean == tuple(read_constants()["usual"]["mn04_as"]["mean"])
    assert opinion.bias == 0.25
    classify = Classifier(loaded, "cpu")
    outputs, plain = classify.outputs(sound()), before.outputs(sound())
    assert outputs.logits == pytest.approx(plain.logits, abs=1e-5)
    other = Classifier(checkpoint.load(home / "mn04_as.safetensors"), "cpu").outputs(sound())
    assert outputs.opinion == pytest.approx(other.logits, abs=1e-2)  # half precision
    found = classify(sound())
    expected = 1 / (1 + np.exp(-opinion(outputs.logits, outputs.opinion)))
    assert found.values == pytest.approx(expected, abs=1e-5)
    assert found.plain == pytest.approx(before(sound()).values, abs=1e-5)
    assert found.other == opinion.rather(outputs.opinion, LABELS)
    assert not graph_of(out).exists()  # mine had none


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_graph_is_written_anew_and_both_runtimes_agree(home):
    assert run("export", "mine").exit_code == 0
    done = run("models", "opinion", "mine")
    assert done.exit_code == 0, done.output
    assert done.stdout.count(" MB") == 2
    onnx, torchs = open_model("mine", "onnx"), open_model("mine", "torch", "cpu")
    assert onnx.outputs(sound()).opinion == pytest.approx(torchs.outputs(sound()).opinion, abs=1e-4)
    assert onnx(sound()).values == pytest.approx(torchs(sound()).values, abs=1e-5)
    assert onnx(sound()).other == torchs(sound()).other


def test_it_can_be_given_again(home):
    assert run("models", "opinion", "mine").exit_code == 0
    assert run("models", "opinion", "mine", "--bias", "2").exit_code == 0
    assert checkpoint.load(home / "mine.safetensors").info.opinion.bias == 2


@pytest.mark.parametrize(
    ("labels", "table", "words"),
    [
        (("dog", "gong of mine"), None, ("gong of mine", "--classes")),
        (("dog", "gong of mine"), "label,classes\ngong of mine,Gongg\n", ("'Gongg' is no class of mn04_as",)),
        (("dog", "gong of mine"), "sound,classes\n", ("columns label and classes",)),
    ],
)
def test_labels_that_no_class_means_need_a_table(labels, table, words, home, tmp_path):
    loaded = checkpoint.load(home / "mine.safetensors")
    checkpoint.save(home / "mine.safetensors", replace(loaded.info, labels=labels), loaded.model)
    more = ["--classes", tmp_path / "a.csv"] if table else []
    (tmp_path / "a.csv").write_text(table or "")
    refused(run("models", "opinion", "mine", *more), *words)


def test_a_table_of_ones_own_names_them(home, tmp_path):
    (tmp_path / "a.csv").write_text("label,classes\nDoorbell,Doorbell; Ding-dong\n")
    assert run("models", "opinion", "mine", "--classes", tmp_path / "a.csv").exit_code == 0
    assert checkpoint.load(home / "mine.safetensors").info.opinion.means[1] == ("Doorbell", "Ding-dong")


def test_a_head_on_the_official_network_has_its_share(home, tmp_path, monkeypatch):
    constants = read_constants()
    constants["weights"]["share"] = 0.5
    monkeypatch.setattr(second, "read_constants", lambda: constants)
    torch.manual_seed(2)
    head = EfficientAT(EfficientATConfig(labels=3, width=0.1, head="linear", moments=True, joint=False)).eval()
    made = {"recipe": "head", "backbone": {"name": "mn04_as"}, "trained_on": ["b"]}
    labels = ("Doorbell", "cat", "dog")
    saved(tmp_path / "head.safetensors", labels, head, training=made, temperature=2.0, bias=0.5)
    assert run("models", "opinion", "mine", "--head", tmp_path / "head.safetensors").exit_code == 0
    loaded = checkpoint.load(home / "mine.safetensors")
    outputs = Classifier(loaded, "cpu").outputs(sound())
    pooled = Classifier(checkpoint.load(home / "mn04_as.safetensors"), "cpu").outputs(sound()).embedding
    last = head.classifier[-1]
    expected = (pooled @ last.weight[[2, 0]].detach().numpy().T + last.bias[[2, 0]].detach().numpy()) / 2 + 0.5
    assert outputs.second == pytest.approx(expected, abs=1e-2)
    assert (loaded.info.opinion.share, loaded.info.training["trained_on"]) == (0.5, ["b"])
    with pytest.raises(ValueError, match="share needs a second last layer"):
        replace(loaded.info, config=replace(loaded.info.config, seconded=False))


def test_what_was_measured_with_a_head_counts_with_one_only(home, monkeypatch):
    constants = read_constants()
    constants["models"]["mine"] = {"bias": 3.0, "thresholds": dict.fromkeys(LABELS, 0.9)}
    monkeypatch.setattr(second, "read_constants", lambda: constants)
    assert run("models", "opinion", "mine").exit_code == 0
    info = checkpoint.load(home / "mine.safetensors").info
    assert (info.opinion.bias, info.opinion.share, info.thresholds) == (constants["bias"], 0.0, (0.5, 0.5))


def test_another_kind_of_head_is_refused(home):
    refused(run("models", "opinion", "mine", "--head", "mine"), "--head mine: is no single linear layer on mn04_as")


def test_what_has_no_second_opinion_is_said(home):
    refused(run("models", "opinion", "mine", "--of", "mine"), "no official AudioSet network")
    refused(run("models", "opinion", "esc50-crnn", "--of", "mn04_as"), "shares fewer than 4 layers")
    loaded = checkpoint.load(home / "mine.safetensors")
    checkpoint.save(home / "mine.safetensors", replace(loaded.info, training={}), loaded.model)
    refused(run("models", "opinion", "mine"), "--of NAME")
    other = checkpoint.load(home / "mn04_as.safetensors")
    checkpoint.save(home / "mn01_as.safetensors", replace(other.info, name="mn01_as"), other.model)
    refused(run("models", "opinion", "mine", "--of", "mn01_as"), "usual logits of mn01_as are not known")


def test_a_section_that_does_not_fit_its_network_is_refused(home):
    assert run("models", "opinion", "mine").exit_code == 0
    loaded: Checkpoint = checkpoint.load(home / "mine.safetensors")
    info = loaded.info
    with pytest.raises(ValueError, match="0 outputs for a second opinion"):
        replace(info, config=replace(info.config, opinion=0))
    with pytest.raises(ValueError, match="527 outputs for a second opinion"):
        replace(info, opinion=None)
    with pytest.raises(ValueError, match="and 1 label, for"):
        replace(info, opinion=replace(info.opinion, means=info.opinion.means[:1]))
    with pytest.raises(ValueError, match="sigmoid only"):
        replace(info, activation="softmax")
