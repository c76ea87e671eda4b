"""`tagger train`, `eval`, `recipes` and `features`. The only module of `tagger` that imports `train`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tagger.cli.common import device_option
from tagger.errors import UserError
from tagger.models.config import network_names
from tagger.printable import echo


def _data_options(command: Any) -> Any:
    """Decorator: the arguments that name the clips for `train` and `eval`."""
    options = (
        click.argument("data", required=False, type=click.Path(path_type=Path)),
        click.option("--esc10", is_flag=True, help="Use only the ten labels of ESC-50 that make ESC-10."),
        click.option(
            "--add",
            "added",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="OWN",
            help="Own clips besides DATA: a folder LABEL/FILE, or a CSV; repeatable.",
        ),
        click.option("--strict", is_flag=True, help="Stop at a damaged or silent clip instead of leaving it out."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_data_options
@click.option(
    "--background",
    "backgrounds",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Recordings that must trigger nothing; repeatable.",
)
@click.option(
    "--download", is_flag=True, help="Fetch ESC-50 (600 MB) first, if it is missing; continues an interrupted download."
)
@click.option(
    "--model",
    "-m",
    help=f"Network: {', '.join(network_names())}, or a checkpoint. [default: mn04, or the recipe's]",
)
@click.option(
    "--start", type=click.Choice(["audioset", "imagenet", "nothing"]), help="Weights that mn and dymn begin with."
)
@click.option("--recipe", help="Way of training; `tagger recipes` lists them. [default: the network's own]")
@click.option(
    "--set", "settings_", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe; repeatable."
)
@click.option(
    "--freeze", is_flag=True, help="Short for --recipe head: only a last layer, on the frozen network's features."
)
@click.option(
    "--no-opinion",
    is_flag=True,
    help="Short for --set opinion=false: without the AudioSet network's opinion beside the labels'.",
)
@click.option("--epochs", type=click.IntRange(1), help="Short for --set epochs=N.")
@click.option("--teacher", metavar="MODEL", help="Checkpoint to learn from too; {fold} in it is the held-out fold.")
@click.option("--fold", "folds", type=click.IntRange(1, 5), multiple=True, help="Hold out this fold only; repeatable.")
@click.option("--all-clips", is_flag=True, help="Train only the final checkpoint, on all clips; hold out no fold.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Output folder. [default: runs/NAME; of ESC-50 without --name, runs/MODEL-RECIPE]",
)
@click.option("--name", help="Name of the run and of its final checkpoint. [default: esc50, or your folder's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws.")
@click.option("--resume", is_flag=True, help="Continue the run in the output folder.")
@click.option(
    "--allow-leak",
    is_flag=True,
    help="Allow a start or a teacher that has heard the held-out clips; the checkpoint is marked.",
)
@device_option
def train(**flags: Any) -> None:
    """Train on ESC-50, on your own clips, or on both.

    DATA is ESC-50's folder or its zip, or a folder with a folder of clips for each label, or a CSV with the columns
    filename, label and, if you like, fold. [default: $TAGGER_HOME/esc50]

    Without --fold, each of the five folds is held out once and scored by a network that never heard it; then the final
    checkpoint is trained on all clips. Ctrl-C saves; --resume continues. Decoded clips are kept in $TAGGER_HOME/cache,
    which you may delete. Several processes share the work: torchrun --nproc-per-node 2 -m -- tagger train ...
    """
    from train import cli

    cli.train(**flags)


@click.command("eval")
@_data_options
@click.option(
    "--model",
    "-m",
    "models_",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="A checkpoint, or the folder of a training with one for each fold; repeatable.",
)
@click.option(
    "--folds",
    default="own",
    show_default=True,
    metavar="LIST",
    help="Folds to score: own, all, or numbers such as 1,3.",
)
@click.option(
    "--shifts",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Number of copies, shifted in time, whose scores are averaged.",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("report"), show_default=True, help="Output folder."
)
@click.option(
    "--allow-leak", is_flag=True, help="Also score clips that the checkpoint was trained on; the report is marked."
)
@click.option("--streamed", is_flag=True, help="Score long streams made from the clips, as the daemon hears them.")
@click.option(
    "--minutes", type=click.FloatRange(1, 600), help="Streamed: length for each checkpoint, minutes. [default: 20]"
)
@click.option(
    "--hop", type=click.FloatRange(0.05, 5), help="Streamed: time from one window to the next, seconds. [default: 0.5]"
)
@click.option("--seed", type=click.IntRange(0), help="Streamed: seed of the random streams. [default: 0]")
@click.option(
    "--background",
    "backgrounds",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Streamed: recordings under the sounds; repeatable. [default: noise]",
)
@click.option(
    "--nontarget",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Streamed: recordings in which every event is a false alarm; repeatable.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Streamed: TOML file of what counts as an event."
)
@device_option
def evaluate(**flags: Any) -> None:
    """Score checkpoints on clips that they have never heard.

    A checkpoint records what it was trained on. --folds own scores the fold that it did not hear. --folds all is the
    official protocol: five checkpoints, each on its own fold, mean and standard deviation.
    """
    from train import cli

    cli.evaluate(**flags)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print all fields, one line of JSON for each recipe.")
def recipes(as_json: bool) -> None:
    """List the ways of training, and what each changes."""
    from train import cli

    cli.recipes(as_json)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Output folder.")
@click.option("--front-end", metavar="NAME", help="Front end: efficientat, origin, mel or mfcc. [default: efficientat]")
@click.option(
    "--model", "-m", metavar="NAME", help="Model whose front end is used: a name from `tagger models`, or a path."
)
@click.option(
    "--picture/--no-picture", default=True, help="Also write a picture; needs the extra `train`.  [default: picture]"
)
def features(files: Sequence[Path], output: Path, front_end: str | None, model: str | None, picture: bool) -> None:
    """Write a network's input: spectrograms or MFCCs, as DIR/FILE.npy and DIR/FILE.png.

    Files may have any length, sample rate and channel count. The array covers the whole file: [bands, frames], float32.
    A damaged file is reported and gives no output.
    """
    from train.features.files import check_pictures, chosen, write
    from train.features.files import targets as targets_of

    config = chosen(front_end, model)
    targets = targets_of(files, output)
    if picture:
        check_pictures()
    failed = 0
    for path, target in targets.items():
        try:
            bands, frames = write(path, target, config, picture)
            echo(f"{target}  {bands} x {frames}")
        except UserError as error:  # the other files are still worth it
            echo(f"Error: {error}", err=True)
            failed += 1
    if failed:
        sys.exit(UserError.exit_code)
