"""Files of FFmpeg (PyAV): MP3, AAC, video, and whatever else libsndfile does not read, or not to its end."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio import mp3
from tagger.audio.chunk import BLOCK_SECONDS, MOST_CHANNELS, RATES_HZ, Chunk, Frames, Warn
from tagger.audio.layout import matroska_parts, mp4_parts
from tagger.audio.part import FilePart
from tagger.audio.timestamps import TrackClock
from tagger.errors import AudioError
from tagger.printable import number_of

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
        self._has_one_length = _is_format(container, _EXACT_CONTAINERS)
        """The header tells the length of the longest track alone."""
        self._furthest_s = 0.0
        """Latest end of a packet, by its time stamp, seconds."""

    @property
    def is_ready(self) -> bool:
        """Whether more can be decoded without waiting for it."""
        return True

    def close(self) -> None:
        """Closes a container whose chunks are not wanted."""
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
        """FFmpeg's frames of the track, each with the sound that is missing before it.

        Raises:
            AudioError: nothing could be decoded, or the file ends before the end that its header tells.
        """
        clock = TrackClock(self._container, self._stream, _is_format(self._container, _STAMPED))
        damage = _Damage(self._where, warn)
        former: Chunk | None = None
        for frame in self._decoded(clock, damage):
            channels = frame.layout.nb_channels
            if frame.sample_rate not in RATES_HZ or not 0 < channels <= MOST_CHANNELS:
                damage.found(clock.heard_s, f"{frame.sample_rate} Hz, {number_of(channels, 'channel')}")
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
        self._check_end(clock, damage)

    def _decoded(self, clock: TrackClock, damage: "_Damage") -> Iterator[Any]:
        """FFmpeg's frames of the track. What cannot be decoded is left out and noted.

        Raises:
            AudioError: the file breaks off, or FFmpeg has no decoder for it.
        """
        import av

        for packet in self._packets(clock):
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
            yield from decoded

    def _packets(self, clock: TrackClock) -> Iterator[Any]:
        """FFmpeg's packets of the track; of all tracks, where only the longest one's length is known.

        Raises:
            AudioError: the file breaks off.
        """
        import av

        packets = self._container.demux(*([] if self._has_one_length else [self._stream]))
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                raise self._broken(clock.heard_s, _reason(error)) from None
            if packet is None:
                return
            if packet.pts is not None and packet.time_base is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._furthest_s = max(self._furthest_s, end_s)
            yield packet

    def _check_end(self, clock: TrackClock, damage: "_Damage") -> None:
        """
        Raises:
            AudioError: the sound ends before the end that the header tells.
        """
        promised_s = self._promised_s()
        if promised_s is None:
            return
        reached_s = self._furthest_s if self._has_one_length else clock.end_s
        slack_s = max(_SLACK_SECONDS, 0.01 * promised_s) + damage.cost_s(clock.heard_s)
        if promised_s - reached_s > slack_s:
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
            parts = mp4_parts(self._path)
        elif self._part is None and _is_format(self._container, ("matroska", "webm")):
            parts = matroska_parts(self._path)
        if len(parts) < 2:
            yield from self._chunks(warn)
            return
        self._container.close()
        for number, part in enumerate(parts):
            for index, chunk in enumerate(AvFile(self._path, part).chunks(warn)):
                yield replace(chunk, is_joined=True) if number and not index else chunk

    def _promised_s(self) -> float | None:
        if _is_format(self._container, ("mp3",)):
            return mp3.promised_s(self._path)
        if _is_format(self._container, ("wav",)):
            return None
        if _is_format(self._container, _EXACT_STREAMS) and self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        if _is_format(self._container, _EXACT_CONTAINERS) and self._container.duration is not None:
            return float(self._container.duration) / 1e6
        return None


class _Damage:
    """Counts what could not be decoded, and says it once; says once, too, that the format changes."""

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
    return f"{chunk.rate_hz} Hz, {number_of(chunk.frames.shape[1], 'channel')}"


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


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
