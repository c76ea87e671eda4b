import json
import random
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.evaluate import detection, metrics
from train.evaluate.event_based import event_based
from train.evaluate.found import Found, Points, Streams
from train.evaluate.predictions import Predictions
from train.evaluate.psds import FAST, RIGHT, psds
from train.evaluate.soundscape import Annotation

WINDOW_S = 5.0
HOUR = 3600.0


def sound(label: str, onset_s: float, offset_s: float) -> Annotation:
    return Annotation(label, onset_s, offset_s, 10.0, "1.wav")


def event(label: str, onset_s: float, offset_s: float, score: float = 0.9, published_s: float | None = None) -> Found:
    return Found(label, onset_s, offset_s, score, onset_s + 1 if published_s is None else published_s)


def of(truth: list[Annotation], found: list[Found], duration_s: float = HOUR) -> Streams:
    return {"one": (truth, found, duration_s)}


def exact(truth: list[Annotation], late_s: float = 0.0) -> list[Found]:
    return [event(each.label, each.onset_s + late_s, each.offset_s + late_s) for each in truth]


@st.composite
def truths(draw: st.DrawFn) -> list[Annotation]:
    """Sounds of one label at least 3 s apart, as in a soundscape; labels overlap."""
    truth = []
    for label in ("cat", "dog", "rain"):
        time = draw(st.floats(1, 30))
        for _ in range(draw(st.integers(0, 4))):
            length = draw(st.floats(0.1, 20))
            truth.append(sound(label, time, time + length))
            time += length + draw(st.floats(3, 60))
    return truth


@given(truths().filter(bool))
def test_perfect_detection_is_perfect(truth):
    streams = of(truth, exact(truth))
    result = detection.evaluate(streams, WINDOW_S, {0.5: {"one": exact(truth)}})
    for each in result.event_based:
        assert each.micro.f1 == each.macro_f1 == each.micro.precision == each.micro.recall == 1
    assert result.false_alarms_per_hour == 0
    assert result.announced.recall == 1
    assert result.announced.onset_error.p90_abs_s == result.announced.offset_error.p90_abs_s == 0
    assert result.announced.onset_error.count == len(truth)
    assert result.announced.delay.median_s == pytest.approx(1)
    assert result.psds1 == pytest.approx(1)
    assert result.psds2 == pytest.approx(1)
    assert [(each.false_alarms_per_hour, each.missed) for each in result.curve] == [(0, 0)]


@given(truths().filter(bool))
def test_nothing_found_is_nothing_right_and_nothing_false(truth):
    result = detection.evaluate(of(truth, []), WINDOW_S, {0.5: {}})
    for each in result.event_based:
        assert each.micro.f1 == each.macro_f1 == each.micro.recall == 0
        assert each.micro.precision is None
    assert result.false_alarms_per_hour == 0
    assert result.announced.recall == 0
    assert result.announced.delay.median_s is None
    assert (result.psds1, result.psds2) == (0, 0)
    assert result.curve[0].missed == 1


def test_a_collar_is_what_it_says():
    truth = [sound("dog", 10, 12), sound("cat", 30, 34)]
    streams = of(truth, exact(truth, late_s=0.7))
    assert event_based(streams, 0.5, with_offset=False).micro.f1 == 0
    assert event_based(streams, 1.0, with_offset=False).micro.f1 == 1
    assert detection.announced(streams, WINDOW_S).onset_error.median_s == pytest.approx(0.7)


def test_an_offset_may_be_off_by_the_collar_or_a_fifth_of_the_length():
    truth = [sound("dog", 10, 12), sound("cat", 30, 40)]  # a fifth: 0.4 s and 2 s
    found = [event("dog", 10, 12.45), event("cat", 30, 41.9)]
    assert event_based(of(truth, found), 0.5, with_offset=True).micro.f1 == 1
    found = [event("dog", 10, 12.55), event("cat", 30, 42.1)]
    assert event_based(of(truth, found), 0.5, with_offset=True).micro.f1 == 0
    assert event_based(of(truth, found), 0.5, with_offset=False).micro.f1 == 1


def test_f1_by_label_micro_and_macro():
    truth = [sound("dog", 10, 12), sound("dog", 20, 22), sound("dog", 30, 32), sound("cat", 40, 42)]
    found = [*exact(truth[:2]), event("rain", 50, 51)]
    result = event_based(of(truth, found), 0.5, with_offset=False)
    assert {label: (c.truth, c.found, c.right) for label, c in result.by_label.items()} == {
        "cat": (1, 0, 0),
        "dog": (3, 2, 2),
        "rain": (0, 1, 0),
    }
    assert result.micro.precision == pytest.approx(2 / 3)
    assert result.micro.recall == pytest.approx(2 / 4)
    assert result.micro.f1 == pytest.approx(4 / 7)
    assert result.macro_f1 == pytest.approx((0.8 + 0) / 2)


def test_the_right_label_counts_and_one_event_is_one_sound():
    truth = [sound("dog", 10, 12)]
    assert event_based(of(truth, [event("cat", 10, 12)]), 0.5, with_offset=False).micro.right == 0
    twice = [event("dog", 9.8, 10), event("dog", 10.2, 12)]
    result = event_based(of(truth, twice), 0.5, with_offset=False).micro
    assert (result.truth, result.found, result.right) == (1, 2, 1)


@given(truths(), truths())
def test_counts_over_several_streams_add_up(one, other):
    parts = [of(one, exact(other, 0.3)), of(other, exact(one, -0.3))]
    whole = {str(i): stream for i, part in enumerate(parts) for stream in part.values()}
    separate = [event_based(part, 1.0, with_offset=True).micro for part in parts]
    together = event_based(whole, 1.0, with_offset=True).micro
    assert together.truth == sum(each.truth for each in separate)
    assert together.right == sum(each.right for each in separate)
    assert sum(detection.false_alarms(whole).values()) == sum(sum(detection.false_alarms(p).values()) for p in parts)


@given(truths(), st.integers(0, 20))
def test_events_beyond_the_truth_are_false_alarms_per_hour(truth, extra):
    found = exact(truth) + [event("siren", 10 * i, 10 * i + 1) for i in range(extra)]
    result = detection.evaluate(of(truth, found, 2 * HOUR), WINDOW_S)
    assert result.false_alarms_per_hour == extra / 2
    assert result.false_alarms.get("siren", 0) == extra
    assert sum(n for label, n in result.false_alarms.items() if label != "siren") == 0


@pytest.mark.parametrize(
    ("onset_s", "offset_s", "is_false"),
    [(8.9, 9.5, True), (9.1, 9.5, False), (11.9, 15, False), (12.1, 15, True), (5, 10.1, False), (5, 9.9, True)],
)
def test_what_a_false_alarm_is(onset_s, offset_s, is_false):
    streams = of([sound("dog", 10, 12)], [event("dog", onset_s, offset_s)])
    assert detection.false_alarms(streams) == {"dog": int(is_false)}


@pytest.mark.parametrize(
    ("onset_s", "offset_s", "is_announced"),
    [(9.5, 11, True), (16.9, 18, True), (17.1, 18, False), (5, 8.9, False), (5, 9.1, True)],
)
def test_what_announced_means(onset_s, offset_s, is_announced):
    streams = of([sound("dog", 10, 12)], [event("dog", onset_s, offset_s)])
    result = detection.announced(streams, WINDOW_S)
    assert result.by_label == {"dog": (int(is_announced), 1)}
    assert result.delay.count == int(is_announced)


def test_the_next_sounds_event_does_not_announce_the_one_before():
    truth = [sound("dog", 10, 12), sound("dog", 15, 16)]
    result = detection.announced(of(truth, [event("dog", 15, 16)]), WINDOW_S)
    assert result.by_label == {"dog": (1, 2)}


def test_one_long_event_announces_two_sounds_and_has_one_delay():
    truth = [sound("dog", 10, 12), sound("dog", 20, 22)]
    result = detection.announced(of(truth, [event("dog", 10.5, 23, published_s=11)]), WINDOW_S)
    assert result.by_label == {"dog": (2, 2)}
    assert (result.delay.count, result.delay.median_s, result.onset_error.median_s) == (1, 1, 0.5)


def test_delays_and_errors():
    truth = [sound("dog", 10 * i, 10 * i + 2) for i in range(1, 12)]
    found = [
        event("dog", s.onset_s - 0.2, s.offset_s + 0.1 * i, published_s=s.onset_s + i) for i, s in enumerate(truth)
    ]
    result = detection.announced(of(truth, found), WINDOW_S)
    assert (result.delay.median_s, result.delay.p90_s) == (5, 9)
    assert result.onset_error.median_s == pytest.approx(-0.2)
    assert result.onset_error.median_abs_s == result.onset_error.p90_abs_s == pytest.approx(0.2)
    assert result.offset_error.median_s == pytest.approx(0.5)
    assert result.offset_error.p90_s == pytest.approx(0.9)


@given(truths().filter(bool), st.randoms(use_true_random=False))
def test_a_higher_threshold_misses_more_and_alarms_less(truth, rng):
    every = [event(s.label, s.onset_s, s.offset_s, rng.random()) for s in truth]
    every += [event("siren", 7 * i, 7 * i + 2, rng.random()) for i in range(10)]
    points = {t: {"one": [each for each in every if each.score >= t]} for t in (0.0, 0.3, 0.6, 0.9)}
    curve = detection.curve(of(truth, []), points, WINDOW_S)
    assert [point.threshold for point in curve] == [0.0, 0.3, 0.6, 0.9]
    assert (curve[0].false_alarms_per_hour, curve[0].missed) == (10, 0)
    assert [point.missed for point in curve] == sorted(point.missed for point in curve)
    alarms = [point.false_alarms_per_hour for point in curve]
    assert alarms == sorted(alarms, reverse=True)


def scene(seed: int, labels: str) -> tuple[Streams, Points]:
    """Two streams of ten minutes, imperfectly heard."""
    rng = random.Random(seed)
    streams: dict[str, tuple[list[Annotation], list[Found], float]] = {}
    for name in "xy":
        truth, found, time = [], [], 0.0
        heard = dict.fromkeys(labels, 0.0)
        ends = dict.fromkeys(labels, 0.0)
        for _ in range(20):
            label = labels[int(rng.random() * len(labels))]
            time = max(ends[label] + 3, time + rng.uniform(0, 15))
            ends[label] = time + rng.uniform(0.5, 8)
            truth.append(sound(label, time, ends[label]))
            for _ in range(int(3 * rng.random())):
                said = label if rng.random() < 0.7 else labels[int(rng.random() * len(labels))]
                onset = time + rng.uniform(0, 1)
                offset = max(onset + 0.3, ends[label] + rng.uniform(-1, 1))
                if onset >= heard[said]:
                    found.append(event(said, onset, offset, rng.random()))
                    heard[said] = offset + 0.01
        streams[name] = truth, found, 600.0
    thresholds = (0.1, 0.3, 0.5, 0.7, 0.9)
    points = {
        t: {name: [each for each in found if each.score >= t] for name, (_, found, _) in streams.items()}
        for t in thresholds
    }
    return streams, points


@pytest.mark.parametrize(
    ("seed", "labels", "fast", "right"),
    [
        (0, "ab", 0.39112781954887216, 0.2626459033179192),
        (1, "abc", 0.22989082688356796, 0.2046470285772881),
        (2, "abcde", 0.1965251074901281, 0.17479874255598737),
        (3, "abcdefgh", 0.06729349510091104, 0.18072044295868048),
    ],
)
def test_psds_is_that_of_psds_eval(seed, labels, fast, right):
    # By psds_eval 0.5.3, with its `step_curve` and `_auc` mended: it does not work with
    # pandas 3 and numpy 2.4.
    streams, points = scene(seed, labels)
    assert psds(streams, points, FAST) == pytest.approx(fast, abs=1e-9)
    assert psds(streams, points, RIGHT) == pytest.approx(right, abs=1e-9)


def test_psds_counts_what_it_should():
    truth = [sound("dog", 100, 110), sound("cat", 200, 210)]
    late = {0.5: {"one": exact(truth, late_s=4)}}  # six tenths of each
    assert psds(of(truth, []), late, FAST) == 0
    assert psds(of(truth, []), late, RIGHT) == pytest.approx(1)
    # 20 false events an hour of each label: nothing is found below, everything above.
    noisy = {
        0.5: {"one": exact(truth) + [event(s, 300 + 9 * i, 305 + 9 * i) for i in range(20) for s in ("dog", "cat")]}
    }
    assert psds(of(truth, []), noisy, FAST) == pytest.approx(0.8)
    # One of two labels is found: a mean of 0.5, less the deviation of 0.5.
    assert psds(of(truth, []), {0.5: {"one": exact(truth[:1])}}, RIGHT) == 0
    assert psds(of([], []), {0.5: {}}, RIGHT) is None


@given(st.integers(0, 1000), st.sampled_from(["a", "ab", "abcd"]))
def test_psds_is_a_share(seed, labels):
    for scenario in (FAST, RIGHT):
        value = psds(*scene(seed, labels), scenario)
        assert value is not None
        assert 0 <= value <= 1


def test_calibration_of_the_highest_score_is_that_of_clips():
    rng = np.random.default_rng(0)
    scores = rng.random((500, 4), np.float32)
    targets = rng.integers(0, 4, 500)
    truth = np.eye(4, dtype=bool)[targets]
    clips = Predictions(tuple("abcd"), scores, targets, ("",) * 500, np.zeros(500, np.int64))
    result = detection.calibration(scores, truth)
    assert result.highest == pytest.approx(metrics.calibration_error(clips))
    assert result.all == pytest.approx((0.25**2 + 0.75**2) / 2, abs=0.03)  # each is right one time in four


@given(st.integers(0, 1000), st.integers(1, 200), st.integers(1, 5))
def test_scores_that_know_are_calibrated(seed, windows, labels):
    truth = np.random.default_rng(seed).random((windows, labels)) < 0.3
    assert detection.calibration(truth.astype(np.float32), truth).all == 0
    assert detection.calibration(1 - truth.astype(np.float32), truth).all == pytest.approx(1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="do not go with"):
        detection.calibration(np.zeros((2, 3)), np.zeros((3, 2), bool))


def test_a_stream_of_no_length_is_refused():
    with pytest.raises(ValueError, match="length"):
        detection.evaluate(of([], [], 0.0), WINDOW_S)


def test_a_stream_without_sounds_has_false_alarms_only():
    result = detection.evaluate(of([], [event("dog", 1, 2)], HOUR / 2), WINDOW_S)
    assert result.false_alarms_per_hour == 2
    assert result.announced.recall is None
    assert all(each.macro_f1 is None and each.micro.precision == 0 for each in result.event_based)
    with pytest.raises(ValueError, match="missed"):
        detection.curve(of([], []), {0.5: {}}, WINDOW_S)


def test_the_document_is_json():
    streams, points = scene(0, "abc")
    calibrated = detection.calibration(np.array([[0.9, 0.1]]), np.array([[True, False]]))
    document = detection.evaluate(streams, WINDOW_S, points, calibrated).to_document()
    back = json.loads(json.dumps(document, allow_nan=False))
    assert back["sounds"] == 40
    assert [(each["collar_s"], each["with_offset"]) for each in back["event_based"]] == [
        (0.5, False),
        (0.5, True),
        (1.0, False),
        (1.0, True),
    ]
    assert back["event_based"][0]["by_label"].keys() == {"a", "b", "c"}
    assert back["calibration"] == {"highest": pytest.approx(0.1), "all": pytest.approx(0.1)}
    assert len(back["curve"]) == 5


def test_sed_eval_leaves_nothing_behind():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        event_based(of([sound("dog", 1, 2)], []), 0.5, with_offset=True)
    # The stand-in for setuptools' old module is removed again: other packages look for that module.
    module = sys.modules.get("pkg_resources")
    assert module is None or hasattr(module, "require")
