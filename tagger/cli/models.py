"""`tagger models`, `models add`, `remove`, `download` and `opinion`."""

from collections.abc import Sequence
from pathlib import Path

import click

from tagger.cli.common import Group
from tagger.printable import echo, echo_lines, number_of


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the installed models; add, remove or download others."""
    if ctx.invoked_subcommand is not None:
        return
    from tagger.checkpoints import store

    echo(f"{'name':<16} {'origin':<11} {'labels':>6} {'size':>8}  measured")
    for entry in store.entries():
        if entry.document is None:
            echo(f"{entry.name:<16} {entry.origin:<11} {'':>6} {'':>8}  unusable: {entry.problem}")
            continue
        measured = ", ".join(store.describe_metric(key, value) for key, value in entry.document["metrics"].items())
        size = f"{entry.path.stat().st_size / 1e6:.1f} MB"
        echo(f"{entry.name:<16} {entry.origin:<11} {len(entry.document['labels']):>6} {size:>8}  {measured}")
    echo(err=True)
    echo(f"own and official ones: {store.folder()}", err=True)


@models.command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def models_add(files: Sequence[Path]) -> None:
    """Add a checkpoint of your own, or one of EfficientAT's official mn*_as .pt files."""
    from tagger.checkpoints.add import add

    for path in files:
        added = add(path)
        echo(f"{added.stem}: {added}")


@models.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def models_remove(names: Sequence[str]) -> None:
    """Delete a checkpoint of your own, or an official one, with its graph."""
    from tagger.checkpoints.add import remove

    for name in names:
        echo_lines(f"removed {path}" for path in remove(name))


@models.command("download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--url", help="Address of the release files. [default: EfficientAT's release v0.0.1]")
def models_download(names: Sequence[str], url: str | None) -> None:
    """Fetch EfficientAT's official AudioSet weights: mn04, mn10. An interrupted download is continued."""
    from tagger.checkpoints import release, store
    from tagger.checkpoints.add import add

    for name in names:
        file = release.release_file(name)
        target = store.folder() / file.name
        with release.progress_bar(file.name) as progress:
            release.download(file, target, url or release.RELEASE_URL, progress)
        added = add(target)
        target.unlink()
        echo(f"{added.stem}: {added}")


@models.command("opinion")
@click.argument("model")
@click.option(
    "--of", "official", metavar="NAME", help="Official AudioSet network. [default: what MODEL was trained from]"
)
@click.option(
    "--classes", type=click.Path(path_type=Path), metavar="CSV", help="Which AudioSet classes mean your labels."
)
@click.option(
    "--head", metavar="NAME", help="Checkpoint of `tagger train --freeze`, whose last layer is asked as well."
)
@click.option("--bias", type=click.FloatRange(-100, 100), help="Added to every logit. [default: the package's]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: $TAGGER_HOME/models]",
)
def models_opinion(
    model: str, official: str | None, classes: Path | None, head: str | None, bias: float | None, output: Path | None
) -> None:
    """Give MODEL a second opinion: the AudioSet network that it was trained from, as that was before.

    Its scores then count what else a window may hold: docs/trust.md. The graph, if MODEL has one, is written anew.
    Needs torch.
    """
    from tagger.checkpoints import store
    from tagger.checkpoints.graph import graph_of
    from tagger.checkpoints.opinion import read_classes
    from tagger.checkpoints.second import Asked, add
    from tagger.sources.file import DEMO

    path = store.find(model)
    out = output or store.folder() / path.name
    info = add(model, official, Asked(read_classes(classes) if classes else {}, bias, head), out)
    shared = number_of(info.config.shared, "layer")
    echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, shares {shared} with its second opinion")
    if graph_of(path).is_file():
        from tagger.engine.export import export

        done = export(out, graph_of(out), [DEMO])
        echo(f"{done.path}: {done.path.stat().st_size / 1e6:.1f} MB")
