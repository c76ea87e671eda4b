"""Fine-tuning, and training from nothing: all recipes but `head` and `stream`."""

import copy
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tagger.errors import TaggerError, UserError
from tagger.features.config import MelConfig
from tagger.features.logmel import front_end
from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.spectrogram import Mix, equalised, jittered_bank, masked, warped
from train.augment.views import BATCH, VIEWS, Views
from train.curve import Epoch
from train.data.dataset import Rows
from train.fit.batches import Batch, Batches
from train.fit.logistic import cross_entropy, fit_start
from train.fit.loop import LoopState, StepResult, run_epochs, unread
from train.fit.precision import autocast
from train.fit.pretrain import pretrained
from train.fit.pretrained_head import fitted
from train.fit.progress import NoBoard, announce, board
from train.fit.stored_spectrograms import Spectrograms, StoredBatches
from train.fit.trainer import Setup, Trained, Trainer, calibrated, unless_stopped
from train.messages import Say

_KEPT_INNER = 1_000
"""Most inner clips whose spectrograms are kept in memory; each takes 256 kB in each of two views."""


class FineTuneTrainer(Trainer):
    """Trains a whole network, or its blocks from the last one down."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._spectrograms: Spectrograms | None = None

    def run(self, rows: Rows, inner: Rows, folder: Path, report: Say, stop: Stop) -> Trained:
        """See `Trainer.run`. Resumes within an epoch; while it pretrains, after the last complete one."""
        setup = self.setup
        announce(folder, rows, inner, report)
        if setup.recipe.stored_views and self._spectrograms is None:
            views, mel = setup.recipe.stored_views, setup.backbone.mel
            self._spectrograms = Spectrograms(setup.corpus, mel, views, setup.seed, setup.place, stop)
        if setup.recipe.pretrain_epochs:
            assert self._spectrograms is not None
            setup = pretrained(setup, self._spectrograms, rows, inner, folder, report, stop)
            if not setup.recipe.epochs:
                return fitted(setup, self._spectrograms, rows, inner, stop)
        return FineTuneLearner(setup, rows, inner, folder, self._spectrograms).run(report, stop)


class FineTuneLearner:
    """One network on one split: a `train.fit.loop.Learner`."""

    resumes_within_epochs = True

    def __init__(
        self, setup: Setup, rows: Rows, inner: Rows, folder: Path, spectrograms: Spectrograms | None = None
    ) -> None:
        """
        Args:
            rows, inner, folder: as for `Trainer.run`. TensorBoard's files go to the folder, too.
            spectrograms: learn from these, not from waveforms; the recipe has `stored_views`.

        Raises:
            UserError: the teacher cannot hear the spectrograms.
        """
        recipe, corpus, seed, place, backbone = setup.recipe, setup.corpus, setup.seed, setup.place, setup.backbone
        self.recipe, self.corpus, self.seed, self.place, self.teacher = recipe, corpus, seed, place, setup.teacher
        self.mel: MelConfig = backbone.mel
        self._inner = inner
        self._inner_kept: dict[str, list[Tensor]] = {}
        self.inner_targets = corpus.targets[torch.from_numpy(inner)]
        """[inner clips, labels], 0 or 1."""
        self._path = folder / "state.pt"
        self._views = Views(corpus.waveforms, backbone.mel.sample_rate_hz, seed)
        self._batches = self._make_batches(rows, spectrograms)
        torch.manual_seed(seed)
        self._front = front_end(self.mel).to(place.device)
        network = backbone.build(corpus.targets.shape[1], recipe.dropout).to(place.device)
        self.network: Any = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._shared: nn.Module = self.network
        """The network; within an epoch and with several processes, wrapped so that they share its gradients."""
        has_known_features = backbone.weights is not None and (network.has_linear_head or bool(recipe.pretrain_epochs))
        self._has_fitted_head = recipe.fitted_head and has_known_features
        self._autocast = autocast(place.device, recipe.mixed_precision)
        self._optimiser, self._rates = self._build_optimiser()
        self._average = _averaged(self.network, recipe.average)
        self._start: dict[str, Tensor] | None = None
        """Weights before the first step, where the recipe has a `start_share`."""
        self.state = LoopState()

    def _make_batches(self, rows: Rows, spectrograms: Spectrograms | None) -> Batches:
        recipe, corpus, place, seed = self.recipe, self.corpus, self.place, self.seed
        if spectrograms is not None:
            if self.teacher is not None and self.teacher.info.mel != self.mel:
                raise UserError(
                    f"--teacher {self.teacher.info.name} has another front end, and cannot hear spectrograms that are "
                    "stored: --set stored_views=0, or the teacher's front end"
                )
            return StoredBatches(spectrograms, corpus, rows, recipe, seed, place)
        rate_hz = self.mel.sample_rate_hz
        return Batches(corpus.waveforms, corpus.targets.numpy(), rows, recipe, rate_hz, seed, place.rank, place.ranks)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._batches)

    @property
    def learning_rate(self) -> float:
        """The first group's rate in the last step."""
        rate: float = self._optimiser.param_groups[0]["lr"]
        return rate

    def run(self, report: Say, stop: Stop) -> Trained:
        """Trains, or resumes; returns the chosen epoch's network, calibrated on the inner split.

        Raises:
            TrainingStoppedError: after `stop`; the state is saved, and another `run` resumes.
            TaggerError: the loss is not a number after any epoch.
        """
        with closing(board(self._path.parent)) if self.place.leads else closing(NoBoard()) as scalars:

            def add(row: Epoch) -> None:
                for name, value in asdict(row).items():
                    if value is not None:
                        scalars.add_scalar(name, value, row.epoch)

            run_epochs(self, self.recipe.epochs, self._path, self.place, report, stop, add)
        state = self.state
        if state.kept is None:
            raise TaggerError("training diverged: the loss of no epoch is a number; try a smaller --set learning_rate")
        self.network.load_state_dict(state.kept)
        logits = {view: self._logits(self.network, view) for view in VIEWS}
        temperature, bias, threshold = calibrated(logits, self.inner_targets, self.recipe.activation)
        kept = state.curve[state.kept_epoch - 1]
        return Trained(
            self.network.cpu(),
            temperature,
            bias,
            threshold,
            self.recipe.activation,
            curve=tuple(state.curve),
            kept_epoch=kept.epoch,
            details={"kept_epoch": kept.epoch, "inner_loss": kept.inner_loss, "inner_accuracy": kept.inner_accuracy},
        )

    def start(self, stop: Stop) -> None:
        """Fits the last layer, if the recipe says so, and copies the weights that have a share in the result.

        Raises:
            TrainingStoppedError: after `stop`.
        """
        if self._has_fitted_head:
            title = "features for the first last layer"
            batches = math.ceil(len(self._batches.rows) / BATCH) + len(self._batches)
            with Progress(title, batches, "batches", brief=True, shown=self.place.leads) as progress:
                views = progress.over(unless_stopped(self._embedded(), stop))
                fit_start(self.network.first_head(), views, self.recipe.activation)
            self._average = _averaged(self.network, self.recipe.average)
        if self.recipe.start_share:
            self._start = _copied(self.network.state_dict())

    def batches(self, epoch: int, first: int) -> Generator[Batch, None, None]:
        """Opens the blocks that this epoch trains; then yields its batches from the `first` on."""
        self._open_blocks(epoch)
        self._shared = self.place.shared(self.network)
        try:
            yield from self._batches.epoch(epoch, first)
        finally:
            self._shared = self.network

    def step(self, batch: Batch, epoch: int, step: int) -> StepResult:
        """Learns from one batch."""
        recipe, place = self.recipe, self.place
        done = epoch * len(self._batches) + step
        self._train_mode()
        self.set_rates(done, len(self._batches) * recipe.epochs)
        torch.manual_seed(hash((self.seed, done, place.rank)) % (1 << 62))  # dropout's, and nothing else's
        rng = self._batches.spectrogram_generator(epoch, step)
        inputs, targets = (torch.as_tensor(each).to(place.device) for each in batch)
        with torch.no_grad():
            is_stored = isinstance(self._batches, StoredBatches)
            bank = None if is_stored else jittered_bank(self.mel, recipe, rng)
            x = inputs[:, None] if is_stored else self._front(inputs, None if bank is None else bank.to(place.device))
            mix = Mix.draw(len(inputs), recipe.mix_spectrograms, rng)
            x = equalised(warped(x, recipe, rng), self.mel, recipe, rng)
            if mix:
                x, targets = mix(x), mix(targets)
            x = masked(x, recipe, rng).to(memory_format=torch.channels_last)
            taught = self._taught(inputs, x, mix)
        with self._autocast():
            logits = self._shared(x)
        logits = logits.float()
        smooth = targets * (1 - recipe.label_smoothing)
        loss = cross_entropy(logits, smooth, recipe.activation)
        if taught is not None:
            temperature = recipe.distill_temperature
            against = cross_entropy(logits / temperature, taught, recipe.activation) * temperature**2
            loss = (1 - recipe.distill) * loss + recipe.distill * against
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_gradient:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_gradient)
        self._optimiser.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        labelled = targets.sum(1) > 0.5
        right = (logits.argmax(1) == targets.argmax(1)) & labelled
        return unread(loss), unread(right.sum()), unread(labelled.sum())

    def _taught(self, waves: Tensor, x: Tensor, mix: Mix | None) -> Tensor | None:
        """The teacher's scores: of the very spectrograms that the student sees, where the front ends are the same."""
        if self.teacher is None:
            return None
        with self._autocast():
            if self.teacher.info.mel == self.mel:
                return self.teacher.probabilities(x)
            return self.teacher.of_waveforms(waves, mix)

    def validate(self) -> tuple[float, float | None]:
        """Loss and accuracy on the inner split: each clip as it is and, if the recipe places clips, in a window."""
        network = self.candidate()
        logits = {view: self._logits(network, view) for view in VIEWS[: 2 if self.recipe.placed else 1]}
        losses = [float(cross_entropy(each, self.inner_targets, self.recipe.activation)) for each in logits.values()]
        labelled = self.inner_targets.any(1)
        truth = self.inner_targets.argmax(1)[labelled]
        right = [float((each.argmax(1)[labelled] == truth).float().mean()) for each in logits.values()]
        loss, accuracy = self.place.agreed(float(np.mean(losses)), float(np.mean(right)))
        return loss, accuracy

    def _logits(self, network: nn.Module, view: str) -> Tensor:
        """Logits of the inner split, [rows, labels], on the CPU."""
        network.eval()
        found = []
        with torch.inference_mode(), self._autocast():
            for x in self._inner_inputs(view):
                found.append(network(x.to(memory_format=torch.channels_last)).float().cpu())
        return torch.cat(found).clone()

    def _inner_inputs(self, view: str) -> Iterable[Tensor]:
        """Spectrograms of the inner split, a batch at a time; kept in memory if they are few."""
        batches = (self._front(waves.to(self.place.device)) for waves in self._views.batches(self._inner, view))
        if len(self._inner) > _KEPT_INNER:
            return batches
        if view not in self._inner_kept:
            self._inner_kept[view] = list(batches)
        return self._inner_kept[view]

    def _embedded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs of the last layer, and targets, to fit it to: each clip as it is, and one augmented epoch."""
        network = self.network.eval()
        rows = self._batches.rows

        def embed(inputs: Tensor, are_spectrograms: bool) -> Tensor:
            inputs = inputs.to(self.place.device)
            with torch.inference_mode():
                x = inputs[:, None] if are_spectrograms else self._front(inputs)
                features: Tensor = network.head_input(x.to(memory_format=torch.channels_last)).float().cpu()
            return features.clone()

        targets = self.corpus.targets[torch.from_numpy(rows)]
        for waves, truths in zip(self._views.batches(rows, "plain"), torch.split(targets, BATCH), strict=True):
            yield embed(waves, False), truths
        # An epoch that is not trained on; all of it, so that every process begins with the same head.
        for heard, truth in self._batches.epoch(self.recipe.epochs, whole=True):
            yield embed(torch.as_tensor(heard), isinstance(self._batches, StoredBatches)), torch.as_tensor(truth)

    def _build_optimiser(self) -> tuple[torch.optim.AdamW, list[float]]:
        recipe, network = self.recipe, self.network
        blocks: list[nn.Module] = network.blocks
        for block in blocks[: recipe.frozen_blocks]:
            block.requires_grad_(False)
        in_blocks = {id(parameter) for block in blocks for parameter in block.parameters()}
        last: str | tuple[str, ...] = network.last_layer
        groups: list[dict[str, Any]] = []
        for depth, block in enumerate(reversed(blocks)):
            groups.append({"params": list(block.parameters()), "lr": recipe.learning_rate * recipe.layer_decay**depth})
        others = [(name, p) for name, p in network.named_parameters() if id(p) not in in_blocks]
        groups.append({"params": [p for n, p in others if not n.startswith(last)], "lr": recipe.learning_rate})
        groups.append({"params": [p for n, p in others if n.startswith(last)], "lr": recipe.head_learning_rate})
        split = []
        for group in groups:  # biases and norms are not decayed
            for is_vector in (False, True):
                chosen = [p for p in group["params"] if (p.dim() <= 1) == is_vector and p.requires_grad]
                decay = 0.0 if is_vector else recipe.weight_decay
                if chosen:
                    split.append({"params": chosen, "lr": group["lr"], "weight_decay": decay})
        return torch.optim.AdamW(split, fused=True), [group["lr"] for group in split]

    def set_rates(self, done: int, total: int) -> None:
        """Learning rates after `done` of `total` steps: a linear warm-up, then a cosine to 0."""
        warm = min(1.0, (done + 1) / max(1.0, self.recipe.warmup_epochs * len(self._batches)))
        factor = warm * 0.5 * (1 + math.cos(math.pi * done / total))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _open_blocks(self, epoch: int) -> None:
        """`gradual`: the head alone at first, the whole network from the middle of the run on."""
        if self.recipe.trainable != "gradual":
            return
        blocks = self.network.blocks[self.recipe.frozen_blocks :]
        is_open = round(len(blocks) * min(1.0, 2 * epoch / self.recipe.epochs))
        for depth, block in enumerate(reversed(blocks)):
            block.requires_grad_(depth < is_open)

    def _train_mode(self) -> None:
        self.network.train()
        still = [self.network] if self.recipe.frozen_norm else self.network.blocks[: self.recipe.frozen_blocks]
        for module in (module for part in still for module in part.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def has_stopped_improving(self) -> bool:
        """No epoch was better for as many epochs as the recipe has patience."""
        curve = self.state.curve
        return bool(curve) and len(curve) - _best(curve).epoch >= self.recipe.patience

    def keep(self) -> bool:
        """Keeps the last epoch's weights if, as far as the inner clips can tell, they are as good as the best ones."""
        state = self.state
        is_kept = _is_as_good_as_the_best(state.curve, int(self.inner_targets.any(1).sum()))
        if is_kept:
            state.kept, state.kept_epoch = _copied(self.candidate().state_dict()), state.curve[-1].epoch
        return is_kept

    def candidate(self) -> nn.Module:
        """The network that is validated and may be kept: averaged weights, moved towards those of the start."""
        network: nn.Module = self.network if self._average is None else self._average.module
        if not self.recipe.start_share:
            return network
        assert self._start is not None
        share, start = self.recipe.start_share, self._start
        blended = copy.deepcopy(network)
        blended.load_state_dict(
            {
                name: tensor.lerp(start[name], share) if tensor.is_floating_point() else tensor
                for name, tensor in network.state_dict().items()
            }
        )
        return blended

    def state_dict(self) -> dict[str, Any]:
        """See `train.fit.loop.Learner`."""
        return {
            "start": self._start,
            "network": self.network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """See `train.fit.loop.Learner`."""
        self._start = content["start"]
        self.network.load_state_dict(content["network"])
        if self._average is not None:
            self._average.load_state_dict(content["average"])
        self._optimiser.load_state_dict(content["optimiser"])


def _merit(row: Epoch) -> tuple[float, float]:
    """Higher is better: accuracy on the inner split, then low loss. A loss that is NaN is worse than any other."""
    loss = math.inf if row.inner_loss is None or math.isnan(row.inner_loss) else row.inner_loss
    return (row.inner_accuracy or 0.0) if loss < math.inf else -1.0, -loss


def _best(curve: list[Epoch]) -> Epoch:
    return max(curve, key=_merit)


def _is_as_good_as_the_best(curve: list[Epoch], clips: int) -> bool:
    """Whether the last epoch's accuracy is within one standard error of the best one's, measured on so many clips.

    Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3. With few clips, the best of many epochs
    is mostly the luckiest; a later one has been trained to the end of its learning rate.
    """
    share = _best(curve).inner_accuracy or 0.0
    return _merit(curve[-1])[0] >= share - math.sqrt(max(0.0, share * (1 - share)) / max(1, clips))


def _averaged(network: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average of the weights; shorter in the first steps, so that it soon forgets the first weights."""
    if not decay:
        return None

    def average(means: Any, news: Any, _: Tensor | int) -> None:
        count = int(averaged.n_averaged)  # on the processor; the argument is on the device, and would have to come back
        kept = min(decay, (1 + count) / (10 + count))
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, news, 1 - kept)
        else:
            torch._foreach_copy_(means, news)

    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return averaged


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
