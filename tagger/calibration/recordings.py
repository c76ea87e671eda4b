"""Scores of recordings, of a live source and of single examples, by the loop of `tagger listen`."""

import itertools
import sys
import threading
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from tagger import tag
from tagger.audio.decode import decode
from tagger.audio.window import SlidingWindows
from tagger.calibration.tracks import Recorder
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError, TaggerError, UserError, near
from tagger.events import Block, Scores, Window
from tagger.files import folders_in, is_audio_file, walk
from tagger.listen import follow
from tagger.names import BACKGROUND_NAMES
from tagger.printable import echo, printable
from tagger.settings import Channel
from tagger.sources import Source, open_source
from tagger.stop import Stop

LEAST_S = 60.0
"""Shortest audio that thresholds are chosen from, seconds."""
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

    def files(self, paths: Sequence[Path]) -> list[Recorder]:
        """One recorder a file. A damaged file is classified up to the damage."""
        recorders: list[Recorder] = []

        def all_scores() -> Iterator[tuple[str, Scores]]:
            for path in paths:
                recorders.append(Recorder(self._floor))
                try:
                    for scores in tag.tag(path, self._classifier, self._window_s, self._hop_s, self._channel):
                        yield path.name, scores
                except AudioError as error:
                    self._report(error)

        with click.progressbar(all_scores(), label="listening", file=sys.stderr, item_show_func=_where) as bar:
            for _, scores in bar:
                recorders[-1].add(scores)
        return recorders

    def source(self, uri: str, duration_s: float) -> Recorder:
        """Listens to a source for `duration_s`, or less if it ends, breaks or is interrupted by Ctrl-C.

        Raises:
            UserError: there is no such source, or it ended before LEAST_S were heard.
            TaggerError: it broke before LEAST_S were heard.
        """
        source = open_source(uri, self._rate_hz, realtime=False, channel=self._channel)
        recorder = Recorder(self._floor)
        echo(f"listening to  {source.description}, for {_minutes(duration_s)}; Ctrl-C ends it early", err=True)
        self._classifier.warm_up(round(self._window_s * self._rate_hz))
        heard_s, skipped, broke = 0.0, 0, None
        with (
            Stop() as stop,
            click.progressbar(length=round(duration_s), label="listening", file=sys.stderr) as bar,
        ):
            threading.Thread(target=_close_then, args=(source, stop), daemon=True).start()

            def blocks() -> Iterator[Block]:
                nonlocal heard_s
                for block in source.blocks():
                    yield block
                    heard_s += len(block.samples) / self._rate_hz
                    bar.update(int(heard_s) - bar.pos)
                    if heard_s >= duration_s or stop.interrupted:
                        return

            def is_late(window: Window) -> bool:
                nonlocal skipped
                late = source.behind() > self._hop_s
                skipped += late
                return late

            try:
                for scores in follow(blocks(), self._classifier, self._sliding(), skip=is_late, flush=False):
                    recorder.add(scores)
            except TaggerError as error:
                broke = error
            stop.set()
        if heard_s < LEAST_S:
            raise broke or UserError(f"only {heard_s:.0f} s were heard; at least {LEAST_S:g} s are needed")
        if broke is not None:
            echo(f"Warning: {broke}", err=True)
        if heard_s < duration_s:
            echo(f"ended early: going on with the {_minutes(heard_s)} that were heard", err=True)
        if skipped:
            echo(f"inference is slower than the hop: {skipped} windows were skipped; use a longer --hop", err=True)
        return recorder

    def example(self, path: Path) -> list[Recorder]:
        """The scores of one short sound in a quiet room. Empty if the file cannot be read."""
        recorder = Recorder(self._floor)
        try:
            for scores in follow(self._in_quiet(path), self._classifier, self._sliding(), flush=False):
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


def _close_then(source: Source, stop: Stop) -> None:
    stop.wait()
    source.close()


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


def _where(heard: tuple[str, Scores] | None) -> str | None:
    return None if heard is None else printable(f"{heard[0]}, {heard[1].end_s / 60:.1f} min")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
