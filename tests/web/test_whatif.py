"""What another threshold would have given equals what a run with it announces, to the event."""

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger import children
from tagger.decide import Decider
from tagger.errors import TaggerError
from tagger.events import Event, Report, Scores, Stream
from tagger.history import blocks
from tagger.history import scores as history
from tagger.history.blocks import FLOOR
from tagger.history.count_cache import keeping
from tagger.history.scores import chunks, labels_of, reading, track
from tagger.policy import EventsConfig, Policy, policy, with_threshold
from tagger.settings import ScoreHistorySettings
from tagger.sinks.scores import ScoreHistorySink
from tagger.web import counted, whatif
from tagger.web.counted import Counter, parts_of
from tagger.web.replay import Replay, Windows, offered, replay
from tagger.web.thresholds import Thresholds
from tests.programs import until
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
            for enter in offered(own)[::7]:
                wanted = announced(heard, with_threshold(rules, label, enter), label)
                events = replay(kept, label, own.with_enter(enter))
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
    events = replay(kept, "dog", rules.each[0])
    assert [(each.onset, each.offset, each.peak_score) for each in events] == wanted


def test_a_threshold_whose_exit_was_not_kept_is_not_offered() -> None:
    default, low, none = (rules_of(EventsConfig({"exit": exit})).each[2] for exit in (0.2, 0.04, 0.0))
    assert min(offered(default)) == 0.2
    assert all(low.exit_at(each) >= FLOOR for each in offered(low))
    assert offered(none) == []


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

    thresholds = Thresholds(lambda: path, lambda source: rules if source == "mic" else None, "attic", change)
    with page(thresholds=thresholds) as served:
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
    thresholds = Thresholds(lambda: path, lambda source: rules_of(EventsConfig()), "attic", lambda *_: {})
    with page(thresholds=thresholds) as served:
        for query in ("", "&label=dog"):
            status, _, text = served.ask(f"/api/thresholds?source=mic{query}")
            assert (status, str(path) in json.loads(text)["error"]) == (503, True)


def test_a_process_that_dies_before_it_was_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    start = children.start_module
    monkeypatch.setattr(children, "start_module", lambda _, kind: start("tagger.none", kind))
    with pytest.raises(TaggerError, match="the count ended without an answer"):
        whatif.ask({})


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("part_s", [7.0, 60.0, 1e9])
def test_what_is_counted_in_parts_is_what_is_counted_at_once(
    tmp_path: Path, name: str, part_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_WINDOWS", 5)
    monkeypatch.setattr(counted, "PART_SECONDS", part_s)
    rules, path, total = rules_of(RULES[name]), tmp_path / "scores.sqlite", 0
    keep(path, stream_of(3))
    keep(path, stream_of(4))  # after a restart
    with reading(path) as database:
        known = chunks(database, "attic", "mic")
        for label, own in zip(LABELS, rules.each, strict=True):
            each = [own.with_enter(enter) for enter in offered(own)[::5]]
            whole = track(database, "attic", "mic", label)
            wanted = [[(event.onset, event.offset) for event in replay(whole, label, one)] for one in each]
            read = lambda among: track(database, "attic", "mic", label, among)  # noqa: B023, E731
            for _ in range(2):  # the second time from what was kept
                with keeping(path) as kept:
                    found = Counter(("attic", "mic", label), each, kept, read).count(parts_of(known))
                assert found == wanted, label
            total += sum(map(len, wanted))
    assert sum(chunk.windows for chunk in known) == len(whole.time)
    assert total > 60


def test_what_was_counted_is_read_again_and_what_has_come_since_is_counted(tmp_path: Path) -> None:
    path, read, rules = tmp_path / "scores.sqlite", list[int](), rules_of(EventsConfig()).each[0]
    hour = 3_600.0
    for at in range(6):
        heard = [each and replace(each, time=each.time + 2 * at * hour) for each in stream_of(at, 30)]
        keep(path, heard)

    def events() -> list[list[tuple[float, float | None]]] | None:
        read.clear()
        with reading(path) as database, keeping(path) as kept:

            def reads(among: list[history.Chunk]) -> history.Track:
                read.append(len(among))
                return track(database, "attic", "mic", "dog", among)

            return Counter(("attic", "mic", "dog"), [rules], kept, reads).count(
                parts_of(chunks(database, "attic", "mic"))
            )

    first = events()
    assert len(read) >= 6
    assert events() == first
    assert len(read) <= 2, "the last hour, which may grow"
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM blocks WHERE id = (SELECT min(id) FROM blocks)")
    shorter = events()
    assert len(read) <= 3, "an hour whose past was deleted may be counted again, but those after it are not"
    with reading(path) as database:
        whole = track(database, "attic", "mic", "dog")
    assert shorter == [[(each.onset, each.offset) for each in replay(whole, "dog", rules)]]


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_counts_that_are_damaged_are_counted_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.sqlite"
    keep(path, stream_of(1, 30))
    for damage in (b"", content):
        if damage:
            (tmp_path / "scores.sqlite.counts").write_bytes(damage)
        rules = whatif.rules_json(rules_of(EventsConfig()).each[0])
        question = {"path": str(path), "node": "attic", "source": "mic", "label": "dog", "rules": rules, "marks": []}
        found = whatif.answer({**question, "now": 1_800_000_060.0})
        assert max(row["day"] for row in found["counts"]) > 0


def test_a_decider_goes_on_where_another_has_stopped_in_the_middle_of_an_event(tmp_path: Path) -> None:
    path, own = tmp_path / "scores.sqlite", rules_of(EventsConfig()).each[0]
    keep(path, stream_of(7, 120))
    with reading(path) as database:
        kept = track(database, "attic", "mic", "dog")
    wanted = [(each.onset, each.offset, each.peak_score) for each in replay(kept, "dog", own)]
    found, memory, middles = list[Event](), None, 0
    for at in range(0, 120, 4):
        one = Replay("dog", own, json.loads(json.dumps(memory)))
        part = slice(at, at + 4)
        one.hear(
            Windows(
                replace(
                    kept, time=kept.time[part], duration_s=kept.duration_s[part], values=kept.values[part],
                    entries=kept.entries[part], flags=kept.flags[at : at + 5],
                )
            )
        )  # fmt: skip
        if one.end is not None:
            middles += 1
            found[-1] = one.end
        found += one.events
        memory = one.memory()
    assert [(each.onset, each.offset, each.peak_score) for each in found] == wanted
    assert middles > 2


def test_what_takes_too_long_is_left_out_and_counted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, day, now = tmp_path / "scores.sqlite", 86_400.0, time.time()
    for ago in (20 * day, 6 * day, 0.0):
        heard = stream_of(1, 60)
        last = next(each for each in reversed(heard) if each is not None)
        keep(path, [each and replace(each, time=each.time - last.time + now - 60 - ago) for each in heard])
    rules = rules_of(EventsConfig())
    with reading(path) as database:
        kept = track(database, "attic", "mic", "dog")
    each = [rules.each[0].with_enter(enter) for enter in offered(rules.each[0])]
    events = [[(event.onset, event.offset) for event in replay(kept, "dog", own)] for own in each]
    whole = whatif.rows_of(each, events, now, [])
    question = {"path": str(path), "node": "attic", "source": "mic", "label": "dog", "now": now}
    question |= {"rules": whatif.rules_json(rules.each[0])}
    question |= {"marks": [(now - ago - 120, now - ago, True) for ago in (20 * day, 6 * day, 0.0)]}
    spent = [0.0]

    def clock() -> float:
        """Each part that is counted takes a second. The last is counted for each span."""
        spent[0] += 1 / len(whole)
        return spent[0]

    monkeypatch.setattr(whatif, "COUNT_SECONDS", 4.5)
    left = []
    for _ in range(10):
        found = whatif.answer(question, clock)
        rows = found["counts"]
        left.append(sum(rows[0][name] is None for name in whatif.SPANS))
        for row, wanted in zip(rows, whole, strict=True):
            assert all(row[name] in (None, wanted[name]) for name in whatif.SPANS)
        assert found["reviewed"]["right"] <= 3 - left[-1]
        if not left[-1]:
            break
    assert left[0] > 0
    assert left[-1] == 0, "what was counted is kept, so the rest is reached"


def test_what_was_left_out_of_an_answer_is_counted_without_being_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[float]()

    def ask(question: dict[str, float]) -> dict[str, object]:
        asked.append(question["now"])
        row = {"enter": 0.5, "exit": 0.25, "day": 1, "week": 2, "month": 3 if len(asked) == 4 else None}
        return {"since": None, "until": None, "windows": 5, "counts": [row], "reviewed": {"right": 0, "wrong": 0}}

    monkeypatch.setattr(whatif, "ask", ask)
    path, rules = tmp_path / "scores.sqlite", rules_of(EventsConfig())
    path.touch()
    thresholds = Thresholds(lambda: path, lambda source: rules, "attic", lambda *_: {})
    wanted = {"source": "mic", "label": "dog"}
    assert thresholds.count(wanted)["counts"][0]["month"] is None
    until(lambda: thresholds.count(wanted)["counts"][0]["month"] == 3, "all is counted")
    assert len(asked) == 4
