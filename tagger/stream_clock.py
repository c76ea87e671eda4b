"""A stream's own time, which goes on evenly while the wall clock is set: for whoever counts seconds of sound."""

from dataclasses import replace

from tagger.events import Block, Event, moved_id

SET_SECONDS = 1.0
"""Least jump of a stream's times without a gap that is not followed, seconds."""


class StreamClock:
    """Times of one stream: those of the wall clock, and the stream's own, which differ by how far the clock was set
    since the start. No sound is missing where it is set, so what is open goes on. One thread at a time may use it.

    >>> import numpy as np
    >>> clock = StreamClock(rate_hz=1)
    >>> for time in (100.0, 102.0, 3704.0):  # two seconds each
    ...     clock.take(Block(np.zeros(2, np.float32), time))
    >>> clock.own(3704.0), clock.wall(105.0)
    (104.0, 3705.0)
    """

    def __init__(self, rate_hz: int) -> None:
        """
        Args:
            rate_hz: the stream's rate.
        """
        self._rate_hz = rate_hz
        self._set_s = 0.0
        """How far the clock was set so far."""
        self._end: float | None = None
        """When the newest block ended, by the wall clock."""
        self._begun: dict[str, float] = {}
        """How far the clock had been set when each open event began, by its id."""

    def jump_s(self, block: Block) -> float:
        """How far the clock was set just before the next block, seconds; 0: it was not."""
        jump_s = 0.0 if self._end is None or block.gap else block.time - self._end
        return jump_s if abs(jump_s) > SET_SECONDS else 0.0

    def take(self, block: Block) -> None:
        """Takes the next block, and follows the clock if it was set."""
        self._set_s += self.jump_s(block)
        self._end = block.time + block.samples.size / self._rate_hz

    def own(self, wall: float) -> float:
        """The stream's own time, of a time on the wall clock as it is now."""
        return wall - self._set_s

    def wall(self, own: float) -> float:
        """The other way around."""
        return own + self._set_s

    def wall_event(self, event: Event) -> Event:
        """An event of the stream's own time, dated by the wall clock, as is its id: its end, too, by the clock as it
        was when it began, so that the event is as long as the sound.
        """
        if event.type == "begin":
            self._begun[event.id] = self._set_s
            return _moved(event, self._set_s)
        return _moved(event, self._begun.pop(event.id, self._set_s))


def _moved(event: Event, seconds: float) -> Event:
    if not seconds:
        return event
    offset = None if event.offset is None else event.offset + seconds
    return replace(event, id=moved_id(event.id, seconds), onset=event.onset + seconds, offset=offset)
