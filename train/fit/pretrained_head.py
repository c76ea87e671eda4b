"""The last layer of a network that has been pretrained, fitted exactly to its features: the rest stays as it is.

Training all of such a small network on labelled clips makes it forget what it learnt from the sounds alone: Kumar et
al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.progress import Progress
from tagger.stop import Stop
from train.augment.views import BATCH
from train.data.dataset import Rows
from train.fit.embeddings import WindowEmbeddings
from train.fit.head import best_window
from train.fit.logistic import accuracy, cross_entropy, fit
from train.fit.precision import autocast
from train.fit.stored_spectrograms import Spectrograms
from train.fit.trainer import Setup, Trained, calibrated, unless_stopped


def fitted(setup: Setup, spectrograms: Spectrograms, rows: Rows, inner: Rows, stop: Stop) -> Trained:
    """The network with a new last layer, which learns from all stored views of the clips.

    Args:
        setup: its backbone has the pretrained weights.
        rows, inner: as for `Trainer.run`. Regularisation, calibration and threshold are chosen on `inner`; the last fit
            learns from it, too.

    Raises:
        TrainingStoppedError: after `stop`.
    """
    recipe, place, targets = setup.recipe, setup.place, setup.corpus.targets
    torch.manual_seed(setup.seed)
    network: Any = setup.backbone.build(targets.shape[1], recipe.dropout).to(place.device).eval()
    network = network.to(memory_format=torch.channels_last)
    last = network.first_head()
    every = np.union1d(rows, inner)
    heard = _features(setup, network, spectrograms, every, stop)
    outer, held, both = (torch.from_numpy(each) for each in (rows, inner, every))
    l2, before = best_window(heard.of(outer, targets), heard.of(held, targets), stop, recipe.activation)
    logits = {view: before.logits(heard.views[view][0][held]) for view in heard.views}
    temperature, bias, threshold = calibrated(logits, targets[held], recipe.activation)
    fit(*heard.of(both, targets), l2, activation=recipe.activation).put_into(last)
    return Trained(
        network.cpu(),
        temperature,
        bias,
        threshold,
        recipe.activation,
        details={
            "l2": l2,
            "inner_loss": float(cross_entropy(logits["plain"], targets[held], recipe.activation)),
            "inner_accuracy": accuracy(logits["plain"], targets[held]),
        },
    )


def _features(setup: Setup, network: Any, spectrograms: Spectrograms, rows: Rows, stop: Stop) -> WindowEmbeddings:
    """Inputs of the last layer for these clips in every stored view, a row for each clip of the data set."""
    place = setup.place
    half = autocast(place.device, setup.recipe.mixed_precision)
    parts = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    views: dict[str, tuple[Tensor, ...]] = {}
    with Progress(
        "features for the last layer", len(parts) * len(spectrograms.every), "batches", brief=True, shown=place.leads
    ) as progress:
        for view, draw in spectrograms.every:
            found = torch.zeros(len(setup.corpus.targets), network.first_head().in_features)
            for part in unless_stopped(parts, stop):
                stored = torch.from_numpy(spectrograms[view, draw][part])[:, None]
                with torch.inference_mode(), half():
                    x = stored.to(place.device).float().to(memory_format=torch.channels_last)
                    found[torch.from_numpy(part)] = network.head_input(x).float().cpu()
                progress.update()
            views[view] = (*views.get(view, ()), found)
    return WindowEmbeddings(views)
