"""Scores that separate known labels from unknown sounds: ten of ESC-50's labels are left out of training, then tested.

    python bench/unknown.py ESC-50/ [--choices 5] [--first 0]

For each of five seeded choices of ten labels and each official fold, a sigmoid head on frozen `mn04` features is
fitted to the forty other labels of the other four folds, then tested on all fifty in the held-out fold. It prints, for
the daemon's score (highest logit less surprise) and for the usual alternatives, the area under the ROC curve of known
against unknown clips, and the share of unknown clips that pass where 90 % of the known ones do.

Other choices of labels: `--first 100`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from tagger.features.config import MelConfig
from train.data import esc50, waveforms
from train.data.corpus import Corpus
from train.data.dataset import FOLDS
from train.evaluate.trust import auroc
from train.fit.backbone import Backbone, load_backbone, others_of
from train.fit.distributed import Place
from train.fit.embeddings import Embedder
from train.fit.logistic import fit
from train.recipe import RECIPES

LEFT_OUT = 10
WEIGHTS = (0.0, 2.0, 4.0, 6.0, 8.0)
CHOSEN = 6.0
L2 = 5e-3
NEIGHBOURS = 5
SHRINKAGE = 0.1

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--choices", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()

    source = load_backbone("mn04", None, replace(RECIPES["head"], head="mlp"))
    dataset = esc50.read(options.data)
    mel: MelConfig = source.mel
    corpus = Corpus.of(*waveforms.load(dataset, mel.sample_rate_hz, 5.0, False, print))
    network = source.build(len(dataset.labels)).eval()
    embedder = Embedder(network, source, corpus, 0, Place(torch.device("cpu")), None)
    results: dict[str, list[tuple[float, float]]] = defaultdict(list)
    choices = range(options.first, options.first + options.choices)
    with click.progressbar([(choice, fold) for choice in choices for fold in FOLDS], file=sys.stderr) as bar:
        for choice, fold in bar:
            for name, known, unknown in scores(
                network, source, corpus, embedder.hidden(), embedder.pooled(), choice, fold
            ):
                results[name].append((auroc(known, unknown), passing(known, unknown)))
    print(f"{'':42} AUROC   unknown that pass where 90 % of known do")
    for name, pairs in results.items():
        area, passed = np.mean(pairs, axis=0)
        print(f"{name:42} {area:.3f}   {100 * passed:4.1f} %")


def scores(
    network: torch.nn.Module,
    source: Backbone,
    corpus: Corpus,
    hidden: torch.Tensor,
    pooled: torch.Tensor,
    choice: int,
    fold: int,
) -> Iterator[tuple[str, Array, Array]]:
    """Each method's name, and its scores of known and of unknown clips of the fold; known ones should be higher."""
    labels = np.array([clip.label for clip in corpus.dataset.clips])
    left_out = np.isin(
        labels, np.random.default_rng(choice).choice(len(corpus.dataset.labels), LEFT_OUT, replace=False)
    )
    test = np.array([clip.fold == fold for clip in corpus.dataset.clips])
    train, unknown = np.flatnonzero(~test & ~left_out), left_out[test]
    kept = np.unique(labels[train])
    targets = corpus.targets[train][:, kept]

    def pair(name: str, score: torch.Tensor | Array) -> tuple[str, Array, Array]:
        values = np.asarray(score, np.float64)
        return name, values[~unknown], values[unknown]

    head = fit(hidden[train], targets, L2)
    others = others_of(network, source, hidden[train], targets)
    assert others is not None
    logits = head.logits(hidden[test])
    with torch.no_grad():
        surprise = others(hidden[test]).amax(1)
    for weight in WEIGHTS:
        mark = "  <- tagger" if weight == CHOSEN else ""
        yield pair(f"highest logit - {weight:g} x surprise{mark}", logits.amax(1) - weight * surprise)
    softmax = fit(pooled[train], targets, 1e-3, "softmax").logits(pooled[test])
    yield pair("highest softmax, pooled features", softmax.softmax(1).amax(1))
    yield pair("energy, pooled features", softmax.logsumexp(1))
    known, heard = pooled[train].double().numpy(), pooled[test].double().numpy()
    yield pair("5 nearest neighbours, cosine", neighbours(known, heard))
    yield pair("relative Mahalanobis distance", relative_mahalanobis(known, labels[train], heard))


def neighbours(known: Array, heard: Array) -> Array:
    """Mean cosine similarity to the nearest known clips, [N]."""
    cosine = unit(heard) @ unit(known).T
    nearest: Array = np.sort(cosine, 1)[:, -NEIGHBOURS:].mean(1)
    return nearest


def unit(rows: Array) -> Array:
    length: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return length


def relative_mahalanobis(known: Array, labels: NDArray[np.integer], heard: Array) -> Array:
    """Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection" (2021)."""
    mean, spread = known.mean(0), known.std(0) + 1e-3
    known, heard = (known - mean) / spread, (heard - mean) / spread
    of_label = {label: known[labels == label].mean(0) for label in np.unique(labels)}
    within = precision(known - np.stack([of_label[label] for label in labels]))
    nearest = np.min([distance(heard - centre, within) for centre in of_label.values()], 0)
    relative: Array = distance(heard, precision(known)) - nearest
    return relative


def precision(rows: Array) -> Array:
    covariance = rows.T @ rows / len(rows)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse: Array = np.linalg.inv(shrunk)
    return inverse


def distance(rows: Array, inverse: Array) -> Array:
    squared: Array = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    return squared


def passing(known: Array, unknown: Array) -> float:
    """Share of unknown clips at or above the score that 90 % of the known clips reach."""
    return float((unknown >= np.quantile(known, 0.1)).mean())


if __name__ == "__main__":
    main()
