"""The recipe `head`: new last layers on a frozen network, one for whole windows and one for each of their moments.

The network's features are computed once; fitting layers to them takes seconds. It has no epochs: the fits are exact
(`train.fit.logistic`). The moments have a layer of their own, since that of the window, which learns from means over
five seconds, takes a moment beside a sound for the sound: each moment's features hold something of the whole window
(squeeze-and-excitation), and with few labels nothing speaks against it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tagger.models.efficientat import Others, joint_logits
from tagger.stop import Stop
from train.augment.views import targets_of
from train.data.dataset import Rows
from train.fit.backbone import Backbone, others_of
from train.fit.embeddings import Embedder, Embeddings, WindowEmbeddings
from train.fit.logistic import LinearHead, cross_entropy, fit
from train.fit.negatives import Negatives, negatives_for, stored
from train.fit.trainer import Setup, Trained, Trainer, calibrated, unless_stopped
from train.messages import Say

L2_CANDIDATES = (3e-4, 1e-3, 3e-3)
MOMENTS_L2 = 1e-3
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
        self._has_said = False
        """Whether the lack of recordings that are none of the labels was said."""

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
        every = torch.cat([outer, held])
        plain = embeddings.views["plain"][0]
        hidden: nn.Sequential = self.network.classifier[2:-1]  # type: ignore[index,assignment]
        if not stored().is_file() and not self._has_said:
            self._has_said = True
            report("no recordings of other sounds: few labels are told from the rest worse (scripts/negatives.py)")
        window = fit_windows(self.setup.backbone, hidden, embeddings, targets, outer, held, stop)
        learnt, chosen = window.negatives.halves()
        moments = fit(*learnt.added_to(*embeddings.scenes.of(outer, targets), of_steps=True), MOMENTS_L2)
        others = others_of(self.network, self.setup.backbone, plain[every], targets[every])

        def logits_of(whole: Tensor, steps: Tensor, is_joint: bool) -> Tensor:
            """Logits of windows, as `tagger.models.efficientat.outputs_of` and the classifier have them."""
            surprise = others(whole).amax(1, keepdim=True) if others is not None else 0.0
            logits = window.before.logits(whole)
            if is_joint:
                logits = joint_logits(logits, moments.logits(steps.float()))
            return logits - SURPRISE * surprise

        choices = []
        for is_joint in (True, False):
            with torch.no_grad():
                views = {
                    view: logits_of(draws[0][held], embeddings.within[view][held], is_joint)
                    for view, draws in embeddings.views.items()
                }
                nothing = logits_of(chosen.whole, chosen.steps, is_joint)
            choices.append((_loss(views, nothing, targets[held]), is_joint, views, nothing))
        _, is_joint, views, nothing = min(choices, key=lambda each: each[0])
        temperature, bias, threshold = calibrated(views, targets[held], "sigmoid", nothing)
        final = window.fitted_to(*embeddings.of(every, targets))
        scenes = window.negatives.added_to(*embeddings.scenes.of(every, targets), of_steps=True)
        return Trained(
            self._with(final, fit(*scenes, MOMENTS_L2), is_joint, others),
            temperature,
            bias,
            threshold,
            surprise=SURPRISE if others is not None else 0.0,
            others=self.setup.backbone.labels if others is not None else (),
            details={"l2": window.l2, "negatives": len(window.negatives)},
        )

    def _with(self, window: LinearHead, moments: LinearHead, is_joint: bool, others: Others | None) -> nn.Module:
        """The network with these last layers."""
        network = self.network
        last: nn.Linear = network.classifier[-1]  # type: ignore[index,assignment]
        window.put_into(last)
        network.moments = nn.Linear(last.in_features, last.out_features)
        moments.put_into(network.moments)
        network.others = others  # type: ignore[assignment]
        classes = others.layer.out_features if others is not None else 0
        network.config = dataclasses.replace(network.config, moments=True, joint=is_joint, others=classes)
        return network.requires_grad_(False).cpu()


@dataclass(frozen=True)
class WindowFit:
    """A last layer for whole windows whose regularisation was chosen, and what it learns from besides the clips."""

    before: LinearHead
    """Learnt without the inner clips, and from the first half of `negatives`."""
    l2: float
    negatives: Negatives

    def fitted_to(self, features: Tensor, targets: Tensor) -> LinearHead:
        """The layer with this regularisation, learnt from these windows, [N, F] and [N, labels], and all negatives."""
        return fit(*self.negatives.added_to(features, targets), self.l2)


def fit_windows(
    backbone: Backbone,
    hidden: nn.Sequential,
    embeddings: WindowEmbeddings,
    targets: Tensor,
    rows: Tensor,
    inner: Tensor,
    stop: Stop,
) -> WindowFit:
    """Fits the layer to `rows` with each regularisation, and chooses one by `inner`.

    Args:
        hidden: the network's layers after pooling and flattening, without the last one.
        targets: [clips, labels], 0 or 1.

    Raises:
        TrainingStoppedError: after `stop`.
        UserError: the file of other recordings' features is damaged.
    """
    every = torch.cat([rows, inner])
    plain = embeddings.views["plain"][0]
    negatives = negatives_for(backbone, hidden, plain[every], targets[every])
    learnt, chosen = negatives.halves()
    l2, before = best_window(
        learnt.added_to(*embeddings.of(rows, targets)), chosen.added_to(*embeddings.of(inner, targets)), stop
    )
    return WindowFit(before, l2, negatives)


def best_window(
    learnt: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], stop: Stop, activation: str = "sigmoid"
) -> tuple[float, LinearHead]:
    """The regularisation of `L2_CANDIDATES` whose layer has the least loss on what was not learnt from, and that layer.

    Args:
        learnt, validation: features [N, F] and targets [N, labels].

    Raises:
        TrainingStoppedError: after `stop`.
    """
    tried = []
    for l2 in unless_stopped(L2_CANDIDATES, stop):
        window = fit(*learnt, l2, activation=activation)
        tried.append((float(cross_entropy(window.logits(validation[0]), validation[1], activation)), l2, window))
    _, l2, window = min(tried, key=lambda each: each[0])
    return l2, window


def _loss(views: Mapping[str, Tensor], nothing: Tensor, targets: Tensor) -> float:
    """Sum of the mean cross-entropies of the views and of windows without a label.

    Fragments of sounds do not count: whether so little is recognised does not matter.
    """
    losses = [cross_entropy(views[view], targets_of(view, targets)) for view in views if view != "fragment"]
    if len(nothing):
        losses.append(cross_entropy(nothing, torch.zeros_like(nothing)))
    return float(sum(losses))
