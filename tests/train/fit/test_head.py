from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError
from tagger.features.logmel import front_end
from tagger.models.efficientat import joint_logits
from tests.trainings import (
    HERE,
    MEL,
    Never,
    corpus,
    crnn_backbone,
    info_of,
    logits,
    mn_backbone,
    quiet,
    split,
)
from train.data import cache
from train.data.corpus import Corpus
from train.fit import embeddings, head, logistic
from train.fit.backbone import Backbone
from train.fit.embeddings import DRAWS, SCENES, Embedder
from train.fit.head import L2_CANDIDATES, SURPRISE, HeadTrainer
from train.fit.trainer import Setup, Trained, TrainingStoppedError
from train.recipe import RECIPES

pytestmark = pytest.mark.train

VIEWS = sum(DRAWS.values())
DATA = corpus()
REST, INNER = split(DATA)
SCENE_DRAWS = -(-SCENES // len(DATA.waveforms))
WINDOWS = (VIEWS + SCENE_DRAWS) * len(DATA.waveforms)
"""Windows that features are made of."""


def made(backbone: Backbone | None = None, data: Corpus = DATA, seed: int = 0, stop: object = None) -> HeadTrainer:
    """With its features computed, or found."""
    one = HeadTrainer(Setup(backbone or mn_backbone(), RECIPES["head"], data, seed, HERE))
    one.embeddings(stop)  # type: ignore[arg-type]
    return one


def fitted(one: HeadTrainer) -> Trained:
    return one.run(REST, INNER, Path("nowhere"), quiet, Never())  # type: ignore[arg-type]


@pytest.fixture
def extracted(monkeypatch) -> list[int]:
    """Numbers of windows that features were made of, batch by batch."""
    seen: list[int] = []

    def noted(mel):
        module = front_end(mel)
        module.register_forward_hook(lambda module, given, made: seen.append(len(made)))
        return module

    monkeypatch.setattr(embeddings, "front_end", noted)
    return seen


def kept() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.folder().iterdir()}


def right(found: Trained, rows: np.ndarray) -> float:
    rows = rows[DATA.targets[rows].any(1).numpy()]
    said = logits(found.model, DATA, rows).argmax(1)
    return float((said == DATA.targets[rows].argmax(1)).float().mean())


def weights(found: Trained) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in found.model.state_dict().items()}


# Features


def test_every_clip_is_heard_in_every_view():
    found, size = made().embeddings(), mn_backbone().build(3).embedding_size
    assert {view: len(many) for view, many in found.views.items()} == DRAWS
    for many in found.views.values():
        for each in many:
            assert each.shape == (len(DATA.waveforms), size)


def test_what_the_last_layer_sees_is_what_it_is_fitted_to():
    one = made()
    network = one.network
    with torch.inference_mode():
        spectrograms = front_end(MEL)(torch.from_numpy(DATA.waveforms.batch(np.arange(3))))
        last = network.classifier[-1]
        assert torch.allclose(last(one.embeddings().views["plain"][0][:3]), network(spectrograms), atol=1e-5)


def test_draws_of_the_placed_view_differ():
    first, second, *_ = made().embeddings().views["placed"]
    assert not torch.equal(first, second)


def test_features_are_made_once_and_then_found(extracted):
    first = made()
    assert sum(extracted) == WINDOWS
    before = kept()
    extracted.clear()
    second = made()
    assert extracted == []
    assert kept() == before
    for view, many in first.embeddings().views.items():
        for one, other in zip(many, second.embeddings().views[view], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("change", ["weights", "mel", "data", "seed"])
def test_other_features_are_made_anew(extracted, change):
    made()
    extracted.clear()
    backbone, data, seed = mn_backbone(), DATA, 0
    if change == "weights":
        backbone = mn_backbone(1)
    elif change == "mel":
        backbone = replace(backbone, mel=replace(MEL, bandwidth_hz=3_000.0))
    elif change == "data":
        data = corpus(each=7)
    else:
        seed = 1
    made(backbone, data, seed)
    assert extracted


def test_the_plain_view_does_not_depend_on_the_seed(extracted):
    made()
    extracted.clear()
    made(seed=1)
    assert sum(extracted) == WINDOWS - len(DATA.waveforms)


def test_of_a_network_from_nothing_the_features_are_its_own():
    """They were made by random weights: they are of use to the network that has these, and to no other."""
    fresh = replace(mn_backbone(), weights=None, digest="mn01")
    for seed in (0, 1, 0):
        one = made(fresh, seed=seed)
        with torch.inference_mode():
            spectrograms = front_end(MEL)(torch.from_numpy(DATA.waveforms.batch(np.arange(3))))
            found = one.network.classifier[:-1](one.network.features(spectrograms))
        size = found.abs().max()  # next to nothing, as no norm has seen anything
        assert torch.allclose(found / size, one.embeddings().views["plain"][0][:3] / size, atol=1e-3)


def test_targets_go_with_the_views():
    rows = torch.tensor([0, 9])
    features, targets = made().embeddings().of(rows, DATA.targets)
    assert len(features) == len(targets) == 2 * VIEWS
    of_two = DATA.targets[[0, 9]]
    expected = [of_two] * (DRAWS["plain"] + DRAWS["placed"]) + [torch.zeros(2, 3)] * 2
    assert torch.equal(targets, torch.cat(expected))


def test_a_network_whose_head_cannot_be_fitted_is_the_users_mistake():
    with pytest.raises(UserError, match=r"mn and dymn.*crnn"):
        made(crnn_backbone())


def test_an_interruption_keeps_the_views_that_are_whole(extracted):
    class AfterTwo:
        @property
        def interrupted(self) -> bool:
            return len(extracted) >= 2

    with pytest.raises(TrainingStoppedError):
        made(stop=AfterTwo())
    assert len(kept()) == 2
    extracted.clear()
    made(stop=Never())
    assert sum(extracted) == WINDOWS - 2 * len(DATA.waveforms)


# Heads


def test_the_head_knows_what_it_was_fitted_to():
    found = fitted(made())
    assert right(found, np.concatenate([REST, INNER])) > 0.8  # also the moments before and after a sound are learnt
    assert not found.model.training


def test_what_is_found_can_be_told():
    found = fitted(made())
    assert found.details["l2"] in L2_CANDIDATES
    assert found.temperature > 0
    assert 0.05 <= found.threshold <= 0.95
    assert (found.curve, found.kept_epoch) == ((), None)


def test_regularisation_and_threshold_are_chosen_without_the_clips_of_the_fit(monkeypatch):
    """Each candidate learns from the outer rows alone, and the last head from all."""
    sizes: list[int] = []
    fit = logistic.fit

    def noted(features, targets, l2, **more):
        sizes.append(len(features))
        return fit(features, targets, l2, **more)

    monkeypatch.setattr(head, "fit", noted)
    one = made()
    fitted(one)
    some, every = torch.from_numpy(REST), torch.from_numpy(np.concatenate([REST, INNER]))
    of_windows, of_moments = (
        [len(part.of(rows, DATA.targets)[0]) for rows in (some, every)]
        for part in (one.embeddings(), one.embeddings().scenes)
    )
    assert sizes == [of_windows[0]] * len(L2_CANDIDATES) + [of_moments[0], of_windows[1], of_moments[1]]
    assert of_windows[1] > of_windows[0]
    assert of_moments[1] > of_moments[0]


def test_a_head_changes_nothing_but_the_last_layers():
    one = made()
    before = {name: tensor.clone() for name, tensor in one.network.state_dict().items()}
    found = weights(fitted(one))
    changed = {name for name in before if not torch.equal(before[name], found[name])}
    assert changed == {"classifier.2.weight", "classifier.2.bias"}
    assert {name.split(".")[0] for name in found.keys() - before.keys()} == {"moments", "others"}


def test_a_head_repeats_with_and_without_the_cache(monkeypatch, tmp_path):
    first = fitted(made())
    again = weights(first)
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "another"))
    second = fitted(made())
    assert all(torch.equal(again[name], tensor) for name, tensor in weights(second).items())
    assert (first.temperature, first.threshold, first.details) == (
        second.temperature,
        second.threshold,
        second.details,
    )


def checkpoint_of(found: Trained) -> Checkpoint:
    return Checkpoint(info_of(found, "head"), found.model)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_what_the_network_knew_before_stays_a_second_opinion(kind):
    backbone = mn_backbone(head=kind)
    found = fitted(made(backbone))
    assert (found.surprise, found.others) == (SURPRISE, backbone.labels)
    assert (found.model.config.moments, found.model.config.others) == (True, len(backbone.labels))
    last = f"classifier.{len(found.model.classifier) - 1}."
    assert torch.equal(found.model.others.layer.weight, backbone.weights[f"{last}weight"])
    assert not found.model.others.layer.weight.requires_grad


def test_scores_are_those_that_the_threshold_was_chosen_by():
    """Logits lose as much for a surprise when they are listened to as they did when the threshold was chosen."""
    one = made()
    found = fitted(one)
    features, within = one.embeddings().views["plain"][0], one.embeddings().within["plain"].float()
    with torch.inference_mode():
        logits, surprise = found.model.classifier[-1](features), found.model.others(features)
        if found.model.config.joint:
            logits = joint_logits(logits, found.model.moments(within))
    most, which = surprise.max(1)
    scored = ((logits - SURPRISE * most[:, None]) / found.temperature + found.bias).sigmoid()
    heard = Classifier(checkpoint_of(found), "cpu")(DATA.waveforms.windows)
    assert heard.values == pytest.approx(scored.numpy(), abs=1e-3)  # features of steps are kept in half precision
    assert heard.other == tuple(found.others[number] for number in which.tolist())
    assert (heard.values < heard.plain).any()


def test_a_network_that_knew_nothing_before_has_no_second_opinion():
    found = fitted(made(replace(mn_backbone(), weights=None, labels=(), digest="mn01")))
    assert (found.surprise, found.others, found.model.others) == (0.0, (), None)


def test_without_the_hidden_layer_of_before_there_is_no_second_opinion():
    """The old last layer reads features that the network no longer computes."""
    mlp = mn_backbone(head="mlp")
    found = fitted(made(replace(mlp, config=replace(mlp.config, head="linear"))))
    assert (found.surprise, found.others, found.model.others) == (0.0, (), None)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_hidden_layer_of_before_may_be_kept(kind):
    backbone = mn_backbone(head=kind)
    embedder = Embedder(backbone.build(3).eval(), backbone, DATA, 0, HERE, None)
    network = backbone.build(3).eval()
    with torch.inference_mode():
        maps = network.features(front_end(MEL)(torch.from_numpy(DATA.waveforms.windows)))
        torch.testing.assert_close(embedder.hidden(), network.classifier[:-1](maps), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(embedder.pooled(), maps.mean((2, 3)), atol=1e-4, rtol=1e-4)
    assert (embedder.hidden().shape == embedder.pooled().shape) == (kind == "linear")
