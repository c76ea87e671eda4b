"""A microphone as a source of audio."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tagger.audio.resample import ToMono, is_plausible
from tagger.errors import TaggerError
from tagger.events import Block, Samples
from tagger.names import slug
from tagger.sources import Request
from tagger.sources.clock import Arrival, LiveClock, steady
from tagger.sources.portaudio import PORTAUDIO, Device, MissingDeviceError, find_input_device

_BUFFER_SECONDS = 10.0
"""Longest audio that waits for the reader."""
_BLOCK_SECONDS = 0.05
SILENT_DEVICE_SECONDS = 3.0
"""Longest wait for the device's next block; after it, the device counts as gone."""


def open_source(request: Request) -> "MicrophoneSource":
    """Opens `mic` or `mic:DEVICE`."""
    device = request.uri.partition(":")[2]
    name = request.name or (f"mic_{slug(device)}" if device else "mic")
    return MicrophoneSource(name, device or None, request.rate_hz)


class _Captured(NamedTuple):
    """Audio of one callback."""

    samples: Samples
    """[N] at the device's rate."""
    steady_s: float
    """When they came, on the steady clock, seconds."""
    wall: float
    """The same moment on the wall clock, seconds since the epoch."""
    gap: bool
    """Samples were lost before these."""


class MicrophoneSource:
    """Live audio. The callback only copies into a bounded buffer; when that is full, audio is lost and a gap marked."""

    live = True

    def __init__(self, name: str, device: str | None, rate_hz: int) -> None:
        """
        Args:
            device: part of a device's name, or its index; None is the system's default input. It may be missing as
                yet: `blocks` looks for it again.
            rate_hz: rate of the blocks; the device keeps its own.

        Raises:
            UserError: no PortAudio, or several devices of that name.
        """
        self.name = name
        self._device_name, self._rate_hz = device, rate_hz
        self._device: Device | None = None
        self.description = f"microphone {device!r}, not connected yet" if device else "microphone, not connected yet"
        with contextlib.suppress(MissingDeviceError):
            self._find_device()
        self._queue: queue.Queue[_Captured | None] = queue.Queue(int(_BUFFER_SECONDS / _BLOCK_SECONDS))
        self._lost = False
        """Audio was lost since the last block."""
        self._opened_before = False
        self._closed = threading.Event()

    def _find_device(self) -> Device:
        self._device = device = find_input_device(self._device_name)
        self._device_hz = int(device["default_samplerate"])
        self.description = f"microphone {device['name']!r}, {self._device_hz} Hz"
        return device

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            TaggerError: the device is missing, cannot be opened, or has gone. The next call looks for it again.
        """
        with PORTAUDIO:
            device = self._device
            if self._opened_before or device is None:
                PORTAUDIO.rescan_devices()
                device = self._find_device()
                self._lost = self._opened_before
            self._opened_before = True
            block_size = int(self._device_hz * _BLOCK_SECONDS)
            stream = PORTAUDIO.open_input(device, self._device_hz, block_size, self._on_audio)
        try:
            clock = LiveClock(self.name, self._rate_hz, is_live=True)
            yield from clock.blocks(self._arrivals(device["name"]), self._has_more)
        finally:
            with PORTAUDIO:
                PORTAUDIO.close(stream)

    def behind(self) -> float:
        return self._queue.qsize() * _BLOCK_SECONDS

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(queue.Full):  # then the reader has blocks to read, and sees `_closed` between them
            self._queue.put_nowait(None)

    def _on_audio(self, data: Samples, frames: int, timing: Any, status: Any) -> None:
        """Puts [N, 1] samples into the buffer. PortAudio's thread calls this; it must not wait."""
        lost = self._lost or bool(status.input_overflow)
        try:
            self._queue.put_nowait(_Captured(data[:, 0].copy(), steady(), time.time(), lost))
            self._lost = False
        except queue.Full:
            self._lost = True

    def _arrivals(self, name: str) -> Iterator[Arrival]:
        to_mono, read, given = ToMono(self._device_hz, self._rate_hz, 1), 0, 0
        while not self._closed.is_set():
            waited = self._queue.empty()
            try:
                captured = self._queue.get(timeout=SILENT_DEVICE_SECONDS)
            except queue.Empty:
                raise TaggerError(f"microphone {name!r} delivers no audio any more") from None
            if captured is None:
                return
            data, gap = captured.samples, captured.gap
            if gap or not is_plausible(data).all():
                to_mono, gap = ToMono(self._device_hz, self._rate_hz, 1), True
                data = np.where(is_plausible(data), data, np.float32(0))
                given = round(read * self._rate_hz / self._device_hz)
            samples = to_mono.feed(data[:, np.newaxis])
            read += len(data)
            positions = given / self._rate_hz, read / self._device_hz
            yield Arrival(samples, *positions, captured.steady_s, captured.wall, waited, gap, captured.gap)
            given += len(samples)

    def _has_more(self, within_s: float) -> bool:
        with self._queue.not_empty:
            return bool(self._queue.not_empty.wait_for(lambda: len(self._queue.queue), within_s))
