"""Raw samples: bytes to frames, and signs that they are of another format than was said."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tagger.audio.chunk import Chunk, Frames, Warn
from tagger.audio.resample import LOUDEST
from tagger.errors import AudioError

Read = Callable[[], bytes]
"""Gives the bytes that are there, at least one; waits for them. Empty at the end."""

_JUDGED_SECONDS = 1.0
"""Sound after which its format is judged."""
_JUDGED_BYTES = 1 << 18
"""Most bytes that are judged."""
_FULL_SCALE = 0.99
"""Magnitude of a sample that may be at the end of its range."""
_LOUD_RMS = 0.3
"""RMS of samples that may be noise: sound in the wrong format."""
_RANDOM_RMS = 0.5
"""RMS of samples that are random bytes, if they are rough too: 0.57 for equally frequent values, and no room is so
loud."""
_RANDOM_ROUGHNESS = 0.9
_QUIET_RMS = 1e-5
"""RMS of samples that say nothing."""
_TINY = 1e-30
"""Smallest magnitude of a float sample that is a sound's; below it are bits of integers."""


@dataclass(frozen=True)
class Encoding:
    """How samples are written."""

    dtype: str
    """Type of numpy, of integers of 24 bits that of 32."""
    size: int
    """Bytes of a sample."""

    def floats(self, data: bytes) -> NDArray[np.float32]:
        """Whole samples as float32, [N]: integers scaled to -1 to 1, floats unscaled."""
        dtype = np.dtype(self.dtype)
        if self.size == 3:
            packed = np.frombuffer(data, np.uint8).reshape(-1, 3)
            whole = np.zeros((len(packed), 4), np.uint8)
            whole[:, slice(1, 4) if dtype.str[0] == "<" else slice(0, 3)] = packed
            return to_float(whole.reshape(-1).view(dtype))
        if self is ENCODINGS["s24_32le"]:  # what is in the highest byte does not count
            return to_float(np.frombuffer(data, dtype) << np.int32(8))
        return to_float(np.frombuffer(data, dtype))


ENCODINGS: dict[str, Encoding] = {
    "u8": Encoding("u1", 1),
    "s8": Encoding("i1", 1),
    "s16le": Encoding("<i2", 2),
    "s16be": Encoding(">i2", 2),
    "s24le": Encoding("<i4", 3),
    "s24be": Encoding(">i4", 3),
    "s24_32le": Encoding("<i4", 4),
    "s32le": Encoding("<i4", 4),
    "s32be": Encoding(">i4", 4),
    "f32le": Encoding("<f4", 4),
    "f32be": Encoding(">f4", 4),
    "f64le": Encoding("<f8", 8),
    "f64be": Encoding(">f8", 8),
}


def to_float(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Samples as float32: integers scaled to -1 to 1, floats unscaled. Same shape.

    >>> to_float(np.array([-32768, 16384], "<i2")).tolist()
    [-1.0, 0.5]
    """
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    with np.errstate(over="ignore", invalid="ignore"):  # too large a value becomes infinity, which is no sound
        return samples.astype(np.float32)


class RawSamples:
    """A stream of raw samples, interleaved."""

    def __init__(self, where: str, encoding: str, rate_hz: int, channels: int, most_bytes: int | None = None) -> None:
        """
        Args:
            where: the stream, for messages.
            most_bytes: length of the stream. None: to its end.
        """
        self.encoding, self.rate_hz, self.channels = encoding, rate_hz, channels
        self._where, self._most_bytes = where, most_bytes
        self.behind = b""
        """What was read behind the end."""

    def decoded(self, read: Read) -> Iterator[Chunk]:
        """All whole frames, as they are read.

        Raises:
            AudioError: the stream ended inside a frame, or before its end.
        """
        encoding = ENCODINGS[self.encoding]
        frame_bytes, rest, left = encoding.size * self.channels, b"", self._most_bytes
        while left is None or left > 0:
            if not (data := read()):
                break
            if left is not None:
                data, self.behind = data[:left], data[left:]
                left -= len(data)
            data = rest + data
            whole = len(data) // frame_bytes * frame_bytes
            rest = data[whole:]
            if whole:
                yield Chunk(encoding.floats(data[:whole]).reshape(-1, self.channels), self.rate_hz)
        if left:
            lost_s = left / frame_bytes / self.rate_hz
            raise AudioError(f"{self._where}: truncated: its header promises {lost_s:.2f} s more")
        if rest and left is None:
            raise AudioError(
                f"{self._where}: ended inside a frame, {len(rest)} of {frame_bytes} bytes; "
                "check --format and --channels (everything before was heard)"
            )


@dataclass
class FormatDoubt:
    """Looks at the first second of raw samples, and says if they are plainly of another format.

    That is: half of them are no numbers or at full scale; or they are white noise as loud as it can be, as of random or
    compressed bytes; or they are loud noise, and as another format they would be the sound of a room.
    """

    where: str
    encoding: str
    rate_hz: int
    channels: int
    warn: Warn
    _seen: bytearray = field(default_factory=bytearray)
    _is_over: bool = False

    def look(self, data: bytes) -> None:
        """Takes the next bytes as they are read. Constant ones, such as digital silence, say nothing."""
        if self._is_over or not data.strip(data[:1]):
            return
        frame_bytes = ENCODINGS[self.encoding].size * self.channels
        if not self._seen:  # whole frames are judged
            self._seen += data
        else:
            self._seen += data[: _JUDGED_BYTES - len(self._seen)]
        if len(self._seen) >= min(_JUDGED_SECONDS * self.rate_hz * frame_bytes, _JUDGED_BYTES):
            self.finish()

    def finish(self) -> None:
        """Judges what was seen; afterwards nothing is looked at any more."""
        if self._is_over:
            return
        self._is_over = True
        data = bytes(self._seen)
        self._seen.clear()
        said = _Look.at(data, self.encoding, self.channels)
        if said is None or (said.bad < 0.5 and (said.rms < _LOUD_RMS or said.is_surely_float)):
            return
        # The same bytes, only quieter, are no other sound.
        same = ("s32le",) if self.encoding == "s24_32le" else ()
        others = [name for name in ENCODINGS if name != self.encoding and name not in same]
        looks = [_Look.at(data, name, self.channels) for name in others]
        better = [look for look in looks if look is not None and (look.is_surely_float or look.is_saner_than(said))]
        if said.bad < 0.5 and not better and not said.is_random:
            return
        if said.bad >= 0.5:
            what = f"{100 * said.bad:.0f} % of them are no numbers or at full scale"
        elif better:
            what = "loud noise"
        else:
            what = "white noise at full scale, as of random, compressed or encrypted bytes"
        hint = "check --format, --rate and --channels"
        if better:
            likely = min(better, key=lambda look: (not look.is_surely_float, round(look.roughness, 2), -look.rms)).name
            hint = f"they look like {likely}: --format {likely}, or format={likely} behind the source"
        self.warn(f"{self.where}: as {self.encoding}, its samples are hardly sound ({what}); {hint}")


@dataclass(frozen=True)
class _Look:
    """What samples look like in one encoding."""

    name: str
    bad: float
    """Share of samples that are no numbers, absurd, or at full scale, 0 to 1."""
    rms: float
    roughness: float
    """Power of the differences of neighbours by twice the power of the samples: 1 for white noise, near 0 for most
    sound."""
    is_surely_float: bool
    """Whether nearly all are floats between -1.5 and 1.5, which integers would not be."""

    @classmethod
    def at(cls, data: bytes, name: str, channels: int) -> "_Look | None":
        """None: there are too few samples."""
        encoding = ENCODINGS[name]
        frame_bytes = encoding.size * channels
        whole = len(data) // frame_bytes * frame_bytes
        if whole < 64 * frame_bytes:
            return None
        frames: Frames = encoding.floats(data[:whole]).reshape(-1, channels)
        sizes = np.abs(frames)
        is_float = np.dtype(encoding.dtype).kind == "f"
        bad = ~(sizes < (LOUDEST if is_float else _FULL_SCALE))
        if is_float:
            bad |= (sizes > 0) & (sizes < _TINY)
        good = np.where(bad, 0.0, frames).astype(np.float64)
        good -= good.mean(axis=0)
        power = float(np.mean(good**2))
        steps = float(np.mean(np.diff(good, axis=0) ** 2))
        is_surely_float = is_float and bad.mean() < 0.01 and np.mean((sizes > 1e-6) & (sizes < 1.5)) > 0.7
        return cls(name, float(bad.mean()), power**0.5, steps / (2 * power) if power else 0.0, bool(is_surely_float))

    @property
    def is_random(self) -> bool:
        """Whether all values are equally frequent, and independent."""
        return self.rms > _RANDOM_RMS and self.roughness > _RANDOM_ROUGHNESS

    def is_saner_than(self, said: "_Look") -> bool:
        """Whether this is like the sound of a room, and `said` is not."""
        is_sane = self.bad < 0.01 and _QUIET_RMS < self.rms < _LOUD_RMS and (self.roughness < 0.5 or self.rms < 0.05)
        is_better = self.rms < said.rms / 3 and self.roughness < said.roughness / 2
        return is_sane and (said.bad >= 0.5 or said.roughness > 0.4 or is_better)
