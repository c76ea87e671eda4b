"""What a training wrote for itself and finds damaged: one line that names the file, and goes on once it is deleted."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.errors import UserError
from tests.train.fit.test_finetune import RECIPE, finished, fit
from train.data import cache
from train.data.cache import cached, cached_arrays
from train.data.dataset import Dataset
from train.fit.result import read_result


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"nothing that is known")
    return file.getvalue()


DAMAGED = {
    "empty": b"",
    "text": b"<html>",
    "half an archive": zipped("a")[:60],
    "another archive": zipped("document.npy"),
}


def written(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.fixture(params=DAMAGED)
def damaged(request: pytest.FixtureRequest) -> bytes:
    return DAMAGED[request.param]


def test_a_damaged_state_is_named(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(damaged)
    with pytest.raises(UserError, match=r"state\.pt: damaged.*delete it"):
        finished(fit(tmp_path, RECIPE))


def test_a_state_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save({"curve": [], "network": {}}, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt: damaged, or written by another version"):
        finished(fit(tmp_path, RECIPE))


def test_a_damaged_result_is_named(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "own-fold1.npz").write_bytes(damaged)
    with pytest.raises(UserError, match=r"own-fold1\.npz: damaged.*delete it"):
        read_result(tmp_path / "own-fold1.npz", Dataset("own", ("dog",), ()))


@pytest.mark.parametrize("name", ["empty", "text", "half an archive"])
def test_a_damaged_file_of_the_cache_is_named(name: str) -> None:
    cached_arrays("windows", {}, lambda: {"row": np.zeros(3)})
    cached("clips", {}, written)
    for path in cache.folder().iterdir():
        path.write_bytes(DAMAGED[name])
    with pytest.raises(UserError, match=r"\.npz: damaged.*delete it"):
        cached_arrays("windows", {}, dict)
    with pytest.raises(UserError, match=r"\.npy: damaged.*delete it"):
        cached("clips", {}, lambda path: None)
