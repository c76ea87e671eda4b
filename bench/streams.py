"""Counts how often the daemon announces the label of a held-out clip, and how many other labels.

    python bench/streams.py ESC-50/ runs/mn04-head [--fold 1] [--hop 1.0]

Every clip of a fold, alone in a quiet room (white noise at -70 dBFS, 6 s before and after), goes through the daemon's
own windows, classifier and decisions, with the checkpoint whose training left that fold out (`foldN.safetensors`).
Right: an event of the clip's label begins while a window holds the clip. Other: each further label that is announced.
"""

import argparse
import sys
from pathlib import Path

import click
import numpy as np

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.checkpoints import checkpoint
from tagger.decide import Decider
from tagger.engine.runtime_torch import Classifier
from tagger.events import Block
from tagger.listen import follow
from tagger.policy import policy
from train.data import esc50
from train.data.dataset import FOLDS

QUIET_SECONDS = 6
FLOOR = 10 ** (-70 / 20)
"""RMS of the room's noise."""
BATCH = 32
"""Windows that are classified together."""
TENS = 10_000
"""Random draws of ten clips."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--fold", type=int, choices=FOLDS, action="append")
    parser.add_argument("--hop", type=float, default=1.0)
    options = parser.parse_args()

    dataset = esc50.read(options.data)
    right: list[bool] = []
    others: list[int] = []
    for fold in options.fold or FOLDS:
        classify = Classifier(checkpoint.load(options.checkpoints / f"fold{fold}.safetensors"), "cpu")
        clips = [dataset.clips[row] for row in dataset.held_out(fold)]
        with click.progressbar(clips, label=f"fold {fold}", file=sys.stderr) as bar:
            heard = [announced(clip.path, classify, options.hop) for clip in bar]
        labels = [dataset.labels[clip.label] for clip in clips if clip.label is not None]
        right += [label in each for label, each in zip(labels, heard, strict=True)]
        others += [len(each - {label}) for label, each in zip(labels, heard, strict=True)]
        print(f"fold {fold}: {100 * np.mean(right[-len(clips) :]):.1f} % announced by the right label")
    print(f"all: {100 * np.mean(right):.1f} % announced; {np.mean(others):.2f} other labels a clip")
    tens = np.random.default_rng(0).choice(np.array(right), (TENS, 10)).sum(1)
    print(f"of ten clips at random, at least nine are announced in {100 * np.mean(tens >= 9):.0f} % of draws")


def announced(path: Path, classify: Classifier, hop_s: float) -> set[str]:
    """Labels of all events of one clip's stream."""
    rate_hz = classify.info.mel.sample_rate_hz
    sound = np.concatenate(list(decode(path, rate_hz)))
    quiet = QUIET_SECONDS * rate_hz
    stream = np.random.default_rng(0).standard_normal(len(sound) + 2 * quiet).astype(np.float32) * np.float32(FLOOR)
    stream[quiet : quiet + len(sound)] += sound
    info = classify.info
    sliding = SlidingWindows.of_seconds(info.window_seconds, hop_s, rate_hz)
    decider = Decider(policy(info.labels, info.thresholds, info.window_seconds, hop_s))
    labels: set[str] = set()
    for scores in follow([Block(stream, 0.0)], classify.lane(sliding), sliding, BATCH, flush=False):
        labels |= {event.label for event in decider.update(scores) if event.type == "begin"}
    return labels


if __name__ == "__main__":
    main()
