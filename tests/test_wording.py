"""Numbers of things in what is printed: `1 label`, never `1 labels`."""

import ast
import re

import pytest

from tagger.printable import number_of
from tests.programs import ROOT

THINGS = "label clip event file fold epoch window recording message sound test row channel piece output source"
_PLURAL = re.compile(rf"%d ({'|'.join(f'{thing}s' for thing in THINGS.split())})\b")
_NEXT = re.compile(rf" (\w+ )?({'|'.join(f'{thing}s' for thing in THINGS.split())})\b")
NEVER_ONE = {
    "tagger/listen.py": "of windows that were many more",
    "tagger/policy.py": "an error of ours",
    "tagger/engine/engine.py": "a batch that is halved",
    "tagger/config/ask.py": "several sources",
    "tagger/config/ask_sounds.py": "more sounds than are shown",
    "tagger/audio/downmix.py": "the mean of several channels",
    "tagger/history/query.py": "SQL",
    "tagger/audio/libsndfile.py": "of several recordings",
    "train/evaluate/intervals.py": "an error of ours",
    "train/evaluate/compare.py": "many recordings",
    "train/evaluate/plots.py": "fewer labels than there are",
    "train/evaluate/predictions.py": "an error of ours",
}
"""Modules in which a number before a plural is right, and why."""


def numbers_of_things(path) -> list[str]:
    """Places in f-strings and format strings where a number has a plural behind it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_text = isinstance(after, ast.Constant) and isinstance(value, ast.FormattedValue)
                if is_text and _NEXT.match(str(after.value)) and not ast.unparse(value.value).strip("_").isupper():
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _PLURAL.search(node.value):
            found.append(f"{path}:{node.lineno}: {node.value}")
    return found


def test_a_number_of_things_is_made_by_the_one_function() -> None:
    files = [path for part in ("tagger", "train") for path in (ROOT / part).rglob("*.py")]
    found = [each for path in files if str(path.relative_to(ROOT)) not in NEVER_ONE for each in numbers_of_things(path)]
    assert found == []


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 labels"), (1, "1 label"), (2, "2 labels"), (10_000, "10,000 labels")]
)
def test_a_number_in_words(count: int, said: str) -> None:
    assert number_of(count, "label") == said
    assert number_of(1, "event was", "events were") == "1 event was"
