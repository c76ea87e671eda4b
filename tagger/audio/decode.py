"""Decodes audio files block by block: libsndfile where a header tells the exact length, FFmpeg (PyAV) for the rest."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tagger.audio.chunk import MOST_CHANNELS, RATES_HZ, Chunk, Decoder, Frames, Warn
from tagger.audio.downmix import Downmix, check_channel
from tagger.audio.ffmpeg import AvFile
from tagger.audio.libsndfile import LibraryError, SoundFile
from tagger.audio.mp3 import id3_bytes
from tagger.audio.resample import Resampler, stretches
from tagger.errors import AudioError
from tagger.events import Block, Samples
from tagger.printable import number_of
from tagger.settings import Channel

log = logging.getLogger(__name__)

_LONGEST_REASON = 200


def open_audio(path: Path, channel: Channel = ()) -> Decoder:
    """Opens a file and checks its header.

    Args:
        channel: channels that it must have.

    Raises:
        AudioError: the file is missing, empty, or neither library can decode it.
    """
    if str(path) == "-" and not path.exists():
        raise AudioError("-: standard input is no file here; name the file itself, or use `tagger listen -`")
    try:
        is_missing = not path.exists()
    except OSError as error:  # a name that no file can have
        raise AudioError(f"{path}: {error.strerror}") from None
    if is_missing:
        raise AudioError(f"{path}: no such file" + (" (URLs are not supported)" if ":/" in str(path) else ""))
    if path.is_dir():
        raise AudioError(f"{path}: a folder, not an audio file")
    if not path.is_file():
        raise AudioError(f"{path}: not a regular file; `tagger listen` takes it as a source")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
        decoder = _opened(path)
    except AudioError:
        raise
    except PermissionError:
        raise AudioError(f"{path}: no permission to read it") from None
    except Exception as error:  # whatever a library makes of a damaged file
        raise _unreadable(path, error) from None
    if decoder.rate_hz not in RATES_HZ or not 1 <= decoder.channels <= MOST_CHANNELS:
        channels = number_of(decoder.channels, "channel")
        raise AudioError(f"{path}: its header is damaged ({decoder.rate_hz} Hz, {channels})")
    check_channel(str(path), channel, decoder.channels)
    return decoder


def _opened(path: Path) -> Decoder:
    with path.open("rb") as raw:
        head = raw.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            raw.seek(id3_bytes(head))
            head = raw.read(10)
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":  # MP3, ADTS: libsndfile would take an estimate for the length
        return AvFile(path)
    try:
        file = SoundFile(path)
    except LibraryError:
        return AvFile(path)
    if not file.is_estimated and not file.has_gaps:
        return file
    file.close()
    return AvFile(path)


def decode_blocks(path: Path, rate_hz: int, warn: Warn = log.warning, channel: Channel = ()) -> Iterator[Block]:
    """A whole file as mono blocks at `rate_hz`. Times count from the recording's beginning, seconds.

    A block has `gap` set if it follows missing sound (by the file's own time stamps), samples that are NaN, infinite or
    absurd, or the end of another recording to which this one was joined.

    Args:
        warn: takes one line for each thing that is wrong with a file that is read all the same.
        channel: the channels that are heard.

    Raises:
        AudioError: as `open_audio`; or the file is damaged or ends early. All good samples were given before.
    """
    decoder = open_audio(path, channel)
    assembly = _Assembly(path, rate_hz, warn, channel)
    error: AudioError | None = None
    chunks = decoder.chunks(warn)
    while True:
        try:
            chunk = next(chunks, None)
        except AudioError as damage:
            error = damage
            break
        except Exception as damage:  # whatever a library makes of a damaged file
            error = _unreadable(path, damage)
            break
        if chunk is None:
            break
        try:
            yield from assembly.feed(chunk)
        except AudioError as missing:
            error = missing
            break
    yield from assembly.finish()
    if error is None and assembly.is_mostly_damage:
        error = AudioError(f"{path}: more than half of it is no sound, but NaN, infinity or absurd values")
    if error is not None:
        raise error


def decode(path: Path, rate_hz: int, warn: Warn = log.warning) -> Iterator[Samples]:
    """The samples of `decode_blocks`, [N], one behind the other, without regard to gaps.

    Raises:
        AudioError: as `decode_blocks`.
    """
    for block in decode_blocks(path, rate_hz, warn):
        yield block.samples


class _Assembly:
    """Makes blocks of chunks: mono, at one rate, each with its time. A change of format begins a new resampler."""

    def __init__(self, path: Path, rate_hz: int, warn: Warn, channel: Channel) -> None:
        self._path, self._rate_hz, self._warn = path, rate_hz, warn
        self._downmix = Downmix(str(path), channel, warn)
        self._resampler: Resampler | None = None
        self._format = (0, 0)
        """Rate and channels of what `_resampler` takes."""
        self._began_s, self._given = 0.0, 0
        """Where the sound since the last gap began, and how many samples of it were given."""
        self._gap = False
        self._sound_s, self._damage_s = 0.0, 0.0

    def feed(self, chunk: Chunk) -> Iterator[Block]:
        """
        Raises:
            AudioError: a chosen channel is not there.
        """
        frames = self._downmix.chosen(chunk.frames)
        if chunk.missing_s or chunk.is_joined:
            yield from self._skip(chunk.missing_s)
        for start, end, is_sound in stretches(frames, chunk.rate_hz):
            if is_sound:
                self._sound_s += (end - start) / chunk.rate_hz
                yield from self._convert(frames[start:end], chunk.rate_hz)
                continue
            lost_s = (end - start) / chunk.rate_hz
            yield from self._skip(lost_s)
            if not self._damage_s:
                at = self._began_s - lost_s
                self._warn(f"{self._path}: NaN, infinity or an absurd value at {at:.3f} s; such samples are left out")
            self._damage_s += lost_s

    @property
    def is_mostly_damage(self) -> bool:
        """Whether more was left out than given."""
        return self._damage_s > self._sound_s

    def finish(self) -> Iterator[Block]:
        """The rest of a recording that is over."""
        yield from self._flush()
        self._downmix.finish()

    def _flush(self) -> Iterator[Block]:
        """The samples that wait in the resampler."""
        if self._resampler is not None:
            yield from self._blocks(self._resampler.flush())
        self._resampler = None

    def _convert(self, frames: Frames, rate_hz: int) -> Iterator[Block]:
        if self._resampler is None or self._format != (rate_hz, frames.shape[1]):
            yield from self._flush()
            self._format = rate_hz, frames.shape[1]
            self._resampler = Resampler(rate_hz, self._rate_hz)
        yield from self._blocks(self._resampler.feed(self._downmix.mean(frames, rate_hz)))

    def _skip(self, seconds: float) -> Iterator[Block]:
        yield from self._flush()
        self._began_s, self._given = self._began_s + self._given / self._rate_hz + seconds, 0
        self._gap = True

    def _blocks(self, samples: Samples) -> Iterator[Block]:
        if samples.size:
            yield Block(samples, self._began_s + self._given / self._rate_hz, self._gap)
            self._given, self._gap = self._given + samples.size, False


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
    return AudioError(f"{path}: cannot be decoded ({reason})")
