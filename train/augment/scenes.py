"""Scenes: windows as a stream has them, one or two clips over a background, and what sounds when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tagger.events import Samples
from train.augment import channel
from train.augment.waveform import Noise
from train.data.corpus import Corpus

_MOMENT_SECONDS = 0.02
_ACTIVE_DB = 25.0
"""A moment is active if it is at most this far below the clip's loudest one, dB."""
_LEAST_SECONDS = 0.5
"""Shortest part of a sound in the window, seconds; at least half of the sound is in it, too."""
_SNR_DB = (0.0, 25.0)
_FLOOR_DB = (-70.0, -30.0)
"""RMS of the background, dBFS."""
_ENTERING = 0.3
"""Probability that a sound has just begun when the window ends; then it must be announced."""
_ENTERED_SECONDS = (0.4, 1.4)
"""Duration of such a sound by then, seconds."""
_TWO = 0.3
"""Probability of a second clip."""
_RECORDED = 0.7
"""Probability of a background recording, if the fold has any; otherwise the background is noise."""
MOST_SOUNDS = 2
"""Most clips in a scene."""
_SEED = 17


Activity = NDArray[np.bool_]


@dataclass(frozen=True)
class Active:
    """Times at which each sound of a scene is heard."""

    moments: Activity
    """[sounds, moments of 20 ms]"""

    def __len__(self) -> int:
        return len(self.moments)

    def at_steps(self, count: int, step_s: float) -> Activity:
        """[sounds, count]: whether each is heard within half a step of the network's steps, the first at 0 s."""
        centres = np.arange(count) * step_s / _MOMENT_SECONDS
        half, last = step_s / _MOMENT_SECONDS / 2, self.moments.shape[1]
        heard = np.cumsum(np.pad(self.moments, ((0, 0), (1, 0))), axis=1)
        low = np.clip(np.round(centres - half), 0, last).astype(int)
        high = np.clip(np.round(centres + half), 0, last).astype(int)
        within: Activity = heard[:, high] > heard[:, low]
        return within


@dataclass(frozen=True, eq=False)
class Scene:
    window: Samples
    """[N], full scale -1 to 1."""
    active: Active


class Scenes:
    """One scene for each clip of a data set: the clip, perhaps with another, over noise or a background recording.

    Other clips and backgrounds come from the clip's own fold, so that no fold is heard in another.
    """

    def __init__(self, corpus: Corpus, rate_hz: int, seed: int, through: float = 0.0) -> None:
        """
        Args:
            through: probability that a scene is heard through a room and a microphone (`train.augment.channel`).
        """
        self._through = through
        self._corpus, self._rate_hz, self._seed = corpus, rate_hz, seed
        self._noise = Noise(corpus.waveforms.samples, np.random.default_rng([seed, _SEED]), pool=8)
        folds = np.array([clip.fold for clip in corpus.dataset.clips])
        has_label = np.array([clip.label is not None for clip in corpus.dataset.clips], bool)
        self._rows = {
            (fold, kind): np.flatnonzero((folds == fold) & (has_label == kind))
            for fold in set(folds.tolist())
            for kind in (True, False)
        }
        self.sounds = np.array([self._drawn(row)[0] for row in range(len(self))], np.int64).reshape(-1, MOST_SOUNDS)
        """[clips, MOST_SOUNDS]: rows of the clips in each scene; -1: none."""

    def __len__(self) -> int:
        return len(self._corpus.dataset.clips)

    def __getitem__(self, row: int) -> Scene:
        sounds, background, rng = self._drawn(row)
        waveforms = self._corpus.waveforms
        under = self._noise.draw(rng) if background is None else waveforms[background]
        made = scene([waveforms[sound] for sound in sounds if sound >= 0], under, self._rate_hz, rng)
        if self._through and rng.random() < self._through:
            return replace(made, window=channel.through(made.window, self._rate_hz, rng))
        return made

    def _drawn(self, row: int) -> tuple[tuple[int, int], int | None, np.random.Generator]:
        """Rows of the sounds (-1: none), row of the background (None: noise), and the generator for all other draws."""
        clips, rng = self._corpus.dataset.clips, np.random.default_rng([self._seed, _SEED, row])
        clip = clips[row]
        if clip.label is None:
            return (-1, -1), row, rng
        other, background = -1, None
        if rng.random() < _TWO:
            other = int(rng.choice(self._rows[clip.fold, True]))
            other = -1 if clips[other].label == clip.label else other
        recordings = self._rows[clip.fold, False]
        if len(recordings) and rng.random() < _RECORDED:
            background = int(rng.choice(recordings))
        return (row, other), background, rng


def scene(sounds: Sequence[Samples], background: Samples, rate_hz: int, rng: np.random.Generator) -> Scene:
    """Places each sound anywhere in the window, perhaps cut off at either end.

    Args:
        sounds: each [M]; silent ends are cut off.
        background: [N], at any level. Its level is drawn from `_FLOOR_DB`, each sound's ratio to it from `_SNR_DB`.
    """
    window = background * np.float32(_from_db(rng.uniform(*_FLOOR_DB)) / max(_rms(background), 1e-6))
    level = max(_rms(window), 1e-6)
    moment = round(_MOMENT_SECONDS * rate_hz)
    active: list[NDArray[np.bool_]] = []
    for whole in sounds:
        sound = whole[: len(whole) // moment * moment]
        loud = moments(sound, rate_hz)
        first, last = np.flatnonzero(loud)[[0, -1]] if loud.any() else (0, len(loud) - 1)
        sound, loud = sound[first * moment : (last + 1) * moment], loud[first : last + 1]
        sound = sound * np.float32(level * _from_db(rng.uniform(*_SNR_DB)) / max(_rms(sound), 1e-6))
        total = len(window) // moment
        kept = min(len(loud), total, max(round(_LEAST_SECONDS / _MOMENT_SECONDS), len(loud) // 2))
        start = int(rng.integers(kept - len(loud), total - kept + 1))
        if rng.random() < _ENTERING:
            start = max(0, total - round(rng.uniform(*_ENTERED_SECONDS) / _MOMENT_SECONDS))
        cut, into = max(0, -start), max(0, start)
        length = min(len(loud) - cut, total - into)
        window[into * moment : (into + length) * moment] += sound[cut * moment : (cut + length) * moment]
        heard = np.zeros(total, bool)
        heard[into : into + length] = loud[cut : cut + length]
        active.append(heard)
    moments_ = np.array(active, bool).reshape(len(active), len(window) // moment)
    return Scene(window / np.float32(max(1.0, float(np.abs(window).max()))), Active(moments_))


def moments(sound: Samples, rate_hz: int) -> NDArray[np.bool_]:
    """Which moments of 20 ms are within 25 dB of the loudest, [moments]. An incomplete last moment does not count."""
    moment = round(_MOMENT_SECONDS * rate_hz)
    power = np.square(sound[: len(sound) // moment * moment].reshape(-1, moment), dtype=np.float64).mean(1)
    loud: NDArray[np.bool_] = power >= max(power.max(initial=0.0) * _from_db(-_ACTIVE_DB) ** 2, 1e-12)
    return loud


def _from_db(db: float) -> float:
    return float(10 ** (db / 20))


def _rms(waveform: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def labels_of(sounds: Tensor, targets: Tensor) -> Tensor:
    """Targets of each sound of each scene.

    Args:
        sounds: [N, MOST_SOUNDS], rows of clips; -1: none.
        targets: [clips, labels].

    Returns:
        [N, MOST_SOUNDS, labels], 0 or 1.
    """
    labels: Tensor = targets[sounds.clamp(min=0)] * (sounds >= 0)[:, :, None]
    return labels
