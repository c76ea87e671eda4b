"""In how many recordings of a folder the network hears speech: what `--without-speech` would leave out.

python bench/speech.py FOLDER [FOLDER ...] [--model esc50] [--seconds 15]
"""

import argparse
import itertools
from pathlib import Path

from tagger.clips.speech import LEAST_SPEECH
from tagger.engine.runtime import open_models
from tagger.errors import AudioError
from tagger.events import Scores
from tagger.tag.recording import tag


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--model", default="esc50")
    parser.add_argument("--seconds", type=float, default=15.0, help="Windows that begin later are left out.")
    given = parser.parse_args()
    classifier = open_models((given.model,), "auto", "cpu", None)
    window_s = classifier.info.window_seconds
    print(f"{'folder':<24} {'recordings':>10} {'speech':>7} {'windows':>8} {'speech':>7}")
    for folder in given.folders:
        counts = [0, 0, 0, 0]
        for path in sorted(each for each in folder.rglob("*") if each.suffix in (".ogg", ".wav", ".flac", ".mp3")):
            scores: list[Scores] = []
            try:
                for each in itertools.takewhile(
                    lambda one: one.start_s < given.seconds, tag(path, classifier, window_s, 1.0)
                ):
                    scores.append(each)
            except AudioError:  # what came before the damage is good
                pass
            found = sum((each.speech or 0.0) >= LEAST_SPEECH for each in scores)
            counts = [a + b for a, b in zip(counts, (1, found > 0, len(scores), found), strict=True)]
        print(f"{folder.name:<24} {counts[0]:>10} {counts[1]:>7} {counts[2]:>8} {counts[3]:>7}", flush=True)


if __name__ == "__main__":
    main()
