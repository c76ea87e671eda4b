"""The second opinion of what was trained: its classes, usual logits and bias."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tagger.checkpoints import checkpoint
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.checkpoints.opinion import Opinion, read_constants
from tagger.checkpoints.second import last_layer
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.models.efficientat import EfficientAT
from tests.trainings import HERE, MEL, FakeWaveforms, Never, corpus, info_of, mn_backbone, publish, quiet, split
from train.data.corpus import Corpus
from train.data.dataset import Rows, inner_split
from train.fit import head, opinion
from train.fit.backbone import Backbone, load_backbone
from train.fit.head import HeadTrainer
from train.fit.opinion import neutral_bias, second_opinion
from train.fit.trainer import Setup, Trained, TrainingStoppedError
from train.recipe import RECIPES, Recipe

pytestmark = pytest.mark.train

LAYERED = replace(RECIPES["finetune"], opinion_layer=True)
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
    publish(model, MEL)
    return load_backbone("mn04", None, replace(RECIPES["head"], bandwidth_hz=None))


def trained(backbone: Backbone, rows: Rows = REST, inner: Rows = INNER) -> Trained:
    one = HeadTrainer(Setup(backbone, RECIPES["head"], DATA, 0, HERE))
    return one.run(rows, inner, Path("nowhere"), quiet, Never())  # type: ignore[arg-type]


def untrained(backbone: Backbone) -> Trained:
    """The network as training starts."""
    torch.manual_seed(0)
    return Trained(backbone.build(3).eval(), 1.0, 0.0, 0.5)


def given(
    found: Trained,
    backbone: Backbone,
    data: Corpus = DATA,
    said: list[str] | None = None,
    recipe: Recipe = RECIPES["head"],
    rows: Rows = REST,
    stop: object = Never(),
) -> Trained:
    say = quiet if said is None else said.append
    return second_opinion(found, Setup(backbone, recipe, data, 0, HERE), rows, INNER, say, stop)  # type: ignore[arg-type]


def layer_of(found: Trained) -> torch.nn.Linear:
    """The second opinion's last layer for the labels."""
    return found.model.opinion.labels


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


def test_a_layer_for_the_labels_is_the_one_that_a_frozen_head_would_give(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(
        head, "joint_logits", lambda window, steps: window - 100
    )  # so that the head is of windows alone
    inner, rest = inner_split(DATA.dataset, np.union1d(REST, INNER), RECIPES["head"].inner_share, 0)
    frozen = trained(backbone, rest, inner)
    made = {"recipe": "head", "backbone": {"name": "mn04_as"}}
    info = replace(info_of(frozen, "frozen"), training=made)
    checkpoint.save(tmp_path / "frozen.safetensors", info, frozen.model)
    last, _ = last_layer(str(tmp_path / "frozen.safetensors"), info, "mn04_as")
    found = given(untrained(backbone), backbone, recipe=LAYERED)
    assert torch.allclose(layer_of(found).weight, last.weight, atol=1e-5)
    assert torch.allclose(layer_of(found).bias, last.bias, atol=1e-4)
    assert found.model.config.seconded
    assert found.opinion.share == read_constants()["weights"]["share"] > 0
    loaded = Checkpoint(info_of(found, "found"), found.model)
    second = Classifier(loaded, "cpu").outputs(DATA.waveforms.batch(np.arange(24))).second
    assert (second.argmax(1) == DATA.targets.argmax(1).numpy()[:24]).mean() > 0.8


def test_the_layer_learns_from_the_clips_it_is_given_alone(backbone):
    rows, windows, clips = REST[:-3], DATA.waveforms.windows.copy(), list(DATA.dataset.clips)  # type: ignore[attr-defined]
    for row in set(range(len(clips))) - {*rows, *INNER}:
        windows[row] = np.random.default_rng(row).standard_normal(len(windows[row]))
        clips[row] = replace(clips[row], sha256=f"other {row}")
    other = Corpus.of(replace(DATA.dataset, clips=tuple(clips)), FakeWaveforms(windows))  # type: ignore[arg-type]
    found = [given(untrained(backbone), backbone, data, recipe=LAYERED, rows=rows) for data in (DATA, other)]
    assert torch.equal(layer_of(found[0]).weight, layer_of(found[1]).weight)
    assert found[0].opinion == found[1].opinion


def test_a_stop_while_the_layer_is_fitted_is_no_loss(backbone):
    found = untrained(backbone)
    whole = given(found, backbone, recipe=LAYERED)
    with pytest.raises(TrainingStoppedError):
        given(found, backbone, recipe=LAYERED, stop=SimpleNamespace(interrupted=True))
    again = given(found, backbone, recipe=LAYERED)
    assert again.opinion == whole.opinion
    assert torch.equal(layer_of(again).weight, layer_of(whole).weight)


def test_the_layer_takes_part_in_the_bias():
    each = Opinion(("a", "b"), (("a",), ("b",)), (0.0, 0.0), (1.0, 1.0), 0.5, own=0.0, other=0.0, rank=1.0, common=0.0)
    logits, second = np.array([[2.0, -9.0], [-9.0, 3.0]]), np.array([[4.0, -9.0], [-9.0, 5.0]])
    assert neutral_bias(each, logits, np.zeros((2, 2)), np.array([0, 1]), second) == pytest.approx(-1.0)
    assert neutral_bias(each, logits, np.zeros((2, 2)), np.array([0, 1])) == pytest.approx(0.0)


def test_a_frozen_head_is_that_layer_already():
    with pytest.raises(UserError, match="opinion_layer: a last layer alone"):
        replace(RECIPES["head"], opinion_layer=True)
    assert {name for name, each in RECIPES.items() if each.opinion_layer} == {"stream"}


def test_recipes_that_keep_the_lower_layers_have_it_and_others_do_not():
    assert {name for name, each in RECIPES.items() if each.opinion} == {"finetune", "head", "stream"}
    assert not Recipe().opinion


def test_the_network_is_on_the_processor_and_at_rest(backbone):
    model = given(trained(backbone), backbone).model
    assert not model.training
    assert not any(weight.requires_grad for weight in model.opinion.parameters())
    assert all(weight.device == torch.device("cpu") for weight in model.parameters())
