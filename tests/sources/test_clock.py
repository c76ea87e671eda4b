"""Times of live streams: a pipe, its writer and both clocks are simulated, so nothing waits."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tagger.events import Block
from tagger.sources.clock import Arrival, LiveClock, WallClock, Workload

RATE_HZ = 1_000
EPOCH = 1_700_000_000.0
Sent = list[tuple[float, float]]
"""What the writer sends: when, seconds; and how much sound, seconds."""


@dataclass
class Heard:
    """A block, and the true moment at which its reader got it."""

    block: Block
    now: float
    """On the wall clock, seconds since the epoch."""

    @property
    def ahead_s(self) -> float:
        """Seconds from now to the end of the block: positive is in the future."""
        return self.block.time + len(self.block.samples) / RATE_HZ - self.now


class Simulation:
    """A reader of a pipe. It reads up to a second of sound at once, as 64 kB hold."""

    def __init__(self, sent: Sent, wall: Callable[[float], float], busy_s: float, starts_s: float) -> None:
        self.sent, self.wall, self.busy_s, self.now = list(sent), wall, busy_s, starts_s
        self.told_at: list[float] = []
        """When the clock told that the stream's times are in the future, seconds."""

    def arrivals(self) -> Iterator[Arrival]:
        position = 0
        while self.sent:
            waited = self.sent[0][0] > self.now
            self.now = max(self.now, self.sent[0][0])
            count = 0
            while self.sent and self.sent[0][0] <= self.now and count < RATE_HZ:
                at, seconds = self.sent.pop(0)
                taken = min(round(seconds * RATE_HZ), RATE_HZ - count)
                if rest := round(seconds * RATE_HZ) - taken:
                    self.sent.insert(0, (at, rest / RATE_HZ))
                count += taken
            start, position = position, position + count
            values = np.arange(start, position, dtype=np.float32)
            yield Arrival(values, start / RATE_HZ, position / RATE_HZ, self.now, self.wall(self.now), waited)

    def has_more(self, within_s: float) -> bool:
        if not self.sent:  # the end of the stream
            return True
        self.now = max(self.now, min(self.sent[0][0], self.now + within_s))
        return self.sent[0][0] <= self.now

    def heard(self, is_live: bool | None = None, tells_losses: bool = False) -> list[Heard]:
        found = []
        clock = LiveClock(
            "pipe",
            RATE_HZ,
            is_live,
            on_ahead=lambda: self.told_at.append(self.now),
            tells_losses=lambda: tells_losses,
        )
        for block in clock.blocks(self.arrivals(), self.has_more):
            found.append(Heard(block, self.wall(self.now)))
            self.now += self.busy_s * len(block.samples) / RATE_HZ
        return found


def hear(
    sent: Sent,
    wall: Callable[[float], float] = lambda now: EPOCH + now,
    busy_s: float = 0.0,
    starts_s: float = 0.0,
    is_live: bool | None = None,
    tells_losses: bool = False,
) -> list[Heard]:
    """
    Args:
        wall: the wall clock, of the seconds on the steady one.
        busy_s: time that the reader takes for a second of sound, seconds.
        starts_s: when the reader begins to read.
        is_live: None: a pipe; True: a microphone.
        tells_losses: whether it has time stamps of its own, by which nothing was lost.
    """
    return Simulation(sent, wall, busy_s, starts_s).heard(is_live, tells_losses)


def live(begin_s: float, end_s: float, piece_s: float = 0.1, pace: float = 1.0) -> Sent:
    """Sound that is sent as it is recorded, from one time to another."""
    step_s = piece_s / pace
    return [(begin_s + (number + 1) * step_s, piece_s) for number in range(round((end_s - begin_s) / step_s))]


def gaps(heard: list[Heard]) -> list[Block]:
    return [each.block for each in heard if each.block.gap]


def moments(heard: list[Heard]) -> dict[int, float]:
    """Number of each block's first sample -> its time, seconds after EPOCH."""
    return {round(float(each.block.samples[0])): each.block.time - EPOCH for each in heard}


def is_whole(heard: list[Heard]) -> bool:
    """Whether every sample was given once, in order."""
    samples = np.concatenate([each.block.samples for each in heard])
    return bool((samples == np.arange(len(samples))).all())


def caught_up(heard: list[Heard], since_s: float = 0.0) -> list[float]:
    """How far the newest sample is in the future, whenever everything that had been sent was read, seconds."""
    last = [each for each, after in itertools.pairwise(heard) if after.now > each.now]
    return [each.ahead_s for each in last if each.now >= EPOCH + since_s]


@pytest.mark.parametrize("is_live", [None, True])
@pytest.mark.parametrize("piece_s", [0.05, 0.5])
@pytest.mark.parametrize(
    ("pace", "lag_s"), [(1.0, 0.0), (1.01, 0.0), (0.99, 0.22), (1.2, 0.0), (0.8, 0.45), (1.00005, 0.0), (0.99995, 0.01)]
)
def test_a_recorder_that_is_fast_or_slow_stays_at_the_wall_clock(
    pace: float, lag_s: float, piece_s: float, is_live: bool | None
) -> None:
    heard = hear(live(0, 60, piece_s, pace), is_live=is_live)
    assert is_whole(heard)
    assert gaps(heard) == []
    ahead_s = caught_up(heard, since_s=2.0 + 2 * piece_s)
    unevenness_s = abs(pace - 1) * piece_s  # one piece has to come before its pace is known
    assert max(ahead_s) <= unevenness_s + 1e-3
    assert min(ahead_s) >= -lag_s - 2 * unevenness_s - 1e-3


@pytest.mark.parametrize("is_live", [None, True])
@pytest.mark.parametrize("piece_s", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("away_s", [1.0, 15.0, 3_600.0])
def test_a_stall_that_lost_sound_is_one_gap(away_s: float, piece_s: float, is_live: bool | None) -> None:
    heard = hear(live(0, 10, piece_s) + live(10 + away_s, 30 + away_s, piece_s), is_live=is_live)
    assert is_whole(heard)
    (gap,) = gaps(heard)
    assert gap.samples[0] == 10 * RATE_HZ, "the first block that came after it"
    assert gap.time - EPOCH == pytest.approx(10 + away_s, abs=0.05)
    assert max(each.ahead_s for each in heard) <= 1e-3


@pytest.mark.parametrize("piece_s", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("pace", [1e9, 20.0, 4.0])
@pytest.mark.parametrize("away_s", [1.0, 3.0, 20.0])
def test_a_stall_whose_sound_comes_later_is_none(away_s: float, pace: float, piece_s: float) -> None:
    """Times count the samples through it."""
    sent: Sent = []
    for due_s, seconds in live(0, 40 + away_s, piece_s):
        earliest_s = max(10 + away_s, sent[-1][0] + piece_s / pace) if due_s > 10 else due_s
        sent.append((max(due_s, earliest_s), seconds))
    heard = hear(sent)
    assert is_whole(heard)
    assert gaps(heard) == []
    assert moments(heard) == pytest.approx({number: number / RATE_HZ for number in moments(heard)}, abs=1e-3)


@pytest.mark.parametrize("late_s", [0.8, 2.5])
@pytest.mark.parametrize("is_live", [None, True])
def test_what_is_late_for_some_seconds_is_not_lost_where_time_stamps_say_so(
    late_s: float, is_live: bool | None
) -> None:
    """What sounds between 10 and 11 s is late, as on a busy machine; then the delay shrinks, slowly."""
    sent = []
    for due_s, seconds in live(0, 60):
        delay_s = late_s if due_s > 10 else 0.0
        sent.append((due_s + max(0.0, min(delay_s, late_s - (due_s - 11) / 1.25)), seconds))
    assert gaps(hear(sent, is_live=is_live)), "of a stream without time stamps, nobody knows"
    heard = hear(sent, is_live=is_live, tells_losses=True)
    assert is_whole(heard)
    assert gaps(heard) == []
    assert moments(heard) == pytest.approx({number: number / RATE_HZ for number in moments(heard)}, abs=1e-3)


@pytest.mark.parametrize("away_s", [0.8, 3.0])
def test_time_stamps_are_believed_for_some_seconds_when_all_sound_is_late(away_s: float) -> None:
    """The sender was away, and its time stamps count samples."""
    heard = hear(live(0, 10) + live(10 + away_s, 40 + away_s), tells_losses=True)
    (gap,) = gaps(heard)
    assert 14 <= gap.samples[0] / RATE_HZ <= 17
    assert gap.time - EPOCH == pytest.approx(gap.samples[0] / RATE_HZ + away_s, abs=0.05)
    assert max(each.ahead_s for each in heard) <= 1e-3


def test_what_is_kept_of_a_stall_is_dated_by_its_end() -> None:
    """20 s away; the recorder kept the last 6 s."""
    heard = hear([*live(0, 10), (30.0, 6.0), *live(30, 50)])
    (gap,) = gaps(heard)
    assert gap.samples[0] == 10 * RATE_HZ
    assert gap.time - EPOCH == pytest.approx(24, abs=0.05)
    assert max(each.ahead_s for each in heard) <= 1e-3


@pytest.mark.parametrize("piece_s", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("began_s", [0.3, 5.0])
def test_a_stall_soon_after_the_start_is_a_gap_too(began_s: float, piece_s: float) -> None:
    """The recorder was 14 s ahead when the reader began, and lost the next 15 s."""
    sent = [(0.0, 14.0), *live(0, began_s, piece_s), *live(began_s + 15, began_s + 25, piece_s)]
    (gap,) = gaps(hear(sent, starts_s=0.1))
    assert gap.samples[0] / RATE_HZ == pytest.approx(14 + began_s, abs=piece_s)


@pytest.mark.parametrize("loads_s", [1.0, 5.0, 17.0])
def test_a_stall_and_its_backlog_soon_after_the_start_are_no_future(loads_s: float) -> None:
    """The writer was held up while the model was loaded; then it is away for 20 s, and sends all at once."""
    sent = [(0.1 * number, 0.1) for number in range(80)] + [(loads_s + 20.0, 0.1)] * round(10 * (loads_s + 12))
    heard = hear(sent + live(loads_s + 20, loads_s + 30), starts_s=loads_s)
    assert gaps(heard) == []
    assert max(each.ahead_s for each in heard) <= 0.25
    assert max(caught_up(heard)) <= 1e-3


def test_a_loss_behind_a_long_backlog_is_a_gap_too() -> None:
    heard = hear([*live(0, 10), (110.0, 50.0), *live(110, 130)])
    assert len(gaps(heard)) == 1
    after = [each for each in heard if each.now > EPOCH + 115]
    assert [each.ahead_s for each in after] == pytest.approx([0.0] * len(after), abs=0.05)


def test_many_stalls_are_many_gaps(caplog: pytest.LogCaptureFixture) -> None:
    sent = [piece for number in range(20) for piece in live(number * 10, number * 10 + 7)]
    heard = hear(sent)
    assert [round(gap.time - EPOCH) for gap in gaps(heard)] == [10 * number for number in range(1, 20)]
    assert len(caplog.messages) == 5  # the 1st, 2nd, 4th, 8th and 16th
    assert caplog.messages[0] == "pipe: 3.0 s of sound did not come; a gap (1 so far)"


@pytest.mark.parametrize("set_s", [-3_600.0, -5.0, -0.5, 0.5, 5.0, 3_600.0, 86_400.0 * 4_000])
def test_a_clock_that_is_set_is_followed(set_s: float) -> None:
    heard = hear(live(0, 30), lambda now: EPOCH + now + (set_s if now >= 15 else 0.0))
    assert is_whole(heard)
    assert gaps(heard) == []
    after = [each for each in heard if each.now > EPOCH + set_s + 15.3 and each.block.samples[0] > 15.3 * RATE_HZ]
    assert [each.ahead_s for each in after] == pytest.approx([0.0] * len(after), abs=0.06)


def test_jitter_moves_no_times() -> None:
    """Pieces are up to 0.2 s late, as over a network."""
    late_s = np.random.default_rng(0).uniform(0, 0.2, 600)
    came_s = np.maximum.accumulate(0.1 * np.arange(1, 601) + late_s)
    heard = hear([(float(came), 0.1) for came in came_s])
    assert gaps(heard) == []
    settled = [each.block.time - EPOCH - each.block.samples[0] / RATE_HZ for each in heard[100:]]
    assert max(settled) - min(settled) < 0.03
    assert 0 <= settled[0] < 0.03
    assert max(each.ahead_s for each in heard[100:]) <= 1e-3


@pytest.mark.parametrize("loads_s", [0.5, 5.0, 14.0, 25.0])
def test_what_was_recorded_while_the_model_was_loaded_is_not_in_the_future(loads_s: float) -> None:
    heard = hear(live(0, 60), starts_s=loads_s)
    assert gaps(heard) == []
    assert max(each.ahead_s for each in heard) <= 1e-3
    assert moments(heard)[0] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("pace", [1e9, 100.0, 10.0, 4.0])
@pytest.mark.parametrize("seconds", [3.0, 300.0])
@pytest.mark.parametrize("busy_s", [0.0, 0.02])
def test_a_recording_at_full_speed_is_left_alone(pace: float, seconds: float, busy_s: float) -> None:
    heard = hear(live(0, seconds / pace, 0.1, pace), busy_s=busy_s)
    assert is_whole(heard)
    assert gaps(heard) == []
    times = [each.block.time - each.block.samples[0] / RATE_HZ for each in heard]
    assert times == pytest.approx([times[0]] * len(times), abs=1e-5)
    assert -0.6 - (seconds if seconds < 30 else 0.0) <= times[0] - EPOCH <= 1


def test_a_hiccup_does_not_make_a_recording_live() -> None:
    fast = live(0, 2, 0.1, 100) + live(4, 5, 0.1, 100) + live(14, 20, 0.1, 100)
    heard = hear(fast)
    assert gaps(heard) == []
    times = [each.block.time - each.block.samples[0] / RATE_HZ for each in heard]
    assert times == pytest.approx([times[0]] * len(times), abs=1e-5)


def test_a_microphone_that_lost_an_unknown_time_is_dated_by_its_arrival() -> None:
    def arrivals() -> Iterator[Arrival]:
        for number in range(20):
            now = 0.1 * (number + 1) + (7.0 if number >= 10 else 0.0)
            samples = np.zeros(100, np.float32)
            lost = number == 10
            yield Arrival(samples, 0.1 * number, 0.1 * (number + 1), now, EPOCH + now, True, lost, lost)

    blocks = list(LiveClock("mic", RATE_HZ, is_live=True).blocks(arrivals(), lambda within_s: False))
    assert [number for number, block in enumerate(blocks) if block.gap] == [10]
    assert [block.time - EPOCH for block in blocks] == pytest.approx(
        [0.1 * number + (7.0 if number >= 10 else 0.0) for number in range(20)], abs=1e-5
    )


def test_samples_that_wait_in_a_resampler_are_not_late() -> None:
    arrivals = [
        Arrival(np.zeros(0, np.float32), 0.0, 0.1, 0.1, EPOCH + 0.1, True),
        Arrival(np.zeros(150, np.float32), 0.0, 0.2, 0.2, EPOCH + 0.2, True),
    ]
    (block,) = LiveClock("pipe", RATE_HZ).blocks(arrivals, lambda within_s: False)
    assert block.time - EPOCH == pytest.approx(0)


def test_one_reading_of_the_wall_clock_that_was_late_changes_nothing() -> None:
    clock = WallClock()
    for now, wall in [(1.0, 101.0), (2.0, 102.2), (3.0, 103.0)]:
        clock.read(now, wall)
        assert clock.time(now) == pytest.approx(100 + now)


class TestWorkload:
    """By how much a reader is behind because of its own work."""

    def follow(self, busy_s: list[float], length_s: float = 0.1) -> list[float]:
        """What it says before the next block, for a reader that is busy for these times."""
        now = [0.0]
        workload = Workload(RATE_HZ, lambda: now[0])
        block = Block(np.zeros(round(length_s * RATE_HZ), np.float32), EPOCH)
        said = []
        for _, busy in zip(workload.follow([block] * len(busy_s)), busy_s, strict=True):
            now[0] += busy
            said.append(workload.behind_s())
        return said

    def test_a_reader_that_is_quick_enough_is_never_behind(self) -> None:
        assert self.follow([0.08] * 50) == pytest.approx([0.08] * 50)

    def test_a_reader_that_is_too_slow_falls_behind(self) -> None:
        assert self.follow([0.12] * 5) == pytest.approx([0.12, 0.14, 0.16, 0.18, 0.20])

    def test_it_makes_up_for_it(self) -> None:
        assert self.follow([0.5, 0.0, 0.0, 0.0, 0.0, 0.0]) == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])

    def test_long_blocks_are_cut(self) -> None:
        """A burst of a second, in which each tenth takes 0.05 s, makes nobody late."""
        workload, block = Workload(RATE_HZ), Block(np.arange(1_050, dtype=np.float32), EPOCH, gap=True)
        pieces = list(workload.follow([block]))
        assert [len(piece.samples) for piece in pieces] == [100] * 10 + [50]
        assert [piece.gap for piece in pieces] == [True] + [False] * 10
        assert [piece.time - EPOCH for piece in pieces] == pytest.approx([0.1 * number for number in range(11)])
        assert math.isclose(float(pieces[3].samples[0]), 300)


def told(sent: Sent, busy_s: float = 0.0, starts_s: float = 0.0, is_live: bool | None = None) -> list[float]:
    """When it was told that the times of a stream are in the future, seconds."""
    simulation = Simulation(sent, lambda now: EPOCH + now, busy_s, starts_s)
    simulation.heard(is_live)
    return simulation.told_at


@pytest.mark.parametrize("busy_s", [0.0, 0.2])
@pytest.mark.parametrize("pace", [4.0, 100.0])
def test_a_stream_that_is_faster_than_a_live_one_is_told_once_as_soon_as_it_is_ahead(
    pace: float, busy_s: float
) -> None:
    (at,) = told(live(0, 10, pace=pace), busy_s)
    assert at < 3
    assert len(told([(0.0, 60.0)], busy_s)) == 1
    assert len(told([(0.0, 1.0), (0.0, 0.5)], busy_s)) == 1  # it ends before it is that far ahead


@pytest.mark.parametrize("is_live", [None, True])
@pytest.mark.parametrize(
    ("sent", "starts_s"),
    [
        (live(0, 30), 0.0),
        (live(0, 1), 0.0),
        (live(0, 30, pace=1.2), 0.0),
        (live(0, 30, pace=2.0), 0.0),
        (live(0, 30), 5.0),
        ([(1.5, 0.1), (1.6, 1.5), *live(1.6, 20)], 0.0),
        ([*live(0, 10), (15.0, 5.0), *live(15, 20)], 0.0),
    ],
    ids=["even", "short", "fast", "twice", "backlog", "late", "stall"],
)
def test_a_live_stream_is_not_told_to_be_ahead(sent: Sent, starts_s: float, is_live: bool | None) -> None:
    assert told(sent, starts_s=starts_s, is_live=is_live) == []
