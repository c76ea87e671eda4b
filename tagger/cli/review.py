"""The command `tagger review`."""

from collections.abc import Sequence
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--list", "listed", is_flag=True, help="Print the clips, those not reviewed first, and ask nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the same as one line of JSON for each clip.")
@click.option(
    "--mark",
    "marks",
    multiple=True,
    metavar="CLIP=VERDICT",
    help="Verdict for a clip, named by id or file: right, wrong, a label, or undo; repeatable.",
)
def review(folder: Path, listed: bool, as_json: bool, marks: Sequence[str]) -> None:
    """Review saved clips: is each label right, wrong, or something else?

    DIR is what `tagger listen --save-clips DIR` wrote. Each answer is written at once to DIR/reviewed.csv; `tagger
    train --add DIR` learns from it. Something else may be any label, also one of your own that no model has yet. Two
    sounds at once are two clips: answer each for its own label, whatever else sounds in it.
    """
    from tagger.clips import review

    if marks:
        review.mark_all(folder, marks)
    if listed or as_json:
        review.show(folder, as_json)
    elif not marks:
        review.ask(folder)
