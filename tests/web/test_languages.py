"""Languages of the page: every one has every text, and no text in the page's modules is written elsewhere."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagger.checkpoints.info import read_info
from tagger.policy import ALARMS, LOUD
from tagger.web.files import FOLDER, page_files
from tests.web.pages import page

LANGUAGES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((FOLDER / "lang").glob("*.json"))}
ENGLISH = LANGUAGES["en"]
ROOT = Path(__file__).resolve().parents[2]
PARTS = ("page", "reasons", "labels")
SCRIPTS = [path for path in sorted(FOLDER.glob("*.js")) if path.name != "lang.js"]
NO_TEXT = {"Content-Type", "Enter", "Escape", "Tab", "Home", "End"}
"""Names of headers and keys."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_text_with_the_same_values_in_it(language: str) -> None:
    for part in PARTS:
        own, english = LANGUAGES[language][part], ENGLISH[part]
        assert sorted(own.keys() ^ english.keys()) == [], part
        for key, text in own.items():
            assert text.strip(), key
            assert values(text) == values(english[key]), key
    assert LANGUAGES[language]["name"]


def test_the_fifty_labels_and_those_of_loud_sounds_and_alarms_have_names() -> None:
    labels = read_info(ROOT / "tagger" / "checkpoints" / "esc50.safetensors").labels
    assert set(ENGLISH["labels"]) == {*labels, LOUD, *ALARMS}
    assert [LANGUAGES[each]["labels"]["glass_breaking"] for each in ("de", "es", "fr")] == [
        "Glasbruch", "cristal roto", "bris de verre",
    ]  # fmt: skip


def test_every_reason_of_the_decider_is_known() -> None:
    forms = [re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(form))) for form in ENGLISH["reasons"]]
    said = list(reasons((ROOT / "tagger" / "decide.py").read_text("utf-8")))
    assert len(said) >= 10
    assert [text for text in said if not any(form.fullmatch(text) for form in forms)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_text_is_written_in_a_module(path: Path) -> None:
    assert texts(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.html")), ids=lambda path: path.name)
def test_no_text_is_written_in_a_document_but_for_those_without_javascript(path: Path) -> None:
    body = re.sub(r"<(noscript|title)>.*?</\1>|<head>.*?<title>", "", path.read_text("utf-8"), flags=re.DOTALL)
    body = body.partition("<body")[2].partition(">")[2]
    assert re.sub(r"<[^>]*>", "", body).split() == ["tagger"]
    assert re.findall(r'(?:aria-label|placeholder|title|alt)="[^"]+"', body) == []


def test_every_text_that_is_asked_for_is_there_and_none_is_left_over() -> None:
    sources = "".join(path.read_text("utf-8") for path in [*FOLDER.glob("*.js"), *FOLDER.glob("*.html")])
    named = {key for found in re.findall(r'\bt\("([\w.]+)"|data-t(?:-label)?="([\w.]+)"', sources) for key in found}
    made = set(re.findall(r"`([a-z]+\.)\$\{", sources))
    keys = {re.sub(r"\.(one|other)$", "", key) for key in ENGLISH["page"]}
    assert sorted(named - {""} - keys) == []
    assert [key for key in sorted(keys) if f'"{key}"' not in sources and key.partition(".")[0] + "." not in made] == []


def test_the_page_is_told_the_languages_by_their_own_names() -> None:
    with page() as served:
        status, headers, text = served.ask("/static/languages.js")
        assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert json.loads(text.removeprefix("export const LANGUAGES = ").rstrip().rstrip(";")) == {
            "de": "Deutsch", "en": "English", "es": "Español", "fr": "Français",
        }  # fmt: skip
        assert served.json("/static/lang/de.json") == LANGUAGES["de"]
        assert served.ask("/static/lang/../../app.py")[0] == 404
    assert set(page_files()) >= {"lang/de.json", "languages.js", "app.js"}


def values(text: str) -> list[str]:
    """The values that stand in a text, in any order."""
    return sorted(re.findall(r"\{\w+\}", text))


def reasons(source: str) -> Iterator[str]:
    """Every reason that the decider's source can give, with 1 for each value."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                is_why = isinstance(node, ast.Assign) and "why" in ast.unparse(node.targets[0])
                if is_why or (isinstance(node, ast.Return) and function.name in ("_lacks", "why_not", "_why")):
                    assert isinstance(node, ast.Assign | ast.Return)
                    yield from written(node.value)


def written(node: Any) -> Iterator[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from [*written(node.body), *written(node.orelse)]
    elif isinstance(node, ast.BinOp):
        yield from [left + right for left in written(node.left) for right in written(node.right)]
    elif isinstance(node, ast.Tuple):
        for each in node.elts:
            yield from written(each)


def texts(script: str) -> list[str]:
    """Literals of a module that look like words for people: a capital letter first, or several words."""
    script = re.sub(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", "", script, flags=re.DOTALL)
    script = re.sub(r"\$\{[^{}]*\}", "", script)
    script = re.sub(r'(?:class: |className = |font = |import [^;]*from )"[^"]*"', "", script)
    found = [first or second for first, second in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`', script)]
    return [
        each for each in found if re.search(r"^[^\w]*[A-ZÄÖÜ][a-z]|[a-z]{2,} [a-z]{2,}", each) and each not in NO_TEXT
    ]
