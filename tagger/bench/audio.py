"""The sound that measurements are made of: the built-in demo, over and over."""

from collections.abc import Iterator

import numpy as np

from tagger.audio.decode import decode
from tagger.events import Block, Samples
from tagger.sources.file import DEMO

BLOCK_S = 0.05
"""Length of a block, seconds: that of a microphone."""


def demo(rate_hz: int) -> Samples:
    """The demo, [N]; a whole number of blocks."""
    samples = np.concatenate(list(decode(DEMO, rate_hz)))
    block = round(BLOCK_S * rate_hz)
    return samples[: len(samples) // block * block]


def endless(rate_hz: int) -> Iterator[Block]:
    """The demo without an end, in blocks of `BLOCK_S`, dated from 0 on."""
    samples, block = demo(rate_hz), round(BLOCK_S * rate_hz)
    given = 0
    while True:
        at = given % len(samples)
        yield Block(samples[at : at + block], given / rate_hz)
        given += block
