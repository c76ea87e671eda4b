"""FFmpeg (PyAV) on a pipe: formats that can be decoded from front to end."""

from collections.abc import Iterator
from typing import Any

from tagger.audio.chunk import MOST_CHANNELS, RATES_HZ, Chunk, Warn
from tagger.audio.ffmpeg import AvReader
from tagger.audio.raw import Read
from tagger.errors import AudioError
from tagger.printable import number_of

_BUFFER_BYTES = 1024
"""Bytes that FFmpeg reads at once: few, so that it waits for no more than it needs, and holds little."""
_TAG_BYTES = 4096
"""Most bytes behind the sound that are taken for a tag."""
_PROBE = {"probesize": "262144", "analyzeduration": "500000"}
"""Most bytes, and microseconds of sound, that FFmpeg reads to find out what a stream is."""


class AvPipe(AvReader):
    """A stream that FFmpeg decodes while it comes."""

    block_s = 0.05

    def __init__(self, where: str, name: str, ffmpeg: str, read: Read, warn: Warn) -> None:
        """
        Args:
            where: the stream, for messages.
            name: of the format, for people.
            ffmpeg: FFmpeg's name of it.

        Raises:
            AudioError: it cannot be decoded from a pipe, or PyAV is not installed.
        """
        try:
            import av
        except ImportError:
            raise AudioError(f"{where}: PyAV, which decodes it, is not installed: pip install 'av>=17.1'") from None
        self._pages = _OggPages() if ffmpeg == "ogg" else None
        self._file, self._warn = _File(read, self._pages), warn
        try:
            container = av.open(
                self._file,
                format=ffmpeg,
                buffer_size=_BUFFER_BYTES,
                metadata_errors="replace",
                options=_PROBE | {"protocol_whitelist": "file"},
            )
        except Exception as error:  # whatever FFmpeg makes of a damaged stream
            raise _undecodable(where, error) from None
        super().__init__(where, container)
        if self.rate_hz not in RATES_HZ or not 1 <= self.channels <= MOST_CHANNELS:
            raise AudioError(
                f"{where}: its header is damaged ({self.rate_hz} Hz, {number_of(self.channels, 'channel')})"
            )
        self.about = f"{name}, {self.rate_hz} Hz"

    @property
    def is_ready(self) -> bool:
        return bool(self._file.ahead) or (self._pages is not None and self._pages.packets > 0)

    def _took(self, packet: Any) -> None:
        if self._pages is not None:
            self._pages.packets -= 1

    def chunks(self) -> Iterator[Chunk]:
        """The sound, as it comes.

        Raises:
            AudioError: nothing could be decoded, or FFmpeg failed. All good frames were given before.
        """
        try:
            yield from self._chunks(self._warn)
        except AudioError:
            if not (self.heard_s and self._file.is_nearly_over()):  # what follows the sound may be a tag
                raise
        except Exception as error:  # whatever FFmpeg makes of a damaged stream
            raise _undecodable(self._where, error) from None


class _File:
    """What is read, as a file without a place to seek to."""

    def __init__(self, read: Read, pages: "_OggPages | None") -> None:
        self._read, self._pages, self.ahead, self.is_over = read, pages, b"", False

    def read(self, count: int) -> bytes:
        if not self.ahead:
            self.ahead = self._read()
            self.is_over = not self.ahead
        data, self.ahead = self.ahead[:count], self.ahead[count:]
        if self._pages is not None:
            self._pages.feed(data)
        return data

    def is_nearly_over(self) -> bool:
        """Whether less is left than a tag takes. Reads it."""
        left = _TAG_BYTES
        while left > 0 and not self.is_over:
            left -= len(self.read(left))
        return self.is_over


class _OggPages:
    """Counts the packets of Ogg pages, which may hold seconds: FFmpeg takes a whole page before it gives the first."""

    def __init__(self) -> None:
        self.packets = 0
        """Packets of sound that FFmpeg holds."""
        self._head, self._skip, self._held = bytearray(), 0, 0

    def feed(self, data: bytes) -> None:
        """Takes what FFmpeg reads. It reads on when it holds no packet any more."""
        self.packets = 0
        while data:
            if self._skip:
                used = min(self._skip, len(data))
                self._skip, data = self._skip - used, data[used:]
            else:
                self._head, data = self._head + data, b""
                begin = self._head.find(b"OggS")
                if begin < 0:
                    del self._head[:-3]
                    return
                del self._head[:begin]
                if len(self._head) < 27 or len(self._head) < 27 + self._head[26]:
                    return
                lengths, granule = self._head[27 : 27 + self._head[26]], self._head[6:14]
                is_header = not any(granule)  # before the first sample
                self._held = 0 if is_header else sum(length < 255 for length in lengths)
                self._skip, data = sum(lengths), bytes(self._head[27 + len(lengths) :])
                self._head.clear()
            if not self._skip:
                self.packets += self._held
                self._held = 0


def _undecodable(where: str, error: Exception) -> AudioError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
    return AudioError(f"{where}: cannot be decoded from a pipe ({reason}); name the file itself as a source")
