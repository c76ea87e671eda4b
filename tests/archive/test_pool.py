"""Workers die, and are replaced; a recording of which they die again and again is left alone."""

import os
import signal

import pytest

pytest.importorskip("pyarrow")

from tagger.archive.plan import Shard
from tagger.archive.pool import Died, Done, Heard, LocalPool, Message
from tagger.errors import TaggerError
from tests.archive.test_shard import job

MODULE = "tests.archive.crashing"


def told(pool: LocalPool, count: int) -> list[Message]:
    """All that is said until this number of shards is done."""
    found: list[Message] = []
    while sum(isinstance(each, Done) for each in found) < count:
        found += pool.wait(1.0)
    return found


@pytest.mark.parametrize(
    ("name", "deaths", "reason"),
    [
        ("crashes", 2, "the process that read it ended 2 times (SIGSEGV)"),
        ("fills the memory", 5, "the process that read it ended 5 times (SIGKILL)"),
    ],
)
def test_a_recording_that_ends_its_worker_again_and_again_is_a_bad_one(name: str, deaths: int, reason: str) -> None:
    shard = Shard(0, None, "x", (("fine", None), (name, None), ("fine", None)))
    with LocalPool(job("out"), 1, module=MODULE) as pool:
        pool.give(shard)
        found = told(pool, 1)
    assert sum(isinstance(each, Died) for each in found) == deaths
    (done,) = (each for each in found if isinstance(each, Done))
    assert (done.shard, done.result.bad, done.result.first_error) == (shard, 1, reason)


def test_a_worker_that_is_killed_is_replaced_and_leaving_ends_all() -> None:
    with LocalPool(job("out"), 1, module=MODULE) as pool:
        pool.give(Shard(0, None, "x", (("fine", None),)))
        told(pool, 1)
        (killed,) = pool.processes
        os.kill(killed, signal.SIGKILL)
        pool.give(Shard(1, None, "x", (("fine", None),)))
        assert any(isinstance(each, Done) for each in told(pool, 1))
        (other,) = pool.processes
        assert other != killed
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)


def test_workers_share_the_cores_of_those_that_have_nothing_to_do() -> None:
    found: list[Message] = []
    with LocalPool(job("out"), 3, threads=5, module=MODULE) as pool:
        for number in range(2):
            pool.give(Shard(number, None, "x", (("fine", None),)))
        pool.no_more()
        pool.no_more()
        while sum(each.seconds for each in found if isinstance(each, Heard)) < 502:
            found += pool.wait(1.0)
    assert sorted(each.seconds for each in found if isinstance(each, Heard)) == [1, 1, 200, 300]


def test_workers_that_cannot_begin_are_an_error() -> None:
    with LocalPool(job("dies at once"), 1, module=MODULE) as pool:
        pool.give(Shard(0, None, "x", (("fine", None),)))
        with pytest.raises(TaggerError, match=r"end .*\(exit code 3\)"):
            told(pool, 1)
