"""The sound of one source for pages that show it: columns of its spectrogram, and its level."""

import base64
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tagger.audio.level import LevelMeter
from tagger.events import AudioTap, Block, Level
from tagger.features.config import MelConfig
from tagger.web.columns import Columns

_LEVEL_SECONDS = 0.2
"""Length of a stretch whose level is told, and of a gap after which columns begin anew, seconds."""
_MOST_SECONDS = 2.0
"""Longest sound of a source that waits for the next tick, seconds. What comes then is left out."""


class Tap(AudioTap):
    """Hands over the audio of one source while a page wants its columns."""

    def __init__(self, is_watched: Callable[[], bool], rate_hz: int) -> None:
        """
        Args:
            is_watched: whether a page wants the columns. Called with each block.
        """
        self._is_watched, self._rate_hz = is_watched, rate_hz
        self._lock = threading.Lock()
        self._blocks: list[Block] = []
        self._samples = 0

    def heard(self, block: Block) -> None:
        if self._is_watched() and self._samples < _MOST_SECONDS * self._rate_hz:
            with self._lock:
                self._blocks.append(block)
                self._samples += len(block.samples)

    def take(self) -> list[Block]:
        """The blocks since the last call."""
        with self._lock:
            blocks, self._blocks, self._samples = self._blocks, [], 0
        return blocks


class Sound:
    """Columns and level of one source, for the pages that want them."""

    def __init__(self, mel: MelConfig) -> None:
        self.columns = Columns(mel)
        self._meter = LevelMeter(mel.sample_rate_hz, _LEVEL_SECONDS)
        self._end: float | None = None
        """Where the newest block ended, seconds since the epoch."""

    def messages(self, source: str, blocks: list[Block]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What pages are told of the next blocks: kinds of messages, and their data.

        Args:
            blocks: at least one.
        """
        if self._end is None or abs(blocks[0].time - self._end) > _LEVEL_SECONDS:  # blocks were left out
            self.columns.clear()
            self._meter.reset()
        self._end = blocks[-1].time + len(blocks[-1].samples) / self.columns.config.sample_rate_hz
        if (strip := self.columns.add(blocks)) is not None:
            data = base64.b64encode(strip.columns.tobytes()).decode()
            yield "columns", {"source": source, "time": round(strip.time, 3), "data": data}
        levels = [level for block in blocks if (level := self._meter.feed(block)) is not None]
        if levels:
            yield "level", {"source": source, **_loudest(levels)}


def _loudest(levels: Sequence[Level]) -> Mapping[str, Any]:
    """The level of some stretches that follow each other: the loudest, as a meter shows it."""
    return {
        "time": round(levels[-1].time, 3),
        "rms_dbfs": round(max(level.rms_dbfs for level in levels), 1),
        "peak_dbfs": round(max(level.peak_dbfs for level in levels), 1),
        "clipped": sum(level.clipped for level in levels),
    }
