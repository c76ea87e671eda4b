"""Announcements of a checkpoint where none of its labels sounds: what accuracy cannot say, least of all of one label.

Recordings are played one after another, as one stream, by the loop of `tagger listen` with its usual rules. A few
minutes are enough to see whether a model announces everything; `tagger calibrate` needs more.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.decode import decode
from tagger.checkpoints.checkpoint import Checkpoint
from tagger.engine.runtime_torch import Classifier
from tagger.errors import AudioError
from tagger.events import Samples
from tagger.policy import policy
from tagger.progress import Progress, in_words
from tagger.stop import Stop
from train.data.dataset import Clip, Dataset, leaks
from train.evaluate.intervals import of_rate
from train.evaluate.predictions import Predictions
from train.evaluate.streams import play

ONE_LABEL = (
    "ONE LABEL: accuracy is always 100 % and means nothing, as the only label has the highest score whatever is heard"
)
LONGEST_S = 900.0
"""Most audio that is played of one collection, seconds. On two cores it takes half a minute."""
_LONGEST_FILE_S = 300.0
ESC50_S = 5.0
"""Length of ESC-50's clips."""
_HOP_S = 1.0
"""As `tagger listen` has it."""
_NAMED = 4


@dataclass(frozen=True)
class Announced:
    """Events in recordings that have none of a model's labels."""

    where: str
    """The recordings: `ESC-50`, `background that was held out`."""
    hours: float
    by_label: Mapping[str, int] = field(default_factory=dict)
    """Events of each label that has any."""
    by_sound: Mapping[str, int] = field(default_factory=dict)
    """Events during each kind of sound, where that is known."""

    @property
    def count(self) -> int:
        return sum(self.by_label.values())

    def to_document(self) -> dict[str, Any]:
        low, high = of_rate(self.count, self.hours)
        return {**asdict(self), "count": self.count, "per_hour": self.count / self.hours, "interval_95": [low, high]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Announced":
        """What `to_document` gave."""
        return cls(document["where"], document["hours"], document["by_label"], document["by_sound"])

    @classmethod
    def joined(cls, parts: Sequence["Announced"]) -> "Announced":
        """Of several models that were trained in the same way, each on recordings that it had not heard."""
        by_label, by_sound = (
            dict(sum((Counter(each) for each in many), Counter[str]()))
            for many in ([part.by_label for part in parts], [part.by_sound for part in parts])
        )
        return cls(parts[0].where, sum(part.hours for part in parts), by_label, by_sound)

    def __str__(self) -> str:
        """One line: `ESC-50: 12 in 15.0 min, 48.0 an hour (95 %: 24.8 to 83.8); during siren 5, clock_alarm 2`."""
        low, high = of_rate(self.count, self.hours)
        rates = f"{self.count / self.hours:.1f} an hour (95 %: {low:.1f} to {high:.1f})"
        parts = [_most(self.by_sound, "during ")] if self.by_sound else []
        parts += [_most(self.by_label, "")] if len(self.by_label) > 1 else []
        return "; ".join([f"{self.where}: {self.count} in {in_words(3600 * self.hours)}, {rates}", *parts])


def in_background(
    loaded: Checkpoint, dataset: Dataset, fold: int, share: int, stop: Stop, device: str
) -> Announced | None:
    """Announcements in the background recordings of a fold that the checkpoint did not hear. None: there are none.

    Args:
        share: number of folds that share LONGEST_S.
    """
    windows = [clip for clip in dataset.clips if clip.label is None and clip.fold == fold]
    clips = list({clip.path: clip for clip in windows}.values())
    longest_s = min(LONGEST_S / share, len(windows) * loaded.info.window_seconds)
    return _count("background that was held out", loaded, clips, (), longest_s, stop, device)


def in_strangers(loaded: Checkpoint, strangers: Dataset, stop: Stop, device: str) -> Announced | None:
    """Announcements in ESC-50, without the labels that the checkpoint has and the clips that it has heard.

    Equally many clips of each label are played, drawn at random. None: nothing is left.
    """
    labels = {label for label in strangers.labels if label not in loaded.info.labels}
    heard = set(leaks(strangers, np.arange(len(strangers.clips)), loaded.info.training.get("trained_on", ())).tolist())
    of_label: dict[str, list[Clip]] = {}
    for row, clip in enumerate(strangers.clips):
        if row not in heard and clip.label is not None and strangers.labels[clip.label] in labels:
            of_label.setdefault(strangers.labels[clip.label], []).append(clip)
    rng = np.random.default_rng(0)
    turns = [[clips[i] for i in rng.permutation(len(clips))] for _, clips in sorted(of_label.items())]
    clips = [turn[number] for number in range(max(map(len, turns), default=0)) for turn in turns if number < len(turn)]
    longest_s = min(LONGEST_S, len(clips) * ESC50_S)
    return _count(strangers.name, loaded, clips, strangers.labels, longest_s, stop, device)


def found(p: Predictions, thresholds: Sequence[float]) -> tuple[int, int]:
    """Clips whose own label's score reaches its threshold, and all clips with a label."""
    known = p.known
    own = known.scores[np.arange(len(known.clips)), known.targets]
    return int((own >= np.array(thresholds)[known.targets]).sum()), len(known.clips)


def _count(
    where: str,
    loaded: Checkpoint,
    clips: Sequence[Clip],
    names: Sequence[str],
    longest_s: float,
    stop: Stop,
    device: str,
) -> Announced | None:
    info = loaded.info
    rate_hz = info.mel.sample_rate_hz
    rules = policy(info.labels, info.thresholds, info.window_seconds, _HOP_S)
    began: list[tuple[float, str]] = []
    heard = 0
    with Progress(f"listening to {where}", longest_s, "min", 60, brief=True) as progress:

        def pieces() -> Iterator[Samples]:
            nonlocal heard
            for clip in clips:
                if heard >= longest_s * rate_hz or stop.interrupted:
                    return
                began.append((heard / rate_hz, names[clip.label] if clip.label is not None and names else ""))
                for samples in _beginning(clip.path, rate_hz):
                    yield samples
                    heard += len(samples)
                    progress.update(len(samples) / rate_hz)

        played = play(pieces(), Classifier(loaded, device), rules, _HOP_S)
    if not played.duration_s:
        return None
    starts = np.array([start for start, _ in began])
    sounds = [began[max(0, int(np.searchsorted(starts, each.onset_s, "right")) - 1)][1] for each in played.found]
    by_label = Counter(each.label for each in played.found)
    return Announced(where, played.duration_s / 3600, dict(by_label), dict(Counter(filter(None, sounds))))


def _beginning(path: Path, rate_hz: int) -> Iterator[Samples]:
    """The first minutes of a file, up to where it is damaged."""
    left = round(_LONGEST_FILE_S * rate_hz)
    try:
        for samples in decode(path, rate_hz):
            yield samples[:left]
            left -= len(samples)
            if left <= 0:
                return
    except AudioError:  # it was named when the data was read
        return


def _most(counts: Mapping[str, int], before: str) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return before + ", ".join(f"{name} {count}" for name, count in ordered[:_NAMED]) + more
