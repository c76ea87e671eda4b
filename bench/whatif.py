"""Is what the live page says of another threshold what that threshold would have given?

    python bench/whatif.py nontarget/test home/ --hours 3
    python bench/whatif.py recordings/ --hours 0.5 --enter 0.3 --enter 0.9

`tagger listen` hears the recordings once, with the model's own thresholds, and keeps its scores (`--score-history`).
Then it hears them again for each `--enter`, now with that threshold for all labels, and its events are compared with
what `tagger.web.replay` counts in the kept scores: label, onset, offset and peak score. Exit code 1 if any differs.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent))

from tagger.audio.decode import decode
from tagger.checkpoints.info import read_info
from tagger.checkpoints.store import find
from tagger.errors import AudioError
from tagger.history import log, query, scores
from tagger.policy import Policy, policy
from tagger.settings import MqttSettings
from tagger.web.replay import offered, replay

Row = tuple[str, str, float, float, float]
"""Source, label, onset, offset, peak score."""
_PIECE_S = 1_800.0
"""Longest recording that is made of several, seconds: few sources, and windows that lie across two recordings."""
_RATE_HZ = 32_000


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--hours", default=3.0, show_default=True)
@click.option("--enter", "enters", multiple=True, type=float, default=(0.3, 0.5, 0.7, 0.9), show_default=True)
@click.option("--hop", default=1.0, show_default=True)
def main(folders: tuple[Path, ...], hours: float, enters: tuple[float, ...], hop: float) -> None:
    """Prints, for each threshold, how many events were counted and announced."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sources = join(folders, hours, folder)
        history = folder / "scores.sqlite"
        listen(sources, folder, hop, None, history)
        size = history.stat().st_size
        print(f"{hours:g} h in {len(sources)} sources; the history has {size / 1e6:.2f} MB: "
              f"{size / hours * 24 / 1e6:.2f} MB a day of a source")  # fmt: skip
        differ = 0
        for enter in enters:
            begun = time.monotonic()
            counted = count(history, sources, hop, enter)
            took = time.monotonic() - begun
            listen(sources, folder, hop, enter)
            announced = rows_of(folder / "events.sqlite")
            missing, extra = sorted(announced - counted), sorted(counted - announced)
            differ += len(missing) + len(extra)
            print(f"enter {enter:g}: counted {len(counted)} in {took:.1f} s, announced {len(announced)}, "
                  f"missing {len(missing)}, too many {len(extra)}")  # fmt: skip
            for name, rows in (("missing", missing), ("too many", extra)):
                for row in rows[:5]:
                    print(f"    {name}: {row}")
    sys.exit(1 if differ else 0)


def join(folders: tuple[Path, ...], hours: float, folder: Path) -> list[Path]:
    """Recordings one after the other, in files of half an hour."""
    files = sorted(each for place in folders for each in place.rglob("*") if each.suffix in (".ogg", ".flac", ".wav"))
    left = hours * 3_600
    made: list[Path] = []
    found = itertools.cycle(files)
    while left > 0:
        path, length = folder / f"source{len(made)}.flac", min(left, _PIECE_S)
        with soundfile.SoundFile(path, "w", _RATE_HZ, 1) as out:
            while out.frames < length * _RATE_HZ:
                with suppress(AudioError):  # what comes before the damage counts
                    for block in decode(next(found), _RATE_HZ):
                        out.write(block[: int(length * _RATE_HZ) - out.frames])
        made.append(path)
        left -= length
    return made


def listen(sources: list[Path], folder: Path, hop: float, enter: float | None, history: Path | None = None) -> None:
    """Runs the daemon over the sources."""
    labels = read_info(find("esc50")).labels if enter is not None else ()
    config = folder / "tagger.toml"
    config.write_text("".join(f"[events.labels.{json.dumps(each)}]\nenter = {enter}\n" for each in labels))
    (folder / "events.sqlite").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tagger", "listen", *map(str, sources), "--no-realtime", "--mqtt", "none"]
    command += ["--config", str(config), "--hop", str(hop), "--no-alarms", "--log-level", "error"]
    command += ["--state", str(folder / f"state{enter}"), "--event-log", str(folder / "events.sqlite")]
    command += ["--score-history", str(history)] if history is not None else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows_of(path: Path) -> set[Row]:
    """The events of an event log."""
    with log.reading(path) as database:
        return {
            _row(row.source, row.label, row.onset, row.offset, row.peak_score)
            for row in query.find(database, query.Query())
        }


def count(history: Path, sources: list[Path], hop: float, enter: float) -> set[Row]:
    """The events that the kept scores give with another threshold."""
    found: set[Row] = set()
    rules = usual_rules(hop)
    with scores.reading(history) as database:
        for path, (label, usual) in itertools.product(sources, zip(rules.labels, rules.each, strict=True)):
            kept, own = scores.track(database, MqttSettings().node, path.stem, label), usual.with_enter(enter)
            assert enter in offered(own), f"{label} is not offered {enter}"
            if len(kept.time):
                found |= {_row(path.stem, label, e.onset, e.offset, e.peak_score) for e in replay(kept, label, own)}
    return found


def usual_rules(hop: float) -> Policy:
    """What counts as an event with the bundled model, without a file."""
    info = read_info(find("esc50"))
    return policy(info.labels, info.thresholds, info.window_seconds, hop)


def _row(source: str, label: str, onset: float, offset: float | None, peak_score: float) -> Row:
    return source, label, round(onset, 3), round(offset or 0.0, 3), round(peak_score, 5)


if __name__ == "__main__":
    main()
