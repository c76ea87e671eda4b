"""Smoke and carbon monoxide alarms by their pattern: how many are heard in noise, and how many are heard where none is.

    python bench/alarms.py heard [--seed N] [--noise FOLDER]     # synthesised alarms at several signal-to-noise ratios
    python bench/alarms.py false FOLDER [FOLDER ...]             # recordings without alarms, each as a stream, in order

The signal-to-noise ratio is that of the mean squares of a pulse and of the noise, both up to half the rate.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.audio.decode import decode_blocks
from tagger.errors import AudioError
from tagger.events import Block, Event
from tagger.levels.monitor import SoundMonitor
from tagger.policy import CO_ALARM, SMOKE_ALARM

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.levels.alarms import RATE_HZ, alarm, noise, reverberant

SNRS_DB = (10, 5, 0, -5, -10)
TRIES = 20
SECONDS = 30.0


def events_of(samples: NDArray[np.floating]) -> list[Event]:
    monitor = SoundMonitor(RATE_HZ, 10.0, lambda level: None, has_alarms=True)
    found: list[Event] = []
    for at in range(0, len(samples), 3200):
        found += monitor.heard(Block(samples[at : at + 3200].astype(np.float32), at / RATE_HZ))
    return [*found, *monitor.interrupt()]


def recorded(folder: Path, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A stretch of a recording of a folder, drawn at random."""
    paths = sorted(folder.rglob("*.ogg"))
    while True:
        path = paths[rng.integers(len(paths))]
        whole = np.concatenate([block.samples for block in decode_blocks(path, RATE_HZ)])
        size = round(seconds * RATE_HZ)
        if len(whole) < size:
            continue
        at = rng.integers(len(whole) - size + 1)
        part = whole[at : at + size].astype(np.float64)
        if part.std() > 1e-3:
            return part / part.std()


def heard(seed: int, folder: Path | None) -> None:
    kinds = [SMOKE_ALARM, CO_ALARM]
    print(f"{'noise':<10} {'alarm':<16} {'room':<5}" + "".join(f"{snr:>7} dB" for snr in SNRS_DB) + "   others")
    noises = [str(folder)] if folder is not None else ["white", "pink"]
    for colour in noises:
        for label in kinds:
            for room in ("dry", "0.6 s"):
                counts, others = [], 0
                for snr_db in SNRS_DB:
                    rng = np.random.default_rng([seed, snr_db + 100, kinds.index(label), room == "dry"])
                    hits = 0
                    for _ in range(TRIES):
                        signal, power = alarm(label, SECONDS, rng)
                        if room != "dry":
                            signal = reverberant(signal, 0.6, rng)
                        disturbance = (
                            recorded(folder, SECONDS, rng) if folder is not None else noise(colour, SECONDS, rng)
                        )
                        mixed = signal + disturbance * np.sqrt(power / 10 ** (snr_db / 10))
                        labels = {event.label for event in events_of(0.1 * mixed)}
                        hits += label in labels
                        others += bool(labels - {label})
                    counts.append(hits)
                row = "".join(f"{hits:>7}/{TRIES}" for hits in counts)
                print(f"{Path(colour).name:<10} {label:<16} {room:<5}{row}   {others}", flush=True)


def recordings(folders: list[Path]) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    for folder in folders:
        for path in sorted(each for each in folder.rglob("*") if each.suffix in (".ogg", ".wav", ".flac", ".mp3")):
            try:
                yield path, np.concatenate([block.samples for block in decode_blocks(path, RATE_HZ)])
            except AudioError as error:
                print(f"left out: {error}", file=sys.stderr)


def false(folders: list[Path]) -> None:
    monitor = SoundMonitor(RATE_HZ, 10.0, lambda level: None, has_alarms=True)
    at, found, spent = 0, 0, 0.0
    for path, samples in recordings(folders):
        began = time.process_time()
        events = []
        for first in range(0, len(samples), 3200):
            part = samples[first : first + 3200]
            events += monitor.heard(Block(part, (at + first) / RATE_HZ))
        spent += time.process_time() - began
        for event in events:
            if event.type == "begin":
                found += 1
                print(
                    f"{path}: {event.label} at {event.onset - at / RATE_HZ:.1f} s, score {event.score:.2f}", flush=True
                )
        at += len(samples)
    hours = at / RATE_HZ / 3600
    cost_ms = 1000 * spent / max(at / RATE_HZ, 1e-9)
    print(f"{found} alarms in {hours:.2f} h; {cost_ms:.2f} ms of a processor for a second of sound, levels included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    hearing = commands.add_parser("heard")
    hearing.add_argument("--seed", type=int, default=0)
    hearing.add_argument("--noise", type=Path, metavar="FOLDER", help="recordings instead of white and pink noise")
    commands.add_parser("false").add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    given = parser.parse_args()
    if given.command == "heard":
        heard(given.seed, given.noise)
    else:
        false(given.folders)
