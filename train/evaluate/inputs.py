"""What `tagger eval --streamed` plays: soundscapes made of clips, and audio in which every event is a false alarm."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.audio.decode import decode
from tagger.errors import UserError
from tagger.policy import EventsConfig
from train.augment.waveform import coloured
from train.data.corpus import Corpus
from train.data.own import sounds_in
from train.evaluate import synthesis
from train.evaluate.soundscape import Soundscape
from train.evaluate.synthesis import Recording

_BLOCK_SECONDS = 0.1
QUIET_SECONDS = 1200.0
"""Length of a made stream without events."""
SCAPE_SECONDS = 300.0
"""Longest soundscape; the next one has another background."""


@dataclass(frozen=True)
class StreamOptions:
    """The streams that are made, and how they are scored."""

    minutes: float = 20.0
    """Length of the soundscapes for each checkpoint, minutes."""
    hop_s: float = 0.5
    seed: int = 0
    per_minute: float = 8.0
    overlapping: float = 0.2
    snr_db: tuple[float, float] = (0.0, 20.0)
    backgrounds: Sequence[Path] = ()
    """Recordings under the sounds. Empty: noise."""
    nontarget: Sequence[Path] = ()
    """Recordings in which every event is a false alarm, besides the noise, hum and silence that are made."""
    config: EventsConfig | None = None


def soundscapes(corpus: Corpus, fold: int, rate_hz: int, options: StreamOptions) -> Iterator[Soundscape]:
    """
    Raises:
        UserError: a background is silent or too short, or a folder holds none.
    """
    dataset = corpus.dataset
    sounds = [
        Recording(dataset.clips[row].title, _loader(corpus, int(row)), dataset.labels[label])
        for row in dataset.held_out(fold)
        if (label := dataset.clips[row].label) is not None and corpus.waveforms[int(row)].any()
    ]
    backgrounds = [Recording(path.name, _decoder(path, rate_hz)) for path in recordings_in(options.backgrounds)]
    left_s, number = 60 * options.minutes, 0
    while left_s > 0:
        number += 1
        try:
            scape = synthesis.make(
                f"fold{fold}-{number}",
                min(left_s, SCAPE_SECONDS),
                rate_hz,
                10_000 * options.seed + 100 * fold + number,
                sounds,
                backgrounds,
                per_minute=options.per_minute,
                overlapping=options.overlapping,
                snr_db=options.snr_db,
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        yield scape
        left_s -= SCAPE_SECONDS


def recordings_in(folders: Sequence[Path]) -> list[Path]:
    """
    Raises:
        UserError: a folder holds no recordings.
    """
    for folder in folders:
        if not sounds_in(folder):
            raise UserError(f"{folder}: no recordings here")
    return [path for folder in folders for path in sounds_in(folder)]


def free_title(name: str, taken: Mapping[str, Any]) -> str:
    """A title that is not taken: files in different folders may have the same name."""
    titles = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(title for title in titles if title not in taken)


def _loader(corpus: Corpus, row: int) -> Callable[[], NDArray[np.float32]]:
    def load() -> NDArray[np.float32]:
        return corpus.waveforms[row]

    return load


def _decoder(path: Path, rate_hz: int) -> Callable[[], NDArray[np.float32]]:
    return lambda: np.concatenate(list(decode(path, rate_hz)))


def pieces(samples: NDArray[np.float32], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """A stream's samples, a tenth of a second at a time."""
    block = round(_BLOCK_SECONDS * rate_hz)
    for start in range(0, len(samples), block):
        yield samples[start : start + block]


def nothing(
    recordings: Sequence[Path], number: int, rate_hz: int, seed: int
) -> Iterator[tuple[str, Iterator[NDArray[np.float32]]]]:
    """Streams without events, by name: one that is made, and the recordings."""
    rng = np.random.default_rng([seed, number])
    samples = round(QUIET_SECONDS * rate_hz)
    kinds = ("white", "pink", "brown", "hum", "silence")
    kind = kinds[number % len(kinds)]
    if kind == "silence":
        made = np.zeros(samples, np.float32)
    elif kind == "hum":
        made = _hum(samples, rate_hz, rng)
    else:
        made = coloured(samples, float(kinds.index(kind)), rng) * np.float32(10 ** (rng.uniform(-50, -30) / 20))
    yield kind, pieces(made, rate_hz)
    for path in recordings:
        yield path.name, decode(path, rate_hz)


def _hum(samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A fan, [samples]: a hum and its overtones over brown noise."""
    time = np.arange(samples) / rate_hz
    tones = np.sum([0.5**k * np.sin(2 * np.pi * (100.0 * (k + 1) * time + rng.random())) for k in range(5)], axis=0)
    level: NDArray[np.float32] = (0.01 * tones + 0.01 * coloured(samples, 2.0, rng)).astype(np.float32)
    return level
