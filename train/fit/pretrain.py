"""Pretraining: before it learns labels, a network learns to answer as an official AudioSet network does, for any sound.

Both hear the same mixtures of pieces of the training clips, faster, higher or equalised otherwise. No label is used.
The student repeats the teacher's features, step by step and of the whole piece, and what the teacher's last layers
make of the latter. Romero et al., "FitNets" (ICLR 2015); Chen et al., "Knowledge Distillation with the Reused Teacher
Classifier" (CVPR 2022). It takes long: Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent" (CVPR 2022).
"""

import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, binary_cross_entropy_with_logits, mse_loss

from tagger.checkpoints import checkpoint, store
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import without_batch_norm
from tagger.errors import CheckpointError, UserError
from tagger.features.config import MfccConfig
from tagger.files import replacing
from tagger.stop import Stop
from train.augment.spectrogram import equalised, warped
from train.damage import made_again_if_deleted
from train.data.dataset import Rows
from train.fit.loop import LoopState, StepResult, run_epochs, unread
from train.fit.mixtures import Mixtures
from train.fit.precision import autocast
from train.fit.stored_spectrograms import Spectrograms
from train.fit.trainer import Setup
from train.messages import Say
from train.recipe import Recipe

PRETRAINED = "pretrained.pt"
"""File of the weights, in half precision as in a checkpoint."""
PASSES = 10
"""Pieces of each clip in an epoch."""
_ANSWERS_SHARE = 0.05
"""Weight of the loss against the teacher's answers. That against its features has 1."""
_WARM_UP = 0.02
"""Share of all steps."""
_CLIP_GRADIENT = 5.0
_ORDER, _CHANGES = range(2)
"""Purposes of the generators; each has its own seeds."""
_INNER_BATCH = 50


def official_of(recipe: Recipe) -> Checkpoint:
    """The network that is learnt from.

    Raises:
        UserError: it is not installed.
    """
    name = f"{recipe.pretrain_teacher}_as"
    try:
        return checkpoint.load(store.find(name))
    except CheckpointError:
        raise UserError(
            f"the recipe learns from the AudioSet network {recipe.pretrain_teacher}, which is not here yet: `tagger "
            f"models download {recipe.pretrain_teacher}`, or --set pretrain_epochs=0"
        ) from None


def pretrained(
    setup: Setup, spectrograms: Spectrograms, rows: Rows, inner: Rows, folder: Path, report: Say, stop: Stop
) -> Setup:
    """The setup with a backbone that has learnt so.

    Args:
        rows, inner, folder: as for `Trainer.run`. What is learnt is kept in the folder, as `PRETRAINED`.

    Raises:
        TrainingStoppedError: after `stop`; the same call resumes.
        UserError: there is no such teacher, or it cannot hear the student's spectrograms.
    """
    place, path, state = setup.place, folder / PRETRAINED, folder / "pretrain.pt"
    if not path.is_file():
        learner = PretrainLearner(setup, spectrograms, rows, inner, official_of(setup.recipe))
        report(f"learning to answer as {setup.recipe.pretrain_teacher} does, from the sounds alone")
        run_epochs(learner, setup.recipe.pretrain_epochs, state, place, report, stop)
        if place.leads:
            with replacing(path) as partial:
                torch.save({name: _halved(value) for name, value in learner.network.state_dict().items()}, partial)
            state.unlink()
        place.wait()
    with made_again_if_deleted(path):
        stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    return replace(setup, backbone=replace(setup.backbone, weights=weights))


class PretrainLearner:
    """A `train.fit.loop.Learner`. A batch is the rows of its clips, [B], and of those mixed with them, [B]."""

    resumes_within_epochs = False

    def __init__(self, setup: Setup, spectrograms: Spectrograms, rows: Rows, inner: Rows, official: Checkpoint) -> None:
        """
        Raises:
            UserError: the teacher cannot hear the student's spectrograms.
        """
        recipe, place, mel = setup.recipe, setup.place, setup.backbone.mel
        if isinstance(mel, MfccConfig) or replace(official.info.mel, bandwidth_hz=mel.bandwidth_hz) != mel:
            raise UserError(
                f"{official.info.name} has another front end than {setup.backbone.name} here, and cannot hear its "
                "spectrograms: --set pretrain_epochs=0, or another front_end"
            )
        self._recipe, self._place, self._seed, self._mel = recipe, place, setup.seed, mel
        self._rows, self._inner = rows, inner
        self.state = LoopState()
        held = spectrograms.held
        plain = torch.from_numpy(np.array(spectrograms["plain", 0])) if held is None else held[0]
        self._mixtures = Mixtures(plain, setup, mel.frames(round(recipe.crop_seconds * mel.sample_rate_hz)))
        self._autocast = autocast(place.device, recipe.mixed_precision)
        self._teacher = _Taught(official, place.device)
        torch.manual_seed(setup.seed)
        network = setup.backbone.build(self._teacher.features, recipe.dropout).to(place.device)
        self.network: Any = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        vectors = [p for p in network.parameters() if p.dim() <= 1]
        matrices = [p for p in network.parameters() if p.dim() > 1]
        self._optimiser = torch.optim.AdamW(
            [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": recipe.weight_decay}],
            lr=recipe.pretrain_learning_rate,
            fused=True,
        )
        self.steps_per_epoch = max(1, PASSES * len(rows) // recipe.pretrain_batch)

    @property
    def learning_rate(self) -> float:
        """The rate of the last step."""
        rate: float = self._optimiser.param_groups[0]["lr"]
        return rate

    def start(self, stop: Stop) -> None:
        """Measures the teacher's features, so that each counts alike."""
        first = self._rows[: 10 * _INNER_BATCH] if len(self._rows) <= 10 * _INNER_BATCH else self._some()
        with self._autocast():
            self._teacher.measure(self._mixtures.whole(part) for part in _parts(first))

    def _some(self) -> Rows:
        rng = np.random.default_rng([self._seed, _ORDER])
        chosen: Rows = rng.choice(self._rows, 10 * _INNER_BATCH, replace=False)
        return chosen

    def batches(self, epoch: int, first: int) -> Generator[tuple[Rows, Rows], None, None]:
        """Each clip `PASSES` times, in another order each time. `first` is 0: epochs are not resumed within."""
        rng, size = np.random.default_rng([self._seed, _ORDER, epoch]), self._recipe.pretrain_batch
        order = np.concatenate([rng.permutation(self._rows) for _ in range(PASSES)])
        for step in range(self.steps_per_epoch):
            chosen = np.resize(order, len(self) * size)[step * size : (step + 1) * size]
            yield chosen, rng.choice(self._rows, size)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def step(self, batch: tuple[Rows, Rows], epoch: int, step: int) -> StepResult:
        """Learns from one batch."""
        recipe, rng = self._recipe, np.random.default_rng([self._seed, _CHANGES, epoch, step])
        done, total = epoch * len(self) + step, recipe.pretrain_epochs * len(self)
        rate = min(1.0, (done + 1) / max(1.0, _WARM_UP * total)) * 0.5 * (1 + math.cos(math.pi * done / total))
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.pretrain_learning_rate * rate
        torch.manual_seed(hash((self._seed, done)) % (1 << 62))  # dropout's
        with torch.no_grad():
            x = equalised(warped(self._mixtures(*batch, rng), recipe, rng), self._mel, recipe, rng)
        loss = self._loss(self.network.train(), x)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP_GRADIENT)
        self._optimiser.step()
        return unread(loss), 0.0, 0.0

    def _loss(self, network: nn.Module, x: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last)
        with self._autocast():
            steps, whole, answers = self._teacher(x)
            heard = network.outputs(x)  # type: ignore[operator]
        said = adaptive_avg_pool1d(heard.steps.float().transpose(1, 2), steps.shape[1]).transpose(1, 2)
        loss = mse_loss(said, steps) + mse_loss(heard.logits.float(), whole)
        with self._autocast():
            repeated = self._teacher.answers(heard.logits)
        against = binary_cross_entropy_with_logits(repeated.float(), answers.sigmoid(), reduction="none")
        return loss + _ANSWERS_SHARE * against.sum(1).mean()

    def validate(self) -> tuple[float, float | None]:
        """Loss on the inner clips as they are. No label is asked for."""
        network, parts = self.network.eval(), _parts(self._inner)
        with torch.no_grad():
            losses = [float(self._loss(network, self._mixtures.whole(part))) * len(part) for part in parts]
        (loss,) = self._place.agreed(sum(losses) / max(1, len(self._inner)))
        return loss, None

    def keep(self) -> bool:
        """The last epoch's weights are the result."""
        return False

    def has_stopped_improving(self) -> bool:
        """All epochs are trained."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """See `train.fit.loop.Learner`."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "teacher": [self._teacher.mean, self._teacher.spread],
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """See `train.fit.loop.Learner`."""
        self.network.load_state_dict(content["network"])
        self._optimiser.load_state_dict(content["optimiser"])
        self._teacher.mean, self._teacher.spread = content["teacher"]


class _Taught:
    """What the official network makes of spectrograms."""

    def __init__(self, official: Checkpoint, device: torch.device) -> None:
        model = without_batch_norm(official.model).to(device).requires_grad_(False)
        self._model: Any = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features: int = self._model.embedding_size
        self.mean = torch.zeros(self.features, device=device)
        self.spread = torch.ones(self.features, device=device)

    def _maps(self, x: Tensor) -> Tensor:
        maps: Tensor = self._model.features(x.to(memory_format=torch.channels_last)).float()
        return maps

    @torch.no_grad()
    def measure(self, batches: Any) -> None:
        """Takes the mean and the spread of each feature of these spectrograms' steps."""
        steps = torch.cat([self._maps(x).mean(2).transpose(1, 2).flatten(0, 1) for x in batches])
        self.mean, self.spread = steps.mean(0), steps.std(0) + 1e-3

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised features of each step, [B, steps, F], and of the whole, [B, F]; and logits, [B, classes]."""
        steps = (self._maps(x).mean(2).transpose(1, 2) - self.mean) / self.spread
        whole = steps.mean(1)
        return steps, whole, self.answers(whole).float()

    def answers(self, whole: Tensor) -> Tensor:
        """The logits that these standardised features would have, [B, F] to [B, classes]."""
        hidden = whole.float() * self.spread + self.mean
        for layer in self._model.classifier[2:]:
            hidden = layer(hidden)
        return hidden


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _parts(rows: Rows) -> list[Rows]:
    return [rows[first : first + _INNER_BATCH] for first in range(0, len(rows), _INNER_BATCH)]
