import math
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import UserError
from train.evaluate import trust
from train.evaluate.trust import Heard, Recording


def row(folder: str, score: float, label: str, events: tuple[str, ...] = (), source: str = "", seconds: float = 36.0):
    name = f"{folder}/{score}"
    return Recording(Path(name), folder, frozenset(), source or name, name), Heard(seconds, score, label, events)


ROWS = [
    row("dog", 0.9, "dog", ("dog",), "a"),
    row("dog", 0.8, "cat", ("cat", "rain"), "a"),
    row("cat", 0.7, "cat", (), "b"),
    row("other_home", 0.75, "rain", ("rain", "rain"), "b"),
    row("other_home", 0.1, "dog", (), "c"),
]


def test_measures_are_means_over_labels_and_shares_of_recordings():
    found = trust.measures(ROWS, draws=50)
    assert found["announced"].value == pytest.approx((0.5 + 0.0) / 2)
    assert found["named"].value == pytest.approx((0.5 + 1.0) / 2)
    assert found["others"].value == pytest.approx(2 / 3)
    assert found["alarmed"].value == pytest.approx(1 / 2)
    assert found["auroc"].value == pytest.approx(5 / 6)  # of six pairs, only 0.7 against 0.75 is wrong


def test_passing_is_asked_at_the_score_where_a_share_of_the_labelled_are_rightly_named():
    known, right = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
    everyday = np.array([0.85, 0.75, 0.1])
    assert trust.passing(known, right, everyday, 0.34) == pytest.approx(0.0)  # at 0.9
    assert trust.passing(known, right, everyday, 0.67) == pytest.approx(2 / 3)  # at 0.7
    assert trust.passing(known, right, everyday, 1.0) == 1.0  # so many are never named rightly


def test_equal_scores_count_half_in_the_auroc():
    assert trust.auroc(np.array([0.5, 0.5]), np.array([0.5])) == 0.5


def test_intervals_hold_the_value_and_sources_give_the_wider_one():
    rng = np.random.default_rng(0)
    rows = []
    for source in range(12):
        good = source % 2 == 0  # whole sources are heard well or badly
        rows += [row("dog", float(rng.random()), "dog" if good else "cat", source=str(source)) for _ in range(8)]
    named = trust.measures(rows, draws=400)["named"]
    assert named.value == 0.5
    assert named.by_source[0] < named.by_recording[0] < 0.5 < named.by_recording[1] < named.by_source[1]


def test_a_set_without_everyday_recordings_has_no_such_measures():
    assert set(trust.measures(ROWS[:3], draws=5)) == {"announced", "named", "others"}
    assert set(trust.measures(ROWS[3:], draws=5)) == {"alarmed"}


def test_kinds_have_events_an_hour_with_an_interval():
    (kind,) = trust.by_kind(ROWS)
    assert (kind.kind, kind.recordings, kind.events, kind.most) == ("other_home", 2, 2, (("rain", 2),))
    assert kind.hours == pytest.approx(0.02)
    assert kind.per_hour == pytest.approx(100)
    assert kind.per_hour_interval[0] < 100 < kind.per_hour_interval[1]
    assert kind.alarmed == 0.5


def test_labels_have_their_shares():
    assert [(each.label, each.recordings, each.announced, each.named) for each in trust.by_label(ROWS)] == [
        ("cat", 1, 0.0, 1.0),
        ("dog", 2, 0.5, 0.5),
    ]


def test_curves_set_missed_labels_against_events_an_hour_of_each_kind():
    def at(folder: str, low: tuple[str, ...], high: tuple[str, ...]):
        return Recording(Path(folder), folder), Heard(1800.0, points={0.5: low, 0.9: high})

    rows = [at("dog", ("dog",), ()), at("other_home", ("dog", "rain"), ("rain",)), at("other_music", (), ())]
    curves = trust.curves(rows)
    assert [(p.threshold, p.false_alarms_per_hour, p.missed) for p in curves["home"]] == [
        (0.5, 4.0, 0.0),
        (0.9, 2.0, 1),
    ]
    assert [p.false_alarms_per_hour for p in curves["music"]] == [0.0, 0.0]


def test_a_set_is_read_with_its_manifest(tmp_path: Path):
    for name in ("dog/a.ogg", "other_home/b.wav", "other_home/c.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "manifest.csv").write_text(
        "path,label,may,source,original_file\nother_home/b.wav,other_home,siren dog,github:x/y,orig.wav\n"
    )
    dog, b, c = trust.read_set(tmp_path)
    assert (dog.label, dog.is_everyday, dog.source) == ("dog", False, "dog/a.ogg")
    assert (b.is_everyday, b.may, b.source, b.original) == (True, {"siren", "dog"}, "github:x/y", "orig.wav")
    assert c.may == frozenset()


def test_the_half_of_a_recording_is_its_sources():
    halves = {
        source: Recording(Path("a"), "dog", source=source).half for source in ("github:marc-moreaux/kitchen20", "a")
    }
    assert halves == {"github:marc-moreaux/kitchen20": "report", "a": "choose"}


def test_a_folder_without_recordings_is_a_mistake(tmp_path: Path):
    with pytest.raises(UserError, match="no folders with recordings"):
        trust.read_set(tmp_path)


def test_a_manifest_without_paths_is_a_mistake(tmp_path: Path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.wav").write_bytes(b"x")
    (tmp_path / "manifest.csv").write_text("file\nx\n")
    with pytest.raises(UserError, match="column `path`"):
        trust.read_set(tmp_path)


def test_what_was_never_counted_has_no_interval():
    assert math.isnan(trust.measures(ROWS[:3], draws=0)["named"].by_source[0])
