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
from tagger.models.network import Network
from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.views import Views, targets_of
from train.data.cache import cached_arrays
from train.data.corpus import Corpus
from train.fit.backbone import Backbone
from train.fit.distributed import Place
from train.fit.trainer import unless_stopped

DRAWS = {"plain": 1, "placed": 4, "fragment": 1, "background": 1}
"""Number of draws of each view."""
_VERSION = 6
"""Version of the cached arrays."""


@dataclass(frozen=True)
class Embeddings:
    views: dict[str, tuple[Tensor, ...]]
    """By view: one [clips, F] for each of its draws."""

    def of(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [N, F] and targets [N, labels] of these clips, in every view and draw."""
        pairs = [(each[rows], targets_of(view, targets[rows])) for view, many in self.views.items() for each in many]
        embeddings, truths = zip(*pairs, strict=True)
        return torch.cat(embeddings), torch.cat(truths)


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
        views = {view: tuple(self._view(view, draw) for draw in range(count)) for view, count in DRAWS.items()}
        return Embeddings(views)

    def hidden(self) -> Tensor:
        """Inputs of the last layer for each clip as it is, [clips, F]."""
        return self._view("plain", 0)

    def pooled(self) -> Tensor:
        """Means of the last feature map over each clip as it is, [clips, C]."""
        views = Views(self._corpus.waveforms, self._rate_hz, self._seed)

        def make() -> dict[str, NDArray[Any]]:
            batches = views.batches(np.arange(len(self._corpus.waveforms)), "plain")
            return {
                "pooled": np.concatenate([maps.mean((2, 3)).cpu().numpy() for maps in self._heard(batches, "features")])
            }

        return torch.from_numpy(cached_arrays("features", self._key | {"view": "pooled"}, make)["pooled"])

    def _view(self, view: str, draw: int) -> Tensor:
        """One draw of one view, [clips, F]."""
        views = Views(self._corpus.waveforms, self._rate_hz, self._seed + 1000 * draw)

        def make() -> dict[str, NDArray[Any]]:
            batches = views.batches(np.arange(len(self._corpus.waveforms)), view)
            whole = [self._whole(maps) for maps in self._heard(batches, _title(view, draw))]
            return {"whole": np.concatenate(whole)}

        seeded = {} if view == "plain" else {"seed": self._seed, "draw": draw}
        return torch.from_numpy(cached_arrays("features", self._key | {"view": view} | seeded, make)["whole"])

    def _heard(self, batches: Iterable[Tensor], title: str) -> Iterator[Tensor]:
        """The last feature map of each batch, [B, C, rows, steps]."""
        with Progress(title, len(self._corpus.waveforms), "clips", shown=self._place.leads) as progress:
            for waves in unless_stopped(batches, self._stop):
                with torch.inference_mode():
                    log_mel = self._extract(waves.to(self._place.device)).to(memory_format=torch.channels_last)
                    yield self._maps(log_mel)
                progress.update(len(waves))

    def _whole(self, maps: Tensor) -> NDArray[Any]:
        """Inputs of the last layer, [B, F]."""
        with torch.inference_mode():
            whole: NDArray[Any] = self._classifier[:-1](maps).cpu().numpy()
        return whole


def _title(view: str, draw: int) -> str:
    """
    >>> _title("placed", 2)
    'features 4 of 7, placed'
    """
    number = 1 + draw + sum(DRAWS[before] for before in itertools.takewhile(lambda each: each != view, DRAWS))
    return f"features {number} of {sum(DRAWS.values())}, {view}"
