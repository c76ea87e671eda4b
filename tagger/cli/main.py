"""The command `tagger`: the list of its commands. An error becomes one line and an exit code."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import click

from tagger import __version__, files
from tagger.cli.archive import archive
from tagger.cli.bench import bench
from tagger.cli.calibrate import calibrate
from tagger.cli.collect import collect
from tagger.cli.common import INTERRUPTED, Group, refuse_empty
from tagger.cli.config import config
from tagger.cli.devices import devices
from tagger.cli.doctor import doctor
from tagger.cli.events import list_events
from tagger.cli.export import export_model
from tagger.cli.fleet import fleet
from tagger.cli.labels import labels
from tagger.cli.listen import listen
from tagger.cli.models import models
from tagger.cli.review import review
from tagger.cli.status import status
from tagger.cli.tag import tag_files
from tagger.cli.train import evaluate, features, recipes, train
from tagger.errors import SettingError, TaggerError, UserError, to_install
from tagger.printable import LogFormatter, echo, open_missing_streams, printable

_EXTRAS = {
    "anyio": "web",
    "argon2": "web",
    "fsspec": "cluster",
    "h11": "web",
    "onnx": "torch",
    "openvino": "openvino",
    "psycopg": "collect",
    "pyarrow": "parquet",
    "ray": "cluster",
    "starlette": "web",
    "torch": "train",
    "uvicorn": "web",
}
"""Packages that a device does not need, and the extra that installs them."""
_MANY_THREADS = ("train", "eval", "features")
"""Commands whose products of matrices are large enough for several threads."""


def _try_to_show(show: Callable[..., None], *values: Any) -> None:
    """Shows an error, unless standard error is full: the exit code still tells."""
    with suppress(OSError):
        show(*values)


class _Failure(click.ClickException):
    def __init__(self, error: TaggerError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares it for the class

    def show(self, file: Any = None) -> None:
        _try_to_show(super().show, file)


@contextmanager
def _failures() -> Iterator[None]:
    """Makes our errors one line and an exit code, and click's own safe to print: they repeat what was typed."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # the help, whose lines are ours
        raise
    except click.UsageError as error:
        message = printable(error.format_message())
        error.format_message = lambda: message  # type: ignore[method-assign]
        error.show = partial(_try_to_show, error.show)  # type: ignore[method-assign]
        raise
    except SettingError as error:
        from tagger.config.places import located

        raise _Failure(located(error)) from None
    except TaggerError as error:
        raise _Failure(error) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise _Failure(
            UserError(f"this needs {package}, which is not installed: {to_install(_EXTRAS[package])}")
        ) from None
    except KeyboardInterrupt:  # before a command had begun what it would have finished; click's own exit code is 1
        for line in ("", "Aborted!"):  # the terminal shows ^C on the line before
            _try_to_show(partial(echo, err=True), line)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # click ends quietly where a reader has seen enough
        raise
    except OSError as error:  # a folder that cannot be written, a full disk
        where = f"{error.filename}: " if error.filename else ""
        raise _Failure(UserError(f"{where}{error.strerror or error}")) from None
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        raise _Failure(TaggerError(f"this machine has not the memory for it{why}")) from None


class _Group(Group):
    """Our errors reach the terminal as one line and an exit code; anything else is a defect and keeps its traceback."""

    def main(self, *args: Any, **others: Any) -> Any:
        open_missing_streams()
        files.keep_owners_rights()
        return super().main(*args, **others)

    def make_context(self, *args: Any, **others: Any) -> click.Context:
        with _failures():  # the help and the version are printed here
            return super().make_context(*args, **others)

    def invoke(self, ctx: click.Context) -> Any:
        with _failures():
            return super().invoke(ctx)


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "TAGGER",
        "max_content_width": 110,
    },
)
@click.version_option(__version__, prog_name="tagger")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Sound events from any microphone or audio stream, published over MQTT.

    Every option can also be set by an environment variable: --mqtt of `listen` by TAGGER_LISTEN_MQTT.
    """
    if logging.lastResort is not None:  # prints the warnings of commands that configure no log
        logging.lastResort.setFormatter(LogFormatter())
    if ctx.invoked_subcommand not in _MANY_THREADS:
        # Read when numpy is imported. A window has small matrices: further threads would only spin, at twice the cost.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


_COMMANDS = (
    *(listen, status, doctor, list_events, config, devices, models, labels),
    *(tag_files, archive, calibrate, review, export_model, collect, fleet, bench),
    *(train, evaluate, recipes, features),
)
for _command in _COMMANDS:
    main.add_command(refuse_empty(_command))
