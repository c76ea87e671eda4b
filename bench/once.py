"""What it would cost in accuracy if each second of sound passed the network once.

    python bench/once.py ../shared/data/esc50 ../shared/weights/mn04_as_mAP_432.pt [--clips 2000]

A stream of three clips of one fold passes AudioSet's `mn04` in pieces of 1.28 s (128 frames, 4 steps of the last map).
Two things differ from windows. Squeeze-excitation takes its means over the last four pieces, as they were then, so that
earlier columns keep earlier gates. And what follows a piece is unknown: convolutions see zeros there ("at once"), or
the whole stream ("late": each layer would wait for its context). The features of the last clip are the mean of the last
four pieces of the last map. A linear layer on them is fitted on four folds and tested on the fifth, by five: on the
features of windows and used for those of streams ("as it is"), or on those of streams ("fitted again"). The weights
never saw ESC-50. Nothing is chosen by the result; the regularisation is the same for all.
"""

import time
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tagger.audio.decode import decode
from tagger.checkpoints.official import convert
from tagger.engine.runtime import open_model
from tagger.features.config import MelConfig
from tagger.features.frames import FrontEnd
from tagger.models.efficientat import ConvNorm, EfficientAT, InvertedResidual, SqueezeExcitation
from tagger.printable import echo
from train.data.layouts import read_any

RATE_HZ = 32_000
CLIP = 5 * RATE_HZ
PIECE = 128
"""Frames of a piece."""
PIECES = 8
IN_WINDOW = 4
"""Pieces of a window: 5.12 s."""
FRONT_END = FrontEnd(MelConfig(bandwidth_hz=7500.0))
PENALTY = 1e-3
EVERY = 250
"""Clips from one report to the next."""
WAYS = (
    ("windows", 0, 0),
    ("late, as it is", 0, 1),
    ("late, fitted again", 1, 1),
    ("at once, as it is", 0, 2),
    ("at once, fitted again", 2, 2),
)
"""Name, features on which the layer is fitted, and those on which it is tested: indices in what `features_of` gives."""


def streamed(layer: nn.Module, x: Tensor, at_once: bool, last_gates: bool) -> Tensor:
    """A layer's output over a stream of PIECES pieces. [1, C, F, T] to [1, C', F', T'].

    Args:
        last_gates: whether all columns get the gates of the last ones, which nobody could know in time.
    """
    if isinstance(layer, SqueezeExcitation):
        columns = x.shape[3] // PIECES
        means = x.mean(2).reshape(*x.shape[:2], PIECES, columns).mean(3)  # [1, C, pieces]
        ends = [PIECES if last_gates else k + 1 for k in range(PIECES)]
        running = torch.stack([means[..., max(0, end - IN_WINDOW) : end].mean(-1) for end in ends], 2)
        gate = torch.sigmoid(layer.fc2(torch.relu(layer.fc1(running.transpose(1, 2))))).transpose(1, 2)
        return x * gate.repeat_interleave(columns, 2)[:, :, None]
    if isinstance(layer, ConvNorm):
        return layer(x) if not at_once else _in_pieces(layer, x)
    if isinstance(layer, InvertedResidual):
        y = x
        for each in layer.block:
            y = streamed(each, y, at_once, last_gates)
        return x + y if layer.is_residual else y
    raise TypeError(type(layer))


def _in_pieces(layer: ConvNorm, x: Tensor) -> Tensor:
    """A convolution of which each piece sees what was before it, and zeros after it."""
    conv = layer[0]
    assert isinstance(conv, nn.Conv2d)
    side = int(conv.padding[1])  # type: ignore[arg-type]
    if side == 0:
        return layer(x)  # type: ignore[no-any-return]
    columns = x.shape[3] // PIECES
    before = functional.pad(x, (side, 0))
    pieces = [before[..., k * columns : (k + 1) * columns + side] for k in range(PIECES)]
    batch = functional.pad(torch.cat(pieces), (0, side))
    conv.padding = (conv.padding[0], 0)  # type: ignore[assignment]
    try:
        found = layer(batch)
    finally:
        conv.padding = (conv.padding[0], side)  # type: ignore[assignment]
    return torch.cat(list(found.split(1)), 3)


@torch.inference_mode()
def features_of(network: EfficientAT, stream: np.ndarray, last_gates: bool) -> list[np.ndarray]:
    """Pooled features of a stream's last clip: of the window, late, and at once."""
    window = network.features(torch.from_numpy(FRONT_END(stream[None, -CLIP:])))
    found = [window.mean((2, 3))]
    samples = PIECE * PIECES * 320
    log_mel = torch.from_numpy(FRONT_END(stream[None, -samples:])[..., : PIECE * PIECES])
    for at_once in (False, True):
        x = log_mel
        for layer in network.features:
            x = streamed(layer, x, at_once, last_gates)
        found.append(x[..., -IN_WINDOW * PIECE // 32 :].mean((2, 3)))
    return [each[0].numpy() for each in found]


def fitted(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, nn.Linear]:
    """Mean, deviation, and a linear layer on standardised features: multinomial logistic regression."""
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    x, y = torch.from_numpy((features - mean) / deviation), torch.from_numpy(labels)
    torch.manual_seed(0)
    layer = nn.Linear(x.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(layer(x), y) + PENALTY * layer.weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return mean, deviation, layer


def right(fit: tuple[np.ndarray, np.ndarray, nn.Linear], features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    mean, deviation, layer = fit
    with torch.inference_mode():
        found = layer(torch.from_numpy((features - mean) / deviation)).argmax(1).numpy()
    return np.asarray(found == labels)


def time_columns() -> None:
    """Prints what the bundled model's upper part costs for all columns of a window, and for a second's."""
    classifier = open_model("esc50", "onnx")
    maps = classifier.features(np.random.default_rng(0).standard_normal((1, CLIP)).astype(np.float32))
    pieces = {columns: np.ascontiguousarray(maps[..., :columns]) for columns in (125, 25)}
    taken: dict[int, list[float]] = {columns: [] for columns in pieces}
    for _ in range(100):
        for columns, piece in pieces.items():
            began = time.thread_time()
            classifier.outputs_of(piece)
            taken[columns].append(1e3 * (time.thread_time() - began))
    for columns, times in taken.items():
        echo(f"upper part, {columns} columns: median {np.median(times):.2f} ms, least {min(times):.2f} ms")


def report(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> None:
    """Prints accuracies. Features: [3, clips, size], as `features_of` gives them."""
    hits = {}
    for name, fit_on, test_on in WAYS:
        hits[name] = np.zeros(len(labels), bool)
        for fold in np.unique(folds):
            test = folds == fold
            fit = fitted(features[fit_on][~test], labels[~test])
            hits[name][test] = right(fit, features[test_on][test], labels[test])
        lost, won = (hits["windows"] & ~hits[name]).sum(), (~hits["windows"] & hits[name]).sum()
        echo(f"  {name:24}{100 * hits[name].mean():6.2f} %, {lost} clips lost and {won} won")


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--clips", default=2000, show_default=True)
@click.option("--last-gates", is_flag=True, help="What it would be if all columns had the last gates.")
def main(data: Path, weights: Path, clips: int, last_gates: bool) -> None:
    """Print accuracies, every few clips."""
    torch.set_num_threads(1)
    time_columns()
    network = convert(weights)[1].eval()
    assert isinstance(network, EfficientAT)
    dataset = read_any(data)
    rng = np.random.default_rng(0)
    taken = rng.permutation(len(dataset.clips))[:clips]
    chosen = [dataset.clips[number] for number in taken]
    folds = np.array([clip.fold for clip in chosen])
    names = sorted({clip.label for clip in chosen})
    labels = np.array([names.index(clip.label) for clip in chosen])
    sounds = [np.concatenate(list(decode(clip.path, RATE_HZ)))[:CLIP] for clip in chosen]
    rows, began = [], time.monotonic()
    for number in range(len(chosen)):
        others = rng.choice(np.flatnonzero(folds == folds[number]), 2)
        stream = np.concatenate([*(sounds[other] for other in others), sounds[number]])
        rows.append(features_of(network, stream, last_gates))
        if number + 1 == len(chosen) or number % EVERY == EVERY - 1:
            echo(f"{number + 1} clips, {time.monotonic() - began:.0f} s")
            report(np.array(rows).transpose(1, 0, 2), labels[: number + 1], folds[: number + 1])


if __name__ == "__main__":
    main()
