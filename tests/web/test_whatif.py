"""What another threshold would have given equals what a run with it announces, to the event."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger import children
from tagger.decide import Decider
from tagger.errors import TaggerError
from tagger.events import Event, Report, Scores, Stream
from tagger.history.scores import FLOOR, labels_of, reading, track
from tagger.policy import EventsConfig, Policy, policy, with_threshold
from tagger.settings import ScoreHistorySettings
from tagger.sinks.scores import ScoreHistorySink
from tagger.web import whatif
from tagger.web.thresholds import Thresholds
from tests.web.pages import page
from tests.web.test_api import fits

LABELS = ("dog", "siren", "rain", "other")
STREAM = Stream("attic", "mic", "fake", LABELS)
WINDOW_S, STEP_S = 5.0, 0.32
RULES = {
    "as by default": EventsConfig(),
    "long confirmation and refractory time": EventsConfig({"confirm_s": 2.0, "refractory_s": 20.0, "merge_s": 4.0}),
    "shortest and longest sounds": EventsConfig({"min_s": 1.5, "max_s": 6.0, "kind": "continuous"}),
}


def stream_of(seed: int, windows: int = 200) -> list[Scores | None]:
    """Windows of sounds that come, go, flicker and last, with gaps and a clock that moves; None: events are ended."""
    rng = np.random.default_rng(seed)
    steps = int(WINDOW_S / STEP_S) + 1
    found: list[Scores | None] = []
    at, start_s = 1_800_000_000.0 + rng.uniform(), 0.0
    level = np.zeros(len(LABELS))
    for _ in range(windows):
        level = np.where(
            rng.random(len(LABELS)) < 0.12, rng.choice([0.0, 0.0, 0.15, 0.3, 0.6, 0.9], len(LABELS)), level
        )
        values = np.clip(level + rng.normal(0, 0.08, len(LABELS)), 0, 1).astype(np.float32)
        centre = rng.uniform(0, WINDOW_S, (len(LABELS), 1))
        spread = np.exp(-(((np.arange(steps) * STEP_S - centre) / rng.uniform(0.3, 3)) ** 2))
        activity = (values[:, None] * spread + rng.uniform(0, 0.05, spread.shape)).astype(np.float32)
        activity[3] = np.nan  # a label without a time axis
        found.append(Scores(values, start_s, start_s + WINDOW_S, at, activity, STEP_S))
        at, start_s = at + 1.0 + rng.normal(0, 1e-4), start_s + 1.0
        if rng.random() < 0.02:
            at += rng.choice([0.5, 8.0, 60.0, -30.0])
        if rng.random() < 0.01:
            found.append(None)
    return found


def rules_of(config: EventsConfig) -> Policy:
    return policy(LABELS, (0.5, 0.7, 0.4, 0.6), WINDOW_S, 1.0, config)


def announced(heard: list[Scores | None], rules: Policy, label: str) -> list[tuple[float, float | None, float]]:
    """Onset, offset and peak score of a label's events in a run with these rules."""
    decider, events = Decider(rules), dict[str, Event]()
    for scores in heard:
        for event in decider.close() if scores is None else decider.update(scores):
            events[event.id] = event
    return [(each.onset, each.offset, each.peak_score) for each in events.values() if each.label == label]


def keep(path: Path, heard: list[Scores | None]) -> None:
    sink = ScoreHistorySink(ScoreHistorySettings(path))
    sink.open([STREAM])
    for scores in heard:
        if scores is None:
            sink.status(STREAM, "offline", "gone")
        else:
            sink.report(STREAM, Report(scores, (), None, 0.0))
    sink.close(60)


@pytest.mark.parametrize("name", RULES)
def test_each_threshold_gives_the_events_of_a_run_with_it(tmp_path: Path, name: str) -> None:
    rules, total = rules_of(RULES[name]), 0
    for seed in range(2):
        heard = stream_of(seed)
        path = tmp_path / f"{seed}.sqlite"
        keep(path, heard)
        for label, own in zip(LABELS, rules.each, strict=True):
            with reading(path) as database:
                kept = track(database, "attic", "mic", label)
            for enter in whatif.offered(own)[::7]:
                wanted = announced(heard, with_threshold(rules, label, enter), label)
                events = whatif.replay(kept, label, own.with_enter(enter))
                assert [(each.onset, each.offset, each.peak_score) for each in events] == wanted, (label, enter)
                total += len(wanted)
    assert total > 60


def test_a_history_goes_on_after_a_restart_as_a_new_daemon_does(tmp_path: Path) -> None:
    rules, path = rules_of(EventsConfig()), tmp_path / "scores.sqlite"
    first, second = stream_of(1, 950), stream_of(2, 50)
    later = first[-1] or first[-2]
    assert later is not None
    second = [each and replace(each, time=each.time + 1_000_000) for each in second]
    keep(path, [*first, None])
    keep(path, second)
    wanted = announced([*first, None], rules, "dog") + announced(second, rules, "dog")
    with reading(path) as database:
        kept = track(database, "attic", "mic", "dog")
        assert set(labels_of(database, "attic", "mic")) == set(LABELS)
    events = whatif.replay(kept, "dog", rules.each[0])
    assert [(each.onset, each.offset, each.peak_score) for each in events] == wanted


def test_a_threshold_whose_exit_was_not_kept_is_not_offered() -> None:
    default, low, none = (rules_of(EventsConfig({"exit": exit})).each[2] for exit in (0.2, 0.04, 0.0))
    assert min(whatif.offered(default)) == 0.2
    assert all(low.exit_at(each) >= FLOOR for each in whatif.offered(low))
    assert whatif.offered(none) == []


def test_counts_by_span_and_the_reviewed_sounds_beside_them(tmp_path: Path) -> None:
    """By way of the process that counts."""
    heard, path = stream_of(5, 300), tmp_path / "scores.sqlite"
    last = next(each for each in reversed(heard) if each is not None)
    heard = [each and replace(each, time=each.time - last.time + time.time() - 5) for each in heard]
    keep(path, heard)
    rules = rules_of(EventsConfig())
    said = list[tuple[str | None, str, float]]()

    def change(source: str | None, label: str, enter: float) -> dict[str, object]:
        said.append((source, label, enter))
        return {"sources": ["mic"], "label": label, "enter": enter, "exit": enter / 2, "until": "restart or reload"}

    counted = Thresholds(lambda: path, lambda source: rules if source == "mic" else None, "attic", change)
    with page(thresholds=counted) as served:
        found = served.json("/api/thresholds?source=mic&label=dog")
        fits("/api/thresholds", found)
        listed = served.json("/api/thresholds?source=mic")
        fits("/api/thresholds", listed)
        status, answer = served.post("/api/thresholds", '{"source": "mic", "label": "dog", "enter": 0.65}')
        fits("/api/thresholds", answer, method="post")
        for body in (
            "{}",
            '{"source": 1, "label": "dog", "enter": 0.5}',
            '{"source": null, "label": "dog", "enter": "x"}',
            '{"source": null, "label": "dog", "enter": NaN}',
            f'{{"source": null, "label": "dog", "enter": 1{"0" * 400}}}',
        ):
            assert served.post("/api/thresholds", body)[0] == 400
        for query in ("", "?source=door", "?source=mic&label=cat", "?source=mic&x=1"):
            assert served.ask(f"/api/thresholds{query}")[0] == 400
    with page() as served:
        assert served.ask("/api/thresholds?source=mic")[0] == 404
    for row in found["counts"][::5]:
        wanted = announced(heard, with_threshold(rules, "dog", row["enter"]), "dog")
        assert (row["day"], row["week"], row["month"]) == (len(wanted),) * 3
    assert found["windows"] == sum(each is not None for each in heard)
    assert [each["label"] for each in listed["labels"]] == list(LABELS)
    assert all(each["heard"] for each in listed["labels"])
    assert (status, answer["toml"]) == (200, '[events.labels."dog"]\nenter = 0.65\n')
    assert said == [("mic", "dog", 0.65)]


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_history_that_cannot_be_read_is_no_mistake_of_whoever_asks(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_bytes(content)
    counted = Thresholds(lambda: path, lambda source: rules_of(EventsConfig()), "attic", lambda *_: {})
    with page(thresholds=counted) as served:
        for query in ("", "&label=dog"):
            status, _, text = served.ask(f"/api/thresholds?source=mic{query}")
            assert (status, str(path) in json.loads(text)["error"]) == (503, True)


def test_a_process_that_dies_before_it_was_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    start = children.start_module
    monkeypatch.setattr(children, "start_module", lambda _, kind: start("tagger.none", kind))
    with pytest.raises(TaggerError, match="the count ended without an answer"):
        whatif.ask({})


def test_where_counting_all_takes_too_long_the_longest_spans_are_left_out(tmp_path: Path) -> None:
    path, now, day = tmp_path / "scores.sqlite", 1_900_000_000.0, 86_400.0
    for ago in (20 * day, 6 * day, 0.0):
        heard = stream_of(1, 60)  # the day takes 6 s; so does each of the others
        last = next(each for each in reversed(heard) if each is not None)
        keep(path, [each and replace(each, time=each.time - last.time + now - 60 - ago) for each in heard])
    with reading(path) as database:
        kept = track(database, "attic", "mic", "dog")
    rules = rules_of(EventsConfig()).each[0]
    whole = whatif.counts(kept, "dog", rules, now, [])
    times = iter((0.0, 6.0) * 3)
    for seconds, left_out in ((25.0, ()), (19.0, ("month",)), (10.0, ("week", "month"))):
        marks = [(now - ago - 120, now - ago, True) for ago in (20 * day, 6 * day, 0.0)]
        rows, part = whatif.counted_part(kept, "dog", rules, now, marks, seconds, lambda: next(times))
        expected = [row | dict.fromkeys(left_out) for row in whole]
        spans = ("enter", "day", "week", "month")
        assert [[row[name] for name in spans] for row in rows] == [[row[name] for name in spans] for row in expected]
        assert len(part.time) == len(kept.time) * (3 - len(left_out)) // 3
        assert max(row["right"] for row in rows) <= 3 - len(left_out)
