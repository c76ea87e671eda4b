import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.fit.batches import Batch, Batches
from train.recipe import Recipe

RATE = 2_000
SAMPLES = 800
LABELS = 3
LABELLED = np.arange(10)
BACKGROUND = np.arange(10, 13)
ROWS = np.concatenate([LABELLED, BACKGROUND])
OTHERS = 2
"""Rows of the data set that are not trained on, at its end."""

TARGETS = np.zeros((len(ROWS) + OTHERS, LABELS), np.float32)
TARGETS[LABELLED, LABELLED % LABELS] = 1
TARGETS[len(ROWS) :, 0] = 1

UNTOUCHED = Recipe(batch=4, gain_db=0, roll=0, placed=0, nothing=0, background=0, mix_waveforms=0)
"""Windows are the clips as they are."""
ALL = Recipe(batch=4, gain_db=10, roll=0.5, placed=0.4, nothing=0.5, background=0.5, mix_waveforms=0.5)
"""Every kind of augmentation occurs."""

recipes = st.sampled_from([ALL, replace(ALL, crop_seconds=0.2), UNTOUCHED, Recipe(batch=5)])
seeds = st.integers(0, 1000)


class Clips:
    """A ramp in each clip, whose level tells the row."""

    def __len__(self) -> int:
        return len(TARGETS)

    def __getitem__(self, row: int) -> np.ndarray:
        return np.linspace(0.5, 1, SAMPLES, dtype=np.float32) * np.float32((row + 1) / 20)


def batches(
    recipe: Recipe = ALL, seed: int = 0, rank: int = 0, ranks: int = 1, rows: np.ndarray = ROWS, clips: object = None
) -> Batches:
    return Batches(clips or Clips(), TARGETS, rows, recipe, RATE, seed, rank, ranks)


def whole(epoch: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    waveforms, targets = zip(*epoch, strict=True)
    return np.concatenate(waveforms), np.concatenate(targets)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


def rows_of(waveforms: np.ndarray) -> np.ndarray:
    """Row numbers of unchanged windows, read from their last sample."""
    return np.rint(20 * waveforms[:, -1]).astype(int) - 1


# Every draw follows from seed, epoch and position


@settings(max_examples=15)
@given(recipes, seeds, st.integers(0, 50), st.integers(0, 6))
def test_an_epoch_may_begin_anywhere(recipe, seed, number, first):
    from_the_start = list(batches(recipe, seed).epoch(number))
    assert same(list(batches(recipe, seed).epoch(number, first)), from_the_start[first:])


@settings(max_examples=15)
@given(recipes, seeds, st.integers(0, 50), st.integers(1, 4))
def test_the_parts_of_all_processes_are_the_whole(recipe, seed, number, ranks):
    alone = list(batches(recipe, seed).epoch(number))
    parts = [list(batches(recipe, seed, rank, ranks).epoch(number)) for rank in range(ranks)]
    for step, (waveforms, targets) in enumerate(alone):
        for rank in range(ranks):
            heard, truth = parts[rank][step]
            np.testing.assert_array_equal(heard, waveforms[rank::ranks])
            np.testing.assert_array_equal(truth, targets[rank::ranks])


def test_each_process_may_ask_for_the_whole():
    assert same(list(batches(rank=1, ranks=3).epoch(2, whole=True)), list(batches().epoch(2)))


def test_what_was_drawn_before_does_not_matter():
    one = batches()
    list(one.epoch(0))
    next(one.epoch(1))
    assert same(list(one.epoch(7)), list(batches().epoch(7)))


@pytest.mark.parametrize("other", [{"seed": 1}, {"number": 1}])
def test_another_seed_and_another_epoch_are_another_draw(other):
    number = other.pop("number", 0)
    assert not np.array_equal(whole(list(batches(**other).epoch(number)))[0], whole(list(batches().epoch(0)))[0])


def test_spectrograms_are_drawn_for_by_seed_epoch_step_and_process():
    draws = {
        batches(seed=seed, rank=rank, ranks=2).spectrogram_generator(epoch, step).random()
        for seed in (0, 1)
        for rank in (0, 1)
        for epoch in (0, 1)
        for step in (0, 1)
    }
    assert len(draws) == 16
    again = batches(seed=1, rank=1, ranks=2).spectrogram_generator(1, 1).random()
    assert again in draws


# The rows of an epoch


@given(seeds, st.integers(0, 50), st.integers(1, 15))
def test_every_labelled_clip_comes_once_an_epoch(seed, number, batch):
    waveforms, targets = whole(list(batches(replace(UNTOUCHED, batch=batch), seed).epoch(number)))
    rows = rows_of(waveforms)
    assert sorted(rows[: len(LABELLED)]) == list(LABELLED)
    np.testing.assert_array_equal(targets, TARGETS[rows])


@given(seeds, st.integers(1, 15))
def test_the_last_batch_is_filled_up(seed, batch):
    one = batches(replace(UNTOUCHED, batch=batch), seed)
    epoch = list(one.epoch(0))
    assert len(epoch) == len(one) == -(-len(LABELLED) // batch)
    assert all(len(waveforms) == len(targets) == batch for waveforms, targets in epoch)
    rows = rows_of(whole(epoch)[0])
    np.testing.assert_array_equal(rows, np.resize(rows[: len(LABELLED)], len(rows)))


def test_the_order_changes_from_epoch_to_epoch():
    one = batches(UNTOUCHED)
    assert not np.array_equal(rows_of(whole(list(one.epoch(0)))[0]), rows_of(whole(list(one.epoch(1)))[0]))


@pytest.mark.parametrize("nothing", [0.0, 0.3, 1.0, 2.5])
def test_windows_of_nothing_are_a_share_of_the_clips_and_have_no_label(nothing):
    batch = len(LABELLED) + round(nothing * len(LABELLED))
    ((_, targets),) = batches(replace(ALL, nothing=nothing, mix_waveforms=0, batch=batch)).epoch(0)
    assert (targets.sum(1) == 0).sum() == round(nothing * len(LABELLED))
    np.testing.assert_array_equal(targets.sum(0), TARGETS[LABELLED].sum(0))


def test_background_recordings_are_heard_and_have_no_label():
    recipe = replace(UNTOUCHED, nothing=5.0)
    waveforms, targets = whole(list(batches(recipe).epoch(0)))
    recordings = np.array([any(np.array_equal(window, Clips()[row]) for row in BACKGROUND) for window in waveforms])
    assert 0.3 < recordings.mean() < 0.6
    assert not targets[recordings].any()


def test_without_background_recordings_there_are_other_windows_of_nothing():
    waveforms, targets = whole(list(batches(replace(UNTOUCHED, nothing=5.0), rows=LABELLED).epoch(0)))
    nothing = waveforms[targets.sum(1) == 0]
    assert len(nothing) >= 50
    assert not any(np.array_equal(window, Clips()[row]) for window in nothing for row in range(len(TARGETS)))
    assert (np.abs(nothing).max(1) > 0).all()


@pytest.mark.parametrize("change", [{"placed": 1.0}, {"background": 1.0, "background_snr_db": (0.0, 0.0)}])
def test_background_recordings_go_on_under_sounds(change):
    heard: set[int] = set()

    class Noted(Clips):
        def __getitem__(self, row: int) -> np.ndarray:
            heard.add(row)
            return super().__getitem__(row)

    one = batches(replace(UNTOUCHED, **change), clips=Noted())
    list(one.epoch(0))
    assert heard >= set(LABELLED) | set(BACKGROUND)


def test_only_its_rows_are_heard():
    heard: set[int] = set()

    class Noted(Clips):
        def __getitem__(self, row: int) -> np.ndarray:
            heard.add(row)
            return super().__getitem__(row)

    one = batches(replace(ALL, nothing=3.0), clips=Noted())
    for number in range(3):
        list(one.epoch(number))
    assert heard == set(ROWS)


# The windows


@given(recipes, seeds)
def test_shapes_types_and_range(recipe, seed):
    samples = round(recipe.crop_seconds * RATE) or SAMPLES
    for waveforms, targets in batches(recipe, seed).epoch(0):
        assert (waveforms.shape, waveforms.dtype) == ((recipe.batch, samples), np.float32)
        assert (targets.shape, targets.dtype) == ((recipe.batch, LABELS), np.float32)
        assert np.abs(waveforms).max() <= 10 ** (recipe.gain_db / 2 / 20)  # louder clips are not cut off
        assert targets.min() >= 0
        assert targets.max() <= 1


@given(seeds)
def test_a_piece_is_a_piece_of_the_clip(seed):
    waveforms, targets = whole(list(batches(replace(UNTOUCHED, crop_seconds=0.2), seed).epoch(0)))
    for waveform, target in zip(waveforms, targets, strict=True):
        found = [
            (row, start)
            for row in LABELLED
            for start in np.flatnonzero(np.isclose(Clips()[row][: SAMPLES - 399], waveform[0], atol=1e-7, rtol=0))
            if np.array_equal(Clips()[row][start : start + 400], waveform)
        ]
        assert [list(TARGETS[row]) for row, _ in found] == [list(target)]


def test_a_piece_that_would_be_longer_than_the_window_is_the_window():
    longer = replace(UNTOUCHED, crop_seconds=10.0)
    assert same(list(batches(longer).epoch(0)), list(batches(UNTOUCHED).epoch(0)))


@given(seeds)
def test_of_two_sounds_at_once_the_targets_are_shares(seed):
    _, targets = whole(list(batches(replace(UNTOUCHED, mix_waveforms=1.0), seed).epoch(0)))
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    of_two = targets[(targets > 0).sum(1) == 2]
    assert len(of_two)
    assert of_two.max() <= 0.7 + 1e-6
    assert of_two[of_two > 0].min() >= 0.3 - 1e-6


def test_the_share_of_a_target_is_what_is_heard_of_its_sound():
    time = np.arange(SAMPLES) / SAMPLES
    tones = np.stack([np.sin(2 * np.pi * (20 + 10 * row) * time) for row in range(len(TARGETS))]).astype(np.float32)

    class Tones(Clips):
        def __getitem__(self, row: int) -> np.ndarray:
            return np.float32(0.1) * tones[row]

    one = batches(replace(UNTOUCHED, mix_waveforms=1.0, roll=1.0), rows=LABELLED, clips=Tones())
    waveforms, targets = whole(list(one.epoch(0)))
    spectra = np.abs(np.fft.rfft(waveforms))[:, 20 + 10 * LABELLED]  # a line for each row
    heard = np.stack([spectra[:, label == LABELLED % LABELS].sum(1) for label in range(LABELS)], 1)
    np.testing.assert_allclose(heard / heard.sum(1, keepdims=True), targets, atol=1e-3)


def test_a_shifted_clip_is_the_same_samples():
    waveforms, _ = whole(list(batches(replace(UNTOUCHED, roll=1.0)).epoch(0)))
    clips = {row: np.sort(Clips()[row]) for row in LABELLED}
    rows = [next(row for row in LABELLED if np.array_equal(np.sort(window), clips[row])) for window in waveforms]
    assert sorted(rows[: len(LABELLED)]) == list(LABELLED)
    assert not all(np.array_equal(window, Clips()[row]) for window, row in zip(waveforms, rows, strict=True))


@given(seeds)
def test_levels_stay_within_the_gain(seed):
    waveforms, _ = whole(list(batches(replace(UNTOUCHED, gain_db=12.0), seed).epoch(0)))
    # Within a clip, the last sample is twice the first, whatever the level.
    np.testing.assert_allclose(waveforms[:, -1] / waveforms[:, 0], 2, rtol=1e-4)
    levels = np.sort(20 * np.log10(waveforms[:, -1] * 20))
    clips = 20 * np.log10(np.arange(1, 11))
    assert levels[0] >= clips[0] - 12 - 1e-3
    assert levels[-1] <= clips[-1] + 6 + 1e-3


# The thread that makes them ahead


def test_an_epoch_may_be_left_at_any_time():
    before = threading.active_count()
    for taken in range(3):
        epoch = batches().epoch(0)
        for _ in range(taken):
            next(epoch)
        epoch.close()
        assert threading.active_count() == before


def test_an_epoch_that_was_left_does_not_go_on_in_the_background():
    heard = []

    class Noted(Clips):
        def __getitem__(self, row: int) -> np.ndarray:
            heard.append(row)
            return super().__getitem__(row)

    one = batches(replace(UNTOUCHED, batch=1), clips=Noted())
    heard.clear()
    epoch = one.epoch(0)
    next(epoch)
    epoch.close()
    assert len(heard) <= 3


def test_a_clip_that_cannot_be_read_is_an_error_and_no_standstill():
    class Damaged(Clips):
        def __getitem__(self, row: int) -> np.ndarray:
            if row == 5:
                raise OSError("disk on fire")
            return super().__getitem__(row)

    before = threading.active_count()
    with pytest.raises(OSError, match="disk on fire"):
        list(batches(UNTOUCHED, clips=Damaged()).epoch(0))
    assert threading.active_count() == before
