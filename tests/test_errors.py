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
