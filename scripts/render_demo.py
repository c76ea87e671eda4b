"""Renders the stream that `tagger listen demo` plays: ten sounds of ESC-50's labels in a quiet room, all synthesised.

No recording is used. The samples depend only on this file, so a second run gives the same ones. Writes
tagger/sources/demo/demo.ogg (mono, 32 kHz) and, as an Audacity label track, tagger/sources/demo/demo.txt:

    python scripts/render_demo.py

Sounds, takes and order were chosen so that an ESC-50 checkpoint recognises each scene and nothing else. The stream
shows that tagger works, not how well.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Rng = np.random.Generator

RATE_HZ = 32_000
SCENE_S = 5.0
PAUSE_S = 1.15
"""Silence before, between and after the scenes."""
_FADE_IN_S, _FADE_OUT_S = 0.03, 0.3
_ROOM_DB = -65.0
"""RMS of the room's noise, dBFS. It is everywhere in the stream, because no room is digitally silent."""
_QUALITY = 0.6
"""Vorbis compression level of libsndfile: 0 is the best and the largest file."""
_FOLDER = Path(__file__).parent.parent / "tagger" / "sources" / "demo"


@dataclass(frozen=True)
class Scene:
    """One sound, alone in the room."""

    label: str
    play: Callable[[Rng], Signal]
    peak_db: float
    """Highest magnitude, dBFS."""
    take: int = 1
    """Seed of the sound's random performance."""


def church_bells(rng: Rng) -> Signal:
    """Three bells in turn: each a hum, a minor third and inharmonic partials, all double: no bell is quite round."""
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.5, 2.67, 3, 4, 5.33, 6.7, 8.1])
    decays_s = np.array([4, 2.2, 1.8, 1.3, 1.4, 0.8, 0.7, 0.7, 0.5, 0.3, 0.2, 0.15])
    levels = np.array([0.5, 0.6, 0.7, 0.3, 1, 0.3, 0.25, 0.4, 0.35, 0.2, 0.12, 0.08])
    sound = silence(SCENE_S)
    for stroke, strike_hz in enumerate([330, 277, 220, 330, 277]):
        for beat in (1, 1.003):
            add(sound, struck(strike_hz * ratios * beat, decays_s, levels, SCENE_S, rng), 0.1 + 0.9 * stroke)
    return in_room(sound, 2.0, 0.5, rng)


def crickets(rng: Rng) -> Signal:
    """Three crickets that begin to trill: each a pure tone, cut into pulses by the teeth of its wing."""
    time, sound = times(SCENE_S), silence(SCENE_S)
    swell = np.minimum(time / 1.5, 1) ** 2
    for tone_hz, pulses_hz, level in ((4500, 28, 1), (4850, 33, 0.6), (4100, 24, 0.4)):
        pulses = np.maximum(np.sin(2 * np.pi * pulses_hz * time + rng.uniform(0, 2 * np.pi)), 0)
        sound += level * pulses * (1 + 0.2 * drift(SCENE_S, 3, rng)) * np.sin(2 * np.pi * tone_hz * time)
    return in_room(sound * swell, 0.5, 0.3, rng) + 0.02 * coloured(SCENE_S, 0.5, rng)


def fireworks(rng: Rng) -> Signal:
    """Rockets that whistle as they climb, and shells: a dull bang, then a shower of crackling stars, echoing."""
    sound, climb = silence(SCENE_S), times(0.9)
    for at_s in (0.0, 2.0):
        whistle_hz = 2600 - 1100 * climb + 40 * np.sin(2 * np.pi * 9 * climb)
        add(sound, harmonics(whistle_hz, [1]) * np.sin(np.pi * climb / 0.9), at_s, 0.15)
    for at_s, level in ((0.9, 1), (1.3, 0.6), (1.8, 0.9), (2.9, 1), (3.4, 0.7)):
        bang = 2 * band(burst(0.8, 0.05, rng), 40, 1200) + band(burst(0.8, 0.012, rng), 300, 7000)
        add(sound, bang, at_s, level)
        for star_s in at_s + 0.25 + rng.exponential(0.25, 60):
            add(sound, burst(0.01, 0.0015, rng), star_s, 0.12 * level * rng.uniform(0.3, 1))
    return in_room(sound, 1.6, 0.6, rng)


def siren(rng: Rng) -> Signal:
    """A wailing siren in a street: an overdriven horn whose pitch sweeps up and down."""
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * 0.35 * times(SCENE_S))
    wail = np.tanh(3 * harmonics(500 * 2.6**sweep, [1, 0.5, 0.4, 0.25, 0.2, 0.1]))
    return in_room(band(wail, 400, 3500, order=2), 1.2, 0.6, rng)


def water_drops(rng: Rng) -> Signal:
    """Drops into a basin: a tick on the surface, then the bubble below it, which rings higher as it rises."""
    sound, at_s, time = silence(SCENE_S), 0.15, times(0.12)
    while at_s < SCENE_S - 0.3:
        bubble_hz, decay_s = rng.uniform(700, 1700), rng.uniform(0.012, 0.03)
        bubble = harmonics(bubble_hz * (1 + 0.27 * time / decay_s), [1])
        bubble *= np.exp(-time / decay_s) * (1 - np.exp(-time / 0.0015))
        add(sound, struck([5200, 6900], [0.002, 0.0015], [0.3, 0.2], 0.02, rng), at_s)
        add(sound, bubble, at_s + 0.008, rng.uniform(0.6, 1))
        at_s += rng.choice([0.28, 0.42, 0.6]) * rng.uniform(0.9, 1.1)
    return in_room(sound, 1.0, 0.4, rng)


def chirping_birds(rng: Rng) -> Signal:
    """Phrases of whistled syllables, each a quick glide of an almost pure tone."""
    syllables = [
        ([3300, 4100, 2900], 0.09),
        ([2300, 3700], 0.12),
        ([4300, 3400, 4000], 0.08),
        ([2700, 2500, 3500], 0.16),
    ]
    sound, at_s = silence(SCENE_S), 0.1
    while at_s < SCENE_S - 0.5:
        glide_hz, seconds = syllables[rng.integers(len(syllables))]
        seconds *= rng.uniform(0.9, 1.2)
        time = times(seconds)
        pitch_hz = np.interp(time / seconds, np.linspace(0, 1, len(glide_hz)), glide_hz) * rng.uniform(0.8, 0.95)
        syllable = harmonics(pitch_hz, [1, 0.1]) * np.sin(np.pi * time / seconds) ** 0.7
        level = rng.uniform(0.4, 1)
        for _ in range(rng.integers(2, 6)):
            add(sound, syllable, at_s, level)
            at_s += 1.4 * seconds
        at_s += rng.uniform(0.05, 0.5)
    return in_room(sound, 1.0, 0.35, rng)


def thunderstorm(rng: Rng) -> Signal:
    """Strokes of lightning far away: a faint crack, then low noise that rolls and dies, and some rain."""
    time, sound = times(SCENE_S), silence(SCENE_S)
    for at_s, level in ((0.4, 1), (1.1, 0.7), (1.9, 0.8), (3.1, 0.4)):
        since_s = np.maximum(time - at_s, 0)
        rumble = band(coloured(SCENE_S, 1.8, rng), 25, 300)
        crack = band(coloured(SCENE_S, 0.5, rng), 200, 4000) * np.exp(-since_s / 0.15)
        sound += level * np.minimum(since_s / 0.03, 1) * np.exp(-since_s / 0.9) * (rumble + 0.1 * crack)
    rolling = in_room(sound * (1 + 0.4 * drift(SCENE_S, 8, rng)), 2.0, 0.8, rng)
    return rolling + 0.03 * band(coloured(SCENE_S, 0.3, rng), 500, 8000)


def clock_alarm(rng: Rng) -> Signal:
    """A wind-up alarm clock: a hammer that strikes two small steel bells in turn, 24 times a second."""
    sound = silence(SCENE_S)
    for stroke, at_s in enumerate(np.arange(0.05, SCENE_S, 1 / 24)):
        bell_hz = 2350 if stroke % 2 else 2760
        modes_hz = [bell_hz * ratio for ratio in (0.52, 1, 1.01, 2.3)]
        ding = struck(modes_hz, [0.1, 0.25, 0.2, 0.06], [0.2, 1, 0.6, 0.7], 0.8, rng)
        add(sound, ding, at_s + rng.uniform(0, 0.003), rng.uniform(0.7, 1))
    return in_room(sound, 0.3, 0.3, rng)


def crackling_fire(rng: Rng) -> Signal:
    """A wood fire: splinters snap at random, most of them weakly, over the low roar of the air."""
    roar = band(coloured(SCENE_S, 1.5, rng), 40, 900) * (1 + 0.3 * drift(SCENE_S, 4, rng))
    sound = 0.05 * roar + 0.015 * coloured(SCENE_S, 0.7, rng)
    for at_s in rng.uniform(0, SCENE_S, rng.poisson(20 * SCENE_S)):
        snap = band(burst(0.04, rng.uniform(0.0004, 0.006), rng), rng.uniform(300, 2500), 7000)
        add(sound, snap, at_s, 0.3 * rng.lognormal(-0.8, 0.9))
    # Limited, so that the loudest snap does not leave the rest too quiet.
    return np.tanh(in_room(sound, 0.15, 0.2, rng))


def door_wood_knock(rng: Rng) -> Signal:
    """Knuckles on a door, four at a time: the damped modes of a wooden panel and the noise of the contact."""
    modes_hz, levels = [84, 152, 212, 328, 496, 784, 1200], [1, 1, 0.9, 0.7, 0.5, 0.35, 0.2]
    decays_s = [0.03, 0.027, 0.024, 0.018, 0.012, 0.007, 0.005]
    sound = silence(SCENE_S)
    for group_s in (0.2, 1.8, 3.4):
        for knock in range(4):
            blow = struck(modes_hz, decays_s, levels, 0.3, rng)
            add(blow, burst(0.03, 0.003, rng), 0, 0.8)
            add(sound, blow, group_s + 0.21 * knock * rng.uniform(0.95, 1.05), rng.uniform(0.8, 1))
    return in_room(sound, 0.35, 0.5, rng)


SCENES = (
    Scene("church_bells", church_bells, -5),
    Scene("crickets", crickets, -12),
    Scene("fireworks", fireworks, -3),
    Scene("siren", siren, -9),
    Scene("water_drops", water_drops, -6),
    Scene("chirping_birds", chirping_birds, -9, take=6),
    Scene("thunderstorm", thunderstorm, -3, take=2),
    Scene("clock_alarm", clock_alarm, -9),
    Scene("crackling_fire", crackling_fire, -3),
    Scene("door_wood_knock", door_wood_knock, -3),
)


def times(seconds: float) -> Signal:
    """The time of each sample from 0, seconds."""
    return np.arange(round(seconds * RATE_HZ)) / RATE_HZ


def silence(seconds: float) -> Signal:
    """Zeros, to which sounds are added."""
    return np.zeros(round(seconds * RATE_HZ))


def add(onto: Signal, sound: Signal, at_s: float, level: float = 1.0) -> None:
    """Adds `sound` to `onto` from `at_s`; samples beyond the end are dropped."""
    start = round(at_s * RATE_HZ)
    rest = onto[start : start + len(sound)]
    rest += level * sound[: len(rest)]


def coloured(seconds: float, exponent: float, rng: Rng) -> Signal:
    """Noise whose power falls with frequency as `f ** -exponent`, flat below 20 Hz. RMS 1."""
    white = np.fft.rfft(rng.standard_normal(round(seconds * RATE_HZ)))
    bins = np.maximum(np.arange(len(white)), 20 * seconds)
    noise: Signal = np.fft.irfft(white * bins ** (-exponent / 2), round(seconds * RATE_HZ))
    return noise / _rms(noise)


def drift(seconds: float, hz: float, rng: Rng) -> Signal:
    """A random curve that wanders about `hz` times a second. Mean 0, RMS 1."""
    curve = band(coloured(seconds, 0, rng), 0.001, hz, order=2)
    curve -= curve.mean()
    return curve / _rms(curve)


def burst(seconds: float, decay_s: float, rng: Rng) -> Signal:
    """White noise that dies away."""
    time = times(seconds)
    return rng.standard_normal(len(time)) * np.exp(-time / decay_s)


def struck(
    modes_hz: Sequence[float] | Signal,
    decays_s: Sequence[float] | Signal,
    levels: Sequence[float] | Signal,
    seconds: float,
    rng: Rng,
) -> Signal:
    """A body after a blow: one decaying sine a mode, with an onset of half a millisecond."""
    time, sound = times(seconds), silence(seconds)
    for mode_hz, decay_s, level in zip(modes_hz, decays_s, levels, strict=True):
        phase = rng.uniform(0, 2 * np.pi)
        sound += level * np.exp(-time / decay_s) * np.sin(2 * np.pi * mode_hz * time + phase)
    sound *= 1 - np.exp(-time / 0.0005)
    return sound


def harmonics(pitch_hz: Signal, levels: Sequence[float]) -> Signal:
    """A tone whose pitch changes from sample to sample, with the levels of its harmonics from the fundamental up."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    tone: Signal = sum((level * np.sin(order * phase) for order, level in enumerate(levels, 1)), np.zeros_like(phase))
    return tone


def band(sound: Signal, low_hz: float, high_hz: float, order: int = 1) -> Signal:
    """Band-pass between two frequencies, with the edges of Butterworth filters and no phase shift."""
    hz = np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE_HZ), 1e-3)
    gain = 1 / np.sqrt((1 + (low_hz / hz) ** (2 * order)) * (1 + (hz / high_hz) ** (2 * order)))
    filtered: Signal = np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))
    return filtered


def in_room(sound: Signal, decay_s: float, level: float, rng: Rng) -> Signal:
    """Adds reverberation that falls by 60 dB in `decay_s`: convolution with decaying noise of RMS `level`."""
    response = band(burst(decay_s, decay_s / np.log(1000), rng), 150, 5000)
    response *= level / np.sqrt(np.sum(response**2))
    padded = len(sound) + len(response)
    wet: Signal = np.fft.irfft(np.fft.rfft(sound, padded) * np.fft.rfft(response, padded), padded)
    return sound + wet[: len(sound)]


def staged(scene: Scene) -> Signal:
    """Samples of a scene, `SCENE_S` long, at its level, faded at both ends."""
    sound, time = scene.play(np.random.default_rng(scene.take)), times(SCENE_S)
    ramp = np.clip(np.minimum(time / _FADE_IN_S, (SCENE_S - time) / _FADE_OUT_S), 0, 1)
    sound *= np.sin(np.pi / 2 * ramp) ** 2
    sound *= _from_db(scene.peak_db) / np.abs(sound).max()
    return sound


def render() -> tuple[NDArray[np.float32], list[tuple[float, float, str]]]:
    """The stream, and the onset, offset (seconds) and label of each scene."""
    seconds = PAUSE_S + len(SCENES) * (SCENE_S + PAUSE_S)
    stream, labels = _from_db(_ROOM_DB) * coloured(seconds, 1, np.random.default_rng(0)), []
    for index, scene in enumerate(SCENES):
        onset_s = PAUSE_S + index * (SCENE_S + PAUSE_S)
        add(stream, staged(scene), onset_s)
        labels.append((onset_s, onset_s + SCENE_S, scene.label))
    return stream.astype(np.float32), labels


def main() -> None:
    """Writes both files."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    stream, labels = render()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(
        _FOLDER / "demo.ogg", "w", RATE_HZ, 1, "VORBIS", format="OGG", compression_level=_QUALITY
    ) as file:
        for start in range(0, len(stream), RATE_HZ):  # one long write can crash libsndfile's Vorbis encoder
            file.write(stream[start : start + RATE_HZ])
    rows = [f"{onset_s:.3f}\t{offset_s:.3f}\t{label}\n" for onset_s, offset_s, label in labels]
    (_FOLDER / "demo.txt").write_text("".join(rows), encoding="utf-8")


def _rms(sound: Signal) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def _from_db(level: float) -> float:
    return float(10 ** (level / 20))


if __name__ == "__main__":
    main()
