from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagger.checkpoints import checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.features.logmel import front_end
from tagger.models.config import DyMNConfig
from tagger.models.network import build
from tagger.stop import Stop
from tests.trainings import (
    HERE,
    LABELS,
    MEL,
    RATE_HZ,
    SAMPLES,
    Never,
    corpus,
    crnn_backbone,
    info_of,
    mn_backbone,
    quiet,
)
from train.augment.scenes import MOST_SOUNDS
from train.augment.views import Views
from train.data import cache
from train.data.corpus import Corpus
from train.fit import activations
from train.fit.backbone import Backbone
from train.fit.stream import StreamLearner, StreamTrainer
from train.fit.trainer import Setup, Trained, TrainingStoppedError
from train.recipe import RECIPES, Recipe

pytestmark = pytest.mark.train

RECIPE = replace(
    RECIPES["stream"],
    epochs=3,
    batch=24,
    frozen_blocks=12,
    mixed_precision=False,
    learning_rate=3e-3,
    head_learning_rate=1e-2,
    average=0.8,
)
DATA = corpus()
BACKBONE = mn_backbone(head="mlp")
HELD_OUT = 5
ROWS = DATA.dataset.all_but(HELD_OUT)
INNER, REST = ROWS[::5], np.setdiff1d(ROWS, ROWS[::5])
SOUNDS, CLIPS = 24, 28
SCENES = RECIPE.scenes
WINDOWS = CLIPS + SOUNDS * 4 + 2 * CLIPS + (SCENES - 2) * SOUNDS


def made(
    recipe: Recipe = RECIPE, backbone: Backbone = BACKBONE, data: Corpus = DATA, seed: int = 0, stop: object = None
) -> StreamTrainer:
    """With its windows made, or found."""
    one = StreamTrainer(Setup(backbone, recipe, data, seed, HERE))
    one.windows(stop)  # type: ignore[arg-type]
    return one


def finished(one: StreamTrainer, folder: Path, stop: object = Never()) -> Trained:
    return one.run(REST, INNER, folder, quiet, stop)  # type: ignore[arg-type]


def weights(found: Trained) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in found.model.state_dict().items()}


def outcome(found: Trained) -> tuple[object, ...]:
    """All but the weights, and but the time that it took."""
    curve = tuple(replace(row, seconds=0.0) for row in found.curve)
    return found.temperature, found.bias, found.threshold, found.surprise, found.others, curve, found.details


def assert_same(one: Trained, other: Trained) -> None:
    assert outcome(one) == outcome(other)
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def kept() -> set[str]:
    return {path.name for path in cache.folder().glob("windows-*")}


@pytest.fixture(scope="module")
def windows_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def shared_windows(windows_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are made once for all tests, but for those that are about that."""
    monkeypatch.setenv("TAGGER_HOME", str(windows_home))


@pytest.fixture
def fresh(home: Path, shared_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is empty."""
    monkeypatch.setenv("TAGGER_HOME", str(home))


@pytest.fixture(scope="module")
def trained(windows_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Without a break."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAGGER_HOME", str(windows_home))
        yield finished(made(), tmp_path_factory.mktemp("run"))


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of windows that were made, batch by batch."""
    seen: list[int] = []

    def noted(mel):
        module = front_end(mel)
        module.register_forward_hook(lambda module, given, made: seen.append(len(made)))
        return module

    monkeypatch.setattr(activations, "front_end", noted)
    return seen


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Windows that would be learnt from, batch by batch; nothing is."""
    seen: list[Tensor] = []

    def noted(self, chosen, epoch, step):
        seen.append(chosen)
        return 0.0, 0.0, 0.0

    monkeypatch.setattr(StreamLearner, "step", noted)
    return seen


class AfterBatches:
    """Stands in for tagger.stop.Stop: interrupts after `count` looks at it."""

    def __init__(self, count: int) -> None:
        self._left = count

    @property
    def interrupted(self) -> bool:
        self._left -= 1
        return self._left < 0


# Windows


def test_windows_of_every_clip_in_every_view():
    found = made().windows()
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(found, WINDOWS)
    counts = np.bincount(found["row"])
    assert (counts[:SOUNDS] == 1 + 4 + SCENES).all()
    assert (counts[SOUNDS:] == 1 + 2).all()  # background: once as it is, and in two scenes
    assert found["is_plain"].sum() == CLIPS
    assert found["sounds"].shape == (WINDOWS, MOST_SOUNDS)
    assert found["maps"].dtype == found["hidden"].dtype == torch.float16


def test_more_scenes_are_no_more_probable():
    recipe = replace(RECIPE, scenes=12)
    few, many = made().windows(), made(recipe).windows()
    assert len(many["row"]) == CLIPS + SOUNDS * 4 + 4 * CLIPS + 8 * SOUNDS  # background in a third of the draws
    for row in (0, SOUNDS):
        chances = [float(each["weight"][each["row"] == row].sum() / each["weight"].sum()) for each in (few, many)]
        assert chances[0] == pytest.approx(chances[1])


def test_what_is_known_of_the_moments_is_of_sounds_that_are_there():
    found = made().windows()
    nobody = found["sounds"] < 0
    assert not found["active"][nobody].any()
    assert found["has_steps"][nobody.all(1)].all()  # a window without sounds has known steps: nothing is heard
    assert not found["has_steps"][found["is_plain"] & ~nobody.all(1)].any()
    assert not found["active"][~found["has_steps"]].any()
    assert found["active"][found["has_steps"] & ~nobody.all(1)].any(2).any(1).all()


def test_steps_are_as_many_as_the_network_has():
    network = BACKBONE.build(len(LABELS)).eval()
    with torch.inference_mode():
        steps = network.outputs(front_end(MEL)(torch.zeros(1, SAMPLES))).steps.shape[1]
    assert made().windows()["active"].shape[2] == steps


def test_lower_and_upper_blocks_are_the_network():
    one = made()
    found, network = one.windows(), one.network()
    plain = torch.nonzero(found["is_plain"])[:, 0]
    with torch.inference_mode():
        log_mel = front_end(MEL)(torch.from_numpy(DATA.waveforms.windows))  # type: ignore[attr-defined]
        hidden = network.classifier[:-1](network.features(log_mel))  # type: ignore[index,operator]
        high = torch.nn.Sequential(*network.blocks[RECIPE.frozen_blocks :])(found["maps"][plain].float())  # type: ignore[index]
        assert torch.equal(found["row"][plain], torch.arange(CLIPS))
        torch.testing.assert_close(found["hidden"][plain].float(), hidden, atol=5e-3, rtol=5e-3)
        torch.testing.assert_close(network.classifier[:-1](high), hidden, atol=2e-2, rtol=2e-2)  # type: ignore[index]


def test_windows_are_made_once_and_then_found(fresh, extracted):
    first = made().windows()
    assert sum(extracted) == WINDOWS
    before = kept()
    extracted.clear()
    second = made(replace(RECIPE, epochs=7, learning_rate=1e-4, surprise=0.5)).windows()
    assert extracted == []
    assert kept() == before
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("change", ["weights", "mel", "data", "seed", "blocks", "head"])
def test_a_changed_setting_makes_others(fresh, extracted, change):
    first, before = made().windows(), kept()
    extracted.clear()
    backbone, data, seed, recipe = BACKBONE, DATA, 0, RECIPE
    if change == "weights":
        backbone = mn_backbone(1, "mlp")
    elif change == "mel":
        backbone = replace(backbone, mel=replace(MEL, bandwidth_hz=3_000.0))
    elif change == "data":
        clips = DATA.dataset.clips
        clips = (replace(clips[0], sha256="0" * 64), *clips[1:])
        data = replace(DATA, dataset=replace(DATA.dataset, clips=clips))
    elif change == "blocks":
        recipe = replace(RECIPE, frozen_blocks=13)
    elif change == "head":
        backbone = mn_backbone(0, "linear")
    else:
        seed = 1
    found = made(recipe, backbone, data, seed).windows()
    assert sum(extracted) == WINDOWS
    assert before < kept()
    if change != "data":
        assert not torch.equal(found["maps"], first["maps"]) or not torch.equal(found["hidden"], first["hidden"])


def test_an_interruption_keeps_the_views_that_are_whole(fresh, extracted):
    with pytest.raises(TrainingStoppedError):
        made(stop=AfterBatches(3))  # a batch a view
    assert len(kept()) == 3
    done = sum(extracted)
    extracted.clear()
    made(stop=Never())
    assert sum(extracted) == WINDOWS - done


def test_windows_are_the_views_that_validation_listens_to():
    """The stored maps of one clip equal the lower blocks' output for its views."""
    one = made()
    found, network = one.windows(), one.network()
    of_clip = torch.nonzero((found["row"] == 3) & ~found["is_plain"] & (found["sounds"][:, 0] == 3))[:, 0]
    window = Views(DATA.waveforms, RATE_HZ, 0).window(3, "placed")
    with torch.inference_mode():
        low = front_end(MEL)(torch.from_numpy(window[None]))
        for block in network.blocks[: RECIPE.frozen_blocks]:  # type: ignore[index]
            low = block(low)
    torch.testing.assert_close(found["maps"][of_clip[0]].float(), low[0], atol=5e-3, rtol=5e-3)


# Training


def test_training_lowers_the_loss(trained):
    losses = [row.train_loss for row in trained.curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.6 * losses[0]
    assert trained.curve[-1].inner_loss < trained.curve[0].inner_loss
    assert [row.epoch for row in trained.curve] == [1, 2, 3]
    assert trained.kept_epoch == 3


def test_it_learns_to_tell_the_sounds_apart(tmp_path):
    found = finished(made(replace(RECIPE, epochs=12)), tmp_path)
    with torch.inference_mode():
        said = found.model(front_end(MEL)(torch.from_numpy(DATA.waveforms.batch(ROWS))))  # type: ignore[attr-defined]
    labelled = DATA.targets[ROWS].any(1)
    right = said[labelled].argmax(1) == DATA.targets[ROWS][labelled].argmax(1)
    assert right.float().mean() > 0.8


def test_what_is_found_can_be_told(trained):
    assert not trained.model.training
    assert not any(each.requires_grad for each in trained.model.parameters())
    assert trained.surprise == RECIPE.surprise
    assert trained.others == BACKBONE.labels
    assert (trained.model.config.moments, trained.model.config.others) == (True, len(BACKBONE.labels))
    assert trained.details.keys() == {"inner_loss", "inner_accuracy", "inner_nothing_announced"}
    assert trained.details["inner_loss"] == trained.curve[-1].inner_loss


def test_the_threshold_is_the_recipes_logit(trained):
    logit = np.log(trained.threshold / (1 - trained.threshold))
    assert (logit - trained.bias) * trained.temperature == pytest.approx(RECIPE.enter_logit, abs=0.05)


def test_lower_blocks_stay_as_they_are(trained):
    before, after = made().network().state_dict(), weights(trained)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    numbers = {int(name.split(".")[1]) for name in changed if name.startswith("features.")}
    assert numbers == set(range(RECIPE.frozen_blocks, 17))
    assert not any(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)
    assert {name for name in after if name not in before} == {
        *("moments.weight", "moments.bias", "others.layer.weight", "others.layer.bias", "others.expected")
    }


def test_what_was_known_before_is_learnt_again_and_what_is_expected_stays(trained):
    last = f"classifier.{len(trained.model.classifier) - 1}."
    after = weights(trained)
    assert not torch.equal(after["others.layer.weight"], BACKBONE.weights[f"{last}weight"])
    torch.testing.assert_close(after["others.layer.weight"], BACKBONE.weights[f"{last}weight"], atol=0.1, rtol=0)
    assert ((after["others.expected"] >= 0) & (after["others.expected"] <= 1)).all()


def test_a_network_from_nothing_knows_no_others(tmp_path):
    fresh_backbone = replace(BACKBONE, weights=None, labels=(), digest="mn01")
    found = finished(made(replace(RECIPE, epochs=1), fresh_backbone), tmp_path)
    assert (found.surprise, found.others, found.model.others) == (0.0, (), None)
    assert found.model.config.moments
    assert found.model.config.others == 0


def test_neither_held_out_nor_inner_clips_are_drawn(tmp_path, drawn):
    one = made()
    finished(one, tmp_path)
    rows = one.windows()["row"][torch.cat(drawn)].unique().numpy()
    assert set(rows) == set(REST)
    assert not set(rows) & {*INNER, *DATA.dataset.held_out(HELD_OUT)}


def test_nothing_that_is_drawn_holds_an_inner_clip_as_its_second_sound(tmp_path, drawn):
    one = made()
    finished(one, tmp_path)
    of_every = one.windows()["sounds"].unique().numpy()
    assert set(INNER[INNER < SOUNDS]) <= set(of_every)
    assert not set(one.windows()["sounds"][torch.cat(drawn)].unique().numpy()) & set(INNER)


def test_nothing_that_is_drawn_holds_a_clip_of_the_held_out_fold(tmp_path, drawn):
    one = made()
    finished(one, tmp_path)
    sounds = one.windows()["sounds"][torch.cat(drawn)].unique().numpy()
    folds = {DATA.dataset.clips[row].fold for row in sounds[sounds >= 0]}
    assert HELD_OUT not in folds


def test_nothing_is_drawn_twice_as_often(tmp_path, drawn):
    """Recordings of nothing weigh twice as much as a sound's window of the same view."""
    one = made(replace(RECIPE, epochs=40))
    finished(one, tmp_path)
    found, chosen = one.windows(), torch.cat(drawn)
    plain = chosen[found["is_plain"][chosen]]
    of_nothing = found["row"][plain] >= SOUNDS
    expected = 2 * (REST >= SOUNDS).sum() / (REST < SOUNDS).sum()
    assert of_nothing.sum() / (~of_nothing).sum() == pytest.approx(expected, rel=0.4)


def test_the_same_seed_gives_the_same_network_and_another_another(trained, tmp_path):
    assert_same(finished(made(), tmp_path / "again"), trained)
    other = finished(made(seed=1), tmp_path / "other")
    assert outcome(other) != outcome(trained)


def test_one_set_of_windows_serves_all_splits(trained, tmp_path):
    """A split leaves nothing behind that the next could see."""
    one = made()
    one.run(ROWS[::2], ROWS[1::2], tmp_path / "first", quiet, Never())  # type: ignore[arg-type]
    assert_same(finished(one, tmp_path / "second"), trained)


# Interruptions


@pytest.mark.parametrize("batches", [1, 7, 15])
def test_what_was_interrupted_goes_on_as_if_it_had_not_been(trained, tmp_path, batches):
    with pytest.raises(TrainingStoppedError):
        finished(made(), tmp_path, AfterBatches(batches))
    said: list[str] = []
    resumed = made().run(REST, INNER, tmp_path, said.append, Never())  # type: ignore[arg-type]
    assert_same(resumed, trained)
    assert [line.startswith("continuing") for line in said].count(True) == (1 if batches > 6 else 0)


def test_several_interruptions(trained, tmp_path):
    for batches in (8, 3, 8):
        with pytest.raises(TrainingStoppedError):
            finished(made(), tmp_path, AfterBatches(batches))
    assert_same(finished(made(), tmp_path), trained)


def test_a_state_that_has_the_curve_alone_is_resumed(trained, tmp_path):
    """As this recipe once saved it."""
    with pytest.raises(TrainingStoppedError):
        finished(made(), tmp_path, AfterBatches(8))
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({"curve": content.pop("state")["curve"], **content}, tmp_path / "state.pt")
    assert_same(finished(made(), tmp_path), trained)


def test_what_is_finished_is_not_trained_again(trained, tmp_path):
    finished(made(), tmp_path)
    assert_same(finished(made(), tmp_path, AfterBatches(0)), trained)


def test_a_real_stop_is_understood(tmp_path):
    with Stop() as stop:
        finished(made(replace(RECIPE, epochs=1)), tmp_path, stop)


# The checkpoint


def test_a_checkpoint_says_what_was_trained(trained, tmp_path):
    info, path = info_of(trained, "streams"), tmp_path / "streams.safetensors"
    checkpoint.save(path, info, trained.model)
    loaded = checkpoint.load(path)
    assert loaded.info == info
    windows = DATA.waveforms.windows  # type: ignore[attr-defined]
    one, other = (Classifier(each, "cpu")(windows) for each in (loaded, checkpoint.Checkpoint(info, trained.model)))
    for name in ("values", "activity", "plain"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)
    assert one.other == other.other
    assert (one.values <= one.plain).all()
    checkpoint.save(path, info, trained.model, half=True)
    assert Classifier(checkpoint.load(path), "cpu")(windows).values == pytest.approx(one.values, abs=0.02)


def test_scores_are_those_that_the_threshold_was_chosen_by(trained):
    """Training scores windows by what the lower blocks made of them; the daemon from the samples."""
    run = made()
    learner = run.split(REST, INNER)
    learner.network.load_state_dict(trained.model.state_dict())
    plain = torch.from_numpy(np.flatnonzero(run.windows()["is_plain"].numpy()))
    trained_logits = learner.logits(plain)
    loaded = checkpoint.Checkpoint(info_of(trained, "streams"), trained.model)
    heard = Classifier(loaded, "cpu")(DATA.waveforms.windows)  # type: ignore[attr-defined]
    expected = (trained_logits / trained.temperature + trained.bias).sigmoid().numpy()
    assert heard.values == pytest.approx(expected, abs=0.02)


# Mistakes


def test_a_network_without_such_blocks_is_the_users_mistake():
    with pytest.raises(UserError, match=r"mn and dymn.*crnn"):
        made(backbone=crnn_backbone())


def test_dymn_networks_learn_as_mn_networks_do(fresh, tmp_path):
    torch.manual_seed(0)
    shape = DyMNConfig(labels=7, width=0.1)
    given = build("dymn", shape).state_dict()
    start = replace(BACKBONE, architecture="dymn", config=shape, weights=given, digest="dymn")
    found = finished(made(replace(RECIPE, epochs=1), start), tmp_path)
    assert (found.model.config.moments, found.model.config.others) == (True, 7)
    info = replace(info_of(found, "streams"), architecture="dymn", config=found.model.config)
    checkpoint.save(tmp_path / "dymn.safetensors", info, found.model)
    heard = Classifier(checkpoint.load(tmp_path / "dymn.safetensors"), "cpu")(DATA.waveforms.windows)  # type: ignore[attr-defined]
    assert (heard.values <= heard.plain).all()
