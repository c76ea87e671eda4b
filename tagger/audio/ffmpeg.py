"""Files of FFmpeg (PyAV): MP3, AAC, video, and whatever else libsndfile does not read, or not to its end."""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.chunk import BLOCK_SECONDS, MOST_CHANNELS, RATES_HZ, Chunk, Frames, Warn
from tagger.audio.part import FilePart
from tagger.errors import AudioError
from tagger.printable import number_of

_JUMP_SECONDS = 0.1
"""A time stamp that is later than the sound before it explains by more than this means that sound is missing."""
_RESTART_SECONDS = 1.0
"""A time stamp that is earlier by more than this means that the time stamps begin anew, as in joined files."""
_DAY_SECONDS = 86_400.0
_SLACK_SECONDS = 0.2
"""Least lack of sound that is called a truncation: encoders round lengths up to packets."""
_PIECE_SECONDS = 1.0
"""Most sound that an undecodable piece is taken to have held, with the frames that build on it."""
_EXACT_STREAMS = ("mov", "caf", "tta", "ape", "wv", "tak", "aiff", "w64")
"""Formats of FFmpeg whose header tells the exact length of each stream."""
_EXACT_CONTAINERS = ("matroska", "webm", "asf")
"""Formats of FFmpeg whose header tells the exact length of the longest stream."""
_STAMPED = (*_EXACT_CONTAINERS, "mov", "avi", "flv", "mpegts", "mpeg", "nut", "ogg", "mxf", "rm", "wtv", "dv")
"""Formats of FFmpeg with time stamps of their own. For the others it counts packets, wrongly where the rate changes."""
NO_RECORDINGS = {
    *("concat", "concatf", "dash", "dvdvideo", "hls", "image2", "imf", "vobsub", "webm_dash_manifest"),
    *("rtp", "rtsp", "sap", "sdp"),
    *("avisynth", "lavfi", "libgme", "sbg", "vapoursynth"),
}
"""FFmpeg's formats that hold no sound: they say in which other files it is, at which address, or how to compute it,
which 1 kB may do for days.
"""
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""FFmpeg's sample formats, without the `p` of those with a plane for each channel."""
_EBML = re.compile(rb"\x1aE\xdf\xa3.{1,60}?(?:matroska|webm)", re.DOTALL)
"""How a Matroska file begins."""
_XING_BYTES = 4096
"""Bytes of an MP3, after its tags, that are searched for the index."""


def tags(path: Path) -> dict[str, str]:
    """`AvFile.tags` of a file; empty if FFmpeg does not read it."""
    try:
        with closing(AvFile(path)) as file:
            return file.tags
    except AudioError:
        return {}


class AvReader:
    """Sound that FFmpeg reads."""

    block_s = BLOCK_SECONDS
    """Least length of a chunk: FFmpeg's frames are short."""

    def __init__(self, where: str, container: Any) -> None:
        """
        Args:
            where: file or stream, for messages.
            container: PyAV's, open.

        Raises:
            AudioError: it has no sound, or FFmpeg has no decoder for it.
        """
        self._where, self._container = where, container
        tracks = container.streams.audio
        known = [track for track in tracks if track.codec_context is not None]
        if not known:
            container.close()
            raise AudioError(f"{where}: {'FFmpeg has no decoder for its sound' if tracks else 'has no audio track'}")
        self._stream = known[0]
        context = self._stream.codec_context
        self.rate_hz, self.channels = int(context.sample_rate), int(context.layout.nb_channels)
        self.heard_s = 0.0
        """What was decoded, seconds."""

    @property
    def is_ready(self) -> bool:
        """Whether more can be decoded without waiting for it."""
        return True

    def close(self) -> None:
        self._container.close()

    def _chunks(self, warn: Warn) -> Iterator[Chunk]:
        waiting: list[Chunk] = []
        """Chunks of one format without a gap, joined before they are given: FFmpeg's frames are short."""
        length = 0
        """Frames in `waiting`. Counted as they come: a file may hold one sample in each of FFmpeg's frames."""
        broken: AudioError | None = None
        with self._container:
            pieces = self._pieces(warn)
            while True:
                try:
                    piece = next(pieces, None)
                except AudioError as error:
                    piece, broken = None, error
                if waiting and (piece is None or piece.missing_s or not _same_format(piece, waiting[0])):
                    yield _joined(waiting)
                    waiting, length = [], 0
                if piece is None:
                    break
                waiting.append(piece)
                length += len(piece.frames)
                if length >= self.block_s * piece.rate_hz or not self.is_ready:
                    yield _joined(waiting)
                    waiting, length = [], 0
        if broken is not None:
            raise broken

    def _pieces(self, warn: Warn) -> Iterator[Chunk]:
        """The frames as FFmpeg gives them.

        Raises:
            AudioError: nothing could be decoded, or the file ends before the end that its header tells.
        """
        import av

        clock = _Clock(self._container, self._stream)
        damage = _Damage(self._where, warn)
        former: Chunk | None = None
        furthest_s = 0.0
        in_one = _is_format(self._container, _EXACT_CONTAINERS)
        packets = self._container.demux() if in_one else self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                raise self._broken(clock.heard_s, _reason(error)) from None
            if packet is None:
                break
            if packet.pts is not None and packet.time_base is not None:
                furthest_s = max(furthest_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            self._took(packet)
            if packet.stream.index != self._stream.index:
                continue
            try:
                decoded = packet.decode()
            except av.DecoderNotFoundError:
                raise AudioError(f"{self._where}: FFmpeg has no decoder for its sound") from None
            except (av.FFmpegError, OSError, ValueError) as error:
                damage.found(clock.heard_s, _reason(error))
                continue
            for frame in decoded:
                if frame.sample_rate not in RATES_HZ or not 0 < frame.layout.nb_channels <= MOST_CHANNELS:
                    damage.found(
                        clock.heard_s, f"{frame.sample_rate} Hz, {number_of(frame.layout.nb_channels, 'channel')}"
                    )
                    continue
                frames = _frames(frame)
                if not len(frames):
                    continue
                piece = Chunk(frames, frame.sample_rate, clock.missing(frame))
                if former is not None and not _same_format(piece, former):
                    damage.changed(clock.heard_s, former, piece)
                former = piece
                clock.advance(len(frames) / frame.sample_rate)
                self.heard_s = clock.heard_s
                yield piece
        damage.summarize()
        if former is None:
            raise AudioError(f"{self._where}: holds no samples{damage.why}")
        promised_s, reached_s = self._promised_s(), clock.end_s
        if in_one and promised_s is not None:
            reached_s = furthest_s
        slack_s = max(_SLACK_SECONDS, 0.01 * (promised_s or 0.0)) + damage.cost_s(clock.heard_s)
        if promised_s is not None and promised_s - reached_s > slack_s:
            raise self._broken(reached_s, f"its header promises {promised_s:.2f} s")

    def _took(self, packet: Any) -> None:
        """Called with each packet, before it is decoded."""

    def _promised_s(self) -> float | None:
        """End of the sound by the header, seconds; None: the header does not tell it, or it is an estimate."""
        return None

    def _broken(self, at_s: float, why: str) -> AudioError:
        return AudioError(f"{self._where}: truncated or damaged after {at_s:.2f} s ({why})")


class AvFile(AvReader):
    """A file that FFmpeg reads, or several of MP4 or Matroska that were joined."""

    def __init__(self, path: Path, part: tuple[int, int] | None = None) -> None:
        """
        Args:
            part: bytes from and to that are read. None: all, also if they are several recordings.

        Raises:
            AudioError: it is no audio, or PyAV is not installed.
        """
        try:
            import av
        except ImportError:
            raise AudioError(
                f"{path}: not WAV, FLAC or Ogg, and PyAV, which decodes other formats, is not installed: "
                "pip install 'av>=17.1'"
            ) from None
        self._path, self._part = path, part
        try:
            # An absolute path after `file:` is no URL, whatever colons it has. A playlist reaches no network.
            container = av.open(
                FilePart(path, *part) if part else f"file:{os.path.abspath(path)}",  # noqa: PTH100 - links stay links
                metadata_errors="replace",
                options={
                    "protocol_whitelist": "file",
                    "format_whitelist": ",".join(av.formats_available - NO_RECORDINGS),
                },
            )
        except av.ArgumentError:
            raise AudioError(
                f"{path}: not audio, but perhaps a list of other files, or a script; name recordings themselves"
            ) from None
        except (av.FFmpegError, OSError) as error:
            raise AudioError(
                f"{path}: not audio (neither libsndfile nor FFmpeg knows its format: {_reason(error)})"
            ) from None
        super().__init__(str(path), container)

    @property
    def tags(self) -> dict[str, str]:
        """What the file says of itself, by lower-case names: of the container, and of the sound."""
        both = {**self._stream.metadata, **self._container.metadata}
        return {name.lower(): text for name, text in both.items()}

    def chunks(self, warn: Warn) -> Iterator[Chunk]:
        parts: list[tuple[int, int]] = []
        if self._part is None and _is_format(self._container, ("mov",)):
            parts = _mp4_parts(self._path)
        elif self._part is None and _is_format(self._container, ("matroska", "webm")):
            parts = _matroska_parts(self._path)
        if len(parts) < 2:
            yield from self._chunks(warn)
            return
        self._container.close()
        for number, part in enumerate(parts):
            for index, chunk in enumerate(AvFile(self._path, part).chunks(warn)):
                yield replace(chunk, is_joined=True) if number and not index else chunk

    def _promised_s(self) -> float | None:
        if _is_format(self._container, ("mp3",)):
            return _mp3_seconds(self._path)
        if _is_format(self._container, ("wav",)):
            return None
        if _is_format(self._container, _EXACT_STREAMS) and self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        if _is_format(self._container, _EXACT_CONTAINERS) and self._container.duration is not None:
            return float(self._container.duration) / 1e6
        return None


class _Clock:
    """Follows the time stamps of a stream, and tells where sound is missing.

    Between two gaps, time is what the samples say: time stamps are rounded, and some recorders' are not even.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._has_stamps = _is_format(container, _STAMPED)
        self.heard_s = 0.0
        """Sound until now, seconds."""
        self._position_s = 0.0
        """End of the sound until now, since the recording began, seconds."""
        self._offset_s: float | None = None if container.start_time is None else -container.start_time / 1e6
        """What is added to a time stamp to get the position."""
        start_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
        self._late_s = max(0.0, start_s + (self._offset_s or 0.0))
        self._last_s = _DAY_SECONDS if container.duration is None else container.duration / 1e6 + 1.0
        """Latest position that a time stamp is believed."""

    @property
    def end_s(self) -> float:
        """End of the sound, since its own track began, seconds."""
        return max(self._position_s - self._late_s, self.heard_s)

    def missing(self, frame: Any) -> float:
        """Time without sound before a frame, seconds. It counts as passed."""
        if not self._has_stamps or frame.pts is None or frame.time_base is None:
            return 0.0
        stamp_s = float(frame.pts * frame.time_base)
        if self._offset_s is None:
            self._offset_s = -stamp_s
        late_s = stamp_s + self._offset_s - self._position_s
        if late_s > _JUMP_SECONDS and self._position_s + late_s <= self._last_s:
            self._position_s += late_s
            return late_s
        if abs(late_s) > _RESTART_SECONDS:  # the time stamps begin anew, or are damaged
            self._offset_s -= late_s
        return 0.0

    def advance(self, seconds: float) -> None:
        self._position_s += seconds
        self.heard_s += seconds


class _Damage:
    """Counts what could not be decoded, and says it once."""

    def __init__(self, where: str, warn: Warn) -> None:
        self._where, self._warn = where, warn
        self._count, self._first_s, self._last_s, self._reason, self._is_changed = 0, 0.0, 0.0, "", False

    def found(self, at_s: float, reason: str) -> None:
        self._last_s = at_s
        if not self._count:
            self._first_s, self._reason = at_s, reason
        self._count += 1

    def changed(self, at_s: float, before: Chunk, after: Chunk) -> None:
        if not self._is_changed:
            self._warn(
                f"{self._where}: its format changes after {at_s:.2f} s, from {_format(before)} to {_format(after)}; "
                "it is read on"
            )
        self._is_changed = True

    def summarize(self) -> None:
        if self._count:
            what = number_of(self._count, "piece")
            where = f"at {self._first_s:.2f} s" if self._count == 1 else f"from {self._first_s:.2f} s on"
            self._warn(f"{self._where}: {what} could not be decoded, {where} ({self._reason}); the rest was read")

    def cost_s(self, heard_s: float) -> float:
        """Sound that the pieces may have held, seconds; 0 if the last was at the end of what was heard."""
        return self._count * _PIECE_SECONDS if self._last_s < heard_s else 0.0

    @property
    def why(self) -> str:
        return f" ({self._reason})" if self._count else ""


def _format(chunk: Chunk) -> str:
    channels = chunk.frames.shape[1]
    return f"{chunk.rate_hz} Hz, {channels} channel{'s' * (channels != 1)}"


def _same_format(one: Chunk, other: Chunk) -> bool:
    return one.rate_hz == other.rate_hz and one.frames.shape[1] == other.frames.shape[1]


def _joined(chunks: list[Chunk]) -> Chunk:
    return Chunk(np.concatenate([each.frames for each in chunks]), chunks[0].rate_hz, chunks[0].missing_s)


def _frames(frame: Any) -> Frames:
    """A frame of FFmpeg as [N, channels]. Integers are scaled to -1 to 1."""
    dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    count = frame.samples if planar else frame.samples * channels
    # From eight channels on, PyAV lists planes that are not there, and whose memory must not be read.
    planes = frame.planes[: channels if planar else 1]
    samples = np.stack([np.frombuffer(plane, dtype, count) for plane in planes])
    samples = samples.T if planar else samples.reshape(-1, channels)
    if dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * dtype.itemsize - 1))
    with np.errstate(over="ignore"):
        return samples.astype(np.float32)


def _is_format(container: Any, names: tuple[str, ...]) -> bool:
    return not set(container.format.name.split(",")).isdisjoint(names)


def _mp3_seconds(path: Path) -> float | None:
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
    version, rate = found[0][1] >> 3 & 3, found[0][2] >> 2 & 3
    flags, frames, size = struct.unpack(">III", found[1])
    if not flags & 1 or rate == 3 or version == 1:
        return None
    if flags & 2 and 0 < size <= path.stat().st_size - after:
        return None
    rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return float(frames * (1152 if version == 3 else 576) / rate_hz)


def _mp4_parts(path: Path) -> list[tuple[int, int]]:
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


def _matroska_parts(path: Path) -> list[tuple[int, int]]:
    """Begin and end of each Matroska file in a file, bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts = [0, *(found.start() for found in _EBML.finditer(content) if found.start())]
        return list(zip(starts, [*starts[1:], len(content)], strict=True))


def id3_bytes(head: bytes) -> int:
    """Length of an ID3v2 tag, from its first ten bytes."""
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
