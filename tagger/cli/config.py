"""`tagger config check | init | schema`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import hide_secrets
from tagger.config.flags import listen_options, typed
from tagger.errors import UserError
from tagger.printable import echo, echo_lines


@click.group()
def config() -> None:
    """Write, check and describe the settings of `tagger listen`."""


@config.command()
@listen_options(without=("--json",))
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@click.pass_context
def check(ctx: click.Context, /, **flags: Any) -> None:
    """List what `tagger listen` would use with these flags, and where each value is from.

    Then check everything that needs neither sound nor network: exit code 0 and `ok`, or 2 and the problems.
    """
    given = typed(ctx)
    hide_secrets(given)
    from tagger.config import check
    from tagger.config.build import resolve

    resolved = resolve(given, os.environ, flags["config"])
    problems, rows = check.problems(resolved), list(check.rows(resolved))
    if flags["as_json"]:
        file = resolved.document.file.path if resolved.document is not None else None
        document = {
            "ok": not problems,
            "file": None if file is None else str(file),
            "options": {row.key: row.json for row in rows},
            "problems": problems,
            "warnings": resolved.warnings,
        }
        echo(json.dumps(document, allow_nan=False))
    else:
        for row in rows:
            echo(str(row))
        for warning in resolved.warnings:
            echo(f"Warning: {warning}", err=True)
        for problem in problems:
            echo(f"Error: {problem}", err=True)
        if not problems:
            echo("ok")
    if problems:
        sys.exit(UserError.exit_code)


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
def schema() -> None:
    """Print the file's JSON Schema, for editors and programs."""
    from tagger.config.schema import schema

    echo_lines(json.dumps(schema(), indent=2).split("\n"))
