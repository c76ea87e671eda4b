"""The recipe `head`: a new last layer on a frozen network.

The network's features are computed once; fitting a layer to them takes seconds. It has no epochs: the fit is exact
(`train.fit.logistic`).
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from tagger.models.efficientat import Others
from tagger.stop import Stop
from train.data.dataset import Rows
from train.fit.backbone import others_of
from train.fit.embeddings import Embedder, Embeddings
from train.fit.logistic import LinearHead, cross_entropy, fit
from train.fit.trainer import Setup, Trained, Trainer, calibrated, unless_stopped
from train.messages import Say

L2_CANDIDATES = (3e-4, 1e-3, 3e-3)
SURPRISE = 4.0
"""Weight: this times the highest surprise is subtracted from every logit (see CheckpointInfo)."""


class HeadTrainer(Trainer):
    """Fits last layers to one network's features of a data set."""

    takes_teacher = False
    needs_linear_head = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        torch.manual_seed(setup.seed)  # matters where the network starts from nothing
        self.network = setup.backbone.build(setup.corpus.targets.shape[1]).eval()
        self._embeddings: Embeddings | None = None

    def embeddings(self, stop: Stop | None = None) -> Embeddings:
        """The network's features of every clip; computed at the first call.

        Raises:
            TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
            UserError: the network has no linear head on pooled features.
        """
        if self._embeddings is None:
            setup = self.setup
            embedder = Embedder(self.network, setup.backbone, setup.corpus, setup.seed, setup.place, stop)
            self._embeddings = embedder.embeddings()
        return self._embeddings

    def run(self, rows: Rows, inner: Rows, folder: Path, report: Say, stop: Stop) -> Trained:
        """See `Trainer.run`. Regularisation and threshold are chosen on `inner`; the last fit learns from it, too."""
        embeddings, targets = self.embeddings(stop), self.setup.corpus.targets
        outer, held = torch.from_numpy(rows), torch.from_numpy(inner)
        validation = embeddings.of(held, targets)
        tried = []
        for l2 in unless_stopped(L2_CANDIDATES, stop):
            head = fit(*embeddings.of(outer, targets), l2)
            tried.append((float(cross_entropy(head.logits(validation[0]), validation[1])), l2, head))
        _, l2, head = min(tried, key=lambda each: each[0])
        every = torch.cat([outer, held])
        heard = embeddings.views["plain"][0][every]
        others = others_of(self.network, self.setup.backbone, heard, targets[every])

        def logits_of(features: Tensor) -> Tensor:
            surprise = others(features).amax(1, keepdim=True) if others is not None else 0.0
            logits: Tensor = head.logits(features) - SURPRISE * surprise
            return logits

        with torch.no_grad():
            logits = {view: logits_of(many[0][held]) for view, many in embeddings.views.items()}
        temperature, bias, threshold = calibrated(logits, targets[held], "sigmoid")
        final = fit(*embeddings.of(every, targets), l2)
        return Trained(
            self._with(final, others),
            temperature,
            bias,
            threshold,
            surprise=SURPRISE if others is not None else 0.0,
            others=self.setup.backbone.labels if others is not None else (),
            details={"l2": l2},
        )

    def _with(self, head: LinearHead, others: Others | None) -> nn.Module:
        """The network with these last layers."""
        network = self.network
        head.put_into(network.classifier[-1])  # type: ignore[index,arg-type]
        network.others = others  # type: ignore[assignment]
        classes = others.layer.out_features if others is not None else 0
        network.config = dataclasses.replace(network.config, others=classes)
        return network.cpu()
