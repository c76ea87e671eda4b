"""A network that learns to answer as another one does, before it learns labels."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagger.checkpoints.checkpoint import Checkpoint
from tagger.errors import UserError
from tagger.features.config import FRONT_ENDS
from tests.trainings import HERE, MEL, RECIPE, Never, checkpoint_of, corpus, crnn_backbone, logits, mn_backbone, split
from train.fit import head, pretrain, pretrained_head
from train.fit.finetune import FineTuneTrainer
from train.fit.logistic import fit
from train.fit.loop import run_epochs
from train.fit.mixtures import Mixtures
from train.fit.pretrain import PretrainLearner
from train.fit.stored_spectrograms import Spectrograms
from train.fit.trainer import Setup
from train.recipe import named

KNOWN = replace(RECIPE, stored_views=2, pretrain_epochs=3, pretrain_batch=8, crop_seconds=0.3, fitted_head=True)


def said(text: str) -> None:
    pass


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A small network in place of AudioSet's."""
    backbone = mn_backbone()
    model = backbone.build(7)
    assert backbone.weights is not None
    model.load_state_dict(backbone.weights)
    found = checkpoint_of(model, backbone.labels)
    monkeypatch.setattr(pretrain, "official_of", lambda recipe: found)
    return found


def setup(recipe: Any = KNOWN, mel: Any = MEL) -> Setup:
    return Setup(replace(crnn_backbone(), mel=mel), recipe, corpus(), 0, HERE)


def learner(official: Checkpoint, recipe: Any = KNOWN) -> PretrainLearner:
    given = setup(recipe)
    return PretrainLearner(given, Spectrograms(given.corpus, MEL, 2, 0, HERE), *split(given.corpus), official)


def test_a_student_comes_to_answer_as_its_teacher_does(official: Checkpoint, tmp_path: Path) -> None:
    one = learner(official, replace(KNOWN, pretrain_epochs=6, pretrain_learning_rate=1e-2))
    run_epochs(one, 6, tmp_path / "state.pt", HERE, said, Never())  # type: ignore[arg-type]
    losses = [epoch.train_loss for epoch in one.state.curve]
    assert losses[-1] < 0.9 * losses[0]


def test_no_label_is_learnt_from(official: Checkpoint, tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        given = setup()
        if name == "other":
            given.corpus.targets.copy_(given.corpus.targets.roll(8, 0))
        spectrograms = Spectrograms(given.corpus, MEL, 2, 0, HERE)
        student = PretrainLearner(given, spectrograms, *split(given.corpus), official)
        run_epochs(student, 1, tmp_path / f"{name}.pt", HERE, said, Never())  # type: ignore[arg-type]
        found.append(student.network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_training_starts_from_what_was_learnt_with_a_fitted_last_layer(official: Checkpoint, tmp_path: Path) -> None:
    """With rates of nearly 0, so that the start is seen. And what was learnt is not learnt again."""
    given = setup(replace(KNOWN, epochs=1, learning_rate=1e-9, head_learning_rate=1e-9))
    lines: list[str] = []
    trained = FineTuneTrainer(given).run(*split(corpus()), tmp_path / "fold1", lines.append, Never())  # type: ignore[arg-type]
    assert any("learning to answer as mn04 does" in line for line in lines)
    learnt = torch.load(tmp_path / "fold1" / pretrain.PRETRAINED)
    kept = {name: value for name, value in trained.model.named_parameters() if value.shape == learnt[name].shape}
    assert len(kept) > 20
    assert all(torch.allclose(value, learnt[name].float(), atol=1e-6) for name, value in kept.items())
    assert trained.curve[0].inner_accuracy is not None
    assert trained.curve[0].inner_accuracy > 0.5  # without the fit: a third, of three labels
    (tmp_path / "fold1" / "state.pt").unlink()
    lines.clear()
    again = FineTuneTrainer(given).run(*split(corpus()), tmp_path / "fold1", lines.append, Never())  # type: ignore[arg-type]
    assert not any("learning to answer" in line for line in lines)
    state = trained.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in again.model.state_dict().items())


def test_without_epochs_the_last_layer_alone_learns_labels(official: Checkpoint, tmp_path: Path) -> None:
    given = setup(replace(KNOWN, epochs=0, activation="sigmoid"))
    trained = FineTuneTrainer(given).run(*split(given.corpus), tmp_path / "fold1", said, Never())  # type: ignore[arg-type]
    learnt = torch.load(tmp_path / "fold1" / pretrain.PRETRAINED)
    state = trained.model.state_dict()
    kept = [name for name in state if not name.startswith(("classifier.", "attention."))]
    assert all(torch.equal(state[name], learnt[name].to(state[name].dtype)) for name in kept)
    assert not state["attention.weight"].any()  # each step counts alike, as in the fit
    assert not trained.curve
    assert trained.kept_epoch is None
    assert trained.details["inner_accuracy"] > 0.5  # by chance: a third
    rows = np.flatnonzero(given.corpus.targets.any(1).numpy())
    found = logits(trained.model, given.corpus, rows)
    right = found.argmax(1) == given.corpus.targets[torch.from_numpy(rows)].argmax(1)
    assert right.float().mean() > 0.8


def test_that_layer_is_calibrated_before_it_learns_from_the_inner_clips(
    official: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = setup(replace(KNOWN, epochs=0))
    rows, inner = split(given.corpus)
    sizes: list[int] = []

    def seen(features: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(features))
        return fit(features, *rest, **more)

    monkeypatch.setattr(head, "fit", seen)
    monkeypatch.setattr(pretrained_head, "fit", seen)
    trained = FineTuneTrainer(given).run(rows, inner, tmp_path / "fold1", said, Never())  # type: ignore[arg-type]
    views = KNOWN.stored_views + 2
    assert sizes == [views * len(rows)] * len(head.L2_CANDIDATES) + [views * (len(rows) + len(inner))]
    assert trained.details["l2"] in head.L2_CANDIDATES
    assert trained.activation == "softmax"


def test_a_mixture_is_the_sum_of_two_pieces_or_one_alone() -> None:
    """Where the level does not change: a mixture has in no band less power than the first piece has."""
    given = setup(replace(KNOWN, gain_db=0.0))
    plain = torch.from_numpy(np.array(Spectrograms(given.corpus, MEL, 2, 0, HERE)["plain", 0]))
    mixtures, rows = Mixtures(plain, given, plain.shape[2]), np.arange(24)
    made = mixtures(rows, np.roll(rows, 8), np.random.default_rng(0))
    assert made.shape == (24, 1, *plain.shape[1:])
    whole = plain[:24].float().mean(2)
    alone = [bool(np.allclose(one[0].mean(1), mean, atol=1e-3)) for one, mean in zip(made, whole, strict=True)]
    assert 4 <= sum(alone) <= 20
    assert torch.all(made[:, 0].mean(2) >= whole - 1e-3)
    again = mixtures(rows, np.roll(rows, 8), np.random.default_rng(0))
    assert torch.equal(made, again)


def test_a_teacher_that_cannot_hear_the_spectrograms_is_refused(official: Checkpoint) -> None:
    mel = replace(FRONT_ENDS["mfcc"], sample_rate_hz=8_000, f_max_hz=3_800.0)
    given = setup(mel=mel)
    with pytest.raises(UserError, match=r"another front end.*pretrain_epochs=0"):
        PretrainLearner(given, copy.copy(None), *split(given.corpus), official)  # type: ignore[arg-type]


def test_a_teacher_that_is_not_here_is_asked_for(home: Path) -> None:
    with pytest.raises(UserError, match="tagger models download mn04"):
        pretrain.official_of(KNOWN)


def test_it_needs_stored_spectrograms() -> None:
    with pytest.raises(UserError, match="stored_views"):
        named("crnn", {"stored_views": "0", "pretrain_epochs": "2"})
