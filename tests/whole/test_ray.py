"""An archive and a fleet on a real Ray cluster. Ray is 80 MB, and CI has none: `scripts/setup cluster` brings it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: scripts/setup cluster")

from bench.clusters import cluster_of
from tests.programs import Mosquitto, run, running, stop, until, write_wav
from tests.radio import on_air

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of one node with four cores."""
    with cluster_of(1, cores=4) as cluster:
        yield cluster.address


def test_an_archive_on_ray_has_the_bytes_of_one_without(address: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(2 * 32_000).astype(np.float32) / 10
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_wav(tmp_path / "in" / f"{number}.wav", np.roll(noise, number))
    found = []
    for out, more in ((tmp_path / "here", []), (tmp_path / "ray", ["--ray", address])):
        done = run("archive", tmp_path / "in", "--out", out, *more)
        assert done.exit_code == 0, done.stderr
        found.append({str(each.relative_to(out)): each.read_bytes() for each in out.rglob("*.parquet")})
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.broker
def test_a_fleet_on_ray_hears_a_stream_and_ends(address: str, broker: Mosquitto, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    with on_air() as live:
        file.write_text(
            f'[[source]]\nname = "garden"\nurl = "{live.url()}"\n[mqtt]\nurl = "{broker.url}"\nnode = "city"\n'
            "[listen]\nwindow = 1\n"
        )
        with running("fleet", file, "--ray", address) as fleet:

            def heard() -> int:
                done = run("fleet", "status", "--json", "--ray", address)
                return int(json.loads(done.stdout)["heard"]) if done.exit_code < 2 else 0

            until(lambda: heard() == 1, "the stream is heard")
            code, _, said = stop(fleet)
            assert code == 0, said
    done = run("fleet", "status", "--json", "--ray", address)
    assert done.exit_code == 2, done.stdout
