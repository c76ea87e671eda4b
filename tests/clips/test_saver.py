import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.clips import folder as clip_folder
from tagger.clips.folder import EVENTS, REVIEWED, ClipFolder, EventClip
from tagger.clips.saver import ClipSaver
from tagger.errors import UserError
from tagger.events import Block, Event, Samples, Scores, Stream
from tagger.times import rfc3339
from tests.programs import until

RATE = 1000
EPOCH = 1_800_000_000.0
STREAM = Stream("attic", "mic", "fake", ("Dog bark", "siren"))


def ramp(start: int, stop: int) -> Samples:
    """Samples whose values are their numbers, exact in 16 bits."""
    return (np.arange(start, stop) / 32768).astype(np.float32)


def begin(id_: str, onset: float, label: str = "siren") -> Event:
    return Event("begin", id_, label, 0.8, 0.8, EPOCH + onset)


def end(id_: str, onset: float, offset: float, label: str = "siren") -> Event:
    return replace(begin(id_, onset, label), type="end", offset=EPOCH + offset, peak_score=0.9)


def saver(folder: ClipFolder, **others: float) -> ClipSaver:
    return ClipSaver(folder, STREAM, RATE, **({"memory_s": 5.0} | others))


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / EVENTS).read_text().splitlines()]


def clips(root: Path) -> dict[str, list[int]]:
    """Event id -> samples of its clip, as the numbers of a ramp."""
    found = {}
    for line in lines(root) if (root / EVENTS).exists() else []:
        samples, rate_hz = soundfile.read(root / line["file"], dtype="int16")
        assert rate_hz == RATE
        found[line["id"]] = samples.tolist()
    assert len(found) == len(list(root.glob("*/*")))
    return found


def run(
    root: Path, stream: Sequence[Block], events: Sequence[tuple[float, Event]], **others: float
) -> dict[str, list[int]]:
    """Passes each event to the saver after the block that completes this many seconds of audio."""
    folder, told, heard = ClipFolder(root), 0, 0
    one = saver(folder, **others)
    for block in stream:
        one.heard(block)
        heard += block.samples.size
        while told < len(events) and heard >= round(events[told][0] * RATE):
            one.event(events[told][1])
            told += 1
    for _, event in events[told:]:
        one.event(event)
    one.close()
    folder.close(10)
    assert folder.lost == 0
    return clips(root)


def blocks(count: int, sizes: Sequence[int]) -> list[Block]:
    cuts = [0, *np.minimum(np.cumsum(sizes, dtype=int), count).tolist(), count]
    return [Block(ramp(one, other), EPOCH + one / RATE) for one, other in pairwise(cuts)]


def test_the_clip_holds_exactly_the_samples_asked(tmp_path):
    found = run(tmp_path, blocks(20_000, [100] * 200), [(5, begin("A", 4)), (8, end("A", 4, 7))])
    assert found == {"A": list(range(3000, 7500))}


def test_the_file_and_its_line(tmp_path):
    run(tmp_path, blocks(20_000, [100] * 200), [(5, begin("A1", 4, "Dog bark")), (8, end("A1", 4, 7, "Dog bark"))])
    (line,) = lines(tmp_path)
    assert line["file"] == "dog_bark/20270115T080004Z_mic_A1.flac"
    assert (line["id"], line["type"], line["label"], line["peak_score"]) == ("A1", "end", "Dog bark", 0.9)
    assert (line["onset"], line["duration_s"]) == (rfc3339(EPOCH + 4), 3)
    assert (line["clip_onset"], line["clip_offset"]) == (rfc3339(EPOCH + 3), rfc3339(EPOCH + 7.5))
    info = soundfile.info(tmp_path / line["file"])
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE, 1)
    assert not list(tmp_path.rglob("*.partial"))


def test_full_scale_does_not_wrap(tmp_path):
    loud = Block(np.array([1.0, -1.0, 1.5, -1.5] * 1000, np.float32), EPOCH)
    (samples,) = run(tmp_path, [loud], [(4, end("A", 1, 2))]).values()
    assert set(samples) == {32767, -32768}


@st.composite
def events(draw: st.DrawFn) -> list[tuple[float, Event]]:
    """Sounds of any onset and length, each announced up to 3 s after its onset, ended up to 3 s after its offset."""
    told = []
    for number in range(draw(st.integers(1, 4))):
        onset = draw(st.integers(0, 25_000)) / RATE
        offset = onset + draw(st.integers(1, 12_000)) / RATE
        announced = onset + draw(st.integers(0, 3_000)) / RATE
        ended = max(offset, announced) + draw(st.integers(0, 3_000)) / RATE
        told += [(announced, begin(f"E{number}", onset)), (ended, end(f"E{number}", onset, offset))]
    return sorted(told, key=lambda pair: (pair[0], pair[1].type))


@settings(max_examples=30)
@given(events(), st.lists(st.integers(0, 4_000), max_size=30))
def test_any_cutting_gives_the_same_clips(tmp_path_factory, told, sizes):
    others = {"longest_s": 8.0}
    cut = run(tmp_path_factory.mktemp("cut"), blocks(30_000, sizes), told, **others)
    fine = run(tmp_path_factory.mktemp("fine"), blocks(30_000, [50] * 600), told, **others)
    assert cut == fine
    for _, event in told:
        if event.offset is not None:
            start = max(0, round((event.onset - EPOCH) * RATE) - 1000)
            stop = min(30_000, start + 8000, round((event.offset - EPOCH) * RATE) + 500)
            assert cut[event.id] == list(range(start, stop))


def test_two_events_at_once_have_their_own_audio(tmp_path):
    told = [
        *((5, begin("A", 4)), (6, begin("B", 5.5, "Dog bark"))),
        *((7, end("B", 5.5, 6, "Dog bark")), (9, end("A", 4, 8))),
    ]
    found = run(tmp_path, blocks(20_000, [100] * 200), told)
    assert found == {"A": list(range(3000, 8500)), "B": list(range(4500, 6500))}


def test_a_clip_is_there_as_soon_as_its_post_roll_was_heard(tmp_path):
    folder = ClipFolder(tmp_path)
    one = saver(folder)
    one.heard(Block(ramp(0, 6000), EPOCH))
    one.event(end("A", 4, 6))
    one.heard(Block(ramp(6000, 6499), EPOCH + 6))
    time.sleep(0.1)
    assert clips(tmp_path) == {}
    one.heard(Block(ramp(6499, 6500), EPOCH + 6.499))
    until(lambda: folder.saved == 1, "it is saved")
    assert clips(tmp_path) == {"A": list(range(3000, 6500))}
    folder.close(10)


@pytest.mark.parametrize("size", [100, 1000, 7777, 60_000])
def test_a_sound_longer_than_the_memory_keeps_its_begin(tmp_path, size):
    """Block sizes do not divide the memory's size: the saver learns of the begin one block late at most."""
    folder = ClipFolder(tmp_path)
    one = saver(folder, memory_s=2.0, longest_s=20.0)
    for start in range(0, 60_000, size):
        one.heard(Block(ramp(start % 30_000, start % 30_000 + min(size, 60_000 - start)), EPOCH + start / RATE))
        if start <= 4000 < start + size:
            one.event(begin("A", 4))
    one.event(end("A", 4, 58))
    one.close()
    folder.close(10)
    assert clips(tmp_path)["A"][:1000] == list(range(3000, 4000))
    assert len(clips(tmp_path)["A"]) == 20_000


def test_memory_is_bounded(tmp_path):
    folder = ClipFolder(tmp_path)
    one = saver(folder, longest_s=10.0)
    for start in range(0, 1_000_000, 1000):
        one.heard(Block(ramp(0, 1000), EPOCH + start / RATE))
        if not start:
            one.event(begin("A", 0))
    assert one.past.end - one.past.start <= 11_000
    assert len(one.past.marks) == 1
    one.event(end("A", 0, 999))
    one.close()
    folder.close(10)
    assert len(clips(tmp_path)["A"]) == 10_000


def test_times_that_gather_rounding_errors(tmp_path):
    """Times drift as a microphone's do: an hour of rounded additions."""
    folder, now, onset = ClipFolder(tmp_path), EPOCH, 0.0
    one = saver(folder)
    for number in range(72_000):
        one.heard(Block(ramp(number % 600 * 50, number % 600 * 50 + 50), now))
        onset = now if number == 71_960 else onset
        now += 50 / RATE
    one.event(end("A", onset - EPOCH, onset - EPOCH + 1))
    one.close()
    folder.close(10)
    assert np.abs(np.array(clips(tmp_path)["A"][:2500]) - np.arange(27_000, 29_500)).max() <= 1


def with_gap(lost_s: float = 10) -> list[Block]:
    """Samples 0 to 5999, then a gap of `lost_s` seconds, then samples from 6000 on."""
    later = EPOCH + lost_s
    return [
        Block(ramp(0, 6000), EPOCH),
        *(Block(ramp(n, n + 500), later + n / RATE, gap=n == 6000) for n in range(6000, 12_000, 500)),
    ]


@pytest.mark.parametrize(
    ("told", "samples"),
    [
        ([(6, begin("A", 4)), (6, end("A", 4, 5))], range(3000, 5500)),  # all before
        ([(6, begin("A", 4)), (6, end("A", 4, 5.8))], range(3000, 6000)),  # the post-roll is cut
        ([(6, begin("A", 4)), (9, end("A", 4, 18))], range(3000, 6000)),  # lasts across: the onset's side
        ([(6.5, begin("A", 4)), (9, end("A", 4, 18))], range(3000, 6000)),  # the same, announced after the gap
        ([(9, begin("A", 16.2)), (9, end("A", 16.2, 18))], range(6000, 8500)),  # the pre-roll is cut
        ([(9, begin("A", 8)), (9, end("A", 8, 18))], range(6000, 8500)),  # an onset in what was lost
    ],
)
def test_a_gap_is_never_joined(tmp_path, told, samples):
    assert run(tmp_path, with_gap(), told) == {"A": list(samples)}


def test_a_gap_of_an_empty_block_counts(tmp_path):
    stream = [*blocks(6000, []), Block(ramp(0, 0), EPOCH + 6, gap=True), Block(ramp(6000, 9000), EPOCH + 6)]
    assert run(tmp_path, stream, [(6, begin("A", 4)), (9, end("A", 4, 7))]) == {"A": list(range(3000, 6000))}


def test_a_corrected_clock_is_no_gap(tmp_path):
    stream = [Block(ramp(0, 6000), EPOCH), Block(ramp(6000, 12_000), EPOCH + 6.3)]
    assert run(tmp_path, stream, [(6, begin("A", 4)), (12, end("A", 4, 8.3))]) == {"A": list(range(3000, 8500))}


def test_nothing_is_written_when_nothing_sounds(tmp_path):
    assert run(tmp_path / "clips", blocks(20_000, [100] * 200), []) == {}
    assert [path.name for path in (tmp_path / "clips").iterdir()] == [".lock"]


def test_what_is_not_held_is_counted(tmp_path, caplog):
    folder = ClipFolder(tmp_path)
    one = saver(folder, longest_s=2.0, memory_s=1.0)
    for block in blocks(20_000, [100] * 200):
        one.heard(block)
    one.event(begin("B", 19))
    one.event(end("A", 2, 3))
    one.close()
    one.event(end("C", 19, 20))
    folder.put(EventClip("a/b.flac", np.zeros(5, np.int16), RATE, {}))
    folder.close(10)
    folder.put(EventClip("a/b.flac", np.zeros(5, np.int16), RATE, {}))
    assert folder.lost == 4
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3, "1st, 2nd and 4th"
    assert "none of its audio is held (clips lost so far: 1)" in caplog.text
    assert "never ended" in caplog.text


def judged(
    root: Path, *windows: tuple[float, float | None], close: bool = True, speech_s: float = 5.0, set_s: float = 0.0
) -> tuple[list[str], int]:
    """Plays 20 s with an event from 5 s to 6 s, and windows of 5 s that end when they say, each with its speech.

    Args:
        set_s: how far the clock is set at 9 s.

    Returns:
        Ids of the clips that were saved, and number of those left out.
    """
    folder = ClipFolder(root)
    one = saver(folder, pre_roll_s=1.0, speech_s=speech_s)
    told = [(6.5, begin("a", 5.0)), (8.5, end("a", 5.0, 6.0))]
    for second in range(20):
        now = EPOCH + second + (set_s if second >= 9 else 0.0)
        one.heard(Block(ramp(second * RATE, (second + 1) * RATE), now))
        for at, speech in windows:
            if at == second + 1:
                empty = np.zeros((1, 1), np.float32)
                one.scored(Scores(empty[0], at - 5, at, now + 1 - 5, empty, 1.0, speech=speech))
        for at, event in told:
            if second < at <= second + 1:
                one.event(event)
    if close:
        one.close()
    folder.close(10)
    return list(clips(root)), folder.left_out


EVERY_SECOND = tuple((float(at), 0.01) for at in range(5, 21))


def test_without_speech_a_clip_is_saved_if_no_window_it_is_in_has_any(tmp_path):
    assert judged(tmp_path / "a", *EVERY_SECOND) == (["a"], 0)
    for at in (5.0, 8.0, 11.0):
        others = tuple(each for each in EVERY_SECOND if each[0] != at)
        assert judged(tmp_path / f"b{at}", *others, (at, 0.2)) == ([], 1), at
    for at in (12.0, 19.0):
        others = tuple(each for each in EVERY_SECOND if each[0] != at)
        assert judged(tmp_path / f"c{at}", *others, (at, 0.9)) == (["a"], 0), at


@pytest.mark.parametrize("set_s", [3600.0, -3600.0, -3.0, 4.0])
def test_without_speech_a_clock_that_is_set_changes_nothing(tmp_path, set_s):
    """Windows before and after may be of the same time, or of times between which there were none."""
    assert judged(tmp_path / "a", *EVERY_SECOND, set_s=set_s) == (["a"], 0)
    for at in (5.0, 8.0, 10.0, 11.0, 12.0, 15.0):
        others = tuple(each for each in EVERY_SECOND if each[0] != at)
        found = judged(tmp_path / f"b{at}", *others, (at, 0.9), set_s=set_s)
        assert found == (([], 1) if at < 12 else (["a"], 0)), at
    assert judged(tmp_path / "c", *EVERY_SECOND[:2], *EVERY_SECOND[10:], set_s=set_s) == ([], 1), "not all was heard"


def test_without_speech_what_no_window_tells_of_is_not_saved(tmp_path):
    assert judged(tmp_path / "a") == ([], 1)
    assert judged(tmp_path / "b", *((at, None) for at, _ in EVERY_SECOND)) == ([], 1)
    assert judged(tmp_path / "c", *EVERY_SECOND[3:]) == (["a"], 0)
    assert judged(tmp_path / "d", *EVERY_SECOND[5:]) == ([], 1)
    assert judged(tmp_path / "e", *EVERY_SECOND[:3]) == (["a"], 0)
    assert judged(tmp_path / "f", *EVERY_SECOND[:2]) == ([], 1)


def test_without_speech_a_clip_waits_for_the_last_window_it_is_in(tmp_path):
    until_10 = tuple(each for each in EVERY_SECOND if each[0] <= 10)
    assert judged(tmp_path / "a", *until_10, close=False) == ([], 0)


def test_without_speech_what_a_shorter_window_did_not_hear_is_not_saved(tmp_path):
    assert judged(tmp_path / "a", *EVERY_SECOND, speech_s=1.0) == (["a"], 0)
    assert judged(tmp_path / "b", *EVERY_SECOND[:1], *EVERY_SECOND[2:], speech_s=1.0) == ([], 1)
    assert judged(tmp_path / "c", *EVERY_SECOND[:1], *EVERY_SECOND[2:], speech_s=2.0) == (["a"], 0)


def long_event(root: Path, hears: Callable[[int], float], ends: float, told_at: int) -> tuple[list[str], int]:
    """Plays an event that begins at 5 s, with windows of 5 s each second; clips have at most 10 s.

    Args:
        hears: speech in the window that ends at a second.
        ends: when the event ends, seconds.
        told_at: second at which that is known.
    """
    folder = ClipFolder(root)
    one = saver(folder, pre_roll_s=1.0, speech_s=5.0, longest_s=10.0)
    for second in range(1, told_at + 1):
        one.heard(Block(ramp(second * 10, second * 10 + RATE), EPOCH + second - 1))
        if second >= 5:
            empty = np.zeros((1, 1), np.float32)
            one.scored(Scores(empty[0], second - 5, second, EPOCH + second - 5, empty, 1.0, speech=hears(second)))
        if second == 6:
            one.event(begin("a", 5.0))
    one.event(end("a", 5.0, ends))
    for each in range(6):
        one.heard(Block(ramp(0, RATE), EPOCH + told_at + each))
    folder.close(10)
    return list(clips(root)), folder.left_out


def test_without_speech_the_clip_of_a_long_event_is_judged_while_its_windows_are_remembered(tmp_path):
    assert long_event(tmp_path / "a", lambda at: 0.0, 500.0, 502) == (["a"], 0)
    assert long_event(tmp_path / "b", lambda at: 0.0 if at > 12 else 0.5, 500.0, 502) == ([], 1)
    assert long_event(tmp_path / "c", lambda at: 0.0 if at < 100 else 0.5, 500.0, 502) == (["a"], 0)


def test_without_speech_what_sounds_after_a_shorter_clip_does_not_count(tmp_path):
    assert long_event(tmp_path / "a", lambda at: 0.5 if at >= 16 else 0.0, 10.0, 22) == (["a"], 0)
    assert long_event(tmp_path / "b", lambda at: 0.5 if at >= 16 else 0.0, 13.0, 22) == ([], 1)


def test_settings_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="longest 0"):
        saver(ClipFolder(tmp_path), longest_s=0)


def clip(number: int, label: str = "siren", seconds: float = 1.0) -> EventClip:
    rng = np.random.default_rng(number)
    noise = rng.integers(-3000, 3000, round(seconds * RATE), np.int16)
    return EventClip(f"{label}/20270115T080004Z_mic_{number}.flac", noise, RATE, {"id": str(number), "label": label})


def saved(root: Path, *made: EventClip, **limits: float) -> ClipFolder:
    """A folder that has written these clips and is closed."""
    folder = ClipFolder(root, **limits)
    for each in made:
        folder.put(each)
    folder.close(10)
    return folder


def age(root: Path, number: int, days: float) -> Path:
    (path,) = root.glob(f"*/*_{number}.flac")
    then = time.time() - 86_400 * days
    os.utime(path, (then, then))
    return path


def numbers(root: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("_")[2]) for path in root.glob("*/*.flac"))


def test_old_clips_are_deleted_at_the_start(tmp_path):
    saved(tmp_path, *map(clip, range(4)))
    age(tmp_path, 1, 8)
    age(tmp_path, 2, 6)
    saved(tmp_path)
    assert numbers(tmp_path) == [0, 1, 2, 3], "no limits, nothing is deleted"
    saved(tmp_path, keep_days=7)
    assert numbers(tmp_path) == [0, 2, 3]
    assert [line["id"] for line in lines(tmp_path)] == ["0", "2", "3"], "its line goes, too"


def test_a_clock_that_is_years_ahead_empties_no_folder(tmp_path, monkeypatch, caplog):
    saved(tmp_path, *map(clip, range(4)))
    for number in range(4):
        age(tmp_path, number, number)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400 * 4000)
    saved(tmp_path, clip(4), keep_days=7)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    assert f"clips in {tmp_path} that would be deleted are kept: 4" in caplog.text


def test_the_oldest_are_deleted_until_the_rest_fits(tmp_path):
    saved(tmp_path, *map(clip, range(5)))
    for number, days in enumerate((3, 5, 1, 4, 2)):
        size = age(tmp_path, number, days).stat().st_size
    saved(tmp_path, clip(5), keep_mb=3.5 * size / 1e6)
    assert numbers(tmp_path) == [2, 4, 5]


def test_reviewed_clips_and_the_files_of_others_stay(tmp_path):
    saved(tmp_path, *map(clip, range(4)))
    for number in range(4):
        path = age(tmp_path, number, 100)
    (tmp_path / REVIEWED).write_text(f"filename,label\n{clip(1).file},siren\n{clip(2).file},background\n")
    others = [path.with_name("mine.flac"), tmp_path / "notes.txt", path.parent / "deep" / clip(9).file]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
        os.utime(other, (0, 0))
    left = path.with_name(f"{path.name}x1_y2.partial")
    left.write_bytes(b"what a crash left")
    os.utime(left, (0, 0))
    saved(tmp_path, keep_days=1, keep_mb=0)
    assert sorted(path.name for path in tmp_path.glob("*/*.flac")) == sorted(
        [*(Path(clip(number).file).name for number in (1, 2)), "mine.flac"]
    )
    assert all(other.exists() for other in others)
    assert not left.exists()


def test_with_a_damaged_table_of_reviews_nothing_is_deleted(tmp_path, caplog):
    saved(tmp_path, clip(0))
    age(tmp_path, 0, 100)
    (tmp_path / REVIEWED).write_text('filename,label\n"a,b\n')
    folder = saved(tmp_path, clip(1), keep_days=1)
    assert numbers(tmp_path) == [0, 1]
    assert (folder.saved, folder.lost) == (1, 0)
    assert "nothing could be deleted" in caplog.text


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog):
    full = threading.Event()
    real = Path.write_bytes

    def write_bytes(self: Path, data: Any) -> int:
        if full.is_set():
            real(self, bytes(data)[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    folder = ClipFolder(tmp_path)
    full.set()
    for number in range(10):
        folder.put(clip(number))
    until(lambda: folder.lost == 10, "none could be saved")
    full.clear()
    folder.put(clip(10))
    folder.close(10)
    assert numbers(tmp_path) == [10]
    assert [line["id"] for line in lines(tmp_path)] == ["10"]
    assert not list(tmp_path.rglob("*.partial"))
    said = [record.message for record in caplog.records]
    assert len(said) == 4
    assert "No space left on device (clips lost so far: 8)" in said[-1]


def test_a_table_that_cannot_be_written_leaves_no_clip_without_a_line(tmp_path, monkeypatch):
    folder = ClipFolder(tmp_path)
    (tmp_path / EVENTS).mkdir()
    folder.put(clip(0))
    folder.close(10)
    assert (folder.saved, folder.lost) == (0, 1)
    assert numbers(tmp_path) == []


def test_half_a_line_of_a_crash_damages_no_other(tmp_path):
    saved(tmp_path, clip(0))
    whole = (tmp_path / EVENTS).read_bytes()
    (tmp_path / EVENTS).write_bytes(whole + whole[:20])
    saved(tmp_path, clip(1))
    first, half, last = (tmp_path / EVENTS).read_bytes().splitlines()
    assert (first, half) == (whole.strip(), whole[:20])
    assert json.loads(last)["id"] == "1"
    saved(tmp_path, keep_mb=0)
    assert (tmp_path / EVENTS).read_bytes().splitlines() == [half], "what cannot be read is not ours to delete"


def test_a_slow_disk_makes_nobody_wait(tmp_path, monkeypatch):
    go, real = threading.Event(), clip_folder.soundfile.write
    monkeypatch.setattr(clip_folder.soundfile, "write", lambda *args, **more: (go.wait(90), real(*args, **more)))
    folder = ClipFolder(tmp_path)
    for number in range(40):
        folder.put(clip(number))
    folder.close(0.1)
    assert folder.saved == 0, "nobody waited for the disk"
    go.set()
    until(lambda: folder.saved + folder.lost == 40, "the one in hand is written")
    assert folder.saved == len(numbers(tmp_path)) == 1


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="clips cannot be saved here"):
        ClipFolder(tmp_path / "file")
    with pytest.raises(UserError, match="clips cannot be saved here"):
        ClipFolder(tmp_path / "file" / "below")


def test_several_writers_of_one_folder(tmp_path):
    folders = [ClipFolder(tmp_path, keep_mb=1000) for _ in range(3)]
    for number in range(30):
        folders[number % 3].put(clip(number, f"label{number % 4}"))
    for folder in folders:
        folder.close(20)
    assert numbers(tmp_path) == list(range(30))
    assert sorted(int(line["id"]) for line in lines(tmp_path)) == list(range(30))
