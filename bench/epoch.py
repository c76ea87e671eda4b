"""How long an epoch of fine-tuning takes, beside a loop that decodes and resamples every clip in every epoch.

    python bench/epoch.py ../shared/data/esc50

The other loop does what EfficientAT's own example does (ex_esc50.py), with this project's parts: each epoch reads every
file and resamples it to 32 kHz, shifts it and changes its level, builds its mel bank for each batch, and trains the
whole network in the default memory format with Adam. Both train `mn04` on the same clips, in turns; ratios are of
neighbours, so what else the machine does cancels out.
"""

import statistics
import time
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from tagger.features import LogMel, MelConfig, mel_bank
from tagger.sources.decode import decode
from train import waveforms
from train.data import read_any
from train.distributed import Place
from train.fit import Fit
from train.networks import origin
from train.recipe import Recipe
from train.trained import Corpus

RATE_HZ = 32_000
SAMPLES = 5 * RATE_HZ
BATCH = 32


def decoding_epoch(corpus: Corpus, rows: np.ndarray, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    network.train()
    rng = np.random.default_rng(0)
    for first in range(0, len(rows), BATCH):
        chosen = rows[first : first + BATCH]
        waves = np.zeros((len(chosen), SAMPLES), np.float32)
        for wave, row in zip(waves, chosen, strict=True):
            heard = np.concatenate(list(decode(corpus.dataset.clips[row].path, RATE_HZ)))[:SAMPLES]
            wave[: len(heard)] = heard
            wave[:] = np.roll(wave, rng.integers(SAMPLES)) * np.float32(10 ** (rng.uniform(-12, 12) / 20))
        mel_bank.cache_clear()
        x = LogMel(MelConfig())(torch.from_numpy(waves))
        logits = network(x)
        loss = nn.functional.cross_entropy(logits, corpus.targets[torch.from_numpy(chosen)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def our_epoch(fit: Fit, number: int) -> None:
    """An epoch of `tagger train`, without what it does between epochs."""
    fit.state.epoch, fit.state.step = 0, 0
    for step, (waves, targets) in enumerate(fit._batches.epoch(number)):
        fit._train_mode()
        fit.state.step = step
        fit._step(fit._network, torch.from_numpy(waves), torch.from_numpy(targets))


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--clips", default=320, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(data: Path, clips: int, rounds: int) -> None:
    recipe = Recipe(batch=BATCH)
    start = origin("mn04", None, recipe)
    corpus = Corpus.of(*waveforms.load(read_any(data), RATE_HZ, 5.0, False, click.echo))
    rows = np.arange(clips)
    fit = Fit(start, recipe, corpus, rows, rows[:10], 0, Place(torch.device("cpu")), Path("runs/bench"))
    network = start.build(50)
    optimiser = torch.optim.Adam(network.parameters(), 1e-5)
    times: dict[str, list[float]] = {"decoding": [], "ours": []}
    for number in range(rounds + 1):
        began = time.perf_counter()
        decoding_epoch(corpus, rows, network, optimiser)
        middle = time.perf_counter()
        our_epoch(fit, number)
        end = time.perf_counter()
        if number:  # the first is a warm-up
            times["decoding"].append((middle - began) / clips)
            times["ours"].append((end - middle) / clips)
    ratios = [a / b for a, b in zip(times["decoding"], times["ours"], strict=True)]
    for name, values in times.items():
        click.echo(f"{name:9} {1000 * statistics.median(values):6.1f} ms a clip")
    click.echo(f"ratio     {statistics.median(ratios):6.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    click.echo("ours has 15 % more windows than clips, those in which nothing is to be heard; their time is counted")


if __name__ == "__main__":
    main()
