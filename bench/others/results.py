"""Results of several systems on the same recordings, as `bench/trust.py --out` wrote them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger.errors import UserError
from train.evaluate.detection import Point
from train.evaluate.trust import Heard, Recording, Rows

RESULTS = "trust.json"
"""The file's name in `--out`."""


def read(out: Path) -> tuple[Rows, Rows, Mapping[str, list[Point]]]:
    """Rows of a set, of non-target audio, and curves by kind, that `bench/trust.py` wrote to the folder `out`. What
    recordings may hold, and their events at other thresholds, are not in it.

    Raises:
        UserError: it cannot be read, or is none.
    """
    path = out / RESULTS
    try:
        document = json.loads(path.read_text("utf-8"))
        home, others = (list(map(_row, document[part])) for part in ("home", "nontarget"))
        return home, others, {kind: [Point(**each) for each in points] for kind, points in document["curves"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no result of bench/trust.py --out ({error})") from None


def _row(row: Mapping[str, Any]) -> tuple[Recording, Heard]:
    path = Path(row["file"])
    heard = Heard(float(row["seconds"]), float(row["score"]), str(row["label"]), tuple(row["events"]))
    return Recording(path, path.parent.name, source=row["source"], original=row["original"]), heard
