"""`tagger bench` as a person types it."""

import json
from pathlib import Path

import pytest

from tagger.bench import parts
from tagger.bench.parts import compared
from tagger.bench.plot import draw, line
from tagger.bench.report import lines, warnings
from tagger.bench.results import Cost, Growth, Point, Results
from tagger.bench.usage import MachineLoad
from tests.programs import refused, run

COST = Cost("esc50", "onnx", "cpu by ONNX Runtime", 5.0, 1.0, 5.0, 1.5, 2.0, 1.0, 4.5, 10)


def test_one_part_alone_is_measured_and_printed_as_json():
    done = run("bench", "size", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["complete"] is True
    assert found["installed_mb"] > 50
    assert found["costs"] == []
    assert found["machine"]["versions"]["tagger"]


def test_an_interruption_keeps_what_was_measured(monkeypatch):
    def interrupted(settings, results, tick):
        results.costs = [COST]
        raise KeyboardInterrupt

    monkeypatch.setitem(parts.MEASURE, "cost", interrupted)
    done = run("bench", "cost", "size")
    assert done.exit_code == 130
    assert "esc50, cpu by ONNX Runtime" in done.stdout
    assert "interrupted: the rest was not measured" in done.stdout
    assert "installed" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hop", "0"], "--hop 0: must be"),
        (["compare"], "--compare DIR"),
        (["--compare", "/nowhere"], "not the folder of EfficientAT's repository"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--runtime", "steam"], "--runtime steam"),
        (["--plot", "/nowhere/at/all.png"], "there is no folder /nowhere/at"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(arguments, words):
    refused(run("bench", *arguments), words)


def test_the_table_has_all_parts_of_the_cost(capsys):
    results = Results(parts_machine(), costs=[COST])
    text = "\n".join(lines(results))
    assert "5.0 ms    1.5 ms    2.0 ms    1.0 ms    0.5 ms   200" in text
    assert "5 s every 1 s" in text


def test_a_busy_machine_is_warned_of():
    results = Results(parts_machine(), load=MachineLoad(0.4, 0.2))
    busy, stolen = warnings(results)
    assert "other programs used 40 %" in busy
    assert "took 20 %" in stolen
    assert list(warnings(Results(parts_machine(), load=MachineLoad(0.01, 0.0)))) == []


def parts_machine():
    from tagger.bench.machine import Machine

    return Machine("a processor", 2, ("avx2",), "Linux", {"tagger": "1"}, 0.0)


def test_the_picture_has_the_nearest_lines(tmp_path: Path):
    points = tuple(Point(x, 2.0 + 3.0 * x) for x in (1, 2, 4))
    start, slope, off = line(points)
    assert (start, slope) == pytest.approx((2.0, 3.0))
    assert off < 1e-9
    assert line((Point(1, 4.0), Point(2, 8.0), Point(3, 6.0)))[2] > 0.1
    draw(Growth("esc50", 1.0, 5.0, points, points, points), tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes()[:4] == b"\x89PNG"


def test_a_comparison_is_paired():
    import numpy as np

    def ran(cpu_s):
        return {"cpu_s": cpu_s, "wall_s": 2 * cpu_s, "windows": 10}

    rounds = [[ran(0.1), ran(0.6)], [ran(0.2), ran(1.2)], [ran(0.1), ran(0.7)]]  # the second while the machine was slow
    ours = np.array([[1.0, -2.0, -20.0], [0.0, 1.0, 2.0]])
    peer = ours + np.array([[0.001, 0, 5.0], [0, 0, 0]])
    found = compared("mn04_as", 5.0, 1.0, rounds, ours, peer)
    assert found.times == pytest.approx(6.0)
    assert (found.ours_ms, found.peer_ms) == pytest.approx((10.0, 70.0))
    assert found.logit_difference == pytest.approx(0.001)
    assert found.same_first == 2


@pytest.mark.slow
def test_costs_of_a_model_are_measured_on_the_installed_runtimes():
    done = run("bench", "cost", "--quick", "--json", "--model", "esc50", "--runtime", "onnx")
    assert done.exit_code == 0, done.output
    (cost,) = json.loads(done.stdout)["costs"]
    assert cost["model"] == "esc50"
    assert 0 < cost["least_ms"] <= cost["ms"]
    assert 0 < cost["features_ms"] + cost["network_ms"] + cost["levels_ms"] <= 1.2 * cost["ms"]


@pytest.mark.slow
def test_a_daemon_and_live_sources_are_measured():
    done = run("bench", "daemon", "streams", "--quick", "--seconds", "2.2", "--streams", "2", "--embedded", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["left_out"] == []
    assert found["daemon"]["broker"] == "the embedded broker"
    assert 0 < found["daemon"]["ready_s"] <= found["daemon"]["first_score_s"]
    assert found["daemon"]["resident_mb"] > 20
    assert found["daemon"]["latency"]["windows"] >= 2
    assert found["daemon"]["latency"]["median_ms"] > 0
    assert found["streams"]["streams"] == 2
    assert found["streams"]["windows"] + found["streams"]["skipped"] >= 2


EFFICIENTAT = {
    "helpers/utils.py": "def NAME_TO_WIDTH(name): return name",
    "models/preprocess.py": """
        from tagger.checkpoints.info import read_info
        from tagger.checkpoints.store import find
        from tagger.features.logmel import front_end
        import torch
        class AugmentMelSTFT(torch.nn.Module):
            def __init__(self, n_mels, sr, win_length, hopsize):
                super().__init__()
                self.of = front_end(read_info(find("esc50-crnn")).mel)
            def forward(self, x):
                return self.of(x)[:, 0]
        """,
    "models/mn/model.py": """
        import torch
        from tagger.checkpoints.checkpoint import load
        from tagger.checkpoints.store import find
        class Model(torch.nn.Module):
            def __init__(self, name):
                super().__init__()
                self.network = load(find(name)).model
            def state_dict(self):
                return self.network.state_dict()
            def load_state_dict(self, weights):
                self.network.load_state_dict(weights)
            def forward(self, x):
                return self.network.outputs(x).logits, None
        def get_model(width_mult):
            return Model(width_mult)
        """,
}
"""A repository laid out as EfficientAT's, whose network is ours."""


@pytest.mark.slow
def test_another_program_with_the_same_weights_gives_the_same_answers(tmp_path: Path):
    import textwrap

    for name, text in EFFICIENTAT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    done = run("bench", "compare", "--compare", tmp_path, "--quick", "--model", "esc50-crnn", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["left_out"] == []
    assert found["compare"]["windows"] > 20
    assert found["compare"]["same_first"] == found["compare"]["windows"]
    assert found["compare"]["times"] > 0
