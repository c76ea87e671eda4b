"""One shard: its recordings are followed one after the other, and become one file of each table."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from tagger.archive.fetch import Fetched, fetched
from tagger.archive.job import Job, ShardDone
from tagger.archive.plan import MARKER, Shard
from tagger.archive.stores import Store, StoreError, store_of
from tagger.archive.tables import TableFile
from tagger.archive.together import Together
from tagger.audio.window import SlidingWindows
from tagger.engine.runtime import open_models
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError, CheckpointError
from tagger.events import Scores
from tagger.printable import printable
from tagger.tag.formats import TaggedWindow, times_of
from tagger.tag.recording import events, windows

_MOST_NOTES = 5
"""Warnings that are kept of a recording."""
_SIGN_SECONDS = 0.5
"""Interval at which a worker says how far it is."""


class Told(Protocol):
    """What takes a worker's signs of life. It may raise an error to end the work."""

    def begun(self, number: int) -> None:
        """The shard's recording of this number is being read."""

    def heard(self, seconds: float) -> None:
        """So much more sound was heard."""

    def threads(self) -> int:
        """Number of threads that may classify now."""


class Hearer:
    """A network, ready to tag shards. The same recordings always make the same batches."""

    def __init__(self, job: Job, classifier: WindowClassifier, store: Store) -> None:
        self._job, self._classifier, self._store = job, classifier, store
        sizes = SlidingWindows.of_seconds(job.window_s, job.hop_s, classifier.info.mel.sample_rate_hz)
        self._together = Together(classifier, sizes.window_samples, sizes.hop_samples)

    @classmethod
    def opened(cls, job: Job) -> "Hearer":
        """
        Raises:
            TaggerError: the models cannot be opened.
        """
        classifier = open_models(job.models, job.runtime, job.device, job.window, [job.asked])
        return cls(job, classifier, store_of(job.out))

    def work(self, shard: Shard, skipped: Mapping[int, str], told: Told) -> ShardDone:
        """Tags a shard and writes its files.

        Args:
            skipped: reasons of recordings that are not read, by their number.

        Raises:
            StoreError: a recording cannot be fetched now, or the tables cannot be written.
            CheckpointError: there are no embeddings.
        """
        tables = [MARKER, "windows", "events", *["embeddings"] * self._job.embeddings]
        try:
            with ExitStack() as stack:
                opened = {}
                for table in tables:  # left in the opposite order: the marker appears last
                    path = stack.enter_context(self._store.writing(shard.name(table)))
                    opened[table] = stack.enter_context(TableFile(table, path))
                return _Work(self._job, self._classifier, self._together, shard, opened, told).done(skipped)
        except ConnectionError:  # nobody waits for it
            raise
        except OSError as error:
            where = error.filename or shard.name("")
            raise StoreError(
                f"{self._store.shown}: cannot be written to ({where}: {error.strerror or error})"
            ) from None


class _Work:
    """A shard in the making."""

    def __init__(
        self,
        job: Job,
        classifier: WindowClassifier,
        together: Together,
        shard: Shard,
        tables: Mapping[str, TableFile],
        told: Told,
    ) -> None:
        self._job, self._classifier, self._together = job, classifier, together
        self._shard, self._tables, self._told = shard, tables, told
        self._heard_s, self._noted = 0.0, time.monotonic()
        """Sound that was heard since it was last told, and when that was."""

    def done(self, skipped: Mapping[int, str]) -> ShardDone:
        heard_s, errors = 0.0, []
        for each in fetched(self._shard.files, skipped):
            self._told.begun(each.number)
            seconds, error = self._file(each)
            heard_s += seconds
            if error is not None:
                errors.append(error)
        self._tell(0.0, force=True)
        found, begun = (self._tables[table].count for table in ("windows", "events"))
        first_error = errors[0] if errors else None
        return ShardDone(len(self._shard.files), len(errors), heard_s, found, begun, first_error)

    def _file(self, fetched: Fetched) -> tuple[float, str | None]:
        """The rows of a recording. Returns its length, seconds, and why it could not be read to its end."""
        shown = printable(fetched.shown)
        began_ms = None if fetched.began is None else round(fetched.began * 1000)
        before = {table: self._tables[table].count for table in ("windows", "events")}
        notes: list[str] = []
        self._end_s = 0.0
        error = fetched.error
        if error is None:
            try:
                self._hear(fetched.path, shown, began_ms, notes.append)
            except AudioError as damage:
                error = str(damage)
        hidden = str(fetched.path)
        if error is not None:
            error = _briefly(error, hidden, shown)
        kept = [_briefly(note, hidden, shown) for note in notes[:_MOST_NOTES]]
        if len(notes) > _MOST_NOTES:
            kept.append(f"and {len(notes) - _MOST_NOTES} more")
        counts = [self._tables[table].count - count for table, count in before.items()]
        self._tables[MARKER].add(shown, began_ms, round(self._end_s, 6), *counts, error, kept)
        return self._end_s, None if error is None else f"{shown}: {error}"

    def _hear(self, path: Path, shown: str, began_ms: int | None, warn: Callable[[str], None]) -> None:
        job = self._job

        def time_of(seconds: float) -> int | None:
            return None if began_ms is None else began_ms + round(seconds * 1000)

        rate_hz, piece = self._classifier.info.mel.sample_rate_hz, self._together.piece_windows
        cut = windows(path, rate_hz, job.window_s, job.hop_s, job.channel, piece, warn)
        scores = self._together.scores(cut, self._told.threads)
        for event in events(self._kept(scores, shown, time_of), job.rules):
            onset, offset = (round(each, 3) for each in times_of(event))
            self._tables["events"].add(shown, time_of(onset), onset, offset, event.label, round(event.peak_score, 6))

    def _kept(self, scores: Iterator[Scores], shown: str, time_of: Callable[[float], int | None]) -> Iterator[Scores]:
        """The same scores; a row of each is added."""
        labels, rows, embeddings = self._classifier.info.labels, self._tables["windows"], self._tables.get("embeddings")
        for each in scores:
            row = TaggedWindow.of(each, labels, self._job.top)
            names, values = zip(*row.top, strict=True)
            place = shown, time_of(row.start_s), round(row.start_s, 6), round(row.end_s, 6)
            rows.add(*place, names, [round(value, 6) for value in values])
            if embeddings is not None:
                if each.embedding is None:
                    raise CheckpointError(
                        f"{self._job.models[0]}: gives no embeddings: its graph was exported by an earlier version "
                        "(`tagger export` writes it again), or several models listen together"
                    )
                embeddings.add(*place, each.embedding.tolist())
            self._tell(row.end_s - self._end_s)
            self._end_s = row.end_s
            yield each

    def _tell(self, seconds: float, force: bool = False) -> None:
        self._heard_s += seconds
        if force or time.monotonic() - self._noted >= _SIGN_SECONDS:
            self._noted = time.monotonic()
            self._told.heard(self._heard_s)
            self._heard_s = 0.0


def _briefly(text: str, hidden: str, shown: str) -> str:
    """The text, without the name of the recording that it begins with; nor that of the copy that was read."""
    return printable(text).removeprefix(f"{printable(hidden)}: ").replace(printable(hidden), shown)
