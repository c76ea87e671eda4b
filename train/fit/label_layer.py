"""The second opinion's last layer for the labels: that of the recipe `head` for whole windows.

It is what `tagger models opinion --head` takes from a checkpoint of that recipe.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tagger.stop import Stop
from train.data.dataset import Rows, inner_split
from train.fit.embeddings import Embedder
from train.fit.head import fit_windows
from train.fit.logistic import LinearHead
from train.fit.trainer import Setup, calibrated
from train.recipe import RECIPES


@dataclass(frozen=True)
class LabelLayer:
    last: nn.Linear
    """Pooled features to calibrated logits of the labels."""
    inner: Rows
    """Clips that `before` did not learn from."""
    before: Tensor
    """[clips of the corpus, labels], calibrated logits by the layer as it was before it learnt from `inner`, too."""


def label_layer(setup: Setup, rows: Rows, stop: Stop) -> LabelLayer:
    """Fits the layer to these clips, split as `--freeze` splits them; features that it has computed are in the cache.

    Raises:
        TrainingStoppedError: after `stop`; the views that are complete stay in the cache.
    """
    backbone = replace(setup.backbone, config=replace(setup.backbone.config, head="linear"))
    dataset, targets = setup.corpus.dataset, setup.corpus.targets
    network = backbone.build(len(dataset.labels)).eval()
    embeddings = Embedder(network, backbone, setup.corpus, setup.seed, setup.place, stop).windows()
    plain = embeddings.views["plain"][0]
    inner, rest = inner_split(dataset, rows, RECIPES["head"].inner_share, setup.seed)
    if not targets[torch.from_numpy(inner)].any():
        inner = rest
    outer, held = torch.from_numpy(rest), torch.from_numpy(inner)
    hidden: nn.Sequential = network.cpu().classifier[2:-1]  # type: ignore[index,assignment]
    window = fit_windows(backbone, hidden, embeddings, targets, outer, held, stop)
    logits = window.before.logits(plain)
    temperature, bias, _ = calibrated({"plain": logits[held]}, targets[held], "sigmoid")
    final = window.fitted_to(*embeddings.of(torch.cat([outer, held]), targets))
    last = nn.Linear(plain.shape[1], len(dataset.labels))
    LinearHead(final.weight / temperature, final.bias / temperature + bias).put_into(last)
    return LabelLayer(last.requires_grad_(False), inner, logits / temperature + bias)
