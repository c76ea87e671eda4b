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
    "--to",
    "runtimes",
    multiple=True,
    type=click.Choice(["onnx", "openvino"]),
    default=["onnx"],
    show_default="onnx",
    help="What will run the graph, and so is compared; repeatable. The file is the same.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Compute with integers of 8 bits, if on this machine that is quicker and loses at most half a point.",
)
@click.option(
    "--on",
    "sounds",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Recording, or folder of them, to compare on, and for --int8 to calibrate and to measure; repeatable. "
    "[default: the built-in demo]",
)
def export_model(model: str, output: Path | None, runtimes: Sequence[str], int8: bool, sounds: Sequence[Path]) -> None:
    """Write MODEL as a graph that ONNX Runtime and OpenVINO run, on devices without torch.

    MODEL is a name from `tagger models`, or a path. The graph is compared with the checkpoint on real sounds before it
    is written. A device needs both files, side by side. Exporting needs torch: ./scripts/setup torch
    installs it. --int8 takes 200 windows or more; in folders DIR/LABEL/FILE it measures accuracy, else in how many
    windows another label is at its threshold.
    """
    from tagger.checkpoints import store
    from tagger.checkpoints.graph import graph_of
    from tagger.checkpoints.info import read_info
    from tagger.errors import UserError
    from tagger.folders import is_audio_file, walk
    from tagger.sources.file import DEMO

    path = store.find(model)
    from tagger.engine.export import export

    files = [file for each in sounds for file in (walk(each) if each.is_dir() else [each])]
    files = [file for file in files if file in sounds or is_audio_file(file)]
    if sounds and not files:
        raise UserError(f"--on {sounds[0]}: holds no recording")
    out = output or graph_of(path)
    done = export(path, out, files or [DEMO], tuple(dict.fromkeys(runtimes)))
    size = f"{done.path.stat().st_size / 1e6:.1f} MB"
    echo(f"{done.path}: {size}; logits differ by at most {done.difference:.1e} in {number_of(done.windows, 'window')}")
    if int8:
        from tagger.engine.int8 import export_int8

        found = export_int8(read_info(path), path, out, files or [DEMO])
        echo(f"{done.path}: now {out.stat().st_size / 1e6:.1f} MB, int8: {found}")
