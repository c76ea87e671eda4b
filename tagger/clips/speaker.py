"""A clip on the loudspeaker, through PortAudio (sounddevice)."""

from pathlib import Path

import numpy as np

from tagger.audio.decode import decode
from tagger.errors import UserError
from tagger.sources.portaudio import load_sounddevice


def play(path: Path) -> None:
    """Returns when it was heard to its end. Ctrl-C ends it, too, and goes on to the caller.

    Raises:
        AudioError: the file is missing or damaged.
        UserError: there is no loudspeaker, or it cannot be used.
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
        raise UserError(f"no loudspeaker that can be used ({error})") from None
