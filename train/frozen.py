"""The recipe `head`: a new last layer on a frozen network. Features are extracted once; heads then take seconds."""

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from tagger.errors import UserError
from tagger.features import front_end
from tagger.stop import Stop
from train.cache import cached
from train.dataset import Rows
from train.distributed import Place
from train.head import Head, cross_entropy, fit
from train.networks import Origin
from train.trained import Corpus, Trained, calibrated, unless_stopped
from train.views import Views, targets_of

PLACED_VIEWS = 4
"""Times that each clip is heard elsewhere in the window, besides as it is."""
L2_CANDIDATES = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class Features:
    """What a frozen network hears in every clip of a data set."""

    views: dict[str, tuple[Tensor, ...]]
    """By view, each [clips, F]; several of them where the view is drawn at random and more is better."""

    def of(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Features and targets of these clips, in every view."""
        pairs = [(each[rows], targets_of(view, targets[rows])) for view, many in self.views.items() for each in many]
        features, truths = zip(*pairs, strict=True)
        return torch.cat(features), torch.cat(truths)


class Frozen:
    """A network's features of a data set, and heads on them."""

    def __init__(self, origin: Origin, corpus: Corpus, seed: int, place: Place, stop: Stop | None = None) -> None:
        """
        Raises:
            TrainingStoppedError: after `stop`; the views that are whole stay in the cache.
            UserError: the network has no linear head on pooled features.
        """
        self._corpus, self._stop = corpus, stop
        torch.manual_seed(seed)  # matters where the network starts from nothing
        network = origin.build(corpus.targets.shape[1])
        if not isinstance(network.classifier, nn.Sequential):
            raise UserError(f"the recipe head is for mn and dymn networks: {origin.name} has no head to fit exactly")
        self.network = network.eval()
        body = nn.Sequential(network.features, *list(network.classifier)[:-1])  # type: ignore[arg-type]
        body = body.to(place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        extract = front_end(origin.mel).to(place.device)
        rows = np.arange(len(corpus.waveforms))
        key = {
            "data": corpus.dataset.fingerprint,
            "samples": corpus.waveforms.samples,
            "backbone": origin.digest if origin.weights is not None else [origin.digest, seed],
            "network": repr(origin.config),
            "mel": repr(origin.mel),
            "version": 2,
        }

        def features(view: str, draw: int) -> Tensor:
            views = Views(corpus.waveforms, origin.mel.sample_rate_hz, seed + 1000 * draw)

            def make(path: Path) -> None:
                found = []
                label = f"features, {view}{f' {draw}' if draw else ''}"
                with click.progressbar(length=len(rows), label=label, file=sys.stderr) as bar, torch.inference_mode():
                    for waves in unless_stopped(views.batches(rows, view), stop):
                        x = extract(waves.to(place.device)).to(memory_format=torch.channels_last)
                        found.append(body(x).cpu().numpy())
                        bar.update(len(waves))
                with path.open("wb") as file:
                    np.save(file, np.concatenate(found))

            seeded = {} if view == "plain" else {"seed": seed, "draw": draw}
            return torch.from_numpy(np.array(cached("features", key | {"view": view} | seeded, make)))

        draws = {"plain": 1, "placed": PLACED_VIEWS, "fragment": 1, "background": 1}
        self.features = Features({view: tuple(features(view, i) for i in range(n)) for view, n in draws.items()})

    def fit(self, rows: Rows, inner: Rows) -> Trained:
        """A head of these rows. Regularisation and threshold are chosen on `inner`, which it learns at last, too."""
        targets = self._corpus.targets
        outer, held = torch.from_numpy(rows), torch.from_numpy(inner)
        validation = self.features.of(held, targets)
        tried = []
        for l2 in unless_stopped(L2_CANDIDATES, self._stop):
            head = fit(*self.features.of(outer, targets), l2)
            tried.append((float(cross_entropy(head.logits(validation[0]), validation[1])), l2, head))
        _, l2, head = min(tried, key=lambda each: each[0])
        logits = {view: head.logits(many[0][held]) for view, many in self.features.views.items()}
        temperature, bias, threshold = calibrated(logits, targets[held], "sigmoid")
        final = fit(*self.features.of(torch.cat([outer, held]), targets), l2)
        return Trained(self._with(final), temperature, bias, threshold, details={"l2": l2})

    def _with(self, head: Head) -> nn.Module:
        head.put_into(self.network.classifier[-1])  # type: ignore[index,arg-type]
        return self.network.cpu()
