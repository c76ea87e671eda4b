"""Synthesised alarms, rooms and noise."""

import numpy as np
from numpy.typing import NDArray

from tagger.policy import SMOKE_ALARM

RATE_HZ = 32_000
Signal = NDArray[np.float64]


def alarm(label: str, seconds: float, rng: np.random.Generator) -> tuple[Signal, float]:
    """An alarm that begins after a second or more, drawn within the standard's limits; and a pulse's mean square."""
    tempo = rng.uniform(0.92, 1.08)
    pulse_s, pulses, quiet_s = (0.5, 3, 1.5) if label == SMOKE_ALARM else (0.1, 4, 5.0)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    if rng.random() < 0.3:  # a sounder for sleepers: a square wave
        hz = rng.uniform(490, 550)
        tone = sum(np.sin(2 * np.pi * hz * n * time_s) / n for n in range(1, 20, 2))
    else:
        tone = np.sin(2 * np.pi * rng.uniform(2_800, 3_500) * time_s + rng.uniform(0, 6))
    envelope = np.zeros_like(time_s)
    at = rng.uniform(1.0, 4.0)
    while at < seconds:
        for _ in range(pulses):
            envelope[(time_s >= at) & (time_s < at + pulse_s * tempo)] = 1
            at += 2 * pulse_s * tempo
        at += (quiet_s - pulse_s) * tempo
    width = round(0.005 * RATE_HZ)
    for _ in range(2):  # rises and falls within 10 ms
        total = np.cumsum(np.pad(envelope, (width, 0)))
        envelope = (total[width:] - total[:-width]) / width
    return tone * envelope, float(np.square(tone).mean())


def reverberant(signal: Signal, rt60_s: float, rng: np.random.Generator) -> Signal:
    """The signal in a room: the direct sound, and a tail of the same power that decays by 60 dB in `rt60_s`."""
    size = round(rt60_s * RATE_HZ)
    tail = rng.normal(size=size) * 10 ** (-3 * np.arange(size) / size)
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] += 1
    length = len(signal) + size
    return np.fft.irfft(np.fft.rfft(signal, length) * np.fft.rfft(tail, length), length)[: len(signal)]


def noise(colour: str, seconds: float, rng: np.random.Generator) -> Signal:
    """White or pink noise with a mean square of 1."""
    size = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(rng.normal(size=size))
    if colour == "pink":
        hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
        spectrum[1:] /= np.sqrt(hz[1:])
        spectrum[hz < 20] = 0
    found = np.fft.irfft(spectrum, size)
    return found / found.std()
