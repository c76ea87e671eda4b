"""Old things are deleted; a clock that jumps makes nothing old."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import retention
from tagger.retention import Retention

DAY = 86_400.0
START = 1_800_000_000.0


class Clock:
    """The wall clock and the monotonic clock, which only passes time on."""

    def __init__(self) -> None:
        self.wall, self.mono = START, 5_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retention, "time", made)
    return made


def left(times: list[float], retention: Retention) -> list[float]:
    old = retention.old(sorted(times).copy)
    return [each for each in times if not any(start <= each < end for start, end in old)]


class Things:
    """A thing an hour; those that are old are deleted."""

    def __init__(self, clock: Clock, days: float, keep_days: float = 7.0) -> None:
        self.clock = clock
        self.times = [clock.wall - 3600 * each for each in range(int(24 * days), 0, -1)]
        self.restart(keep_days)

    def restart(self, keep_days: float = 7.0) -> None:
        self.retention = Retention(keep_days * DAY, "events")

    def tidy(self) -> int:
        """Number of those deleted."""
        before = len(self.times)
        self.times = left(self.times, self.retention)
        return before - len(self.times)

    def live(self, hours: int) -> int:
        deleted = 0
        for _ in range(hours):
            self.clock.sleep(3600)
            self.times.append(self.clock.wall)
            deleted += self.tidy()
        return deleted


def test_what_is_old_is_deleted_at_the_start_and_as_time_passes(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    things = Things(clock, days=10)
    assert things.tidy() == 72
    assert things.live(48) == 48
    assert not caplog.records


@pytest.mark.parametrize("days_kept", [3, 10])
@pytest.mark.parametrize("jump_days", [5, 20, 4000, 1e7])
def test_a_clock_that_jumps_ahead_deletes_no_more_than_the_time_that_passed(
    clock: Clock, caplog: pytest.LogCaptureFixture, days_kept: float, jump_days: float
) -> None:
    things = Things(clock, days_kept)
    things.tidy()
    before = set(things.times)
    clock.wall += jump_days * DAY
    assert things.tidy() == 0
    assert things.live(24) <= 25
    assert len(before & set(things.times)) >= len(before) - 25
    assert caplog.text.count("that would be deleted are kept") <= 2, "once a day"
    if days_kept == 10 or jump_days > 7:
        assert "more than can be explained: events that would be deleted are kept: " in caplog.text
    clock.wall -= jump_days * DAY
    things.live(1)
    assert len(before & set(things.times)) >= len(before) - 26


@pytest.mark.parametrize("boots", [1, 3])
def test_a_clock_that_is_wrong_at_the_start_deletes_nothing_at_once(clock: Clock, boots: int) -> None:
    """Also when something was kept under the wrong time before."""
    things = Things(clock, days=6)
    before = set(things.times)
    clock.wall += 4000 * DAY
    for _ in range(boots):
        things.restart()
        things.tidy()
        things.live(3)
    assert before <= set(things.times)


def test_after_a_long_time_off_things_go_as_time_passes(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    things = Things(clock, days=6)
    clock.wall += 30 * DAY
    things.restart()
    assert things.tidy() == 0
    assert "events that would be deleted are kept: 144" in caplog.text
    things.live(24 * 8)
    assert min(things.times) > START, "all of the old ones are gone"


def test_a_clock_that_was_not_set_at_the_start_is_no_obstacle(clock: Clock) -> None:
    """As on a computer without a battery, until it has asked the network for the time."""
    things = Things(clock, days=10)
    clock.wall = 3.0
    things.restart()
    assert things.tidy() == 0
    clock.sleep(20)
    clock.wall = START + 20
    assert things.tidy() == 73


@pytest.mark.parametrize("strange", [[3.0, 60.0], [START - 400 * DAY], [3.0, START - 400 * DAY, START - 200 * DAY]])
def test_a_few_things_of_long_ago_do_not_end_the_deletion(
    clock: Clock, caplog: pytest.LogCaptureFixture, strange: list[float]
) -> None:
    """An unset clock dated them 1970, or they are of an old recording."""
    things = Things(clock, days=10)
    things.times = strange + things.times
    assert things.tidy() == 72
    assert f"events that would be deleted are kept: {len(strange)}, from " in caplog.text
    assert things.live(24) == 24
    things.restart()
    assert things.live(24) == 24
    assert strange == things.times[: len(strange)]
    things.live(24 * 7)
    assert min(things.times) >= clock.wall - 7 * DAY, "the strange ones have gone, too"


def test_things_that_are_rare_go_in_their_time(clock: Clock) -> None:
    """One a month, kept for a week: each is far from the next."""
    things = Things(clock, days=0)
    things.times = [START - 30 * DAY * each for each in range(12, 0, -1)] + [START]
    things.tidy()
    things.live(24 * 8)
    assert min(things.times) >= clock.wall - 7 * DAY


def test_a_clock_that_is_set_back_deletes_less(clock: Clock) -> None:
    things = Things(clock, days=10)
    clock.wall -= 2 * DAY
    assert things.tidy() == 24


@given(steps=st.lists(st.tuples(st.sampled_from(["sleep", "jump", "new"]), st.floats(-3000, 3000)), max_size=40))
def test_never_more_goes_than_time_has_passed(steps: list[tuple[str, float]]) -> None:
    """Of things whose times are right, none goes before its time, within one process."""
    clock = Clock()
    keep, true_now = 7 * DAY, START
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "time", clock)
        made = Retention(keep, "events")
        times: list[float] = []
        for what, value in steps:
            if what == "sleep":
                clock.sleep(abs(value) * 60)
                true_now += abs(value) * 60
            elif what == "jump" and times:
                clock.wall += value * DAY
            elif what == "new" and clock.wall == pytest.approx(true_now):
                times.append(true_now)
            kept = left(times, made)
            gone = set(times) - set(kept)
            assert all(true_now - each >= keep - 1 for each in gone), (steps, gone)
            times = kept
