"""Audio from a pipe, from its first bytes on: WAV by its header, other formats by FFmpeg, or else raw samples."""

import re
import struct
from collections.abc import Iterator
from typing import Protocol

from tagger.audio import magic
from tagger.audio.avpipe import AvPipe
from tagger.audio.chunk import MOST_CHANNELS, RATES_HZ, Chunk, Warn
from tagger.audio.mp3 import id3_bytes
from tagger.audio.raw import ENCODINGS, FormatDoubt, RawSamples, Read
from tagger.errors import AudioError
from tagger.printable import number_of
from tagger.settings import PcmFormat

_STREAMED_BYTES = 0x7FFF_0000
"""Size from which a WAV's header was written by a program that could not know the length."""
_MOST_HEADER = 1 << 20
"""Most bytes before the samples of a WAV."""
_ENCODINGS = {(1, 1): "u8", (1, 2): "s16le", (1, 3): "s24le", (1, 4): "s32le", (3, 4): "f32le", (3, 8): "f64le"}
"""By the format code of a WAV and the bytes of a sample."""
_EXTENSIBLE = 0xFFFE
_CHUNK_NAME = re.compile(rb"[ -~]{4}")


class Stream(Protocol):
    """Audio that is being read."""

    about: str
    """Format, for people: `WAV, s16le at 48000 Hz`."""
    rate_hz: int
    channels: int
    """At the beginning."""

    @property
    def is_ready(self) -> bool:
        """Whether more was read that is not decoded yet."""

    def chunks(self) -> Iterator[Chunk]:
        """The sound, as it comes.

        Raises:
            AudioError: it is damaged or ends inside a frame. All good frames were given before.
        """


class Bytes:
    """Bytes as they come, of which the next ones can be looked at."""

    def __init__(self, read: Read) -> None:
        self._read, self._ahead, self.is_over = read, bytearray(), False

    def read(self) -> bytes:
        """The bytes that are there, at least one; waits for them. Empty at the end."""
        ahead, self._ahead = bytes(self._ahead), bytearray()
        return ahead or self._more()

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay; fewer only at the end."""
        while len(self._ahead) < count and (data := self._more()):
            self._ahead += data
        return bytes(self._ahead[:count])

    def skip(self, count: int) -> None:
        """Drops the next bytes."""
        while count > 0 and (data := self.read()):
            self._ahead[:] = data[count:]
            count -= len(data)

    def peek_all(self) -> bytes:
        """What can be looked at without waiting."""
        return bytes(self._ahead)

    def give_back(self, data: bytes) -> None:
        """Puts bytes before those that come next."""
        self._ahead[:0] = data

    def _more(self) -> bytes:
        data = b"" if self.is_over else self._read()
        self.is_over = not data
        return data


def open_stream(where: str, source: Bytes, pcm: PcmFormat, warn: Warn) -> Stream:
    """Opens audio by its first bytes, for which it waits.

    Args:
        where: the stream, for messages.
        pcm: format of raw samples.

    Raises:
        AudioError: it is of a format that cannot be read from a pipe, or not audio.
    """
    has_tag = _skip_tags(source)
    wanted = 16
    kind = magic.recognised(source.peek(wanted), source.is_over)
    while kind is magic.MORE:
        wanted = len(source.peek_all()) + 1
        kind = magic.recognised(source.peek(wanted) and source.peek_all(), source.is_over)
    if kind is None and has_tag:
        kind = magic.MP3
    if kind is None:
        return _Raw(where, source, pcm, warn)
    if kind.ffmpeg is None:
        raise AudioError(f"{where}: {kind.name}: {kind.problem}")
    if kind.name == "WAV" and (wav := _Wav.opened(where, source, warn)) is not None:
        return wav
    if kind.name == "CAF" and (caf := _caf_part(where, source)) is not None:
        return _Caf(source, caf)
    return AvPipe(f"{where}: {kind.name}", kind.name, kind.ffmpeg, source.read, warn)


def _skip_tags(source: Bytes) -> bool:
    """Drops ID3 tags, which may stand before MP3, AAC, FLAC or WAV. Returns whether there was one."""
    has_tag = False
    while magic.ID3.match(source.peek(3)) and magic.ID3_HEAD.match(source.peek(10)):
        source.skip(id3_bytes(source.peek(10)))
        has_tag = True
    return has_tag


class _Raw(RawSamples):
    """Raw samples of the format that the user said."""

    is_ready = False

    def __init__(self, where: str, source: Bytes, pcm: PcmFormat, warn: Warn) -> None:
        super().__init__(where, pcm.encoding, pcm.rate_hz, pcm.channels)
        self.about = f"raw {pcm.encoding} at {pcm.rate_hz} Hz"
        self._source = source
        self._doubt = FormatDoubt(where, pcm.encoding, pcm.rate_hz, pcm.channels, warn)

    def chunks(self) -> Iterator[Chunk]:
        yield from self.decoded(self._watched)
        self._doubt.finish()

    def _watched(self) -> bytes:
        data = self._source.read()
        self._doubt.look(data)
        return data


class _Caf:
    """A CAF whose samples are not compressed. FFmpeg does not read all of them from a pipe."""

    is_ready = False

    def __init__(self, source: Bytes, part: RawSamples) -> None:
        self._source, self._part = source, part
        self.about = f"CAF, {part.encoding} at {part.rate_hz} Hz"
        self.rate_hz, self.channels = part.rate_hz, part.channels

    def chunks(self) -> Iterator[Chunk]:
        yield from self._part.decoded(self._source.read)


class _Wav:
    """A WAV, or several that were joined: their headers say the format. One without a length is read to its end."""

    is_ready = False

    def __init__(self, where: str, source: Bytes, warn: Warn, first: RawSamples) -> None:
        self._where, self._source, self._warn, self._part = where, source, warn, first
        self.about = f"WAV, {first.encoding} at {first.rate_hz} Hz"
        self.rate_hz, self.channels = first.rate_hz, first.channels

    @classmethod
    def opened(cls, where: str, source: Bytes, warn: Warn) -> "_Wav | None":
        """Reads the header. None: its samples are compressed.

        Raises:
            AudioError: the header is damaged.
        """
        part = _wav_part(where, source)
        return None if part is None else cls(where, source, warn, part)

    def chunks(self) -> Iterator[Chunk]:
        part: RawSamples | None = self._part
        while part is not None:
            yield from part.decoded(self._source.read)
            self._source.give_back(part.behind)
            part = self._next()

    def _next(self) -> RawSamples | None:
        """The WAV behind this one, if there is one."""
        if self._source.peek(1) == b"\0" and self._source.peek(2)[1:] != b"\0":  # it makes the length even
            self._source.skip(1)
        while len(head := self._source.peek(12)) >= 8:
            if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
                return _wav_part(self._where, self._source)
            name, size = struct.unpack_from("<4sI", head)
            if not _CHUNK_NAME.fullmatch(name):
                break
            self._source.skip(8 + size + size % 2)
        rest = 0
        while data := self._source.read():
            rest += len(data) if data.strip(b"\0") else 0
        if rest >= 8:
            self._warn(f"{self._where}: {rest} bytes after the end that its header tells were not read")
        return None


def _wav_part(where: str, source: Bytes) -> RawSamples | None:
    """Reads a WAV's header, up to its samples. None: they are compressed, and nothing was taken.

    Raises:
        AudioError: the header is damaged or ends.
    """
    at, form, long_size = 12, b"", 0
    while True:
        chunk = source.peek(at + 8)[at:]
        if len(chunk) < 8 or at > _MOST_HEADER:
            raise AudioError(f"{where}: WAV: holds no samples")
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            break
        if name == b"fmt ":
            form = source.peek(at + 8 + min(size, 40))[at + 8 :]
        elif name == b"ds64":
            long_size = int.from_bytes(source.peek(at + 24)[at + 16 :], "little")
        at += 8 + size + size % 2
    if len(form) < 16:
        raise AudioError(f"{where}: WAV: its header is damaged (no format)")
    code, channels, rate_hz, _, frame_bytes = struct.unpack_from("<HHIIH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from("<H", form, 24)[0]
    encoding = _ENCODINGS.get((code, frame_bytes // channels if channels else 0))
    if encoding is None:
        return None
    if rate_hz not in RATES_HZ or not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"{where}: WAV: its header is damaged ({rate_hz} Hz, {number_of(channels, 'channel')})")
    if size == 0xFFFF_FFFF and long_size:
        size = long_size
    is_endless = size == 0 or (size >= _STREAMED_BYTES and size != long_size)
    source.skip(at + 8)
    return RawSamples(where, encoding, rate_hz, channels, None if is_endless else size)


def _caf_part(where: str, source: Bytes) -> RawSamples | None:
    """Reads a CAF's header, up to its samples. None: they are compressed, or the header is odd; nothing was taken."""
    head = source.peek(52)
    if len(head) < 52 or head[8:12] != b"desc" or head[28:32] != b"lpcm":
        return None
    rate_hz, flags, frame_bytes, _, channels, _ = struct.unpack(">d4xIIIII", head[20:52])
    size = frame_bytes // channels if channels else 0
    encoding = f"{'f' if flags & 1 else 's'}{8 * size}" + ("le" if flags & 2 else "be") * (size > 1)
    if encoding not in ENCODINGS or rate_hz not in RATES_HZ or not 1 <= channels <= MOST_CHANNELS:
        return None
    at = 52
    while len(chunk := source.peek(at + 12)[at:]) == 12 and at <= _MOST_HEADER:
        name, length = struct.unpack(">4sq", chunk)
        if name == b"data":  # four bytes before the samples count edits
            source.skip(at + 16)
            return RawSamples(where, encoding, int(rate_hz), channels, length - 4 if length > 4 else None)
        at += 12 + max(0, length)
    return None
