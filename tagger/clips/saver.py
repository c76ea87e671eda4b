"""Cuts the audio of each event, with some before and after it, out of a stream."""

import threading
import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.clips.folder import ClipFolder, EventClip
from tagger.clips.speech import SpeechJudge
from tagger.events import AudioTap, Block, Event, Scores, Stream
from tagger.mqtt.topics import label_levels
from tagger.names import slug
from tagger.stream_clock import SET_SECONDS
from tagger.times import rfc3339

Pcm = NDArray[np.int16]
"""[N] samples, full scale 32768."""

_SAME_CLOCK_SECONDS = 0.001
"""Smallest difference of a block's time from the count of samples that is taken as a correction of the clock. From
SET_SECONDS on, the clock was set: times before and after it are of different clocks."""

_JUDGE_SECONDS = 120.0
"""Time for which windows are remembered beyond the longest clip: two of the longest."""
_MOST_UNJUDGED = 16
"""Most clips of a stream that are whole and wait for later windows."""


class ClipSaver(AudioTap):
    """Follows one stream and gives the clip of each event to a folder.

    A clip reaches from `pre_roll_s` before the onset to `post_roll_s` after the offset. It is shorter where audio was
    lost, where the stream began later, and where it would be longer than `longest_s`. It never spans a gap: it stays on
    the side of the onset. The folder gets it as soon as its last sample has arrived.

    The memory holds the newest seconds of the stream, 16 bits a sample, and up to `longest_s` of each event that lasts
    longer than that.
    """

    def __init__(
        self,
        folder: ClipFolder,
        stream: Stream,
        rate_hz: int,
        memory_s: float,
        pre_roll_s: float = 1.0,
        post_roll_s: float = 0.5,
        longest_s: float = 30.0,
        speech_s: float | None = None,
    ) -> None:
        """
        Args:
            rate_hz: the stream's rate.
            memory_s: longest time from an event's onset to its announcement, seconds: the window, and the time that the
                decision takes.
            pre_roll_s: audio before the onset, seconds.
            post_roll_s: audio after the offset, seconds.
            longest_s: longest clip, seconds.
            speech_s: length of the windows by which the model tells whether somebody speaks, seconds. Clips that are
                not wholly in windows without speech are left out; each waits until the last window that it is in was
                scored. None: all clips are saved.

        Raises:
            ValueError: a time is negative, or `longest_s` or the rate is 0.
        """
        if not (memory_s >= 0 and pre_roll_s >= 0 and post_roll_s >= 0 and longest_s > 0 and rate_hz > 0):
            raise ValueError(f"memory {memory_s}, pre-roll {pre_roll_s}, post-roll {post_roll_s}, longest {longest_s}")
        self._folder, self._stream, self._rate_hz = folder, stream, rate_hz
        self._levels = label_levels(stream.labels)
        self._before, self._after = round(pre_roll_s * rate_hz), round(post_roll_s * rate_hz)
        self._longest = max(1, round(longest_s * rate_hz))
        self._memory = max(round(memory_s * rate_hz) + self._before, self._longest)
        self.past = _Past(rate_hz)
        """The newest audio: no more than the longest clip needs."""
        judged_s = memory_s + pre_roll_s + longest_s + _JUDGE_SECONDS
        self._judge = None if speech_s is None else SpeechJudge(judged_s, speech_s)
        self._recordings: dict[str, _Recording] = {}
        """Event id -> recording, until the event has ended and its post-roll has arrived."""
        self._closed = False
        # At the end the daemon's thread calls `close`; the listener's thread may still call `heard`.
        self._lock = threading.Lock()

    def heard(self, block: Block) -> None:
        """Takes the stream's next block. Call this before `event` for the events of the block."""
        with self._lock:
            if self._closed:
                return
            if block.gap:
                for each in self._recordings.values():
                    each.limit = min(each.limit, self.past.end)
            self.past.add(block)
            self._save_complete()
            self.past.forget(self.past.end - block.samples.size - self._memory)

    def scored(self, scores: Scores) -> None:
        """Takes what was heard in a window, for clips without speech."""
        with self._lock:
            if self._judge is not None and not self._closed:
                begin_s = self.past.find(scores.time)[1] / self._rate_hz
                self._judge.scored(begin_s, begin_s + scores.duration_s, scores.speech)
                self._save_complete()

    def event(self, event: Event) -> None:
        """Begins or ends a recording. An end without a begin is cut out of the audio in memory."""
        with self._lock:
            if self._closed:
                self._folder.lose(f"{event.label} {event.id}: came after the stream's end")
                return
            recording = self._recordings.get(event.id)
            if recording is None:
                recording = self._recordings[event.id] = self._begin(event)
            if event.offset is not None:
                recording.message = event.to_json(self._stream, time.time())
                before, recording.end = recording.stop, self._offset_of(recording, event.offset) + self._after
                if recording.stop < before:  # speech may lie in what the clip lacks now
                    recording.is_wanted = None
            self._save_complete()

    def pause(self) -> None:
        """Does nothing: the first block after a pause has a gap before it."""

    def close(self) -> None:
        """Ends the stream: clips that wait for their post-roll are saved without it. All events must have ended."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for each in self._recordings.values():
                each.limit = min(each.limit, self.past.end)
            self._save_complete(is_over=True)
            for each in self._recordings.values():
                self._folder.lose(f"{each.event.label} {each.event.id}: never ended")
            self._recordings.clear()
            self.past = _Past(self._rate_hz)

    def _begin(self, event: Event) -> "_Recording":
        clock, onset = self.past.find(event.onset)
        first, last = self.past.stretch(onset)
        start = max(onset - self._before, first, self.past.start)
        limit = start + self._longest if last is None else min(start + self._longest, last)
        return _Recording(event, onset, start, limit, self.past.time(start, clock))

    def _offset_of(self, recording: "_Recording", offset: float) -> int:
        """Number of the sample at an event's offset. An event is dated by the clock that there was when it began: where
        that was set since then, its length tells.
        """
        if self.past.was_set(since=recording.onset):
            return recording.onset + round((offset - recording.event.onset) * self._rate_hz)
        return self.past.find(offset)[1]

    def _save_complete(self, is_over: bool = False) -> None:
        """Saves the clips whose event has ended, whose last sample has arrived, and that are known to be wanted.

        Args:
            is_over: whether there will be no more windows.
        """
        waiting = list[str]()
        for id_, each in list(self._recordings.items()):
            if each.samples is None and self.past.end >= each.stop:
                each.samples = self.past.read(each.start, each.stop)
            if each.samples is None:
                continue
            self._judge_speech(each, is_over)
            if each.message is not None and each.is_wanted is None:
                waiting.append(id_)
            elif each.message is not None:
                self._finish(id_)
        for id_ in waiting[:-_MOST_UNJUDGED]:  # no windows are scored any more
            self._finish(id_)

    def _judge_speech(self, recording: "_Recording", is_over: bool) -> None:
        """Finds out whether a whole clip is wanted, once all windows that it is in were scored: while these are
        remembered, although its event may last for hours.
        """
        if self._judge is None:
            recording.is_wanted = True
            return
        begin_s, end_s = recording.start / self._rate_hz, recording.stop / self._rate_hz
        if recording.is_wanted is None and (is_over or self._judge.is_settled(end_s)):
            recording.is_wanted = self._judge.is_without_speech(begin_s, end_s)

    def _finish(self, id_: str) -> None:
        """Saves a clip, or drops it, if it is not known to be without speech."""
        recording = self._recordings.pop(id_)
        assert recording.samples is not None
        assert recording.message is not None
        if recording.samples.size and not recording.is_wanted:
            why = "nobody knows whether somebody speaks" if recording.is_wanted is None else "somebody may be speaking"
            self._folder.leave_out(f"{recording.event.label} {id_}: {why}")
            return
        self._save(recording, recording.samples[: max(0, recording.stop - recording.start)], recording.message)

    def _save(self, recording: "_Recording", samples: Pcm, message: dict[str, Any]) -> None:
        event = recording.event
        if not samples.size:
            self._folder.lose(f"{event.label} {event.id}: none of its audio is held")
            return
        began = datetime.fromtimestamp(event.onset, UTC).strftime("%Y%m%dT%H%M%SZ")
        clip_offset = recording.time + samples.size / self._rate_hz
        spans = {"clip_onset": rfc3339(recording.time), "clip_offset": rfc3339(clip_offset)}
        label = self._levels.get(event.label) or slug(event.label)
        file = f"{label}/{began}_{slug(self._stream.source)}_{event.id}.flac"
        self._folder.put(EventClip(file, samples, self._rate_hz, message | spans))


@dataclass
class _Recording:
    """A clip in the making. Samples have the numbers of `_Past`."""

    event: Event
    """The event when it began."""
    onset: int
    """Number of the sample at the event's onset."""
    start: int
    """Number of the clip's first sample."""
    limit: int
    """Number of the first sample that is not in the clip, however long the event lasts."""
    time: float
    """Wall-clock time of the first sample, seconds since the epoch."""
    end: int | None = None
    """Number of the first sample after the post-roll; None until the event ends."""
    message: dict[str, Any] | None = None
    """The end event's JSON; None until the event ends."""
    samples: Pcm | None = None
    """The whole clip; while the event lasts, all that it can hold. None until its last sample has arrived."""
    is_wanted: bool | None = None
    """None until that is known."""

    @property
    def stop(self) -> int:
        """Number of the first sample that is not in the clip."""
        return self.limit if self.end is None else min(self.end, self.limit)


@dataclass(frozen=True)
class _Mark:
    """A sample whose wall-clock time is known; times of later samples count from it, up to the next mark."""

    number: int
    time: float
    gap: bool
    """Samples were lost before this one."""
    set_s: float = 0.0
    """How far the clock was set before this sample, though none was lost, seconds."""


class _Past:
    """The newest audio of a stream. Samples are numbered from 0; lost samples have no number."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._pieces: deque[Pcm] = deque()
        self.marks = [_Mark(0, 0.0, True)]
        """Samples in memory at which the clock was set."""
        self.start = 0
        """Number of the oldest sample in memory."""
        self.end = 0
        """Number of the next sample."""

    def add(self, block: Block) -> None:
        """Appends a block."""
        ahead_s = block.time - self.time(self.end)
        if block.gap or not self.end or abs(ahead_s) > _SAME_CLOCK_SECONDS:
            is_set = self.end and not block.gap and abs(ahead_s) > SET_SECONDS
            self.marks.append(_Mark(self.end, block.time, block.gap, ahead_s if is_set else 0.0))
        if block.samples.size:
            scaled = np.rint(block.samples * np.float32(32768))
            self._pieces.append(np.clip(scaled, -32768, 32767).astype(np.int16))
            self.end += block.samples.size

    def forget(self, before: int) -> None:
        """Drops the blocks that lie wholly before the sample of this number."""
        while self._pieces and self.start + self._pieces[0].size <= before:
            self.start += self._pieces.popleft().size
        while len(self.marks) > 1 and self.marks[1].number <= self.start:
            del self.marks[0]

    def find(self, time: float) -> tuple[_Mark, int]:
        """Number of the sample at a wall-clock time, seconds since the epoch, and the mark from which it was counted.

        For a lost sample: the number of the next one that was not lost. For a future one: a number that is not reached
        yet. A time that several samples had, as the clock was set back, is that of the last one; and one before the
        clock was set is dated by the clock as it is now.
        """
        at = len(self.marks) - 1
        while at and time < self.marks[at].time - _SAME_CLOCK_SECONDS and not self.marks[at].set_s:
            at -= 1
        mark = self.marks[at]
        number = mark.number + round((time - mark.time) * self._rate_hz)
        if mark.gap and at:
            number = max(number, mark.number)
        return mark, min([number, *(each.number for each in self.marks[at + 1 :])])

    def was_set(self, since: int) -> bool:
        """Whether the clock was set after the sample of this number."""
        return any(each.set_s and each.number > since for each in self.marks)

    def time(self, number: int, clock: _Mark | None = None) -> float:
        """Wall-clock time of a sample, seconds since the epoch.

        Args:
            clock: a later sample; by the clock as it was then.
        """
        mark = self.marks[max(0, bisect_right(self.marks, number, key=lambda mark: mark.number) - 1)]
        time = mark.time + (number - mark.number) / self._rate_hz
        until = 0 if clock is None else clock.number
        return time + sum(each.set_s for each in self.marks if number < each.number <= until)

    def stretch(self, number: int) -> tuple[int, int | None]:
        """The stretch without gaps that holds a sample: its first number, and the first after it (None: no gap yet).

        A sample before the oldest mark belongs to the oldest stretch.
        """
        gaps = [mark.number for mark in self.marks if mark.gap]
        after = bisect_right(gaps, max(number, self.marks[0].number))
        return gaps[after - 1] if after else 0, gaps[after] if after < len(gaps) else None

    def read(self, start: int, stop: int) -> Pcm:
        """A copy of the samples `start` to `stop` (excluded) that are in memory: [stop - start], or fewer."""
        first, parts = self.start, []
        for piece in self._pieces:
            parts.append(piece[max(0, start - first) : max(0, stop - first)])
            first += piece.size
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)
