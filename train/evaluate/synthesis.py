"""Synthesis of soundscapes from recordings. Soundscapes and their files are described in `soundscape`.

As in Scaper (Salamon et al., "Scaper: A Library for Soundscape Synthesis and Augmentation", WASPAA 2017): a continuous
background, and sounds over it at random times and random ratios to it. Everything depends only on the seed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.events import Samples
from train.augment.waveform import coloured
from train.evaluate.soundscape import BLOCK_SAMPLES, Annotation, Soundscape

_MOMENT_SECONDS = 0.02
_ACTIVE_DB = 25.0
"""A moment is active if it is at most this far below the clip's loudest one, dB."""
_FADE_SECONDS = 0.005
_JOIN_SECONDS = 1.0
"""Length of the cross-fade between two pieces of a background, seconds."""
_PIECE_SECONDS = 30.0
_LEAST_BACKGROUND_SECONDS = 0.1
_FLOOR_DB = -20.0
"""White noise under a recorded background, dB against its mean power: no ratio to digital silence is defined."""
_GAP_SECONDS = 1.0
"""Shortest gap between sounds that do not overlap, and at both ends of a stream, seconds."""
_APART_SECONDS = 3.0
"""Shortest gap between two sounds of one label, seconds: it must be clear which of them an event means."""
_OVERLAP_SECONDS = 0.1
"""Shortest overlap of two sounds that overlap, seconds; a shorter sound overlaps as a whole."""
_FULL_SCALE = 0.99
_EXPONENTS = (0.0, 1.0, 2.0)
"""Noise that stands in for a background: white, pink, brown (see `coloured`)."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A sound or a background that a stream is made from."""

    title: str
    waveform: Samples | Callable[[], Samples]
    """[N], mono, at the stream's rate; or a function that loads it."""
    label: str = ""
    """A sound's label; empty for a background."""

    def load(self) -> Samples:
        """The waveform, [N]."""
        return self.waveform() if callable(self.waveform) else self.waveform


def make(
    name: str,
    seconds: float,
    rate_hz: int,
    seed: int,
    sounds: Sequence[Recording],
    backgrounds: Sequence[Recording] = (),
    *,
    per_minute: float = 8.0,
    overlapping: float = 0.2,
    snr_db: tuple[float, float] = (0.0, 20.0),
    background_db: tuple[float, float] = (-50.0, -35.0),
) -> Soundscape:
    """Makes a stream. The same arguments give the same samples, bit for bit.

    Every sound is used once before one is used again. Times are drawn uniformly among those that keep the gaps. If
    peaks would exceed full scale, the whole stream is attenuated, below `background_db` if need be.

    Args:
        sounds: empty makes a stream in which nothing must be announced.
        backgrounds: one of them is under the whole stream, in random pieces of up to 30 s that fade into each other.
            Empty: noise, white to brown.
        per_minute: number of sounds, on average; fewer if they do not fit.
        overlapping: share of the sounds that overlap another one, 0 to 1. Never more than two sound at once, and
            never two of one label.
        snr_db: lowest and highest ratio; drawn uniformly.
        background_db: lowest and highest RMS of the background, dBFS; drawn uniformly.

    Raises:
        ValueError: a recording is silent, or a background is shorter than 0.1 s.
    """
    rng = np.random.default_rng(seed)
    length = round(seconds * rate_hz)
    samples, title = _background(length, rate_hz, backgrounds, rng)
    samples *= np.float32(_from_db(rng.uniform(*background_db)) / _rms(samples))
    level = _rms(samples)
    groups = _groups(sounds, round(per_minute * seconds / 60), overlapping, rate_hz, rng)
    placed = []
    for start, sound in _schedule(groups, length, rate_hz, rng):
        ratio = float(rng.uniform(*snr_db))
        placed.append((start, sound, ratio, _rms(samples[start : start + sound.length]) * _from_db(ratio)))
    for start, sound, _, rms in placed:  # after the background was measured everywhere
        into = start - sound.first
        samples[into : into + len(sound.samples)] += sound.samples * np.float32(rms / sound.rms)
    softer = min(1.0, _FULL_SCALE / max(float(np.abs(samples).max()), 1e-9))
    samples *= np.float32(softer)
    annotations = [
        Annotation(sound.label, start / rate_hz, (start + sound.length) / rate_hz, ratio, sound.title)
        for start, sound, ratio, _ in placed
    ]
    annotations.sort(key=lambda each: (each.onset_s, each.label))
    level_db = 20 * math.log10(level * softer)
    return Soundscape(name, samples, rate_hz, tuple(annotations), title, level_db, seed)


def active(waveform: Samples, rate_hz: int) -> tuple[int, int]:
    """Begin and end of a clip's sound, samples: its first and last 20 ms within 25 dB of its loudest 20 ms.

    Args:
        waveform: [N].

    Raises:
        ValueError: the clip is silent.
    """
    moment = max(1, round(_MOMENT_SECONDS * rate_hz))
    edges = np.arange(0, len(waveform), moment)
    if not len(edges) or not waveform.any():
        raise ValueError("silent")
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), edges)
    power /= np.diff(edges, append=len(waveform))  # the last moment may be shorter
    loud = np.flatnonzero(power >= power.max() * _from_db(-_ACTIVE_DB) ** 2)
    return int(edges[loud[0]]), min(int(edges[loud[-1]]) + moment, len(waveform))


class _Sound:
    """A clip's active part, faded in and out just outside of it, if the clip is long enough."""

    def __init__(self, recording: Recording, rate_hz: int) -> None:
        waveform = recording.load()
        try:
            start, stop = active(waveform, rate_hz)
        except ValueError as error:
            raise ValueError(f"{recording.title}: {error}") from None
        fade = round(_FADE_SECONDS * rate_hz)
        before, after = max(0, start - fade), min(len(waveform), stop + fade)
        self.label, self.title = recording.label, recording.title
        self.samples: Samples = waveform[before:after].astype(np.float32)
        fade = min(fade, len(self.samples) // 2)
        rise = _rise(fade)
        self.samples[:fade] *= rise
        self.samples[len(self.samples) - fade :] *= rise[::-1]
        self.first, self.length = start - before, stop - start
        """Begin of the active part in `samples`, and its length, samples."""
        self.rms = _rms(self.samples[self.first : self.first + self.length])


_Group = list[tuple[int, _Sound]]
"""One sound, or two that overlap, each with its delay after the group's onset, samples."""


class _Deck:
    """Deals every sound once, in random order, before it deals one again."""

    def __init__(self, sounds: Sequence[Recording], rate_hz: int, rng: np.random.Generator) -> None:
        self._sounds, self._rate_hz, self._rng = sounds, rate_hz, rng
        self._left: list[int] = []
        self._known: dict[int, _Sound] = {}

    def deal(self, unlike: str | None = None) -> _Sound | None:
        """The next sound, of another label than `unlike`. None: no such sound is left in this round."""
        if not self._left:
            self._left = self._rng.permutation(len(self._sounds)).tolist()
        for place, number in enumerate(self._left):
            if self._sounds[number].label != unlike:
                del self._left[place]
                if number not in self._known:
                    self._known[number] = _Sound(self._sounds[number], self._rate_hz)
                return self._known[number]
        return None


def _groups(
    sounds: Sequence[Recording], count: int, overlapping: float, rate_hz: int, rng: np.random.Generator
) -> Iterator[_Group]:
    """Groups of `count` sounds, the share `overlapping` in pairs; one by one if the deck has only one label left."""
    deck = _Deck(sounds, rate_hz, rng)
    pairs = round(overlapping * count / 2)
    for is_pair in rng.permutation(np.arange(count - pairs) < pairs).tolist():
        one = deck.deal()
        other = deck.deal(unlike=one.label) if one and is_pair else None
        if one and other:
            overlap = min(round(_OVERLAP_SECONDS * rate_hz), one.length, other.length)
            yield [(0, one), (int(rng.integers(one.length - overlap + 1)), other)]
        elif one:
            yield [(0, one)]


def _schedule(
    groups: Iterator[_Group], length: int, rate_hz: int, rng: np.random.Generator
) -> list[tuple[int, _Sound]]:
    """Onset, samples, and sound, for as many groups as fit: first as early as possible, then moved later at random."""
    gap, apart = round(_GAP_SECONDS * rate_hz), round(_APART_SECONDS * rate_hz)
    starts: list[int] = []
    kept: list[_Group] = []
    end = 0
    ends: dict[str, int] = {}  # label -> when it was last heard
    for group in groups:
        start = max([end + gap, *(ends[s.label] + apart - after for after, s in group if s.label in ends)])
        stop = max(start + after + sound.length for after, sound in group)
        if stop + gap > length:
            break
        starts.append(start)
        kept.append(group)
        end = stop
        ends |= {sound.label: start + after + sound.length for after, sound in group}
    # Later groups are moved by more: gaps only grow.
    later = np.sort(rng.integers(length - end - gap + 1, size=len(kept))).tolist() if kept else []
    return [
        (start + slack + after, sound)
        for start, slack, group in zip(starts, later, kept, strict=True)
        for after, sound in group
    ]


def _background(
    length: int, rate_hz: int, backgrounds: Sequence[Recording], rng: np.random.Generator
) -> tuple[Samples, str]:
    """The background, [length], at any level, and its title."""
    most, join = round(_PIECE_SECONDS * rate_hz), round(_JOIN_SECONDS * rate_hz)
    if not backgrounds:
        exponent = float(rng.choice(_EXPONENTS))
        noise = _joined(lambda: coloured(most, exponent, rng), length, join)
        return noise, f"noise, power falling as f^-{exponent:g}"
    chosen = backgrounds[int(rng.integers(len(backgrounds)))]
    recording = chosen.load()
    if len(recording) < _LEAST_BACKGROUND_SECONDS * rate_hz or not recording.any():
        raise ValueError(f"{chosen.title}: silent, or too short for a background")
    piece = min(len(recording), most)

    def cut() -> Samples:
        start = int(rng.integers(len(recording) - piece + 1))
        return recording[start : start + piece]

    whole = _joined(cut, length, min(join, piece // 2))
    whole /= np.float32(max(_rms(whole), 1e-9))
    whole += np.float32(_from_db(_FLOOR_DB)) * _joined(lambda: coloured(most, 0.0, rng), length, join)
    return whole, chosen.title


def _joined(piece: Callable[[], Samples], length: int, join: int) -> Samples:
    """Pieces one after the other, cross-faded at constant power, [length].

    Args:
        join: length of a cross-fade, samples, at most half a piece.
    """
    whole = np.zeros(length, np.float32)
    rise = np.sin(np.pi / 2 * _rise(join))
    start = 0
    while start < length:
        next_one = piece().astype(np.float32)
        if start:
            next_one[:join] *= rise
        next_one[len(next_one) - join :] *= np.sqrt(1 - rise**2)
        fits = min(len(next_one), length - start)
        whole[start : start + fits] += next_one[:fits]
        start += len(next_one) - join
    return whole


def _rise(samples: int) -> Samples:
    """A linear rise from just above 0 to just below 1, [samples]."""
    return ((np.arange(samples) + 0.5) / max(samples, 1)).astype(np.float32)


def _rms(waveform: Samples) -> float:
    blocks = (waveform[start : start + BLOCK_SAMPLES] for start in range(0, len(waveform), BLOCK_SAMPLES))
    return math.sqrt(sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks) / len(waveform))


def _from_db(level: float) -> float:
    return float(10 ** (level / 20))
