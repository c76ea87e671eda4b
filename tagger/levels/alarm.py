"""Smoke and carbon monoxide alarms, recognised by the pattern in which they beep.

The temporal-three pattern of smoke alarms (ISO 8201, ANSI S3.41) is three pulses of 0.5 s with pauses of 0.5 s, then
1.5 s without; that of carbon monoxide alarms (NFPA 72, UL 2034) is four pulses of 0.1 s with pauses of 0.1 s, then 5 s
without. Both are a steady tone, of about 3 kHz or of 520 Hz. A group of pulses counts if each stands out of the pauses
beside it, in a band as narrow as the tone. An alarm is two groups of one frequency, as far apart as the pattern says,
and quiet between.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tagger.events import Event, Samples, new_id
from tagger.levels.bands import Frames
from tagger.policy import CO_ALARM, SMOKE_ALARM

_BANDS_HZ = ((440.0, 600.0), (2_300.0, 4_200.0))
"""Where alarms sound: sounders for sleepers, and piezo sounders."""
_AROUND_HZ = ((250.0, 1_000.0), (1_900.0, 4_800.0))
"""What each band is compared with."""
_TEMPOS = (0.9, 0.95, 1.0, 1.05, 1.1)
"""Lengths of the pattern as shares of the standard's, which allows 10 %."""
_PROMINENT_DB = 9.0
"""Distance of a tone from the mean level around it."""
_STEADY_DB = 4.0
"""Largest standard deviation of the level inside a pulse."""
_EVEN_DB = 8.0
"""Largest difference between the pulses of a group."""
_SAME_BINS = 2
"""Largest difference of the frequency of two groups."""
_SAME_TEMPO = 0.11
"""Largest difference of the tempo of two groups."""
_BETWEEN_DB, _BETWEEN_SHARE = 6.0, 0.1
"""Distance from the pulses above which a frame between two groups is not quiet; largest share of such frames."""
_SETTLED_SECONDS = 0.3
"""Time after which no better group is expected in the place of one."""
_MOST_PERIODS = 2.5
"""Periods without a group after which an alarm is over."""
_TOGETHER = 60
"""Frames that are looked at together: few cost as much as many."""
_MOST_CANDIDATES = 12
"""Most frequencies that are looked at more closely."""


@dataclass(frozen=True)
class _Pattern:
    """A group of pulses, and how often it comes. Times in seconds."""

    label: str
    pulses: int
    pulse_s: float
    """Length of a pulse, and of a pause between two."""
    quiet_s: float
    """Quiet before and after a group that is looked at."""
    guard_s: float
    """Time around each edge that is not looked at."""
    period_s: float
    """Time from one group to the next."""
    period_share: float
    """Greatest difference from it, as a share."""
    is_measured: bool
    """Whether a group is long enough to tell the tempo. Then the period has it, too, and each group the same."""
    gap_db: float
    """Least distance between a pulse and the pauses beside it."""
    quiet_db: float
    """Least distance between the pulses and the quiet around the group."""

    @property
    def group_s(self) -> float:
        return (2 * self.pulses - 1) * self.pulse_s

    @property
    def edges_s(self) -> list[tuple[float, float]]:
        """Begin and end of each stretch, before now: quiet, pulse, pause, pulse, ..., quiet."""
        at = -(2 * self.quiet_s + self.group_s)
        found = []
        for stretch in range(2 * self.pulses + 1):
            length = self.quiet_s if stretch in (0, 2 * self.pulses) else self.pulse_s
            found.append((at, at + length))
            at += length
        return found


_PATTERNS = (
    _Pattern(SMOKE_ALARM, 3, 0.5, 0.8, 0.075, 4.0, 0.1, is_measured=True, gap_db=6.0, quiet_db=8.0),
    _Pattern(CO_ALARM, 4, 0.1, 0.6, 0.03, 5.7, 0.13, is_measured=False, gap_db=5.0, quiet_db=10.0),
)


@dataclass(frozen=True)
class _Group:
    """A group of pulses that was heard. Times in seconds since the epoch."""

    onset: float
    offset: float
    found: float
    """When the quiet after it was over."""
    place: int
    """Number of its frequency."""
    level_db: float
    """Mean level of its pulses."""
    contrast_db: float
    """Distance of its pulses from the pauses."""
    tempo: float
    """Its length as a share of the standard's."""


@dataclass(frozen=True)
class _Past:
    """The newest frames."""

    level_db: Samples
    """[frames, frequencies]"""
    time: float
    """Of the last frame, seconds since the epoch."""
    step_s: float

    def between(self, begin: float, end: float, place: int) -> Samples:
        """Level of one frequency, or its neighbours, from and to a time."""
        last = len(self.level_db) - 1
        first, stop = (last - round((self.time - at) / self.step_s) for at in (begin, end))
        found: Samples = self.level_db[max(0, first) : max(0, stop), max(0, place - 1) : place + 2].max(1)
        return found


class _Follower:
    """Finds the groups of one pattern, and events where they repeat."""

    def __init__(self, pattern: _Pattern, step_s: float) -> None:
        self.pattern = pattern
        edges_s = np.array(pattern.edges_s) * np.array(_TEMPOS)[:, None, None]
        guards_s = np.array([pattern.guard_s, -pattern.guard_s])
        limits = np.rint((edges_s + guards_s) / step_s).astype(int)
        limits[..., 1] = np.maximum(limits[..., 1], limits[..., 0] + 1)
        self._limits, self._lengths = limits, np.diff(limits)[..., 0].astype(np.float64)
        """[tempos, stretches, 2], first frame of each stretch and that after its last, counted from now."""
        self._known_limits: dict[int, tuple[NDArray[np.int_], NDArray[np.float64]]] = {}
        self.frames = int(-limits.min()) + 1
        """Frames that a group with its quiet takes at most."""
        longest_s = _TEMPOS[-1] * (1 + pattern.period_share) * pattern.period_s
        self.remembered = round((longest_s + 1) / step_s) + self.frames
        """Frames that two groups take at most."""
        self.least_on = max(4, int(0.6 * pattern.pulses * pattern.pulse_s * _TEMPOS[0] / step_s))
        """Fewest frames in which a group's tone stands out."""
        self._best: _Group | None = None
        """The best group so far of those that overlap."""
        self._recent: list[_Group] = []
        """Groups of the last period and a half."""
        self._last: _Group | None = None
        """The newest group of the open event."""
        self._event: Event | None = None

    def heard(self, past: _Past, new: int, places: NDArray[np.int_]) -> list[Event]:
        """
        Args:
            new: number of frames that were not there at the last call.
            places: frequencies that may have a group.
        """
        found: list[Event] = []
        for group in self._groups(past, new, places) if places.size and len(past.level_db) >= self.frames + new else ():
            if self._best is not None and group.found - self._best.found > _SETTLED_SECONDS:
                found += self._take(self._best, past)
                self._best = None
            if self._best is None or group.contrast_db > self._best.contrast_db:
                self._best = group
        if self._best is not None and past.time - self._best.found > _SETTLED_SECONDS:
            found += self._take(self._best, past)
            self._best = None
        if self._last is not None and past.time - self._last.offset > _MOST_PERIODS * self.pattern.period_s:
            found += self.close()
        return found

    def close(self) -> list[Event]:
        """Ends the open event, and forgets all groups."""
        event, last = self._event, self._last
        self._event = self._last = self._best = None
        self._recent = []
        return [] if event is None or last is None else [replace(event, type="end", offset=last.offset)]

    def _groups(self, past: _Past, new: int, places: NDArray[np.int_]) -> list[_Group]:
        """The best group that ends with each new frame, where there is one."""
        length = self.frames + new
        level_db = past.level_db[-length:, places]
        sums = np.zeros((2, length + 1, places.size))
        np.cumsum(level_db, axis=0, dtype=np.float64, out=sums[0, 1:])
        limits, lengths = self._limits_of(new)
        last = limits[:, -3:]  # most of what is no group has no last pulse, between a pause and the quiet
        ends = (sums[0, last[..., 1]] - sums[0, last[..., 0]]) / lengths[:, -3:, None]
        stands_out = ends[:, 1] - np.maximum(ends[:, 0], ends[:, 2])
        rows, columns = np.nonzero(stands_out >= self.pattern.gap_db)
        if not rows.size:
            return []
        np.cumsum(np.square(level_db), axis=0, dtype=np.float64, out=sums[1, 1:])
        limits, columns = limits[rows], columns[:, None]
        means, squares = (sums[:, limits[..., 1], columns] - sums[:, limits[..., 0], columns]) / lengths[rows]
        pulses, pauses = means[:, 1::2], means[:, 0::2]  # [N, stretches]
        spread = np.sqrt(np.maximum(squares[:, 1::2] - np.square(pulses), 0)).max(1)
        inner = pulses - np.maximum(pauses[:, :-1], pauses[:, 1:])
        is_group = (
            (inner.min(1) >= self.pattern.gap_db)
            & (pulses.mean(1) - np.maximum(pauses[:, 0], pauses[:, -1]) >= self.pattern.quiet_db)
            & (spread <= _STEADY_DB)
            & (np.ptp(pulses, axis=1) <= _EVEN_DB)
        )
        contrast_db = np.where(is_group, inner.mean(1), -np.inf)
        indexes, tempos = np.divmod(rows, len(_TEMPOS))
        found = []
        for index in np.unique(indexes[is_group]):
            at = int(np.where(indexes == index, contrast_db, -np.inf).argmax())
            tempo, now = _TEMPOS[tempos[at]], past.time - past.step_s * (new - 1 - int(index))
            offset = now - self.pattern.quiet_s * tempo
            onset = offset - self.pattern.group_s * tempo
            level = float(pulses[at].mean())
            place = int(places[columns[at, 0]])
            found.append(_Group(onset, offset, now, place, level, float(contrast_db[at]), tempo))
        return found

    def _limits_of(self, new: int) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
        """[new * tempos, stretches, 2] and [new * tempos, stretches]: the stretches of a group that ends with each of
        `new` frames, as `_limits` and `_lengths`, but counted from the first frame that is looked at.
        """
        if new not in self._known_limits:  # nearly always as many as before
            limits = self.frames + np.arange(1, new + 1)[:, None, None, None] + self._limits
            found = limits.reshape(-1, *self._limits.shape[1:]), np.tile(self._lengths, (new, 1))
            self._known_limits = {new: found}
        return self._known_limits[new]

    def _take(self, group: _Group, past: _Past) -> list[Event]:
        """Takes a group that is over. Two that fit begin an event."""
        if self._event is not None and self._last is not None:
            if abs(group.place - self._last.place) <= _SAME_BINS:
                self._last = group
            return []
        self._recent = [each for each in self._recent if group.offset - each.offset < 1.5 * self.pattern.period_s]
        first = next((each for each in self._recent if self._repeats(each, group, past)), None)
        self._recent.append(group)
        if first is None:
            return []
        score = 1 - 10 ** (-min(group.contrast_db, first.contrast_db) / 10)
        id_ = new_id(group.found)
        self._event, self._last = Event("begin", id_, self.pattern.label, score, score, first.onset), group
        self._recent = []
        return [self._event]

    def _repeats(self, one: _Group, other: _Group, past: _Past) -> bool:
        """Whether two groups are of one alarm."""
        tempo = (one.tempo + other.tempo) / 2 if self.pattern.is_measured else 1.0
        period_s = other.offset - one.offset
        if (
            abs(one.place - other.place) > _SAME_BINS
            or abs(period_s / (tempo * self.pattern.period_s) - 1) > self.pattern.period_share
            or (abs(one.tempo - other.tempo) > _SAME_TEMPO and self.pattern.is_measured)
        ):
            return False
        guard_s = 2 * self.pattern.guard_s
        level_db = past.between(one.offset + guard_s, other.onset - guard_s, other.place)
        limit_db = min(one.level_db, other.level_db) - _BETWEEN_DB
        return level_db.size > 0 and float((level_db > limit_db).mean()) <= _BETWEEN_SHARE


class AlarmDetector:
    """Follows the spectra of one stream."""

    def __init__(self, frames: Frames) -> None:
        bins, hz = np.arange(len(frames.frequencies_hz)), frames.frequencies_hz
        self._parts = []
        """Of each band: places of the bins around it, and which of them are in it."""
        for (low, high), (around_low, around_high) in zip(_BANDS_HZ, _AROUND_HZ, strict=True):
            around = bins[(hz >= around_low) & (hz <= around_high)]
            inside = np.flatnonzero((hz[around] >= low) & (hz[around] <= high))
            self._parts.append((frames.at[around], slice(int(inside[0]), int(inside[-1]) + 1)))
        self._followers = [_Follower(pattern, frames.step_s) for pattern in _PATTERNS]
        self._step_s = frames.step_s
        columns = sum(inside.stop - inside.start for _, inside in self._parts)
        self._level_db, self._is_tone = np.zeros((0, columns), np.float32), np.zeros((0, columns), np.float32)
        """[frames, frequencies], the newest."""
        self._waiting: list[Samples] = []
        """Spectra that were not looked at yet."""

    def heard(self, powers: Samples, time: float) -> list[Event]:
        """
        Args:
            powers: of `Frames`, the newest.
            time: of the middle of the last frame, seconds since the epoch.

        Returns:
            Begins and ends of alarms. They are found within two seconds.
        """
        if not len(powers):
            return []
        self._waiting.append(powers)
        waits = sum(map(len, self._waiting))
        if waits < _TOGETHER:
            return []
        powers, found = np.concatenate(self._waiting), []
        for last in range(_TOGETHER, waits + 1, _TOGETHER):
            found += self._look(powers[last - _TOGETHER : last], time - self._step_s * (waits - last))
        self._waiting = [powers[waits - waits % _TOGETHER :].copy()] if waits % _TOGETHER else []
        return found

    def _look(self, powers: Samples, time: float) -> list[Event]:
        """
        Args:
            powers: of `_TOGETHER` frames.
            time: of the middle of the last of them.
        """
        tones = [self._tones(powers[:, order], inside) for order, inside in self._parts]
        levels, are_tones = zip(*tones, strict=True)
        self._level_db = np.concatenate([self._level_db, np.concatenate(levels, 1)])
        self._is_tone = np.concatenate([self._is_tone, np.concatenate(are_tones, 1)])
        past, found = _Past(self._level_db, time, self._step_s), []
        for follower in self._followers:
            newest = self._is_tone[-(follower.frames + _TOGETHER) :]
            count = np.ones(len(newest), np.float32) @ newest
            near = count.copy()  # a tone between two bins is now in the one, now in the other
            near[1:] += count[:-1]
            near[:-1] += count[1:]
            places = np.flatnonzero(near >= follower.least_on)
            places = places[np.argsort(-near[places], kind="stable")[:_MOST_CANDIDATES]]
            found += follower.heard(past, _TOGETHER, places)
        kept = max(each.remembered for each in self._followers)
        self._level_db, self._is_tone = self._level_db[-kept:], self._is_tone[-kept:]
        return found

    def close(self) -> list[Event]:
        """Ends open events: the stream is over, or interrupted."""
        self._level_db, self._is_tone, self._waiting = self._level_db[:0], self._is_tone[:0], []
        return [event for follower in self._followers for event in follower.close()]

    @staticmethod
    def _tones(around: Samples, inside: slice) -> tuple[Samples, Samples]:
        """[frames, inside]: level of each frequency with its neighbours, dB; and 1 where a tone is."""
        wide = around.copy()
        wide[:, 1:] += around[:, :-1]
        wide[:, :-1] += around[:, 1:]
        level_db = 10 * np.log10(wide + np.float32(1e-9))
        prominence = level_db[:, inside] - level_db.mean(1, keepdims=True)
        beside = slice(inside.start - 1, inside.stop - 1), slice(inside.start + 1, inside.stop + 1)
        neighbours = np.maximum(around[:, beside[0]], around[:, beside[1]])
        is_tone = (prominence >= _PROMINENT_DB) & (around[:, inside] >= neighbours)
        return level_db[:, inside], is_tone.astype(np.float32)
