"""What every decoder gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
"""[N, channels], full scale -1 to 1."""
Warn = Callable[[str], None]
"""Takes one line about a file that is read although something is wrong with it."""

BLOCK_SECONDS = 0.5
RATES_HZ = range(1_000, 768_001)
"""Plausible rates. A header with another one is damaged. Audio of 1 Hz, resampled, would not fit into memory."""
MOST_CHANNELS = 1024
"""Most channels of a file."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames of a file. Rate and channels may differ from those of the chunk before."""

    frames: Frames
    rate_hz: int
    missing_s: float = 0.0
    """Time without sound between the chunk before and this one, seconds, by the file's own time stamps."""
    is_joined: bool = False
    """Another recording begins here; the files were joined."""


class Decoder(Protocol):
    """An open audio file."""

    rate_hz: int
    channels: int
    """Rate and channels at the file's beginning."""

    def close(self) -> None:
        """Closes a file whose `chunks` are not wanted."""

    def chunks(self, warn: Warn) -> Iterator[Chunk]:
        """The whole file, once.

        Raises:
            AudioError: the file ends early or is damaged. Every good frame was given before.
        """
