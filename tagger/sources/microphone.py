"""A microphone, through PortAudio (sounddevice)."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from tagger.audio.resample import ToMono, is_sound
from tagger.errors import TaggerError, UserError, near
from tagger.events import Block, Samples

_BUFFER_SECONDS = 10.0
_BLOCK_SECONDS = 0.05
_SILENT_DEVICE_SECONDS = 3.0
"""A device that calls back no more for so long is gone."""
_CLOCK_TOLERANCE_SECONDS = 0.25
"""Sample clock and wall clock may drift apart so far before times follow the wall clock again."""


_Heard = tuple[Samples, float, bool]
"""Samples, wall-clock time of the first, and whether some were lost before it."""


class MicrophoneSource:
    """Live audio. The callback only copies into a bounded buffer; when that is full, audio is lost and a gap marked."""

    live = True

    def __init__(self, name: str, device: str | None, rate_hz: int) -> None:
        """
        Args:
            device: part of a device's name, or its index; None is the system's default input.

        Raises:
            UserError: no PortAudio, no input device, or none of that name.
        """
        self.name = name
        self._wanted, self._rate_hz = device, rate_hz
        self._choose()
        self._queue: queue.Queue[_Heard | None] = queue.Queue(int(_BUFFER_SECONDS / _BLOCK_SECONDS))
        self._lost = False
        """Audio was lost since the last block."""
        self._opened_before = False
        self._closed = threading.Event()

    def _choose(self) -> None:
        self._device = find_input(self._wanted)
        self._device_hz = int(self._device["default_samplerate"])
        self.description = f"microphone {self._device['name']!r}, {self._device_hz} Hz"

    def blocks(self) -> Iterator[Block]:
        """
        Raises:
            TaggerError: the device cannot be opened, or has gone. The next call looks for it anew.
        """
        with _portaudio:
            if self._opened_before:
                _portaudio.look_again()
                self._choose()
                self._lost = True
            self._opened_before = True
            stream = self._open()
        try:
            yield from self._heard()
        finally:
            with _portaudio:
                _portaudio.close(stream)

    def _open(self) -> Any:
        sounddevice = load_sounddevice()
        try:
            stream = sounddevice.InputStream(
                device=self._device["index"],
                samplerate=self._device_hz,
                channels=1,
                dtype="float32",
                blocksize=int(self._device_hz * _BLOCK_SECONDS),
                callback=self._on_audio,
            )
            stream.start()
        except sounddevice.PortAudioError as error:
            raise TaggerError(f"microphone {self._device['name']!r} cannot be opened: {_reason(error)}") from None
        _portaudio.open_streams += 1
        return stream

    def behind(self) -> float:
        return self._queue.qsize() * _BLOCK_SECONDS

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(queue.Full):  # then the reader has blocks to read, and sees `_closed` between them
            self._queue.put_nowait(None)

    def _on_audio(self, data: Samples, frames: int, timing: Any, status: Any) -> None:
        """Called from PortAudio's thread, which must not wait."""
        lost = self._lost or bool(status.input_overflow)
        try:
            self._queue.put_nowait((data[:, 0].copy(), time.time() - frames / self._device_hz, lost))
            self._lost = False
        except queue.Full:
            self._lost = True

    def _heard(self) -> Iterator[Block]:
        to_mono, clock = ToMono(self._device_hz, self._rate_hz, 1), _Clock(self._rate_hz)
        while not self._closed.is_set():
            try:
                item = self._queue.get(timeout=_SILENT_DEVICE_SECONDS)
            except queue.Empty:
                raise TaggerError(f"microphone {self._device['name']!r} delivers no audio any more") from None
            if item is None:
                return
            data, captured, gap = item
            if gap or not is_sound(data).all():
                to_mono, gap = ToMono(self._device_hz, self._rate_hz, 1), True
                data = np.where(is_sound(data), data, np.float32(0))
            samples = to_mono.feed(data[:, np.newaxis])
            yield Block(samples, clock.time_of(len(samples), captured, gap), gap)


class _PortAudio:
    """The one PortAudio of this process, which several microphones share. Held (`with`) while streams come and go."""

    def __init__(self) -> None:
        self.open_streams = 0
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def look_again(self) -> None:
        """Has PortAudio list the devices anew, which it does only when it starts. That would end every open stream, so
        while another microphone is heard the list stays as it is.

        Raises:
            TaggerError: PortAudio does not start.
        """
        if self.open_streams:
            return
        sounddevice = load_sounddevice()
        try:
            with contextlib.suppress(sounddevice.PortAudioError):  # it may have been ended by an earlier attempt
                sounddevice._terminate()
            sounddevice._initialize()
        except sounddevice.PortAudioError as error:
            raise TaggerError(f"PortAudio does not start: {_reason(error)}") from None

    def close(self, stream: Any) -> None:
        self.open_streams -= 1
        with contextlib.suppress(load_sounddevice().PortAudioError):  # it is gone, as the device may be
            stream.close()


_portaudio = _PortAudio()


class _Clock:
    """Times of consecutive blocks: sample-accurate, and never far from the wall clock, whose readings jitter."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._next: float | None = None

    def time_of(self, samples: int, captured: float, gap: bool) -> float:
        if self._next is None or gap or abs(captured - self._next) > _CLOCK_TOLERANCE_SECONDS:
            self._next = captured
        time_of_first = self._next
        self._next += samples / self._rate_hz
        return time_of_first


def load_sounddevice() -> ModuleType:
    """
    Raises:
        UserError: sounddevice or the PortAudio library is missing.
    """
    try:
        import sounddevice
    except OSError:
        raise UserError(
            "the PortAudio library is missing, so no microphone can be used; "
            "on Debian, Ubuntu or Raspberry Pi OS: sudo apt install libportaudio2"
        ) from None
    module: ModuleType = sounddevice
    return module


def inputs() -> list[dict[str, Any]]:
    """The input devices: `index`, `name`, `max_input_channels`, `default_samplerate`, `is_default`.

    Raises:
        UserError: no PortAudio.
    """
    sounddevice = load_sounddevice()
    try:
        devices = [dict(device) for device in sounddevice.query_devices()]
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError:
        return []
    return [
        device | {"index": index, "is_default": index == default}
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


def has_microphone() -> bool:
    try:
        return bool(inputs())
    except UserError:
        return False


def find_input(wanted: str | None) -> dict[str, Any]:
    """The input device that `wanted` names: its index, its name, or a part of its name that fits only one.

    Raises:
        UserError: no input device at all, none of that name, or several.
    """
    devices = inputs()
    if not devices:
        raise UserError("no input device: connect a microphone, or listen to a file, to - (standard input) or to demo")
    if wanted is None:
        return next((device for device in devices if device["is_default"]), devices[0])
    exact = [device for device in devices if wanted in (device["name"], str(device["index"]))]
    partly = [device for device in devices if wanted.lower() in device["name"].lower()]
    found = exact or partly
    names = [device["name"] for device in devices]
    if not found:
        raise UserError(f"no input device {wanted!r}{near(wanted, names)} (`tagger devices` lists them)")
    if len(found) > 1:
        listed = ", ".join(f"{device['index']} {device['name']!r}" for device in found)
        raise UserError(f"several input devices fit {wanted!r}: {listed}; give the index")
    return found[0]


def _reason(error: Exception) -> str:
    """PortAudio's own words, without its number."""
    return str(error).partition(": ")[2].partition(" [")[0] or str(error)
