"""The command `tagger events`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import hide_secrets


@click.command("events")
@click.argument("file", required=False, metavar="[FILE]")
@click.option(
    "--day", metavar="DAY", help="Only events that began on this day, local time: 2026-11-26, today or yesterday."
)
@click.option(
    "--since", metavar="TIME", help="Only events since: a day, or 2026-11-26T14:30, local or with an offset from UTC."
)
@click.option("--until", metavar="TIME", help="Only events until, written as for --since; a day is included.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="Only events of this label; repeatable.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only events of this source; repeatable.")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only events of this node; repeatable.")
@click.option(
    "--min-score", type=click.FloatRange(0, 1), metavar="P", help="Only events with at least this peak score."
)
@click.option("--min-s", type=click.FloatRange(0), metavar="S", help="Only events of at least this duration, seconds.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N of these.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one line of JSON for each event, with the fields of the MQTT message.",
)
@click.option("--count", is_flag=True, help="Print for each label: number, total duration, highest score.")
@click.option("--chart", is_flag=True, help="With --day: print the day as text, hours across, labels down.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="With --day: write the day as a picture.")
def list_events(
    file: str | None, labels: Sequence[str], sources: Sequence[str], nodes: Sequence[str], **flags: Any
) -> None:
    """List the events in the daemon's event log.

    FILE is its event log [default: $TAGGER_HOME/events.sqlite], or postgresql://user@host/name, the database of `tagger
    collect`.
    """
    if file is not None:
        hide_secrets({}, file)
    from tagger.history.listing import show
    from tagger.history.query import Query, default_path

    query = Query(
        labels=tuple(labels),
        sources=tuple(sources),
        nodes=tuple(nodes),
        min_score=flags["min_score"],
        min_s=flags["min_s"],
        last=flags["last"],
    )
    shown = {name: flags[name] for name in ("day", "since", "until", "as_json", "count", "chart", "plot")}
    show(file or str(default_path()), query=query, **shown)
