"""`tagger calibrate`: thresholds for a room, chosen by the false alarms that its sounds cause."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tagger import policy
from tagger.calibration.rates import choose, weigh
from tagger.calibration.recordings import LEAST_S, RecordingClassifier, labelled, recordings
from tagger.calibration.report import About, Result, document, report
from tagger.calibration.targets import Wishes
from tagger.calibration.tracks import FLOOR, Recorder, ThresholdedPolicy, confirmed
from tagger.checkpoints import checkpoint, store
from tagger.config.edit import moved
from tagger.config.file import load_right
from tagger.config.places import placed
from tagger.engine.runtime_torch import Classifier
from tagger.errors import UserError, near
from tagger.files import replacing
from tagger.policy import EventsConfig
from tagger.printable import echo, echo_lines
from tagger.settings import Channel, check_window

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(flag: str, text: str) -> float:
    """The duration that a flag gives, seconds.

    Raises:
        UserError: `text` is no duration, or shorter than LEAST_S.

    >>> seconds("--listen", "10m")
    600.0
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if match is None:
        raise UserError(f"{flag} {text}: must be a duration, such as 90s, 10m or 8h")
    duration = float(match[1]) * _SECONDS[match[2] or "s"]
    if duration < LEAST_S:
        raise UserError(f"{flag} {text}: must be at least {LEAST_S:g} s; ten minutes and more tell something")
    return duration


@dataclass(frozen=True)
class CalibrationSettings:
    """All options of `tagger calibrate`."""

    recordings: tuple[Path, ...]
    listen_s: float | None
    """How long to listen to `source`, seconds. None: only the recordings are used."""
    source: str
    model: str
    device: str
    window_s: float | None
    hop_s: float
    channel: Channel
    config: Path | None
    wishes: Wishes
    lower: bool
    examples: Path | None
    excepted: tuple[str, ...]
    output: Path
    force: bool

    def __post_init__(self) -> None:
        if not self.recordings and self.listen_s is None:
            raise UserError("nothing to calibrate on: name a recording of the room, or --listen 10m")
        if self.output.is_dir():
            raise UserError(f"{self.output}: a folder; -o names the file to write")
        if self.output.exists() and not self.force:
            raise UserError(f"{self.output}: is there already; --force replaces it, --config keeps what it says")
        check_window(self.window_s, self.hop_s)


def calibrate(settings: CalibrationSettings) -> bool:
    """Classifies recordings, chooses thresholds, prints the report and writes the file.

    Returns:
        Whether every file could be read.

    Raises:
        UserError: an option cannot be used, or the recordings are too short.
        TaggerError: the source of --listen broke before LEAST_S were heard.
    """
    loaded = checkpoint.load_trained(store.find(settings.model))
    info = loaded.info
    window_s = settings.window_s or info.window_seconds
    check_window(settings.window_s, settings.hop_s, window_s)
    old = load_right(settings.config) if settings.config is not None else None
    config = old.events if old is not None else EventsConfig()
    with placed(old):
        now = policy.policy(info.labels, info.thresholds, window_s, settings.hop_s, config)
    for label in settings.excepted:
        if label not in info.labels:
            raise UserError(f"--except {label}: no such label in this model{near(label, info.labels)}")
    columns = [i for i, label in enumerate(info.labels) if label not in {*settings.excepted, *now.denied}]
    rules = [ThresholdedPolicy(info.labels[i], info.thresholds[i], window_s, settings.hop_s, config) for i in columns]
    files = [file for path in settings.recordings for file in recordings(path)]
    examples = labelled(settings.examples, info.labels) if settings.examples is not None else {}

    floor = min(FLOOR, *(each.exit for each in now.each))
    recorder = RecordingClassifier(
        Classifier(loaded, settings.device), window_s, settings.hop_s, floor, settings.channel
    )
    recorders = recorder.files(files) if files else []
    if settings.listen_s is not None:
        recorders.append(recorder.source(settings.source, settings.listen_s))
    heard_s = settings.hop_s * sum(each.windows for each in recorders)
    if not heard_s and recorder.failed:  # every error was printed
        return False
    if heard_s + window_s < LEAST_S:
        raise UserError(f"only {heard_s:.0f} s could be heard; at least {LEAST_S:g} s are needed, ten minutes say more")
    tracks = [each.tracks(len(info.labels)) for each in recorders if each.windows]
    with click.progressbar(rules, label="weighing", file=sys.stderr) as bar:
        evidence = weigh([[of[i] for i in columns] for of in tracks], bar, heard_s / 3600, settings.lower)
    chosen = choose(evidence, *settings.wishes.per_hour, settings.wishes.sure)
    played = {label: [one for path in paths for one in recorder.example(path)] for label, paths in examples.items()}
    results = [
        Result(each, enter, _levels(played.get(each.rules.label, []), column, each.rules, len(info.labels)))
        for each, enter, column in zip(evidence, chosen, columns, strict=True)
    ]
    about = About(settings.wishes, heard_s / 3600, info.name, window_s, settings.hop_s)
    if old is None:
        text, mode = document(about, results, ""), None
    else:  # it may hold a password
        text = document(about, results, old.file.text, moved(old, settings.output.parent))
        mode = old.file.path.stat().st_mode & 0o777
    with replacing(settings.output, mode) as partial:
        partial.write_text(text, "utf-8")
    echo_lines(report(about, results, settings.excepted))
    echo()
    echo(f"written: {settings.output}, for `tagger listen --config {settings.output}`")
    return not recorder.failed


def _levels(played: Sequence[Recorder], column: int, rules: ThresholdedPolicy, labels: int) -> tuple[float, ...]:
    tracks = [recorder.tracks(labels)[column] for recorder in played if recorder.windows]
    return tuple(confirmed(track.windows(0, len(track.times)), rules) for track in tracks)
