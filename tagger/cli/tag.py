"""The command `tagger tag`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tagger import settings
from tagger.cli.common import channel_option, device_option, hop_option, model_option, runtime_option, window_option
from tagger.errors import UserError
from tagger.printable import echo


@click.command("tag")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@model_option
@device_option
@runtime_option
@window_option
@hop_option
@channel_option
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file of what counts as an event.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of labels shown for each window."
)
@click.option(
    "--events", is_flag=True, help="Print the events that `tagger listen` would announce, with onset and offset."
)
@click.option("--audacity", is_flag=True, help="Also write them beside each file, as the label track FILE.labels.txt.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each window, or event.")
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
    audacity: bool,
    as_json: bool,
) -> None:
    """Tag audio files: print the labels of each window, or the events.

    All that FFmpeg decodes, of any length, sample rate and channel count.
    """
    settings.check_window(window, hop)
    from tagger import policy, tag
    from tagger.checkpoints.joint import shortest_window_s
    from tagger.config.file import load_right
    from tagger.config.places import placed
    from tagger.engine.runtime import doubles, open_models

    classify = open_models(models, runtime, device, window)
    info = classify.info
    window_s, shortest_s = window or info.window_seconds, window or shortest_window_s(info)
    settings.check_window(window, hop, shortest_s)
    for line in doubles(classify):
        echo(f"Warning: {line}", err=True)
    document = load_right(config) if config is not None else None
    with placed(document):
        events_ = document.events if document is not None else None
        rules = policy.policy(info.labels, info.thresholds, shortest_s, hop, events_)
    failed = 0
    for path in files:
        if not as_json:
            echo(str(path))
        scores = tag.tag(path, classify, window_s, hop, channel)
        try:
            if events or audacity:
                found = tag.events(scores, rules)
                tag.show_events(path, found, as_json, path.with_name(path.name + ".labels.txt") if audacity else None)
            else:
                for each in scores:
                    echo(tag.as_line(path, each, info, top) if as_json else tag.as_row(each, info, top))
        except UserError as error:  # the other files are still worth tagging
            echo(f"Error: {error}", err=True)
            failed += 1
    if failed:
        sys.exit(UserError.exit_code)
