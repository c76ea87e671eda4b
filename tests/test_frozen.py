from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagger.errors import UserError
from tagger.features import front_end
from tests.trainings import HERE, MEL, Never, corpus, crnn_origin, logits, mn_origin, split
from train import cache, frozen, head
from train.frozen import L2_CANDIDATES, PLACED_VIEWS, Frozen
from train.networks import Origin
from train.trained import Corpus, Trained, TrainingStoppedError

DATA = corpus()
REST, INNER = split(DATA)


def made(origin: Origin | None = None, data: Corpus = DATA, seed: int = 0, stop: object = None) -> Frozen:
    return Frozen(origin or mn_origin(), data, seed, HERE, stop)  # type: ignore[arg-type]


@pytest.fixture
def extracted(monkeypatch) -> list[int]:
    """Numbers of windows that features were made of, batch by batch."""
    seen: list[int] = []

    def noted(mel):
        module = front_end(mel)
        module.register_forward_hook(lambda module, given, made: seen.append(len(made)))
        return module

    monkeypatch.setattr(frozen, "front_end", noted)
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
    features = made().features
    assert {view: len(many) for view, many in features.views.items()} == {
        "plain": 1,
        "placed": PLACED_VIEWS,
        "fragment": 1,
        "background": 1,
    }
    for many in features.views.values():
        for each in many:
            assert each.shape == (len(DATA.waveforms), mn_origin().build(3).embedding_size)


def test_what_the_last_layer_sees_is_what_it_is_fitted_to():
    one = made()
    network = one.network
    with torch.inference_mode():
        spectrograms = front_end(MEL)(torch.from_numpy(DATA.waveforms.batch(np.arange(3))))
        last = network.classifier[-1]
        assert torch.allclose(last(one.features.views["plain"][0][:3]), network(spectrograms), atol=1e-5)


def test_draws_of_the_placed_view_differ():
    first, second, *_ = made().features.views["placed"]
    assert not torch.equal(first, second)


def test_features_are_made_once_and_then_found(extracted):
    first = made()
    assert sum(extracted) == (3 + PLACED_VIEWS) * len(DATA.waveforms)
    before = kept()
    extracted.clear()
    second = made()
    assert extracted == []
    assert kept() == before
    for view, many in first.features.views.items():
        for one, other in zip(many, second.features.views[view], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("change", ["weights", "mel", "data", "seed"])
def test_other_features_are_made_anew(extracted, change):
    made()
    extracted.clear()
    origin, data, seed = mn_origin(), DATA, 0
    if change == "weights":
        origin = mn_origin(1)
    elif change == "mel":
        origin = replace(origin, mel=replace(MEL, bandwidth_hz=3_000.0))
    elif change == "data":
        data = corpus(each=7)
    else:
        seed = 1
    made(origin, data, seed)
    assert extracted


def test_the_plain_view_does_not_depend_on_the_seed(extracted):
    made()
    extracted.clear()
    made(seed=1)
    assert sum(extracted) == (2 + PLACED_VIEWS) * len(DATA.waveforms)


def test_of_a_network_from_nothing_the_features_are_its_own():
    """They were made by random weights: they are of use to the network that has these, and to no other."""
    fresh = replace(mn_origin(), weights=None, digest="mn01")
    for seed in (0, 1, 0):
        one = made(fresh, seed=seed)
        with torch.inference_mode():
            spectrograms = front_end(MEL)(torch.from_numpy(DATA.waveforms.batch(np.arange(3))))
            found = one.network.classifier[:-1](one.network.features(spectrograms))
        size = found.abs().max()  # next to nothing, as no norm has seen anything
        assert torch.allclose(found / size, one.features.views["plain"][0][:3] / size, atol=1e-3)


def test_targets_go_with_the_views():
    features, targets = made().features.of(torch.tensor([0, 9]), DATA.targets)
    assert len(features) == len(targets) == 2 * (3 + PLACED_VIEWS)
    of_two = DATA.targets[[0, 9]]
    assert torch.equal(targets, torch.cat([of_two] * (1 + PLACED_VIEWS) + [torch.zeros(2, 3)] * 2))


def test_a_network_whose_head_cannot_be_fitted_is_the_users_mistake():
    with pytest.raises(UserError, match=r"mn and dymn.*crnn"):
        made(crnn_origin())


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
    assert sum(extracted) == (1 + PLACED_VIEWS) * len(DATA.waveforms)


# Heads


def test_the_head_knows_what_it_was_fitted_to():
    found = made().fit(REST, INNER)
    assert right(found, np.concatenate([REST, INNER])) > 0.9
    assert not found.model.training


def test_what_is_found_can_be_told():
    found = made().fit(REST, INNER)
    assert found.details["l2"] in L2_CANDIDATES
    assert found.temperature > 0
    assert 0.05 <= found.threshold <= 0.95
    assert (found.curve, found.kept_epoch) == ((), None)


def test_regularisation_and_threshold_are_chosen_without_the_clips_of_the_fit(monkeypatch):
    """Each candidate learns from the outer rows alone, and the last head from all."""
    sizes: list[int] = []
    fit = head.fit

    def noted(features, targets, l2, *rest):
        sizes.append(len(features))
        return fit(features, targets, l2, *rest)

    monkeypatch.setattr(frozen, "fit", noted)
    made().fit(REST, INNER)
    views = 3 + PLACED_VIEWS
    assert sizes == [views * len(REST)] * len(L2_CANDIDATES) + [views * (len(REST) + len(INNER))]


def test_a_head_changes_nothing_but_the_last_layer():
    one = made()
    before = {name: tensor.clone() for name, tensor in one.network.state_dict().items()}
    found = weights(one.fit(REST, INNER))
    changed = {name for name in before if not torch.equal(before[name], found[name])}
    assert changed == {"classifier.2.weight", "classifier.2.bias"}


def test_a_head_repeats_with_and_without_the_cache(monkeypatch, tmp_path):
    first = made().fit(REST, INNER)
    again = weights(first)
    monkeypatch.setenv("TAGGER_HOME", str(tmp_path / "another"))
    second = made().fit(REST, INNER)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights(second).items())
    assert (first.temperature, first.threshold, first.details) == (
        second.temperature,
        second.threshold,
        second.details,
    )
