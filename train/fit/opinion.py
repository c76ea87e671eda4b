"""The second opinion of a network that was trained: the official network that it began with, as that was before.

Weights and which classes mean a label come with the package (`tagger.checkpoints.opinion`). What these do not know is
learnt from the clips: the classes that a label's clips excite most, a network's usual logits, and the bias that leaves
the median clip where it was.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.checkpoints import checkpoint
from tagger.checkpoints.opinion import Opinion, classes_for, read_constants
from tagger.features.config import MelConfig
from tagger.features.logmel import front_end
from tagger.models.network import Network
from tagger.models.opinion import with_opinion
from tagger.stop import Stop
from train.data.corpus import Corpus
from train.data.dataset import Rows
from train.fit.label_layer import label_layer
from train.fit.trainer import Setup, Trained
from train.messages import Say

LEAST_CLIPS, LEAST_LABELS = 500, 20
"""Fewest clips and labels that show what is usual for a network's classes."""
MOST_CLASSES = 3
"""Most classes that mean a label, where its clips tell. With the table's, ESC-50's heads rank other recordings by AUROC
0.841 on the half `choose` (docs/opinion.md); with three, two and one of the clips' own: 0.833, 0.834, 0.822."""
_LEAST_SHARE = 0.5
"""Least mean surprise of such a class, as a share of the first one's."""
_BATCH = 32

Array = NDArray[np.float64]


def second_opinion(trained: Trained, setup: Setup, rows: Rows, inner: Rows, say: Say, stop: Stop) -> Trained:
    """The same with a second opinion; as it was, where none is possible, which is said.

    Args:
        rows: clips that were learnt from.
        inner: clips that set the bias.

    Raises:
        TrainingStoppedError: after `stop`; the same call goes on.
    """
    backbone, corpus, device = setup.backbone, setup.corpus, setup.place.device
    if backbone.official is None or trained.activation != "sigmoid":
        return trained
    other = checkpoint.load(backbone.official)
    network = with_opinion(cast(Network, trained.model), cast(Network, other.model))
    if network is None:
        say("no second opinion: too few of the first layers are as they were")
        return trained
    labels, constants = corpus.dataset.labels, read_constants()
    usual = constants["usual"].get(other.info.name)
    table = classes_for(labels, other.info.labels)
    every = rows[corpus.targets[torch.from_numpy(rows)].any(1).numpy()]
    truth = corpus.targets.argmax(1).numpy()
    if usual is None and (len(every) < LEAST_CLIPS or len(labels) < LEAST_LABELS):
        say(
            f"no second opinion: what is usual for {other.info.name} is not known, and is learnt from "
            f"{LEAST_CLIPS} clips of {LEAST_LABELS} labels or more"
        )
        return trained
    layer = None
    if setup.recipe.opinion_layer:
        layer = label_layer(setup, np.union1d(rows, inner), stop)
        network = cast(Network, with_opinion(cast(Network, trained.model), cast(Network, other.model), layer.last))
    network = network.to(device)
    wanted = [label for label, name in enumerate(labels) if name not in table]
    shown = every if usual is None else every[np.isin(truth[every], wanted)]
    _, audioset = _heard(network, trained, backbone.mel, corpus, shown, device)
    if usual is None:
        usual = {"mean": audioset.mean(0), "spread": audioset.std(0).clip(1e-3)}
    mean, spread = (tuple(float(round(each, 4)) for each in usual[name]) for name in ("mean", "spread"))
    surprise = (audioset - np.array(mean)) / np.array(spread)
    learnt = {labels[each]: _excited(surprise[truth[shown] == each], other.info.labels) for each in wanted}
    means = tuple({**table, **learnt}[label] for label in labels)
    weights = constants["weights"] | ({} if layer is not None else {"share": 0.0})
    opinion = Opinion(other.info.labels, means, mean, spread, **weights, network=other.info.name)
    known, second = inner[corpus.targets[torch.from_numpy(inner)].any(1).numpy()], None
    if layer is not None:
        unheard = known[np.isin(known, layer.inner)]
        known = unheard if len(unheard) else known
        second = layer.before[torch.from_numpy(known)].double().numpy()
    logits, audioset = _heard(network, trained, backbone.mel, corpus, known, device)
    bias = neutral_bias(opinion, logits, audioset, truth[known], second)
    return replace(trained, model=network.cpu(), opinion=replace(opinion, bias=round(bias, 4)))


def neutral_bias(
    opinion: Opinion, logits: Array, audioset: Array, truth: NDArray[np.int64], second: Array | None = None
) -> float:
    """The bias that keeps the median logit of clips that are right with and without the opinion; of all clips, if none
    is.

    Args:
        logits: [N, labels], calibrated.
        truth: [N], number of the label.
        second: [N, labels], calibrated logits of the opinion's last layer for the labels. None: it has none.
    """
    after, rows = opinion(logits, audioset, second), np.arange(len(truth))
    right = (after.argmax(1) == truth) & (logits.argmax(1) == truth)
    rows = rows[right] if right.any() else rows
    return float(np.median(logits[rows, truth[rows]] - after[rows, truth[rows]]))


def _excited(surprise: Array, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that a label's clips excite most. Input: [clips, classes]."""
    mean = surprise.mean(0)
    most = np.argsort(-mean)[:MOST_CLASSES]
    return tuple(classes[each] for each in most if mean[each] >= _LEAST_SHARE * mean[most[0]])


@torch.inference_mode()
def _heard(
    network: Network, trained: Trained, mel: MelConfig, corpus: Corpus, rows: Rows, device: torch.device
) -> tuple[Array, Array]:
    """Calibrated logits [N, labels], and those of the second opinion [N, classes], of clips as they are."""
    features = front_end(mel).to(device)
    found: list[tuple[Array, Array]] = [(np.zeros((0, network.config.labels)), np.zeros((0, network.config.opinion)))]
    for first in range(0, len(rows), _BATCH):
        waveforms = corpus.waveforms.batch(rows[first : first + _BATCH])
        outputs = network.outputs(features(torch.from_numpy(waveforms).to(device)))
        surprise = outputs.surprise.amax(1, keepdim=True) if outputs.surprise is not None else 0.0
        logits = (outputs.logits - trained.surprise * surprise) / trained.temperature + trained.bias
        assert outputs.opinion is not None
        found.append((logits.double().cpu().numpy(), outputs.opinion.double().cpu().numpy()))
    one, two = zip(*found, strict=True)
    return np.concatenate(one), np.concatenate(two)
