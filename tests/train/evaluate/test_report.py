import csv
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger import figures
from train.curve import Epoch
from train.evaluate import metrics, plots, report
from train.evaluate.categories import ESC50_LABELS
from train.evaluate.predictions import NO_LABEL, Predictions

PNG = b"\x89PNG\r\n\x1a\n"


def simulated(labels: tuple[str, ...], each: int, wrong: float, background: int = 0, seed: int = 0) -> Predictions:
    """Some clips of each label in five folds, a share of them wrong."""
    rng = np.random.default_rng(seed)
    targets = np.array([*np.arange(len(labels)).repeat(each), *[NO_LABEL] * background], int)
    n = len(targets)
    scores = rng.uniform(0, 0.3, (n, len(labels))).astype(np.float32)
    answers = np.where(rng.random(n) < wrong, rng.integers(0, len(labels), n), targets)
    scores[answers >= 0, answers[answers >= 0]] = rng.uniform(0.5, 1, (answers >= 0).sum())
    clips = tuple(f"clip {i}.wav" for i in range(n))
    return Predictions(labels, scores, targets, clips, np.arange(n) % 5 + 1)


def rising(epochs: int, validated: bool = True, averaged: bool = False) -> tuple[Epoch, ...]:
    rows = []
    for epoch in range(1, epochs + 1):
        loss, accuracy = 3 / epoch, 1 - 1 / (epoch + 1)
        inner = (1.1 * loss, 0.9 * accuracy) if validated else (None, None)
        ema = (loss, accuracy) if averaged else (None, None)
        rows.append(Epoch(epoch, loss, accuracy, *inner, 1e-3 / epoch, 2.5, *ema))
    return tuple(rows)


def read(folder: Path) -> tuple[dict[str, Any], str, list[dict[str, str]] | None]:
    """Reads a report, and checks that its JSON is valid and its pictures exist."""

    def no_number(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    document = json.loads((folder / "report.json").read_text("utf-8"), parse_constant=no_number)
    text = (folder / "report.md").read_text("utf-8")
    words = text.replace("None in sys.modules", "").replace("`", " ").split()
    assert not {"nan", "None", "inf"} & set(words)
    for name in plots.NAMES:
        assert (folder / name).is_file() == (f"]({name})" in text)
        if (folder / name).is_file():
            assert (folder / name).read_bytes()[:8] == PNG
    assert not list(folder.glob("*.partial"))
    table = folder / "predictions.csv"
    if not table.is_file():
        return document, text, None
    with table.open(newline="", encoding="utf-8") as file:
        return document, text, list(csv.DictReader(file))


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_everything(tmp_path):
    pytest.importorskip("matplotlib")
    p = simulated((*ESC50_LABELS, "doorbell"), 10, 0.1, background=20)
    curves = {f"fold {k}": rising(4 + k, averaged=True) for k in range(1, 6)}
    facts = {"recipe": "mn04", "seed": 7, "data": {"name": "ESC-50", "clips": 500}, "command": "tagger train | tee log"}
    chosen = {f"fold {k}": k for k in range(1, 6)}
    report.write(tmp_path, "ESC-50 with mn04", p, curves, facts, ["LEAK: not a result"], chosen)
    document, text, rows = read(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "report.json",
        "report.md",
        "predictions.csv",
        *plots.NAMES,
    }

    results = document["results"]
    assert document["marks"] == ["LEAK: not a result"]
    assert document["facts"] == facts
    assert results["accuracy"] == metrics.accuracy(p)
    assert results["calibration_error"] == metrics.calibration_error(p)
    assert results["accuracy_by_fold"] == {str(k): v for k, v in metrics.accuracy_by_fold(p).items()}
    assert (results["clips"], results["background"]) == (510, 20)
    assert np.array(results["confusion"]).sum() == 510
    assert len(results["labels"]) == 51
    assert document["curves"]["fold 3"]["chosen_epoch"] == 3
    assert document["curves"]["fold 3"]["epochs"][1]["ema_loss"] == 1.5

    assert text.splitlines()[:3] == ["# ESC-50 with mn04", "", "> **WARNING: LEAK: not a result**"]
    assert f"**{100 * results['accuracy']:.2f} %**" in text
    assert f"{100 * results['accuracy_mean']:.2f} ± {100 * results['accuracy_std']:.2f} %" in text
    for heading in ("Folds", "Categories", "Labels", "Confused most", "Calibration", "Training", "Made with"):
        assert f"\n## {heading}\n" in text
    for meaning in ("**Train**", "**Inner validation**", "**Test**"):
        assert meaning in text
    assert "`tagger train \\| tee log`" in text
    assert "| data.clips | `500` |" in text
    worst = metrics.most_confused(p, 1)[0]
    assert f"| `{worst.true}` | `{worst.said}` | {worst.count} | `{worst.clips[0]}`" in text

    assert rows is not None
    assert [row["clip"] for row in rows] == list(p.clips)
    assert [row["right"] for row in rows] == [str(int(right)) for right in p.right[:510]] + [""] * 20
    assert [float(row["score"]) for row in rows] == pytest.approx(p.confidence)
    assert rows[-1]["truth"] == ""
    assert (rows[0]["truth"], rows[0]["fold"]) == ("dog", "1")


@pytest.mark.parametrize(
    "p",
    [
        simulated(("dog",), 1, 0),
        simulated(("dog",), 3, 0, background=2),
        simulated(("doorbell", "our kettle", "Müll $x$ | `bin`\n<b>"), 4, 0.5, background=3),
        simulated(("犬", "猫"), 2, 0.5),
        simulated(("a", "b"), 0, 0, background=3),
        simulated(("a", "b"), 0, 0),
        simulated(("a", "b", "c"), 2, 0).only(np.arange(6) < 2),
    ],
    ids=["one clip", "one label", "own", "script", "background", "nothing", "absent labels"],
)
def test_any_labels(tmp_path, p):
    pytest.importorskip("matplotlib")
    report.write(tmp_path, "own", p, {}, {}, [])
    document, text, rows = read(tmp_path)
    assert document["results"]["clips"] == len(p.known.clips)
    assert len(rows or []) == len(p.clips)
    assert text.count("WARNING") == 0
    assert all(line.count("|") - line.count("\\|") == 7 for line in text.splitlines() if "our kettle` |" in line[:15])


def test_of_many_labels_those_of_most_mistakes_are_shown(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plots, "MOST_LABELS", 4)
    p = simulated(tuple(f"a label of many letters, number {i}" for i in range(9)), 2, 0)
    p.scores[[0, 10]] = p.scores[[8, 12]]  # 0 is taken for 4, 5 for 6
    assert plots.shown_labels(p).tolist() == [0, 4, 5, 6]
    report.write(tmp_path, "many", p, {}, {}, [])
    read(tmp_path)


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"fold 1": ()},
        {"fold 1": rising(1)},
        {"fold 1": rising(3), "all clips": rising(30, validated=False)},
        {"all clips": rising(2, validated=False)},
        {"fold 1": (Epoch(1, None, None, None, None, 0.1, 1.0),)},
        {"fold 1": (Epoch(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),)},
        {"fold 1": (Epoch(1, float("nan"), 0.1, float("inf"), 0.1, 0.1, 1.0),)},
    ],
    ids=["none", "no epochs", "one epoch", "two lengths", "no validation", "nothing", "zeros", "no numbers"],
)
def test_any_curves(tmp_path, curves):
    pytest.importorskip("matplotlib")
    report.write(tmp_path, "training", None, curves, {}, [], {"fold 1": 1, "fold 9": 3})
    document, text, rows = read(tmp_path)
    assert (document["results"], rows) == (None, None)
    assert list(document["curves"]) == [name for name, epochs in curves.items() if epochs]
    assert ("## Training" in text) == bool(document["curves"])


def test_a_loss_that_is_no_number_is_a_warning(tmp_path, without_matplotlib):
    epochs = [replace(each, train_loss=float("nan")) if each.epoch > 3 else each for each in rising(6)]
    report.write(tmp_path, "training", None, {"fold 2": epochs}, {}, [])
    document, text, _ = read(tmp_path)
    assert document["marks"] == ["DIVERGED: the loss of fold 2 is not a number in epoch 4"]
    assert f"> **WARNING: {document['marks'][0]}**" in text
    assert [each["train_loss"] for each in document["curves"]["fold 2"]["epochs"]][2:4] == [1.0, None]


def test_the_kept_epoch_and_the_last(tmp_path, without_matplotlib):
    curves = {"fold 1": rising(10, averaged=True), "fold 2": rising(10)}
    report.write(tmp_path, "training", None, curves, {}, [], {"fold 1": 4})
    text = read(tmp_path)[1]
    # Loss 3/4 and 3/10 by the averaged weights, accuracy 4/5 and 10/11.
    assert "| fold 1 | 10 | 4 | 0.750 | 0.750 | 0.300 | 80.00 | 80.00 | 90.91 | 0.4 |" in text
    assert "| fold 2 | 10 | 10 | 0.300 | 0.330 | 0.330 | 90.91 | 81.82 | 81.82 | 0.4 |" in text


def test_without_matplotlib(tmp_path, without_matplotlib):
    report.write(tmp_path, "own", simulated(("a", "b"), 3, 0.3), {"fold 1": rising(3)}, {}, [])
    document, text, rows = read(tmp_path)
    assert "./scripts/setup train" in text
    assert "matplotlib" in text
    assert document["results"]["clips"] == len(rows or []) == 6
    assert not list(tmp_path.glob("*.png"))


def test_an_older_report_leaves_nothing_behind(tmp_path, without_matplotlib):
    for name in (*plots.NAMES, "predictions.csv", "other.png"):
        (tmp_path / name).write_bytes(b"old")
    report.write(tmp_path, "training", None, {"fold 1": rising(3)}, {}, [])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "other.png",
        "report.json",
        "report.md",
    ]


def test_a_report_repeats(tmp_path):
    pytest.importorskip("matplotlib")
    p = simulated(("a", "b", "c"), 5, 0.3)
    for name in ("first", "second"):
        report.write(tmp_path / name, "own", p, {"fold 1": rising(3)}, {"seed": 1}, [])
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@dataclass(frozen=True)
class Recipe:
    rate: float
    folds: tuple[int, ...]


def test_facts_of_any_kind(tmp_path, without_matplotlib):
    facts = {
        "recipe": Recipe(float("inf"), (1, 2)),
        "path": Path("runs/a b"),
        "array": np.arange(3),
        "number": np.float32(0.5),
        "set": {"b", "a"},
        "nothing": None,
        "empty": {},
        "pairs": [[1, 2], [3, 4]],
        1: True,
    }
    report.write(tmp_path, "facts", None, {}, facts, [])
    assert json.loads((tmp_path / "report.json").read_text())["facts"] == {
        "recipe": {"rate": None, "folds": [1, 2]},
        "path": "runs/a b",
        "array": [0, 1, 2],
        "number": 0.5,
        "set": ["a", "b"],
        "nothing": None,
        "empty": {},
        "pairs": [[1, 2], [3, 4]],
        "1": True,
    }
    text = (tmp_path / "report.md").read_text()
    for line in ("| recipe.folds | `1, 2` |", "| path | `runs/a b` |", "| set | `a, b` |", "| empty | `{}` |"):
        assert line in text


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40)
"""The CSV module of Python 3.11 does not quote a carriage return."""


@settings(max_examples=15)
@given(TEXT.filter(bool), TEXT, TEXT)
def test_text_of_any_kind_stays_in_its_place(tmp_path, label, clip, fact):
    p = Predictions((label, f"{label}2"), np.array([[0.2, 0.7]], np.float32), np.array([0]), (clip,), np.array([1]))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        report.write(tmp_path, fact, p, {}, {"fact": fact}, [fact])
    text = (tmp_path / "report.md").read_text("utf-8")
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert document["facts"]["fact"] == fact
    cells = [len(line.replace("\\|", "").split("|")) for line in text.split("\n") if line.startswith("|")]
    assert set(cells) <= {4, 6, 8}
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["clip"], row["truth"]) == (clip, label)


def test_pictures_ignore_the_users_style(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    p = simulated(("a", "b"), 5, 0.3)
    report.write(tmp_path / "plain", "own", p, {}, {}, [])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        report.write(tmp_path / "styled", "own", p, {}, {}, [])
        assert matplotlib.rcParams["font.size"] == 30
    for path in (tmp_path / "plain").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "styled" / path.name).read_bytes()


def test_names_do_not_overlap_in_the_confusions():
    """At fifty labels, the names on both axes keep apart and within the picture."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with figures.style(plots.STYLE):
        figure = plots.confusion(simulated(ESC50_LABELS, 4, 0.1))
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        axes = figure.axes[0]
        for names in (axes.get_xticklabels(), axes.get_yticklabels()):
            boxes = [name.get_window_extent(renderer) for name in names]
            assert len(boxes) == 50
            assert not any(first.overlaps(second) for first, second in itertools.pairwise(boxes))
            assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)


def test_importing_reports_brings_no_matplotlib():
    code = "import sys, train.evaluate.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "False"
