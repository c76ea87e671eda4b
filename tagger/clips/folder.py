"""A folder of saved clips: a thread writes them, deletes old ones, and keeps a table of them.

A clip is `siren/20261122T193852Z_mic_01M82C9BXHNTRMQRDVRKQ5T24P.flac`: label, UTC time of the onset, source, id of the
event. Its line in `events.jsonl` is the end event's JSON with `file`, `clip_onset` and `clip_offset`. `reviewed.csv`
holds the verdicts of `tagger review`.
"""

import io
import json
import logging
import queue
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tagger.errors import UserError
from tagger.files import PRIVATE, append_line, make_folders, make_private, open_private, private_mode, replacing
from tagger.retention import Retention
from tagger.retry import Repeats
from tagger.table import read_table

log = logging.getLogger(__name__)

EVENTS = "events.jsonl"
REVIEWED = "reviewed.csv"
_CLIP_NAME = re.compile(r"\d{8}T\d{6}Z_[a-z0-9_]+_[0-9A-Za-z]+\.flac(\w*\.partial)?")
"""Names of clips, and of files that an interrupted write leaves. Files of other names are never deleted."""
_QUEUE_SIZE = 16
"""Most clips that wait for the disk: 31 MB, if all are 30 s at 32 kHz."""
_SHORTEN_EVERY = 1000
"""Deleted clips after which their lines are removed from `events.jsonl`. It is also shortened at the start."""


@dataclass(frozen=True, eq=False)
class EventClip:
    """The audio of one event, to be written."""

    file: str
    """Path below the folder, with `/`."""
    samples: NDArray[np.int16]
    """[N], mono, full scale 32768."""
    rate_hz: int
    event: dict[str, Any]
    """Its line of `events.jsonl`, without `file`."""


class ClipFolder:
    """Writes the clips of all streams. Any thread may call it; none waits for the disk.

    A clip that cannot be saved is counted, and the 1st, 2nd, 4th, 8th ... is logged; listening goes on.
    Reviewed clips are training data: they are neither deleted nor counted against `keep_mb`.
    """

    def __init__(self, root: Path, keep_days: float | None = None, keep_mb: float | None = None) -> None:
        """
        Args:
            root: the folder; made if it is missing.
            keep_days: greatest age of a clip that is not reviewed, days; older ones are deleted. None: no limit.
            keep_mb: greatest size of all clips that are not reviewed, megabytes (10^6 bytes); the oldest are deleted.
                None: no limit.

        Raises:
            UserError: the folder cannot be made or written to.
        """
        self.root, self._keep_mb = root, keep_mb
        self._retention = None if keep_days is None else Retention(86_400 * keep_days, f"clips in {root}")
        try:
            with locked(root, make=True):
                pass
        except OSError as error:
            raise UserError(f"{root}: clips cannot be saved here ({error.strerror or error})") from None
        self.saved = 0
        """Number of clips written."""
        self._left_out = Repeats()
        self._troubles: defaultdict[str, Repeats] = defaultdict(Repeats)
        self._troubles_lock = threading.Lock()
        self._deleted = _SHORTEN_EVERY
        self._closed = False
        self._queue: queue.Queue[EventClip | None] = queue.Queue(_QUEUE_SIZE)
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Clips that wait for the disk."""
        return self._queue.qsize()

    @property
    def lost(self) -> int:
        """Clips that could not be saved."""
        return self._troubles["clips lost"].count

    @property
    def left_out(self) -> int:
        """Clips that were not wanted."""
        return self._left_out.count

    def put(self, clip: EventClip) -> None:
        """Queues a clip for the writing thread, or loses it where the queue is full."""
        if self._closed:
            self.lose(f"{clip.file}: came after the end")
            return
        try:
            self._queue.put_nowait(clip)
        except queue.Full:
            self.lose(f"{clip.file}: the disk is too slow, {_QUEUE_SIZE} clips wait for it already")

    def lose(self, why: str) -> None:
        """Counts a clip that cannot be saved, and logs why."""
        self._log_trouble("clips lost", why)

    def leave_out(self, why: str) -> None:
        """Counts a clip that is not wanted, and logs why, as for lost ones."""
        with self._troubles_lock:
            is_news = self._left_out.add()
        if is_news:
            log.info("%s: %s; it is not saved (%d so far)", self.root, why, self.left_out)

    def close(self, wait_s: float) -> None:
        """Writes the queued clips for at most `wait_s` seconds; clips left then are lost, and logged."""
        self._closed = True
        until = time.monotonic() + wait_s
        with suppress(queue.Full):
            self._queue.put(None, timeout=wait_s)
        self._thread.join(max(0.0, until - time.monotonic()))
        while self._thread.is_alive():
            try:
                clip = self._queue.get_nowait()
            except queue.Empty:
                break
            if clip is not None:
                self.lose(f"{clip.file}: not written before the end")
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put_nowait(None)

    def _log_trouble(self, what: str, why: str) -> None:
        with self._troubles_lock:
            is_news = self._troubles[what].add()
        if is_news:
            log.warning("%s: %s (%s so far: %d)", self.root, why, what, self._troubles[what].count)

    def _run(self) -> None:
        """Runs in the writing thread. No error leaves it, so listening goes on."""
        self._make_private()
        self._tidy_up()
        while (clip := self._queue.get()) is not None:
            try:
                self._write(clip)
            except Exception as error:
                self.lose(f"{clip.file}: {_reason(error)}")
                log.debug("while saving a clip", exc_info=True)
            else:
                self.saved += 1
            self._tidy_up()

    def _write(self, clip: EventClip) -> None:
        content = io.BytesIO()  # a full disk is an error of Python's write, but not of libsndfile's
        soundfile.write(content, clip.samples, clip.rate_hz, format="FLAC", subtype="PCM_16")
        path = self.root / clip.file
        if is_linked(self.root, clip.file):
            raise UserError("a link is in the way, and links among the clips are not followed")
        with replacing(path, PRIVATE) as partial:
            partial.write_bytes(content.getbuffer())
        try:
            with locked(self.root):
                append_line(self.root / EVENTS, json.dumps(clip.event | {"file": clip.file}))
        except OSError:
            path.unlink(missing_ok=True)  # without its line, a clip cannot be used
            raise

    def _make_private(self) -> None:
        """Closes what an earlier version left open to everybody."""
        with suppress(OSError):
            for path in (self.root / ".lock", self.root / EVENTS, self.root / REVIEWED, *_clips(self.root)):
                if path.is_file():
                    make_private(path)

    def _tidy_up(self) -> None:
        if self._retention is None and self._keep_mb is None:
            return
        try:
            with locked(self.root):
                self._deleted += self._delete_old()
                if self._deleted >= _SHORTEN_EVERY:
                    _shorten(self.root)
                    self._deleted = 0
        except Exception as error:  # also a damaged reviewed.csv: it does not say which clips to keep, so all are kept
            self._log_trouble("times that nothing could be deleted", _reason(error))
            log.debug("while deleting clips", exc_info=True)

    def _delete_old(self) -> int:
        """Deletes clips beyond the limits. Returns how many."""
        keep_bytes = float("inf") if self._keep_mb is None else 1e6 * self._keep_mb
        reviewed = {row["filename"] for row in read_reviews(self.root)}
        clips = []
        for path in _clips(self.root):
            if path.relative_to(self.root).as_posix() not in reviewed:
                with suppress(FileNotFoundError):
                    status = path.stat()
                    clips.append((status.st_mtime, status.st_size, path))
        clips.sort()
        total, deleted = sum(size for _, size, _ in clips), 0
        old: list[tuple[float, float]] = []
        if self._retention is not None:
            old = self._retention.old(lambda: (modified for modified, _, _ in clips))
        for modified, size, path in clips:
            if total <= keep_bytes and not any(start <= modified < end for start, end in old):
                continue
            path.unlink(missing_ok=True)
            total -= size
            deleted += 1
        return deleted


@contextmanager
def locked(root: Path, make: bool = False) -> Iterator[None]:
    """Locks the folder against other processes and threads that change its tables or delete its clips.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    if make:
        make_folders(root, is_private=True)
    with open_private(root / ".lock") as file:
        if sys.platform != "win32":
            import fcntl

            with suppress(OSError):  # some network drives have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_linked(root: Path, file: str) -> bool:
    """Whether a link leads from the folder to the file. `root` itself may be one.

    Args:
        file: path below `root`.
    """
    path = root / file
    return any(each.is_symlink() for each in (path, *path.parents) if each != root and root in each.parents)


def _clips(root: Path) -> Iterator[Path]:
    """The files with a clip's name in folders below `root`. Links are left out: what is behind them is not ours."""
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.iterdir():
                if _CLIP_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    yield path


def read_reviews(root: Path) -> list[dict[str, str]]:
    """The rows of `reviewed.csv`, in its order, values stripped; none if the file is missing.

    Raises:
        UserError: the file is damaged. The caller must not overwrite it.
    """
    table = root / REVIEWED
    advice = "; mend it, or move it away"
    try:
        columns, rows = read_table(table, advice)
    except FileNotFoundError:
        return []
    if "filename" not in columns or "label" not in columns:
        raise UserError(f"{table}: line 1 must name the columns filename,label{advice}")
    for line, row in rows:
        if None in row:
            raise UserError(f"{table}, line {line}: has more values than there are columns; mend it")
    return [{key: value.strip() for key, value in row.items()} for _, row in rows]


def _shorten(root: Path) -> None:
    """Removes the lines of deleted clips from `events.jsonl`. Lines that cannot be read stay."""
    try:
        lines = (root / EVENTS).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if not _has_no_clip(root, line)]
    if len(kept) < len(lines):
        with replacing(root / EVENTS, private_mode(root / EVENTS)) as partial:
            partial.write_bytes(b"".join(kept))


def _has_no_clip(root: Path, line: bytes) -> bool:
    try:
        return not (root / json.loads(line)["file"]).exists()
    except (ValueError, KeyError, TypeError):
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
