"""Waveforms of a data set: decodes and resamples every file once, keeps it on disk, reads it window by window.

One cache file holds a file's windows. Its name is the content's hash, and it gets the name in one step. So a decoded
file stays valid when other files are added, change or cannot be decoded, when decoding is interrupted, and when two
processes decode the same file.
"""

import itertools
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tagger.audio.chunk import Warn
from tagger.audio.decode import decode_blocks
from tagger.errors import AudioError, UserError
from tagger.events import Block, Samples
from tagger.files import replacing
from tagger.printable import number_of, printable
from tagger.progress import Progress, counted
from train.data import cache
from train.data.dataset import Clip, Dataset
from train.messages import Say

_SILENCE = 1e-4
"""A window with no sample above this magnitude (-80 dBFS) is silent."""
_FLOOR_DB = -75.0
"""RMS of the noise under a user's short file, dBFS: no stream is digitally silent."""
_VERSION = 1
_LENGTH = struct.Struct("<I")
_NAMED = 10
_SAME_START_SECONDS = 0.01


@dataclass(frozen=True)
class Waveforms:
    """Windows on disk, mono, by row."""

    places: tuple[tuple[Path, int], ...]
    """Each row's file, and the offset in it, bytes. No file is held open: threads and processes may share this."""
    samples: int
    """Length of one window."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Samples:
        """[samples], full scale -1 to 1."""
        path, offset = self.places[row]
        stored = np.fromfile(path, "<i2", self.samples, offset=offset)
        return stored.astype(np.float32) / np.float32(32767)

    def __iter__(self) -> Iterator[Samples]:
        return map(self.__getitem__, range(len(self)))

    def batch(self, rows: Iterable[int]) -> Samples:
        """Waveforms of these rows: [rows, samples]."""
        return np.stack([self[row] for row in rows])


def load(dataset: Dataset, rate_hz: int, seconds: float, strict: bool, say: Say) -> tuple[Dataset, Waveforms]:
    """The data set with a clip for every window, and the clips' sound.

    A clip of ESC-50 is cut, or padded with zeros, to the window. A user's file is cut into consecutive windows; a
    shorter file lies somewhere in its window, over faint noise. Damaged and silent files are left out and reported.

    Args:
        seconds: length of a window.
        strict: a file that would be left out is an error.

    Raises:
        UserError: a label is left without clips; or, if strict, a file cannot be used.
    """
    shape = _Shape(rate_hz, round(seconds * rate_hz))
    files: dict[Path, Clip] = {}
    for clip in dataset.clips:
        files.setdefault(shape.cached(clip), clip)
    notes: list[str] = []
    entries = _entries(files, shape, strict, notes)
    _list(notes, say)
    clips: list[Clip] = []
    places: list[tuple[Path, int]] = []
    problems: dict[Path, str] = {}
    for clip in dataset.clips:
        path = shape.cached(clip)
        entry = entries.get(path, f"{clip.path}: not decoded")
        if isinstance(entry, str):
            problems.setdefault(clip.path, entry)
            continue
        chosen = [(number, start / rate_hz) for number, start in enumerate(entry) if _is_of(clip, start / rate_hz)]
        if not chosen:
            problems.setdefault(clip.path, f"{clip.path}: silent (nothing above -80 dBFS)")
        for number, start_seconds in chosen:
            clips.append(replace(clip, start_seconds=start_seconds, any_length=False) if clip.any_length else clip)
            places.append((path, 2 * shape.samples * number))
    if problems and strict:
        raise UserError(f"a clip cannot be used: {next(iter(problems.values()))}")
    _report(list(problems.values()), len({clip.path for clip in dataset.clips}), say)
    left = {clip.label for clip in clips}
    lost = [name for label, name in enumerate(dataset.labels) if label not in left]
    if lost or not clips:
        what = ", ".join(lost[:_NAMED]) or dataset.name
        raise UserError(f"no usable clip is left of {what}: {next(iter(problems.values()), 'there were none')}")
    return replace(dataset, clips=tuple(clips)), Waveforms(tuple(places), shape.samples)


def _report(problems: Sequence[str], of: int, say: Say) -> None:
    if problems:
        say(f"left out {len(problems)} of {number_of(of, 'file')} that cannot be used:")
        _list(problems, say)


def _list(lines: Sequence[str], say: Say) -> None:
    for line in lines[:_NAMED]:
        say(f"  {printable(line)}")
    if len(lines) > _NAMED:
        say(f"  and {len(lines) - _NAMED} more")


@dataclass(frozen=True)
class _Shape:
    """Rate and length of the windows that a file is decoded into."""

    rate_hz: int
    samples: int

    def cached(self, clip: Clip) -> Path:
        kind = "cut" if _is_cut(clip) else "whole"
        return cache.folder() / "clips" / f"{clip.sha256}-{self.rate_hz}-{self.samples}-{kind}{_VERSION}.pcm"


def _is_cut(clip: Clip) -> bool:
    return clip.any_length or clip.start_seconds is not None


def _is_of(clip: Clip, start_seconds: float) -> bool:
    """Whether the window that begins there is the clip, or one of its windows."""
    return clip.any_length or abs(start_seconds - (clip.start_seconds or 0)) < _SAME_START_SECONDS


_Entry = tuple[int, ...]
"""Begin of each of a file's windows, samples."""


def _entries(files: dict[Path, Clip], shape: _Shape, strict: bool, notes: list[str]) -> dict[Path, _Entry | str]:
    """Content of each cache file, made if it is missing; or why it cannot be made.

    Args:
        notes: takes lines about files that are read although something is wrong with them.

    If strict, files after the first failure are left out of the result.
    """
    stop = threading.Event()

    def made(path: Path, progress: Progress) -> _Entry | str:
        try:
            return _write(path, files[path], shape, stop, progress, notes.append)
        except AudioError as error:
            return str(error)

    entries: dict[Path, _Entry | str] = {}
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        read = pool.map(lambda path: _read(path, shape), files)
        for path, entry in zip(counted("decoded before", files, "files"), read, strict=True):
            if entry is not None:
                entries[path] = entry
        missing = [path for path in files if path not in entries]
        if missing:
            with Progress("decoding", len(missing), "files") as progress:
                for path, done in zip(missing, pool.map(lambda path: made(path, progress), missing), strict=True):
                    entries[path] = done
                    progress.update()
                    if strict and not (isinstance(done, tuple) and done):
                        break
    finally:
        stop.set()  # matters after Ctrl-C and failures: an hour's recording is not decoded to its end
        pool.shutdown(cancel_futures=True)
    return entries


def _write(path: Path, clip: Clip, shape: _Shape, stop: threading.Event, progress: Progress, warn: Warn) -> _Entry:
    """Writes the windows, int16; then JSON with their starts and their checksum; then the length of the JSON."""
    starts: list[int] = []
    checksum = 0
    with replacing(path) as partial, partial.open("wb") as file:
        for start, window in _windows(clip, shape, stop, warn):
            content = np.clip(np.rint(window * 32767), -32768, 32767).astype("<i2").tobytes()
            file.write(content)
            checksum = zlib.crc32(content, checksum)
            starts.append(start)
            progress.update(0)  # one recording may have hours
        footer = json.dumps({"starts": starts, "crc32": checksum}).encode()
        file.write(footer + _LENGTH.pack(len(footer)))
    return tuple(starts)


def _read(path: Path, shape: _Shape) -> _Entry | None:
    """None: the file is missing or damaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - _LENGTH.size)
            (length,) = _LENGTH.unpack(file.read())
            file.seek(size - _LENGTH.size - length)
            footer = json.loads(file.read(length))
            starts, end = tuple(footer["starts"]), size - _LENGTH.size - length
            if end != 2 * shape.samples * len(starts):
                return None
            checksum = 0
            file.seek(0)
            for _ in starts:
                checksum = zlib.crc32(file.read(2 * shape.samples), checksum)
            return starts if checksum == footer["crc32"] else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # a seek before the beginning is an OSError
        return None


def _windows(clip: Clip, shape: _Shape, stop: threading.Event, warn: Warn) -> Iterator[tuple[int, Samples]]:
    """Each window that is not silent, [samples], and where it begins, samples."""
    blocks = _until(stop, decode_blocks(clip.path, shape.rate_hz, warn))
    if _is_cut(clip):
        for began, section in _sections(blocks, shape.rate_hz):
            for start, sound in cut(section, shape.samples):
                if _is_audible(sound):
                    short = len(sound) < shape.samples
                    yield began + start, padded(sound, shape.samples, clip.sha256) if short else sound
        return
    window, have = np.zeros(shape.samples, np.float32), 0
    for block in blocks:  # also those beyond the window: damage anywhere counts
        fits = block.samples[: shape.samples - have]
        window[have : have + len(fits)] = fits
        have += len(fits)
    if _is_audible(window):
        yield 0, window


def _sections(blocks: Iterable[Block], rate_hz: int) -> Iterator[tuple[int, Iterator[Samples]]]:
    """The parts of a recording between its gaps: where each begins, samples, and its blocks."""
    gaps = 0

    def numbered() -> Iterator[tuple[int, Block]]:
        nonlocal gaps
        for block in blocks:
            gaps += block.gap
            yield gaps, block

    for _, part in itertools.groupby(numbered(), key=lambda pair: pair[0]):
        _, first = next(part)
        yield round(first.time * rate_hz), (block.samples for block in itertools.chain([first], (b for _, b in part)))


def _until(stop: threading.Event, blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:
        if stop.is_set():
            raise AudioError("interrupted")
        yield block


def _is_audible(samples: Samples) -> bool:
    return bool((np.abs(samples) > _SILENCE).any())


def cut(blocks: Iterable[Samples], samples: int) -> Iterator[tuple[int, Samples]]:
    """A file's consecutive windows, and where each begins, samples.

    The last window ends with the file, if at least half of it is new. A file shorter than a window comes as it is.
    """
    start, rest, last = 0, np.empty(0, np.float32), np.empty(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= samples:
            last, rest = rest[:samples], rest[samples:]
            yield start, last
            start += samples
    if not start:
        yield 0, rest
    elif 2 * len(rest) >= samples:
        yield start + len(rest) - samples, np.concatenate([last, rest])[-samples:]


def padded(sound: Samples, samples: int, sha256: str) -> Samples:
    """A window with the sound somewhere in it, over faint noise, as in a stream. The file's hash decides where."""
    rng = np.random.default_rng(int(sha256[:16], 16))
    window = rng.standard_normal(samples).astype(np.float32) * np.float32(10 ** (_FLOOR_DB / 20))
    into = rng.integers(samples - len(sound) + 1)
    window[into : into + len(sound)] += sound
    return window
