"""The line of a key in a TOML file, against an oracle that asks the parser itself: slowly, but with no scanner."""

import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tagger.config.tomlfile import TomlFile

Keys = tuple[str, ...]


def paths(table: Mapping[str, Any], at: Keys = ()) -> list[Keys]:
    found = []
    for key, value in table.items():
        found.append((*at, key))
        if isinstance(value, dict):
            found += paths(value, (*at, key))
    return found


def oracle(text: str) -> dict[Keys, int]:
    """Parses every beginning of the text. A key that is new in a valid one is set by the statement that ends there."""
    found: dict[Keys, int] = {}
    lines, begins = text.split("\n"), 0
    for end in range(1, len(lines) + 1):
        line, is_inside = lines[end - 1].strip(), begins < end - 1
        if not line or (line.startswith("#") and not is_inside):
            begins = begins if is_inside else end
            continue
        try:
            document = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # inside a statement of several lines
            continue
        for path in paths(document):
            found.setdefault(path, begins + 1)
        begins = end
    return found


def agree(text: str) -> None:
    wanted = oracle(text)
    file = TomlFile(Path("x"), text)
    known = {*wanted, *paths(tomllib.loads(text)), ("nothing",), ("a", "nothing")}
    assert {keys: file.line(keys) for keys in known} == {keys: wanted.get(keys) for keys in known}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n# nothing\n",
        "a = 1",
        "a.b.c = 1\na.d = 2",
        "[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3",
        "[a]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[a.b.c]\ny = 1\n[d]\nz = 1",
        "[[a]]\n[a.b]\nx = 1\n[[a.c]]\ny = 2\n[a2]\nx = 1",
        'a = """\n"quoted" ""two""\n[b]\nc = 1 \\\n # no\n\n""" # yes\nd = 2',
        'a = """x"""""\nb = 1',
        'a = """"x" ""\\"" """\nb = 1',
        "a = '''\n'x' ''\n[b]'''\nb = 1",
        "a = '''x'''''\nb = 1",
        'a = "[{ # \\" \'"\nb = \'[{ # "\'\nc = 1',
        "a = [ # ] } \" '\n  1,\n\n  # [\n  [2, 3],\n]\nb = 1",
        'a = { "x.y" = 1, b.c = "}", d = [1, 2], e = { f = 1 } }\ng = 1',
        "a = { x = '''\n}''', y = [\n 1\n] }\nb = 1",
        '["a]b".\'c#d\'] # [no]\n"é\\u00e9" = 1\n"" = 2\n[ e . f ] \n x . y = 1',
        "\t[a]\t# here\n  b = 1979-05-27 07:32:00\n  c = +inf\n",
        "[[a]]\nb = { c = [ { d = 1 } ] }\n[[a]]\n[a.b]\nc = 1",
    ],
)
def test_lines_are_those_of_the_parser(text: str) -> None:
    agree(text)


parts = st.sampled_from(["a", "b", "c-1", '"d e"', "'f.g'", '"h\\"[#"', "'i]'"])
keys = st.lists(parts, min_size=1, max_size=3).map(".".join)
texts = st.sampled_from(
    ["1", '"x"', "'#'", '"\\"["', '"""\n# no\n[a]\n"""', '"""a""b"""""', "'''\nb = 1'''", "'''''c'''", '"""\\\\"""']
)
inner = st.recursive(
    texts,
    lambda each: st.one_of(
        st.lists(each, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(each, max_size=3).map(lambda items: "[\n # ]\n" + ",\n\n".join(items) + "\n]"),
        st.lists(st.tuples(keys, each), max_size=2).map(
            lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
        ),
    ),
    max_leaves=5,
)
statements = st.one_of(
    st.tuples(keys, inner).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    keys.map(lambda key: f"[{key}]"),
    keys.map(lambda key: f"[[{key}]]"),
    st.sampled_from(["", "# [a]", "  ", "\t# x = 1"]),
)
spaces = st.sampled_from(["", "", " ", "\t"])


@given(st.lists(st.tuples(spaces, statements, st.sampled_from(["", "", "  # [b] = '"])), max_size=9), st.booleans())
def test_the_lines_of_any_document(lines: list[tuple[str, str, str]], ends: bool) -> None:
    text = ""
    for before, statement, after in lines:  # a line that would make it invalid is left out
        longer = f"{text}{before}{statement}{after}\n"
        try:
            tomllib.loads(longer)
        except tomllib.TOMLDecodeError:
            continue
        text = longer
    assume(text)
    agree(text if ends else text.removesuffix("\n"))


def test_a_long_file_takes_no_long_time() -> None:
    text = "".join(f"[events.labels.l{i}]\nenter = 0.5\nexit = [\n  0.1,\n]\n" for i in range(2_000))
    begun = time.process_time()
    assert TomlFile(Path("x"), text).line(("events", "labels", "l1999", "exit")) == 9_998
    assert time.process_time() - begun < 5  # it takes 0.1 s; with a parse of every beginning it took minutes
