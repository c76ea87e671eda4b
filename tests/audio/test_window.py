from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.audio.window import SlidingWindows
from tagger.events import Block, Window

RATE = 100
EPOCH = 1_000_000.0


@st.composite
def geometry(draw: st.DrawFn) -> tuple[int, int]:
    window = draw(st.integers(1, 40))
    return window, draw(st.integers(1, window))


chunkings = st.lists(st.integers(0, 60), max_size=12)


def ramp(count: int, start: int = 1) -> np.ndarray:
    """Samples 1, 2, 3 ..., so that only padding is zero."""
    return np.arange(start, start + count, dtype=np.float32)


def blocks(samples: np.ndarray, sizes: Sequence[int], time: float = EPOCH) -> list[Block]:
    cuts = np.cumsum(sizes, dtype=int)
    parts = np.split(samples, np.minimum(cuts, len(samples)))
    starts = np.cumsum([0, *(len(part) for part in parts)])
    return [Block(part, time + start / RATE) for part, start in zip(parts, starts, strict=False)]


def run(sliding: SlidingWindows, stream: Sequence[Block]) -> list[Window]:
    return [window for block in stream for window in sliding.feed(block)] + list(sliding.flush())


@given(geometry(), st.integers(0, 200), chunkings)
def test_any_chunking_gives_the_same_windows(shape, count, sizes):
    samples = ramp(count)
    whole = run(SlidingWindows(*shape, RATE), [Block(samples, EPOCH)])
    cut = run(SlidingWindows(*shape, RATE), blocks(samples, sizes))
    assert len(cut) == len(whole)
    for ours, theirs in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(ours.samples, theirs.samples)
        assert (ours.start, ours.valid) == (theirs.start, theirs.valid)
        assert ours.time == pytest.approx(theirs.time, abs=1e-6)


@given(geometry(), st.integers(0, 200), chunkings)
def test_number_place_and_content(shape, count, sizes):
    window, hop = shape
    sliding = SlidingWindows(window, hop, RATE)
    whole = [each for block in blocks(ramp(count), sizes) for each in sliding.feed(block)]
    assert len(whole) == max(0, (count - window) // hop + 1)
    for number, each in enumerate(whole):
        assert each.start == number * hop
        assert each.valid == window == len(each.samples)
        assert each.time == pytest.approx(EPOCH + each.start / RATE, abs=1e-6)
        np.testing.assert_array_equal(each.samples, ramp(window, 1 + each.start))
    for one, next_one in pairwise(whole):
        common = np.intersect1d(one.samples, next_one.samples)
        assert len(common) == window - hop


@given(geometry(), st.integers(0, 200), chunkings)
def test_with_the_flush_every_sample_is_covered_and_nothing_is_invented(shape, count, sizes):
    windows = run(SlidingWindows(*shape, RATE), blocks(ramp(count), sizes))
    covered = np.unique(np.concatenate([each.samples[: each.valid] for each in windows] or [ramp(0)]))
    np.testing.assert_array_equal(covered, ramp(count))
    for each in windows:
        assert not each.samples[each.valid :].any()
    if len(windows) > 1:  # the last window was needed: it holds samples that no other one does
        assert windows[-1].samples.max() > windows[-2].samples.max()


@given(geometry(), st.lists(st.integers(1, 90), min_size=2, max_size=5), chunkings)
def test_a_gap_never_joins_both_sides(shape, lengths, sizes):
    window, hop = shape
    sliding, given_windows = SlidingWindows(window, hop, RATE), []
    for number, length in enumerate(lengths):
        # Each stretch is constant and has its own level; the clock moves on by 10 s in each gap.
        stretch = blocks(np.full(length, number + 1, np.float32), sizes, EPOCH + 10 * number)
        filled = [block for block in stretch if block.samples.size]
        filled[0] = Block(filled[0].samples, filled[0].time, gap=number > 0)
        given_windows += [each for block in filled for each in sliding.feed(block)]
    given_windows += sliding.flush()
    lost = np.cumsum([0, *lengths])
    for each in given_windows:
        levels = set(each.samples[: each.valid].tolist())
        assert len(levels) == 1
        number = int(levels.pop()) - 1
        assert lost[number] <= each.start
        assert each.start + each.valid <= lost[number + 1]
        assert each.time == pytest.approx(EPOCH + 10 * number + (each.start - lost[number]) / RATE, abs=1e-6)


def test_a_gap_in_an_empty_block_counts():
    sliding = SlidingWindows(4, 2, RATE)
    assert not list(sliding.feed(Block(ramp(3), EPOCH)))
    assert not list(sliding.feed(Block(ramp(0), EPOCH + 9, gap=True)))
    (window,) = sliding.feed(Block(ramp(4, 50), EPOCH + 9))
    np.testing.assert_array_equal(window.samples, ramp(4, 50))
    assert window.start == 3


def test_the_next_window_follows_a_corrected_clock():
    sliding = SlidingWindows(4, 2, RATE)
    list(sliding.feed(Block(ramp(4), EPOCH)))
    (window,) = sliding.feed(Block(ramp(2), EPOCH + 60))
    # Its last two samples are those of the corrected block, so its first is two samples earlier.
    assert window.time == pytest.approx(EPOCH + 60 - 2 / RATE, abs=1e-6)
    (window,) = sliding.feed(Block(ramp(2), EPOCH + 60 + 2 / RATE))
    assert window.time == pytest.approx(EPOCH + 60, abs=1e-6)


def test_times_are_right_to_a_microsecond_in_a_long_block():
    today, count = 1_800_000_000.0, 1000
    windows = list(SlidingWindows(1, 1, RATE).feed(Block(ramp(count), today)))
    assert windows[-1].time == pytest.approx(today + (count - 1) / RATE, abs=1e-6)


def test_windows_do_not_share_memory():
    first, second = SlidingWindows(4, 2, RATE).feed(Block(ramp(6), EPOCH))
    first.samples[:] = 0
    np.testing.assert_array_equal(second.samples, ramp(4, 3))


def test_a_second_flush_gives_nothing():
    sliding = SlidingWindows(4, 2, RATE)
    list(sliding.feed(Block(ramp(3), EPOCH)))
    assert len(list(sliding.flush())) == 1
    assert not list(sliding.flush())


@pytest.mark.parametrize(("window", "hop"), [(4, 5), (4, 0), (4, -1), (0, 0)])
def test_a_hop_that_does_not_fit_is_refused(window, hop):
    with pytest.raises(ValueError, match="does not fit"):
        SlidingWindows(window, hop, RATE)


@given(geometry(), st.integers(0, 200), chunkings, st.integers(1, 9), st.integers(0, 200))
def test_windows_that_lie_in_one_array_are_the_same_and_stay_so(shape, count, sizes, together, gap_at):
    """Also those from before a gap, while what follows is cut."""
    stream = blocks(ramp(count), sizes)
    stream += [Block(ramp(gap_at, 1000), EPOCH + 60, gap=True), *blocks(ramp(90, 2000), sizes, EPOCH + 90)]
    expected = [(each.samples.copy(), each.start, each.valid, each.time) for each in run_one_by_one(shape, stream)]
    found = run(SlidingWindows(*shape, RATE, together=together), stream)
    assert len(found) == len(expected)
    for window, (samples, *others) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(window.samples, samples)
        assert [window.start, window.valid, window.time] == others


def run_one_by_one(shape: tuple[int, int], stream: Sequence[Block]) -> list[Window]:
    """Each window copied when it is given."""
    sliding = SlidingWindows(*shape, RATE)
    cut = (window for block in stream for window in sliding.feed(block))
    return [replace(each, samples=each.samples.copy()) for each in cut] + list(sliding.flush())


def test_neighbours_share_their_samples() -> None:
    found = run(SlidingWindows(4, 2, RATE, together=3), [Block(ramp(12), EPOCH)])
    bases = [each.samples.base for each in found]
    assert bases[0] is bases[1] is bases[2]
    assert bases[3] is not bases[0]
