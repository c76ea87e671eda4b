import json

import numpy as np
import pytest

from train.data import cache
from train.data.cache import cached, cached_arrays

ARRAYS = {"maps": np.arange(6, dtype=np.float16).reshape(2, 3), "row": np.array([3, 1]), "is_plain": np.array([True])}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("it is there already")


def test_several_arrays_come_back_as_they_were_made():
    made = cached_arrays("windows", {"seed": 0}, lambda: ARRAYS)
    found = cached_arrays("windows", {"seed": 0}, never)
    for arrays in (made, found):
        assert list(arrays) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert np.array_equal(arrays[name], array)
            assert arrays[name].dtype == array.dtype


def test_they_are_in_memory_and_ones_own():
    first = cached_arrays("windows", {}, lambda: ARRAYS)
    first["row"][:] = 9
    assert cached_arrays("windows", {}, never)["row"].tolist() == [3, 1]


@pytest.mark.parametrize(
    "other", [("features", {"seed": 0}), ("windows", {"seed": 1}), ("windows", {"seed": 0, "a": 0})]
)
def test_another_name_or_key_is_another_file(other):
    cached_arrays("windows", {"seed": 0}, lambda: ARRAYS)
    assert cached_arrays(*other, lambda: {"row": np.zeros(1)})["row"].tolist() == [0]
    assert len(list(cache.folder().iterdir())) == 2
    assert cached_arrays("windows", {"seed": 0}, never)["row"].tolist() == [3, 1]


def test_the_order_in_a_key_does_not_matter():
    cached_arrays("windows", {"a": 1, "b": [2]}, lambda: ARRAYS)
    cached_arrays("windows", json.loads('{"b": [2], "a": 1}'), never)


def test_what_breaks_while_it_is_made_leaves_nothing():
    with pytest.raises(AssertionError):
        cached_arrays("windows", {}, never)
    assert not cache.folder().exists() or not list(cache.folder().iterdir())
    cached_arrays("windows", {}, lambda: ARRAYS)


def test_one_array_and_several_do_not_meet():
    """Under the same name and key."""
    cached_arrays("windows", {}, lambda: ARRAYS)

    def make(path):
        with path.open("wb") as file:
            np.save(file, np.ones(2))

    assert cached("windows", {}, make).tolist() == [1, 1]
    assert cached_arrays("windows", {}, never)["row"].tolist() == [3, 1]
