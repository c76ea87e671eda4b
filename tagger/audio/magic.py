"""What a stream is, by its first bytes."""

import codecs
import re
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from tagger.audio.mp3 import MPEG_1, frame_rate_hz, frame_version

MOST_BYTES = 8192
"""Bytes after which it is certain what a stream is."""
_LEAST_BYTES = 16
_FRAMES = 3
"""Headers of MP3, ADTS or AC-3 in a row, each where the one before says, that are no accident."""


@dataclass(frozen=True)
class Kind:
    """A format."""

    name: str
    """For people."""
    ffmpeg: str | None = None
    """Name of FFmpeg's reader; `wav` is read without FFmpeg where it can be. None: it is refused."""
    problem: str = "not audio"
    """Why it is refused."""


_AT_END = "its index is at its end, so it cannot be read from a pipe; name the file itself as a source"
_MAGICS: tuple[tuple[bytes, Kind], ...] = (
    (rb"(RIFF|RF64|BW64)....WAVE", Kind("WAV", "wav")),
    (rb"RIFX....WAVE", Kind("RIFX", "wav")),
    (rb"RIFF....AVI ", Kind("AVI", "avi")),
    (rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", Kind("W64", "w64")),
    (rb"FORM....AIF[FC]", Kind("AIFF", "aiff")),
    (rb"caff\0\x01", Kind("CAF", "caf")),
    (rb"\.snd", Kind("AU", "au")),
    (rb"fLaC", Kind("FLAC", "flac")),
    (rb"OggS\0", Kind("Ogg", "ogg")),
    (rb"\x1aE\xdf\xa3", Kind("Matroska", "matroska")),
    (rb"wvpk", Kind("WavPack", "wv")),
    (rb"TTA1", Kind("TTA", "tta")),
    (rb"FLV\x01", Kind("FLV", "flv")),
    (rb"0&\xb2u\x8ef\xcf\x11", Kind("WMA or WMV", "asf")),
    (rb"\0\0\x01\xba", Kind("MPEG", "mpeg")),
    (rb"#!AMR", Kind("AMR", "amr")),
    (rb"NIST_1A\n", Kind("SPHERE", "nistsphere")),
    (rb"Creative Voice File\x1a", Kind("VOC", "voc")),
    (rb"MAC ....", Kind("Monkey's Audio", problem="it cannot be read from a pipe; name the file itself as a source")),
    (rb"MThd\0\0\0\x06", Kind("MIDI", problem="notes, and no sound")),
    (rb"\x89PNG\r\n\x1a\n", Kind("PNG")),
    (rb"\xff\xd8\xff[\xdb\xe0\xe1\xee]", Kind("JPEG")),
    (rb"GIF8[79]a", Kind("GIF")),
    (rb"%PDF-", Kind("PDF")),
    (rb"PK\x03\x04", Kind("ZIP")),
    (rb"\x1f\x8b\x08", Kind("gzip", problem="compressed; unpack it first: zcat FILE | tagger listen -")),
    (rb"BZh[1-9]1AY&SY", Kind("bzip2", problem="compressed; unpack it first: bzcat FILE | tagger listen -")),
    (rb"\xfd7zXZ\0", Kind("xz", problem="compressed; unpack it first: xzcat FILE | tagger listen -")),
    (rb"\(\xb5/\xfd", Kind("zstd", problem="compressed; unpack it first: zstdcat FILE | tagger listen -")),
    (rb"\x7fELF", Kind("ELF", problem="a program")),
    (rb"SQLite format 3\0", Kind("SQLite", problem="a database")),
    (rb"\x93NUMPY", Kind("NumPy", problem="an array with a header; pipe its samples alone: array.tofile(sys.stdout)")),
    (rb"7z\xbc\xaf\x27\x1c", Kind("7-Zip", problem="compressed; unpack it first")),
    (rb"Rar!\x1a\x07", Kind("RAR", problem="compressed; unpack it first")),
    (rb"RIFF....WEBP", Kind("WebP")),
    (rb"(?i:\s*<(!doctype|html|\?xml))", Kind("HTML or XML", problem="text; perhaps a server's error message")),
)


MORE = Kind("unknown")
"""More bytes are needed."""
_TEXT = Kind("text, and no sound", problem="pipe raw samples, WAV, FLAC, Ogg, MP3 or the like")
_TEXT_BYTES = 64
"""Bytes of text in a row that are no accident."""
_CONTROLS = "\b\t\n\v\f\r\x1b"
"""Control characters that text may have; an escape begins a colour."""


def recognised(head: bytes, is_end: bool) -> Kind | None:
    """What begins with these bytes, or MORE. None: raw samples.

    Args:
        is_end: there are no more.
    """
    if len(head) < _LEAST_BYTES and not is_end:
        return MORE
    for pattern, kind in _MAGICS:
        if re.match(pattern, head, re.DOTALL):
            return kind
    if head[4:8] == b"ftyp":
        return _mp4(head, is_end)
    for length, kind in _SYNCS:
        found = _chain(head, length, is_end)
        if found is None:
            return MORE
        if found:
            return kind
    return _text(head, is_end)


def _text(head: bytes, is_end: bool) -> Kind | None:
    """Text in UTF-8, or in UTF-16 with a byte order mark; or MORE. None: it is none."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    start = head[:_TEXT_BYTES]
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start, final=is_end and len(head) == len(start))
    if not text or not all(each in _CONTROLS or unicodedata.category(each)[0] != "C" for each in text):
        return None
    if "\ufffd" in text:
        return None
    return _TEXT if is_end or len(head) >= _TEXT_BYTES else MORE


def _mp4(head: bytes, is_end: bool) -> Kind:
    """MP4 can be read from front to end if its index is before the sound."""
    at = 0
    while at + 8 <= len(head):
        size, name = struct.unpack_from(">I4s", head, at)
        if name == b"mdat":
            return Kind("MP4", problem=_AT_END)
        if name in (b"moov", b"moof") or size < 8:
            return Kind("MP4", "mov")
        at += size
    return Kind("MP4", "mov") if is_end or len(head) >= MOST_BYTES or at > MOST_BYTES else MORE


def _chain(head: bytes, length: Callable[[bytes], int], is_end: bool) -> bool | None:
    """Whether headers follow each other as their lengths say. None: more bytes are needed."""
    at, found = 0, 0
    while found < _FRAMES:
        if at + 8 > len(head):
            return None if not is_end and len(head) < MOST_BYTES and found else found > 1
        size = length(head[at : at + 8])
        if not size:
            return False
        at, found = at + size, found + 1
    return True


def _mpeg(head: bytes) -> int:
    """Bytes of the frame of MPEG layer II or III that begins with this header; 0: it is none."""
    version, layer, bitrate, rate_hz = frame_version(head), head[1] >> 1 & 3, head[2] >> 4, frame_rate_hz(head)
    if head[0] != 0xFF or head[1] < 0xE0 or layer not in (1, 2) or bitrate in (0, 15) or rate_hz is None:
        return 0
    rates = {(MPEG_1, 2): _MPEG1_II, (MPEG_1, 1): _MPEG1_III}.get((version, layer), _MPEG2)
    samples = 576 if layer == 1 and version != MPEG_1 else 1152
    return samples // 8 * rates[bitrate - 1] * 1000 // rate_hz + (head[2] >> 1 & 1)


_MPEG1_II = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_MPEG1_III = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def _adts(head: bytes) -> int:
    """The same for AAC with ADTS headers."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size > 7 else 0


def _ac3(head: bytes) -> int:
    """The same for AC-3 and E-AC-3."""
    if head[:2] != b"\x0b\x77":
        return 0
    kind, rate, code = head[5] >> 3, head[4] >> 6, head[4] & 63
    if kind > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1) if kind <= 16 else 0
    if rate == 3 or code > 37:
        return 0
    kbit = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)[code >> 1]
    return 2 * (kbit * 96_000 // (48_000, 44_100, 32_000)[rate] + (rate == 1 and code & 1))


def _transport(head: bytes) -> int:
    return 188 if head[0] == 0x47 and head[1] != 0x47 else 0


MP3 = Kind("MP3", "mp3")
ID3 = re.compile(rb"ID3")
ID3_HEAD = re.compile(rb"ID3[\x02-\x04]\0.[\0-\x7f]{4}", re.DOTALL)
"""How a tag begins that may stand before MP3, and before other formats."""
_SYNCS = (
    (_mpeg, MP3),
    (_adts, Kind("AAC", "aac")),
    (_ac3, Kind("AC-3", "ac3")),
    (_transport, Kind("MPEG-TS", "mpegts")),
)
"""Formats whose frames begin with a short sign, which is no proof by itself."""
