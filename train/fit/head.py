"""The recipe `head`: new last layers on a frozen network. Its features are extracted once; heads then take seconds."""

import dataclasses

import torch
from torch import Tensor, nn

from tagger.models.efficientat import Others
from tagger.stop import Stop
from train.data.corpus import Corpus
from train.data.dataset import Rows
from train.fit.backbone import Origin, others_of
from train.fit.distributed import Place
from train.fit.embeddings import Embedder
from train.fit.logistic import Head, cross_entropy, fit
from train.fit.trainer import Trained, calibrated, unless_stopped

L2_CANDIDATES = (3e-4, 1e-3, 3e-3)
SURPRISE = 4.0
"""What logits lose for a sound that the network is sure of and no label explains."""


class Frozen:
    """A network's features of a data set, and heads on them."""

    def __init__(self, origin: Origin, corpus: Corpus, seed: int, place: Place, stop: Stop | None = None) -> None:
        """
        Raises:
            TrainingStoppedError: after `stop`; the views that are whole stay in the cache.
            UserError: the network has no linear head on pooled features.
        """
        self._origin, self._corpus, self._stop = origin, corpus, stop
        torch.manual_seed(seed)  # matters where the network starts from nothing
        self.network = origin.build(corpus.targets.shape[1]).eval()
        self.embeddings = Embedder(self.network, origin, corpus, seed, place, stop).embeddings()

    def fit(self, rows: Rows, inner: Rows) -> Trained:
        """Heads of these rows. Regularisation and threshold are chosen on `inner`, which they learn at last, too."""
        targets = self._corpus.targets
        outer, held = torch.from_numpy(rows), torch.from_numpy(inner)
        validation = self.embeddings.of(held, targets)
        tried = []
        for l2 in unless_stopped(L2_CANDIDATES, self._stop):
            head = fit(*self.embeddings.of(outer, targets), l2)
            tried.append((float(cross_entropy(head.logits(validation[0]), validation[1])), l2, head))
        _, l2, head = min(tried, key=lambda each: each[0])
        every = torch.cat([outer, held])
        heard = self.embeddings.views["plain"][0][every]
        others = others_of(self.network, self._origin, heard, targets[every])

        def logits_of(features: Tensor) -> Tensor:
            surprise = others(features).amax(1, keepdim=True) if others is not None else 0.0
            logits: Tensor = head.logits(features) - SURPRISE * surprise
            return logits

        with torch.no_grad():
            logits = {view: logits_of(many[0][held]) for view, many in self.embeddings.views.items()}
        temperature, bias, threshold = calibrated(logits, targets[held], "sigmoid")
        final = fit(*self.embeddings.of(every, targets), l2)
        return Trained(
            self._with(final, others),
            temperature,
            bias,
            threshold,
            surprise=SURPRISE if others is not None else 0.0,
            others=self._origin.labels if others is not None else (),
            details={"l2": l2},
        )

    def _with(self, head: Head, others: Others | None) -> nn.Module:
        network = self.network
        head.put_into(network.classifier[-1])  # type: ignore[index,arg-type]
        network.others = others  # type: ignore[assignment]
        classes = others.layer.out_features if others is not None else 0
        network.config = dataclasses.replace(network.config, others=classes)  # type: ignore[type-var]
        return network.cpu()
