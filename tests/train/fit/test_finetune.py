import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tagger.errors import TaggerError, UserError
from tagger.printable import number_of
from tagger.stop import Stop
from tests.fakes import constant_checkpoint
from tests.programs import ROOT, free_port
from tests.trainings import (
    HERE,
    LABELS,
    MEL,
    RECIPE,
    SHARED,
    FakeWaveforms,
    Never,
    checkpoint_of,
    corpus,
    crnn_backbone,
    finished,
    fit,
    interrupted,
    logits,
    mn_backbone,
    sound,
    split,
)
from train.augment.spectrogram import Mix
from train.data.corpus import Corpus
from train.fit.finetune import FineTuneLearner
from train.fit.stored_spectrograms import Spectrograms
from train.fit.teacher import Teacher
from train.fit.trainer import Setup, Trained, TrainingStoppedError
from train.recipe import Recipe

pytestmark = pytest.mark.train

LEARNING = replace(RECIPE, epochs=12, learning_rate=2e-2, head_learning_rate=2e-2)
"""Enough for the small network to tell the sounds apart."""
ONE = replace(RECIPE, epochs=1, average=0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    return finished(fit(tmp_path_factory.mktemp("trained"), LEARNING))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Trained:
    return finished(fit(tmp_path_factory.mktemp("uninterrupted")))


def assert_same(one: Trained, other: Trained) -> None:
    """Bit for bit, apart from how long it took."""
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
    without_time = [[replace(epoch, seconds=0) for epoch in each.curve] for each in (one, other)]
    assert without_time[0] == without_time[1]
    assert (one.temperature, one.threshold, one.details) == (other.temperature, other.threshold, other.details)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of what is not as it was."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def weights(fit: FineTuneLearner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fit.network.state_dict().items()}


def said(model: nn.Module, each: int = 12) -> tuple[Tensor, Tensor]:
    """Labels that the network chooses for sounds it never heard, and the true labels."""
    windows = np.stack([sound(label, 100 + number) for label in (0, 1, 2) for number in range(each)])
    data = Corpus(corpus().dataset, FakeWaveforms(windows), torch.zeros(0))  # type: ignore[arg-type]
    return logits(model, data, np.arange(len(windows))).argmax(1), torch.arange(3).repeat_interleave(each)


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: Iterable[float]) -> list[dict[str, Tensor]]:
    """Inner validation finds these; where one is no number, neither is the loss. The list that is returned fills with
    the weights that were validated.
    """
    coming, seen = iter(accuracies), []

    def validate(self: FineTuneLearner) -> tuple[float, float]:
        seen.append({name: tensor.clone() for name, tensor in self.candidate().state_dict().items()})
        accuracy = next(coming)
        return (accuracy, 1.0) if math.isnan(accuracy) else (1 - accuracy, accuracy)

    monkeypatch.setattr(FineTuneLearner, "validate", validate)
    return seen


# The result of learning


def test_sounds_never_heard_before_are_told_apart(trained):
    found, truth = said(trained.model)
    assert (found == truth).float().mean() > 0.9


def test_accuracy_and_loss_tell_of_it(trained):
    first, last = trained.curve[0], trained.curve[-1]
    assert first.train_loss > last.train_loss
    assert first.inner_loss > last.inner_loss
    assert last.train_accuracy > 0.9
    assert trained.details["inner_accuracy"] > 0.9


def test_the_network_comes_back_ready_for_use(trained):
    assert not trained.model.training
    assert all(weight.device.type == "cpu" for weight in trained.model.state_dict().values())
    assert trained.model.config.labels == len(LABELS)


def test_a_sigmoid_a_label_is_learnt_too(tmp_path):
    found, truth = said(finished(fit(tmp_path, replace(LEARNING, activation="sigmoid"))).model)
    assert (found == truth).float().mean() > 0.9


def test_half_precision_where_it_is_quicker_leaves_whole_weights(tmp_path):
    found = finished(fit(tmp_path, replace(ONE, mixed_precision=True)))
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in found.model.state_dict().values())
    assert all(weight.isfinite().all() for weight in found.model.state_dict().values())


def test_the_inner_split_and_all_other_clips_are_not_trained_on(tmp_path):
    asked: list[tuple[str, int]] = []

    class Noted(FakeWaveforms):
        def __getitem__(self, row: int) -> np.ndarray:
            asked.append((sys._getframe(1).f_globals["__name__"], int(row)))
            return super().__getitem__(row)

    plain = corpus()
    data = replace(plain, waveforms=Noted(plain.waveforms.windows))
    rest, inner = split(data)
    rest, others = rest[::2], rest[1::2]
    finished(FineTuneLearner(Setup(crnn_backbone(), ONE, data, 0, HERE), rest, inner, tmp_path))
    assert {row for where, row in asked if where == "train.fit.batches"} <= set(rest)
    assert {row for where, row in asked if where == "train.augment.views"} == set(inner)
    assert not {row for _, row in asked} & set(others)


# Repeated, interrupted and continued


def test_two_runs_are_equal_bit_for_bit(tmp_path, uninterrupted):
    assert_same(finished(fit(tmp_path)), uninterrupted)


def test_another_seed_gives_another_network(tmp_path, uninterrupted):
    other = finished(fit(tmp_path, seed=1))
    assert moved(uninterrupted.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize("at", [(0, 1), (0, 3), (1, 2), (2, 3)])
def test_an_interrupted_run_continues_as_if_it_had_not_been(tmp_path, uninterrupted, at):
    interrupted(fit(tmp_path), *at)
    lines: list[str] = []
    again = fit(tmp_path).run(lines.append, Never())  # type: ignore[arg-type]
    assert_same(again, uninterrupted)
    assert lines[0] == f"continuing after {number_of(at[0], 'epoch')}"


def test_a_run_that_is_interrupted_after_every_batch_gets_there_too(tmp_path, uninterrupted):
    for epoch in range(RECIPE.epochs):
        for step in (1, 2, 3):
            interrupted(fit(tmp_path), epoch, step)
    assert_same(finished(fit(tmp_path)), uninterrupted)


def test_the_same_fit_may_be_run_again(tmp_path, uninterrupted):
    one = fit(tmp_path)
    interrupted(one, 1, 1)
    assert_same(finished(one), uninterrupted)


def test_a_finished_run_gives_its_result_again(tmp_path, uninterrupted):
    finished(fit(tmp_path))
    assert_same(finished(fit(tmp_path)), uninterrupted)


def test_an_interrupted_start_from_a_fitted_head_continues(tmp_path):
    recipe = replace(RECIPE, epochs=2, fitted_head=True, trainable="gradual", learning_rate=1e-3)
    whole = finished(fit(tmp_path / "whole", recipe, mn_backbone()))
    interrupted(fit(tmp_path / "parts", recipe, mn_backbone()), 1, 2)
    assert_same(finished(fit(tmp_path / "parts", recipe, mn_backbone())), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_batch(tmp_path, monkeypatch, uninterrupted, number):
    step = FineTuneLearner.step

    def signalled(self: FineTuneLearner, *given: Any) -> Any:
        if (self.state.epoch, self.state.step) == (1, 0):
            os.kill(os.getpid(), number)
        return step(self, *given)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    one = fit(tmp_path)
    monkeypatch.setattr(FineTuneLearner, "step", signalled)
    try:
        with Stop() as stop, pytest.raises(TrainingStoppedError) as caught:
            one.run(lambda line: None, stop)
    finally:  # Stop ignores any more of them, as the process is to end
        for each, handler in before.items():
            signal.signal(each, handler)
    assert caught.value.exit_code == 130
    assert (one.state.epoch, one.state.step) == (1, 1)
    assert_same(finished(fit(tmp_path)), uninterrupted)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.trainings import fit, quiet

sys.modules["torch.utils.tensorboard"] = None  # takes a second

class Killer:
    @property
    def interrupted(self):
        if (run.state.epoch, run.state.step) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

run = fit(Path(sys.argv[1]))
run.run(quiet, Killer())
"""


def test_a_killed_run_continues_as_if_it_had_not_been(tmp_path, uninterrupted):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    one = fit(tmp_path)
    assert_same(finished(one), uninterrupted)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["state.pt"]


# Which epoch is kept


@pytest.mark.parametrize(("patience", "best"), [(1, 2), (2, 4)])
def test_training_ends_after_so_many_epochs_without_a_better_one(tmp_path, monkeypatch, patience, best):
    scripted(monkeypatch, [0.1, 0.7, 0.2, 0.8, 0.2, 0.1, 0.9])
    found = finished(fit(tmp_path, replace(RECIPE, epochs=9, patience=patience)))
    assert len(found.curve) == best + patience
    assert found.kept_epoch == found.details["kept_epoch"] == best


def test_the_best_epochs_weights_are_kept_and_not_the_last(tmp_path, monkeypatch):
    seen = scripted(monkeypatch, [0.1, 0.9, 0.5, 0.4])
    kept = finished(fit(tmp_path, replace(RECIPE, epochs=4))).model.state_dict()
    assert not moved(seen[1], kept)
    assert moved(seen[3], kept)


def test_of_epochs_that_so_few_clips_cannot_tell_apart_the_latest_is_kept(tmp_path, monkeypatch):
    one = fit(tmp_path, replace(RECIPE, epochs=4))
    labelled = int(one.inner_targets.any(1).sum())
    error = (0.8 * 0.2 / labelled) ** 0.5  # standard error of the best epoch's accuracy
    scripted(monkeypatch, [0.3, 0.8, 0.8 - 0.99 * error, 0.8 - 1.01 * error])
    found = finished(one)
    assert found.kept_epoch == 3
    assert found.details["inner_accuracy"] == found.curve[2].inner_accuracy


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path, monkeypatch):
    scripted(monkeypatch, [float("nan"), 0.7, float("nan"), 0.2])
    assert finished(fit(tmp_path, replace(RECIPE, epochs=4))).kept_epoch == 2


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_weights_of_the_start_have_their_share_in_what_is_kept(tmp_path, share):
    recipe = replace(SHARED, average=0.0, start_share=share)
    one = fit(tmp_path, recipe, mn_backbone())
    found = finished(one)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    if not share:
        assert content["start"] is None
        return
    interrupted(fit(tmp_path / "other", recipe, mn_backbone()), 1, 1)
    assert_same(finished(fit(tmp_path / "other", recipe, mn_backbone())), found)
    kept = found.model.state_dict()
    for name, weight in content["network"].items():  # weights of the last epoch, which is kept
        expected = weight.float().lerp(content["start"][name].float(), share)
        torch.testing.assert_close(kept[name].float(), expected)
    assert moved(content["network"], content["start"])


def test_training_that_diverges_from_the_start_is_said(tmp_path, monkeypatch):
    scripted(monkeypatch, [float("nan")] * 3)
    with pytest.raises(TaggerError, match="learning_rate"):
        finished(fit(tmp_path))


# The layers that are trained


@pytest.mark.parametrize("frozen", [1, 3, 99])
def test_frozen_blocks_stay_bit_for_bit(tmp_path, frozen):
    one = fit(tmp_path, replace(ONE, frozen_blocks=frozen))
    before, blocks = weights(one), one.network.blocks
    finished(one)
    still = {id(tensor) for block in blocks[:frozen] for tensor in block.state_dict(keep_vars=True).values()}
    named = one.network.state_dict(keep_vars=True)
    changed = moved(before, weights(one))
    assert still
    assert not {name for name in changed if id(named[name]) in still}
    assert {name for name, tensor in one.network.named_parameters() if id(tensor) not in still} <= changed


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_their_statistics(tmp_path, frozen):
    one = fit(tmp_path, replace(ONE, frozen_norm=frozen))
    before = weights(one)
    finished(one)
    statistics = {name for name in before if "running_" in name}
    assert statistics
    assert moved(before, weights(one)) & statistics == (set() if frozen else statistics)


def test_gradual_training_opens_block_after_block_from_the_head(tmp_path, monkeypatch):
    one = fit(tmp_path, replace(RECIPE, epochs=4, trainable="gradual", average=0.0, frozen_norm=True))
    before = weights(one)
    opened: list[list[bool]] = []
    step = FineTuneLearner.step

    def noted(self: FineTuneLearner, *given: Any) -> Any:
        opened.append([all(p.requires_grad for p in block.parameters()) for block in self.network.blocks])
        found = step(self, *given)
        if self.state.epoch == 0:
            assert {name.partition(".")[0] for name in moved(before, weights(self))} == {"classifier", "attention"}
        return found

    monkeypatch.setattr(FineTuneLearner, "step", noted)
    finished(one)
    epochs = opened[:: one.steps_per_epoch]
    many = len(one.network.blocks)
    assert [sum(each) for each in epochs] == [0, round(many / 2), many, many]
    assert all(each == sorted(each) for each in epochs)  # those at the output first
    assert {name for name, _ in one.network.named_parameters()} <= moved(before, weights(one))


def test_gradual_training_leaves_frozen_blocks_closed(tmp_path):
    one = fit(tmp_path, replace(RECIPE, epochs=2, trainable="gradual", frozen_blocks=2))
    finished(one)
    is_open = [all(p.requires_grad for p in block.parameters()) for block in one.network.blocks]
    assert is_open == [False, False] + [True] * (len(is_open) - 2)


def test_blocks_nearer_to_the_input_learn_more_slowly(tmp_path):
    one = fit(tmp_path, replace(ONE, layer_decay=0.0, frozen_norm=True))
    before = weights(one)
    finished(one)
    assert {name.partition(".")[0] for name in moved(before, weights(one))} == {"lstm", "classifier", "attention"}


def test_a_gradient_cut_to_nothing_moves_nothing(tmp_path):
    one = fit(tmp_path, replace(ONE, clip_gradient=1e-15, frozen_norm=True))
    before = weights(one)
    finished(one)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weight, before[name], atol=1e-6, rtol=0)


def test_the_rate_rises_and_then_falls_to_nothing(tmp_path, monkeypatch):
    rates: list[float] = []
    set_rates = FineTuneLearner.set_rates

    def noted(self: FineTuneLearner, done: int, total: int) -> None:
        set_rates(self, done, total)
        rates.append(self.learning_rate)

    monkeypatch.setattr(FineTuneLearner, "set_rates", noted)
    finished(fit(tmp_path, replace(RECIPE, warmup_epochs=1.0, epochs=3)))
    peak = rates.index(max(rates))
    assert peak == 2  # the first epoch's last batch
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert rates[-1] < 0.05 * RECIPE.learning_rate < max(rates) <= RECIPE.learning_rate


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_an_average_of_the_weights_is_kept_where_the_recipe_says_so(tmp_path, monkeypatch, decay):
    one = fit(tmp_path, replace(RECIPE, epochs=2, average=decay))
    scripted(monkeypatch, [0.1, 0.9])  # so that the last epoch is the best
    step, steps = FineTuneLearner.step, []

    def noted(self: FineTuneLearner, *given: Any) -> Any:
        found = step(self, *given)
        steps.append(weights(self))
        return found

    monkeypatch.setattr(FineTuneLearner, "step", noted)
    kept = finished(one).model.state_dict()
    assert len(steps) == 6
    if not decay:
        assert not moved(kept, steps[-1])
        return
    for name in (name for name, last in steps[-1].items() if last.is_floating_point()):
        assert not torch.equal(kept[name], steps[-1][name]), name
        ways = torch.stack([each[name] for each in steps])
        assert (kept[name] >= ways.amin(0) - 1e-6).all(), name
        assert (kept[name] <= ways.amax(0) + 1e-6).all(), name


# The start


def test_a_fitted_head_knows_the_training_clips_before_anything_is_trained(tmp_path):
    recipe = replace(ONE, fitted_head=True, frozen_norm=True, learning_rate=1e-9, head_learning_rate=1e-9)
    data = corpus()
    rows = np.array([row for row in split(data)[0] if data.targets[row].any()])

    def accuracy(recipe: Recipe, name: str) -> float:
        model = finished(fit(tmp_path / name, recipe, mn_backbone())).model
        return float((logits(model, data, rows).argmax(1) == data.targets[rows].argmax(1)).float().mean())

    assert accuracy(recipe, "fitted") > 0.9 > accuracy(replace(recipe, fitted_head=False), "random")


def test_a_head_is_fitted_to_stored_spectrograms_too(tmp_path):
    recipe = replace(ONE, fitted_head=True, frozen_norm=True, stored_views=2, learning_rate=1e-9)
    stored = Spectrograms(corpus(), MEL, 2, 0, HERE)
    found = finished(fit(tmp_path, recipe, mn_backbone(), spectrograms=stored))
    assert found.curve[0].train_accuracy > 0.5


def test_training_starts_from_the_given_weights(tmp_path):
    recipe = replace(ONE, frozen_norm=True, learning_rate=1e-9, head_learning_rate=1e-9)
    backbone = mn_backbone()
    found = finished(fit(tmp_path, recipe, backbone)).model.state_dict()
    assert backbone.weights is not None
    for name, weight in found.items():
        if not name.startswith("classifier."):
            torch.testing.assert_close(weight, backbone.weights[name], atol=1e-6, rtol=0)


def test_a_crnn_goes_on_from_a_crnn(tmp_path, trained):
    backbone = replace(crnn_backbone(), weights=trained.model.state_dict())
    recipe = replace(ONE, fitted_head=True)  # which a CRNN cannot have
    again = finished(fit(tmp_path, recipe, backbone))
    assert again.model.state_dict().keys() == trained.model.state_dict().keys()


# Distillation


ROTATED = ("high", "hiss", "low")


def test_a_student_follows_its_teacher_rather_than_the_labels(tmp_path, monkeypatch, trained):
    """The teacher is as good as it was, but calls what is low high, what is high a hiss, and a hiss low."""
    scripted(monkeypatch, np.linspace(0, 1, 12))  # the last epoch is kept: labels have no say in that either
    teacher = Teacher(checkpoint_of(trained.model, ROTATED), LABELS, RECIPE.activation, 1.0, HERE.device)
    found, truth = said(finished(fit(tmp_path, replace(LEARNING, distill=1.0), teacher=teacher)).model)
    assert (found == (truth + 1) % 3).float().mean() > 0.9


def test_a_teacher_that_does_not_count_changes_nothing(tmp_path, uninterrupted, trained):
    teacher = Teacher(checkpoint_of(trained.model, ROTATED), LABELS, RECIPE.activation, 1.0, HERE.device)
    assert_same(finished(fit(tmp_path, replace(RECIPE, distill=0.0), teacher=teacher)), uninterrupted)


def test_an_interrupted_distillation_continues(tmp_path, trained):
    def one(name: str) -> FineTuneLearner:
        teacher = Teacher(checkpoint_of(trained.model, LABELS), LABELS, RECIPE.activation, 2.0, HERE.device)
        return fit(tmp_path / name, replace(RECIPE, epochs=2, distill_temperature=2.0), teacher=teacher)

    interrupted(one("parts"), 0, 2)
    assert_same(finished(one("parts")), finished(one("whole")))


def test_a_teacher_that_lacks_a_label_is_refused(trained):
    with pytest.raises(UserError, match="trained does not know howl"):
        Teacher(checkpoint_of(trained.model, LABELS), ("low", "howl"), RECIPE.activation, 1.0, HERE.device)


@pytest.mark.parametrize(
    ("activation", "students", "told"),
    [
        ("softmax", "softmax", "softmax"),
        ("sigmoid", "sigmoid", "sigmoid"),
        ("sigmoid", "softmax", "softmax"),  # fifty sigmoids at a high temperature would sum to far more than 1
        ("softmax", "sigmoid", "softmax"),
    ],
)
def test_a_teacher_answers_in_the_students_order_and_of_its_labels_alone(activation, students, told):
    values = torch.tensor([0.5, -1.0, 2.0])
    loaded = constant_checkpoint(activation, 2.0, *values.tolist())
    teacher = Teacher(loaded, ("label2", "label0"), students, 3.0, HERE.device)
    asked = values[[2, 0]] / 6  # its own temperature, and that of the distillation
    expected = asked.softmax(0) if told == "softmax" else asked.sigmoid()
    found = teacher.of_waveforms(torch.zeros(4, 32_000), None)
    torch.testing.assert_close(found, expected.expand(4, 2))


def test_a_teacher_with_another_front_end_hears_the_same_mixture(trained):
    teacher = Teacher(checkpoint_of(trained.model, LABELS), LABELS, RECIPE.activation, 1.0, HERE.device)
    waves = torch.from_numpy(np.stack([sound(0, 1), sound(1, 1)]))
    swapped = teacher.of_waveforms(waves, Mix(torch.tensor([1, 0]), torch.tensor([0.0, 0.0])))
    torch.testing.assert_close(swapped, teacher.of_waveforms(waves, None).flip(0))


class Listening(Teacher):
    """Records its inputs."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.spectrograms: list[Tensor] = []
        self.waves: list[Tensor] = []

    def probabilities(self, x: Tensor) -> Tensor:
        self.spectrograms.append(x.clone())
        return super().probabilities(x)

    def of_waveforms(self, waves: Tensor, mix: Mix | None) -> Tensor:
        self.waves.append(waves.clone())
        return super().of_waveforms(waves, mix)


@pytest.mark.parametrize("views", [0, 2])
def test_a_teacher_is_given_the_very_spectrograms_that_the_student_sees(tmp_path, monkeypatch, trained, views):
    teacher = Listening(checkpoint_of(trained.model, LABELS), LABELS, RECIPE.activation, 1.0, HERE.device)
    recipe = replace(ONE, stored_views=views, mask_bands=6, mask_frames=8, warp_bands=0.1, equalise_db=6.0)
    stored = Spectrograms(corpus(), MEL, views, 0, HERE) if views else None
    one = fit(tmp_path, recipe, spectrograms=stored, teacher=teacher)
    seen: list[Tensor] = []
    one.network.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].clone()) if module.training else None
    )
    finished(one)
    assert len(seen) == len(teacher.spectrograms) > 0
    assert all(torch.equal(student, taught) for student, taught in zip(seen, teacher.spectrograms, strict=True))
    assert not teacher.waves


def test_a_teacher_with_another_front_end_hears_waveforms(tmp_path, trained):
    other = checkpoint_of(trained.model, LABELS)
    other = replace(other, info=replace(other.info, mel=replace(MEL, window_samples=160)))
    teacher = Listening(other, LABELS, RECIPE.activation, 1.0, HERE.device)
    finished(fit(tmp_path, ONE, teacher=teacher))
    assert len(teacher.waves) > 0
    with pytest.raises(UserError, match=r"trained has another front end.*stored_views=0"):
        fit(tmp_path, ONE, spectrograms=Spectrograms(corpus(), MEL, 2, 0, HERE), teacher=teacher)


def test_a_teacher_can_be_learnt_from(trained):
    """Its answer is no inference tensor, which a loss could not use."""
    teacher = Teacher(checkpoint_of(trained.model, LABELS), LABELS, RECIPE.activation, 1.0, HERE.device)
    assert not teacher.of_waveforms(torch.zeros(1, 4_000), None).is_inference()


# Two processes


TOGETHER = """
import sys
from pathlib import Path
import torch
from tests.trainings import SHARED, finished, fit, interrupted, mn_backbone
from train.fit.distributed import joined

sys.modules["torch.utils.tensorboard"] = None  # takes a second
folder = Path(sys.argv[1])
with joined("cpu") as place:
    interrupted(fit(folder, SHARED, mn_backbone(), place), 1, 1)
    place.wait()
    trained = finished(fit(folder, SHARED, mn_backbone(), place))
    torch.save(trained.model.state_dict(), folder / f"{place.rank}.pt")
    sums = place.summed(place.rank + 1, 10)
    assert sums == [3, 20], sums
    assert place.agreed(place.rank) == [0]
    losses = place.agreed(*(epoch.train_loss for epoch in trained.curve))
    assert losses == [epoch.train_loss for epoch in trained.curve]
    torch.save(losses, folder / f"losses{place.rank}.pt")
threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in thread for thread in threads), threads  # they would meet a Python that ends
"""


def distance(model: nn.Module, other: dict[str, Tensor], name: str) -> float:
    return float((model.state_dict()[name] - other[name]).float().norm())


def test_two_processes_train_what_one_trains(tmp_path):
    # As torchrun would set it.
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path)],
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    one = fit(tmp_path / "alone", SHARED, mn_backbone())
    start = weights(one)
    alone = finished(one)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        apart, moved = ({name: distance(alone.model, other, name) for name in start} for other in (together, start))
        # If a gradient is almost 0, Adam makes a step of its rounding: whole tensors are compared, by what
        # training has changed in them. The last layer was fitted before.
        body = [name for name in start if not name.startswith("classifier.")]
        assert sum(apart[name] for name in body) < 0.3 * sum(moved[name] for name in body)
        assert max(apart[name] for name in start) < 0.01 * max(moved.values())
    losses = torch.load(tmp_path / "losses1.pt", weights_only=True)
    assert losses == pytest.approx([epoch.train_loss for epoch in alone.curve], rel=1e-3)


# Messages during the training


def test_every_epoch_is_a_line(tmp_path):
    lines: list[str] = []
    fit(tmp_path).run(lines.append, Never())  # type: ignore[arg-type]
    assert len(lines) == RECIPE.epochs
    assert lines[0].startswith("epoch   1 of 3: loss ")
    assert lines[0].endswith("kept")


def test_tensorboard_gets_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = finished(fit(tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [each.value for each in events.Scalars("inner_loss")]
    assert losses == pytest.approx([epoch.inner_loss for epoch in found.curve])
    assert [each.step for each in events.Scalars("train_accuracy")] == [1, 2, 3]


def test_without_tensorboard_all_else_is_as_it_was(tmp_path, monkeypatch, uninterrupted):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert_same(finished(fit(tmp_path)), uninterrupted)
    assert not (tmp_path / "tensorboard").exists()


def test_a_curve_is_ready_for_a_report(uninterrupted):
    for number, epoch in enumerate(uninterrupted.curve, 1):
        assert epoch.epoch == number
        assert all(isinstance(value, int | float | None) for value in asdict(epoch).values())
        assert epoch.seconds > 0
