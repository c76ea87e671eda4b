"""`tagger doctor --bundle`: a file for whoever helps. It holds no audio, no events, and no secret."""

import json
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tagger.bench.machine import versions
from tagger.config import check, secret
from tagger.config.given import HIDDEN
from tagger.config.resolver import Resolved
from tagger.daemon.status import Answer
from tagger.doctor.finding import Finding
from tagger.doctor.machine import LIBRARIES
from tagger.doctor.run import lines
from tagger.errors import UserError
from tagger.files import PRIVATE, replacing

_SHORTEST_SECRET = 3
"""Letters of what is looked for in texts; shorter ones would be found everywhere."""
_JOURNAL = ("journalctl", "-u", "tagger", "-n", "1000", "--no-pager", "-o", "short-iso")


def write(path: Path, resolved: Resolved, found: Sequence[Finding], running: Sequence[Answer]) -> None:
    """Writes the file, readable by its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    texts = {
        "doctor.txt": "".join(f"{line}\n" for each in found for line in lines(each)),
        "doctor.json": json.dumps([each.to_json() for each in found], indent=1),
        "settings.txt": "".join(f"{row}\n" for row in check.rows(resolved)),
        "versions.json": json.dumps(versions(LIBRARIES), indent=1),
        "status.json": json.dumps([_without_events(each) for each in running], indent=1),
        "journal.txt": _journal(),
    }
    secrets = sorted(_secrets(resolved), key=len, reverse=True)
    with replacing(path, PRIVATE) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in texts.items():
            for each in secrets:
                text = text.replace(each, HIDDEN)  # noqa: PLW2901
            file.writestr(name, text)


def _without_events(answer: Answer) -> Mapping[str, Any]:
    """A daemon's answer without what was heard."""
    sources = {name: {k: v for k, v in each.items() if k != "events"} for name, each in answer["sources"].items()}
    return {**answer, "sources": sources}


def _journal() -> str:
    """The last lines of the service's log. It names no sound but what a user tests with."""
    try:
        done = subprocess.run(_JOURNAL, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _secrets(resolved: Resolved) -> set[str]:
    """All that no text may hold, though nothing should have written it."""
    found: set[str] = set()
    for given in resolved.values.values():
        values = given.value if isinstance(given.value, list | tuple) else [given.value]
        for value in values:
            if isinstance(value, str) and "://" in value:
                scheme, _, rest = value.partition("://")
                found |= _of_url(f"{scheme.rpartition('=')[2]}://{rest}")
            elif given.option.secret and isinstance(value, str):
                found.add(value)
        if given.option.name in ("password_file", "token_file") and given.value is not None:
            try:
                found.add(secret.first_line(given.value))
            except UserError:
                continue
    settings = resolved.settings
    if settings is not None and settings.mqtt is not None and settings.mqtt.password:
        found.add(settings.mqtt.password)
    spelled = {form for each in found for form in (each, quote(each, safe=""), unquote(each), json.dumps(each)[1:-1])}
    return {each for each in spelled if len(each) >= _SHORTEST_SECRET}


def _of_url(url: str) -> set[str]:
    """Parts of a URL that may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    return {each for each in (parts.password, parts.query, parts.path.strip("/")) if each}
