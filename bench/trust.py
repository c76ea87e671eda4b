"""Measures how far events can be trusted in homes, on recordings that nobody chose for it: see docs/trust.md.

    python bench/trust.py HOME/ [--nontarget NONTARGET/]... [--model esc50] [--out trust-esc50/]
    python bench/trust.py HOME/ --command "their-tagger --events" --names their-names.csv [--as-often-as trust-esc50/]

HOME has LABEL/recording and other_KIND/recording (`train.evaluate.trust`). NONTARGET has KIND/recording, in all of
which every event is a false alarm (`scripts/nontarget.py` makes one). A model is asked as `tagger tag` asks it. A
command is asked with paths of WAV files as its last arguments, and prints a line of JSON for each event:

    {"file": "/tmp/x/000001.wav", "onset": 1.25, "offset": 3.5, "label": "dog", "score": 0.93}

`score` (or `peak_score`) is 0 to 1. `"announced": false` marks candidates that it would not announce: they count for
the ranking and the curves, which need low scores too, and not as events. Lines of one label whose times touch are one
event, so a program may print windows. `tagger tag --json --events` prints such lines.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.others import results
from bench.others.command import Command, read_names
from tagger.config.file import load_right
from tagger.engine.runtime import open_models
from tagger.engine.scores import WindowClassifier
from tagger.errors import AudioError, TaggerError, UserError
from tagger.events import Scores
from tagger.files import replacing
from tagger.policy import Policy, policy
from tagger.settings import DEFAULT_MODEL
from tagger.tag.recording import events as events_of
from tagger.tag.recording import tag
from train.data.own import sounds_in
from train.evaluate import intervals, timeline, trust
from train.evaluate.streams import THRESHOLDS, at, decided
from train.evaluate.trust import Heard, Recording


class Model:
    """Checkpoints of ours, by the code of `tagger tag`: its windows, its scores, its decisions."""

    def __init__(self, models: Sequence[str], hop_s: float, config: Path | None) -> None:
        self.classifier: WindowClassifier = open_models(models or [DEFAULT_MODEL])
        info = self.classifier.info
        self.name, self.hop_s = info.name, hop_s
        events = load_right(config).events if config is not None else None
        self.rules: Policy = policy(info.labels, info.thresholds, info.window_seconds, hop_s, events)

    def hear(self, recordings: Sequence[Recording]) -> Iterator[tuple[Recording, Heard]]:
        for recording in recordings:
            scores = list(self._scores(recording.path))
            labels = np.array([label not in recording.may for label in self.classifier.info.labels])
            names = np.array(self.classifier.info.labels)[labels]
            best = max(
                ((float(each.values[labels].max()), str(names[each.values[labels].argmax()])) for each in scores),
                default=(0.0, ""),
            )
            events = events_of(scores, self.rules)
            points = {
                threshold: tuple(
                    each.label for each in decided(scores, at(threshold, self.rules)) if each.label not in recording.may
                )
                for threshold in THRESHOLDS
            }
            yield (
                recording,
                Heard(
                    max((each.end_s for each in scores), default=0.0),
                    *best,
                    tuple(each.label for each in events if each.label not in recording.may),
                    points,
                ),
            )

    def _scores(self, path: Path) -> Iterator[Scores]:
        try:
            yield from tag(path, self.classifier, self.classifier.info.window_seconds, self.hop_s)
        except AudioError as error:
            print(f"{error}; what was read is used", file=sys.stderr)


def nontarget_in(folders: Sequence[Path]) -> list[Recording]:
    """Recordings in which every event is a false alarm; their kind is the name of their folder."""
    found = []
    for folder in folders:
        paths = sounds_in(folder)
        if not paths:
            raise UserError(f"{folder}: no recordings here")
        for path in paths:
            package = path.name.split("__")[0]
            found.append(
                Recording(path, f"{trust.EVERYDAY}nontarget {path.parent.name}", source=package, original=path.name)
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--nontarget", type=Path, action="append", default=[])
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--command")
    parser.add_argument("--names", type=Path, help="CSV of a command's labels: theirs,ours; or audioset")
    parser.add_argument("--threshold", type=float, help="a command's lines from this score on are events")
    parser.add_argument("--as-often-as", type=Path, metavar="OUT", help="--out of another system (docs/trust.md)")
    parser.add_argument("--hop", type=float, default=0.5)
    parser.add_argument("--config", type=Path, help="TOML file of what counts as an event")
    parser.add_argument("--half", choices=("choose", "report"), help="only this half of the sources")
    parser.add_argument("--out", type=Path, help="folder for trust.json and the pictures")
    options = parser.parse_args()
    try:
        if not options.command:
            of_commands = {
                "--names": options.names,
                "--threshold": options.threshold,
                "--as-often-as": options.as_often_as,
            }
            if given := [name for name, value in of_commands.items() if value is not None]:
                raise UserError(f"{given[0]} belongs to --command")
            system: Model | Command = Model(options.model, options.hop, options.config)
        else:
            names = read_names(options.names) if options.names else {}
            system = Command(options.command, names, options.threshold)
            if options.as_often_as is not None:
                as_often(system, options.home, options.as_often_as)
        report(system, options.home, options.nontarget, options.half, options.out)
    except TaggerError as error:
        print(f"trust: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def as_often(system: Command, home: Path, other: Path) -> None:
    """Chooses the command's threshold: it shall announce as much as another system, in the half for choosing.

    Args:
        other: the other system's `--out`.

    Raises:
        UserError: it has no results of that half.
    """
    rows = [row for row in results.read(other)[0] if row[0].half == "choose"]
    announced = trust.measures(rows, draws=0).get("announced")
    if announced is None:
        raise UserError(f"{other}: has no labelled recordings of the half for choosing")
    half = [each for each in trust.read_set(home) if each.half == "choose"]
    threshold = system.choose(half, announced.value)
    print(f"threshold {threshold:.4f}: announces {announced.value:.3f} of the half for choosing, as {other} does")


def report(system: Model | Command, home: Path, nontarget: Sequence[Path], half: str | None, out: Path | None) -> None:
    """Asks a system, and prints what is known of it."""
    recordings = [each for each in trust.read_set(home) if half is None or each.half == half]
    rows = list(_shown(system.hear(recordings), len(recordings), "home"))
    quiet = nontarget_in(nontarget)
    others = list(_shown(system.hear(quiet), len(quiet), "non-target"))
    found = trust.measures(rows)
    print(f"{system.name}: {len(rows)} recordings of {len({each.source for each, _ in rows})} sources")
    for label in trust.by_label(rows):
        shares = f"announced {label.announced:.2f}  named {label.named:.2f}"
        print(f"{label.label:18} {label.recordings:3} recordings  {shares}")
    for kind in [*trust.by_kind(rows), *trust.by_kind(others)]:
        low, high = kind.per_hour_interval
        most = ", ".join(f"{number} {label}" for label, number in kind.most)
        print(
            f"{kind.kind:18} {kind.recordings:3} recordings  {kind.events} events in {kind.hours:.2f} h = "
            f"{kind.per_hour:.1f} an hour ({low:.1f} to {high:.1f}), in {100 * kind.alarmed:.0f} %  {most}"
        )
    if others:
        events, hours = sum(len(heard.events) for _, heard in others), sum(heard.seconds for _, heard in others) / 3600
        low, high = intervals.of_rate(events, hours)
        rate = f"{events / hours:.2f} an hour ({low:.2f} to {high:.2f})"
        print(f"non-target audio: {events} events in {hours:.2f} h = {rate}")
    print(f"{'measure':10} value   95 %, recordings   95 %, sources")
    for name, each in found.items():
        (a, b), (c, d) = each.by_recording, each.by_source
        print(f"{name:10} {each.value:.3f}   {a:.3f} to {b:.3f}     {c:.3f} to {d:.3f}")
    _print_trade(rows, others)
    if out is not None:
        _write(out, system.name, getattr(system, "threshold", None), rows, others, found)


def _print_trade(rows: trust.Rows, others: trust.Rows) -> None:
    """What fewer false alarms cost, with one threshold for all labels."""
    known, everyday = ([row for row in rows if row[0].is_everyday == is_everyday] for is_everyday in (False, True))
    sets = {name: some for name, some in (("everyday", everyday), ("non-target", others)) if some}
    if not known or not sets:
        return
    curves = [trust.curve(known, some) for some in sets.values()]
    print("threshold of all labels   recordings announced   wrong an hour: " + ", ".join(sets))
    for points in zip(*curves, strict=True):
        rates = "".join(f"{point.false_alarms_per_hour:13.1f}" for point in points)
        print(f"{points[0].threshold:23.3f}   {100 * (1 - points[0].missed):18.1f} %   {rates}")


def _write(
    out: Path,
    name: str,
    threshold: float | None,
    rows: trust.Rows,
    others: trust.Rows,
    found: Mapping[str, trust.Measure],
) -> None:
    known = [row for row in rows if not row[0].is_everyday]
    try:
        out.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {
            "system": name,
            "threshold": threshold,
            "measures": {key: vars(each) for key, each in found.items()},
            "curves": {
                kind: [vars(point) for point in points] for kind, points in trust.curves([*rows, *others]).items()
            },
            "home": trust.to_document(rows),
            "nontarget": trust.to_document(others),
        }
        with replacing(out / results.RESULTS) as partial:
            partial.write_text(json.dumps(document, indent=1), "utf-8")
        for title, some in (("home", rows), ("nontarget", [*known, *others])):
            if curves := trust.curves(some):
                timeline.write_curves(out / f"det-{title}.png", curves)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error


def _shown(heard: Iterable[tuple[Recording, Heard]], number: int, what: str) -> Iterator[tuple[Recording, Heard]]:
    with click.progressbar(heard, length=number, label=what, file=sys.stderr) as bar:
        yield from bar


if __name__ == "__main__":
    sys.exit(main())
