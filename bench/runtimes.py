"""Whether the runtimes give the same answers: scores of clips, and events in streams.

    python bench/runtimes.py ESC-50/ [--nontarget DIR] [--minutes 20] [--model esc50]

Every clip is one window. Streams are as those of `tagger eval --streamed`: clips over noise, 0 to 20 dB above it, and
audio in which each event is a false alarm; they go the daemon's way, which keeps what a window shares with the one
before. The bundled model has heard these clips in training: what counts is the difference between the runtimes, not
the level.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tagger.audio.decode import decode
from tagger.engine.runtime import RUNTIMES, open_model
from tagger.engine.scores import WindowClassifier
from tagger.errors import UserError
from tagger.events import Samples
from tagger.policy import policy
from tagger.progress import Progress
from train.data import esc50
from train.evaluate import inputs, synthesis
from train.evaluate.event_based import event_based
from train.evaluate.found import Found
from train.evaluate.inputs import SCAPE_SECONDS
from train.evaluate.streams import play
from train.evaluate.synthesis import Recording

HOP_S = 0.5
COLLAR_S = 1.0
QUIET_S = 300.0
"""Length of each kind of noise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--nontarget", type=Path, action="append", default=[])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--model", default="esc50")
    parser.add_argument("--clips", type=int, default=2000, help="number of clips, drawn from all")
    options = parser.parse_args()

    torch.set_num_threads(1)  # on a busy machine, more would wait for each other
    classifiers = opened(options.model)
    dataset = esc50.read(options.data)
    clips = [dataset.clips[row] for row in np.random.default_rng(0).permutation(len(dataset.clips))[: options.clips]]
    labels = [dataset.labels[clip.label] for clip in clips if clip.label is not None]
    on_clips(classifiers, [clip.path for clip in clips], labels)
    sounds = list(zip([clip.path for clip in clips], labels, strict=True))
    on_streams(classifiers, sounds, inputs.recordings_in(options.nontarget), options.minutes)


def opened(model: str) -> dict[str, WindowClassifier]:
    """The model on each runtime that can run it; torch, which all are compared with, first."""
    found = {}
    for name in sorted(RUNTIMES, key=lambda name: name != "torch"):
        try:
            found[name] = open_model(model, name, "cpu")
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def on_clips(classifiers: dict[str, WindowClassifier], paths: Sequence[Path], labels: Sequence[str]) -> None:
    """Scores of each clip alone."""
    any_of = next(iter(classifiers.values()))
    rate_hz, names = any_of.info.mel.sample_rate_hz, list(any_of.info.labels)
    window = round(any_of.info.window_seconds * rate_hz)
    scores: dict[str, list[Samples]] = {name: [] for name in classifiers}
    with Progress("clips", len(paths)) as progress:
        for path in progress.over(paths):
            sound = np.concatenate(list(decode(path, rate_hz)))[:window]
            waveform = np.pad(sound, (0, window - len(sound)))[None]
            for name, classify in classifiers.items():
                scores[name].append(classify(waveform).values[0])
    found = {name: np.stack(each) for name, each in scores.items()}
    truth, enter = np.array([names.index(label) for label in labels]), np.array(any_of.info.thresholds)
    first, expected = next(iter(found.items()))
    print(
        f"{len(paths)} clips: label right; of {first}'s, first labels that are the same, and scores on the same side "
        "of the threshold; largest difference of a score"
    )
    for name, values in found.items():
        right = np.mean(values.argmax(1) == truth)
        same = np.sum(values.argmax(1) == expected.argmax(1))
        over = np.sum((values >= enter) == (expected >= enter))
        off = np.abs(values - expected)
        print(f"{name:<12}{100 * right:.2f} %  {same} of {len(values)}  {over} of {values.size}  {off.max():.1e}")


def on_streams(
    classifiers: dict[str, WindowClassifier],
    sounds: Sequence[tuple[Path, str]],
    recordings: Sequence[Path],
    minutes: float,
) -> None:
    """Events in soundscapes, and in audio without events."""
    info = next(iter(classifiers.values())).info
    rate_hz = info.mel.sample_rate_hz
    rules = policy(info.labels, info.thresholds, info.window_seconds, HOP_S)

    def loaded(path: Path) -> Samples:
        return np.concatenate(list(decode(path, rate_hz)))

    known = [Recording(path.name, lambda path=path: loaded(path), label) for path, label in sounds]
    streams: dict[str, dict[str, tuple[Sequence[object], Sequence[Found], float]]] = {name: {} for name in classifiers}
    alarms: dict[str, list[tuple[str, Found]]] = {name: [] for name in classifiers}
    hours, number, left_s = 0.0, 0, 60 * minutes
    while left_s > 0:
        number += 1
        length_s = min(left_s, SCAPE_SECONDS)
        scape = synthesis.make(
            f"{number}", length_s, rate_hz, number, known, [], per_minute=8.0, overlapping=0.2, snr_db=(0.0, 20.0)
        )
        for name, classify in classifiers.items():
            played = play(inputs.pieces(scape.samples, rate_hz), classify, rules, HOP_S)
            streams[name][scape.name] = scape.annotations, played.found, scape.duration_s
        left_s -= SCAPE_SECONDS
        print(f"soundscape {number}", file=sys.stderr)
    made = [
        (title, list(itertools.islice(pieces, round(QUIET_S / 0.1))))
        for number in range(4)
        for title, pieces in inputs.nothing([], number, rate_hz, 0)
    ]
    quiet = [*made, *((path.name, list(decode(path, rate_hz))) for path in recordings)]
    for title, blocks in quiet:
        hours += sum(map(len, blocks)) / rate_hz / 3600
        for name, classify in classifiers.items():
            alarms[name] += [(title, event) for event in play(iter(blocks), classify, rules, HOP_S).found]
        print(f"without events: {title}", file=sys.stderr)
    first = next(iter(classifiers))
    print(f"{minutes:g} min of soundscapes, {60 * hours:.0f} min without events; hop {HOP_S:g} s")
    expected = [event for name in streams[first] for event in streams[first][name][1]] + [e for _, e in alarms[first]]
    for name in classifiers:
        micro = event_based(streams[name], COLLAR_S, with_offset=False).micro  # type: ignore[arg-type]
        events = [event for scape in streams[name] for event in streams[name][scape][1]] + [e for _, e in alarms[name]]
        print(
            f"{name:<12} F1 {micro.f1:.4f}  false alarms an hour {len(alarms[name]) / hours:.2f}  "
            f"events {len(events)}, {differing(events, expected)} other than {first}'s"
        )


def differing(events: Sequence[Found], expected: Sequence[Found]) -> int:
    """Number of events that have no equal, to a hundredth of a second, in the other list, or are missing from it."""
    ours, theirs = ([(e.label, round(e.onset_s, 2), round(e.offset_s, 2)) for e in each] for each in (events, expected))
    return len(set(ours) ^ set(theirs))


if __name__ == "__main__":
    main()
