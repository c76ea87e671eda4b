"""Files as a source of blocks: times, gaps, pace."""

import time
from pathlib import Path

import numpy as np
import pytest

from tagger.events import Block
from tagger.sources import open_source
from tests.fuzz.sounds import tone, write_av

RATE_HZ = 32_000


@pytest.fixture
def with_gap(tmp_path: Path) -> Path:
    """One second of sound, one second of nothing, one second of sound."""
    return write_av(tmp_path / "gap.mkv", "aac", tone(2, 44_100), 44_100, starts_s=[0.0, 2.0])


@pytest.mark.parametrize("realtime", [False, True])
def test_times_follow_the_files_own_time_stamps(with_gap: Path, realtime: bool) -> None:
    began, started = time.time(), time.monotonic()
    blocks = list[Block](open_source(str(with_gap), RATE_HZ, realtime).blocks())
    took_s = time.monotonic() - started
    assert [block.gap for block in blocks].count(True) == 1
    gap = next(block for block in blocks if block.gap)
    assert gap.time - blocks[0].time == pytest.approx(2, abs=0.05)
    assert blocks[0].time - began < 1
    assert sum(len(block.samples) for block in blocks) / RATE_HZ == pytest.approx(2, abs=0.1)
    ends = [block.time + len(block.samples) / RATE_HZ for block in blocks]
    assert all(following.time >= end - 1e-6 for end, following in zip(ends, blocks[1:], strict=False))
    if realtime:  # nothing is given before it would have sounded
        assert took_s >= 2.9
    assert all(np.isfinite(block.samples).all() for block in blocks)
