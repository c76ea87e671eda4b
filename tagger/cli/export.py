"""The command `tagger export`."""

from collections.abc import Sequence
from pathlib import Path

import click

from tagger.printable import echo, number_of


@click.command("export")
@click.argument("model")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: beside the checkpoint, where `tagger listen` looks for it]",
)
@click.option(
    "--on",
    "sounds",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Recording to compare on; may be repeated. [default: the built-in demo]",
)
def export_model(model: str, output: Path | None, sounds: Sequence[Path]) -> None:
    """Write MODEL as a graph that ONNX Runtime runs, on devices without torch.

    MODEL is a name from `tagger models`, or a path. The graph is compared with the checkpoint on real sounds before it
    is written. A device needs both files, side by side. Exporting needs torch: ./scripts/setup torch
    installs it.
    """
    from tagger.checkpoints import store
    from tagger.checkpoints.graph import graph_of
    from tagger.sources.file import DEMO

    path = store.find(model)
    from tagger.engine.export import export

    done = export(path, output or graph_of(path), sounds or [DEMO])
    size = f"{done.path.stat().st_size / 1e6:.1f} MB"
    echo(f"{done.path}: {size}; logits differ by at most {done.difference:.1e} in {number_of(done.windows, 'window')}")
