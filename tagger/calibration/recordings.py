"""Scores of recordings, of a live source and of single examples, by the loop of `tagger listen`."""

import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.calibration.tracks import Recorder
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError, TaggerError, UserError, near
from tagger.events import Block, Window
from tagger.files import sha256
from tagger.folders import folders_in, is_audio_file, walk
from tagger.listen import follow
from tagger.names import BACKGROUND_NAMES
from tagger.printable import echo, number_of
from tagger.progress import Progress
from tagger.settings import Channel
from tagger.sources import Source, open_source
from tagger.stop import Stop
from tagger.tag import recording as tag

LEAST_S = 60.0
"""Shortest audio that thresholds are chosen from, seconds."""
_LOOK_SECONDS = 0.5
"""Interval at which the progress is printed."""
_QUIET = 10 ** (-70 / 20)
"""RMS of the white noise around an example; full scale is 1."""


class RecordingClassifier:
    """Classifies audio with one model and keeps its scores from `floor` on."""

    def __init__(
        self, classifier: WindowClassifier, window_s: float, hop_s: float, floor: float, channel: Channel = ()
    ) -> None:
        """
        Args:
            channel: channels that are heard of recordings and of a source that does not say its own.
        """
        self._classifier, self._window_s, self._hop_s, self._floor = classifier, window_s, hop_s, floor
        self._channel = channel
        self._rate_hz = classifier.info.mel.sample_rate_hz
        self.failed = 0
        """Files that are damaged or no audio; each was named on standard error."""
        self.is_interrupted = False
        """Whether Ctrl-C has ended the listening early."""

    def files(self, paths: Sequence[Path]) -> list[Recorder]:
        """One recorder a file. A damaged file is classified up to the damage; after Ctrl-C, what was heard is all."""
        recorders: list[Recorder] = []
        count = number_of(len(paths), "recording", "recordings")
        echo(f"listening to  {count}; Ctrl-C ends it early and goes on with what was heard", err=True)
        with Stop() as stop, Progress("listening", len(paths), "files") as progress:
            for path in progress.over(paths):
                recorders.append(Recorder(self._floor))
                try:
                    for scores in tag.tag(path, self._classifier, self._window_s, self._hop_s, self._channel):
                        recorders[-1].add(scores)
                        progress.note = f"{path.name}, {_minutes(scores.end_s)}"
                        progress.update(0)
                        if stop.interrupted:
                            break
                except AudioError as error:
                    self._report(error)
                if stop.interrupted:
                    break
            self.is_interrupted = stop.interrupted
        if self.is_interrupted:
            heard = _minutes(sum(each.heard_s for each in recorders))
            where = f"in {paths[len(recorders) - 1]}, number {len(recorders)} of {len(paths)}"
            echo(f"ended early {where}: going on with the {heard} that were heard", err=True)
        return recorders

    def sources(self, uris: Sequence[str], duration_s: float) -> list[Recorder]:
        """Listens to sources at once for `duration_s`, or less if they end, break or are interrupted by Ctrl-C.

        Returns:
            A recorder for each source that was heard for LEAST_S.

        Raises:
            UserError: there is no such source, or all ended before LEAST_S were heard.
            TaggerError: all broke before LEAST_S were heard.
        """
        opened = [open_source(uri, self._rate_hz, realtime=False, channel=self._channel) for uri in uris]
        for source in opened:
            name = f"{source.name}: " if len(opened) > 1 else ""
            length = _minutes(duration_s)
            echo(f"listening to  {name}{source.description}, for {length}; Ctrl-C ends it early", err=True)
        self._classifier.warm_up(round(self._window_s * self._rate_hz))
        heard = [_Heard(source, self._rate_hz, duration_s, Recorder(self._floor)) for source in opened]
        with (
            Stop() as stop,
            ThreadPoolExecutor(len(heard)) as threads,
            Progress("listening", duration_s, "min", 60) as progress,
        ):
            following = [threads.submit(each.follow, self._classifier, self._sliding()) for each in heard]
            while not all(future.done() for future in following) and not stop.wait(_LOOK_SECONDS):
                progress.update(min(each.heard_s for each in heard) - progress.done)
            for source in opened:
                source.close()
            for future in following:
                future.result()
        enough = [each for each in heard if each.heard_s >= LEAST_S]
        for each in heard:
            if not enough:
                short = f"only {each.heard_s:.0f} s were heard; at least {LEAST_S:g} s are needed"
                raise each.broke or UserError(short)
            each.report(duration_s, f"{each.source.name}: " if len(heard) > 1 else "")
        return [each.recorder for each in enough]

    def example(self, path: Path) -> list[Recorder]:
        """The scores of one short sound in a quiet room. Empty if the file cannot be read."""
        recorder, sliding = Recorder(self._floor), self._sliding()
        try:
            for scores in follow(self._in_quiet(path), self._classifier.lane(sliding), sliding, flush=False):
                recorder.add(scores)
        except AudioError as error:
            self._report(error)
            return []
        return [recorder]

    def _in_quiet(self, path: Path) -> Iterator[Block]:
        noise = np.random.default_rng(0)
        quiet = np.zeros(round((self._window_s + 2 * self._hop_s + 1) * self._rate_hz), np.float32)
        whole = itertools.chain([quiet], decode(path, self._rate_hz), [quiet])
        room = (each + np.float32(_QUIET) * noise.standard_normal(len(each), np.float32) for each in whole)
        return tag.in_blocks(room, self._rate_hz)

    def _sliding(self) -> SlidingWindows:
        return SlidingWindows.of_seconds(self._window_s, self._hop_s, self._rate_hz)

    def _report(self, error: TaggerError) -> None:
        self.failed += 1
        echo(f"Error: {error}", err=True)


class _Heard:
    """What was heard of one source."""

    def __init__(self, source: Source, rate_hz: int, duration_s: float, recorder: Recorder) -> None:
        self.source, self.recorder = source, recorder
        self.heard_s, self.skipped = 0.0, 0
        self.broke: TaggerError | None = None
        """Why it ended early."""
        self._rate_hz, self._duration_s = rate_hz, duration_s

    def follow(self, classifier: WindowClassifier, sliding: SlidingWindows) -> None:
        """Keeps scores until the time is over, or the source has ended, broken or was closed."""

        def count_late(window: Window) -> None:
            self.skipped += 1

        lane = classifier.lane(sliding, self.source.behind, count_late)
        try:
            for scores in follow(self._blocks(), lane, sliding, flush=False):
                self.recorder.add(scores)
        except TaggerError as error:
            self.broke = error

    def _blocks(self) -> Iterator[Block]:
        for block in self.source.blocks():
            yield block
            self.heard_s += len(block.samples) / self._rate_hz
            if self.heard_s >= self._duration_s:
                return

    def report(self, duration_s: float, name: str) -> None:
        """Says how it ended, if early."""
        if self.broke is not None:
            echo(f"Warning: {name}{self.broke}", err=True)
        if self.heard_s < LEAST_S:
            echo(f"Warning: {name}left out, since only {self.heard_s:.0f} s were heard", err=True)
        elif self.heard_s < duration_s:
            echo(f"{name}ended early: going on with the {_minutes(self.heard_s)} that were heard", err=True)
        if self.skipped:
            skipped = number_of(self.skipped, "window was", "windows were")
            echo(f"{name}inference is slower than the hop: {skipped} skipped; use a longer --hop", err=True)


def recordings(path: Path) -> list[Path]:
    """The file itself, or all audio files in a folder and its subfolders.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    if not (found := [each for each in walk(path) if is_audio_file(each)]):
        raise UserError(f"{path}: no audio files in this folder")
    return found


def each_once(paths: Sequence[Path]) -> list[Path]:
    """The files without links to others of them, and without copies: what was heard once would count as if it had
    sounded again. Says which are left out.
    """
    alike: defaultdict[int, list[Path]] = defaultdict(list)
    distinct = list(dict.fromkeys(paths))
    for path in distinct:
        with suppress(OSError):  # said where it is read
            alike[path.stat().st_size].append(path)
    again: dict[Path, Path] = {}
    for group in alike.values():
        files, contents = dict[Path, Path](), dict[str, Path]()
        for path in group if len(group) > 1 else ():
            first = files.setdefault(path.resolve(), path)
            if first is path:
                with suppress(OSError):
                    first = contents.setdefault(sha256(path), path)
            if first is not path:
                again[path] = first
    if again:
        path, first = next(iter(again.items()))
        left_out = number_of(len(again), "file", "files")
        echo(f"left out: {left_out}, as links or copies of others count once: {path} is {first}", err=True)
    return [path for path in distinct if path not in again]


def labelled(root: Path, labels: Collection[str]) -> dict[str, list[Path]]:
    """Label -> files, from a folder LABEL/FILE as for `tagger train`. The folder `background` is no label.

    Raises:
        UserError: there is no such folder, it has no sounds, or the model does not know a label.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --examples takes one with a folder of sounds for each label")
    found: dict[str, list[Path]] = {}
    for folder in folders_in(root):
        label = unicodedata.normalize("NFC", folder.name.strip())
        if label.lower() in BACKGROUND_NAMES:
            continue
        if label not in labels:
            raise UserError(f"{folder}: no label {label!r}{near(label, labels)} in this model")
        found[label] = found.get(label, []) + [path for path in walk(folder) if is_audio_file(path)]
    if not any(found.values()):
        raise UserError(f"{root}: no sounds; put each label's into a folder of its name")
    return found


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
