"""Decodes audio files block by block: libsndfile where it knows the format, FFmpeg (PyAV) for the rest."""

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
"""[N, channels], full scale -1 to 1."""
_BLOCK_SECONDS = 0.5
_RATES_HZ = range(1_000, 768_001)
"""Plausible rates. A header with another one is damaged. Audio of 1 Hz, resampled, would not fit into memory."""
_PROMISE = r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)"
"""Line of libsndfile's log for WAV, AIFF, AU and W64: bytes that the header promises, and bytes in the file."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count of frames is this or more for a FLAC that was written to a pipe."""
_STREAMED_BYTES = 0x7FFF_0000
"""Data size from which a WAV was written to a pipe, by a program that could not know the length."""


class Decoder(Protocol):
    """An open audio file."""

    rate_hz: int
    channels: int

    def frames(self) -> Iterator[Frames]:
        """All frames of the file, once, in blocks [N, channels], float32.

        Raises:
            AudioError: the file is damaged or ends early. Every good frame was given before.
        """


def open_audio(path: Path) -> Decoder:
    """Opens a file and checks its header.

    Raises:
        AudioError: the file is missing, empty, or neither library can decode it.
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
    """A whole file as blocks of mono samples, [N], float32, at `rate_hz`.

    Raises:
        AudioError: as `open_audio`; or the file is damaged, ends early or has NaN. All good samples were given before.
    """
    decoder = open_audio(path)
    to_mono = ToMono(decoder.rate_hz, rate_hz, decoder.channels)
    try:
        for frames in _plausible_frames(decoder, path):
            yield to_mono.feed(frames)
    except AudioError:
        yield to_mono.flush()
        raise
    yield to_mono.flush()


def _plausible_frames(decoder: Decoder, path: Path) -> Iterator[Frames]:
    """The decoder's frames up to the first one that is not sound.

    Raises:
        AudioError: there is such a frame.
    """
    given = 0
    for frames in decoder.frames():
        bad = np.flatnonzero(~is_plausible(frames).all(axis=1))
        if bad.size:
            yield frames[: bad[0]]
            at = (given + int(bad[0])) / decoder.rate_hz
            raise AudioError(f"{path}: NaN, infinity or an absurd value at {at:.3f} s, so what follows is not sound")
        yield frames
        given += len(frames)


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads from front to end without seeking.

    soundfile seeks after each read of a seekable file, to the place where it is already. Seeking breaks MP3, whose
    frames need the frames before them, and fails in FLAC without length.
    """

    def seekable(self) -> bool:
        return False


@dataclass
class _SoundFile:
    path: Path

    def __post_init__(self) -> None:
        self._file = _ForwardSoundFile(os.fsencode(self.path))
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
            # The length of an MP3 without an index is an estimate.
            slack = max(0.05 * self.rate_hz, 0.01 * promised) if file.format == "MP3" else 0
            if slack < promised - read and promised < _UNKNOWN_FRAMES:
                raise self._broken(read, f"its header promises {promised / self.rate_hz:.2f} s")
            if re.search("^Ogg: (Last page lacks|Junk after)", file.extra_info, re.MULTILINE):
                raise self._broken(read, "its last page is missing")

    def _promised_frames(self) -> int:
        """Number of frames in the header. libsndfile corrects a WAV's, and keeps the original only in its log."""
        logged = re.search(_PROMISE, self._file.extra_info, re.MULTILINE)
        if logged and int(logged[2]) < int(logged[1]) < _STREAMED_BYTES:
            return int(self._file.frames * int(logged[1]) / max(int(logged[2]), 1))
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
        # Converts each of FFmpeg's sample formats to float32; rate and channels stay.
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
        if promised_s - read / self.rate_hz > max(
            0.2, 0.01 * promised_s
        ):  # some containers round the length, or estimate it
            at = read / self.rate_hz
            raise AudioError(f"{self.path}: truncated after {at:.2f} s (its header promises {promised_s:.2f} s)")
