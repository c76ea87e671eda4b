"""`tagger config check | init | password | schema`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import Group, hide_secrets
from tagger.config.flags import listen_options, typed
from tagger.errors import TaggerError, UserError
from tagger.printable import echo, echo_lines


@click.group(cls=Group)
def config() -> None:
    """Write, check and describe the settings of `tagger listen`."""


@config.command()
@listen_options(without=("--json",))
@click.option("--all", "every", is_flag=True, help="Also list the options that nobody set, with their defaults.")
@click.option("--offline", is_flag=True, help="Open no source and no connection.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.pass_context
def check(ctx: click.Context, /, **flags: Any) -> None:
    """List what `tagger listen` would use with these flags, and where each value is from. Then try it.

    It reads model, password files and folders, opens each source, and connects to the broker, for a moment each. It
    prints `ok`, exit code 0. Exit code 2: something is wrong. Exit code 1: nothing is wrong, but something cannot be
    reached now, such as a broker that is away; `tagger listen` would wait for it.
    """
    given = typed(ctx)
    hide_secrets(given)
    from tagger.config import check
    from tagger.config.build import resolve
    from tagger.config.reach import Reached, reach

    resolved = resolve(given, os.environ, flags["config"])
    rows, mistakes = list(check.rows(resolved)), check.problems(resolved)
    reached = Reached() if flags["offline"] else reach(resolved)
    problems = [*mistakes, *reached.problems]
    if flags["as_json"]:
        file = resolved.document.file.path if resolved.document is not None else None
        document = {
            "ok": not problems and not reached.unreachable,
            "file": None if file is None else str(file),
            "options": {row.key: row.json for row in rows},
            "opened": reached.opened,
            "problems": problems,
            "unreachable": reached.unreachable,
            "warnings": resolved.warnings,
        }
        echo(json.dumps(document, allow_nan=False))
    else:
        shown = [str(row) for row in rows if row.is_given or flags["every"]]
        echo_lines(shown or ["# nothing is set; --all lists the defaults"])
        echo_lines(f"opened: {each}" for each in reached.opened)
        echo_lines((f"Warning: {each}" for each in resolved.warnings), err=True)
        echo_lines((f"Error: {each}" for each in problems), err=True)
        echo_lines((f"Not reached: {each}" for each in reached.unreachable), err=True)
        if not problems:
            waiting = "the settings are right; `tagger listen` waits for what was not reached"
            echo(waiting if reached.unreachable else "ok")
    if problems or reached.unreachable:
        sys.exit(UserError.exit_code if problems else TaggerError.exit_code)


@config.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: $TAGGER_HOME/tagger.toml, where `tagger listen` looks]",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(output: Path | None, force: bool) -> None:
    """Ask five questions, and write a file that explains every option."""
    from tagger import files
    from tagger.config import ask
    from tagger.config.file import NAME

    ask.init(output or files.home() / NAME, force, is_usual=output is None)


@config.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def password(file: Path, force: bool) -> None:
    """Ask for a password of the live page, and write its hash for `web.password_file` or `web.guest_password_file`.

    Whoever reads FILE does not learn the password. Only its owner can read it.
    """
    from tagger.files import PRIVATE, replacing
    from tagger.settings import LEAST_PASSWORD
    from tagger.web.passwords import hash_of

    if file.exists() and not force:
        raise UserError(f"{file}: exists; --force replaces it")
    given = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(given) < LEAST_PASSWORD:
        raise UserError(f"a password must have at least {LEAST_PASSWORD} characters")
    with replacing(file, PRIVATE) as unfinished:
        unfinished.write_text(hash_of(given) + "\n", "utf-8")
    echo(f"wrote {file}")


@config.command()
def schema() -> None:
    """Print the file's JSON Schema, for editors and programs."""
    from tagger.config.schema import schema

    echo_lines(json.dumps(schema(), indent=2).split("\n"))
