"""An empty text, as `"$OUT"` is where a script forgot to set OUT, is never taken for the current folder."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tagger.cli.main import main
from tests.programs import refused, run


def commands(command: click.Command = main) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from commands(each)
    yield command


@pytest.mark.parametrize("command", tuple(commands()), ids=lambda command: str(command.name))
def test_each_text_and_path_refuses_to_be_empty(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
            continue
        with pytest.raises(click.UsageError):
            parameter.type.convert("", parameter, click.Context(command))


@pytest.mark.parametrize("arguments", [("tag", ""), ("tag", "a.wav", "-o", ""), ("listen", "a.wav", "--state", "")])
def test_what_is_empty_is_named(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recording.wav").touch()
    refused(run(*arguments), "must not be empty")


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_LISTEN_STATE", "")
    assert run("config", "check", "demo", "--mqtt", "none", "--offline").exit_code == 0
