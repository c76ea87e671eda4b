"""`bench/gpu.py` runs whole without a GPU, so that nothing is wrong with it where there is one."""

import pytest

from bench import gpu as bench


@pytest.mark.slow
def test_every_step_of_the_gpu_bench_runs_on_the_processor(capsys):
    result = bench.measure("cpu", quick=True, models=["esc50-crnn"])["models"]["esc50-crnn"]
    assert set(result["windows_a_second"]) == set(bench.QUICK_BATCHES)
    assert all(each > 0 for each in result["windows_a_second"].values())
    assert [each["streams"] for each in result["streams"].values()] == list(bench.QUICK_STREAMS)
    assert result["agreement"]["largest_difference"] < 1e-5
    memory = result["out_of_memory"]
    assert memory["answered"] == memory["windows"]
    assert memory["largest_difference"] < 1e-5
    assert "say nothing of" in capsys.readouterr().out
