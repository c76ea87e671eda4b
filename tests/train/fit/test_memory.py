"""Memory that a process has freed stays with it, once it is told to."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from train.fit.memory import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for batch in range(22):
    if batch == 2:
        began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(12_000_000) for _ in range(2)]
    del maps
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_large_arrays_are_not_asked_of_the_kernel_again_and_again():
    assert faults("keep") < faults("leave") / 3
