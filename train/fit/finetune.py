"""The one training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tagger.errors import TaggerError, UserError
from tagger.features.config import MelConfig
from tagger.features.logmel import front_end
from tagger.files import replacing
from tagger.stop import Stop
from train.augment.spectrogram import Mix, equalised, jittered_bank, masked, warped
from train.augment.views import BATCH, VIEWS, Views
from train.curve import Epoch
from train.data.corpus import Corpus, Say
from train.data.dataset import Rows
from train.fit.backbone import Origin, last_layer_name
from train.fit.batches import Batches
from train.fit.distributed import Place
from train.fit.logistic import cross_entropy, fit_start
from train.fit.progress import NoBoard, bar, board, show
from train.fit.stored_spectrograms import Spectrograms, StoredBatches
from train.fit.teacher import Teacher
from train.fit.trainer import Trained, TrainingStoppedError, calibrated, unless_stopped
from train.recipe import Recipe

_KEPT_INNER = 1_000
"""So many spectrograms of 256 kB, in two views, are kept in memory."""


def _merit(row: Epoch) -> tuple[float, float]:
    """More is better: accuracy on the inner split and, where that is equal, less loss. NaN is worse than anything."""
    loss = math.inf if row.inner_loss is None or math.isnan(row.inner_loss) else row.inner_loss
    return (row.inner_accuracy or 0.0) if loss < math.inf else -1.0, -loss


@dataclass
class State:
    """Everything that a run needs to go on as if it had never stopped."""

    epoch: int = 0
    step: int = 0
    """Batches of this epoch that are done."""
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Of this epoch so far: loss, right ones, counted ones, seconds."""
    curve: list[Epoch] = field(default_factory=list)
    kept: dict[str, Tensor] | None = None
    """Weights of the latest epoch that is as good as the best on the inner split."""
    kept_epoch: int = 0

    @property
    def best_epoch(self) -> Epoch:
        return max(self.curve, key=_merit)

    def is_as_good_as_the_best(self, clips: int) -> bool:
        """The last epoch, as far as so many clips can tell: within one standard error of the best one's accuracy.

        Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3. The best of many epochs is,
        with few clips, mostly the luckiest; a later one has been trained to the end of its learning rate.
        """
        share = self.best_epoch.inner_accuracy or 0.0
        return _merit(self.curve[-1])[0] >= share - math.sqrt(max(0.0, share * (1 - share)) / max(1, clips))


class Fit:
    """One network on one split. `run` may be interrupted, and continues where it was when it is run again."""

    def __init__(
        self,
        origin: Origin,
        recipe: Recipe,
        corpus: Corpus,
        rows: Rows,
        inner: Rows,
        seed: int,
        place: Place,
        folder: Path,
        teacher: Teacher | None = None,
        spectrograms: Spectrograms | None = None,
    ) -> None:
        """
        Args:
            rows: what is learnt from.
            inner: what the epoch is chosen on. Neither holds a test clip.
            folder: for `state.pt`, and TensorBoard's files.
            spectrograms: learn from these, not from waveforms; the recipe has `stored_views`.

        Raises:
            UserError: the teacher cannot hear the spectrograms.
        """
        self.recipe, self.corpus, self.seed, self.place, self.teacher = recipe, corpus, seed, place, teacher
        self.mel: MelConfig = origin.mel
        self._inner = inner
        self._inner_kept: dict[str, list[Tensor]] = {}
        self._inner_targets = corpus.targets[torch.from_numpy(inner)]
        self._path = folder / "state.pt"
        self._views = Views(corpus.waveforms, origin.mel.sample_rate_hz, seed)
        self._batches = self._make_batches(rows, spectrograms)
        torch.manual_seed(seed)
        self._front = front_end(self.mel).to(place.device)
        network = origin.build(corpus.targets.shape[1], recipe.dropout).to(place.device)
        self._network: Any = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        is_linear = isinstance(network.classifier, nn.Sequential)  # a CRNN's depends on its attention
        self._has_fitted_head = recipe.fitted_head and origin.weights is not None and is_linear
        self._autocast = _autocast(place.device, recipe.mixed_precision)
        self._optimiser, self._rates = self._build_optimiser()
        self._average = _averaged(self._network, recipe.average)
        self._start: dict[str, Tensor] | None = None
        """The weights before the first batch, where they have a share in what is kept."""
        self.state = State()

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

    def run(self, say: Say, stop: Stop) -> Trained:
        """
        Raises:
            TrainingStoppedError: after `stop`; the state is saved, and another `run` continues.
            TaggerError: the loss is not a number after any epoch.
        """
        state, recipe = self.state, self.recipe
        if self._path.is_file():
            self._load()
            state = self.state
            say(f"continuing after {len(state.curve)} epochs")
        elif self._has_fitted_head:
            views = unless_stopped(self._embedded(), stop)
            fit_start(self._network.classifier[-1], views, recipe.activation)
            self._average = _averaged(self._network, recipe.average)
        if recipe.start_share and self._start is None:
            self._start = _copied(self._network.state_dict())
        with closing(board(self._path.parent)) if self.place.leads else closing(NoBoard()) as scalars:
            while state.epoch < recipe.epochs and not self._has_stopped_improving():
                began = time.monotonic()
                self._open_blocks(state.epoch)
                self._epoch(say, stop, began)
                inner = self._validate()
                loss, right, counted, seconds = state.sums
                row = Epoch(
                    epoch=state.epoch + 1,
                    train_loss=loss / max(1, len(self._batches)),
                    train_accuracy=right / max(1, counted),
                    inner_loss=inner[0],
                    inner_accuracy=inner[1],
                    learning_rate=self._optimiser.param_groups[0]["lr"],
                    seconds=seconds + time.monotonic() - began,
                )
                state.curve.append(row)
                keeps = state.is_as_good_as_the_best(int(self._inner_targets.any(1).sum()))
                if keeps:
                    state.kept, state.kept_epoch = _copied(self._contender().state_dict()), row.epoch
                state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 4
                self._save()
                show(row, recipe.epochs, keeps, say)
                for name, value in asdict(row).items():
                    if value is not None:
                        scalars.add_scalar(name, value, row.epoch)
        if state.kept is None:
            raise TaggerError("training diverged: the loss of no epoch is a number; try a smaller --set learning_rate")
        self._network.load_state_dict(state.kept)
        logits = {view: self._logits(self._network, view) for view in VIEWS}
        temperature, bias, threshold = calibrated(logits, self._inner_targets, recipe.activation)
        kept = state.curve[state.kept_epoch - 1]
        details = {"kept_epoch": kept.epoch, "inner_loss": kept.inner_loss, "inner_accuracy": kept.inner_accuracy}
        fitted = self._network.cpu()
        return Trained(
            fitted, temperature, bias, threshold, curve=tuple(state.curve), kept_epoch=kept.epoch, details=details
        )

    def _epoch(self, say: Say, stop: Stop, began: float) -> None:
        state, recipe = self.state, self.recipe
        shared = self.place.shared(self._network)
        total = len(self._batches) * recipe.epochs
        label = f"epoch {state.epoch + 1} of {recipe.epochs}"
        with bar(len(self._batches), label, self.place.leads) as shown:
            shown.update(state.step)
            for inputs, targets in self._batches.epoch(state.epoch, state.step):
                self._train_mode()
                done = state.epoch * len(self._batches) + state.step
                self._set_rates(done, total)
                torch.manual_seed(hash((self.seed, done, self.place.rank)) % (1 << 62))  # dropout's, and nothing else's
                loss, right, counted = self._step(shared, torch.from_numpy(inputs), torch.from_numpy(targets))
                state.step += 1
                sums = self.place.summed(loss / self.place.ranks, right, counted)
                state.sums[:3] = [have + new for have, new in zip(state.sums, sums, strict=False)]
                shown.update(1)
                if self.place.agreed(float(stop.interrupted))[0]:
                    state.sums[3] += time.monotonic() - began
                    self._save()
                    raise TrainingStoppedError

    def _step(self, shared: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float, float]:
        """One batch: its loss, and how many of its labelled windows were right, of how many."""
        recipe, place = self.recipe, self.place
        rng = self._batches.spectrogram_generator(self.state.epoch, self.state.step)
        inputs, targets = inputs.to(place.device), targets.to(place.device)
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
            logits = shared(x)
        logits = logits.float()
        smooth = targets * (1 - recipe.label_smoothing)
        loss = cross_entropy(logits, smooth, recipe.activation)
        if taught is not None:
            hot = recipe.distill_temperature
            against = cross_entropy(logits / hot, taught, recipe.activation) * hot**2
            loss = (1 - recipe.distill) * loss + recipe.distill * against
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_gradient:
            nn.utils.clip_grad_norm_(self._network.parameters(), recipe.clip_gradient)
        self._optimiser.step()
        if self._average is not None:
            self._average.update_parameters(self._network)
        labelled = targets.sum(1) > 0.5
        right = (logits.argmax(1) == targets.argmax(1)) & labelled
        return float(loss.detach()), float(right.sum()), float(labelled.sum())

    def _taught(self, waves: Tensor, x: Tensor, mix: Mix | None) -> Tensor | None:
        """What the teacher says of the batch: of the very spectrograms that the student sees, if it can read them."""
        if self.teacher is None:
            return None
        with self._autocast():
            if self.teacher.info.mel == self.mel:
                return self.teacher.probabilities(x)
            return self.teacher.of_waveforms(waves, mix)

    def _validate(self) -> tuple[float, float]:
        """Loss and accuracy on the inner split: each clip as it is and, if the recipe places clips, in a window."""
        network = self._contender()
        logits = {view: self._logits(network, view) for view in VIEWS[: 2 if self.recipe.placed else 1]}
        losses = [float(cross_entropy(each, self._inner_targets, self.recipe.activation)) for each in logits.values()]
        labelled = self._inner_targets.any(1)
        truth = self._inner_targets.argmax(1)[labelled]
        right = [float((each.argmax(1)[labelled] == truth).float().mean()) for each in logits.values()]
        loss, accuracy = self.place.agreed(float(np.mean(losses)), float(np.mean(right)))
        return loss, accuracy

    def _logits(self, network: nn.Module, view: str) -> Tensor:
        """Of the inner split, [rows, labels], on the CPU."""
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
        """What the last layer sees, and targets, for a fitted start: each clip as it is, and one augmented epoch."""
        network = self._network.eval()
        rows = self._batches.rows
        last = list(network.classifier)[:-1]
        body = nn.Sequential(network.features, *last)

        def embed(inputs: Tensor, are_spectrograms: bool) -> Tensor:
            inputs = inputs.to(self.place.device)
            with torch.inference_mode():
                x = inputs[:, None] if are_spectrograms else self._front(inputs)
                features: Tensor = body(x.to(memory_format=torch.channels_last)).float().cpu()
            return features.clone()

        targets = self.corpus.targets[torch.from_numpy(rows)]
        for waves, truths in zip(self._views.batches(rows, "plain"), torch.split(targets, BATCH), strict=True):
            yield embed(waves, False), truths
        # An epoch that is not trained on; all of it, so that every process begins with the same head.
        for heard, truth in self._batches.epoch(self.recipe.epochs, whole=True):
            yield embed(torch.from_numpy(heard), isinstance(self._batches, StoredBatches)), torch.from_numpy(truth)

    def _build_optimiser(self) -> tuple[torch.optim.AdamW, list[float]]:
        recipe, network = self.recipe, self._network
        blocks: list[nn.Module] = network.blocks
        for block in blocks[: recipe.frozen_blocks]:
            block.requires_grad_(False)
        in_blocks = {id(parameter) for block in blocks for parameter in block.parameters()}
        last = last_layer_name(network)
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

    def _set_rates(self, done: int, total: int) -> None:
        warm = min(1.0, (done + 1) / max(1.0, self.recipe.warmup_epochs * len(self._batches)))
        factor = warm * 0.5 * (1 + math.cos(math.pi * done / total))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _open_blocks(self, epoch: int) -> None:
        """`gradual`: the head alone at first, the whole network from the middle of the run on."""
        if self.recipe.trainable != "gradual":
            return
        blocks = self._network.blocks[self.recipe.frozen_blocks :]
        is_open = round(len(blocks) * min(1.0, 2 * epoch / self.recipe.epochs))
        for depth, block in enumerate(reversed(blocks)):
            block.requires_grad_(depth < is_open)

    def _train_mode(self) -> None:
        self._network.train()
        still = [self._network] if self.recipe.frozen_norm else self._network.blocks[: self.recipe.frozen_blocks]
        for module in (module for part in still for module in part.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _has_stopped_improving(self) -> bool:
        curve = self.state.curve
        return bool(curve) and len(curve) - self.state.best_epoch.epoch >= self.recipe.patience

    def _contender(self) -> nn.Module:
        """What is validated and, perhaps, kept: the averaged weights, brought nearer to those of the start."""
        network: nn.Module = self._network if self._average is None else self._average.module
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

    def _save(self) -> None:
        if not self.place.leads:
            return
        content = {
            "state": asdict(self.state) | {"kept": self.state.kept},
            "start": self._start,
            "network": self._network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        with replacing(self._path) as partial:
            torch.save(content, partial)

    def _load(self) -> None:
        content = torch.load(self._path, map_location=self.place.device, weights_only=True)
        state = content["state"]
        state["curve"] = [Epoch(**each) for each in state["curve"]]
        self.state = State(**state)
        self._start = content["start"]
        self._network.load_state_dict(content["network"])
        if self._average is not None:
            self._average.load_state_dict(content["average"])
        self._optimiser.load_state_dict(content["optimiser"])


def _averaged(network: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average, shorter at first, so that it soon forgets the weights that it began with."""
    if not decay:
        return None

    def average(means: Any, news: Any, count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, news, 1 - kept)
        else:
            torch._foreach_copy_(means, news)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def _autocast(device: torch.device, wanted: bool) -> Callable[[], Any]:
    """bfloat16 where the device computes faster in it."""
    if device.type == "cuda":
        use = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        use = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return lambda: torch.autocast(device.type, torch.bfloat16, enabled=wanted and use)
