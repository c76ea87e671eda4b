"""The command `tagger tag`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tagger import settings
from tagger.cli.common import INTERRUPTED, tagging_options
from tagger.errors import UserError
from tagger.printable import echo, number_of

_FORMATS = ("table", "json", "csv", "parquet", "audacity", "raven", "dcase")


@click.command("tag")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER|GLOB...")
@tagging_options
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of labels shown for each window."
)
@click.option(
    "--events", is_flag=True, help="Print the events that `tagger listen` would announce, with onset and offset."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(_FORMATS),
    help="Format of what is written; audacity, raven and dcase hold events. [default: table]",
)
@click.option(
    "--output",
    "-o",
    "out",
    metavar="FILE|FOLDER",
    help="File for all, or folder (or FOLDER/, to be made) with one for each recording. [default: standard output]",
)
@click.option("--audacity", is_flag=True, help="Also write them beside each file, as the label track FILE.labels.txt.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each window, or event.")
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Recordings at once. [default: processor cores]")
def tag_files(
    files: Sequence[Path],
    models: tuple[str, ...],
    device: str,
    runtime: str,
    window: float | None,
    hop: float,
    channel: settings.Channel,
    config: Path | None,
    top: int,
    events: bool,
    style: str | None,
    out: str | None,
    audacity: bool,
    as_json: bool,
    jobs: int | None,
) -> None:
    """Tag recordings: write the labels of each window, or the events.

    All that FFmpeg decodes, of any length, sample rate and channel count. Folders are searched with all below them.
    """
    settings.check_window(window, hop)
    if as_json and style not in (None, "json"):
        raise UserError(f"--json and --format {style} exclude each other")
    style = style or ("json" if as_json else "table")
    from tagger import policy
    from tagger.checkpoints.joint import shortest_window_s
    from tagger.checkpoints.named import understood
    from tagger.config.file import load_right
    from tagger.config.places import placed
    from tagger.engine.engine import cores
    from tagger.engine.runtime import doubles, open_models
    from tagger.policy import EventsConfig
    from tagger.tag import run
    from tagger.tag.inputs import recordings

    document = load_right(config) if config is not None else None
    events_ = document.events if document is not None else EventsConfig()
    classifier = open_models(models, runtime, device, window, [events_])
    info = classifier.info
    window_s, shortest_s = window or info.window_seconds, window or shortest_window_s(info)
    settings.check_window(window, hop, shortest_s)
    for line in doubles(classifier):
        echo(f"Warning: {line}", err=True)
    with placed(document):
        rules = policy.policy(info.labels, info.thresholds, shortest_s, hop, understood(info, events_))
    found = recordings(files)
    wants_events = events or audacity or run.holds_events(style)
    how = run.Listening(classifier, window_s, hop, channel, rules if wants_events else None, top, jobs or cores())
    with run.opened(style, out, found.recordings, found.are_many, how, audacity) as output:
        is_watched = out is not None or (sys.stderr.isatty() and not sys.stdout.isatty())
        done = run.tag_all(found.recordings, output, how, is_watched)
    for error in (*found.errors, *done.errors):
        echo(f"Error: {error}", err=True)
    if out is not None and found.recordings:
        echo(run.summary(done, found, out), err=True)
    if done.interrupted:
        echo(f"Interrupted: {done.whole} of {number_of(len(found.recordings), 'file')} tagged to their end", err=True)
        sys.exit(INTERRUPTED)
    if found.errors or done.errors:
        sys.exit(UserError.exit_code)
