"""A run of `tagger archive`: gives shards to workers until all are done, and says how far it is."""

import time
from dataclasses import dataclass, field

from tagger.archive.plan import Plan, is_done, work
from tagger.archive.pool import Died, Done, Failed, Heard, Pool
from tagger.archive.stores import Store
from tagger.errors import TaggerError
from tagger.printable import echo, number_of
from tagger.progress import Progress, in_words
from tagger.stop import Stop

SUCCESS = "_SUCCESS"
"""Empty file in an archive that is complete, as Hadoop and Spark write it."""
_LOOK_SECONDS = 0.2
"""Interval at which it is looked whether Ctrl-C was pressed, seconds."""
_MOST_FAILURES = 3
"""Shards in turn that may fail before the run ends."""


@dataclass
class Archived:
    """What came of a run."""

    files: int = 0
    """Recordings of the shards that were done."""
    bad: int = 0
    """Recordings of them that could not be read, or not to their end."""
    first_error: str | None = None
    heard_s: float = 0.0
    took_s: float = 0.0
    windows: int = 0
    events: int = 0
    shards: int = 0
    shards_before: int = 0
    """Shards that an earlier run had done."""
    failed: list[str] = field(default_factory=list)
    """Why shards were not done."""
    interrupted: bool = False


def archive(plan: Plan, store: Store, pool: Pool, shown: bool) -> Archived:
    """Does all shards that are not done. Ctrl-C ends it early, and loses what was not done.

    Args:
        shown: whether to show the progress.

    Raises:
        TaggerError: no worker can work, or shards fail one after the other.
    """
    done = Archived()
    began, heard_s, failures, given = time.monotonic(), 0.0, 0, 0
    before_files = 0
    todo = work(store)
    with Stop() as stop, Progress("archiving", plan.files, "files", brief=True, shown=shown) as progress:
        with pool:
            while not stop.interrupted:
                while pool.room and (shard := next(todo, None)) is not None:
                    if is_done(store, shard):
                        done.shards_before += 1
                        before_files += len(shard.files)
                        progress.total = plan.files - before_files
                        continue
                    pool.give(shard)
                    given += 1
                if not given:
                    break
                if pool.room:
                    pool.no_more()
                for message in pool.wait(_LOOK_SECONDS):
                    match message:
                        case Heard(seconds):
                            heard_s += seconds
                        case Done(_, result):
                            given, failures = given - 1, 0
                            done.shards += 1
                            done.files, done.bad = done.files + result.files, done.bad + result.bad
                            done.windows, done.events = done.windows + result.windows, done.events + result.events
                            done.heard_s += result.heard_s
                            done.first_error = done.first_error or result.first_error
                            progress.update(result.files)
                        case Failed(shard, reason):
                            given, failures = given - 1, failures + 1
                            done.failed.append(f"shard {shard.number:06d}: {reason}")
                            if failures >= _MOST_FAILURES:
                                raise TaggerError(f"{done.failed[-1]}; nothing that is done is lost: --resume goes on")
                        case Died(shard, reason):
                            echo(f"Warning: a worker died ({reason}); shard {shard.number:06d} begins anew", err=True)
                passed_s = time.monotonic() - began
                progress.note = f"{in_words(heard_s)} of sound, {heard_s / passed_s:.0f} times real time"
                progress.update(0)
        done.interrupted = stop.interrupted
    done.took_s = time.monotonic() - began
    if not done.interrupted and not done.failed and not store.has(SUCCESS):
        with store.writing(SUCCESS) as path:
            path.touch()
    return done


def summary(done: Archived, plan: Plan, out: str) -> str:
    """What was done, in a line."""
    if done.shards_before == plan.shards:
        return f"{out}: all is done already, {number_of(plan.files, 'file')} in {number_of(plan.shards, 'shard')}"
    speed = f", {done.heard_s / done.took_s:.0f} times real time" if done.took_s else ""
    said = [
        f"{out}: {number_of(done.files, 'file')}, {in_words(done.heard_s)} of sound in {in_words(done.took_s)}{speed}"
    ]
    said.append(f"{number_of(done.windows, 'window')}, {number_of(done.events, 'event')}")
    if done.shards_before:
        said.append(f"{number_of(done.shards_before, 'shard')} of {plan.shards:,} were done before")
    if done.bad:
        more = "" if done.bad == 1 else f" and {number_of(done.bad - 1, 'other')}"
        said.append(f"could not be read whole: {done.first_error}{more} (column `error` of the table files)")
    return "; ".join(said)
