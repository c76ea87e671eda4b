"""Errors are data and one line."""

import math

import pytest

from tagger.errors import SettingError, UserError


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
