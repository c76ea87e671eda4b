"""Errors are data and one line."""

import math

import pytest

from tagger.errors import (
    AudioError,
    CheckpointError,
    DownloadError,
    SettingError,
    TaggerError,
    UserError,
    near,
    to_install,
)
from tests.programs import ROOT


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "clips.keep_days = 3: must be"),
        (0.5, "clips.keep_days = 0.5: must be"),
        (math.nan, "clips.keep_days = nan: must be"),
        (True, "clips.keep_days = True: must be"),
        ("a\nb", r"clips.keep_days = 'a\nb': must be"),
        ("\udcff", r"clips.keep_days = '\udcff': must be"),
        (None, "clips.keep_days: must be"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_also_without_a_file(value: object, said: str) -> None:
    error = SettingError("clips.keep_days", "must be", value)
    assert isinstance(error, UserError)
    assert (error.field, error.problem, error.value) == (("clips", "keep_days"), "must be", value)
    assert str(error) == said


def test_a_field_may_have_dots() -> None:
    assert SettingError(("events", "labels", "a.b", "enter"), "x").field == ("events", "labels", "a.b", "enter")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DOG", "; did you mean dog?"),
        ("siren", "; did you mean Siren?"),
        ("sirn", "; did you mean Siren?"),
        ("zzz", "; there is Hot dog, Siren, dog"),
    ],
)
def test_a_name_that_differs_in_case_only_is_named_alone(name: str, said: str) -> None:
    assert near(name, ["dog", "Hot dog", "Siren"]) == said


LABELS = (
    "dog",
    "siren",
    "rain",
    "crying_baby",
    "breathing",
    "snoring",
    "glass_breaking",
    "church_bells",
    "sheep",
    "cat",
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dgo", "; did you mean dog?"),
        ("sirene", "; did you mean siren?"),
        ("dogs", "; did you mean dog?"),
        ("baby cry", "; did you mean crying_baby?"),
        ("crying-baby", "; did you mean crying_baby?"),
        ("glas", "; did you mean glass_breaking?"),
        ("bells", "; did you mean church_bells?"),
        ("barking", "; there is "),
        ("speech", "; there is "),
        ("hund", "; there is "),
        ("a", "; there is "),
        ("狗", "; there is "),
        ("", "; there is "),
        ("dog,siren", "; each is a text of its own: dog, siren"),
        ("Dogs, sirn", "; each is a text of its own: dog, siren"),
        ("dog,xylophone", "; there is "),
    ],
)
def test_only_near_names_are_meant(name: str, said: str) -> None:
    assert near(name, LABELS).startswith(said)


def test_a_label_with_a_comma_is_one() -> None:
    assert near("Baby cry, infant cri", ["Baby cry, infant cry", "Baby cry"]) == "; did you mean Baby cry, infant cry?"


def test_hundreds_of_names_are_not_all_listed() -> None:
    assert near("狗", [f"label {i:03}" for i in range(527)]).endswith("label 058, label 059 and 467 more")


def test_an_extra_is_installed_from_the_clone() -> None:
    assert "./scripts/setup train" in to_install("train")


def test_nobody_is_told_to_install_the_package_of_that_name_on_pypi() -> None:
    paths = [
        path for top in ("tagger", "train", "docs") for path in (ROOT / top).rglob("*") if path.suffix in (".py", ".md")
    ]
    for path in [*paths, ROOT / "README.md"]:
        assert "pip install 'tagger" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("kind", [TaggerError, UserError, AudioError, CheckpointError, DownloadError])
def test_what_a_library_or_a_file_name_brings_into_an_error_stays_one_line(kind: type[TaggerError]) -> None:
    error = kind("bad\n.safetensors: unknown variant `\r`, \x1b[2J\u2028expected one of `BOOL`")
    assert str(error) == r"bad\n.safetensors: unknown variant `\r`, \x1b[2J\u2028expected one of `BOOL`"
