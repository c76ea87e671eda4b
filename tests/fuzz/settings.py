"""Damages `tagger.toml`: its values and its bytes. Right: settings, or problems of one line each."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tagger.config import check
from tagger.config.build import resolve
from tagger.config.options import LABEL_FIELDS, OPTIONS
from tagger.policy import EventsConfig, policy
from tagger.printable import printable
from tests.fuzz.trial import problem_of
from tests.fuzz.values import VALUES, other_bytes

LABELS = ("dog", "cat", "rain")


def fuzz(inputs: int, seed: int = 0) -> Iterator[str]:
    """Reads that many files. Yields a line for each that was not handled well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tagger.toml"
        for number in range(inputs):
            path.write_bytes(made(np.random.default_rng([seed, number])))
            if (problem := problem_of(lambda: read(path))) is not None:
                yield f"settings: input {number} of seed {seed}: {problem}"


def read(path: Path) -> None:
    """Reads the file, as `tagger config check` does."""
    resolved = resolve({}, {}, path)
    for line in [*resolved.problems, *resolved.warnings, *map(str, check.rows(resolved))]:
        printable(line)
    if (found := resolved.settings) is not None:
        events = found.events or EventsConfig()
        rules = policy(LABELS, (0.5,) * 3, 5.0, 1.0, EventsConfig(events.defaults))
        memory_s = max(max(each.confirm_s, each.min_s) for each in rules.each)
        if not memory_s <= 600:
            raise ValueError(f"{memory_s} s of audio are kept in memory")


def made(rng: np.random.Generator) -> bytes:
    """A file with some options, most of them right, and some bytes changed."""
    tables: dict[str, dict[str, Any]] = {}
    options = [option for option in OPTIONS if option.is_in_file]
    for _ in range(rng.integers(1, 6)):
        option = options[rng.integers(len(options))]
        tables.setdefault(option.table, {})[option.name] = _value(option.default, rng)
    for table in ("events", 'events.labels."dog"')[: rng.integers(3)]:
        for _ in range(rng.integers(1, 4)):
            field = LABEL_FIELDS[rng.integers(len(LABEL_FIELDS))]
            tables.setdefault(table, {})[field.name] = _value(field.default or 1.0, rng)
    lines = [f"[{table}]\n" + "".join(f"{key} = {_toml(v)}\n" for key, v in of.items()) for table, of in tables.items()]
    content = "\n".join(lines).encode(errors="surrogatepass")
    if rng.random() < 0.3:
        content = other_bytes(content, rng, 5)
    if rng.random() < 0.02:
        content += b"x = " + b"[" * int(rng.integers(1, 50_000))
    return content


def _value(usual: Any, rng: np.random.Generator) -> Any:
    if rng.random() < 0.4 and usual is not None:
        return usual
    return VALUES[rng.integers(len(VALUES))]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return repr(value) if isinstance(value, float) else str(value)[:400]
    return json.dumps("" if value is None else value if isinstance(value, str | bool) else str(value))
