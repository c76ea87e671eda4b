"""A level meter in one line of text: a bar, the held peak, and what is wrong with the level."""

import threading
import time
from collections.abc import Callable, Sequence

from tagger.audio.level import LevelTap
from tagger.events import Level
from tagger.printable import StatusLine

UPDATE_SECONDS = 0.1
"""Length of the audio that one bar shows, and least time between two bars."""
SILENT_DBFS = -70.0
"""Peak below which a microphone hears nothing: ten steps of 16-bit samples. A quiet room is louder."""
_CLIPPED, _SILENT = "CLIPPED: too loud", "silent: is it muted?"
_SILENT_SECONDS = 3.0
"""Length of silence after which it is said."""
_HOLD_SECONDS = 1.5
"""Time for which the highest peak stays on the bar."""
_CLIPPED_SECONDS = 2.0
"""Time for which clipping stays on the line."""
_STALE_SECONDS = 2.0
"""Time without audio after which the line says so."""
_LOWEST_DBFS = -60.0
"""Left end of the bar; the right one is full scale."""
_BAR_WIDTHS = (10, 40)
"""Least and greatest width of a bar, characters. With less room there is none."""


class Meter:
    """The meter of one stream. Times are those of the levels, so it does not matter when it is drawn."""

    def __init__(self, clipped_s: float = _CLIPPED_SECONDS) -> None:
        """
        Args:
            clipped_s: time for which clipping stays on the line, seconds.
        """
        self._clipped_s = clipped_s
        self._level: Level | None = None
        self._held_dbfs, self._held_until = -float("inf"), 0.0
        self._clipped_until = -float("inf")
        self._silent_since: float | None = None

    def add(self, level: Level) -> None:
        """Takes the next level."""
        self._level = level
        if level.peak_dbfs >= self._held_dbfs or level.time > self._held_until:
            self._held_dbfs, self._held_until = level.peak_dbfs, level.time + _HOLD_SECONDS
        if level.clipped:
            self._clipped_until = level.time + self._clipped_s
        if level.peak_dbfs >= SILENT_DBFS:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = level.time

    @property
    def trouble(self) -> str:
        """What is wrong with the level; empty: nothing."""
        if self._level is None:
            return ""
        if self._level.time <= self._clipped_until:
            return _CLIPPED
        if self._silent_since is not None and self._level.time - self._silent_since >= _SILENT_SECONDS:
            return _SILENT
        return ""

    def line(self, columns: int) -> str:
        """The meter in at most so many characters, if there is room for its peak.

        >>> meter = Meter()
        >>> meter.add(Level(rms_dbfs=-30.0, peak_dbfs=-12.0, clipped=0, time=0.0))
        >>> meter.line(40)
        '[#######---|   ]  rms  -30  peak  -12 dB'
        """
        if self._level is None:
            return "no sound yet"
        rms, peak = self._level.rms_dbfs, self._held_dbfs
        said = f"  {self.trouble}" if self.trouble else ""
        short = f"{peak:z4.0f} dB"
        for words in (f"rms {rms:z4.0f}  peak {short}", short):
            room = columns - len(words) - 4
            reserved = len(_SILENT) + 2  # so that the bar stays as long as it is, whatever is said
            width = min(room - (reserved if room - reserved >= _BAR_WIDTHS[0] else len(said)), _BAR_WIDTHS[1])
            if width >= _BAR_WIDTHS[0]:
                return f"[{self._bar(width)}]  {words}{said}"
        return f"{short}{said}"

    def _bar(self, width: int) -> str:
        assert self._level is not None
        loud, peak, held = (
            round(width * min(1.0, max(0.0, 1 - dbfs / _LOWEST_DBFS)))
            for dbfs in (self._level.rms_dbfs, self._level.peak_dbfs, self._held_dbfs)
        )
        bar = "#" * loud + "-" * (peak - loud)
        return f"{bar:<{width}}" if not held else f"{bar:<{held - 1}}"[: held - 1] + "|" + " " * (width - held)


def plain(level: Level, trouble: str) -> str:
    """A level as a line of text, for a file.

    >>> plain(Level(-30.04, -12.0, 0, 0.0), "silent")
    'rms -30.0  peak -12.0 dBFS  silent'
    """
    return f"rms {level.rms_dbfs:z.1f}  peak {level.peak_dbfs:z.1f} dBFS{f'  {trouble}' if trouble else ''}"


class Meters:
    """The meters of all sources, in the last line of the terminal. Any thread may call it."""

    def __init__(self, names: Sequence[str], line: StatusLine, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            names: of the sources, in order. One alone is not named.
        """
        self._line, self._now = line, now
        self._meters = {name: Meter() for name in names}
        self._heard = dict.fromkeys(names, -float("inf"))
        """Time of the last level of each source, on the monotonic clock, seconds."""
        self._drawn = -float("inf")
        self._is_closed = False
        self._lock = threading.Lock()

    def tap(self, name: str, rate_hz: int) -> LevelTap:
        """Measures a source's audio for its meter."""
        return LevelTap(rate_hz, UPDATE_SECONDS, lambda level: self._add(name, level))

    def _add(self, name: str, level: Level) -> None:
        with self._lock:
            self._meters[name].add(level)
            self._heard[name] = self._now()
        if self._now() - self._drawn >= UPDATE_SECONDS:  # a file at full speed is faster
            self.draw()

    def draw(self) -> None:
        """Draws the line, also of sources that have fallen silent."""
        with self._lock:
            if self._is_closed:
                return
            self._drawn = self._now()
            room = (self._line.columns + 3) // len(self._meters) - 3
            self._line.show(" | ".join(self._of(name, room) for name in self._meters))

    def close(self) -> None:
        """Removes the line for good."""
        with self._lock:
            self._is_closed = True
            self._line.clear()

    def _of(self, name: str, columns: int) -> str:
        title = f"{name} " if len(self._meters) > 1 else ""
        if self._now() - self._heard[name] > _STALE_SECONDS:
            return f"{title}no audio"
        return title + self._meters[name].line(columns - len(title))
