"""`scripts/scale.py`: the model's values, and that docs/scale.md shows them."""

import doctest
import importlib
from types import ModuleType

import pytest

from tests.programs import ROOT


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("scale")


def test_the_page_shows_what_the_script_computes(scale: ModuleType) -> None:
    page = (ROOT / "docs/scale.md").read_text("utf-8")
    for table in scale.tables(scale.LIVE, scale.RECORDED).split("\n\n"):
        assert table in page, "python scripts/scale.py prints what belongs there"


def test_a_thousand_streams(scale: ModuleType) -> None:
    found = scale.Live(1_000)
    assert found.workers == 11  # ten of 110 streams each, and one more
    assert found.cores == pytest.approx((11 * 11 + 1_000 * 8.3) / 1_000)
    assert found.memory_gb == pytest.approx(11 * 0.165 + 5.8)
    assert found.messages_a_second == pytest.approx(1_000 * 1.1 + 11 / 60 + 4 * 200_000 / 86_400)
    assert scale.Live(110).workers == 1
    assert scale.Live(111).workers == 3


def test_a_petabyte(scale: ModuleType) -> None:
    _, hours, core_hours, wall, _, _ = scale.Recorded(1_000).row()
    assert (hours, core_hours, wall) == ("6,200,000 h", "43,000", "43 h")


def test_examples_of_the_script(scale: ModuleType) -> None:
    assert doctest.testmod(scale).failed == 0
