"""A network of ours without what the daemon does with its scores, for `bench/trust.py --command`.

    python bench/others/network.py MODEL [--highest] [--hop 0.5] [--least 0.02] FILE...

Prints a line for each label of each window whose score is at least `--least`, and each file's highest of each label.
With `--highest` only the highest label of a window is one, however sure it is: what programs do whose network ends in a
softmax.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tagger.engine.runtime import open_models
from tagger.tag.recording import tag


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--highest", action="store_true")
    parser.add_argument("--hop", type=float, default=0.5, help="seconds")
    parser.add_argument("--least", type=float, default=0.02)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    classifier = open_models([options.model])
    labels, window_s = classifier.info.labels, classifier.info.window_seconds
    for path in options.files:
        heard = list(tag(Path(path), classifier, window_s, options.hop))
        scores = np.stack([each.values for each in heard]) if heard else np.zeros((0, len(labels)), np.float32)
        if options.highest:
            shown = scores == scores.max(1, keepdims=True)
        else:
            shown = scores >= options.least
            shown[scores.argmax(0) if heard else [], np.arange(len(labels)) if heard else []] = True
        for window, number in np.argwhere(shown):
            times = {"onset": heard[window].start_s, "offset": heard[window].end_s}
            line = {"file": path, **times, "label": labels[number], "score": float(scores[window, number])}
            json.dump(line, sys.stdout)
            print()


if __name__ == "__main__":
    main()
