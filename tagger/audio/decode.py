"""Any audio file to frames, block by block: libsndfile where it knows the format, FFmpeg (PyAV) for the rest."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from tagger.audio.resample import ToMono, is_plausible
from tagger.errors import AudioError

Frames = NDArray[np.float32]
_BLOCK_SECONDS = 0.5
_RATES_HZ = range(1_000, 768_001)
"""A header that names another rate is damaged; believing 1 Hz would fill the memory with one second's samples."""
_PROMISE = r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)"
"""In libsndfile's log of WAV, AIFF, AU and W64: bytes that the header promises, and that there are."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count for a FLAC written to a pipe begins here."""
_STREAMED_BYTES = 0x7FFF_0000
"""A WAV header from this size on was written to a pipe, by a program that could not know the length."""


class Decoder(Protocol):
    rate_hz: int
    channels: int

    def frames(self) -> Iterator[Frames]:
        """[N, channels], float32.

        Raises:
            AudioError: the file is damaged or ends early; every good frame was given before.
        """


def open_audio(path: Path) -> Decoder:
    """
    Raises:
        AudioError: the file is missing, empty, or nothing that either library decodes.
    """
    if not path.exists():
        raise AudioError(f"{path}: no such file" + (" (URLs are not supported)" if ":/" in str(path) else ""))
    if path.is_dir():
        raise AudioError(f"{path}: a folder, not an audio file")
    try:
        if not path.is_file():
            raise AudioError(f"{path}: not a regular file; pipe raw samples into `tagger listen -`")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
        decoder: Decoder = _SoundFile(path)
    except PermissionError:
        raise AudioError(f"{path}: no permission to read it") from None
    except soundfile.LibsndfileError:
        decoder = _open_av(path)
    if decoder.rate_hz not in _RATES_HZ or decoder.channels < 1:
        raise AudioError(f"{path}: its header is damaged ({decoder.rate_hz} Hz, {decoder.channels} channels)")
    return decoder


def decode(path: Path, rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """A whole file as blocks of mono samples, [N], at `rate_hz`.

    Raises:
        AudioError: as `open_audio`; and for damage, early ends, NaN, after everything good before it was given.
    """
    decoder = open_audio(path)
    to_mono = ToMono(decoder.rate_hz, rate_hz, decoder.channels)
    try:
        for frames in _sound_of(decoder, path):
            yield to_mono.feed(frames)
    except AudioError:
        yield to_mono.flush()
        raise
    yield to_mono.flush()


def _sound_of(decoder: Decoder, path: Path) -> Iterator[Frames]:
    given = 0
    for frames in decoder.frames():
        bad = np.flatnonzero(~is_plausible(frames).all(axis=1))
        if bad.size:
            yield frames[: bad[0]]
            at = (given + int(bad[0])) / decoder.rate_hz
            raise AudioError(f"{path}: NaN, infinity or an absurd value at {at:.3f} s, so what follows is not sound")
        yield frames
        given += len(frames)


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """Read from front to end. soundfile seeks after each read of a file that can, to where it is already: that breaks
    MP3, whose frames need those before them, and a FLAC without length, where no seek succeeds.
    """

    def seekable(self) -> bool:
        return False


@dataclass
class _SoundFile:
    path: Path

    def __post_init__(self) -> None:
        self._file = _Forward(os.fsencode(self.path))
        self.rate_hz, self.channels = self._file.samplerate, self._file.channels

    def frames(self) -> Iterator[Frames]:
        read = 0
        with self._file as file:
            while True:
                try:
                    frames = file.read(int(self.rate_hz * _BLOCK_SECONDS) or 1, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    raise self._broken(read, str(error).rstrip(".")) from None
                if not len(frames):
                    break
                yield frames
                read += len(frames)
            promised = max(self._promised_frames(), 0)
            if read == 0 and promised == 0:
                raise AudioError(f"{self.path}: holds no samples")
            # An MP3 without an index has only an estimate of its length.
            slack = max(0.05 * self.rate_hz, 0.01 * promised) if file.format == "MP3" else 0
            if slack < promised - read and promised < _UNKNOWN_FRAMES:
                raise self._broken(read, f"its header promises {promised / self.rate_hz:.2f} s")
            if re.search("^Ogg: (Last page lacks|Junk after)", file.extra_info, re.MULTILINE):
                raise self._broken(read, "its last page is missing")

    def _promised_frames(self) -> int:
        """What the header says; libsndfile itself corrects a WAV's, and says so only in its log."""
        told = re.search(_PROMISE, self._file.extra_info, re.MULTILINE)
        if told and int(told[2]) < int(told[1]) < _STREAMED_BYTES:
            return int(self._file.frames * int(told[1]) / max(int(told[2]), 1))
        return int(self._file.frames)

    def _broken(self, read: int, why: str) -> AudioError:
        return AudioError(f"{self.path}: truncated or damaged after {read / self.rate_hz:.2f} s ({why})")


def _open_av(path: Path) -> Decoder:
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{path}: not WAV, FLAC, Ogg or MP3; for other formats install PyAV: pip install 'tagger[formats]'"
        ) from None
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError):
        raise AudioError(f"{path}: not audio (neither libsndfile nor FFmpeg knows its format)") from None
    if not container.streams.audio:
        container.close()
        raise AudioError(f"{path}: has no audio track")
    return _AvFile(path, container)


@dataclass
class _AvFile:
    path: Path
    container: Any
    """An open av.container.InputContainer with an audio stream."""

    def __post_init__(self) -> None:
        context = self.container.streams.audio[0].codec_context
        self.rate_hz, self.channels = int(context.sample_rate), int(context.layout.nb_channels)

    def frames(self) -> Iterator[Frames]:
        import av

        read, promised_s = 0, (self.container.duration or 0) / av.time_base
        # FFmpeg's formats are many; one conversion makes them float32, with rate and channels as they are.
        resampler = av.AudioResampler(format="flt", layout=self.container.streams.audio[0].codec_context.layout)
        with self.container as container:
            try:
                for frame in container.decode(audio=0):
                    for converted in resampler.resample(frame):
                        frames = converted.to_ndarray().reshape(-1, self.channels)
                        yield frames
                        read += len(frames)
            except (av.FFmpegError, OSError) as error:
                at = read / self.rate_hz
                raise AudioError(f"{self.path}: truncated or damaged after {at:.2f} s ({error.strerror})") from None
        if not read:
            raise AudioError(f"{self.path}: holds no samples")
        if promised_s - read / self.rate_hz > max(0.2, 0.01 * promised_s):  # some containers round it, or estimate
            at = read / self.rate_hz
            raise AudioError(f"{self.path}: truncated after {at:.2f} s (its header promises {promised_s:.2f} s)")
