"""Augmentation of waveforms: sounds anywhere in the window, their mere ends, noise alone, mixtures.

ESC-50's clips begin with their sound and are padded with digital silence. In a live stream a sound enters the window
late, leaves it early, and is never surrounded by zeros.
"""

import numpy as np

from tagger.events import Samples

_DIGITAL_SILENCE = 1e-4
"""A clip's ends below this magnitude (-80 dBFS) are padding."""
_GAIN_DB = (-12.0, 6.0)
_FLOOR_DB = (-85.0, -45.0)
"""RMS of the noise under a sound, dBFS."""
_NOISE_DB = (-95.0, -25.0)
"""RMS of noise without a sound, dBFS."""
_LEAST_SECONDS = 0.5
"""Shortest part of a sound in the window, seconds; at least half of the sound is in it, too."""
_FRAGMENT_SECONDS = (0.03, 0.3)
"""Length of a fragment at the window's edge, seconds: too short to be recognised."""
_HUM_PROBABILITY = 0.3
_MOMENT = 320
"""Step in which a sound is looked for, samples: 10 ms at 32 kHz."""
_SOFT = 0.1
"""A moment is soft if its peak is below this share of the window's."""


class Noise:
    """Stationary noise, blue to brown. Pieces are cut from a pool: new noise for each window would be slow."""

    def __init__(self, samples: int, rng: np.random.Generator, pool: int = 24) -> None:
        exponents = rng.choice([-1.0, 0.0, 0.0, 1.0, 1.0, 2.0], pool)
        self._pool = [coloured(4 * samples, exponent, rng) for exponent in exponents]
        self._samples = samples

    def draw(self, rng: np.random.Generator) -> Samples:
        """[samples], RMS 1."""
        source = self._pool[rng.integers(len(self._pool))]
        start = rng.integers(len(source) - self._samples + 1)
        piece: Samples = source[start : start + self._samples]
        return piece if rng.random() < 0.5 else piece[::-1]


def coloured(samples: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Noise whose power falls with frequency as `f ** -exponent`: -1 blue, 0 white, 1 pink, 2 brown. RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    # Level below 20 Hz (at 32 kHz): brown noise would otherwise be all rumble.
    bins = np.maximum(np.arange(len(spectrum)), samples * 20 / 32_000)
    noise = np.fft.irfft(spectrum * bins ** (-exponent / 2), samples)
    scaled: Samples = (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)
    return scaled


def placed(
    clip: Samples, noise: Noise, rate_hz: int, rng: np.random.Generator, floor: Samples | None = None
) -> Samples:
    """Places the clip's sound anywhere in the window, perhaps cut off, at another level, over a noise floor.

    Args:
        clip: [N], float32. The result has the same length.
        floor: [N], sound under it, at any level; its level is then drawn from `_FLOOR_DB`. None: noise.
    """
    sound = trimmed(clip) * _from_db(rng.uniform(*_GAIN_DB))
    floor = noise.draw(rng) if floor is None else floor / max(_rms(floor), 1e-6)
    window = floor * _from_db(rng.uniform(*_FLOOR_DB))
    kept = min(len(sound), max(int(_LEAST_SECONDS * rate_hz), len(sound) // 2))
    start = int(rng.integers(kept - len(sound), len(window) - kept + 1))
    cut, into = max(0, -start), max(0, start)
    length = min(len(sound) - cut, len(window) - into)
    window[into : into + length] += sound[cut : cut + length]
    placed_window: Samples = np.clip(window, -1, 1)
    return placed_window


def fragment(clip: Samples, noise: Noise, rate_hz: int, rng: np.random.Generator) -> Samples:
    """A window with only the first or the last bit of the clip's sound, at its edge: too little to recognise it."""
    sound = trimmed(clip) * _from_db(rng.uniform(*_GAIN_DB))
    window = noise.draw(rng) * _from_db(rng.uniform(*_FLOOR_DB))
    length = min(len(sound), int(rng.uniform(*_FRAGMENT_SECONDS) * rate_hz))
    if rng.random() < 0.5:
        window[-length:] += sound[:length]
    else:
        window[:length] += sound[-length:]
    edge: Samples = np.clip(window, -1, 1)
    return edge


def trimmed(clip: Samples) -> Samples:
    """The clip without the padding at its ends. A clip that is all padding stays as it is."""
    loud = np.flatnonzero(np.abs(clip) > _DIGITAL_SILENCE)
    return clip[loud[0] : loud[-1] + 1] if loud.size else clip


def noise_window(noise: Noise, samples: int, rate_hz: int, rng: np.random.Generator) -> Samples:
    """A window without events: noise, sometimes with the hum of the mains and its overtones."""
    window = noise.draw(rng) * _from_db(rng.uniform(*_NOISE_DB))
    if rng.random() < _HUM_PROBABILITY:
        time = np.arange(samples) / rate_hz
        mains = rng.choice([50.0, 60.0])
        for overtone in range(1, 9):
            level, phase = _from_db(rng.uniform(-80, -40)), rng.uniform(0, 2 * np.pi)
            window = window + level * np.sin(2 * np.pi * mains * overtone * time + phase)
    return window.astype(np.float32)


def cropped(window: Samples, samples: int, rng: np.random.Generator) -> Samples:
    """A random piece of the window that holds at least one moment that is not soft.

    Returns:
        [samples]
    """
    loudness = np.abs(window[: len(window) // _MOMENT * _MOMENT]).reshape(-1, _MOMENT).max(1)
    moments = np.flatnonzero(loudness >= _SOFT * loudness.max())
    moment = _MOMENT * int(rng.choice(moments))
    start = min(max(0, moment - int(rng.integers(max(1, samples - _MOMENT + 1)))), len(window) - samples)
    return window[start : start + samples]


def mixed(one: Samples, other: Samples, share: float) -> Samples:
    """A mixture of both, at the same level; `share` is the weight of the first, in amplitude.

    Tokozume et al., "Learning from Between-class Examples for Deep Sound Recognition" (ICLR 2018), with RMS for level.
    """
    levels = max(_rms(one), 1e-5), max(_rms(other), 1e-5)
    weights = share / levels[0], (1 - share) / levels[1]
    # As loud as the two were on average.
    loudness = np.sqrt(levels[0] * levels[1]) / np.hypot(share, 1 - share)
    both: Samples = np.float32(weights[0] * loudness) * one + np.float32(weights[1] * loudness) * other
    return np.clip(both, -1, 1)


def over(sound: Samples, floor: Samples, snr_db: float) -> Samples:
    """The sound with `floor` under it, at this ratio of their mean powers over the whole window."""
    scale = _rms(sound) / max(_rms(floor), 1e-6) * 10 ** (-snr_db / 20)
    both: Samples = np.clip(sound + np.float32(scale) * floor, -1, 1)
    return both


def _rms(waveform: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


def _from_db(level: float) -> np.float32:
    return np.float32(10 ** (level / 20))
