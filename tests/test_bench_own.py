"""`bench/own.py`: its table and picture, from results that the test makes up."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import own as bench


def result(draw: int, count: int, right: int, opinion: bool = True) -> bench.Result:
    return bench.Result(
        draw=draw,
        count=count,
        opinion=opinion,
        fold=1,
        labels=("dog", "cat"),
        truth=20,
        found=20,
        right=right,
        announced={"own dog": (9, 10), "own cat": (5, 10)},
        alarms={"everyday": 1, "other labels": 6},
        hours={"everyday": 0.5, "other labels": 0.25},
        wall_s=30.0,
        processor_s=25.0,
        threads=1,
    )


RESULTS = [result(0, 1, 4), result(1, 1, 8), result(0, 10, 16), result(1, 10, 16)]


def test_a_result_has_f1_recall_and_false_alarms_an_hour():
    found = result(0, 1, 4)
    assert found.f1 == pytest.approx(0.2)
    assert found.recall == pytest.approx(0.7)
    assert found.rate(["everyday"]) == pytest.approx(2.0)
    assert found.rate(["everyday", "other labels"]) == pytest.approx(7 / 0.75)
    assert "draw 0 (dog, cat), 1 of each, with a second opinion: F1 0.200" in str(found)


def test_the_table_has_means_over_draws_and_their_intervals():
    header, _, one, ten, draws = bench.table(RESULTS)
    assert header.startswith("| clips of each label | event F1, 1 s | announced |")
    assert one.startswith("| 1 | 0.300 (0.200 to 0.400) | 70% (70% to 70%) | 2 (2 to 2) | 24 (24 to 24) |")
    assert ten.startswith("| 10 | 0.800 (0.800 to 0.800) |")
    assert draws.startswith("2 draws")


def test_the_picture_is_written(tmp_path: Path):
    both = RESULTS + [result(each.draw, each.count, 3, opinion=False) for each in RESULTS]
    bench.save(tmp_path / "own.png", lambda: bench.picture(both), 50)
    assert (tmp_path / "own.png").read_bytes()[:4] == b"\x89PNG"


def test_results_are_read_again_but_for_a_line_that_was_cut_off(tmp_path: Path):
    lines = [json.dumps(asdict(each)) for each in RESULTS]
    (tmp_path / "results.jsonl").write_text("\n".join([*lines, lines[0][:50]]), "utf-8")
    found = bench.read(tmp_path / "results.jsonl")
    assert [(each.draw, each.count, each.f1, each.recall) for each in found] == [
        (each.draw, each.count, each.f1, each.recall) for each in RESULTS
    ]
    assert bench.read(tmp_path / "none.jsonl") == []
