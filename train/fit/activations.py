"""Output of a network's lower blocks for every window that the recipe `stream` learns from. Kept in the cache.

How the upper blocks are trained on it: `train.fit.stream`.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tagger.features.logmel import front_end
from tagger.models.network import Network
from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.scenes import MOST_SOUNDS, Scenes
from train.augment.views import BATCH, NOTHING, Views
from train.data.cache import cached_arrays
from train.data.corpus import Corpus
from train.data.dataset import Rows
from train.fit.backbone import Backbone
from train.fit.distributed import Place
from train.fit.trainer import unless_stopped
from train.recipe import Recipe

_DRAWS = {"plain": 1, "placed": 2, "fragment": 1, "background": 1}
_WEIGHTS = {"plain": 1.0, "placed": 2.0, "fragment": 0.5, "background": 0.25, "scenes": 9.0}
"""Relative probability of drawing any of a clip's windows of each view."""
_WEIGHT_OF_NOTHING = 2.0
"""Factor on it, for recordings outside the label set."""
_WITH_NOTHING = 1 / 3
"""Share of the scenes' draws in which each recording outside the label set has one, too."""
_VERSION = 2
"""Version of the cached arrays."""


class Activations:
    """Output of the lower blocks for every window."""

    def __init__(self, network: Network, backbone: Backbone, corpus: Corpus, recipe: Recipe, seed: int, place: Place):
        self._corpus, self._seed, self._place, self._through = corpus, seed, place, recipe.channel
        self._draws = _DRAWS | {"scenes": recipe.scenes}
        self._rate_hz = backbone.mel.sample_rate_hz
        self._step_s = float(network.step_frames * backbone.mel.hop_samples / self._rate_hz)
        network = network.to(place.device)
        self._lower = nn.Sequential(*network.blocks[: recipe.frozen_blocks])
        self._upper = nn.Sequential(*network.blocks[recipe.frozen_blocks :])
        self._hidden = nn.Sequential(*list(network.classifier)[:-1])  # type: ignore[arg-type]
        self._extract = front_end(backbone.mel).to(place.device)
        self._key = {
            "data": corpus.dataset.fingerprint,
            "samples": corpus.waveforms.samples,
            **backbone.cache_key(seed),
            "blocks": recipe.frozen_blocks,
            "seed": seed,
            "version": _VERSION,
            **({"channel": recipe.channel} if recipe.channel else {}),
        }
        has_label = corpus.targets.any(1).numpy()
        self._every, self._sounds = np.arange(len(has_label)), np.flatnonzero(has_label)

    def load(self, stop: Stop | None) -> dict[str, Tensor]:
        """Arrays by name, over all windows.

        Returns:
            `maps` [n, C, rows, columns], float16: output of the lower blocks; `hidden` [n, F], float16: input of the
            last layer; `row` [n]: the clip; `weight` [n]: relative probability of a draw; `sounds` [n, MOST_SOUNDS]:
            rows of the clips that sound in it, -1 for none; `active` [n, MOST_SOUNDS, steps], bool; `has_steps` [n]:
            whether `active` is known; `is_plain` [n]: whether it is the clip as it is.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
        """
        parts = [self.part(*each, stop) for each in self.parts]
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}

    @property
    def parts(self) -> list[tuple[str, int]]:
        """View and number of each part of `load`, in its order. Processes may share them: the cache keeps each."""
        return [(view, draw) for view, count in self._draws.items() for draw in range(count)]

    def part(self, view: str, draw: int, stop: Stop | None) -> dict[str, NDArray[Any]]:
        """One of `parts`: what `load` gives, of these windows."""
        return self._scenes(draw, stop) if view == "scenes" else self._view(view, draw, stop)

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
        rows = self._every if draw < _WITH_NOTHING * self._draws["scenes"] else self._sounds
        scenes = Scenes(self._corpus, self._rate_hz, self._seed + 1000 * draw, self._through)
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
        weight = _WEIGHTS[view] / self._draws[view] * np.where(np.isin(rows, self._sounds), 1.0, _WEIGHT_OF_NOTHING)
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
            title = f"windows {self.parts.index((view, draw)) + 1} of {len(self.parts)}, {view}"
            with Progress(title, count, "windows", shown=self._place.leads) as progress, torch.inference_mode():
                for waves in unless_stopped(batches, stop):
                    log_mel = self._extract(waves.to(self._place.device)).to(memory_format=torch.channels_last)
                    low = self._lower(log_mel)
                    whole = self._hidden(self._upper(low))
                    maps.append(low.half().cpu().numpy())
                    hidden.append(whole.half().cpu().numpy())
                    progress.update(len(waves))
            return {"maps": np.concatenate(maps), "hidden": np.concatenate(hidden), **more()}

        return cached_arrays("windows", self._key | {"view": view, "draw": draw, "windows": count}, make)
