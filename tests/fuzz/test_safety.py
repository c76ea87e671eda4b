"""A short run of the fuzzers for checkpoints, `.pt` files, settings and state: `scripts/fuzz` runs more of them."""

import importlib

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "inputs"), [("checkpoints", 24), ("torchfiles", 16), ("settings", 150), ("state", 40), ("pcm", 60)]
)
def test_damaged_inputs_are_refused_in_one_line(name: str, inputs: int) -> None:
    assert list(importlib.import_module(f"tests.fuzz.{name}").fuzz(inputs, seed=0)) == []
