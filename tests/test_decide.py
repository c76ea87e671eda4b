"""Scores to events. The scores here are those of a perfect network."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.decide import Decider
from tagger.events import Event, Scores
from tagger.policy import EventsConfig, LabelPolicy, Policy, policy
from tagger.tag import recording as tag

LABELS = ("dog", "rain", "siren")
EPOCH = 1_800_000_000.0
WINDOW_S = 5.0
STEP_S = 0.32
KNOWN_S = 0.3
"""Shortest part of a sound in a window that gives a high score, seconds."""
Span = tuple[float, float]


def rules(*each: LabelPolicy, **more: object) -> Policy:
    return Policy(LABELS[: len(each)], each, **more)  # type: ignore[arg-type]


def counting_ids() -> Callable[[float], str]:
    numbers = iter(range(10_000))
    return lambda now: f"id{next(numbers)}"


def window(start: float, end: float, sounds: Sequence[Sequence[Span]], score: float = 0.9) -> Scores:
    """Scores of a perfect network for a window; `sounds` has the times at which each label is heard."""
    count = int((end - start) / STEP_S) + 1
    values, activity = [], np.zeros((len(sounds), count), np.float32)
    for label, spans in enumerate(sounds):
        inside = sum(max(0.0, min(offset, end) - max(onset, start)) for onset, offset in spans)
        values.append(score if inside >= KNOWN_S else 0.05)
        for step in range(count):
            low, high = start + (step - 0.5) * STEP_S, start + (step + 0.5) * STEP_S
            share = sum(max(0.0, min(offset, high) - max(onset, low)) for onset, offset in spans) / STEP_S
            activity[label, step] = min(1.0, share)
    return Scores(np.array(values, np.float32), start, end, EPOCH + start, activity, STEP_S)


def stream(length_s: float, hop_s: float, *sounds: Sequence[Span]) -> list[Scores]:
    count = round((length_s - WINDOW_S) / hop_s) + 1
    return [window(number * hop_s, number * hop_s + WINDOW_S, sounds) for number in range(count)]


def one(value: float, start: float = 0.0, *active: float, window_s: float = WINDOW_S) -> Scores:
    """Scores of a window of one label; `active` is its activity at steps that are evenly spaced over the window."""
    steps = np.array([active or (1.0,)], np.float32)
    values = np.array([value], np.float32)
    return Scores(values, start, start + window_s, EPOCH + start, steps, window_s / steps.shape[1])


def decide(policy: Policy, windows: Iterable[Scores]) -> list[Event]:
    decider = Decider(policy, counting_ids())
    events = [event for scores in windows for event in decider.update(scores)] + decider.close()
    assert decider.active == ()
    return events


BARK = LabelPolicy(enter=0.7, confirm_s=0.5, sure=0.8)


def barks(policy: LabelPolicy, *scores: float, sound: Span = (1.0, 1.6)) -> list[Event]:
    """Events of a bark in windows of 5 s, one a second, that have these scores."""
    windows = [window(float(n), n + WINDOW_S, [[sound]], score) for n, score in enumerate(scores)]
    return decide(rules(policy), windows)


def test_a_lone_bark_that_one_window_is_sure_of_is_announced_at_once() -> None:
    begin, end = barks(BARK, 0.82, 0.55)
    assert (begin.type, begin.label, begin.score) == ("begin", "dog", pytest.approx(0.82))
    assert begin.onset - EPOCH == pytest.approx(1.0, abs=STEP_S)
    assert end.offset is not None
    assert end.offset - EPOCH == pytest.approx(1.6, abs=STEP_S)


@pytest.mark.parametrize(
    ("policy", "scores", "sound"),
    [
        (BARK, (0.75, 0.55), (1.0, 1.6)),  # not sure enough
        (replace(BARK, sure=1.0), (1.0, 0.55), (1.0, 1.6)),  # no score is
        (BARK, (0.82, 0.55), (0.0, 0.6)),  # it may have begun before
        (BARK, (0.82, 0.55), (4.6, 5.5)),  # it may go on
        (replace(BARK, min_s=1.0), (0.82, 0.55), (1.0, 1.6)),  # too short
    ],
)
def test_other_sounds_wait_for_a_second_window(policy: LabelPolicy, scores: tuple[float, ...], sound: Span) -> None:
    assert barks(policy, 0.05, *scores[1:]) == []
    windows = [window(0.0, WINDOW_S, [[sound]], scores[0]), window(1.0, 1 + WINDOW_S, [[]], scores[1])]
    assert decide(rules(policy), windows) == []


def test_a_sure_score_never_counts_below_enter() -> None:
    assert barks(replace(BARK, sure=0.1), 0.6, 0.55) == []


def test_events_of_a_file_are_in_order_of_onset() -> None:
    """A short event within a long one, and many others, however late the long one ends."""
    each = LabelPolicy(confirm_s=0, merge_s=0.5)
    sounds = ([(2.0, 30.0)], [(5.0, 6.0), (12.0, 13.0), (31.0, 33.0)], [(1.0, 3.0), (20.0, 21.0)])
    windows = stream(60.0, 1.0, *sounds)
    found = list(tag.events(iter(windows), rules(each, each, each)))
    assert len(found) == 6
    assert [event.onset for event in found] == sorted(event.onset for event in found)
    ends = [event for event in decide(rules(each, each, each), windows) if event.type == "end"]
    assert [event.onset for event in ends] != sorted(event.onset for event in ends)
    assert sorted((e.label, e.onset, e.offset) for e in ends) == sorted((e.label, e.onset, e.offset) for e in found)


def test_events_of_a_file_come_while_it_is_read() -> None:
    each = LabelPolicy(confirm_s=0, merge_s=0.5)
    windows = iter(stream(600.0, 1.0, [(2.0, 4.0), (500.0, 502.0)]))
    next(tag.events(windows, rules(each)))
    assert next(windows).time < EPOCH + 30


def spans(events: Iterable[Event], label: str = "dog") -> list[Span]:
    return [(e.onset - EPOCH, e.offset - EPOCH) for e in events if e.offset is not None and e.label == label]


def whys(policy: Policy, windows: Iterable[Scores]) -> list[str | None]:
    """Reason (`why`) of the first label after each window."""
    decider, said = Decider(policy, counting_ids()), []
    for scores in windows:
        decider.update(scores)
        (best, *_), why = decider.answers(scores, 1)
        said.append(best.why)
        assert (why is None) == bool(decider.active)
        assert why is None or why == f"{best.label}: {best.why}"
    return said


# --- one clear sound ---


@pytest.mark.parametrize("hop_s", [0.25, 0.5, 1.0, 2.0])
def test_a_sound_is_placed_where_it_is_whatever_the_hop(hop_s):
    sounds = [(10.1, 10.9), (14.2, 18.0), (26.0, 41.5)]
    found = spans(decide(rules(LabelPolicy()), stream(50, hop_s, sounds)))
    assert np.array(found) == pytest.approx(np.array(sounds), abs=STEP_S)


@pytest.mark.parametrize("confirm_s", [0.0, 0.5, 1.0, 2.0])
def test_confirmation_takes_seconds_of_audio_whatever_the_hop(confirm_s):
    policy, sound = rules(LabelPolicy(confirm_s=confirm_s)), [(10.1, 12.0)]
    for hop_s in (0.1, 0.5, 1.0):
        decider = Decider(policy)
        told = [each.end_s for each in stream(25, hop_s, sound) for e in decider.update(each) if e.type == "begin"]
        assert len(told) == 1
        known = 10.1 + KNOWN_S
        assert known + confirm_s - 1e-6 <= told[0] <= known + confirm_s + 2 * hop_s


def test_what_a_score_does_before_it_was_confirmed_begins_it_anew():
    policy = rules(LabelPolicy(confirm_s=2))
    said = whys(policy, [one(value, start) for start, value in enumerate([0.9, 0.9, 0.4, 0.9, 0.9, 0.9])])
    assert said == [
        "confirming 0.0 of 2.0 s",
        "confirming 1.0 of 2.0 s",
        "below enter 0.50",
        "confirming 0.0 of 2.0 s",
        "confirming 1.0 of 2.0 s",
        None,
    ]


def test_a_gap_begins_a_confirmation_anew():
    policy = rules(LabelPolicy(confirm_s=6))
    assert whys(policy, [one(0.9, 0), one(0.9, 5), one(0.9, 10.5), one(0.9, 15.5), one(0.9, 20.5)]) == [
        "confirming 0.0 of 6.0 s",
        "confirming 5.0 of 6.0 s",
        "confirming 0.0 of 6.0 s",
        "confirming 5.0 of 6.0 s",
        None,
    ]


def test_hysteresis():
    """An event begins at `enter` and goes on while the score is at least `exit`."""
    policy = rules(LabelPolicy(enter=0.625, exit=0.3125, confirm_s=0))
    values = [0.62, 0.625, 0.32, 0.3125, 0.31, 0.31, 0.31, 0.62]
    found = decide(policy, [one(value, start) for start, value in enumerate(values)])
    assert [(event.type, event.score) for event in found] == [
        ("begin", 0.625),
        ("end", pytest.approx(0.31)),
    ]
    assert spans(found) == [(1.0, 8.0)]  # the fourth window is the last with the sound; it ends at 8 s
    assert found[1].peak_score == 0.625


def test_a_sound_stays_in_the_window_after_its_event_and_is_not_announced_again():
    sound = [(10.0, 10.6)]
    events = decide(rules(LabelPolicy(confirm_s=0)), stream(30, 0.1, sound))
    assert len(spans(events)) == 1
    said = whys(rules(LabelPolicy(confirm_s=0)), stream(30, 1.0, sound))
    assert said.count(None) == 2
    assert "still in the window, but its event has ended" in said


def test_a_score_without_a_moment_is_no_event():
    """The window's score is high, but the activity of all its steps is low."""
    windows = [one(0.9, start, 0.1, 0.15, 0.1) for start in range(5)]
    assert whys(rules(LabelPolicy()), windows) == ["at no moment of the window"] * 5


def test_what_no_label_explains_is_said():
    quiet = one(0.1)
    speech = replace(one(0.3), plain=np.array([0.8], np.float32), other="Speech")
    faint = replace(speech, plain=np.array([0.4], np.float32))
    assert whys(rules(LabelPolicy()), [quiet, speech, faint]) == [
        "below enter 0.50",
        "rather Speech, which is none of the labels",
        "below enter 0.50",
    ]


def test_a_label_that_is_rather_heard_is_said():
    policy = Policy(("dog", "cat"), (LabelPolicy(),) * 2)
    window = Scores(np.array([0.3, 0.4], np.float32), 0, 5, 0, np.zeros((2, 5), np.float32), 1.0)
    window = replace(window, plain=np.array([0.8, 0.8], np.float32), other=("cat", ""))
    decider = Decider(policy)
    decider.update(window)
    answers, _ = decider.answers(window, 2)
    assert {each.label: each.why for each in answers} == {"dog": "rather cat", "cat": "below enter 0.50"}


def test_a_low_enter_asks_for_no_more_of_a_moment():
    windows = [one(0.12, start, 0.01, 0.11, 0.12) for start in range(3)]
    assert len(spans(decide(rules(LabelPolicy(enter=0.1, exit=0.05)), windows))) == 1


def test_what_a_window_is_padded_with_holds_no_sound():
    """The last window of a file has 2 s of sound and 3 s of padding, in which the network is active."""
    padded = replace(one(0.9, 0.0, *[1, 1, 0, 0, 0, 1, 1, 1, 1, 1]), end_s=2.0)
    ((onset, offset),) = spans(decide(rules(LabelPolicy(confirm_s=0)), [padded]))
    assert (onset, offset) == (0.0, pytest.approx(0.85))


# --- times ---


def test_an_onset_is_between_the_steps_where_activity_comes_up():
    activity = [0.0, 0.1, 0.5, 1.0, 0.9, 0.4, 0.0, 0.0, 0.0, 0.0]
    ((onset, offset),) = spans(decide(rules(LabelPolicy(confirm_s=0)), [one(0.9, 0.0, *activity)]))
    assert (onset, offset) == (pytest.approx(0.75), pytest.approx(2.625))


def test_a_beginning_that_is_heard_less_surely_belongs_to_the_sound():
    """A cow that is half heard before it is loud; what is hardly heard is none of it."""
    activity = [0.0, 0.25, 0.4, 0.4, 0.4, 1.0, 1.0, 0.25, 0.0, 0.0]
    ((onset, offset),) = spans(decide(rules(LabelPolicy(confirm_s=0)), [one(0.9, 0.0, *activity)]))
    assert 0.5 < onset < 1.0
    assert 3.0 < offset < 3.5


def test_a_sound_longer_than_the_window_keeps_its_onset_until_it_is_long_enough():
    events = decide(rules(LabelPolicy(min_s=12)), stream(40, 1.0, [(10, 25)]))
    assert spans(events) == [(pytest.approx(10, abs=STEP_S), pytest.approx(25, abs=STEP_S))]


def test_too_short_a_sound_is_no_event():
    policy = rules(LabelPolicy(min_s=3))
    assert decide(policy, stream(30, 1.0, [(10, 12)])) == []
    said = whys(policy, stream(30, 1.0, [(10, 12)]))
    assert said[8] == "lasted 2.1 of 3.0 s"
    assert len(spans(decide(policy, stream(30, 1.0, [(10, 14)])))) == 1


@pytest.mark.parametrize("merge_s", [0.5, 2.0, 4.0])
def test_a_pause_parts_two_sounds_only_if_it_is_as_long_as_merge_s(merge_s):
    policy = rules(LabelPolicy(merge_s=merge_s))
    for pause in (merge_s - 0.4, merge_s + 1.0):
        sounds = [(10.0, 12.0), (12.0 + pause, 15.0 + pause)]
        found = spans(decide(policy, stream(35, 0.5, sounds)))
        expected = sounds if pause > merge_s else [(10.0, 15.0 + pause)]
        assert found == [pytest.approx(each, abs=STEP_S) for each in expected]


def test_a_pause_that_a_skipped_window_would_have_shown_is_seen_in_the_next():
    """Windows at 0 to 5 s and 4 to 9 s hold a sound until 6.5 s and, 1.2 s later, another. Both are one event."""
    sounds = [[(1.0, 6.5), (7.7, 9.0)]]
    policy = rules(LabelPolicy(confirm_s=0, merge_s=2))
    assert spans(decide(policy, [window(0, 5, sounds), window(4, 9, sounds)])) == [
        (pytest.approx(1.0, abs=STEP_S), pytest.approx(9.0, abs=STEP_S))
    ]


def test_of_two_sounds_in_the_first_window_the_newest_is_announced_unless_they_are_one():
    policy = rules(LabelPolicy(confirm_s=0, merge_s=2))
    assert spans(decide(policy, [window(0, 5, [[(0.5, 1.0), (3.8, 4.5)]])])) == [pytest.approx((3.8, 4.5), abs=STEP_S)]
    assert spans(decide(policy, [window(0, 5, [[(0.5, 2.4), (3.8, 4.5)]])])) == [pytest.approx((0.5, 4.5), abs=STEP_S)]


def test_one_window_can_end_a_sound_and_begin_the_next():
    """The windows are far apart, as on a machine that is too slow."""
    policy, sounds = rules(LabelPolicy(confirm_s=0)), [[(1.0, 2.0), (7.0, 8.0)]]
    found = decide(policy, [window(0, 5, sounds), window(5, 10, sounds)])
    assert [event.type for event in found] == ["begin", "end", "begin", "end"]
    assert spans(found) == [pytest.approx(each, abs=STEP_S) for each in sounds[0]]


def test_what_is_longer_than_max_s_is_silent_until_it_has_stopped():
    for refractory_s in (0.0, 30.0):  # as long as the sound goes on, it does not begin again after this time either
        policy = rules(LabelPolicy(max_s=4, merge_s=2, refractory_s=refractory_s))
        for hop_s in (0.1, 1.0):
            found = spans(decide(policy, stream(70, hop_s, [(10, 60)])))
            assert found == [(pytest.approx(10, abs=STEP_S), pytest.approx(14, abs=STEP_S))]
    policy = rules(LabelPolicy(max_s=4, merge_s=2))
    found = spans(decide(policy, stream(70, 1.0, [(10, 30), (35, 37)])))
    assert found[1:] == [(pytest.approx(35, abs=STEP_S), pytest.approx(37, abs=STEP_S))]
    said = whys(policy, stream(40, 1.0, [(10, 30)]))
    assert said[12:25] == ["longer than 4 s, and has not stopped"] * 13
    assert said[-1] == "below enter 0.50"


def test_max_s_holds_at_the_streams_end():
    policy = rules(LabelPolicy(confirm_s=0, max_s=2))
    assert spans(decide(policy, [one(0.9)])) == [(0.0, 2.0)]


def test_refractory():
    policy = rules(LabelPolicy(confirm_s=0, refractory_s=10))
    sounds = [(10.0, 11.0), (15.0, 16.0), (19.0, 24.0), (40.0, 41.0)]
    found = spans(decide(policy, stream(60, 0.5, sounds)))
    assert found == [
        pytest.approx((10, 11), abs=STEP_S),
        pytest.approx((21, 24), abs=STEP_S),
        pytest.approx((40, 41), abs=STEP_S),
    ]
    said = whys(policy, stream(60, 0.5, sounds))
    ((_, offset),) = found[:1]
    assert found[1][0] == pytest.approx(offset + 10, abs=1e-5)
    assert said[22] == f"refractory {offset + 10 - 16.0:.1f} s left"


# --- the stream's end, gaps, clocks ---


@pytest.mark.parametrize("end_s", [3.0, 5.0, 5.3])
def test_a_file_too_short_to_confirm_anything_is_heard_all_the_same(end_s):
    """A clip of 5 s is one window, and two would be needed to confirm."""
    windows = [window(0, min(5, end_s), [[(1.0, 2.0)]])] + ([window(1, end_s, [[(1.0, 2.0)]])] if end_s > 5 else [])
    found = decide(rules(LabelPolicy()), windows)
    assert [event.type for event in found] == ["begin", "end"]
    assert spans(found) == [pytest.approx((1, 2), abs=STEP_S)]
    assert decide(rules(LabelPolicy(min_s=2)), windows) == []


def test_what_comes_last_in_a_longer_stream_is_not_confirmed():
    assert decide(rules(LabelPolicy()), stream(12, 1.0, [(11.0, 12.0)])) == []
    decider = Decider(rules(LabelPolicy()))
    decider.update(one(0.1, 0))
    decider.update(one(0.9, 1))
    assert decider.close() == decider.close() == []


def test_close_ends_sounds_where_they_were_last_heard():
    decider = Decider(rules(LabelPolicy(confirm_s=0)))
    decider.update(window(0, 5, [[(3.0, 4.2)]]))
    assert decider.active == ("dog",)
    (end,) = decider.close()
    assert end.offset - EPOCH == pytest.approx(4.2, abs=STEP_S)
    assert (decider.active, decider.close()) == ((), [])


def test_after_a_gap_a_sound_is_another_if_the_gap_was_longer_than_merge_s():
    policy = rules(LabelPolicy(confirm_s=0, merge_s=2))
    for gap_s, count in ((0.3, 1), (4.0, 2)):
        start = 5.0 + gap_s
        found = spans(decide(policy, [window(0, 5, [[(2, 5)]]), window(start, start + 5, [[(start, start + 2)]])]))
        assert len(found) == count
        assert found[-1][1] == pytest.approx(start + 2, abs=STEP_S)


def test_a_stream_goes_on_after_it_was_closed():
    """As with a microphone that is back. Sounds from before are not announced again."""
    decider = Decider(rules(LabelPolicy(confirm_s=0)), counting_ids())
    windows = stream(40, 1.0, [(2.0, 9.0), (30.0, 31.0)])
    events = [event for each in windows[:3] for event in decider.update(each)] + decider.close()
    assert len(spans(events)) == 1
    events = [event for each in windows[20:] for event in decider.update(each)]
    assert spans(events) == [pytest.approx((30, 31), abs=STEP_S)]


def test_a_stream_that_goes_on_can_be_too_short_again():
    decider = Decider(rules(LabelPolicy()), counting_ids())
    decider.update(one(0.1, 0))
    assert decider.close() == []
    decider.update(one(0.9, 100))
    assert [event.type for event in decider.close()] == ["begin", "end"]


def test_a_clock_that_is_set_back_does_not_silence_the_daemon():
    decider = Decider(rules(LabelPolicy()), counting_ids())
    events = [event for each in stream(14, 1.0, [(10.0, 20.0)]) for event in decider.update(each)]
    assert [event.type for event in events] == ["begin"]
    for each in stream(30, 1.0, [(10.0, 11.0)]):
        hour_before = replace(each, time=each.time - 3600)
        events += decider.update(hour_before)
    assert [event.type for event in events] == ["begin", "end", "begin", "end"]
    assert events[0].id == events[1].id != events[2].id
    assert events[2].onset == pytest.approx(EPOCH - 3600 + 10, abs=STEP_S)


@pytest.mark.parametrize("confirm_s", [0, 0.5])
def test_not_a_number_is_no_event_and_none_says_it(confirm_s):
    policy = rules(LabelPolicy(confirm_s=confirm_s))
    nan = one(math.nan, 0, math.nan)
    assert decide(policy, [nan, nan]) == []
    assert whys(policy, [nan]) == ["below enter 0.50"]
    for rest in ([one(math.nan, 2)], [one(math.nan, 2), one(0.8, 3, math.nan), one(math.nan, 4)]):
        begin, end = decide(policy, [one(0.9, 0), one(0.9, 1), *rest])
        assert all(math.isfinite(each) for each in (begin.score, end.score, end.peak_score, end.onset, end.offset))


# --- several labels ---


def test_a_label_that_is_missing_in_allow_is_not_called_denied():
    config = EventsConfig(allow=("rain", "siren"), deny=("siren",))
    decider = Decider(policy(LABELS, (0.5, 0.5, 0.5), WINDOW_S, 1.0, config))
    scores = window(0, 5, [[(1, 5)]] * 3)
    decider.update(scores)
    why = {each.label: each.why for each in decider.answers(scores, 3)[0]}
    assert (why["dog"], why["siren"]) == ("not allowed", "denied")


def test_denied_labels_are_never_announced_and_that_is_said():
    policy = rules(LabelPolicy(confirm_s=0), LabelPolicy(confirm_s=0), denied=frozenset(["dog"]))
    decider = Decider(policy)
    scores = window(0, 5, [[(1, 5)], [(1, 5)]])
    assert [event.label for event in decider.update(scores)] == ["rain"]
    answers, why = decider.answers(scores, 2)
    assert [(each.label, each.why) for each in answers] == [("dog", "denied"), ("rain", None)]
    assert why is None


def test_answers_are_the_highest_scores_in_order():
    decider = Decider(rules(*[LabelPolicy()] * 3))
    scores = replace(stream(5, 1, [], [], [])[0], values=np.array([0.1, 0.3, 0.2], np.float32))
    decider.update(scores)
    answers, why = decider.answers(scores, 2)
    assert [(each.label, round(each.score, 3)) for each in answers] == [("rain", 0.3), ("siren", 0.2)]
    assert why == "rain: below enter 0.50"


def test_before_the_first_window_that_is_said():
    decider = Decider(rules(LabelPolicy()))
    assert decider.answers(one(0.9), 1)[1] == "dog: nothing heard yet"


def test_a_group_is_announced_while_any_of_its_labels_is():
    policy = rules(*[LabelPolicy(confirm_s=0)] * 3, groups={"animal": ("dog", "rain")})
    dogs, rains, sirens = [(10.0, 14.0), (40.0, 41.0)], [(12.0, 20.0)], [(30.0, 31.0)]
    events = decide(policy, stream(60, 0.5, dogs, rains, sirens))
    assert spans(events, "animal") == [pytest.approx((10, 20), abs=STEP_S), pytest.approx((40, 41), abs=STEP_S)]
    assert len({event.id for event in events}) == len(events) / 2
    begin = next(event for event in events if event.label == "animal")
    first = next(event for event in events if event.label == "dog")
    assert (begin.onset, begin.score) == (first.onset, first.score)


def test_a_group_never_begins_before_it_last_ended():
    """The rain began while the dog barked, but is only known to be rain long after the dog fell silent."""
    policy = rules(LabelPolicy(confirm_s=0), LabelPolicy(confirm_s=6), groups={"animal": ("dog", "rain")})
    events = decide(policy, stream(50, 0.5, [(10.0, 14.0)], [(12.0, 30.0)]))
    ((_, ended), (onset, offset)) = spans(events, "animal")
    assert (onset, offset) == (ended, pytest.approx(30, abs=STEP_S))
    assert spans(events, "rain")[0][0] == pytest.approx(12, abs=STEP_S)


def test_a_group_begins_and_ends_in_a_stream_too_short_to_confirm_anything():
    policy = rules(LabelPolicy(), LabelPolicy(), groups={"animal": ("dog", "rain")})
    events = decide(policy, [window(0, 5, [[(1, 2)], [(3, 4)]])])
    assert [(event.type, event.label) for event in events] == [
        *(("begin", label) for label in ("dog", "rain", "animal")),
        *(("end", label) for label in ("dog", "rain", "animal")),
    ]
    assert spans(events, "animal") == [pytest.approx((1, 4), abs=STEP_S)]


def test_a_groups_peak_is_that_of_all_its_labels_while_it_was_on():
    policy = rules(LabelPolicy(confirm_s=0), LabelPolicy(confirm_s=0), groups={"animal": ("dog", "rain")})
    loud, quiet = window(0, 5, [[(1, 5)], []], score=0.95), window(20, 25, [[], [(21, 25)]], score=0.7)
    silence = window(10, 15, [[], []])
    ends = [event for event in decide(policy, [loud, silence, quiet]) if event.label == "animal" and event.offset]
    assert [event.peak_score for event in ends] == [pytest.approx(0.95), pytest.approx(0.7)]


def test_ids_are_ulids_of_the_time_of_the_decision():
    decider = Decider(rules(LabelPolicy(confirm_s=0), LabelPolicy(confirm_s=0), groups={"both": ("dog", "rain")}))
    events = decider.update(window(0, 5, [[(1, 5)], [(1, 5)]]))
    assert len({event.id for event in events}) == 3
    assert all(len(event.id) == 26 for event in events)
    assert len({event.id[:10] for event in events}) == 1  # the time in it, which all three share


# --- any scores, any rules ---

seconds = st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.5, 7.0])
levels = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0, math.nan]))


@st.composite
def label_policies(draw):
    enter = draw(st.sampled_from([0.05, 0.3, 0.5, 0.9]))
    min_s = draw(seconds)
    return LabelPolicy(
        enter=enter,
        exit=enter * draw(st.sampled_from([0.0, 0.5, 1.0])),
        confirm_s=draw(seconds),
        min_s=min_s,
        max_s=min_s + draw(st.sampled_from([0.1, 1.0, 4.0, math.inf])),
        refractory_s=draw(seconds),
        merge_s=draw(st.sampled_from([0.5, 1.0, 2.0, 6.0])),
    )


@st.composite
def policies(draw):
    return rules(
        *[draw(label_policies()) for _ in LABELS],
        denied=draw(st.sampled_from([frozenset(), frozenset(["rain"])])),
        groups=draw(st.sampled_from([{}, {"animal": ("dog", "rain"), "all": LABELS}])),
    )


@st.composite
def streams(draw):
    """Streams of windows with any length, hop, gaps and scores."""
    window_s, step_s = draw(st.sampled_from([0.5, 1.0, 5.0])), draw(st.sampled_from([0.16, 0.32]))
    start, windows = 0.0, []
    likely = draw(st.sampled_from([0.2, 0.5, 0.9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = max(1, int(window_s / step_s) + draw(st.integers(0, 2)))
    count = draw(st.integers(1, 25))
    for number in range(count):
        values = np.where(rng.random(3) < likely, rng.uniform(0.5, 1, 3), rng.random(3))
        values[rng.random(3) < 0.03] = draw(levels)
        activity = rng.random((3, steps)) * rng.choice([0.0, 0.3, 1.0], (3, 1), p=[0.1, 0.2, 0.7])
        activity[rng.random((3, steps)) < 0.4] = draw(levels)
        valid_s = window_s * (draw(st.sampled_from([0.95, 1.0])) if number + 1 == count else 1.0)
        windows.append(
            Scores(
                values.astype(np.float32),
                start,
                start + valid_s,
                EPOCH + start,
                activity.astype(np.float32),
                step_s,
            )
        )
        start += window_s * draw(st.sampled_from([0.1, 0.2, 0.5, 1.0, 3.0]))
    return windows


@given(policies(), streams())
def test_each_begin_has_one_end_of_the_same_id_and_label(policy, windows):
    by_id = defaultdict(list)
    for event in decide(policy, windows):
        by_id[event.id].append(event)
    for events in by_id.values():
        assert [event.type for event in events] == ["begin", "end"]
        begin, end = events
        assert (begin.label, begin.onset, begin.offset) == (end.label, end.onset, None)
        assert end.onset <= end.offset
        assert end.peak_score >= max(begin.score, begin.peak_score)
        assert all(math.isfinite(each) for each in (begin.score, end.score, end.peak_score))


@given(policies(), streams())
def test_events_of_one_label_or_group_never_overlap_nor_run_backward(policy, windows):
    last = dict.fromkeys(policy.names, -math.inf)
    for event in decide(policy, windows):
        if event.type == "begin":
            assert event.onset >= last[event.label]
            last[event.label] = math.inf  # until it has ended
        else:
            assert last[event.label] == math.inf
            last[event.label] = event.offset


@given(policies(), streams())
def test_events_lie_within_what_was_heard(policy, windows):
    decider, first, latest = Decider(policy), windows[0].time, -math.inf
    for each in windows:
        latest = max(latest, each.end_time)
        for event in decider.update(each):
            assert first <= event.onset <= latest
            assert event.offset is None or event.offset <= latest
    assert all(event.offset is None or event.offset <= latest for event in decider.close())


@given(policies(), streams())
def test_events_are_as_long_and_as_far_apart_as_the_rules_say(policy, windows):
    events = decide(policy, windows)
    for label, each in zip(policy.labels, policy.each, strict=True):
        found = spans(events, label)
        for onset, offset in found:
            assert each.min_s - 1e-5 <= offset - onset <= each.max_s + 1e-5
        for (_, offset), (onset, _) in pairwise(found):
            assert onset - offset >= max(each.merge_s, each.refractory_s) - 1e-5
        assert not (found and label in policy.denied)


@given(policies(), streams())
def test_an_event_begins_after_the_score_has_been_at_enter_for_confirm_s(policy, windows):
    """The first of these windows need not hold the sound, and a stream may be too short for `confirm_s`."""
    decider, since = Decider(policy), dict.fromkeys(LABELS, math.inf)
    until = -math.inf
    for scores in windows:
        events = decider.update(scores)
        if scores.time > until + 1e-6:
            since = dict.fromkeys(LABELS, math.inf)
        until = scores.end_time
        for column, (label, each) in enumerate(zip(policy.labels, policy.each, strict=True)):
            is_high = float(scores.values[column]) >= each.enter
            since[label] = min(since[label], until) if is_high else math.inf
            begins = [event for event in events if (event.type, event.label) == ("begin", label)]
            assert not begins or until - since[label] >= each.confirm_s - 1e-5


@given(policies(), streams())
def test_a_group_is_on_exactly_while_one_of_its_labels_is(policy, windows):
    decider = Decider(policy)
    for scores in windows:
        types = [event.type for event in decider.update(scores)]
        assert types == sorted(types, reverse=True)
        for name, members in policy.groups.items():
            assert (name in decider.active) == bool({*members} & {*decider.active})
        answers, why = decider.answers(scores, 3)
        assert (why is None) == bool(decider.active)
        for answer in answers:
            assert (answer.why is None) == (answer.label in decider.active)
            assert (answer.why == "denied") == (answer.label in policy.denied)


@given(policies(), streams())
def test_deterministic(policy, windows):
    assert decide(policy, windows) == decide(policy, windows)


@given(st.lists(st.tuples(st.floats(0.4, 3.0), st.floats(3.5, 9.0)), max_size=5), st.floats(5.0, 9.0))
def test_clear_sounds_give_the_same_events_at_any_hop(lengths, start):
    """For sounds and pauses whose length is not near `merge_s`, and not shorter than a step."""
    sounds = []
    for length, pause in lengths:
        sounds.append((start, start + length))
        start += length + pause
    by_hop = [spans(decide(rules(LabelPolicy()), stream(round(start) + 10, hop_s, sounds))) for hop_s in (0.5, 1.0)]
    for found in by_hop:
        assert len(found) == len(sounds)
        assert all(each == pytest.approx(sound, abs=0.5) for each, sound in zip(found, sounds, strict=True))


# --- rules that change while the daemon runs ---


@given(policies(), policies(), streams(), st.integers(0, 25))
def test_under_changed_rules_each_begin_still_has_one_end(before, after, windows, at):
    decider, events = Decider(before, counting_ids()), []
    for number, scores in enumerate(windows):
        if number == at:
            events += decider.set_policy(after)
            assert not set(decider.active) & after.denied
            assert set(decider.active) <= set(after.names)
        events += decider.update(scores)
    events += decider.close()
    kinds = defaultdict(list)
    for event in events:
        kinds[event.id].append((event.type, event.label))
        assert event.offset is None or event.onset <= event.offset
    assert all([kind for kind, _ in each] == ["begin", "end"] for each in kinds.values())
    assert all(len({label for _, label in each}) == 1 for each in kinds.values())


@given(policies(), streams(), st.integers(0, 25))
def test_the_same_rules_again_change_nothing(policy, windows, at):
    decider, events = Decider(policy, counting_ids()), []
    for number, scores in enumerate(windows):
        if number == at:
            assert decider.set_policy(replace(policy)) == []
        events += decider.update(scores)
    assert events + decider.close() == decide(policy, windows)


def test_a_label_that_is_denied_ends_at_once_and_its_group_with_it():
    policy = rules(LabelPolicy(), LabelPolicy(), groups={"animal": ("dog",)})
    decider = Decider(policy, counting_ids())
    for scores in stream(12, 1.0, [(2.0, 30.0)], []):
        decider.update(scores)
    assert decider.active == ("dog", "animal")
    ends = decider.set_policy(replace(policy, denied=frozenset(["dog"])))
    assert [(each.type, each.label) for each in ends] == [("end", "dog"), ("end", "animal")]
    assert decider.active == ()
    assert [each for scores in stream(20, 1.0, [(2.0, 30.0)], [])[8:] for each in decider.update(scores)] == []


def test_a_group_that_is_new_knows_nothing_of_what_began_before_it():
    policy = rules(LabelPolicy(), LabelPolicy())
    decider, events = Decider(policy, counting_ids()), []
    for number, scores in enumerate(stream(24, 1.0, [(2.0, 8.0)], [(15.0, 20.0)])):
        if number == 4:
            assert decider.active == ("dog",)
            decider.set_policy(replace(policy, groups={"animal": policy.labels}))
        weaker = replace(scores, values=scores.values * np.array([1.0, 0.9], np.float32))
        events += decider.update(weaker)
    begins = {event.label: event for event in events if event.type == "begin"}
    assert (begins["animal"].onset, begins["animal"].peak_score) == (
        begins[policy.labels[1]].onset,
        begins[policy.labels[1]].peak_score,
    )


def test_a_new_threshold_holds_from_the_next_window_on():
    decider = Decider(rules(LabelPolicy(enter=0.95, exit=0.1, confirm_s=0)), counting_ids())
    assert decider.update(one(0.9)) == []
    assert decider.set_policy(rules(LabelPolicy(enter=0.8, exit=0.1, confirm_s=0))) == []
    assert [each.type for each in decider.update(one(0.9, 1.0))] == ["begin"]


def test_rules_for_other_labels_are_a_mistake():
    with pytest.raises(ValueError, match="other labels"):
        Decider(rules(LabelPolicy())).set_policy(rules(LabelPolicy(), LabelPolicy()))


def test_events_that_the_network_does_not_decide_are_denied_with_their_ends_and_begin_groups():
    begin = Event("begin", "a", "loud", 1.0, 1.0, EPOCH)
    end, other_end = (replace(begin, type="end", id=each, offset=EPOCH + 1) for each in "ab")
    policy = rules(LabelPolicy(), detected=("loud",), groups={"noise": ("dog", "loud")})
    decider = Decider(policy, counting_ids())
    assert [(each.type, each.label) for each in decider.join([begin])] == [("begin", "loud"), ("begin", "noise")]
    assert decider.join([other_end]) == []
    assert [(each.type, each.label) for each in decider.join([end])] == [("end", "loud"), ("end", "noise")]
    assert Decider(replace(policy, denied=frozenset({"loud"})), counting_ids()).join([begin, end]) == []


def test_an_event_whose_label_is_denied_meanwhile_ends():
    begin = Event("begin", "a", "loud", 1.0, 1.0, EPOCH)
    decider = Decider(rules(LabelPolicy(), detected=("loud",)), counting_ids())
    decider.join([begin])
    decider.set_policy(replace(decider.policy, denied=frozenset({"loud"})))
    assert [each.type for each in decider.join([replace(begin, type="end", offset=EPOCH + 1)])] == ["end"]


def without_axis(length_s: float, hop_s: float, *spans: Span) -> list[Scores]:
    """As `stream`, of one label whose place in a window is not known."""
    heard = stream(length_s, hop_s, spans)
    return [replace(each, activity=np.full_like(each.activity, np.nan)) for each in heard]


@pytest.mark.parametrize("hop_s", [0.5, 1.0])
@pytest.mark.parametrize("span", [(10.0, 10.5), (10.2, 13.0), (10.0, 30.0)])
def test_a_label_without_a_time_axis_is_dated_by_the_windows_that_hold_it(span: Span, hop_s: float):
    events = decide(rules(LabelPolicy(confirm_s=0.5, merge_s=2.0)), without_axis(50, hop_s, span))
    assert [event.type for event in events] == ["begin", "end"]
    begin, end = events
    assert begin.onset == pytest.approx(EPOCH + span[0], abs=1.0)
    assert end.offset == pytest.approx(EPOCH + span[1], abs=1.0 + hop_s)
    assert end.offset > end.onset


def test_without_a_time_axis_a_sound_of_the_first_window_began_with_the_stream():
    events = decide(rules(LabelPolicy()), without_axis(20, 1.0, (0.0, 8.0)))
    assert events[0].onset == EPOCH
    assert events[1].offset == pytest.approx(EPOCH + 8.0, abs=2.0)


def test_without_a_time_axis_a_sound_that_the_stream_ends_in_lasts_to_its_end():
    events = decide(rules(LabelPolicy()), without_axis(20, 1.0, (12.0, 30.0)))
    assert [event.type for event in events] == ["begin", "end"]
    assert events[1].offset == EPOCH + 20.0


def test_without_a_time_axis_an_event_is_as_long_as_it_may_be():
    events = decide(rules(LabelPolicy(max_s=10.0)), without_axis(60, 1.0, (10.0, 50.0)))
    assert [event.type for event in events] == ["begin", "end"]
    assert events[1].offset == events[0].onset + 10.0
