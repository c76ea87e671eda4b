"""The command `tagger archive`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tagger import settings
from tagger.cli.common import INTERRUPTED, tagging_options
from tagger.errors import UserError
from tagger.printable import echo, number_of

_MEGABYTE = 1_000_000


@click.command("archive")
@click.argument("sources", nargs=-1, required=True, metavar="FOLDER|GLOB|MANIFEST|URL...")
@click.option("--out", "-o", required=True, metavar="FOLDER|URL", help="Where the tables are written, as Parquet.")
@tagging_options
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of labels of each window."
)
@click.option(
    "--embeddings", is_flag=True, help="Also write what the network makes of each window: a table `embeddings`."
)
@click.option("--source", metavar="NAME", help="What recorded them. [default: the manifest's, or the folder's name]")
@click.option(
    "--shard-mb",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="MB",
    help="Size of the recordings of one shard, at most 500 of them.",
)
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Worker processes. [default: processor cores]")
@click.option(
    "--ray",
    metavar="auto|ADDRESS",
    help="Work on this Ray cluster, with a worker for each core or GPU. [default: on this machine]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out; an error if there is none.")
def archive(
    sources: Sequence[str],
    out: str,
    models: tuple[str, ...],
    device: str,
    runtime: str,
    window: float | None,
    hop: float,
    channel: settings.Channel,
    config: Path | None,
    top: int,
    embeddings: bool,
    source: str | None,
    shard_mb: int,
    jobs: int | None,
    ray: str | None,
    resume: bool,
) -> None:
    """Tag whole collections of recordings into Parquet, shard by shard; what is done is kept, whatever dies.

    Folders, patterns, and manifests (.csv, .parquet, .txt) of paths and URLs, on this machine or at s3:// and the like.
    The same command goes on where an earlier one ended.
    """
    settings.check_window(window, hop)
    import dataclasses

    import pyarrow  # noqa: F401  # what is missing is said before the work begins

    from tagger import cluster
    from tagger.archive import plan, ray_pool, run
    from tagger.archive.job import Job
    from tagger.archive.listing import Listing, local_roots
    from tagger.archive.pool import LocalPool, Pool
    from tagger.archive.recording import absolute
    from tagger.archive.stores import store_of
    from tagger.checkpoints.header import weights_digest
    from tagger.engine.engine import cores
    from tagger.engine.runtime import described
    from tagger.tag.asked import ask

    if ray is not None:
        cluster.library()  # here, too
    asked = ask(models, window, hop, config)
    place = absolute(out)
    store = store_of(place)
    job = Job(
        out=place,
        models=models,
        runtime=runtime,
        device=device,
        window=window,
        window_s=asked.window_s,
        hop_s=hop,
        channel=channel,
        top=top,
        asked=asked.events,
        rules=asked.rules,
        embeddings=embeddings,
    )
    wanted = {
        "sources": [absolute(each) for each in sources],
        "--source": source,
        "--model": {model: weights_digest(described(model)[0]) for model in models},
        "--runtime": runtime,
        "--device": device,
        "--window": window,
        "--hop": hop,
        "--channel": channel,
        "--config": plan.digest(dataclasses.asdict(asked.rules)),
        "--top": top,
        "--embeddings": embeddings,
        "--shard-mb": shard_mb,
    }
    with store.lock():
        found = plan.read(store, wanted)
        errors = []
        if found is None:
            if resume:
                raise UserError(f"--resume: {out} holds no run; leave it out to begin one")
            listing = Listing(sources, source)
            found = plan.write(store, listing, wanted, shard_mb * _MEGABYTE)
            errors = listing.errors
        pool: Pool
        if ray is None:
            threads = jobs or cores()
            pool = LocalPool(job, min(threads, found.shards), threads)
        else:
            pool = ray_pool.RayPool(job, ray, found.shards, jobs, local_roots(sources))
        done = run.archive(found, store, pool, shown=True)
    for error in (*errors, *done.failed):
        echo(f"Error: {error}", err=True)
    left = f"; {number_of(found.left_out, 'file')} left out, no audio by name" if found.left_out else ""
    echo(run.summary(done, found, out) + left, err=True)
    if done.interrupted:
        shards = f"{done.shards + done.shards_before} of {number_of(found.shards, 'shard')}"
        echo(f"Interrupted: {shards} done; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    if errors or done.failed:
        sys.exit(UserError.exit_code)
