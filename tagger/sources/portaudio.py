"""PortAudio, through sounddevice: the input devices, and recording from one. No other module imports sounddevice."""

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tagger.condition import Reason
from tagger.errors import TaggerError, UserError, near
from tagger.events import Samples

Device = dict[str, Any]
"""An input device: `index`, `name`, `max_input_channels`, `default_samplerate` in Hz, `is_default`, `usb`."""
CARDS = Path("/sys/class/sound")
"""Where Linux describes sound cards."""
USB = "usb:"
"""What the name of a USB socket begins with: `mic:usb:1-1.2` is whatever is plugged in there."""
Callback = Callable[[Samples, int, Any, Any], None]
"""Takes samples [N, channels], N, PortAudio's times, and its status. PortAudio's thread calls it; it must not wait."""


class MissingDeviceError(UserError):
    """The input device is not there now; it may come."""

    reason: Reason = "missing"


def load_sounddevice() -> ModuleType:
    """
    Raises:
        UserError: the PortAudio library is missing.
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


def input_devices() -> list[Device]:
    """All input devices; none where PortAudio cannot list them.

    Raises:
        UserError: the PortAudio library is missing.
    """
    sounddevice = load_sounddevice()
    try:
        devices = [dict(device) for device in sounddevice.query_devices()]
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError:
        return []
    return [
        device | {"index": index, "is_default": index == default, "usb": usb_port(device["name"])}
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


def usb_port(name: str) -> str | None:
    """The USB socket of an ALSA device, as Linux names it: `1-1.2`. None: it is no USB device, or nobody knows.

    Cards are numbered anew at each start; a socket keeps its name, so it tells two microphones of one kind apart.
    """
    card = re.search(r"\(hw:(\d+)", name)
    if card is None:
        return None
    try:
        parts = (CARDS / f"card{card[1]}" / "device").resolve(strict=True).parts
    except OSError:
        return None
    return next((part for part in reversed(parts) if re.fullmatch(r"\d+-\d+(\.\d+)*", part)), None)


def has_input_device() -> bool:
    """Whether there is an input device, and the PortAudio library to use it."""
    try:
        return bool(input_devices())
    except UserError:
        return False


def find_input_device(name: str | None) -> Device:
    """The input device with this index, name or USB socket, or the only one whose name contains it.

    Args:
        name: index, name, part of a name, or `usb:` and a socket. None: the system's default device, or else the first.

    Raises:
        UserError: no PortAudio, or several devices of that name.
        MissingDeviceError: no input device at all, or none of that name.
    """
    devices = input_devices()
    if not devices:
        raise MissingDeviceError(
            "no input device: connect a microphone, or listen to a file, to - (standard input) or to demo"
        )
    if name is None:
        return next((device for device in devices if device["is_default"]), devices[0])
    if name.startswith(USB):
        at_port = [device for device in devices if device["usb"] == name.removeprefix(USB)]
        if not at_port:
            known = [f"{USB}{device['usb']}" for device in devices if device["usb"]]
            raise MissingDeviceError(f"no input device at {name!r}{near(name, known)} (`tagger devices` lists them)")
        return at_port[0]
    exact = [device for device in devices if name in (device["name"], str(device["index"]))]
    partly = [device for device in devices if name.lower() in device["name"].lower()]
    found = exact or partly
    names = [device["name"] for device in devices]
    if not found:
        raise MissingDeviceError(f"no input device {name!r}{near(name, names)} (`tagger devices` lists them)")
    if len(found) > 1:
        listed = ", ".join(f"{device['index']} {device['name']!r}" for device in found)
        ports = " or ".join(f"mic:{USB}{device['usb']}" for device in found if device["usb"])
        way = f"the socket, which stays the same: {ports}" if ports else "the index"
        raise UserError(f"several input devices fit {name!r}: {listed}; give {way}")
    return found[0]


class PortAudio:
    """The process's one PortAudio, which all microphones share. Hold it (`with`) while a stream is opened or closed."""

    def __init__(self) -> None:
        self._open_streams = 0
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def rescan_devices(self) -> None:
        """Restarts PortAudio, because it lists the devices only when it starts.

        A restart ends every open stream, so the list stays as it is while another microphone is in use.

        Raises:
            TaggerError: PortAudio does not start.
        """
        if self._open_streams:
            return
        sounddevice = load_sounddevice()
        try:
            with contextlib.suppress(sounddevice.PortAudioError):  # an earlier attempt may have ended it already
                sounddevice._terminate()
            sounddevice._initialize()
        except sounddevice.PortAudioError as error:
            raise TaggerError(f"PortAudio does not start: {_reason(error)}") from None

    def open_input(self, device: Device, rate_hz: int, channels: int, block_size: int, callback: Callback) -> Any:
        """Starts to record the device's first channels, float32.

        Args:
            block_size: frames a callback.

        Returns:
            The stream, for `close`.

        Raises:
            TaggerError: the device cannot be opened.
        """
        sounddevice = load_sounddevice()
        try:
            stream = sounddevice.InputStream(
                device=device["index"],
                samplerate=rate_hz,
                channels=channels,
                dtype="float32",
                blocksize=block_size,
                callback=callback,
            )
            stream.start()
        except sounddevice.PortAudioError as error:
            raise TaggerError(f"microphone {device['name']!r} cannot be opened: {_reason(error)}") from None
        self._open_streams += 1
        return stream

    def close(self, stream: Any) -> None:
        """Ends a stream of `open_input`, also one whose device has gone."""
        self._open_streams -= 1
        with contextlib.suppress(load_sounddevice().PortAudioError):
            stream.close()


PORTAUDIO = PortAudio()


def _reason(error: Exception) -> str:
    """PortAudio's own words, without its error number."""
    return str(error).partition(": ")[2].partition(" [")[0] or str(error)
