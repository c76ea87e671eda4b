"""A short run of the fuzzers for all but audio: `scripts/fuzz` runs more of them."""

import importlib

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        *(("checkpoints", 24), ("torchfiles", 16), ("settings", 150), ("state", 40), ("pcm", 60)),
        *(("requests", 150), ("tables", 100), ("archives", 40)),
    ],
)
def test_damaged_inputs_are_refused_in_one_line(name: str, inputs: int) -> None:
    assert list(importlib.import_module(f"tests.fuzz.{name}").fuzz(inputs, seed=0)) == []
