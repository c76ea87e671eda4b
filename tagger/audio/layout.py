"""Where the recordings in a file begin and end, and what its header tells of their length, by the bytes themselves."""

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

STREAMED_BYTES = 0x7FFF_0000
"""Data size from which a WAV was written to a pipe, by a program that could not know the length."""
_HEADS = {
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "AIFF": re.compile(rb"FORM....AIF[FC]", re.DOTALL),
    "AU": re.compile(rb"\.snd\0\0.{6}\0\0\0[\x01-\x1b]\0.{3}\0\0", re.DOTALL),
    "CAF": re.compile(rb"caff\0\x01\0\0desc"),
}
"""How a file of each format begins, by libsndfile's name of the format."""
_WAV = re.compile(rb"RIFF....WAVE", re.DOTALL)
_EBML = re.compile(rb"\x1aE\xdf\xa3.{1,60}?(?:matroska|webm)", re.DOTALL)
"""How a Matroska file begins."""
_MOST_HEADER = 1 << 20
"""Most bytes before the format of a WAV."""
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_BEGINS = 2
"""Flag of an Ogg page: the first of a logical stream."""
_LEFT_SECONDS = 1.0
"""Least sound after the end that a WAV's header tells, in no chunk, that is read: a recorder that was killed wrote the
length some time before."""
_LEAST_LEFT = 1000
"""Least bytes after the end that the header of an AU tells that are sound: the format has nothing else there."""
_TOO_SHORT = "its header tells a length that is too small; read to its end"
_GAP_SAMPLES = 24_000
"""Least gap in Opus that counts, at 48 kHz: a page's packets need not all be of one length."""
_NO_LENGTH = "its header tells no length (the recording was not finished, or went through a pipe); read to its end"


@dataclass
class Layout:
    """The recordings in a file."""

    parts: list[tuple[int, int]]
    """Where each begins and ends, bytes."""
    note: str = ""
    """What is to be said of it."""
    patch_at: int = 0
    """Where the length is that the header does not tell, bytes."""
    patch: bytes = b""
    """The length in the format's own form; empty: the header tells it, or libsndfile does without it."""


def layout_of(path: Path, file_format: str) -> Layout:
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
        if len(starts) == 1 and file_format == "AU" and len(content) > 32:
            begin, size = struct.unpack(">II", content[4:12])
            if size == 0 or (size != 0xFFFF_FFFF and len(content) - begin - size >= _LEAST_LEFT):
                note, patch_at, patch = _NO_LENGTH if size == 0 else _TOO_SHORT, 8, b"\xff" * 4
        elif len(starts) == 1 and file_format == "CAF":
            data, size = _caf_data(content)
            if size > 0 and _is_left(content, data + size):
                note, patch_at, patch = _TOO_SHORT, data - 8, struct.pack(">q", len(content) - data)
        elif file_format == "RF64" and content[12:16] == b"ds64":
            data, size = content.find(b"data", 36) + 8, struct.unpack_from("<Q", content, 28)[0]
            if size == 0 or _is_left(content, data + size):
                note = _NO_LENGTH if size == 0 else _TOO_SHORT
                patch_at, patch = 28, struct.pack("<Q", max(0, len(content) - data))
        return Layout(list(zip(starts, [*starts[1:], len(content)], strict=True)), note, patch_at, patch)


def _is_left(content: mmap.mmap, end: int) -> bool:
    """Whether bytes are left after the end of the samples that are no chunk, and too many to be none of them."""
    return len(content) - end >= _LEAST_LEFT and not _CHUNK_NAME.match(content, end + end % 2)


def _caf_data(content: mmap.mmap) -> tuple[int, int]:
    """Where the samples of a CAF begin, after the size of their chunk, and that size; (0, 0): nowhere."""
    at = 8
    while at + 12 <= len(content):
        name, size = struct.unpack_from(">4sq", content, at)
        if name == b"data":
            return at + 12, size
        if size < 0:
            break
        at += 12 + size
    return 0, 0


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


def opus_has_gaps(content: mmap.mmap) -> bool:
    """Whether the time stamp of a page is later than the sound before it explains."""
    former: int | None = None
    at = content.find(b"OggS")
    while 0 <= at <= len(content) - 27:
        granule = struct.unpack_from("<q", content, at + 6)[0]
        lengths = content[at + 27 : at + 27 + content[at + 26]]
        if content[at + 5] & _BEGINS:
            former = None
        elif granule > 0:
            packets = sum(length < 255 for length in lengths)
            longest = 5760 if not packets else _opus_samples(content, at + 27 + len(lengths)) * packets
            if former is not None and granule - former > longest + _GAP_SAMPLES:
                return True
            former = granule
        at = content.find(b"OggS", at + 27 + len(lengths) + sum(lengths))
    return False


def _opus_samples(content: mmap.mmap, at: int) -> int:
    """Length of the Opus packet at `at`, samples at 48 kHz, by RFC 6716, section 3.1."""
    if at + 2 > len(content):
        return 5760
    config, code = content[at] >> 3, content[at] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    return frame * (1 if code == 0 else 2 if code < 3 else max(1, content[at + 1] & 63))


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
            if following is None and after <= data + size + 1 and left >= _LEFT_SECONDS * _byte_rate(content, at):
                return starts, _TOO_SHORT, data - 4
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


def _byte_rate(content: mmap.mmap, at: int) -> float:
    """Bytes a second by the header of the WAV at `at`; infinite if it does not tell."""
    form = content.find(b"fmt ", at, at + _MOST_HEADER)
    rate = struct.unpack_from("<I", content, form + 16)[0] if 0 <= form <= len(content) - 20 else 0
    return rate or float("inf")


def _is_unfinished(content: mmap.mmap, data: int, size: int) -> bool:
    """Whether a WAV's header tells no length: it says 0 although samples follow, or as much as it can."""
    if size >= STREAMED_BYTES:
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


def format_by_head(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    return next((name for name, beginning in _HEADS.items() if beginning.match(head)), "WAV")


def mp4_parts(path: Path) -> list[tuple[int, int]]:
    """Begin and end of each MP4 file in a file, bytes."""
    starts, at, size = [0], 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            if head[4:8] == b"ftyp" and at:
                starts.append(at)
            length = struct.unpack_from(">I", head)[0]
            if length == 1 and len(head) == 16:
                length = struct.unpack_from(">Q", head, 8)[0]
            if length < 8:
                break
            at += length
    return list(zip(starts, [*starts[1:], size], strict=True))


def matroska_parts(path: Path) -> list[tuple[int, int]]:
    """Begin and end of each Matroska file in a file, bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts = [0, *(found.start() for found in _EBML.finditer(content) if found.start())]
        return list(zip(starts, [*starts[1:], len(content)], strict=True))
