"""The recipe `stream`: the upper blocks of a network, taught on windows as a stream has them, to hear what and when.

What the lower blocks make of every window is computed once; a batch then costs a tenth. Three things are learnt at
once: which labels a window holds, which each of its moments holds, and still to know what the network knew before
(Li and Hoiem, "Learning without Forgetting", TPAMI 2018), which tells what is none of the labels.
"""

import copy
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tagger.errors import UserError
from tagger.features.logmel import front_end
from tagger.files import replacing
from tagger.models.efficientat import Outputs, outputs_of
from tagger.stop import Stop
from train.augment.scenes import MOST_SOUNDS, Scenes, labels_of
from train.augment.views import BATCH, NOTHING, Views
from train.curve import Epoch
from train.data.cache import cached_arrays
from train.data.corpus import Corpus, Say
from train.data.dataset import Rows
from train.fit.backbone import Origin, others_of
from train.fit.distributed import Place
from train.fit.logistic import cross_entropy
from train.fit.progress import bar
from train.fit.trainer import Trained, TrainingStoppedError, calibrated, unless_stopped
from train.recipe import Recipe

SCENES = 6
"""Times that each clip is heard over a background, perhaps with another clip."""
_DRAWS = {"plain": 1, "placed": 2, "fragment": 1, "background": 1}
_WEIGHTS = {"plain": 1.0, "placed": 1.0, "fragment": 0.5, "background": 0.25, "scenes": 1.5}
"""How often windows of each view are drawn, against each other."""
_WEIGHT_OF_NOTHING = 2.0
"""The same, of recordings that are none of the labels."""
_STEPS_SHARE = 0.5
"""Of the loss of the moments, against that of the windows."""
_REMEMBER_SHARE = 0.2
"""Of the loss of what was known before."""
_RARE = -4.0
"""The bias that labels begin with: each is in one window of fifty."""
_WARM_UP = 0.05
_AVERAGE_FROM = 1 / 3
"""Of all batches: from here on weights are averaged."""
_VERSION = 1
"""Of what is in the cache."""


class Activations:
    """What the lower blocks make of every window."""

    def __init__(self, network: nn.Module, origin: Origin, corpus: Corpus, recipe: Recipe, seed: int, place: Place):
        self._corpus, self._seed, self._place = corpus, seed, place
        self._rate_hz = origin.mel.sample_rate_hz
        self._step_s = float(network.step_frames * origin.mel.hop_samples / self._rate_hz)  # type: ignore[operator]
        network = network.to(place.device)
        self._lower = nn.Sequential(*network.blocks[: recipe.frozen_blocks])  # type: ignore[index]
        self._upper = nn.Sequential(*network.blocks[recipe.frozen_blocks :])  # type: ignore[index]
        self._hidden = nn.Sequential(*list(network.classifier)[:-1])  # type: ignore[arg-type]
        self._extract = front_end(origin.mel).to(place.device)
        self._key = {
            "data": corpus.dataset.fingerprint,
            "samples": corpus.waveforms.samples,
            "backbone": origin.digest if origin.weights is not None else [origin.digest, seed],
            "network": repr(origin.config),
            "mel": repr(origin.mel),
            "blocks": recipe.frozen_blocks,
            "seed": seed,
            "version": _VERSION,
        }
        is_sound = corpus.targets.any(1).numpy()
        self._every, self._sounds = np.arange(len(is_sound)), np.flatnonzero(is_sound)

    def load(self, stop: Stop | None) -> dict[str, Tensor]:
        """By name, of each window: `maps` [n, C, rows, columns], float16; `hidden` [n, F], what the last layer would be
        given; `row` [n]; `weight` [n], how often it is to be drawn; `sounds` [n, MOST_SOUNDS], rows of the clips in it;
        `active` [n, MOST_SOUNDS, steps]; `has_steps` [n], whether that is known; `is_plain` [n].
        """
        parts = [self._view(view, draw, stop) for view, count in _DRAWS.items() for draw in range(count)]
        parts += [self._scenes(draw, stop) for draw in range(SCENES)]
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}

    def _view(self, view: str, draw: int, stop: Stop | None) -> dict[str, NDArray[Any]]:
        rows = self._every if view == "plain" else self._sounds
        views = Views(self._corpus.waveforms, self._rate_hz, self._seed + 1000 * draw)
        heard = self._heard(views.batches(rows, view), len(rows), view, draw, stop)
        sounds = np.full((len(rows), MOST_SOUNDS), -1, np.int64)
        if view not in NOTHING:
            sounds[:, 0] = np.where(np.isin(rows, self._sounds), rows, -1)
        active = np.zeros((len(rows), MOST_SOUNDS, self._steps), bool)
        has_steps: NDArray[np.bool_] = sounds[:, 0] < 0  # nothing is heard at any moment
        return self._part(view, rows, heard, sounds, active, has_steps)

    def _scenes(self, draw: int, stop: Stop | None) -> dict[str, NDArray[Any]]:
        rows = self._every if draw < 2 else self._sounds
        scenes = Scenes(self._corpus, self._rate_hz, self._seed + 1000 * draw)
        active = np.zeros((len(rows), MOST_SOUNDS, self._steps), bool)

        def batches() -> Iterator[Tensor]:
            for first in range(0, len(rows), BATCH):
                made = [scenes[int(row)] for row in rows[first : first + BATCH]]
                for number, scene in enumerate(made, first):
                    active[number, : len(scene.active)] = scene.active.at_steps(self._steps, self._step_s)
                yield torch.from_numpy(np.stack([scene.window for scene in made]))

        heard = self._heard(batches(), len(rows), "scenes", draw, stop, lambda: {"active": active})
        return self._part("scenes", rows, heard, scenes.sounds[rows], heard["active"], np.ones(len(rows), bool))

    def _part(
        self,
        view: str,
        rows: Rows,
        heard: dict[str, NDArray[Any]],
        sounds: NDArray[np.int64],
        active: NDArray[np.bool_],
        has_steps: NDArray[np.bool_],
    ) -> dict[str, NDArray[Any]]:
        weight = _WEIGHTS[view] * np.where(np.isin(rows, self._sounds), 1.0, _WEIGHT_OF_NOTHING)
        return {
            "maps": heard["maps"],
            "hidden": heard["hidden"],
            "row": rows.astype(np.int64),
            "weight": weight,
            "sounds": sounds,
            "active": active,
            "has_steps": has_steps,
            "is_plain": np.full(len(rows), view == "plain"),
        }

    @property
    def _steps(self) -> int:
        return math.ceil(self._corpus.waveforms.samples / self._rate_hz / self._step_s - 1e-9)

    def _heard(
        self,
        batches: Iterator[Tensor],
        count: int,
        view: str,
        draw: int,
        stop: Stop | None,
        more: Any = dict,
    ) -> dict[str, NDArray[Any]]:
        def make() -> dict[str, NDArray[Any]]:
            maps, hidden = [], []
            title = f"windows, {view}{f' {draw}' if draw else ''}"
            with click.progressbar(length=count, label=title, file=sys.stderr) as shown, torch.inference_mode():
                for waves in unless_stopped(batches, stop):
                    log_mel = self._extract(waves.to(self._place.device)).to(memory_format=torch.channels_last)
                    low = self._lower(log_mel)
                    whole = self._hidden(self._upper(low))
                    maps.append(low.half().cpu().numpy())
                    hidden.append(whole.half().cpu().numpy())
                    shown.update(len(waves))
            return {"maps": np.concatenate(maps), "hidden": np.concatenate(hidden), **more()}

        return cached_arrays("windows", self._key | {"view": view, "draw": draw}, make)


class Upper:
    """Trains one split. `run` may be interrupted, and continues after the last whole epoch when it is run again."""

    def __init__(
        self, origin: Origin, recipe: Recipe, corpus: Corpus, seed: int, place: Place, stop: Stop | None = None
    ) -> None:
        """
        Raises:
            TrainingStoppedError: after `stop`; the views that are whole stay in the cache.
            UserError: the network has no such blocks.
        """
        self._origin, self._recipe, self._corpus, self._seed, self._place = origin, recipe, corpus, seed, place
        network = self._built()
        if not isinstance(network.classifier, nn.Sequential):
            raise UserError(f"the recipe stream is for mn and dymn networks, not for {origin.name}")
        self._windows = Activations(network, origin, corpus, recipe, seed, place).load(stop)

    def _built(self) -> nn.Module:
        torch.manual_seed(self._seed)
        return self._origin.build(self._corpus.targets.shape[1], self._recipe.dropout).eval()

    def run(self, rows: Rows, inner: Rows, folder: Path, say: Say, stop: Stop) -> Trained:
        """
        Args:
            rows, inner: what is learnt from, and what scores are calibrated on.
            folder: for `state.pt`.

        Raises:
            TrainingStoppedError: after `stop`.
        """
        job = _Run(self._built(), self._origin, self._recipe, self._corpus, self._windows, rows, inner, self._place)
        return job.run(folder / "state.pt", self._seed, say, stop)


class _Run:
    def __init__(
        self,
        network: nn.Module,
        origin: Origin,
        recipe: Recipe,
        corpus: Corpus,
        windows: dict[str, Tensor],
        rows: Rows,
        inner: Rows,
        place: Place,
    ) -> None:
        self._recipe, self._place, self._windows, self._targets = recipe, place, windows, corpus.targets
        self._learnt = np.flatnonzero(np.isin(windows["row"].numpy(), rows))
        self._inner = torch.from_numpy(np.flatnonzero(np.isin(windows["row"].numpy(), inner)))
        plain = torch.from_numpy(np.flatnonzero(np.isin(windows["row"].numpy(), rows) & windows["is_plain"].numpy()))
        heard, truth = windows["hidden"][plain].float(), corpus.targets[windows["row"][plain]]
        others = others_of(network, origin, heard, truth)
        self._classifier: nn.Module = network.classifier  # type: ignore[assignment]
        last: nn.Linear = network.classifier[-1]  # type: ignore[index,assignment]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, _RARE)
        network.moments, network.others = copy.deepcopy(last), others  # type: ignore[assignment]
        classes = others.layer.out_features if others is not None else 0
        network.config = dataclasses.replace(network.config, moments=True, others=classes)  # type: ignore[type-var]
        self._others_names = origin.labels if others is not None else ()
        self._before = copy.deepcopy(others.layer).to(place.device) if others is not None else None
        self.network = network.to(place.device)
        blocks: list[nn.Module] = network.blocks[recipe.frozen_blocks :]  # type: ignore[index,assignment]
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
        self._steps_per_epoch = max(1, len(self._learnt) // recipe.batch)
        total = recipe.epochs * self._steps_per_epoch
        self._rate = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: _share(step, total))
        self._average: list[Tensor] | None = None
        self._average_from = int(_AVERAGE_FROM * total)
        self._curve: list[Epoch] = []

    def run(self, path: Path, seed: int, say: Say, stop: Stop) -> Trained:
        if path.is_file():
            self._load(path)
            say(f"continuing after {len(self._curve)} epochs")
        recipe = self._recipe
        while len(self._curve) < recipe.epochs:
            number, began = len(self._curve), time.monotonic()
            rng = np.random.default_rng([seed, number])
            torch.manual_seed(seed * 1000 + number)  # dropout's
            weight = self._windows["weight"].numpy()[self._learnt]
            loss = 0.0
            with bar(self._steps_per_epoch, f"epoch {number + 1} of {recipe.epochs}", self._place.leads) as shown:
                for step in range(self._steps_per_epoch):
                    if stop.interrupted:
                        raise TrainingStoppedError
                    chosen = rng.choice(self._learnt, recipe.batch, p=weight / weight.sum())
                    loss += self._step(torch.from_numpy(chosen), number * self._steps_per_epoch + step)
                    shown.update(1)
            logits, truth = self._validated()
            row = Epoch(
                epoch=number + 1,
                train_loss=loss / self._steps_per_epoch,
                train_accuracy=None,
                inner_loss=float(cross_entropy(logits, truth)),
                inner_accuracy=_accuracy(logits, truth),
                learning_rate=self._optimiser.param_groups[0]["lr"],
                seconds=time.monotonic() - began,
            )
            self._curve.append(row)
            self._save(path)
            say(
                f"epoch {row.epoch:3}: loss {row.train_loss:.3f}, inner loss {row.inner_loss:.3f}, "
                f"inner accuracy {100 * (row.inner_accuracy or 0):.2f} %, {row.seconds:.0f} s"
            )
        return self._finished()

    def _step(self, chosen: Tensor, step: int) -> float:
        windows, recipe, device = self._windows, self._recipe, self._place.device
        maps = windows["maps"][chosen].to(device).float().to(memory_format=torch.channels_last)
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
            known = self._before(windows["hidden"][chosen].to(device).float()).sigmoid()
            said = self.network.others.layer(hidden.float())  # type: ignore[union-attr,operator]
            loss = loss + _REMEMBER_SHARE * cross_entropy(said, known)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, recipe.clip_gradient or math.inf)
        self._optimiser.step()
        self._rate.step()
        with torch.no_grad():
            if self._average is None and step >= self._average_from:
                self._average = [weight.detach().clone() for weight in self._weights]
            elif self._average is not None:
                torch._foreach_lerp_(self._average, [weight.detach() for weight in self._weights], 1 - recipe.average)
        return float(loss.detach())

    def _outputs(self, maps: Tensor) -> tuple[Outputs, Tensor]:
        """What the network says, and what its last layer is given, [B, F]."""
        high = self._upper(maps)
        hidden = high
        for layer in list(self.network.classifier)[:-1]:  # type: ignore[arg-type]
            hidden = layer(hidden)
        return outputs_of(self.network, high), hidden

    @torch.inference_mode()
    def _scored(self, chosen: Tensor) -> Tensor:
        """Logits less surprise, [N, labels]."""
        self.network.eval()
        parts = []
        for some in torch.split(chosen, 256):
            maps = self._windows["maps"][some].to(self._place.device).float().to(memory_format=torch.channels_last)
            heard = outputs_of(self.network, self._upper(maps))
            surprise = heard.surprise.amax(1, keepdim=True) if heard.surprise is not None else 0.0
            parts.append((heard.logits - self._recipe.surprise * surprise).cpu())
        return torch.cat(parts)

    def _validated(self) -> tuple[Tensor, Tensor]:
        """Logits and truth of the inner clips as they are, by the averaged weights."""
        plain = self._inner[self._windows["is_plain"][self._inner]]
        with self._averaged():
            return self._scored(plain), self._targets[self._windows["row"][plain]]

    def _averaged(self) -> "_Swapped":
        return _Swapped(self._weights, self._average)

    def _finished(self) -> Trained:
        with torch.no_grad():
            for weight, mean in zip(self._weights, self._average or self._weights, strict=True):
                weight.copy_(mean)
        windows = self._windows
        labelled = self._targets[windows["row"][self._inner]].any(1)
        plain = self._inner[windows["is_plain"][self._inner] & labelled]
        nothing = self._inner[~labels_of(windows["sounds"][self._inner], self._targets).amax(1).any(1)]
        targets = self._targets[windows["row"][plain]]
        temperature, bias, _ = calibrated({"plain": self._scored(plain)}, targets, "sigmoid")
        threshold = round(1 / (1 + math.exp(-(self._recipe.enter_logit / temperature + bias))), 4)
        quiet = self._scored(nothing).amax(1)
        last = self._curve[-1]
        return Trained(
            self.network.eval().requires_grad_(False).cpu(),
            temperature,
            bias,
            threshold,
            surprise=self._recipe.surprise if self._before is not None else 0.0,
            others=self._others_names,
            curve=tuple(self._curve),
            kept_epoch=last.epoch,
            details={
                "inner_loss": last.inner_loss,
                "inner_accuracy": last.inner_accuracy,
                "inner_nothing_announced": float((quiet >= self._recipe.enter_logit).float().mean()),
            },
        )

    def _save(self, path: Path) -> None:
        content = {
            "network": self.network.state_dict(),
            "average": self._average,
            "optimiser": self._optimiser.state_dict(),
            "rate": self._rate.state_dict(),
            "curve": [dataclasses.asdict(row) for row in self._curve],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            torch.save(content, partial)

    def _load(self, path: Path) -> None:
        content = torch.load(path, map_location=self._place.device, weights_only=True)
        self.network.load_state_dict(content["network"])
        self._average = content["average"]
        self._optimiser.load_state_dict(content["optimiser"])
        self._rate.load_state_dict(content["rate"])
        self._curve = [Epoch(**row) for row in content["curve"]]


def _share(step: int, total: int) -> float:
    """Of the learning rate: a short warm-up, then a cosine to nothing."""
    return min(1.0, (step + 1) / max(1.0, _WARM_UP * total)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


class _Swapped:
    """While it lasts, weights have these values."""

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


def _accuracy(logits: Tensor, truth: Tensor) -> float | None:
    labelled = truth.any(1)
    if not labelled.any():
        return None
    return float((logits[labelled].argmax(1) == truth[labelled].argmax(1)).float().mean())
