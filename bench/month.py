"""How long does the live page take to say what other thresholds would have given in a month of ten sources?

    python bench/month.py ../shared/data/home --hours 1

`tagger listen` hears recordings once and keeps its scores; these are repeated until each source has `--days` of them.
Then the page's process is asked for the labels of one source, and for the counts of each label that was heard: again
and again, as the page does by itself, until the month was counted, and once more.
"""

import sqlite3
import sys
import tempfile
import time
import zlib
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.whatif import join, listen, usual_rules
from tagger.errors import TaggerError
from tagger.history.scores import reading
from tagger.settings import MqttSettings
from tagger.web import whatif


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--hours", default=1.0, show_default=True, help="Length of the recordings that are repeated.")
@click.option("--days", default=30.0, show_default=True)
@click.option("--sources", default=10, show_default=True)
@click.option("--labels", default=8, show_default=True, help="Most labels that are asked for, the most frequent first.")
@click.option("--asks", default=100, show_default=True, help="Most questions for a label, until all is counted.")
def main(folders: tuple[Path, ...], hours: float, days: float, sources: int, labels: int, asks: int) -> None:
    """Prints the size of the history, and the time of each answer."""
    with tempfile.TemporaryDirectory() as place:
        history = Path(place) / "scores.sqlite"
        listen(join(folders, hours, Path(place)), Path(place), 1.0, None, history)
        windows = repeat(history, days, sources)
        print(f"{sources} sources of {days:g} days, {windows:,} windows each: {history.stat().st_size / 1e6:.0f} MB")
        asked = {"path": str(history), "node": MqttSettings().node, "source": "source0"}
        begun = time.monotonic()
        heard = whatif.ask(asked | {"now": time.time()})["labels"]
        print(f"{len(heard)} labels in {time.monotonic() - begun:.1f} s")
        rules = usual_rules(1.0)
        for label in sorted(heard, key=lambda name: -heard[name])[:labels]:
            own = whatif.rules_json(rules.each[rules.labels.index(label)])
            took, complete = list[float](), 0
            for _ in range(asks):
                begun = time.monotonic()
                try:
                    found = whatif.ask(asked | {"label": label, "rules": own, "now": time.time(), "marks": []})
                    row = found["counts"][0]
                    said = f"at {row['enter']}: {row['day']} a day, {row['week']} a week, {row['month']} a month"
                except TaggerError as error:
                    row, said = {"month": None}, str(error)
                took.append(time.monotonic() - begun)
                print(f"{label}, question {len(took)}: {took[-1]:.1f} s ({said})", flush=True)
                complete += row["month"] is not None
                if complete == 2:
                    break


def repeat(history: Path, days: float, sources: int) -> int:
    """Makes all blocks those of one source, and repeats them, the last to end now, for each of some sources.

    Returns:
        The number of windows of a source.
    """
    with reading(history) as database:
        rows = database.execute("SELECT node, begin, end, labels, data FROM blocks ORDER BY id").fetchall()
    blocks, at, windows, number = [], time.time() - days * 86_400, 0, 0
    while at < time.time():
        node, begin, end, labels, data = rows[number % len(rows)]
        count, moved = moved_by(data, at - begin)
        blocks.append((node, at, at + end - begin, labels, moved))
        at, windows, number = at + end - begin, windows + count, number + 1
    with sqlite3.connect(history) as database:
        database.execute("DELETE FROM blocks")
        for block in blocks:
            for source in range(sources):
                row = (block[0], f"source{source}", *block[1:])
                database.execute(
                    "INSERT INTO blocks (node, source, begin, end, labels, data) VALUES (?, ?, ?, ?, ?, ?)", row
                )
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return windows


def moved_by(data: bytes, seconds: float) -> tuple[int, bytes]:
    """A block's number of windows, and the block with other times: they come first, as differences of bit patterns."""
    head, _, rest = zlib.decompress(data).partition(b"\n")
    count = int(head.partition(b'"windows": ')[2].partition(b",")[0])
    size = 8 * count
    times = np.cumsum(np.ascontiguousarray(np.frombuffer(rest[:size], np.uint8).reshape(8, count).T).view(np.int64))
    bits = (times.view(np.float64) + seconds).view(np.int64)
    changed = bits.copy()
    changed[1:] -= bits[:-1]
    packed = changed.view(np.uint8).reshape(count, 8).T.tobytes()
    return count, zlib.compress(head + b"\n" + packed + rest[size:], 6)


if __name__ == "__main__":
    main()
