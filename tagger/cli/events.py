"""`tagger events`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


@click.command("events")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--day", metavar="DAY", help="2026-11-26, today or yesterday: events that began then, local time.")
@click.option("--since", metavar="TIME", help="A day, or 2026-11-26T14:30, local or with an offset from UTC.")
@click.option("--until", metavar="TIME", help="The same; a day is included.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="Only these; repeatable.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only from these; repeatable.")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only from these; repeatable.")
@click.option("--min-score", type=click.FloatRange(0, 1), metavar="P", help="Only of at least this peak score.")
@click.option("--min-s", type=click.FloatRange(0), metavar="S", help="Only those that lasted so long.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Of all these, the last.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON an event, named as in MQTT's.")
@click.option("--count", is_flag=True, help="Of each label: how many, how long together, the highest score.")
@click.option("--chart", is_flag=True, help="With --day: hours across, labels down, as text.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="With --day: the same as a picture.")
def list_events(
    file: Path | None, labels: Sequence[str], sources: Sequence[str], nodes: Sequence[str], **flags: Any
) -> None:
    """List the events that the daemon has kept.

    FILE is its event log. [default: $TAGGER_HOME/events.sqlite]
    """
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
    show(file or default_path(), query=query, **shown)
