"""The machine, its load, and the use of a process."""

import os
import time

import numpy as np
import pytest

from tagger.bench.machine import describe_machine, installed_bytes
from tagger.bench.usage import LoadWatch, usage


def test_the_use_of_a_process_is_seen_from_outside():
    before = usage(os.getpid())
    kept = np.ones(50_000_000, np.uint8)
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = usage(os.getpid())
    assert 0.05 <= after.cpu_s - before.cpu_s < 10
    assert after.resident_bytes - before.resident_bytes > 0.8 * len(kept)
    assert after.highest_bytes >= after.resident_bytes or after.highest_bytes == 0


def test_the_use_of_a_process_that_is_gone_is_an_error():
    with pytest.raises(ProcessLookupError):
        usage(2**22 + 1)


def test_the_load_of_others_is_a_share_and_leaves_out_this_process():
    watch = LoadWatch()
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    others = watch.load().others
    assert others is None or 0 <= others <= 1


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine.processor
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert {"tagger", "python", "numpy", "onnxruntime"} <= set(machine.versions)


def test_the_installed_size_holds_what_is_needed_and_no_extra():
    needed = installed_bytes()
    assert 50e6 < needed < 600e6  # torch alone has more
    assert installed_bytes("click") < needed
