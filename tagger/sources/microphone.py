"""A microphone as a source of audio."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tagger.audio.chunk import Frames
from tagger.audio.downmix import Downmix, check_channel, heard_channels
from tagger.audio.resample import Resampler, is_plausible
from tagger.condition import SourceError
from tagger.errors import TaggerError
from tagger.events import Block
from tagger.names import slug
from tagger.settings import Channel
from tagger.sources import Request, wait_idly
from tagger.sources.clock import Arrival, LiveClock, steady
from tagger.sources.portaudio import PORTAUDIO, Device, MissingDeviceError, find_input_device

log = logging.getLogger(__name__)

_BUFFER_SECONDS = 10.0
"""Longest audio that waits for the reader."""
_BLOCK_SECONDS = 0.05
_MOST_MIXED = 8
"""Most channels that are mixed. Devices with more are `default`, `pulse` and the like, which have as many as one asks
for, or mixers with most inputs empty; of these the first two are mixed."""
SILENT_DEVICE_SECONDS = 3.0
"""Longest wait for the device's next block; after it, the device counts as gone."""
FIRST_BLOCK_SECONDS = 8.0
"""Longest wait for the first block after the device was opened. PulseAudio's null sink gives it after 2 s, a Bluetooth
headset once it has changed to its microphone; on a busy machine both take longer."""


def open_source(request: Request) -> "MicrophoneSource":
    """Opens `mic` or `mic:DEVICE`."""
    request.refuse_raw_options()
    device = request.uri.partition(":")[2]
    name = request.name or (f"mic_{slug(device)}" if device else "mic")
    return MicrophoneSource(name, device or None, request.rate_hz, request.channel)


class _Captured(NamedTuple):
    """Audio of one callback."""

    frames: Frames
    """[N, channels] at the device's rate."""
    steady_s: float
    """When they came, on the steady clock, seconds."""
    wall: float
    """The same moment on the wall clock, seconds since the epoch."""
    gap: bool
    """Samples were lost before these."""


class MicrophoneSource:
    """Live audio. The callback only copies into a bounded buffer; when that is full, audio is lost and a gap marked."""

    live = True

    def __init__(self, name: str, device: str | None, rate_hz: int, channel: Channel = ()) -> None:
        """
        Args:
            device: part of a device's name, or its index; None is the system's default input. It may be missing as
                yet: `blocks` looks for it again.
            rate_hz: rate of the blocks; the device keeps its own.
            channel: channels that are heard.

        Raises:
            UserError: no PortAudio, several devices of that name, or the device does not have the channels.
        """
        self.name, self.on_wait = name, wait_idly
        self._device_name, self._rate_hz, self._channel = device, rate_hz, channel
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
        self._device_hz, has = int(device["default_samplerate"]), int(device["max_input_channels"])
        check_channel(f"microphone {device['name']!r}", self._channel, has)
        self._channels = max(self._channel) if self._channel else has if has <= _MOST_MIXED else 2
        heard = heard_channels(self._channel, has if self._channel else self._channels)
        self.description = f"microphone {device['name']!r}, {self._device_hz} Hz{heard}"
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
            stream = PORTAUDIO.open_input(device, self._device_hz, self._channels, block_size, self._on_audio)
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

    def _on_audio(self, data: Frames, frames: int, timing: Any, status: Any) -> None:
        """Puts [N, channels] samples into the buffer. PortAudio's thread calls this; it must not wait."""
        lost = self._lost or bool(status.input_overflow)
        try:
            self._queue.put_nowait(_Captured(data.copy(), steady(), time.time(), lost))
            self._lost = False
        except queue.Full:
            self._lost = True

    def _arrivals(self, name: str) -> Iterator[Arrival]:
        resampler, read, given = Resampler(self._device_hz, self._rate_hz), 0, 0
        downmix = Downmix(self.name, self._channel, log.warning)
        while not self._closed.is_set():
            waited = self._queue.empty()
            try:
                captured = self._queue.get(timeout=SILENT_DEVICE_SECONDS if read else FIRST_BLOCK_SECONDS)
            except queue.Empty:
                if not read:
                    raise SourceError("no_bytes", f"microphone {name!r} was opened, and delivers no audio") from None
                raise TaggerError(f"microphone {name!r} delivers no audio any more") from None
            if captured is None:
                return
            frames, gap = downmix.chosen(captured.frames), captured.gap
            if gap or not is_plausible(frames).all():
                resampler, gap = Resampler(self._device_hz, self._rate_hz), True
                frames = np.where(is_plausible(frames), frames, np.float32(0))
                given = round(read * self._rate_hz / self._device_hz)
            samples = resampler.feed(downmix.mean(frames, self._device_hz))
            read += len(frames)
            positions = given / self._rate_hz, read / self._device_hz
            yield Arrival(samples, *positions, captured.steady_s, captured.wall, waited, gap, captured.gap)
            given += len(samples)

    def _has_more(self, within_s: float) -> bool:
        with self._queue.not_empty:
            return bool(self._queue.not_empty.wait_for(lambda: len(self._queue.queue), within_s))
