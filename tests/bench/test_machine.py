"""The machine, its load, and the use of a process."""

import os
import sys
import time
from subprocess import PIPE, Popen

import pytest

from tagger.bench.machine import describe_machine, installed_bytes
from tagger.bench.usage import LoadWatch, usage

_USES_MORE = """
import time
print("started", flush=True)
input()
kept, until = b"1" * 50_000_000, time.process_time() + 0.1
while time.process_time() < until:
    pass
print("used", flush=True)
input()
"""


def test_the_use_of_a_process_is_seen_from_outside():
    with Popen([sys.executable, "-c", _USES_MORE], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        before = usage(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"used\n"
        after = usage(child.pid)
        child.stdin.close()
    assert 0.05 <= after.cpu_s - before.cpu_s < 10
    assert 0.8 * 50e6 < after.resident_bytes - before.resident_bytes < 2 * 50e6
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
