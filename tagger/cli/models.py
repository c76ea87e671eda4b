"""`tagger models`, `models add` and `models download`."""

from collections.abc import Sequence
from pathlib import Path

import click

from tagger.cli.common import Group
from tagger.printable import echo


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the installed models; add or download others."""
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
