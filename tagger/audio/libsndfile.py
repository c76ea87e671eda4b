"""Files of libsndfile: WAV, FLAC, Ogg, AIFF and others whose headers tell their exact length."""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile

from tagger.audio.chunk import BLOCK_SECONDS, Chunk, Warn
from tagger.audio.layout import STREAMED_BYTES, format_by_head, layout_of, opus_has_gaps
from tagger.audio.part import FilePart
from tagger.errors import AudioError

_PROMISE = r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)"
"""Line of libsndfile's log for WAV, AIFF, AU and W64: bytes that the header promises, and bytes in the file."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count of frames is this or more for a FLAC that was written to a pipe."""
_OGG_BLOCK_FRAMES = 2048
"""Longest block that encoders of Vorbis make. Some count the end of a whole sound a little beyond its last block."""
_MOST_SAMPLES = 1 << 19
"""Most samples of a block, all channels together: 2 MB."""
_READ_AHEAD_BYTES = 1 << 14
"""Most bytes that libsndfile reads of a FLAC beyond what it needs."""
_TOTAL_AT = 21
"""Where the number of samples is in a FLAC, in the lower half of this byte and the next four."""

LibraryError: type[Exception] = soundfile.LibsndfileError


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads from front to end without seeking.

    soundfile seeks after each read of a seekable file, to the place where it is already. Seeking fails in FLAC without
    length.
    """

    def seekable(self) -> bool:
        return False


class _NumberedSoundFile(_ForwardSoundFile):
    """Opens a file by its number: if a name ends in `.raw`, soundfile wants to know the format, whatever is in it."""

    def __init__(self, path: Path) -> None:
        self.number: int | None = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            super().__init__(self.number, closefd=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        if self.number is not None:
            os.close(self.number)
        self.number = None


class SoundFile:
    """A file that libsndfile reads, or several of the same format that were joined."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            LibraryError: libsndfile does not know the format.
        """
        self._path = path
        try:
            self._file = _NumberedSoundFile(path)
        except soundfile.LibsndfileError:
            # What is no chunk, behind the samples of a WAV or an AIFF, makes it refuse the whole file.
            parts = layout_of(path, format_by_head(path)).parts
            if len(parts) == 1:
                raise
            self._file = _ForwardSoundFile(FilePart(path, *parts[0]))
        self.rate_hz, self.channels = self._file.samplerate, self._file.channels
        self._format = self._file.format

    @property
    def is_estimated(self) -> bool:
        """Whether libsndfile takes an estimate for the length, as for MP3 without an index."""
        return self._format == "MP3" or "MPEG" in self._file.subtype

    @property
    def has_gaps(self) -> bool:
        """Whether time stamps inside tell that sound is missing, which libsndfile does not see: Opus in Ogg."""
        if (self._format, self._file.subtype) != ("OGG", "OPUS"):
            return False
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return opus_has_gaps(content)

    @property
    def length_s(self) -> float | None:
        """Length by the header, seconds. None: only reading the file tells it."""
        layout = layout_of(self._path, self._format)
        frames = int(self._file.frames)
        is_exact = len(layout.parts) == 1 and not layout.note and 0 < frames < _UNKNOWN_FRAMES
        return frames / self.rate_hz if is_exact else None

    def close(self) -> None:
        self._file.close()

    def chunks(self, warn: Warn) -> Iterator[Chunk]:
        layout = layout_of(self._path, self._format)
        if layout.note:
            warn(f"{self._path}: {layout.note}")
        parts, given_s, read = layout.parts, 0.0, 0
        for number, (start, end) in enumerate(parts):
            if len(parts) > 1 or layout.patch:
                self._file.close()
                try:
                    self._file = _ForwardSoundFile(FilePart(self._path, start, end, layout.patch_at, layout.patch))
                except soundfile.LibsndfileError as error:
                    raise AudioError(
                        f"{self._path}: {len(parts)} recordings, one behind the other; number {number + 1}, "
                        f"after {given_s:.2f} s, cannot be read ({_reason(error)})"
                    ) from None
            with self._file as file:
                read = 0
                for chunk in self._read(file, given_s):
                    yield replace(chunk, is_joined=number > 0) if not read else chunk
                    read += len(chunk.frames)
                is_longer = len(parts) == 1 and not layout.patch and _is_longer_flac(self._path, file)
                given_s += read / file.samplerate
            if is_longer:
                warn(f"{self._path}: its header tells only {given_s:.2f} s; read to its end")
                yield from self._rest_of_flac(read)
        if not given_s:
            raise AudioError(f"{self._path}: holds no samples")
        if not read:
            raise AudioError(f"{self._path}: truncated after {given_s:.2f} s (its last recording holds no samples)")

    def _rest_of_flac(self, given: int) -> Iterator[Chunk]:
        """What follows so many frames, after which the header says that the sound ends."""
        with self._path.open("rb") as raw:
            at = raw.read(1 << 20).find(b"fLaC") + _TOTAL_AT
            raw.seek(at)
            patch = bytes([raw.read(1)[0] & 0xF0]) + bytes(4)
        part = FilePart(self._path, 0, self._path.stat().st_size, at, patch)
        with _ForwardSoundFile(part) as file:
            for chunk in self._read(file, 0.0):
                skipped = min(given, len(chunk.frames))
                given -= skipped
                if skipped < len(chunk.frames):
                    yield replace(chunk, frames=chunk.frames[skipped:])

    def _read(self, file: Any, given_s: float) -> Iterator[Chunk]:
        """One recording; `given_s` were read before it.

        Raises:
            AudioError: it ends early.
        """
        read, rate_hz = 0, file.samplerate
        size = min(int(rate_hz * BLOCK_SECONDS), _MOST_SAMPLES // file.channels) or 1

        def broken(why: str) -> AudioError:
            return AudioError(f"{self._path}: truncated or damaged after {given_s + read / rate_hz:.2f} s ({why})")

        while True:
            try:
                frames = file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise broken(_reason(error)) from None
            if not len(frames):
                break
            yield Chunk(frames, rate_hz)
            read += len(frames)
        promised = max(_promised_frames(file), 0)
        short = _OGG_BLOCK_FRAMES if file.format == "OGG" else 1
        if read + short <= promised < _UNKNOWN_FRAMES:
            lost = promised - read
            raise broken(
                f"its header promises {promised / rate_hz:.2f} s"
                if lost > rate_hz / 50
                else f"{lost} samples are missing"
            )
        if re.search("^Ogg: (Last page lacks|Junk after)", file.extra_info, re.MULTILINE):
            raise broken("its last page is missing")


def _is_longer_flac(path: Path, file: Any) -> bool:
    """Whether a FLAC goes on after the last of the samples that its header counts. `file` has been read to its end."""
    if file.format != "FLAC" or not isinstance(file, _NumberedSoundFile) or file.number is None:
        return False
    return path.stat().st_size - os.lseek(file.number, 0, os.SEEK_CUR) > _READ_AHEAD_BYTES


def _promised_frames(file: Any) -> int:
    """Number of frames in the header. libsndfile corrects a WAV's, and keeps the original only in its log."""
    logged = re.search(_PROMISE, file.extra_info, re.MULTILINE)
    if logged and int(logged[2]) < int(logged[1]) < STREAMED_BYTES:
        return int(file.frames * int(logged[1]) / max(int(logged[2]), 1))
    return int(file.frames)


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")
