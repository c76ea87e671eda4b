"""Embeddings of every clip of a data set by a frozen network, in each view: computed once, and cached."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tagger.errors import UserError
from tagger.features.logmel import front_end
from tagger.models.efficientat import step_features
from tagger.models.network import Network
from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.scenes import MOST_SOUNDS, Scenes, labels_of
from train.augment.views import BATCH, Views, targets_of
from train.data.cache import cached_arrays
from train.data.corpus import Corpus
from train.fit.backbone import Backbone
from train.fit.distributed import Place
from train.fit.trainer import unless_stopped

DRAWS = {"plain": 1, "placed": 4, "fragment": 1, "background": 1}
"""Number of draws of each view."""
_STAGES = sum(DRAWS.values()) + 1
"""Passes over the data: every draw of every view, and the scenes, which come last."""
SCENES = 400
"""Fewest scenes in which a data set's sounds are placed; each clip has at least `_LEAST_SCENES`."""
_LEAST_SCENES = 2
_SCENE_STEPS = 8
"""Steps of each scene that are kept, drawn at random."""
_VERSION = 7
"""Version of the cached arrays."""


@dataclass(frozen=True)
class Steps:
    """Steps of scenes, and what sounds in them."""

    features: Tensor
    """[scenes, steps, F], float16."""
    row: Tensor
    """[scenes]: the clip that each scene is made of."""
    sounds: Tensor
    """[scenes, MOST_SOUNDS]: rows of the clips that sound in it; -1: none."""
    active: Tensor
    """[scenes, MOST_SOUNDS, steps], bool: when each of them is heard."""

    def of(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, F] and targets [N, labels] of all steps of the scenes that are made of these clips."""
        chosen = torch.isin(self.row, rows)
        labels = labels_of(self.sounds[chosen], targets)
        truth = torch.einsum("nsl,nst->ntl", labels, self.active[chosen].float()).clamp(max=1)
        return self.features[chosen].float().flatten(0, 1), truth.flatten(0, 1)


@dataclass(frozen=True)
class WindowEmbeddings:
    views: dict[str, tuple[Tensor, ...]]
    """By view: one [clips, F] for each of its draws."""

    def of(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [N, F] and targets [N, labels] of these clips, in every view and draw."""
        pairs = [(each[rows], targets_of(view, targets[rows])) for view, many in self.views.items() for each in many]
        embeddings, truths = zip(*pairs, strict=True)
        return torch.cat(embeddings), torch.cat(truths)


@dataclass(frozen=True)
class Embeddings(WindowEmbeddings):
    within: dict[str, Tensor]
    """By view: [clips, steps, F], float16, the steps of its first draw."""
    scenes: Steps


class Embedder:
    """A frozen network without its last layer."""

    def __init__(
        self, network: Network, backbone: Backbone, corpus: Corpus, seed: int, place: Place, stop: Stop | None
    ):
        """
        Raises:
            UserError: the network has no linear head on pooled features.
        """
        if not network.has_linear_head:
            raise UserError(f"the recipe head is for mn and dymn networks: {backbone.name} has no head to fit exactly")
        classifier: nn.Sequential = network.classifier  # type: ignore[assignment]
        self._classifier = classifier.to(place.device)
        body: nn.Module = network.features  # type: ignore[assignment]
        maps = body.to(place.device)
        self._maps: nn.Module = maps.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._extract = front_end(backbone.mel).to(place.device)
        self._rate_hz = backbone.mel.sample_rate_hz
        self._step_s = float(network.step_frames * backbone.mel.hop_samples / self._rate_hz)
        self._corpus, self._seed, self._place, self._stop = corpus, seed, place, stop
        self._key = {
            "data": corpus.dataset.fingerprint,
            "samples": corpus.waveforms.samples,
            **backbone.cache_key(seed),
            "version": _VERSION,
        }

    def embeddings(self) -> Embeddings:
        """
        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
        """
        views, within = {}, {}
        for view, count in DRAWS.items():
            draws = [self._view(view, draw) for draw in range(count)]
            views[view] = tuple(each["whole"] for each in draws)
            within[view] = draws[0]["steps"]
        return Embeddings(views, within, self._scenes())

    def windows(self) -> WindowEmbeddings:
        """Those of whole windows alone: the same, in less time.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
        """
        views = {}
        for view, count in DRAWS.items():
            views[view] = tuple(self._view(view, draw, _STAGES - 1)["whole"] for draw in range(count))
        return WindowEmbeddings(views)

    def hidden(self) -> Tensor:
        """Inputs of the last layer for each clip as it is, [clips, F]."""
        return self._view("plain", 0)["whole"]

    def pooled(self) -> Tensor:
        """Means of the last feature map over each clip as it is, [clips, C]."""
        views, clips = Views(self._corpus.waveforms, self._rate_hz, self._seed), len(self._corpus.waveforms)

        def make() -> dict[str, NDArray[Any]]:
            batches = views.batches(np.arange(clips), "plain")
            return {
                "pooled": np.concatenate(
                    [maps.mean((2, 3)).cpu().numpy() for maps in self._heard(batches, "features", clips)]
                )
            }

        return torch.from_numpy(cached_arrays("features", self._key | {"view": "pooled"}, make)["pooled"])

    def _view(self, view: str, draw: int, stages: int = _STAGES) -> dict[str, Tensor]:
        """One draw of one view: `whole` [clips, F]; of the first draw `steps`, too, [clips, steps, F], float16.

        Args:
            stages: how many passes over the data it is one of.
        """
        views = Views(self._corpus.waveforms, self._rate_hz, self._seed + 1000 * draw)

        def make() -> dict[str, NDArray[Any]]:
            batches = views.batches(np.arange(len(self._corpus.waveforms)), view)
            whole, steps = [], []
            for maps in self._heard(batches, _title(view, draw, stages), len(self._corpus.waveforms)):
                whole.append(self._whole(maps))
                if draw == 0:
                    steps.append(self._steps(maps))
            return {"whole": np.concatenate(whole)} | ({"steps": np.concatenate(steps)} if steps else {})

        seeded = {} if view == "plain" else {"seed": self._seed, "draw": draw}
        made = cached_arrays("features", self._key | {"view": view} | seeded, make)
        return {name: torch.from_numpy(array) for name, array in made.items()}

    def _scenes(self) -> Steps:
        """Steps of scenes: the sounds of the data set at known times, over noise or background recordings."""
        clips = len(self._corpus.waveforms)
        draws = max(_LEAST_SCENES, -(-SCENES // clips))

        def make() -> dict[str, NDArray[Any]]:
            features, sounds, active = [], [], []
            rng = np.random.default_rng([self._seed, clips])
            title = f"features {_STAGES} of {_STAGES}, scenes"
            with Progress(title, draws * clips, "windows", shown=self._place.leads) as progress:
                for draw in range(draws):
                    scenes = Scenes(self._corpus, self._rate_hz, self._seed + 1000 * draw)
                    for first in unless_stopped(range(0, clips, BATCH), self._stop):
                        made = [scenes[row] for row in range(first, min(first + BATCH, clips))]
                        steps = self._steps(self._maps_of(torch.from_numpy(np.stack([one.window for one in made]))))
                        kept = min(_SCENE_STEPS, steps.shape[1])
                        for scene, of_scene in zip(made, steps, strict=True):
                            chosen = np.sort(rng.permutation(len(of_scene))[:kept])
                            heard = np.zeros((MOST_SOUNDS, len(of_scene)), bool)
                            heard[: len(scene.active)] = scene.active.at_steps(len(of_scene), self._step_s)
                            features.append(of_scene[chosen])
                            active.append(heard[:, chosen])
                        progress.update(len(made))
                    sounds.append(scenes.sounds)
            return {"features": np.array(features), "sounds": np.concatenate(sounds), "active": np.array(active)}

        made = cached_arrays("features", self._key | {"view": "scenes", "seed": self._seed, "draws": draws}, make)
        features, sounds, active = (torch.from_numpy(made[name]) for name in ("features", "sounds", "active"))
        return Steps(features, torch.arange(clips).repeat(draws), sounds, active)

    def _heard(self, batches: Iterable[Tensor], title: str, count: int) -> Iterator[Tensor]:
        """The last feature map of each batch of `count` windows, [B, C, rows, steps]."""
        with Progress(title, count, "clips", shown=self._place.leads) as progress:
            for waves in unless_stopped(batches, self._stop):
                yield self._maps_of(waves)
                progress.update(len(waves))

    def _maps_of(self, waves: Tensor) -> Tensor:
        with torch.inference_mode():
            log_mel = self._extract(waves.to(self._place.device)).to(memory_format=torch.channels_last)
            maps: Tensor = self._maps(log_mel)
        return maps

    def _steps(self, maps: Tensor) -> NDArray[np.float16]:
        """Inputs of the last layer for each step, [B, steps, F]."""
        with torch.inference_mode():
            steps: NDArray[np.float16] = step_features(maps, self._classifier).half().cpu().numpy()
        return steps

    def _whole(self, maps: Tensor) -> NDArray[Any]:
        """Inputs of the last layer, [B, F]."""
        with torch.inference_mode():
            whole: NDArray[Any] = self._classifier[:-1](maps).cpu().numpy()
        return whole


def _title(view: str, draw: int, stages: int) -> str:
    """
    >>> _title("placed", 2, 8)
    'features 4 of 8, placed'
    """
    number = 1 + draw + sum(DRAWS[before] for before in itertools.takewhile(lambda each: each != view, DRAWS))
    return f"features {number} of {stages}, {view}"
