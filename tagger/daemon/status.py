"""`tagger status`: asks running daemons how they do, and says it as text. It imports no numpy: it answers at once."""

import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagger.daemon.localsocket import connect, is_answered, sockets
from tagger.errors import TaggerError, UserError
from tagger.printable import number_of
from tagger.times import age_text, local_text, seconds

_WAIT_SECONDS = 5.0
"""Longest wait for an answer, seconds."""
_MOST_BYTES = 16_000_000
"""Largest answer that is read."""
_COLUMNS = ("SOURCE", "STATE", "SINCE", "AUDIO", "LEVEL", "WINDOWS", "SKIPPED", "LATENCY", "RECONNECTS")

Answer = Mapping[str, Any]
"""As `Snapshot.to_json` makes it."""


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path, _WAIT_SECONDS)


def ask_here(folder: Path) -> list[Answer]:
    """Answers of all daemons whose socket is in the state folder.

    Raises:
        UserError: there is none, or it belongs to another user.
        TaggerError: one does not answer.
    """
    hint = "start `tagger listen`, or name its state folder (--state), its settings (--config) or its address (URL)"
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder}: belongs to another user; ask as that user, such as: sudo -u tagger tagger status")
    answered = [path for path in sockets(folder) if is_answered(path)]
    if not answered:
        raise UserError(f"{folder}: no daemon listens here; {hint}")
    return [_ask(_LocalConnection(path), str(path)) for path in answered]


def ask_url(url: str) -> Answer:
    """The answer of the daemon at `http://HOST:PORT`.

    Raises:
        UserError: it is no such address.
        TaggerError: nobody answers there, or no tagger.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise UserError("a daemon's address is http://HOST:PORT, of its --http-port")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return _ask(kind(host, port, timeout=_WAIT_SECONDS), f"{parts.scheme}://{parts.netloc}")


def _ask(connection: http.client.HTTPConnection, where: str) -> Answer:
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        found = json.loads(response.read(_MOST_BYTES))
        if response.status == 200 and isinstance(found, dict) and list(text(found)):
            return found
    except OSError as error:
        raise TaggerError(f"{where}: no answer ({error.strerror or error})") from None
    except (http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        pass
    finally:
        connection.close()
    raise TaggerError(f"{where}: what answers is no tagger")


def text(answer: Answer) -> Iterator[str]:
    """Lines for people: the node, a table of its sources, its receivers, and what is amiss."""
    process, now = answer["process"], seconds(answer["time"])
    up, version = age_text(answer["uptime_s"]), answer["version"]
    memory = "" if process["resident_mb"] is None else f", {process['resident_mb']:.0f} MB"
    yield f"{answer['node']}: {answer['verdict']}, up {up}{memory}, tagger {version}"
    rows = [_COLUMNS, *(_row(name, each, now) for name, each in answer["sources"].items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for name, each in answer["sinks"].items():
        waiting = number_of(each["waiting"], "event waits", "events wait")
        yield f"{name}: {each['trouble'] or 'works'}; {waiting}, {each['dropped']:,} dropped"
    yield from (f"Problem: {line}" for line in answer["problems"])


def _row(name: str, each: Mapping[str, Any], now: float) -> Sequence[str]:
    latency, level, audio = each["latency_ms"], each["rms_dbfs"], each["last_audio_s"]
    lasted = now - seconds(each["since"])
    return (
        name,
        each["state"],
        age_text(lasted) if lasted < 86_400 else local_text(seconds(each["since"])),
        "-" if audio is None else f"{age_text(audio)} ago",
        "-" if level is None or each["state"] != "hearing" else f"{level:.0f} dBFS",
        f"{each['windows']:,}",
        f"{each['skipped']:,}",
        "-" if latency is None else f"{latency['p50']:.0f} ms",
        f"{each['reconnects']:,}",
    )
