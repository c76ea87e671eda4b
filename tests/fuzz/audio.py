"""Damages audio files and decodes them. Right: sound, or one AudioError; quickly, and in little memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode_blocks
from tests.fuzz.sounds import FORMATS, write_tone
from tests.fuzz.trial import problem_of

RATE_HZ = 32_000


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Decodes that many damaged files. Yields a line for each that was not handled well."""
    with tempfile.TemporaryDirectory() as folder:
        originals = {name: write_tone(Path(folder) / name).read_bytes() for name in FORMATS}
        for name in FORMATS:  # the libraries are loaded, and their own memory is taken
            list(decode_blocks(Path(folder) / name, RATE_HZ, lambda note: None))
        for number in range(inputs):
            rng = np.random.default_rng([seed, number])
            name = FORMATS[number % len(FORMATS)]
            path = Path(folder) / name
            path.write_bytes(mutated(originals[name], originals, rng))
            if (problem := problem_of(lambda path=path: decode(path))) is not None:
                yield f"audio: input {number} of seed {seed}, {name}: {problem}"


def decode(path: Path) -> None:
    """
    Raises:
        AudioError: as `decode_blocks`.
        AssertionError: a block is no sound.
    """
    for block in decode_blocks(path, RATE_HZ, lambda note: None):
        is_sound = np.isfinite(block.samples).all() and block.samples.ndim == 1 and block.samples.size
        assert is_sound, f"a block of shape {block.samples.shape} that is no sound"


def mutated(content: bytes, originals: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """The content with one to three kinds of damage, most of them near the beginning, where headers are."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not damaged:
            break
        at = int(len(damaged) * rng.random() ** 3) if rng.random() < 0.5 else int(rng.integers(min(len(damaged), 200)))
        kind = rng.integers(8)
        if kind == 0:  # bits
            for place in rng.integers(at, len(damaged), rng.integers(1, 20)):
                damaged[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:  # bytes
            size = int(rng.integers(1, 16))
            damaged[at : at + size] = rng.bytes(size)
        elif kind == 2:  # a number that means much
            special = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)[rng.integers(8)]
            damaged[at : at + 4] = special.to_bytes(4, "little" if rng.integers(2) else "big")
        elif kind == 3:  # cut
            del damaged[max(1, at) :]
        elif kind == 4:  # a piece left out
            del damaged[at : at + int(rng.integers(1, 2000))]
        elif kind == 5:  # a piece twice
            damaged[at:at] = damaged[at : at + int(rng.integers(1, 2000))]
        elif kind == 6:  # junk
            damaged[at:at] = rng.bytes(int(rng.integers(1, 4000)))
        else:  # another file behind it
            damaged += originals[list(originals)[rng.integers(len(originals))]]
    return bytes(damaged)
