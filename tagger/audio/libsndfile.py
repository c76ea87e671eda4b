"""Files of libsndfile: WAV, FLAC, Ogg, AIFF and others whose headers tell their exact length."""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from tagger.audio.chunk import BLOCK_SECONDS, Chunk, Warn
from tagger.audio.part import FilePart
from tagger.errors import AudioError

_PROMISE = r"^ *(?:data|SSND|Data Size|riff) *: *(\d+) \(should be (\d+)\)"
"""Line of libsndfile's log for WAV, AIFF, AU and W64: bytes that the header promises, and bytes in the file."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count of frames is this or more for a FLAC that was written to a pipe."""
_STREAMED_BYTES = 0x7FFF_0000
"""Data size from which a WAV was written to a pipe, by a program that could not know the length."""
_MOST_SAMPLES = 1 << 19
"""Most samples of a block, all channels together: 2 MB."""
_HEADS = {
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "AIFF": re.compile(rb"FORM....AIF[FC]", re.DOTALL),
    "AU": re.compile(rb"\.snd\0\0.{6}\0\0\0[\x01-\x1b]\0.{3}\0\0", re.DOTALL),
    "CAF": re.compile(rb"caff\0\x01\0\0desc"),
}
"""How a file of each format begins, by libsndfile's name of the format."""
_WAV = re.compile(rb"RIFF....WAVE", re.DOTALL)
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_BEGINS = 2
"""Flag of an Ogg page: the first of a logical stream."""
_NO_LENGTH = "its header tells no length (the recording was not finished, or went through a pipe); read to its end"

LibraryError: type[Exception] = soundfile.LibsndfileError


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads from front to end without seeking.

    soundfile seeks after each read of a seekable file, to the place where it is already. Seeking fails in FLAC without
    length.
    """

    def seekable(self) -> bool:
        return False


class SoundFile:
    """A file that libsndfile reads, or several of the same format that were joined."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            LibraryError: libsndfile does not know the format.
        """
        self._path = path
        try:
            self._file = _opened(path)
        except soundfile.LibsndfileError:
            # What is no chunk, behind the samples of a WAV or an AIFF, makes it refuse the whole file.
            parts = _layout(path, _format_by_head(path)).parts
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
    def length_s(self) -> float | None:
        """Length by the header, seconds. None: only reading the file tells it."""
        layout = _layout(self._path, self._format)
        frames = int(self._file.frames)
        is_exact = len(layout.parts) == 1 and not layout.note and 0 < frames < _UNKNOWN_FRAMES
        return frames / self.rate_hz if is_exact else None

    def close(self) -> None:
        self._file.close()

    def chunks(self, warn: Warn) -> Iterator[Chunk]:
        layout = _layout(self._path, self._format)
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
                given_s += read / file.samplerate
        if not given_s:
            raise AudioError(f"{self._path}: holds no samples")
        if not read:
            raise AudioError(f"{self._path}: truncated after {given_s:.2f} s (its last recording holds no samples)")

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
        if read < promised < _UNKNOWN_FRAMES:
            raise broken(f"its header promises {promised / rate_hz:.2f} s")
        if re.search("^Ogg: (Last page lacks|Junk after)", file.extra_info, re.MULTILINE):
            raise broken("its last page is missing")


def _format_by_head(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    return next((name for name, beginning in _HEADS.items() if beginning.match(head)), "WAV")


def _opened(path: Path) -> Any:
    if path.suffix.lower() != ".raw":
        return _ForwardSoundFile(os.fsencode(path))
    # For this name soundfile wants to be told rate and channels, whatever the file holds.
    return _ForwardSoundFile(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))


def _promised_frames(file: Any) -> int:
    """Number of frames in the header. libsndfile corrects a WAV's, and keeps the original only in its log."""
    logged = re.search(_PROMISE, file.extra_info, re.MULTILINE)
    if logged and int(logged[2]) < int(logged[1]) < _STREAMED_BYTES:
        return int(file.frames * int(logged[1]) / max(int(logged[2]), 1))
    return int(file.frames)


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")


@dataclass
class _Layout:
    """The recordings in a file."""

    parts: list[tuple[int, int]]
    """Where each begins and ends, bytes."""
    note: str = ""
    """What is to be said of it."""
    patch_at: int = 0
    """Where the length is that the header does not tell, bytes."""
    patch: bytes = b""
    """The length in the format's own form; empty: the header tells it, or libsndfile does without it."""


def _layout(path: Path, file_format: str) -> _Layout:
    """Finds where recordings begin that were joined: `cat one.flac two.flac`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        note, starts, patch_at, patch = "", [0], 0, b""
        if file_format in _HEADS:
            starts = [found.start() for found in _HEADS[file_format].finditer(content)]
        elif file_format == "OGG":
            starts = _ogg_starts(content)
        elif file_format in ("WAV", "WAVEX"):
            starts, note, patch_at = _wav_starts(content)
            patch = struct.pack("<I", min(len(content) - patch_at - 4, 0x7FFF_FFFF)) if patch_at else b""
        starts = [0, *starts[1:]]  # what is before the first belongs to it
        if len(starts) == 1 and file_format == "AU" and content[8:12] == bytes(4) and len(content) > 32:
            note, patch_at, patch = _NO_LENGTH, 8, b"\xff" * 4
        elif file_format == "RF64" and content[12:16] == b"ds64" and content[28:36] == bytes(8):
            data = content.find(b"data", 36)
            note, patch_at, patch = _NO_LENGTH, 28, struct.pack("<Q", max(0, len(content) - data - 8))
        return _Layout(list(zip(starts, [*starts[1:], len(content)], strict=True)), note, patch_at, patch)


def _ogg_starts(content: mmap.mmap) -> list[int]:
    """Where the first page of a stream follows a page of another one."""
    starts, at, headers = [0], content.find(b"OggS"), True
    while 0 <= at <= len(content) - 27:
        begins = bool(content[at + 5] & _BEGINS)
        if begins and not headers:
            starts.append(at)
        headers = begins
        segments = content[at + 27 : at + 27 + content[at + 26]]
        at = content.find(b"OggS", at + 27 + len(segments) + sum(segments))
    return starts


def _wav_starts(content: mmap.mmap) -> tuple[list[int], str, int]:
    """Where WAV files begin; what is to be said of a length that is missing or too small; and where the length is, if
    it is 0 although there are samples, or else 0.
    """
    starts, note, at = [0], "", 0
    while True:
        data, size = _wav_data(content, at)
        if data < 0:
            return starts, note, 0
        if _is_unfinished(content, data, size):
            return starts, _NO_LENGTH, data - 4 if size == 0 else 0
        after = _after_chunks(content, data + size)
        following = _WAV.search(content, after)
        left = (following.start() if following else len(content)) - after
        if left >= 8 and content[after : after + left].strip(b"\0"):
            note = f"{left:,} bytes are left after the end that its header tells"
        if following is None:
            return starts, note, 0
        at = following.start()
        starts.append(at)


def _wav_data(content: mmap.mmap, at: int = 0) -> tuple[int, int]:
    """Where the samples of the WAV at `at` begin, and how many bytes the header says they have; (-1, 0): nowhere."""
    if not _WAV.match(content, at):
        return -1, 0
    at += 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        if name == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return -1, 0


def _is_unfinished(content: mmap.mmap, data: int, size: int) -> bool:
    """Whether a WAV's header tells no length: it says 0 although samples follow, or as much as it can."""
    if size >= _STREAMED_BYTES:
        return data + size > len(content)
    return size == 0 and len(content) > data and _after_chunks(content, data) < len(content)


def _after_chunks(content: mmap.mmap, at: int) -> int:
    """Where the chunks end that begin at `at`. Not every program adds a byte to those of odd length."""
    for start in (at + at % 2, at):
        end = start
        while end + 8 <= len(content) and _CHUNK_NAME.match(content, end) and not _WAV.match(content, end):
            size = struct.unpack_from("<I", content, end + 4)[0]
            if end + 8 + size > len(content):
                break
            end += 8 + size + size % 2
        if end > start:
            return min(end, len(content))
    return min(at, len(content))
