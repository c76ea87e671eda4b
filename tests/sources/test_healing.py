"""One healing for all live sources: waits, hours of the day, zeros, and what is known of a source."""

import os
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tagger import retry
from tagger.condition import SourceError
from tagger.errors import SettingError, TaggerError
from tagger.events import Block
from tagger.sources import healing, open_source
from tagger.sources.healing import Healing
from tagger.sources.network.stamps import Stamps
from tagger.sources.schedule import Schedule
from tests.fakes import RATE_HZ, FakeSource
from tests.programs import LONG_S, until


def at(hour: int, minute: int = 0) -> float:
    return datetime(2026, 11, 27, hour, minute).timestamp()


def sound(seconds: float, level: float = 0.5) -> Block:
    samples = np.where(np.arange(round(seconds * RATE_HZ)) % 2, level, -level).astype(np.float32)
    return Block(samples, 100.0)


class Healed:
    """A source that heals, and how long it waited."""

    def __init__(
        self, source: FakeSource, schedule: str = "", hours: list[float] | None = None, gain: float = 1.0
    ) -> None:
        self.lost: list[str] = []
        self.waits: list[float] = []
        self.hours = hours or [at(12)]
        self.stopped = False
        self.healing = Healing(
            source,
            "fake",
            RATE_HZ,
            self.lost.append,
            self._wait,
            lambda: self.stopped,
            Schedule.parse(schedule) if schedule else Schedule(),
            gain,
            lambda: self.hours[0],
        )

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        time.sleep(min(seconds, 0.005))
        if len(self.hours) > 1:
            self.hours.pop(0)
        elif seconds > 1:
            self.stopped = True


def test_a_source_that_breaks_is_opened_again_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    source = FakeSource([sound(1), SourceError("refused", "camera: refused")], [sound(1)], live=True)
    healed = Healed(source)
    conditions = []
    for _ in healed.healing.blocks():
        conditions.append(healed.healing.condition)
    assert [each.state for each in conditions] == ["hearing", "hearing"]
    assert healed.lost == ["camera: refused"]
    assert healed.waits
    assert healed.healing.condition.state == "ended"


def test_waits_begin_with_the_shortest_again_only_when_sound_has_come_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(retry, "pause_s", lambda tries: asked.append(tries) or 0.001)
    gone = TaggerError("gone")
    plays = [[sound(1), gone], [gone], [sound(1), gone], [sound(healing.SETTLED_SECONDS), gone], [sound(1)]]
    list(Healed(FakeSource(*plays, live=True)).healing.blocks())
    assert asked == [0, 1, 2, 0]


def test_what_comes_after_a_break_does_not_follow_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    gone = SourceError("gone", "gone")
    source = FakeSource([gone], [sound(1), sound(1), gone], [gone], [sound(1), sound(1)], live=True)
    assert [each.gap for each in Healed(source).healing.blocks()] == [False, False, True, False]


def test_the_next_writer_of_a_fifo_does_not_go_on_with_what_the_last_one_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.01, 0.02))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = open_source(f"{fifo},rate=16000", RATE_HZ)
    healed = Healed(source)
    blocks: list[Block] = []
    reader = threading.Thread(target=lambda: blocks.extend(healed.healing.blocks()))
    reader.start()
    for ended in (1, 2):
        fifo.write_bytes(b"\x00\x20" * 8_000)
        until(lambda ended=ended: len(healed.lost) >= ended, "it is said that the writer has ended")
    healed.stopped = True
    source.close()
    reader.join(LONG_S)
    assert [each.gap for each in blocks].count(True) == 1
    at = next(number for number, each in enumerate(blocks) if each.gap)
    assert sum(len(each.samples) for each in blocks[:at]) == pytest.approx(RATE_HZ / 2, abs=RATE_HZ / 100)


def test_an_error_of_a_recording_is_no_reason_to_wait() -> None:
    healed = Healed(FakeSource([sound(1), TaggerError("damaged")]))
    with pytest.raises(TaggerError, match="damaged"):
        list(healed.healing.blocks())
    assert (healed.healing.condition.state, healed.healing.condition.reason) == ("ended", "failed")
    assert not healed.waits


def test_a_source_is_closed_outside_its_hours_and_opened_within_them() -> None:
    source = FakeSource([sound(1), sound(1), sound(1)], live=True)
    healed = Healed(source, "22:00-06:00", [at(21, 59), at(22), at(23)])
    blocks = healed.healing.blocks()
    next(blocks)
    assert "off by its schedule (22:00-06:00)" in healed.lost
    assert healed.healing.condition.state == "hearing"
    healed.hours = [at(6)]
    assert list(blocks) == []
    assert healed.lost == ["off by its schedule (22:00-06:00)"] * 2
    assert (healed.healing.condition.state, healed.healing.condition.reason) == ("off", "schedule")


def test_digital_zeros_and_a_constant_are_told_from_a_quiet_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "ZEROS_SECONDS", 0.0)
    monkeypatch.setattr(healing, "QUIET_SECONDS", 0.0)
    for block, state, reason in (
        (sound(1, 0.0), "silent", "zeros"),
        (Block(np.full(RATE_HZ, 0.01, np.float32), 1.0), "silent", "zeros"),
        (sound(1, 1e-4), "hearing", "quiet"),
        (sound(1, 0.1), "hearing", ""),
    ):
        healed = Healed(FakeSource([block], live=True))
        next(healed.healing.blocks())
        condition = healed.healing.condition
        assert (condition.state, condition.reason) == (state, reason)
        assert condition.last_audio_s is not None


def test_gain_is_applied_to_samples_and_not_to_what_is_known_of_them() -> None:
    healed = Healed(FakeSource([sound(1, 0.25)]), gain=2.0)
    (block,) = healed.healing.blocks()
    assert np.abs(block.samples).max() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "hours"),
    [("22:00-06:00", {22, 23, 0, 5}), ("6:00-8:00+17:00-18:00", {6, 7, 17}), ("00:00-24:00", set(range(24)))],
)
def test_hours_of_a_schedule(text: str, hours: set[int]) -> None:
    schedule = Schedule.parse(text)
    asked = {22, 23, 0, 5, 6, 7, 8, 12, 17, 18}
    assert {hour for hour in asked if schedule.is_active(at(hour))} == hours & asked


@pytest.mark.parametrize("text", ["", "22:00", "25:00-26:00", "6:00-6:00", "6-8", "24:30-25:00"])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(SettingError):
        Schedule.parse(text)


def test_time_stamps_tell_of_lost_sound_when_it_took_time_and_are_wrong_when_it_did_not() -> None:
    stamps = Stamps()
    assert stamps.follow(50.0, 1.0, 0.0) is None
    assert stamps.follow(51.0, 1.0, 1.0) is None
    assert stamps.follow(54.0, 1.0, 4.0) == pytest.approx(2.0)  # two seconds passed without sound
    assert stamps.trouble == ""
    assert stamps.follow(3655.0, 1.0, 5.0) == 0.0
    assert "jumped by +3600.0 s" in stamps.trouble
    for second in range(61):
        assert stamps.follow(3656.0 + second, 1.0, 6.0 + second) is None
    assert stamps.trouble == ""


def test_time_stamps_that_jump_all_the_time_are_believed_no_more() -> None:
    stamps = Stamps()
    found = [stamps.follow(second * 1.5, 1.0, float(second)) for second in range(30)]
    assert [each is not None for each in found].index(True) == 1
    assert found[6:] == [None] * 24
    assert "again and again" in stamps.trouble


def test_a_stream_without_time_stamps_has_no_trouble() -> None:
    stamps = Stamps()
    assert [stamps.follow(float("nan"), 1.0, float(second)) for second in range(5)] == [None] * 5
    assert stamps.trouble == ""


def test_time_stamps_are_believed_again_once_they_have_been_in_order_for_an_hour() -> None:
    """A camera may stay connected for years."""
    stamps = Stamps()
    for second in range(30):
        stamps.follow(second * 1.5, 1.0, float(second))
    assert not stamps.are_believed
    for second in range(30, 3_700):
        stamps.follow(1_000.0 + second, 1.0, float(second))
    assert stamps.are_believed
    assert stamps.follow(1_000.0 + 3_702, 1.0, 3_702.0) == pytest.approx(2.0)
    assert stamps.trouble == ""


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, 1.8e9])
def test_a_clock_that_is_set_makes_no_condition_older(set_s: float) -> None:
    healed = Healed(FakeSource([sound(1)]))
    for _ in healed.healing.blocks():
        assert healed.healing.condition.since == at(12)
        healed.hours[0] = at(12) + set_s
        assert healed.healing.condition.since == pytest.approx(at(12) + set_s, abs=LONG_S)
        assert healed.healing.condition.since <= at(12) + set_s
