"""MP3 by its own bytes: tags before the sound, the header of a frame, and the length that an index promises."""

import re
import struct
from pathlib import Path

MPEG_1 = 3
"""`frame_version` of MPEG 1."""
_XING_BYTES = 4096
"""Bytes of an MP3, after its tags, that are searched for the index."""


def id3_bytes(head: bytes) -> int:
    """Length of an ID3v2 tag, from its first ten bytes."""
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def frame_version(head: bytes) -> int:
    """Version in the header of a frame: MPEG_1, 2 for MPEG 2, 0 for MPEG 2.5; 1 is no version."""
    return head[1] >> 3 & 3


def frame_rate_hz(head: bytes) -> int | None:
    """Sample rate in the header of a frame, hertz; None: no frame has such a header."""
    version, rate = frame_version(head), head[2] >> 2 & 3
    return None if version == 1 or rate == 3 else (44_100, 48_000, 32_000)[rate] >> {MPEG_1: 0, 2: 1, 0: 2}[version]


def promised_s(path: Path) -> float | None:
    """Length of an MP3 by the index in its first frame (Xing, Info); None: it has none, or all bytes that it counts are
    there, whatever number of frames it tells.
    """
    with path.open("rb") as file:
        tag = file.read(10)
        after = 0
        if tag[:3] == b"ID3" and len(tag) == 10:
            after = id3_bytes(tag)
        file.seek(after)
        head = file.read(_XING_BYTES)
    found = re.search(rb"\xff[\xe2-\xff][^\xff].{1,40}?(?:Xing|Info)(.{12})", head, re.DOTALL)
    if found is None:
        return None
    rate_hz = frame_rate_hz(found[0])
    flags, frames, size = struct.unpack(">III", found[1])
    if not flags & 1 or rate_hz is None:
        return None
    if flags & 2 and 0 < size <= path.stat().st_size - after:
        return None
    return float(frames * (1152 if frame_version(found[0]) == MPEG_1 else 576) / rate_hz)
