"""Damages CSV tables of clips: own clips, reviewed clips, ESC-50. Right: a data set, or one UserError."""

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from tagger.clips import verdicts
from tagger.clips.folder import EVENTS, REVIEWED
from tagger.errors import UserError
from tagger.printable import printable
from tests.fuzz.sounds import tone
from tests.fuzz.trial import problem_of
from tests.fuzz.values import other_bytes
from train.data import layouts
from train.data.dataset import Dataset

RATE_HZ = 8_000
OWN = "filename,label,fold,source\n" + "".join(f"{n}.wav,{'dog' if n % 2 else 'Säge'},,s{n}\n" for n in range(6))
REVIEWS = "filename,label,source,fold,verdict\n" + "".join(f"dog/{n}.wav,dog,,,right\n" for n in range(3))
ESC50 = "filename,fold,target,category,esc10,src_file,take\n" + "".join(
    f"{n % 5 + 1}-{n}-A-{n % 3}.wav,{n % 5 + 1},{n % 3},{('dog', 'rain', 'cat')[n % 3]},True,{n},A\n" for n in range(15)
)
CELLS = (
    *("", " ", "0", "-1", "6", "1.0", "1e9", "9" * 5000, "²", "١", "NaN", "True", "None", "a" * 1000, "a" * 150_000),
    *("../0.wav", "/etc/passwd", "/dev/zero", "0.wav\0", "\x1b[2J", "\u202e", "a\nb", '"', '""', "'", "=1+1", "a/b#+"),
    *("background", "BACKGROUND", "犬", "Sa\u0308ge", "x" * 101, ".", "..", "dog/", "dog", "right", "wrong"),
)


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Reads that many tables. Yields a line for each that was not handled well."""
    with tempfile.TemporaryDirectory() as folder:
        places = made(Path(folder))
        for number in range(inputs):
            table, read = places[number % len(places)]
            original = table.read_bytes()
            table.write_bytes(damaged(original.decode(), np.random.default_rng([seed, number])))
            if (problem := problem_of(lambda read=read: _as_printed(read))) is not None:  # type: ignore[misc]
                yield f"tables: input {number} of seed {seed}, {table.name}: {problem}"
            table.write_bytes(original)


def made(root: Path) -> list[tuple[Path, Callable[[], object]]]:
    """Folders with sounds; each table, and what reads it."""
    own, clips, esc50 = root / "own.csv", root / "clips", root / "ESC-50"
    (clips / "dog").mkdir(parents=True)
    for each in ("audio", "meta"):
        (esc50 / each).mkdir(parents=True)
    events = []
    for n in range(6):
        soundfile.write(root / f"{n}.wav", tone(0.2, RATE_HZ, 300 + n), RATE_HZ)
        shutil.copy(root / f"{n}.wav", clips / "dog" / f"{n}.wav")
        at = {"onset": f"2026-01-0{n + 1}T00:00:00Z", "offset": f"2026-01-0{n + 1}T00:00:01Z", "peak_score": 1}
        event = {"file": f"dog/{n}.wav", "id": f"E{n}", "label": "dog", "node": "a", "source": "b", **at}
        events.append(json.dumps(event) + "\n")
    (clips / EVENTS).write_text("".join(events))
    for row in ESC50.splitlines()[1:]:
        name = row.partition(",")[0]
        soundfile.write(esc50 / "audio" / name, tone(0.2, RATE_HZ, 200 + len(events)), RATE_HZ)
        events.append(name)
    table = esc50 / "meta" / "esc50.csv"
    own.write_text(OWN, "utf-8")
    (clips / REVIEWED).write_text(REVIEWS)
    table.write_text(ESC50)
    found: list[tuple[Path, Callable[[], object]]] = [
        (own, lambda: _checked(layouts.read_any(own))),
        (clips / REVIEWED, lambda: _checked(layouts.read_any(clips))),
        (clips / REVIEWED, lambda: _marked(clips)),
        (table, lambda: _checked(layouts.read_any(esc50))),
        (table, lambda: _checked(layouts.read_any(esc50, "esc10"))),
    ]
    for _, read in found[1:]:
        assert problem_of(read) is None
    assert layouts.read_any(own).labels == ("Säge", "dog")
    return found


def damaged(text: str, rng: np.random.Generator) -> bytes:
    """The table with other cells, rows, columns, separators, ends of lines, encodings or bytes."""
    rows = [row.split(",") for row in text.splitlines()]
    for _ in range(rng.integers(0, 5)):
        row = rows[rng.integers(len(rows))]
        kind = rng.integers(6)
        if kind < 3:
            row[rng.integers(len(row))] = CELLS[rng.integers(len(CELLS))]
        elif kind == 3:
            row.append(CELLS[rng.integers(len(CELLS))])
        elif kind == 4 and len(row) > 1:
            row.pop(rng.integers(len(row)))
        else:
            rows.append(rows[rng.integers(len(rows))])
    if rng.random() < 0.1:
        rows = [row + [""] * int(rng.integers(5)) for row in rows] + [[""] * int(rng.integers(9))]
    if rng.random() < 0.05:
        rows += rows[1:] * int(rng.integers(1, 1000))
    separator = (",", ";", "\t", "|", ",")[rng.integers(5)]
    end = ("\n", "\r\n", "\r")[rng.integers(3)]
    is_quoted = rng.random() < 0.5
    file = io.StringIO()
    for row in rows:
        cells = ['"' + each.replace('"', '""') + '"' if is_quoted else each for each in row]
        file.write(separator.join(cells) + end)
    encoding = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1")[rng.integers(7)]
    content = file.getvalue().encode(encoding, "replace")
    if rng.random() < 0.2:
        content = other_bytes(content, rng, 19)
    if rng.random() < 0.1:
        content = content[: rng.integers(len(content) + 1)]
    if rng.random() < 0.02:
        content += (b"a" * 30_000_000, b"a,b\n" * 2_000_000, b"\n" * 9_000_000, b"a," * 4_000_000)[rng.integers(4)]
    return content


def _as_printed(read: Callable[[], object]) -> None:
    """Reads, and raises an error as the command prints it: names in it may have line breaks."""
    try:
        read()
    except UserError as error:
        raise UserError(printable(str(error))) from None


def _checked(dataset: Dataset) -> None:
    labels = {clip.label for clip in dataset.clips} - {None}
    if not dataset.clips or not labels <= set(range(len(dataset.labels))) or any(not each for each in dataset.labels):
        raise ValueError(f"{dataset.labels}, {labels}")
    if not all(clip.fold in range(1, 6) for clip in dataset.clips):
        raise ValueError("a fold that is none")


def _marked(clips: Path) -> None:
    """A verdict is written into the table, which can then be read."""
    verdicts.mark(clips, {"E4": "right", "E5": "wrong"})
    marked = {clip.id: clip.verdict for clip in verdicts.load(clips)}
    if (marked["E4"], marked["E5"]) != ("right", "wrong"):
        raise ValueError(f"verdicts that are not kept: {marked}")
