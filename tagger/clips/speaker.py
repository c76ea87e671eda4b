"""Plays a clip on the loudspeaker, through PortAudio."""

from pathlib import Path

import numpy as np

from tagger.audio.decode import decode
from tagger.errors import UserError
from tagger.sources.portaudio import load_sounddevice


def play(path: Path) -> None:
    """Plays a file to its end, then returns. Ctrl-C stops it, and the caller gets the KeyboardInterrupt.

    Raises:
        AudioError: the file is missing or damaged.
        UserError: there is no loudspeaker that can be used, or no PortAudio library.
    """
    sounddevice = load_sounddevice()
    try:
        rate_hz = int(sounddevice.query_devices(kind="output")["default_samplerate"])
        samples = np.concatenate(list(decode(path, rate_hz)))
        try:
            sounddevice.play(samples, rate_hz, blocking=True)
        finally:
            sounddevice.stop()
    except (sounddevice.PortAudioError, ValueError) as error:  # a ValueError where there is no device at all
        why = "" if "device -1" in str(error) else f" ({error})"  # PortAudio's word for: there is none
        raise UserError(f"no loudspeaker that can be used{why}") from None
