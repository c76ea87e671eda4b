"""What a reader and the daemon send each other, over a socket of their own."""

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tagger.condition import Reason

HEAD = struct.Struct("<cI")
"""Kind of a message, and the bytes that follow."""
SOUND_HEAD = struct.Struct("<IHd")
"""Rate in Hz, channels, and time stamp of the first sample, seconds (not a number: it has none). float32 samples
follow, a frame after the other."""
SOUND, ABOUT, BROKEN = b"S", b"A", b"B"
MOST_BYTES = 1 << 24
"""Longest message."""


@dataclass(frozen=True)
class Order:
    """What a reader is to read."""

    url: str
    host: str
    """"": nothing is to be resolved."""
    secrets: Sequence[str]
    options: dict[str, str]
    silent_s: float
    """Longest time without sound, seconds."""
    open_s: float
    """Longest time until the first sound, seconds."""
    ffmpeg: str | None = None
    """FFmpeg's name of the format. None: it finds out."""
    is_hls: bool = False
    port: int = 0
    ca_file: str | None = None
    """File of authorities by which FFmpeg checks the server's certificate. None: the stream is not encrypted, or it is
    not checked."""


@dataclass(frozen=True)
class About:
    """What a stream is, once it is open."""

    codec: str
    container: str
    rate_hz: int
    channels: int
    has_pictures: bool = False
    title: str = ""
    """What the server calls it, from elsewhere."""
    length_s: float | None = None
    """Length of a recording, seconds. None: the stream is live, or nobody knows."""


@dataclass(frozen=True)
class Broken:
    """Why a reader has ended."""

    reason: Reason
    detail: str


def packed(kind: bytes, payload: bytes) -> bytes:
    return HEAD.pack(kind, len(payload)) + payload


def packed_json(kind: bytes, value: About | Broken) -> bytes:
    return packed(kind, json.dumps(asdict(value)).encode())
