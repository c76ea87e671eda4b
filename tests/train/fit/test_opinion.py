"""The second opinion of what was trained: its classes, usual logits and bias."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.checkpoints import checkpoint
from tagger.checkpoints.info import CheckpointInfo
from tagger.checkpoints.opinion import Opinion, read_constants
from tagger.checkpoints.release import audioset_labels
from tagger.models.efficientat import EfficientAT
from tests.trainings import HERE, MEL, Never, corpus, mn_backbone, quiet, split
from train.data.corpus import Corpus
from train.fit import opinion
from train.fit.backbone import Backbone, load_backbone
from train.fit.head import HeadTrainer
from train.fit.opinion import neutral_bias, second_opinion
from train.fit.trainer import Setup, Trained
from train.recipe import RECIPES, Recipe

pytestmark = pytest.mark.train

DATA = corpus()
REST, INNER = split(DATA)


@pytest.fixture
def backbone(tmp_path, monkeypatch) -> Backbone:
    """A small network that is published under the name of one whose usual logits are known."""
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path))
    small = mn_backbone(head="mlp")
    config = replace(small.config, labels=527)
    model = EfficientAT(config)
    model.load_state_dict(
        model.state_dict() | {name: each for name, each in small.weights.items() if "classifier.5" not in name}
    )
    info = CheckpointInfo(
        name="mn04_as",
        architecture="efficientat",
        config=config,
        mel=MEL,
        window_seconds=1.0,
        labels=audioset_labels(),
        activation="sigmoid",
        thresholds=(0.5,) * 527,
        training={"recipe": "official", "data": "AudioSet"},
    )
    checkpoint.save(tmp_path / "models" / "mn04_as.safetensors", info, model)
    return load_backbone("mn04", None, replace(RECIPES["head"], bandwidth_hz=None))


def trained(backbone: Backbone) -> Trained:
    one = HeadTrainer(Setup(backbone, RECIPES["head"], DATA, 0, HERE))
    return one.run(REST, INNER, Path("nowhere"), quiet, Never())  # type: ignore[arg-type]


def given(found: Trained, backbone: Backbone, data: Corpus = DATA, said: list[str] | None = None) -> Trained:
    say = quiet if said is None else said.append
    return second_opinion(found, backbone, data, REST, INNER, HERE.device, say)


def test_a_head_on_an_official_network_gets_its_opinion(backbone):
    before = trained(backbone)
    found = given(before, backbone)
    assert (found.model.config.shared, found.model.config.opinion) == (17, 527)
    assert found.opinion.mean == tuple(read_constants()["usual"]["mn04_as"]["mean"])
    assert [len(each) for each in found.opinion.means] == pytest.approx([2, 2, 2], abs=1)  # those that its clips excite
    assert before.opinion is None


def test_labels_that_audioset_has_are_meant_by_its_classes(backbone):
    data = replace(DATA, dataset=replace(DATA.dataset, labels=("dog", "doorbell", "hiss_of_mine")))
    means = given(trained(backbone), backbone, data).opinion.means
    assert means[0][:2] == ("Dog", "Bark")
    assert means[1] == ("Doorbell",)


def test_the_bias_keeps_the_median_clip_that_is_right():
    each = Opinion(("a", "b"), (("a",), ("b",)), (0.0, 0.0), (1.0, 1.0), own=1.0, other=0.0, rank=1.0, common=0.0)
    logits = np.array([[2.0, -9.0], [2.0, -9.0], [-9.0, 3.0], [-9.0, 8.0]])
    audioset = np.array([[-1.0, -5.0], [-2.0, -5.0], [-5.0, -4.0], [3.0, -9.0]])
    truth = np.array([0, 0, 1, 0])  # the last is wrong, and does not count
    assert neutral_bias(each, logits, audioset, truth) == pytest.approx(2.0)


def test_a_network_that_is_not_official_or_was_changed_has_none(backbone):
    found, said = trained(backbone), list[str]()
    assert given(found, replace(backbone, official=None), said=said) is found
    assert said == []
    other = replace(found, model=EfficientAT(replace(found.model.config)))
    assert given(other, backbone, said=said) is other
    assert said == ["no second opinion: too few of the first layers are as they were"]
    softmax = replace(found, activation="softmax")
    assert given(softmax, backbone) is softmax


def test_a_fine_tuned_network_shares_the_layers_that_were_frozen(backbone):
    found = trained(backbone)
    with torch.no_grad():
        for block in found.model.blocks[RECIPES["finetune"].frozen_blocks :]:
            for weight in block.parameters():
                weight.mul_(1.01)
    assert given(found, backbone).model.config.shared == RECIPES["finetune"].frozen_blocks


def test_what_is_usual_is_learnt_from_enough_clips_alone(backbone, monkeypatch):
    monkeypatch.setattr(opinion, "read_constants", lambda: {"usual": {}, "weights": {}})
    found, said = trained(backbone), list[str]()
    assert given(found, backbone, said=said) is found
    assert "what is usual for mn04_as is not known" in said[0]
    monkeypatch.setattr(opinion, "LEAST_CLIPS", 10)
    monkeypatch.setattr(opinion, "LEAST_LABELS", 3)
    assert len(set(given(found, backbone).opinion.mean)) > 100


def test_recipes_that_keep_the_lower_layers_have_it_and_others_do_not():
    assert {name for name, each in RECIPES.items() if each.opinion} == {"finetune", "head", "stream"}
    assert not Recipe().opinion


def test_the_network_is_on_the_processor_and_at_rest(backbone):
    model = given(trained(backbone), backbone).model
    assert not model.training
    assert not any(weight.requires_grad for weight in model.opinion.parameters())
    assert all(weight.device == torch.device("cpu") for weight in model.parameters())
