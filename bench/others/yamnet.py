"""YAMNet, from a TensorFlow Lite file of it, for `bench/trust.py --command ... --names audioset`.

    python -m venv others && others/bin/pip install ai-edge-litert soxr
    others/bin/python bench/others/yamnet.py yamnet.tflite --classes yamnet_class_map.csv FILE...

Prints a line for each class of each window whose score is at least `--least`, and each file's highest of each class.
YAMNet hears 0.975 s; a window begins every 0.4875 s, as in its own code. The last one is filled up with silence. With
`--mean 5`, a line has the mean of the scores in 5 s: its own example takes the mean of a whole file.
"""

import argparse
import csv
import io
import json
import sys
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ = 16_000
WINDOW, HOP = 15_600, 7_800
"""Samples."""

Samples = NDArray[np.float32]


def classes_in(model: Path, given: Path | None) -> list[str]:
    """The names of its classes: from a CSV with the column `display_name`, or from the list in the model's file."""
    if given is not None:
        with given.open(encoding="utf-8", newline="") as file:
            return [row["display_name"] for row in csv.DictReader(file)]
    if not zipfile.is_zipfile(model):
        raise SystemExit(f"{model}: carries no names of classes: --classes yamnet_class_map.csv")
    with zipfile.ZipFile(model) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".txt")]
        return io.TextIOWrapper(archive.open(name), "utf-8").read().splitlines()


class Network:
    def __init__(self, model: Path, classes: Sequence[str]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(model), num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        found = [each for each in self._interpreter.get_output_details() if each["shape"][-1] == len(classes)]
        if not found:
            raise SystemExit(f"{model}: has no output of {len(classes)} classes")
        self._output = found[0]["index"]

    def scores(self, sound: Samples) -> Samples:
        """[windows, classes]. Input: [N], 16 kHz, from -1 to 1."""
        windows = max(1, 1 + -(-(len(sound) - WINDOW) // HOP))
        padded = np.zeros(WINDOW + HOP * (windows - 1), np.float32)
        padded[: len(sound)] = sound
        found = []
        for start in range(0, windows * HOP, HOP):
            window = padded[start : start + WINDOW].reshape(self._input["shape"])
            self._interpreter.set_tensor(self._input["index"], window)
            self._interpreter.invoke()
            found.append(self._interpreter.get_tensor(self._output)[0].copy())
        return np.stack(found)


def means(scores: Samples, together: int) -> Samples:
    """Means of so many successive windows, [windows - together + 1, classes]; of all, if there are fewer."""
    together = min(together, len(scores))
    sums = np.cumsum(np.concatenate([np.zeros_like(scores[:1]), scores]), 0, dtype=np.float64)
    return ((sums[together:] - sums[:-together]) / together).astype(np.float32)


def read(path: str) -> Samples:
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        return soxr.resample(samples, file.getframerate(), RATE_HZ)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--mean", type=float, default=0.0, help="seconds; 0: each window for itself")
    parser.add_argument("--least", type=float, default=0.02)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    classes = classes_in(options.model, options.classes)
    network = Network(options.model, classes)
    together = max(1, 1 + round((options.mean * RATE_HZ - WINDOW) / HOP))
    for path in options.files:
        scores = means(network.scores(read(path)), together)
        shown = scores >= options.least
        shown[scores.argmax(0), np.arange(len(classes))] = True
        for window, number in np.argwhere(shown):
            onset = window * HOP / RATE_HZ
            offset = onset + (WINDOW + HOP * (together - 1)) / RATE_HZ
            line = {"file": path, "onset": onset, "offset": offset, "label": classes[number]}
            json.dump({**line, "score": float(np.clip(scores[window, number], 0, 1))}, sys.stdout)
            print()


if __name__ == "__main__":
    main()
