"""Errors that settings and policies find name the flag, variable or line of the value."""

from pathlib import Path
from typing import Any

import pytest

from tagger.config.build import Configuration, resolve
from tagger.config.file import load
from tagger.config.option import ENV_PREFIX
from tagger.config.places import located, placed
from tagger.errors import SettingError, UserError

HOP = SettingError("hop_seconds", "longer than the window", 6)
ENTER = SettingError(("events", "labels", "dog", "enter"), "must be above 0", 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tagger.toml"


def said(error: SettingError, file: Path, text: str, flags: dict[str, Any] | None = None, **env: str) -> str:
    file.write_text(text)
    resolved = resolve(flags or {}, {ENV_PREFIX + name: value for name, value in env.items()}, file)
    return str(located(error, resolved.values, resolved.document)).removeprefix(f"{file}, ")


def test_an_error_has_the_place_of_its_value(file: Path) -> None:
    assert said(HOP, file, "[listen]\nhop = 4") == "line 2: listen.hop: longer than the window"
    assert said(HOP, file, "", HOP="4") == "TAGGER_LISTEN_HOP: longer than the window"
    assert said(HOP, file, "", {"listen.hop": 4.0}) == "--hop 6: longer than the window"
    assert said(HOP, file, "") == "--hop 6: longer than the window"
    assert str(located(HOP)) == "--hop 6: longer than the window"
    host = SettingError("mqtt.host", "is none")
    assert said(host, file, "") == "mqtt.host: is none"
    nothing = SettingError("clips.pre_roll_s", "is too long", 9)
    assert said(nothing, file, "") == "clips.pre_roll_s = 9: is too long"


def test_of_events_the_line_is_the_labels_or_that_of_all(file: Path) -> None:
    for text, line in (
        ("[events]\nenter = 2", 2),
        ("[events]\nenter = 2\n[events.labels.dog]\nenter = 2", 4),
        ("\n[events.labels.dog]\nmin_s = 2", 2),
    ):
        assert said(ENTER, file, text) == f"line {line}: dog: enter = 2 must be above 0"
    assert said(ENTER, file, "").removeprefix(f"{file}: ") == "dog: enter = 2 must be above 0"
    assert str(located(ENTER)) == "dog: enter = 2 must be above 0"


def test_labels_that_are_denied_are_in_the_file_or_on_the_command_line(file: Path) -> None:
    deny = SettingError(("events", "deny"), "leaves none")
    assert said(deny, file, "\nevents.deny = ['a']") == "line 2: events.deny: leaves none"
    assert said(deny, file, "\nevents.deny = ['a']", {"--deny": ("a",)}) == "--deny: leaves none"
    assert said(deny, file, "", DENY="a") == "TAGGER_LISTEN_DENY: leaves none"
    file.write_text("events.deny = ['a']")
    with pytest.raises(UserError, match=r"line 1: events\.deny: leaves none"), placed(load(file)):
        raise deny


def test_a_configuration_knows_the_place_in_the_file_as_it_was_read_last(file: Path) -> None:
    file.write_text("[listen]\nhop = 4")
    configuration = Configuration({}, {}, file)
    assert str(configuration.located(HOP)).startswith(f"{file}, line 2: listen.hop: ")
    file.write_text("# More.\n\n[listen]\nhop = 5")
    assert configuration().hop_seconds == 5
    assert str(configuration.located(HOP)).startswith(f"{file}, line 4: listen.hop: ")
