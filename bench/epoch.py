"""Time of an epoch of fine-tuning, compared with a loop that decodes and resamples every clip in every epoch.

    python bench/epoch.py ../shared/data/esc50

The other loop does what EfficientAT's own example does (ex_esc50.py), with this project's parts: each epoch reads every
file and resamples it to 32 kHz, shifts it and changes its level, builds its mel bank for each batch, and trains the
whole network in the default memory format with Adam. Both train `mn04` on the same clips, in turns, each in its own
process. A ratio is of two neighbouring runs, so other load on the machine cancels out.
"""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from tagger.audio.decode import decode
from tagger.features.config import MelConfig
from tagger.features.logmel import LogMel, mel_bank_tensor
from train.data import waveforms
from train.data.corpus import Corpus
from train.data.layouts import read_any
from train.fit.backbone import load_backbone
from train.fit.distributed import Place
from train.fit.finetune import FineTuneLearner
from train.fit.memory import keep_memory
from train.fit.trainer import Setup
from train.recipe import Recipe

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
        mel_bank_tensor.cache_clear()
        x = LogMel(MelConfig())(torch.from_numpy(waves))
        logits = network(x)
        loss = nn.functional.cross_entropy(logits, corpus.targets[torch.from_numpy(chosen)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def our_epoch(fit: FineTuneLearner, number: int) -> None:
    """Runs an epoch of `tagger train`, without the work between epochs."""
    for step, batch in enumerate(fit.batches(number, 0)):
        fit.step(batch, number, step)


def seconds_a_clip(which: str, data: Path, clips: int) -> float:
    """Time of the second epoch, seconds a clip; the first epoch is a warm-up."""
    recipe = Recipe(batch=BATCH)
    start = load_backbone("mn04", None, recipe)
    corpus = Corpus.of(*waveforms.load(read_any(data), RATE_HZ, 5.0, False, click.echo))
    rows = np.arange(clips)
    if which == "ours":
        keep_memory()
    setup = Setup(start, recipe, corpus, 0, Place(torch.device("cpu")))
    fit = FineTuneLearner(setup, rows, rows[:10], Path("runs/bench"))
    network = start.build(50)
    optimiser = torch.optim.Adam(network.parameters(), 1e-5)
    for number in range(2):
        began = time.perf_counter()
        if which == "ours":
            our_epoch(fit, number)
        else:
            decoding_epoch(corpus, rows, network, optimiser)
    return (time.perf_counter() - began) / clips


def in_new_process(which: str, data: Path, clips: int) -> float:
    """`seconds_a_clip` in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(seconds_a_clip, which, data, clips).result()


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--clips", default=320, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(data: Path, clips: int, rounds: int) -> None:
    times: dict[str, list[float]] = {"decoding": [], "ours": []}
    for _ in range(rounds):
        for which, found in times.items():
            found.append(in_new_process(which, data, clips))
    ratios = [a / b for a, b in zip(times["decoding"], times["ours"], strict=True)]
    for name, values in times.items():
        click.echo(f"{name:9} {1000 * statistics.median(values):6.1f} ms a clip")
    click.echo(f"ratio     {statistics.median(ratios):6.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    click.echo("ours has 15 % more windows than clips, those in which nothing is to be heard; their time is counted")


if __name__ == "__main__":
    main()
