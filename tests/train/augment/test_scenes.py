from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainings import FakeWaveforms
from train.augment.scenes import MOST_SOUNDS, Active, Scene, Scenes, labels_of, moments, scene
from train.data.corpus import Corpus
from train.data.dataset import Clip, Dataset

RATE_HZ = 8_000
SAMPLES = 5 * RATE_HZ
MOMENT = 160
"""Samples in 20 ms."""
FOLDS = (1, 2, 3)

seeds = st.integers(0, 2**32 - 1)


def clip_of(frequency_hz: float, seconds: float = 1.0, start_s: float = 0.7) -> np.ndarray:
    """A tone within digital silence, as ESC-50's clips are padded."""
    window = np.zeros(SAMPLES, np.float32)
    first, count = round(start_s * RATE_HZ), round(seconds * RATE_HZ)
    window[first : first + count] = 0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(count) / RATE_HZ)
    return window


def made(sounds: int = 24, backgrounds: int = 9, labels: int = 4) -> Corpus:
    """Every clip, also of the background, is a different tone."""
    rows = sounds + backgrounds
    windows = np.stack([clip_of(200.0 + 50 * row, 5.0 if row >= sounds else 2.0, 0.0) for row in range(rows)])
    clips = tuple(
        Clip(Path(f"{row}.wav"), row % labels if row < sounds else None, FOLDS[row % 3], f"{row}", f"{row:064}")
        for row in range(rows)
    )
    names = tuple(f"label {number}" for number in range(labels))
    return Corpus.of(Dataset("tones", names, clips), FakeWaveforms(windows))  # type: ignore[arg-type]


CORPUS = made()
FOLD = np.array([clip.fold for clip in CORPUS.dataset.clips])


def scenes(seed: int = 0, corpus: Corpus = CORPUS) -> Scenes:
    return Scenes(corpus, RATE_HZ, seed)


class Noted(FakeWaveforms):
    """Writes down which clips are read."""

    def __init__(self, windows: np.ndarray) -> None:
        super().__init__(windows)
        self.__dict__["read"] = set()

    def __getitem__(self, row: int) -> np.ndarray:
        self.__dict__["read"].add(int(row))
        return super().__getitem__(row)

    def taken(self) -> set[int]:
        """Rows since the last time."""
        rows = set(self.__dict__["read"])
        self.__dict__["read"].clear()
        return rows


def placed(seed: int, count: int = 1, seconds: float = 1.0) -> tuple[Scene, np.ndarray]:
    """A scene of tones, and what is under them."""
    sounds = [clip_of(500.0 + 700 * number, seconds) for number in range(count)]
    under = np.random.default_rng(1).standard_normal(SAMPLES).astype(np.float32)
    return scene(sounds, under, RATE_HZ, np.random.default_rng(seed)), under


# One scene


@given(seeds, st.integers(0, MOST_SOUNDS), st.floats(0.02, 4.2))
def test_a_window_is_a_window(seed, count, seconds):
    found, under = placed(seed, count, seconds)
    assert found.window.shape == under.shape
    assert found.window.dtype == np.float32
    assert np.abs(found.window).max() <= 1
    assert found.active.moments.shape == (count, SAMPLES // MOMENT)
    assert found.active.moments.any(1).all()  # some of each sound stays


@given(seeds, st.floats(0.1, 4.2))
def test_the_sound_is_where_the_truth_has_it_and_nowhere_else(seed, seconds):
    """Without the background, which is known, nothing is left but the sound."""
    found, under = placed(seed, 1, seconds)
    (heard,) = found.active.moments
    quiet = np.repeat(~heard, MOMENT)
    gain = np.dot(found.window[quiet], under[quiet]) / np.dot(under[quiet], under[quiet]) if quiet.any() else None
    if gain is None:
        assert seconds > 4
        return
    rest = found.window - np.float32(gain) * under
    power = np.square(rest.reshape(-1, MOMENT), dtype=np.float64).mean(1)
    assert power[heard].min() > 100 * max(power[~heard].max(), 1e-14)


def test_of_a_sound_with_pauses_each_moment_is_known_also_where_it_is_cut():
    on = np.random.default_rng(3).random(150) < 0.5
    strokes = np.repeat(on, MOMENT).astype(np.float32) * np.sin(np.arange(150 * MOMENT), dtype=np.float32)
    under = np.ones(SAMPLES, np.float32)
    cut = 0
    for seed in range(60):
        found = scene([strokes], under, RATE_HZ, np.random.default_rng(seed))
        (heard,) = found.active.moments
        power = np.var(found.window.reshape(-1, MOMENT), axis=1, dtype=np.float64)
        assert np.array_equal(heard, power > 1e-3 * power.max())
        cut += bool(heard[:20].any())
    assert cut > 5


@given(seeds)
def test_it_is_at_one_stretch_and_no_longer_than_the_sound(seed):
    found, _ = placed(seed, 1, 1.0)
    (heard,) = found.active.moments
    assert np.abs(np.diff(np.pad(heard, 1).astype(int))).sum() == 2
    assert heard.sum() <= 50
    # Cut off at the beginning, it is half there; at the end it may have only just come in.
    assert heard.sum() >= (25 if heard[0] else 20)


def test_some_sounds_are_cut_some_have_only_come_in_and_most_are_whole():
    heard = np.stack([placed(seed)[0].active.moments[0] for seed in range(300)])
    whole = heard.sum(1) == 50
    assert whole.mean() > 0.5
    assert (heard[:, 0] & ~whole).any()
    came_in = heard[:, -1] & ~whole
    assert 0.1 < came_in.mean() < 0.4
    assert heard[came_in].sum(1).min() >= 20  # a sound that is announced has at least 0.4 s in the window


def test_silent_ends_of_a_clip_do_not_count():
    short, long = (clip_of(500.0, 0.5, start) for start in (0.0, 3.1))
    under = np.ones(SAMPLES, np.float32)
    for seed in range(10):
        one, other = (scene([clip], under, RATE_HZ, np.random.default_rng(seed)) for clip in (short, long))
        assert np.array_equal(one.active.moments, other.active.moments)


def test_a_pause_within_a_sound_is_no_sound():
    strokes = clip_of(500.0, 0.2, 0.0) + clip_of(500.0, 0.2, 1.0)
    rng = np.random.default_rng(0)
    found = scene([strokes], np.ones(SAMPLES, np.float32), RATE_HZ, rng).active.moments[0]
    edges = np.flatnonzero(np.diff(np.pad(found, 1).astype(int)))
    assert len(edges) == 4
    assert (edges[2] - edges[0], edges[1] - edges[0]) == (50, 10)


@given(seeds)
def test_sounds_are_at_most_25_db_above_the_background_and_not_below_it(seed):
    found, _ = placed(seed, 1, 4.0)
    heard = np.repeat(found.active.moments[0], MOMENT)
    if heard.all() or (~heard).sum() < 100:
        return
    floor = np.sqrt(np.square(found.window[~heard], dtype=float).mean())
    both = np.sqrt(np.square(found.window[heard], dtype=float).mean())
    ratio_db = 10 * np.log10(max((both / floor) ** 2 - 1, 1e-3))
    assert -2.5 < ratio_db < 26


def test_of_silence_nothing_is_heard_and_nothing_breaks():
    silent = np.zeros(SAMPLES, np.float32)
    found = scene([silent], np.ones(SAMPLES, np.float32), RATE_HZ, np.random.default_rng(0))
    assert not found.active.moments.any()
    assert np.isfinite(found.window).all()
    still = scene([clip_of(500.0)], silent, RATE_HZ, np.random.default_rng(0))
    assert np.isfinite(still.window).all()
    assert not moments(silent, RATE_HZ).any()


def test_moments_are_those_near_the_loudest():
    steps = np.repeat(np.array([0.0, 1e-3, 0.1, 1.0, 0.05, 0.06]), MOMENT).astype(np.float32)
    assert moments(np.append(steps, np.float32(9)), RATE_HZ).tolist() == [False, False, True, True, False, True]


# Steps


def test_a_step_holds_what_is_heard_within_half_a_step_of_it():
    heard = np.zeros((1, 250), bool)
    heard[0, 100:110] = True  # 2.0 to 2.2 s
    assert np.flatnonzero(Active(heard).at_steps(16, 0.32)[0]).tolist() == [6, 7]  # 1.76 to 2.08 s, 2.08 to 2.40 s
    assert np.flatnonzero(Active(heard).at_steps(51, 0.1)[0]).tolist() == [20, 21, 22]


@given(seeds, st.sampled_from([0.04, 0.08, 0.16, 0.32]))
def test_steps_are_right_about_every_moment(seed, step_s):
    found = placed(seed, 2)[0].active
    count = int(np.ceil(5 / step_s))
    steps = found.at_steps(count, step_s)
    assert steps.shape == (len(found), count)
    nearest = np.round((np.arange(250) + 0.5) * 0.02 / step_s).astype(int)
    for moment, step in enumerate(nearest):
        if step < count:
            assert (steps[:, step] >= found.moments[:, moment]).all()
    for step in range(count):
        near = np.abs((np.arange(250) + 0.5) * 0.02 - step * step_s) <= step_s / 2 + 0.02
        assert (steps[:, step] <= found.moments[:, near].any(1)).all()


def test_without_sounds_no_step_holds_any():
    assert Active(np.zeros((0, 250), bool)).at_steps(16, 0.32).shape == (0, 16)


# Scenes of a data set


def test_the_same_seed_gives_the_same_scenes_in_any_order():
    one, other = scenes(3), scenes(3)
    assert np.array_equal(one.sounds, other.sounds)
    backwards = {row: other[row] for row in reversed(range(len(other)))}
    for row in range(len(one)):
        assert np.array_equal(one[row].window, backwards[row].window)
        assert np.array_equal(one[row].active.moments, backwards[row].active.moments)


def test_another_seed_gives_others():
    one, other = scenes(3), scenes(4)
    assert not np.array_equal(one.sounds, other.sounds)
    assert not any(np.array_equal(one[row].window, other[row].window) for row in range(len(one)))


def test_a_scene_is_of_its_own_clip_and_perhaps_another_one_of_another_label():
    sounds = np.concatenate([scenes(seed).sounds for seed in range(20)])
    rows = np.tile(np.arange(len(FOLD)), 20)
    of_sound = CORPUS.targets.any(1).numpy()[rows]
    assert (sounds[of_sound, 0] == rows[of_sound]).all()
    assert (sounds[~of_sound] == -1).all()
    pairs = sounds[of_sound & (sounds[:, 1] >= 0)]
    assert 0.1 < len(pairs) / of_sound.sum() < 0.35
    labels = CORPUS.targets.argmax(1).numpy()
    assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()


def test_through_a_room_and_a_microphone_the_truth_is_the_same():
    plain, heard = scenes(), Scenes(CORPUS, RATE_HZ, 0, through=1.0)
    assert np.array_equal(plain.sounds, heard.sounds)
    changed = 0
    for row in range(12):
        before, after = plain[row], heard[row]
        assert np.array_equal(before.active.moments, after.active.moments)
        assert (after.window.shape, after.window.dtype) == (before.window.shape, np.float32)
        changed += not np.array_equal(before.window, after.window)
    assert changed >= 8  # each part has its own probability; seldom none is drawn


def test_a_share_of_the_scenes_is_heard_through_a_microphone():
    plain, half = scenes(), Scenes(CORPUS, RATE_HZ, 0, through=0.5)
    changed = [not np.array_equal(plain[row].window, half[row].window) for row in range(24)]
    assert 4 <= sum(changed) <= 18


def test_folds_are_never_mixed():
    """Neither the annotation of a scene nor its samples have them."""
    noted = Noted(CORPUS.waveforms.windows)  # type: ignore[attr-defined]
    recordings = 0
    for seed in range(6):
        found = scenes(seed, replace(CORPUS, waveforms=noted))  # type: ignore[arg-type]
        for row in range(len(found)):
            found[row]
            named, used = {each for each in found.sounds[row].tolist() if each >= 0}, noted.taken()
            assert named <= used
            assert {FOLD[each] for each in used} == {FOLD[row]}
            assert all(CORPUS.dataset.clips[each].label is None for each in used - named)
            recordings += len(used - named)
    assert recordings > 20  # backgrounds are used, too


def test_two_sounds_are_two_rows_of_truth():
    found = scenes(0)
    for row in range(len(found)):
        assert len(found[row].active) == (found.sounds[row] >= 0).sum()


def test_without_recordings_the_background_is_noise():
    corpus = made(sounds=12, backgrounds=0)
    noted = Noted(corpus.waveforms.windows)  # type: ignore[attr-defined]
    found = scenes(0, replace(corpus, waveforms=noted))  # type: ignore[arg-type]
    for row in range(12):
        window = found[row].window
        assert noted.taken() == {each for each in found.sounds[row].tolist() if each >= 0}
        assert window.any()


def test_a_clip_is_not_changed_by_being_heard():
    windows = CORPUS.waveforms.windows.copy()  # type: ignore[attr-defined]
    found = scenes(0)
    for row in range(len(found)):
        found[row]
    assert np.array_equal(CORPUS.waveforms.windows, windows)  # type: ignore[attr-defined]


def test_a_data_set_without_labels_is_nothing_but_background():
    clips = tuple(replace(clip, label=None) for clip in CORPUS.dataset.clips)
    nothing = Corpus.of(replace(CORPUS.dataset, clips=clips), CORPUS.waveforms)
    found = scenes(0, nothing)
    assert (found.sounds == -1).all()
    assert len(found[0].active) == 0


# Labels


def test_labels_of_the_sounds_of_windows():
    targets = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    found = labels_of(torch.tensor([[0, 1], [1, -1], [2, 0], [-1, -1]]), targets)
    assert found.tolist() == [[[1, 0], [0, 1]], [[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_scenes_are_those_of_their_clips(seed):
    found = labels_of(torch.from_numpy(scenes(seed).sounds), CORPUS.targets).amax(1)
    assert (found >= CORPUS.targets).all()
    assert (found.sum(1) <= MOST_SOUNDS).all()
