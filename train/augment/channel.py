"""Rooms, microphones and telephones: what lies between a sound and the samples that a model gets.

Each function keeps the length of a sound, and all but `clipped` and `levelled` about its level.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tagger.audio.resample import Resampler
from tagger.events import Samples

Law = Literal["mu", "a"]
_TELEPHONE_HZ = 8_000
_MU, _A = 255.0, 87.6
_OCTAVES_HZ = 62.5 * 2.0 ** np.arange(8)
"""Centres of the equaliser's bands: 62.5 Hz to 8 kHz."""
_BLOCK_SECONDS = 0.02
"""The automatic gain changes as often."""

# What `through` draws from
_EQUALISED, _DISTANT, _LEVELLED, _CLIPPED, _TELEPHONE = 0.7, 0.4, 0.3, 0.15, 0.15
"""Probability of each."""
_GAINS_DB = 9.0
"""Largest gain or loss of a band."""
_RT60_S, _DIRECT_DB = (0.15, 0.9), (-6.0, 12.0)
_OVER_DB = (1.0, 15.0)


def through(sound: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """The sound as a room, a microphone and a telephone drawn at random give it; each has its own probability.

    Args:
        sound: [N], full scale -1 to 1.

    Returns:
        [N], float32.
    """
    drawn = rng.random(5)
    if drawn[0] < _DISTANT:
        sound = distant(sound, rate_hz, rng.uniform(*_RT60_S), rng.uniform(*_DIRECT_DB), rng)
    if drawn[1] < _EQUALISED:
        sound = equalised(sound, rate_hz, rng.uniform(-_GAINS_DB, _GAINS_DB, len(_OCTAVES_HZ)))
    if drawn[2] < _LEVELLED:
        sound = levelled(sound, rate_hz)
    if drawn[3] < _CLIPPED:
        sound = clipped(sound, rng.uniform(*_OVER_DB))
    if drawn[4] < _TELEPHONE:
        sound = companded(sound, rate_hz, "mu" if rng.random() < 0.5 else "a")
    return sound


def equalised(sound: Samples, rate_hz: int, gains_db: NDArray[np.float64]) -> Samples:
    """
    Args:
        gains_db: [8], of octaves from 62.5 Hz to 8 kHz; between them the gain is linear over the octaves.
    """
    length = len(sound)
    frequencies = np.fft.rfftfreq(2 * length, 1 / rate_hz)
    gain = np.interp(np.log2(np.maximum(frequencies, 1.0)), np.log2(_OCTAVES_HZ), gains_db)
    filtered = np.fft.irfft(np.fft.rfft(sound, 2 * length) * 10 ** (gain / 20), 2 * length)
    return _fitted(filtered, length)


def distant(sound: Samples, rate_hz: int, rt60_s: float, direct_db: float, rng: np.random.Generator) -> Samples:
    """The sound in a room: after the direct sound comes noise that decays by 60 dB in `rt60_s`.

    The model of Moorer, "About This Reverberation Business" (Computer Music Journal 3:2, 1979). High frequencies die
    away first: the noise is a mean over more and more samples.

    Args:
        direct_db: energy of the direct sound over that of the reverberation.
    """
    taps = max(2, round(rt60_s * rate_hz))
    time = np.arange(taps) / rate_hz
    tail = rng.standard_normal(taps) * 10 ** (-3 * time / rt60_s)
    dull = np.convolve(tail, [0.25, 0.5, 0.25], "same")
    tail = tail + (dull - tail) * time / rt60_s
    tail[: round(0.002 * rate_hz)] = 0.0
    tail *= 10 ** (-direct_db / 20) / max(float(np.sqrt(np.sum(tail**2))), 1e-12)
    tail[0] = 1.0
    size = _quick_size(len(sound) + taps)
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return _fitted(wet * (_rms(sound) / max(_rms(wet), 1e-9)), len(sound))


def levelled(sound: Samples, rate_hz: int, target_db: float = -20.0, most_db: float = 30.0) -> Samples:
    """Automatic gain as cheap microphones have it: down within 20 ms, up by 20 dB a second, `most_db` at most.

    Args:
        target_db: RMS, dBFS, that quiet blocks are raised to and loud ones lowered to.
    """
    block = max(1, round(_BLOCK_SECONDS * rate_hz))
    blocks = np.resize(np.pad(sound, (0, -len(sound) % block)), (-(-len(sound) // block), block))
    levels = 10 * np.log10(np.maximum(np.square(blocks, dtype=np.float64).mean(1), 1e-12))
    gain, gains = 0.0, np.zeros(len(levels))
    for number, level in enumerate(levels):
        gain = min(gain + 20 * _BLOCK_SECONDS, target_db - level, most_db)
        gains[number] = gain
    centres = (np.arange(len(gains)) + 0.5) * block
    smooth = np.interp(np.arange(len(sound)), centres, gains) if len(gains) else gains
    return _fitted(np.clip(sound * 10 ** (smooth / 20), -1, 1), len(sound))


def clipped(sound: Samples, over_db: float) -> Samples:
    """The sound with its peak `over_db` beyond full scale, cut off there."""
    peak = max(float(np.abs(sound).max(initial=0.0)), 1e-9)
    return _fitted(np.clip(sound * (10 ** (over_db / 20) / peak), -1, 1), len(sound))


def companded(sound: Samples, rate_hz: int, law: Law) -> Samples:
    """The sound by telephone: 8 kHz, 8 bits a sample on the continuous curves that ITU-T G.711 approximates.

    Args:
        law: mu, in North America and Japan, or a, elsewhere.
    """
    low = np.clip(_resampled(sound, rate_hz, _TELEPHONE_HZ).astype(np.float64), -1, 1)
    size, sign = np.abs(low), np.sign(low)
    if law == "mu":
        curve = np.log1p(_MU * size) / np.log1p(_MU)
        steps = np.round(curve * 127) / 127
        size = np.expm1(steps * np.log1p(_MU)) / _MU
    else:
        scale = 1 + np.log(_A)
        curve = np.where(size < 1 / _A, _A * size, 1 + np.log(np.maximum(_A * size, 1.0))) / scale
        steps = (np.minimum(np.floor(curve * 128), 127) + 0.5) / 128
        size = np.where(steps < 1 / scale, steps * scale, np.exp(steps * scale - 1)) / _A
    return _fitted(_resampled((sign * size).astype(np.float32), _TELEPHONE_HZ, rate_hz), len(sound))


def _quick_size(least: int) -> int:
    """The smallest number from `least` on whose prime factors are 2, 3 and 5: a transform of such a length is quick."""
    odd = [3**threes * 5**fives for threes in range(12) for fives in range(9)]
    sizes: list[int] = [factor << max(0, -(-least // factor) - 1).bit_length() for factor in odd]
    return min(sizes)


def _resampled(sound: Samples, from_hz: int, to_hz: int) -> Samples:
    resampler = Resampler(from_hz, to_hz)
    return np.concatenate([resampler.feed(np.asarray(sound, np.float32)), resampler.flush()])


def _fitted(sound: NDArray[np.floating], length: int) -> Samples:
    """The first `length` samples, with zeros after them if there are fewer; float32."""
    fitted: Samples = np.pad(sound[:length], (0, max(0, length - len(sound)))).astype(np.float32)
    return fitted


def _rms(sound: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
