"""Damages ZIP archives of training data. Right: ESC-50's clips, or one UserError; nothing is written elsewhere."""

import contextlib
import io
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.fuzz.tables import ESC50
from tests.fuzz.trial import problem_of
from tests.fuzz.values import other_bytes
from train.data import download, layouts

TOP = "ESC-50-master/"
NAMES = (
    *("../evil.wav", "/evil.wav", "audio/../../evil.wav", "audio/a\\b.wav", "C:\\evil.wav", "audio/", "meta/esc50.csv"),
    *(f"{TOP}audio/{name}" for name in ("..", "x" * 300 + ".wav", "a\nb.wav", "CON", ".hidden", "犬.wav", "\1.wav")),
    *(f"{TOP}meta/esc50.csv", f"{TOP}LICENSE", "", "/", f"{TOP}meta/esc50.csv/x", f"{TOP}audio"),
)
_HEADERS = (
    (b"PK\3\4", ((6, "<H"), (8, "<H"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H"))),
    (b"PK\1\2", ((8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (38, "<I"), (42, "<I"))),
    (b"PK\5\6", ((4, "<H"), (8, "<H"), (10, "<H"), (12, "<I"), (16, "<I"), (20, "<H"))),
)
"""Headers of a member, of its entry in the table of contents, and of the end; their fields' offsets and types."""


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Reads that many archives. Yields a line for each that was not handled well."""
    before = os.environ.get("TAGGER_HOME")
    with tempfile.TemporaryDirectory() as folder:
        home, inside = Path(folder) / "home", Path(folder) / "inside"
        inside.mkdir()
        os.environ["TAGGER_HOME"] = str(home)
        try:
            path = inside / "archive.zip"
            original = _packed(_members())
            path.write_bytes(original)
            assert len(layouts.read_any(path).clips) == 15
            for number in range(inputs):
                path.write_bytes(damaged(original, np.random.default_rng([seed, number])))
                for what, do in (("train", layouts.read_any), ("download", download.problem)):
                    with contextlib.redirect_stderr(io.StringIO()):  # progress
                        problem = problem_of(lambda do=do: do(path))  # type: ignore[misc]
                    if problem is not None:
                        yield f"archives: input {number} of seed {seed}, {what}: {problem}"
                outside = [str(each) for each in Path(folder).rglob("*") if not each.is_relative_to(home / "cache")]
                if left := set(outside) - {str(home), str(inside), str(path)}:
                    yield f"archives: input {number} of seed {seed}: wrote {sorted(left)}"
                    for each in left:
                        Path(each).unlink()
                shutil.rmtree(home, ignore_errors=True)
        finally:
            os.environ.pop("TAGGER_HOME")
            if before is not None:
                os.environ["TAGGER_HOME"] = before


def _members() -> dict[str, bytes]:
    names = [row.partition(",")[0] for row in ESC50.splitlines()[1:]]
    sounds = {f"{TOP}audio/{name}": f"sound {name}".encode() * 20 for name in names}  # not decoded here
    return {f"{TOP}meta/esc50.csv": ESC50.encode(), f"{TOP}LICENSE": b"none", **sounds}


def _packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The archive with other bytes, other sizes in its tables, other members, or cut."""
    kind = rng.random()
    if kind < 0.25:
        return other_bytes(content, rng, 11)
    if kind < 0.35:
        cut = content[: rng.integers(len(content))]
        return cut + rng.bytes(int(rng.integers(100))) if rng.random() < 0.5 else rng.bytes(50) + content
    if kind < 0.75:
        return _other_fields(content, rng)
    members = _members()
    if rng.random() < 0.2:
        big = rng.integers(1_000_000, 20_000_000)
        members[f"{TOP}{('meta/esc50.csv', 'audio/1-0-A-0.wav', 'other/x')[rng.integers(3)]}"] = bytes(int(big))
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 4)):
            members[NAMES[rng.integers(len(NAMES))]] = rng.bytes(int(rng.integers(100)))
    if rng.random() < 0.3:
        members.pop(list(members)[rng.integers(len(members))])
    if rng.random() < 0.05:
        members |= {f"{TOP}audio/{n}.wav": b"" for n in range(int(rng.integers(1, 500)))}
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    comment = rng.bytes(int(rng.integers(60_000))) if rng.random() < 0.1 else b""
    return _packed(members, methods[rng.integers(4)], comment)


def _other_fields(content: bytes, rng: np.random.Generator) -> bytes:
    """Another number in a header: of a member, of the table of contents, or of its end."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        signature, fields = _HEADERS[rng.integers(len(_HEADERS))]
        places = [at for at in range(len(changed)) if changed[at : at + 4] == signature]
        if not places:
            continue
        offset, form = fields[rng.integers(len(fields))]
        most = 2 ** (8 * struct.calcsize(form)) - 1
        value = (0, 1, 8, 12, 14, 99, 1000, most - 1, most, int(rng.integers(most)))[rng.integers(10)]
        at = places[rng.integers(len(places))] + offset
        changed[at : at + struct.calcsize(form)] = struct.pack(form, min(value, most))
    return bytes(changed)
