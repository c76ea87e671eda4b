from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.decide import Decider
from tagger.events import Event, Scores

LABELS = ("dog", "rain", "siren")
EPOCH = 1_800_000_000.0
THRESHOLDS = (0.3, 0.5, 0.9)
HOP = 1.0

score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([np.float32(each) for each in THRESHOLDS]))
sequences = st.lists(st.tuples(score, score, score), max_size=30)
windows = st.sampled_from([1.0, 1.5, 2.0, 5.0])


def scores(number: int, values: tuple[float, ...], window_s: float) -> Scores:
    start = number * HOP
    return Scores(np.array(values, np.float32), start, start + window_s, EPOCH + start)


def counting_ids() -> Callable[[float], str]:
    numbers = iter(range(10_000))
    return lambda now: f"id{next(numbers)}"


def decide(sequence: list[tuple[float, ...]], window_s: float) -> list[Event]:
    decider = Decider(LABELS, THRESHOLDS, HOP, counting_ids())
    events = [event for i, values in enumerate(sequence) for event in decider.update(scores(i, values, window_s))]
    events += decider.close()
    assert decider.active == ()
    return events


@given(sequences, windows)
def test_each_begin_has_one_end_of_the_same_id_and_label(sequence, window_s):
    by_id = defaultdict(list)
    for event in decide(sequence, window_s):
        by_id[event.id].append(event)
    for events in by_id.values():
        assert [event.type for event in events] == ["begin", "end"]
        begin, end = events
        assert (begin.label, begin.onset) == (end.label, end.onset)
        assert begin.offset is None
        assert end.offset >= end.onset


@given(sequences, windows)
def test_events_of_one_label_never_overlap(sequence, window_s):
    last = dict.fromkeys(LABELS, -np.inf)
    for event in decide(sequence, window_s):
        if event.type == "begin":
            assert event.onset >= last[event.label]
            last[event.label] = np.inf
        else:
            assert last[event.label] == np.inf
            last[event.label] = event.offset


@given(sequences, windows)
def test_events_are_the_runs_of_scores_at_or_above_the_threshold(sequence, window_s):
    events = decide(sequence, window_s)
    for column, (label, threshold) in enumerate(zip(LABELS, THRESHOLDS, strict=True)):
        values = np.array([values[column] for values in sequence], np.float32).astype(float)
        runs, run = [], []
        for value in [*values, -1.0]:
            if value >= threshold:
                run.append(value)
            elif run:
                runs.append(run)
                run = []
        begins = [event for event in events if event.label == label and event.type == "begin"]
        ends = [event for event in events if event.label == label and event.type == "end"]
        assert [event.score for event in begins] == [run[0] for run in runs]
        assert [event.peak_score for event in ends] == [max(run) for run in runs]


@given(sequences, windows)
def test_events_lie_within_what_was_heard(sequence, window_s):
    for event in decide(sequence, window_s):
        assert EPOCH <= event.onset <= EPOCH + (len(sequence) - 1) * HOP + window_s
        if event.offset is not None:
            assert event.offset <= EPOCH + (len(sequence) - 1) * HOP + window_s


@given(sequences, windows)
def test_deterministic(sequence, window_s):
    assert decide(sequence, window_s) == decide(sequence, window_s)


@given(sequences, windows)
def test_ends_come_before_begins_and_active_tells_what_is_open(sequence, window_s):
    decider = Decider(LABELS, THRESHOLDS, HOP, counting_ids())
    for number, values in enumerate(sequence):
        types = [event.type for event in decider.update(scores(number, values, window_s))]
        assert types == sorted(types, reverse=True)
        assert set(decider.active) == {
            label
            for label, threshold, value in zip(LABELS, THRESHOLDS, np.float32(values), strict=True)
            if float(value) >= threshold
        }


def test_a_sound_lies_between_the_windows_that_hold_it():
    # Windows of 5 s, one a second. A bark from 7.2 s to 7.6 s is in the windows that start at 3, 4, 5, 6 and 7 s.
    barks = [(0.8,) if 3 <= start <= 7 else (0.1,) for start in range(12)]
    decider = Decider(["dog"], [0.5], HOP, counting_ids())
    begin, end = (event for i, values in enumerate(barks) for event in decider.update(scores(i, values, 5.0)))
    assert (begin.onset - EPOCH, end.offset - EPOCH) == (7.0, 8.0)


def test_a_first_window_over_the_threshold_begins_within_it():
    decider = Decider(["dog"], [0.5], HOP)
    (begin,) = decider.update(Scores(np.array([0.9], np.float32), 0.0, 0.3, EPOCH))
    assert begin.onset == EPOCH  # a clip shorter than the hop


def test_close_ends_sounds_where_hearing_ended():
    decider = Decider(["dog"], [0.5], HOP)
    decider.update(scores(0, (0.7,), 5.0))
    decider.update(scores(1, (0.9,), 5.0))
    (end,) = decider.close()
    assert (end.offset - EPOCH, end.peak_score) == (6.0, pytest.approx(0.9))
    assert decider.close() == []


def test_not_a_number_is_no_event():
    assert Decider(["dog"], [0.5], HOP).update(scores(0, (float("nan"),), 5.0)) == []


def test_ids_are_ulids_in_order():
    decider = Decider(["dog", "rain"], [0.5, 0.5], HOP)
    ids = [event.id for event in decider.update(scores(0, (0.9, 0.9), 5.0))]
    assert len(set(ids)) == 2
    assert all(len(each) == 26 for each in ids)


def test_thresholds_must_match_labels():
    with pytest.raises(ValueError, match="2 thresholds for 1 labels"):
        Decider(["dog"], [0.5, 0.5], HOP)
