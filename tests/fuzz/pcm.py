"""Feeds anything into a pipe that is listened to. Right: sound, or one AudioError; quickly, and in little memory."""

import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.raw import ENCODINGS
from tagger.settings import PcmFormat
from tagger.sources.pcm import PcmSource
from tests.fuzz.audio import RATE_HZ, mutated
from tests.fuzz.sounds import FORMATS, write_tone
from tests.fuzz.trial import problem_of

_RATES_HZ = (1_000, 8_000, 16_000, 32_000, 44_100, 48_000, 192_000, 768_000)
_SIZE = 200_000
"""Most bytes of raw samples."""


class Pieces(io.BytesIO):
    """A stream that is read in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._size)

    def fileno(self) -> int:
        raise OSError


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Listens to that many streams. Yields a line for each that was not handled well."""
    logging.getLogger("tagger").setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            originals = {name: write_tone(Path(folder) / name).read_bytes() for name in FORMATS}
            for content in originals.values():  # the libraries are loaded, and their own memory is taken
                problem_of(lambda content=content: listen(content, PcmFormat(), (), 65_536))  # type: ignore[misc]
            for number in range(inputs):
                arguments = made(np.random.default_rng([seed, number]), originals)
                if (problem := problem_of(lambda arguments=arguments: listen(*arguments))) is not None:  # type: ignore[misc]
                    yield f"pcm: input {number} of seed {seed}, {arguments[1]}, pieces of {arguments[3]}: {problem}"
    finally:
        logging.getLogger("tagger").setLevel(logging.NOTSET)


def listen(data: bytes, pcm: PcmFormat, channel: tuple[int, ...], size: int) -> None:
    """
    Raises:
        AudioError: as `PcmSource.blocks`.
        AssertionError: a block is no sound, or times go back.
    """
    at = 0.0
    for block in PcmSource("stdin", pcm, RATE_HZ, Pieces(data, size), channel).blocks():
        assert np.isfinite(block.samples).all(), "a block that is no sound"
        assert block.time >= at - 1e-6, f"times go back from {at} to {block.time}"
        at = block.time


def made(rng: np.random.Generator, originals: dict[str, bytes]) -> tuple[bytes, PcmFormat, tuple[int, ...], int]:
    """Bytes, the format that is said to be theirs, the channels that are heard, and the size of the pieces."""
    encoding = list(ENCODINGS)[rng.integers(len(ENCODINGS))]
    channels = int((1, 1, 2, 6, 64)[rng.integers(5)])
    pcm = PcmFormat(int(_RATES_HZ[rng.integers(len(_RATES_HZ))]), encoding, channels)
    channel = tuple(int(each) for each in rng.integers(1, channels + 2, rng.integers(3)))
    size = int((64, 1_000, 4_096, 65_536)[rng.integers(4)])
    if rng.random() < 0.4:
        name = list(originals)[rng.integers(len(originals))]
        return mutated(originals[name], originals, rng), pcm, channel, size
    return _samples(rng), pcm, channel, size


def _samples(rng: np.random.Generator) -> bytes:
    """Raw bytes: noise, floats of which some are none, silence with damage, text."""
    count = int(rng.integers(_SIZE))
    kind = rng.integers(5)
    if kind == 0:
        return rng.bytes(count)
    if kind == 1:
        return np.tile(np.frombuffer(rng.bytes(int(rng.integers(1, 64))), np.uint8), count // 32 + 1).tobytes()[:count]
    if kind == 2:
        return (b"GET /audio HTTP/1.1\r\nHost: example\r\n\r\n" * (count // 30 + 1))[:count]
    dtype: Any = ("<f4", "<f8", ">f4")[rng.integers(3)]
    values = rng.normal(0, 0.1, count // 8 + 1).astype(dtype)
    bad = rng.random(len(values)) < (0.5, 0.01, 0.0003)[rng.integers(3)]
    values[bad] = (np.nan, np.inf, 1e30, -1e4)[rng.integers(4)]
    if kind == 4:  # stretches of both
        values = np.where(np.arange(len(values)) // int(rng.integers(1, 9_000)) % 2, values, np.nan).astype(dtype)
    return bytes(rng.bytes(int(rng.integers(4)))) + values.tobytes()
