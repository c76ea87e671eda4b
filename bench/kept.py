"""Processor time of a window, by what is kept from the window before it.

    python bench/kept.py                      # the demo, the bundled models, hops of 1, 0.5 and 0.25 s
    python bench/kept.py --model esc50 --hop 2 FILE

Three ways take each window in turn, on one thread, with the same graph: everything anew; the frames of the spectrogram
kept; the columns of the network's lower layers kept as well. Times are of the thread, medians over the windows, and
least times, which other load on the machine changes little. The last column is the largest difference of a score.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.engine.runtime import open_model
from tagger.events import Window
from tagger.features.config import MelConfig
from tagger.features.frames import FrontEnd
from tagger.features.incremental import Incremental
from tagger.features.spectrum import PowerSpectrum
from tagger.printable import echo
from tagger.sources.file import DEMO

WARM_UP = 8
"""First windows, which are not counted."""


def ways(classifier: Any, window: int, hop: int) -> dict[str, Callable[[Window], Any]]:
    """Preparers by their names."""
    frames = Incremental(FrontEnd(classifier.info.mel), window, hop)
    return {
        "anew": lambda each: classifier.features(each.samples[None]),
        "frames kept": lambda each: classifier.maps(frames(each)[None, None]),
        "columns kept": classifier.preparer(window, hop),
    }


def transforms(repeats: int) -> None:
    """Prints what the power spectra of a window's 500 frames cost, by numpy's transform and by products."""
    config = MelConfig(bandwidth_hz=7500.0)
    spectrum = PowerSpectrum(config.n_fft, config.window_samples, config.heard_bins)
    frames = spectrum.frames(500)
    frames[:] = np.random.default_rng(0).standard_normal(frames.shape)

    def numpys() -> None:
        bins = np.fft.rfft(frames, config.n_fft)[:, : config.heard_bins]
        np.square(bins.real) + np.square(bins.imag)

    def products() -> None:
        for start in range(0, len(frames), 64):
            spectrum(frames[start : start + 64])

    taken: dict[str, list[float]] = {"numpy.fft": [], "products": []}
    for _ in range(repeats):
        for name, way in (("numpy.fft", numpys), ("products", products)):
            began = time.thread_time()
            way()
            taken[name].append(1e3 * (time.thread_time() - began))
    for name, times in taken.items():
        echo(f"{'spectrum':12}{'':6}  {name:14}{median(times):8.2f}{min(times):8.2f}   ms for 500 frames")


@click.command()
@click.argument("recording", type=click.Path(path_type=Path, exists=True), default=DEMO)
@click.option("--model", "models", multiple=True, default=("esc50", "esc50-crnn"), show_default=True)
@click.option("--hop", "hops", multiple=True, type=float, default=(1.0, 0.5, 0.25), show_default=True)
@click.option("--windows", default=120, show_default=True, help="Most windows of each hop.")
def main(recording: Path, models: Sequence[str], hops: Sequence[float], windows: int) -> None:
    """Print two tables."""
    transforms(windows)
    echo(f"{'model':12}{'hop':>6}  {'way':14}{'median':>8}{'least':>8}   ms a window, and how far its scores are off")
    for model in models:
        classifier = open_model(model, "onnx")
        rate_hz = classifier.info.mel.sample_rate_hz
        for hop_s in hops:
            sliding = SlidingWindows.of_seconds(classifier.info.window_seconds, hop_s, rate_hz)
            cut = list(sliding.cut(decode_blocks(recording, rate_hz), flush=False))
            prepare = ways(classifier, sliding.window_samples, sliding.hop_samples)
            taken: dict[str, list[float]] = {name: [] for name in prepare}
            off = dict.fromkeys(prepare, 0.0)
            for window in cut[:windows]:
                expected = None
                for name, way in prepare.items():
                    began = time.thread_time()
                    (scores,) = classifier.scores_of([way(window)], [window])
                    taken[name].append(1e3 * (time.thread_time() - began))
                    expected = scores.values if expected is None else expected
                    off[name] = max(off[name], float(np.abs(scores.values - expected).max()))
            for name, times in taken.items():
                counted = times[WARM_UP:]
                echo(f"{model:12}{hop_s:>6g}  {name:14}{median(counted):8.2f}{min(counted):8.2f}   {off[name]:.0e}")


if __name__ == "__main__":
    main()
