"""docs/configuration.md and docs/tagger.schema.json say what holds, by the table of options and the command."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.config.file import load, parse
from tagger.config.option import Option
from tagger.config.options import LABEL_FIELDS, OPTIONS, TABLES
from tagger.config.schema import schema
from tagger.config.template import commented
from tagger.config.tomlfile import TomlFile
from tests.programs import ROOT, run

DOCS = ROOT / "docs"
TEXT = (DOCS / "configuration.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
VALIDATOR = jsonschema.Draft202012Validator(schema())


# --- the page ---


def row(option: Option) -> str:
    """The option's row in the page's table."""
    default = "" if option.default is None else f"`{json.dumps(option.default)}`"
    flag = " ".join(f"`{each}`" for each in option.flags)
    env = f"`{option.env.removeprefix('TAGGER_LISTEN_')}`"
    return f"| `{option.key}` | {default} | {flag} | {env} | {option.help.replace('|', '/')} |"


def test_the_page_has_every_option_with_its_default_flag_and_variable():
    wanted = [row(option) for option in OPTIONS]
    found = [line for line in TEXT.splitlines() if re.match(r"\| `(--|[a-z]+\.)", line)]
    assert found == wanted, "put this into docs/configuration.md:\n" + "\n".join(wanted)


def test_the_page_has_every_field_of_events():
    for option in LABEL_FIELDS:
        assert f"| `{option.name}` | {option.help} |" in TEXT


def test_the_page_has_a_full_example():
    tables = set()
    for name in TABLES:
        table: Any = tomllib.loads(EXAMPLES[0])
        for part in name.split("."):
            table = table.get(part, {})
        if table:
            tables.add(name)
    assert tables == set(TABLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_pages_examples_pass_check(number, tmp_path, monkeypatch):
    path = tmp_path / "tagger.toml"
    path.write_text(EXAMPLES[number])
    for name in re.findall(r'"([a-z-]+\.(?:password|token|pem))"', EXAMPLES[number]):
        (tmp_path / name).write_text("x\n")
        (tmp_path / name).chmod(0o600)
    done = run("config", "check", "--offline", "--config", path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ok"
    assert list(VALIDATOR.iter_errors(tomllib.loads(EXAMPLES[number]))) == []


# --- the schema ---


def test_the_schema_in_docs_is_what_the_command_prints():
    printed = run("config", "schema").stdout
    assert (DOCS / "tagger.schema.json").read_text("utf-8") == printed, "tagger config schema > docs/tagger.schema.json"
    assert json.loads(printed) == schema()


def test_the_schema_is_one_and_its_defaults_and_examples_are_valid():
    jsonschema.Draft202012Validator.check_schema(schema())

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "default" in part and "description" in part:
                jsonschema.validate(part["default"], part, jsonschema.Draft202012Validator)
            for each in part.values():
                walk(each)

    walk(schema())
    for option in OPTIONS:
        if option.is_in_file and option.example is not None:
            assert accepted({**nested(option.path, option.example)})
    assert accepted(tomllib.loads(commented({})))


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "[mqtt]\nprot = 1",
        "[mqtt]\nport = 'x'",
        "[mqtt]\nport = 70000",
        "[mqtt]\nversion = '4'",
        "[mqtt]\nurl = ''",
        "[sinks.log]\nkeep_days = 0",
        "[sinks.x]",
        "[events]\nentre = 1",
        "[events.labels.dog]\nenter = 'high'",
        "[events.labels.dog]\nkind = 'long'",
        "[events.groups]\nalarm = 'siren'",
        "[events]\nallow = [1]",
        "events = 1",
    ],
)
def test_both_refuse(text, tmp_path):
    document = tomllib.loads(text)
    assert not VALIDATOR.is_valid(document)
    assert not accepted(document)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value


def accepted(document: dict[str, Any]) -> bool:
    """By what reads the file."""
    return not parse(TomlFile(Path("x"), ""), document).problems


scalars = st.one_of(
    st.integers(-2, 70_000),
    st.floats(-2, 100, allow_nan=False),
    st.sampled_from([1.0, 5.0, "", "5", "3.1.1", "x", "one-shot"]),
    st.booleans(),
    st.lists(st.one_of(st.text("ab", max_size=2), st.integers()), max_size=2),
)
keys = st.sampled_from([*(o.key for o in OPTIONS if o.is_in_file), *TABLES, "events", "x", "mqtt.x", "sinks.x"])
labels = st.dictionaries(
    st.sampled_from(["dog", "a b"]),
    st.one_of(scalars, st.dictionaries(st.sampled_from([*(o.name for o in LABEL_FIELDS), "x"]), scalars, max_size=2)),
    max_size=2,
)
events = st.fixed_dictionaries(
    {},
    optional={o.name: scalars for o in LABEL_FIELDS}
    | {"allow": scalars, "deny": scalars, "x": scalars, "labels": st.one_of(labels, scalars)}
    | {"groups": st.one_of(scalars, st.dictionaries(st.sampled_from(["g", "h"]), scalars, max_size=2))},
)


@given(st.one_of(st.just({}), st.dictionaries(keys, scalars, max_size=3)), st.one_of(st.none(), events))
def test_the_schema_and_the_command_agree_on_every_document(values, rules):
    document: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        place = document
        *tables, name = key.split(".")
        for table in tables:
            if not isinstance(place.get(table), dict):
                place[table] = {}
            place = place[table]
        place[name] = value
    if rules is not None:
        document["events"] = rules
    assert VALIDATOR.is_valid(document) == accepted(document)


@given(st.sampled_from([o for o in OPTIONS if o.is_in_file]), scalars)
def test_they_agree_on_every_option(option, value):
    document = nested(option.path, value)
    assert VALIDATOR.is_valid(document) == accepted(document)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.is_in_file], ids=lambda option: option.key)
def test_they_agree_at_the_bounds(option):
    for bound in (option.least, option.above, option.most):
        if bound is not None:
            for value in (bound, bound - 1, bound + 1, bound - 0.001, bound + 0.001):
                document = nested(option.path, value)
                assert VALIDATOR.is_valid(document) == accepted(document), value


def test_a_file_as_calibrate_writes_it_is_one(tmp_path):
    path = tmp_path / "tagger.toml"
    path.write_text("# By `tagger calibrate`\n[events]\n\n[events.labels.dog]\nenter = 0.9  # was 0.5\n")
    assert load(path).problems == ()
    assert run("config", "check", "--offline", "--config", path).exit_code == 0
