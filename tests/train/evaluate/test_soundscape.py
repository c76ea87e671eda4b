import csv
import json
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluate import soundscape, synthesis
from train.evaluate.soundscape import Annotation, Soundscape
from train.evaluate.synthesis import Recording

RATE = 8_000
LABELS = ("dog", "cat", "siren", "rain", "cow")

seeds = st.integers(0, 2**32 - 1)


def burst(seed: int, seconds: float) -> np.ndarray:
    """Noise within half a second of digital silence at either end, as ESC-50's clips are padded."""
    rng = np.random.default_rng(seed)
    silence = np.zeros(RATE // 2, np.float32)
    sound = rng.uniform(-0.5, 0.5, max(1, round(seconds * RATE))).astype(np.float32)
    return np.concatenate([silence, sound, silence])


def sounds(count: int = 12, sign: float = 1, longest: float = 3.0) -> list[Recording]:
    lengths = np.random.default_rng(count).uniform(0.05, longest, count)
    return [
        Recording(f"{i}.wav", np.float32(sign) * burst(i, length), LABELS[i % len(LABELS)])
        for i, length in enumerate(lengths)
    ]


def made(seed: int = 0, seconds: float = 60.0, sign: float = 1, **options: object) -> Soundscape:
    return synthesis.make("one", seconds, RATE, seed, sounds(sign=sign), **options)  # type: ignore[arg-type]


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=float))))


def overlap_s(one: Annotation, other: Annotation) -> float:
    return min(one.offset_s, other.offset_s) - max(one.onset_s, other.onset_s)


def stretch(stream: Soundscape, each: Annotation) -> slice:
    return slice(round(each.onset_s * stream.rate_hz), round(each.offset_s * stream.rate_hz))


@settings(max_examples=20)
@given(seeds, st.floats(2, 90), st.floats(0, 30), st.floats(0, 1))
def test_the_rules_of_placing(seed, seconds, per_minute, overlapping):
    stream = made(seed, seconds, per_minute=per_minute, overlapping=overlapping)
    assert stream.samples.shape == (round(seconds * RATE),)
    assert stream.samples.dtype == np.float32
    assert np.abs(stream.samples).max() < 1
    assert len(stream.annotations) <= round(per_minute * seconds / 60)
    assert [each.onset_s for each in stream.annotations] == sorted(each.onset_s for each in stream.annotations)
    for each in stream.annotations:
        assert 1 <= each.onset_s < each.offset_s <= stream.duration_s - 1 + 1e-6
        assert 0 <= each.snr_db <= 20
    partners: Counter[Annotation] = Counter()
    for one, other in combinations(stream.annotations, 2):
        if one.label == other.label:
            assert overlap_s(one, other) <= -3 + 1e-6
        if overlap_s(one, other) > 0:
            partners.update((one, other))
        else:
            assert overlap_s(one, other) <= -1 + 1e-6
    assert max(partners.values(), default=1) == 1


@settings(max_examples=10)
@given(seeds)
def test_the_ratio_measured_back_is_the_one_that_was_drawn(seed):
    # The same stream with its sounds upside down: half the sum is the background, half the difference the sounds.
    one, other = made(seed, overlapping=0.0), made(seed, sign=-1, overlapping=0.0)
    assert one.annotations == other.annotations
    background, heard = (one.samples + other.samples) / 2, (one.samples - other.samples) / 2
    assert len(one.annotations) >= 4
    for each in one.annotations:
        where = stretch(one, each)
        assert 20 * np.log10(rms(heard[where]) / rms(background[where])) == pytest.approx(each.snr_db, abs=0.05)
    outside = np.ones(len(heard), bool)
    for each in one.annotations:
        where = stretch(one, each)
        outside[max(0, where.start - RATE // 200) : where.stop + RATE // 200] = False
    assert np.abs(heard[outside]).max() < 1e-6
    assert 20 * np.log10(rms(background)) == pytest.approx(one.background_db, abs=0.01)
    assert -50.01 <= one.background_db <= -34.99


def test_sounds_that_overlap_have_the_same_ratio_to_the_background_alone():
    one, other = (
        synthesis.make(
            "one",
            30,
            RATE,
            3,
            [Recording("a", sign * tone(500), "a"), Recording("b", tone(1500), "b")],
            per_minute=4,
            overlapping=1.0,
        )
        for sign in (1, -1)
    )
    first = next(each for each in one.annotations if each.label == "a")
    second = next(each for each in one.annotations if each.label == "b")
    assert overlap_s(first, second) > 0
    where = stretch(one, first)
    heard = (one.samples - other.samples)[where] / 2
    rest = (one.samples + other.samples)[where] / 2  # the background and the other tone
    quiet = rms((one.samples + other.samples)[:RATE] / 2)
    assert 20 * np.log10(rms(heard) / quiet) == pytest.approx(first.snr_db, abs=3)
    assert rms(rest) > quiet


def tone(hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE)).astype(np.float32)


def test_the_same_seed_is_the_same_stream_bit_for_bit():
    one, same, other = made(7), made(7), made(8)
    assert one.samples.tobytes() == same.samples.tobytes()
    assert (one.annotations, one.background, one.background_db) == (
        same.annotations,
        same.background,
        same.background_db,
    )
    assert one.annotations != other.annotations
    assert one.samples.tobytes() != other.samples.tobytes()


def test_clips_may_be_loaded_when_they_are_used():
    lazy = [Recording(each.title, each.load, each.label) for each in sounds()]
    assert synthesis.make("one", 60, RATE, 0, lazy).samples.tobytes() == made(0).samples.tobytes()


def test_each_clip_is_used_once_before_any_again():
    stream = synthesis.make("one", 400, RATE, 0, sounds(12, longest=1.0), per_minute=4.5)
    uses = Counter(each.clip for each in stream.annotations)
    assert len(stream.annotations) == 30
    assert len(uses) == 12
    assert set(uses.values()) == {2, 3}


@pytest.mark.parametrize(("share", "pairs"), [(0.0, 0), (0.2, 4), (1.0, 20)])
def test_the_share_of_sounds_that_overlap(share, pairs):
    stream = synthesis.make("one", 300, RATE, 5, sounds(40, longest=1.0), overlapping=share)
    assert len(stream.annotations) == 40
    found = sum(overlap_s(one, other) > 0 for one, other in combinations(stream.annotations, 2))
    assert pairs - 2 <= found <= pairs  # the last of a deck may all be of one label


def test_sounds_go_everywhere():
    onsets = [each.onset_s for seed in range(60) for each in made(seed, 30, per_minute=4).annotations]
    shares, _ = np.histogram(onsets, 5, (1, 28))
    assert shares.min() > len(onsets) / 5 / 2


def test_one_label_alone_keeps_its_distance():
    alone = [Recording("dog.wav", burst(0, 0.3), "dog")]
    stream = synthesis.make("one", 60, RATE, 0, alone, per_minute=60, overlapping=1.0)
    assert 15 <= len(stream.annotations) <= 18
    assert all(after.onset_s - before.offset_s >= 3 - 1e-6 for before, after in pairwise(stream.annotations))


def test_a_stream_without_sounds():
    stream = synthesis.make("one", 5, RATE, 0, [])
    assert stream.annotations == ()
    assert 20 * np.log10(rms(stream.samples)) == pytest.approx(stream.background_db, abs=0.01)


def test_peaks_stay_below_full_scale_and_the_ratio_as_it_is():
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.9
    one, other = (
        synthesis.make(
            "one",
            20,
            RATE,
            0,
            [Recording("click", sign * click, "click")],
            per_minute=3,
            snr_db=(20, 20),
            background_db=(-20, -20),
        )
        for sign in (1, -1)
    )
    assert 0.98 < np.abs(one.samples).max() < 1
    assert one.background_db < -20.5
    # Upside down its peak is another, so the two are not equally soft; at the same level they add up.
    two = other.samples * np.float32(10 ** ((one.background_db - other.background_db) / 20))
    background, heard = (one.samples + two) / 2, (one.samples - two) / 2
    where = stretch(one, one.annotations[0])
    assert 20 * np.log10(rms(heard[where]) / rms(background[where])) == pytest.approx(20, abs=0.05)


def test_the_active_part_is_within_25_db_of_the_loudest_moment():
    clip = np.full(RATE, 1e-3, np.float32)  # 54 dB below the loudest
    clip[1600:3200] = 0.03  # 24.4 dB below
    clip[3200:4000] = 0.5
    clip[4000:5600] = 0  # a pause stays inside
    clip[5600:5760] = 0.5
    clip[5760:6400] = 0.025  # 26 dB below
    assert synthesis.active(clip, RATE) == (1600, 5760)


@given(seeds, st.integers(1, 4000), st.integers(0, 4000), st.integers(0, 4000))
def test_silence_around_a_clip_is_cut(seed, length, before, after):
    sound = np.random.default_rng(seed).choice([-0.4, 0.4], length).astype(np.float32)
    clip = np.concatenate([np.zeros(before, np.float32), sound, np.zeros(after, np.float32)])
    start, stop = synthesis.active(clip, RATE)
    assert 0 <= before - start < 160 or start <= before + 160
    assert 0 <= start < stop <= len(clip)
    assert abs(start - before) <= 160
    assert abs(stop - before - length) <= 160


@pytest.mark.parametrize("clip", [np.zeros(100, np.float32), np.zeros(0, np.float32)])
def test_silence_is_named(clip):
    with pytest.raises(ValueError, match=r"nothing\.wav: silent"):
        synthesis.make("one", 10, RATE, 0, [Recording("nothing.wav", clip, "dog")])


def test_a_sound_is_whole_and_what_was_cut_off_around_it_fades():
    clip = np.full(RATE, 0.02, np.float32)
    clip[4000:6400] = 0.5
    one, other = (
        synthesis.make("one", 10, RATE, 0, [Recording("a", sign * clip, "a")], per_minute=6, snr_db=(20, 20))
        for sign in (1, -1)
    )
    heard = (one.samples - other.samples) / 2
    where = stretch(one, one.annotations[0])
    sound = heard[where]
    assert sound == pytest.approx(sound.mean(), rel=1e-3)
    for outside in (heard[: where.start][::-1], heard[where.stop :]):
        assert 0 < outside[39] < outside[0] < 0.05 * sound.mean()
        assert np.abs(outside[40:]).max() < 1e-6


def test_a_recorded_background_goes_on_without_seams():
    rng = np.random.default_rng(0)
    room = Recording("room.wav", rng.standard_normal(3 * RATE).astype(np.float32))
    stream = synthesis.make("one", 61.3, RATE, 0, [], [room])
    assert stream.background == "room.wav"
    levels = [rms(each) for each in np.split(stream.samples[: 60 * RATE], 600)]
    assert max(levels) / min(levels) < 1.6
    assert 20 * np.log10(rms(stream.samples)) == pytest.approx(stream.background_db, abs=0.01)


@given(st.integers(RATE // 10, 3 * RATE), st.floats(0.2, 8), seeds)
def test_backgrounds_of_any_length(recorded, seconds, seed):
    room = Recording("room.wav", np.random.default_rng(seed).standard_normal(recorded).astype(np.float32))
    stream = synthesis.make("one", seconds, RATE, seed, [], [room])
    assert len(stream.samples) == round(seconds * RATE)
    assert np.isfinite(stream.samples).all()
    assert rms(stream.samples[-RATE // 10 :]) > 0.3 * rms(stream.samples)


@pytest.mark.parametrize("room", [np.zeros(RATE, np.float32), np.ones(10, np.float32)])
def test_a_background_that_is_none_is_named(room):
    with pytest.raises(ValueError, match=r"room\.wav: silent, or too short"):
        synthesis.make("one", 10, RATE, 0, sounds(), [Recording("room.wav", room)])


def test_what_is_written_is_read_back(tmp_path):
    stream = made(3)
    path = soundscape.write(tmp_path / "new", stream)
    assert sorted(each.name for each in path.parent.iterdir()) == ["one.flac", "one.json", "one.tsv"]
    back = soundscape.read(path)
    assert np.abs(back.samples - stream.samples).max() <= 1 / 32768
    for field in ("name", "rate_hz", "annotations", "background", "background_db", "seed"):
        assert getattr(back, field) == getattr(stream, field)
    assert json.loads(path.read_text())["seed"] == 3


def test_the_annotation_is_dcases(tmp_path):
    stream = made(3)
    table = soundscape.write(tmp_path, stream).with_suffix(".tsv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["filename", "onset", "offset", "event_label"]
    assert [row["event_label"] for row in rows] == [each.label for each in stream.annotations]
    assert {row["filename"] for row in rows} == {"one.flac"}
    for row, each in zip(rows, stream.annotations, strict=True):
        assert float(row["onset"]) == pytest.approx(each.onset_s, abs=6e-4)
        assert float(row["offset"]) == pytest.approx(each.offset_s, abs=6e-4)
