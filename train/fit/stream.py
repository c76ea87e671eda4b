"""The recipe `stream`: trains the upper blocks of a network on windows as a stream has them, to hear what and when.

The output of the lower blocks is computed once for every window; a batch then costs a tenth. The network learns three
things at once: the labels of a window, the labels of each of its moments, and to repeat what it knew before (Li and
Hoiem, "Learning without Forgetting", TPAMI 2018). The last tells sounds outside the label set.
"""

import copy
import dataclasses
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tagger.errors import UserError
from tagger.models.efficientat import outputs_of
from tagger.models.network import Network, Outputs
from tagger.stop import Stop
from train.augment.scenes import labels_of
from train.data.dataset import Rows
from train.fit.activations import Activations
from train.fit.backbone import others_of
from train.fit.held import held, taken
from train.fit.logistic import accuracy, cross_entropy
from train.fit.loop import LoopState, StepResult, run_epochs, unread
from train.fit.progress import announce
from train.fit.trainer import Setup, Trained, Trainer, calibrated
from train.messages import Say

_STEPS_SHARE = 0.5
"""Weight of the moments' loss; the windows' loss has 1."""
_REMEMBER_SHARE = 0.2
"""Weight of the loss against what the network knew before."""
_RARE = -4.0
"""Initial bias of each label's logit: a label is in one window of fifty."""
_WARM_UP = 0.05
"""Share of all steps."""
_AVERAGE_FROM = 1 / 3
"""Share of all steps after which the moving average of the weights begins."""


class StreamTrainer(Trainer):
    """Trains the blocks above `frozen_blocks`. Resumes after the last complete epoch."""

    takes_teacher = False
    needs_linear_head = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._windows: dict[str, Tensor] | None = None

    def network(self) -> Network:
        """A new network, as training starts from it."""
        setup = self.setup
        torch.manual_seed(setup.seed)
        return setup.backbone.build(setup.corpus.targets.shape[1], setup.recipe.dropout).eval()

    def windows(self, stop: Stop | None = None) -> dict[str, Tensor]:
        """What `Activations.load` gives, `maps` and `hidden` on the GPU, if it has room; computed at the first call.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
            UserError: the network has no such blocks.
        """
        if self._windows is None:
            windows = self.activations().load(stop)
            large = {name: windows[name] for name in ("maps", "hidden")}
            self._windows = windows | held(large, self.setup.place.device)
        return self._windows

    def activations(self) -> Activations:
        """Where `windows` come from.

        Raises:
            UserError: the network has no such blocks.
        """
        setup, network = self.setup, self.network()
        if not network.has_linear_head:
            raise UserError(f"the recipe stream is for mn and dymn networks, not for {setup.backbone.name}")
        return Activations(network, setup.backbone, setup.corpus, setup.recipe, setup.seed, setup.place)

    def split(self, rows: Rows, inner: Rows) -> "StreamLearner":
        """A new network on one split, before the first step."""
        return StreamLearner(self.network(), self.setup, self.windows(), rows, inner)

    def run(self, rows: Rows, inner: Rows, folder: Path, report: Say, stop: Stop) -> Trained:
        """See `Trainer.run`."""
        announce(folder, rows, inner, report)
        self.windows(stop)
        learner = self.split(rows, inner)
        run_epochs(learner, self.setup.recipe.epochs, folder / "state.pt", self.setup.place, report, stop)
        return learner.finished()


class StreamLearner:
    """One network on one split: a `train.fit.loop.Learner`. A batch is the numbers of its windows, [B]."""

    resumes_within_epochs = False

    def __init__(self, network: Network, setup: Setup, windows: dict[str, Tensor], rows: Rows, inner: Rows) -> None:
        """
        Args:
            network: becomes the learner's own, with new heads.
            windows: what `Activations.load` gives; `maps` and `hidden` may be on the device.
        """
        recipe, place, corpus, backbone = setup.recipe, setup.place, setup.corpus, setup.backbone
        self.state = LoopState()
        self._seed = setup.seed
        self._recipe, self._place, self._windows, self._targets = recipe, place, windows, corpus.targets
        sounds = windows["sounds"].numpy()
        of_others = ((sounds >= 0) & ~np.isin(sounds, rows)).any(1)  # a scene's second sound may be one of `inner`
        self._learnt = np.flatnonzero(np.isin(windows["row"].numpy(), rows) & ~of_others)
        self._inner = torch.from_numpy(np.flatnonzero(np.isin(windows["row"].numpy(), inner)))
        plain = torch.from_numpy(np.flatnonzero(np.isin(windows["row"].numpy(), rows) & windows["is_plain"].numpy()))
        heard = taken(windows["hidden"], plain, torch.device("cpu")).float()
        truth = corpus.targets[windows["row"][plain]]
        others = others_of(network, backbone, heard, truth)
        self._classifier: nn.Module = network.classifier  # type: ignore[assignment]
        last: nn.Linear = network.classifier[-1]  # type: ignore[index,assignment]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, _RARE)
        network.moments, network.others = copy.deepcopy(last), others  # type: ignore[assignment]
        classes = others.layer.out_features if others is not None else 0
        network.config = dataclasses.replace(network.config, moments=True, others=classes)
        self._others_names = backbone.labels if others is not None else ()
        self._before = copy.deepcopy(others.layer).to(place.device) if others is not None else None
        self.network = network.to(place.device)
        blocks: list[nn.Module] = network.blocks[recipe.frozen_blocks :]
        self._upper = nn.Sequential(*blocks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        heads: list[Any] = [network.classifier, network.moments, *([others.layer] if others is not None else [])]
        for part in heads:
            part.requires_grad_(True)
        self._groups = [
            {"params": list(self._upper.parameters()), "lr": recipe.learning_rate},
            {"params": [p for part in heads for p in part.parameters()], "lr": recipe.head_learning_rate},
        ]
        self._weights = [p for group in self._groups for p in group["params"]]  # type: ignore[attr-defined]
        self._optimiser = torch.optim.AdamW(self._groups, weight_decay=recipe.weight_decay)
        self.steps_per_epoch = max(1, len(self._learnt) // recipe.batch)
        total = recipe.epochs * self.steps_per_epoch
        self._rate = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: _rate_factor(step, total))
        self._average: list[Tensor] | None = None
        self._average_from = int(_AVERAGE_FROM * total)

    @property
    def learning_rate(self) -> float:
        """The upper blocks' rate in the next step."""
        rate: float = self._optimiser.param_groups[0]["lr"]
        return rate

    def start(self, stop: Stop) -> None:
        """Nothing is prepared: the heads start at zero."""

    def batches(self, epoch: int, first: int) -> Generator[Tensor, None, None]:
        """Windows drawn by their weights. `first` is 0: epochs are not resumed within."""
        rng = np.random.default_rng([self._seed, epoch])
        torch.manual_seed(self._seed * 1000 + epoch)  # dropout's
        weight = self._windows["weight"].numpy()[self._learnt]
        up_to = np.cumsum(weight / weight.sum())  # as `Generator.choice` draws, which would add them up for every batch
        up_to /= up_to[-1]
        for _ in range(self.steps_per_epoch):
            drawn = up_to.searchsorted(rng.random(self._recipe.batch), side="right")
            yield torch.from_numpy(self._learnt[drawn])

    def keep(self) -> bool:
        """The last epoch's weights are the result."""
        return False

    def has_stopped_improving(self) -> bool:
        """All epochs are trained."""
        return False

    def step(self, batch: Tensor, epoch: int, step: int) -> StepResult:
        """Learns from these windows."""
        chosen, done = batch, epoch * self.steps_per_epoch + step
        windows, recipe, device = self._windows, self._recipe, self._place.device
        maps = taken(windows["maps"], chosen, device).float().to(memory_format=torch.channels_last)
        labels = labels_of(windows["sounds"][chosen], self._targets)  # [B, MOST_SOUNDS, labels]
        truth = labels.amax(1).to(device)
        moments = torch.einsum("nsl,nst->ntl", labels, windows["active"][chosen].float()).clamp(max=1).to(device)
        has_steps = windows["has_steps"][chosen].float().to(device)
        self._classifier.train()  # dropout
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision):
            heard, hidden = self._outputs(maps)
        of_steps = binary_cross_entropy_with_logits(heard.steps.float(), moments, reduction="none").sum(2).mean(1)
        loss = cross_entropy(heard.logits.float(), truth)
        loss = loss + _STEPS_SHARE * (of_steps * has_steps).sum() / has_steps.sum().clamp(min=1)
        if self._before is not None:
            known = self._before(taken(windows["hidden"], chosen, device).float()).sigmoid()
            said = self.network.others.layer(hidden.float())  # type: ignore[union-attr,operator]
            loss = loss + _REMEMBER_SHARE * cross_entropy(said, known)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, recipe.clip_gradient or math.inf)
        self._optimiser.step()
        self._rate.step()
        with torch.no_grad():
            if self._average is None and done >= self._average_from:
                self._average = [weight.detach().clone() for weight in self._weights]
            elif self._average is not None:
                torch._foreach_lerp_(self._average, [weight.detach() for weight in self._weights], 1 - recipe.average)
        return unread(loss), 0.0, 0.0

    def _outputs(self, maps: Tensor) -> tuple[Outputs, Tensor]:
        """The network's output, and the input of its last layer, [B, F]."""
        high = self._upper(maps)
        hidden = high
        for layer in list(self.network.classifier)[:-1]:  # type: ignore[arg-type]
            hidden = layer(hidden)
        return outputs_of(self.network, high), hidden

    @torch.inference_mode()
    def logits(self, chosen: Tensor) -> Tensor:
        """Logits of these windows, less their surprise, [N, labels]."""
        self.network.eval()
        parts = []
        for some in torch.split(chosen, 256):
            maps = taken(self._windows["maps"], some, self._place.device).float().to(memory_format=torch.channels_last)
            heard = outputs_of(self.network, self._upper(maps))
            surprise = heard.surprise.amax(1, keepdim=True) if heard.surprise is not None else 0.0
            parts.append((heard.logits - self._recipe.surprise * surprise).cpu())
        return torch.cat(parts)

    def validate(self) -> tuple[float, float | None]:
        """Loss and accuracy of the inner clips as they are, by the averaged weights."""
        plain = self._inner[self._windows["is_plain"][self._inner]]
        with self._averaged():
            logits, truth = self.logits(plain), self._targets[self._windows["row"][plain]]
        return float(cross_entropy(logits, truth)), accuracy(logits, truth)

    def _averaged(self) -> "_Swapped":
        """The network has the averaged weights within this context."""
        return _Swapped(self._weights, self._average)

    def finished(self) -> Trained:
        """The result, after the last epoch: averaged weights, calibrated on the inner clips."""
        with torch.no_grad():
            for weight, mean in zip(self._weights, self._average or self._weights, strict=True):
                weight.copy_(mean)
        windows = self._windows
        labelled = self._targets[windows["row"][self._inner]].any(1)
        plain = self._inner[windows["is_plain"][self._inner] & labelled]
        nothing = self._inner[~labels_of(windows["sounds"][self._inner], self._targets).amax(1).any(1)]
        targets = self._targets[windows["row"][plain]]
        temperature, bias, _ = calibrated({"plain": self.logits(plain)}, targets, "sigmoid")
        threshold = round(1 / (1 + math.exp(-(self._recipe.enter_logit / temperature + bias))), 4)
        quiet = self.logits(nothing).amax(1)
        last = self.state.curve[-1]
        return Trained(
            self.network.eval().requires_grad_(False).cpu(),
            temperature,
            bias,
            threshold,
            surprise=self._recipe.surprise if self._before is not None else 0.0,
            others=self._others_names,
            curve=tuple(self.state.curve),
            kept_epoch=last.epoch,
            details={
                "inner_loss": last.inner_loss,
                "inner_accuracy": last.inner_accuracy,
                "inner_nothing_announced": float((quiet >= self._recipe.enter_logit).float().mean()),
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """See `train.fit.loop.Learner`."""
        return {
            "network": self.network.state_dict(),
            "average": self._average,
            "optimiser": self._optimiser.state_dict(),
            "rate": self._rate.state_dict(),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """See `train.fit.loop.Learner`."""
        self.network.load_state_dict(content["network"])
        self._average = content["average"]
        self._optimiser.load_state_dict(content["optimiser"])
        self._rate.load_state_dict(content["rate"])


def _rate_factor(step: int, total: int) -> float:
    """Factor on the learning rate: a short linear warm-up, then a cosine to 0."""
    return min(1.0, (step + 1) / max(1.0, _WARM_UP * total)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


class _Swapped:
    """Gives weights other values within a `with` block."""

    def __init__(self, weights: list[Tensor], values: list[Tensor] | None) -> None:
        self._weights, self._values = weights, values

    def __enter__(self) -> None:
        self._own = [weight.detach().clone() for weight in self._weights]
        self._put(self._values or self._own)

    def __exit__(self, *_: object) -> None:
        self._put(self._own)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)
