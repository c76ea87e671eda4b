from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tagger.checkpoints import checkpoint
from tagger.checkpoints.add import add
from tagger.checkpoints.info import CheckpointInfo
from tagger.errors import CheckpointError, UserError
from tagger.features.config import FRONT_ENDS, MelConfig
from tagger.files import sha256
from tagger.models.config import DYMN_WIDTHS, WIDTHS, CRNNConfig, EfficientATConfig
from tagger.models.crnn import CRNN
from tagger.models.network import build
from tests.trainings import mn_backbone
from train.fit.backbone import load_backbone, network_config, others_of
from train.recipe import RECIPES, Recipe

FINETUNE, HEAD, CRNN_RECIPE = RECIPES["finetune"], RECIPES["head"], RECIPES["crnn"]
SMALL = CRNNConfig(labels=2, channels=(4, 4, 8, 8), sequence=8, hidden=8)


@pytest.fixture
def mn01(tmp_path) -> Path:
    """EfficientAT's smallest network is here, as after `tagger models add`."""
    torch.manual_seed(3)
    weights = build("efficientat", EfficientATConfig(labels=527, width=0.1)).state_dict()
    for part in (".fc1.", ".fc2."):
        weights = {name.replace(part, f".conc_se_layers.0{part}"): value for name, value in weights.items()}
    torch.save(weights, tmp_path / "mn01_as_mAP_298.pt")
    return add(tmp_path / "mn01_as_mAP_298.pt")


@pytest.fixture
def own(tmp_path) -> Path:
    """A CRNN that the user has trained."""
    info = CheckpointInfo(
        name="mine",
        architecture="crnn",
        config=SMALL,
        mel=FRONT_ENDS["origin"],
        window_seconds=5.0,
        labels=("dog", "cat"),
        activation="softmax",
        thresholds=(0.5, 0.5),
        training={"recipe": "crnn", "trained_on": ["0123456789", "abcdef0123"]},
        licences=("CC BY-NC 3.0",),
    )
    path = tmp_path / "mine.safetensors"
    checkpoint.save(path, info, CRNN(SMALL))
    return path


# Names


@pytest.mark.parametrize("width", WIDTHS)
def test_each_width_of_the_mn_family_has_a_name(width):
    assert network_config(f"mn{round(10 * width):02d}") == ("efficientat", EfficientATConfig(labels=1, width=width))


@pytest.mark.parametrize("width", DYMN_WIDTHS)
def test_each_width_of_the_dymn_family_has_a_name(width):
    found = network_config(f"dymn{round(10 * width):02d}")
    assert found is not None
    assert (found[0], found[1].width) == ("dymn", width)


@pytest.mark.parametrize("name", ["mn4", "mn004", "mine", "mn04_as", "esc50", "", "CRNN", "runs/mn04.safetensors"])
def test_all_else_is_no_networks_name(name):
    assert network_config(name) is None


@pytest.mark.parametrize(("name", "others"), [("mn03", "mn[0-4]0"), ("mn00", "mn[0-4]0"), ("dymn05", "dymn04")])
def test_widths_that_do_not_exist_are_told_others(name, others):
    with pytest.raises(UserError, match=f"no network '{name}'.* {others}"):
        network_config(name)


# Weights that are not here


def test_weights_that_can_be_downloaded_are_said_how():
    with pytest.raises(UserError) as caught:
        load_backbone("mn04", None, FINETUNE)
    message = str(caught.value)
    assert "audioset weights of mn04 are not here" in message
    assert "`tagger models download mn04`" in message
    assert "`tagger models add FILE`" in message


@pytest.mark.parametrize(("name", "start"), [("mn04", "imagenet"), ("mn01", "audioset"), ("dymn04", None)])
def test_weights_that_cannot_be_downloaded_are_said_how_to_add(name, start):
    with pytest.raises(UserError) as caught:
        load_backbone(name, start, FINETUNE)
    assert f"{start or 'audioset'} weights of {name} are not here" in str(caught.value)
    assert "download" not in str(caught.value)
    assert "`tagger models add FILE`" in str(caught.value)


def test_weights_that_are_here_but_damaged_are_not_said_to_be_missing(mn01):
    mn01.write_bytes(mn01.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=mn01.name):
        load_backbone("mn01", None, FINETUNE)


@pytest.mark.parametrize("start", ["audioset", "imagenet"])
def test_nobody_has_published_a_crnn(start):
    with pytest.raises(UserError, match=f"--start {start}.*crnn"):
        load_backbone("crnn", start, CRNN_RECIPE)


@pytest.mark.parametrize("start", ["audioset", "imagenet", "nothing"])
def test_a_checkpoint_brings_its_own_weights(own, start):
    with pytest.raises(UserError, match=f"--start {start}.*own weights"):
        load_backbone(str(own), start, FINETUNE)


def test_a_checkpoint_that_is_not_there():
    with pytest.raises(CheckpointError, match="no model 'nothing-of-the-kind'"):
        load_backbone("nothing-of-the-kind", None, FINETUNE)


# Published weights


def test_published_weights_are_kept_but_for_the_last_layer(mn01):
    given = checkpoint.load(mn01).model.state_dict()
    start = load_backbone("mn01", None, replace(FINETUNE, head="mlp"))
    model = start.build(3)
    last = model.last_layer
    found = model.state_dict()
    assert last == "classifier.5."
    assert {name for name in found if not torch.equal(found[name], given[name])} == {f"{last}weight", f"{last}bias"}
    assert found[f"{last}weight"].shape[0] == 3
    assert (start.architecture, start.digest) == ("efficientat", sha256(mn01))
    assert start.licences == checkpoint.load(mn01).info.licences
    assert start.trained_on == ()


def test_audioset_is_what_mn_networks_start_from(mn01):
    assert (
        load_backbone("mn01", None, FINETUNE).digest
        == load_backbone("mn01", "audioset", FINETUNE).digest
        == sha256(mn01)
    )


def test_the_last_layer_is_drawn_by_torchs_generator(mn01):
    start = load_backbone("mn01", None, FINETUNE)

    def last(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return start.build(3).state_dict()["classifier.2.weight"]

    assert torch.equal(last(0), last(0))
    assert not torch.equal(last(0), last(1))


def test_a_recipe_says_what_follows_the_pooled_features(mn01):
    assert load_backbone("mn01", None, replace(FINETUNE, head="mlp")).config.head == "mlp"
    assert load_backbone("mn01", None, RECIPES["stream"]).config.head == "mlp"
    assert load_backbone("mn01", None, FINETUNE).config.head == "linear"
    assert load_backbone("mn01", None, HEAD).config.head == "linear"
    model = load_backbone("mn01", None, FINETUNE).build(3)
    assert [type(layer) for layer in model.classifier] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
    given = checkpoint.load(mn01).model.state_dict()
    found = model.state_dict()
    body = [name for name in found if name.startswith("features.")]
    assert len(body) == len(found) - 2
    assert all(torch.equal(found[name], given[name]) for name in body)


def test_the_recipe_decides_the_bandwidth(mn01):
    assert load_backbone("mn01", None, FINETUNE).mel == MelConfig(bandwidth_hz=7_500.0)
    assert load_backbone("mn01", None, replace(FINETUNE, bandwidth_hz=None)).mel == MelConfig()


def test_another_front_end_may_be_learnt_if_it_has_as_many_rows(mn01):
    start = load_backbone("mn01", None, replace(FINETUNE, front_end="origin"))
    assert start.mel == replace(FRONT_ENDS["origin"], bandwidth_hz=7_500.0)
    with pytest.raises(UserError, match="mfcc has 40 rows, mn01_as takes 128"):
        load_backbone("mn01", None, replace(FINETUNE, front_end="mfcc"))


# From nothing


def test_a_network_may_start_from_nothing():
    start = load_backbone("mn01", "nothing", replace(FINETUNE, front_end="mel"))
    assert (start.weights, start.digest, start.licences, start.trained_on) == (None, "mn01", (), ())
    assert start.mel == replace(FRONT_ENDS["mel"], bandwidth_hz=7_500.0)
    torch.manual_seed(0)
    first = start.build(3).state_dict()
    torch.manual_seed(0)
    assert all(torch.equal(value, first[name]) for name, value in start.build(3).state_dict().items())
    assert not torch.equal(start.build(3).state_dict()["features.0.0.weight"], first["features.0.0.weight"])


@pytest.mark.parametrize("start", [None, "nothing"])
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_crnn_is_as_high_as_its_features(start, front_end):
    found = load_backbone("crnn", start, replace(CRNN_RECIPE, front_end=front_end))
    assert found.weights is None
    assert found.config.bands == found.mel.bands == (40 if front_end == "mfcc" else FRONT_ENDS[front_end].bands)
    assert isinstance(found.build(50), CRNN)


@pytest.mark.parametrize("name", ["mn01", "dymn04", "crnn"])
def test_labels_and_dropout_are_set_and_all_else_stays(name):
    start = load_backbone(name, "nothing", FINETUNE)
    assert start.config_for(7) == replace(start.config, labels=7)
    assert start.config_for(7, 0.45) == replace(start.config, labels=7, dropout=0.45)
    assert start.config_for(7, 0.0).dropout == 0.0
    assert start.build(7, 0.45).config == start.config_for(7, 0.45)


# A checkpoint


def test_a_checkpoint_is_a_start_with_its_front_end_and_all_that_it_has_heard(own):
    start = load_backbone(str(own), None, Recipe())
    assert (start.name, start.architecture, start.config) == ("mine", "crnn", SMALL)
    assert start.mel == replace(FRONT_ENDS["origin"], bandwidth_hz=7_500.0)
    assert start.digest == sha256(own)
    assert start.trained_on == ("0123456789", "abcdef0123")
    assert start.licences == ("CC BY-NC 3.0",)


def test_a_checkpoint_may_be_named(own):
    add(own)
    assert load_backbone("mine", None, FINETUNE).digest == sha256(own)


def test_of_a_crnn_all_but_the_two_last_layers_is_kept(own):
    given = checkpoint.load(own).model.state_dict()
    model = load_backbone(str(own), None, CRNN_RECIPE).build(5)
    found = model.state_dict()
    new = {
        name for name in found if found[name].shape != given[name].shape or not torch.equal(found[name], given[name])
    }
    assert new == {f"{layer}.{kind}" for layer in ("classifier", "attention") for kind in ("weight", "bias")}
    assert {name for name in found if name.startswith(model.last_layer)} == new


def test_a_network_of_ones_own_keeps_its_layers_for_the_recipe_head(tmp_path):
    """Its first layer after the pooled features has learnt from the user's sounds; an official one's has not."""
    info = CheckpointInfo(
        name="mine",
        architecture="efficientat",
        config=EfficientATConfig(labels=1, width=0.1, head="mlp"),
        mel=MelConfig(),
        window_seconds=5.0,
        labels=("dog",),
        activation="sigmoid",
        thresholds=(0.5,),
        training={"recipe": "finetune"},
    )
    checkpoint.save(tmp_path / "mine.safetensors", info, checkpoint.build(info))
    assert load_backbone(str(tmp_path / "mine.safetensors"), None, HEAD).config.head == "mlp"


def test_what_was_added_for_its_labels_is_not_carried_over(tmp_path):
    """Steps' last layer and other classes are of the old labels; what they were is learnt anew."""
    config = EfficientATConfig(labels=2, width=0.1, head="mlp", moments=True, others=3)
    info = CheckpointInfo(
        name="mine",
        architecture="efficientat",
        config=config,
        mel=MelConfig(),
        window_seconds=5.0,
        labels=("dog", "cat"),
        activation="sigmoid",
        thresholds=(0.5, 0.5),
        others=("Speech", "Music", "Silence"),
    )
    checkpoint.save(tmp_path / "mine.safetensors", info, checkpoint.build(info))
    start = load_backbone(str(tmp_path / "mine.safetensors"), None, RECIPES["stream"])
    assert start.labels == ("dog", "cat")
    assert start.config_for(5) == replace(config, labels=5, moments=False, others=0)
    assert (start.build(5).moments, start.build(5).others) == (None, None)


# Knowledge from before the training


def heard_by(network: nn.Module, clips: int, seed: int = 0) -> torch.Tensor:
    size = network.classifier[-1].in_features  # type: ignore[index,union-attr]
    return torch.randn(clips, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_class_is_expected_as_far_as_some_label_excites_it(head):
    """For each class, the highest mean over any label's clips; clips without a label do not count."""
    start = mn_backbone(head=head)
    network = start.build(3)
    heard = heard_by(network, 6)
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]])
    others = others_of(network, start, heard, targets)
    assert others is not None
    name = network.last_layer
    weight, bias = (start.weights[f"{name}{part}"] for part in ("weight", "bias"))
    known = (heard @ weight.T + bias).sigmoid()
    expected = torch.stack([known[:2].mean(0), known[2:4].mean(0), known[3]]).amax(0)
    torch.testing.assert_close(others.expected, expected)
    torch.testing.assert_close(others(heard), known * (1 - expected))
    assert not any(each.requires_grad for each in others.parameters())


def test_what_a_label_sounds_like_surprises_less_than_what_none_does():
    start = mn_backbone()
    network = start.build(1)
    heard = heard_by(network, 40)
    targets = torch.zeros(40, 1)
    targets[:20] = 1
    with torch.no_grad():
        heard[:20] = 3 * start.weights["classifier.2.weight"][0] / start.weights["classifier.2.weight"][0].norm() ** 2
    others = others_of(network, start, heard, targets)
    known = others.layer(heard).sigmoid()[:20, 0]
    assert (others(heard)[:20, 0] < 0.3 * known).all()


def test_a_label_without_clips_expects_nothing():
    start = mn_backbone()
    network = start.build(2)
    heard = heard_by(network, 3)
    others = others_of(network, start, heard, torch.tensor([[1.0, 0]] * 3))
    alone = others_of(network, start, heard, torch.ones(3, 1))
    torch.testing.assert_close(others.expected, alone.expected)
    nothing = others_of(network, start, heard, torch.zeros(3, 2))
    assert not nothing.expected.any()


def test_networks_that_know_no_others():
    start = mn_backbone()
    network, targets = start.build(2), torch.ones(3, 2)
    heard = heard_by(network, 3)
    assert others_of(network, replace(start, weights=None), heard, targets) is None
    assert others_of(network, replace(start, labels=()), heard, targets) is None  # nobody says what its classes are
    assert others_of(network, start, heard[:, :-8], targets) is None  # the hidden layer before it was left out
    crnn = load_backbone("crnn", None, CRNN_RECIPE)
    assert others_of(crnn.build(2), replace(crnn, weights={}), heard, targets) is None
