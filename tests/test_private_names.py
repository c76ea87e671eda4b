"""Tests ask public names: what a test must know or change is an argument, an attribute or a constant without `_`."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.programs import ROOT

OF_OTHERS = {
    "_client": "paho's client inside our connection",
    "_exit": "os",
    "_getframe": "sys",
    "_in_packet": "paho",
    "_out_messages": "paho",
    "_out_packet": "paho",
    "_packet_queue": "paho",
    "_reconnect_delay": "paho",
    "_reconnect_wait": "paho",
    "_sock": "paho",
    "_IS_TORCHAUDIO_EXT_AVAILABLE": "torchaudio",
}
"""Private names that tests may ask, and whose they are: there is no other way."""
_PRIVATE = re.compile(r"_[A-Za-z]\w*")


def private_names(source: str) -> Iterator[str]:
    """Private names of others than the test itself, in its code and in what it gives `monkeypatch.setattr`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _PRIVATE.fullmatch(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (each.name for each in node.names if _PRIVATE.fullmatch(each.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from (name for text in texts if _PRIVATE.fullmatch(name := text.rpartition(".")[2]))


def test_tests_ask_public_names() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in private_names(path.read_text("utf-8"))
        if name not in OF_OTHERS
    }
    assert found == set()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("thing._x", ["_x"]),
        ("thing.x._y.z", ["_y"]),
        ("from a import _b, c", ["_b"]),
        ('monkeypatch.setattr("a.b._C", 1)', ["_C"]),
        ('monkeypatch.setattr(module, "_C", 1)', ["_C"]),
        ("self._x, cls._y, thing.__version__, _own", []),
    ],
)
def test_a_private_name_is_noticed(source: str, names: list[str]) -> None:
    assert list(private_names(source)) == names
