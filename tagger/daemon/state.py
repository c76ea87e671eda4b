"""What survives a restart: the daemon's identity, open events, paused sources.

A folder that one daemon at a time uses:

    lock          held while the daemon runs
    known.json    identity, paused sources, and the name that each source had at its first start
    open.json     events that have begun and not ended
    outbox.sqlite messages that wait for the broker (tagger.mqtt.outbox)
"""

import contextlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tagger.daemon.hold import hold
from tagger.daemon.open_event import Lasting, OpenEvent, is_level, is_text, is_time
from tagger.events import Event, Stream
from tagger.files import make_private, private_mode, replacing, unused

log = logging.getLogger(__name__)

_MOST_BYTES = 16_000_000
"""Largest file of the state. 50 labels of 500 sources, all open, take 10 MB."""


@dataclass(frozen=True)
class _Noted:
    """An open event in the folder."""

    entry: str
    """JSON, made once, since the file is written at every begin and end."""
    lasting: Lasting


class StateFolder:
    """The folder. Its methods may be called from any thread and never raise; a full disk is logged once."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: another daemon uses the folder, or it cannot be written.
        """
        self._lock_file = hold(folder, "give this one a folder and topics of its own: --state DIR --node NAME")
        for left in folder.glob("*.json*.partial"):  # left by a crash while writing
            with contextlib.suppress(OSError):
                left.unlink()
        for path in (*folder.glob("known.*"), *folder.glob("open.*")):
            make_private(path)
        self.folder = folder
        self.outbox = folder / "outbox.sqlite"
        self._lock = threading.Lock()
        self._writable = True
        known = _read(folder / "known.json", _is_known)
        self.id: str = known.get("id") or secrets.token_hex(4)
        """Identifies this daemon for as long as the folder exists."""
        self.paused: frozenset[str] = frozenset(known.get("paused", ()))
        """Names of the sources that are paused."""
        self._keys: dict[str, str] = known.get("keys", {})
        self._open: dict[str, _Noted] = {}
        """Open events by their ids."""
        self._left = _read(folder / "open.json", _is_open)
        if not known:
            self._save_known()

    def close(self) -> None:
        self._lock_file.close()

    def pause(self, source: str, paused: bool) -> None:
        with self._lock:
            self.paused = self.paused | {source} if paused else self.paused - {source}
            self._save_known()

    def keys(self, uris: Mapping[str, str]) -> dict[str, str]:
        """A key for each source that stays when its name changes: the name that it had at its first start.

        A source that is paused under that name stays paused under its present one.

        Args:
            uris: name -> what the source listens to.

        Returns:
            name -> key; no two keys are equal.
        """
        with self._lock:
            found: dict[str, str] = {}
            for name, uri in uris.items():
                key = self._keys.get(uri, name)
                while key in found.values() or (uri not in self._keys and key in self._keys.values()):
                    key += "_"
                found[name] = key
            if new := {uri: found[name] for name, uri in uris.items() if uri not in self._keys}:
                self._keys |= new
            moved = {key: name for name, key in found.items() if key in self.paused and key not in uris}
            self.paused = self.paused - moved.keys() | frozenset(moved.values())
            if new or moved:
                self._save_known()
        return found

    def begun(self, stream: Stream, event: Event) -> None:
        """Notes an open event. Called before any sink is given its begin."""
        with self._lock:
            entry = json.dumps(OpenEvent(stream, event, time.time()).to_json())
            self._open[event.id] = _Noted(entry, Lasting(time.monotonic()))
            self._save_open()

    def ended(self, event: Event) -> None:
        """Forgets an open event. Called after all sinks were given its end."""
        with self._lock:
            if self._open.pop(event.id, None):
                self._save_open()

    def alive(self) -> None:
        """Notes the time. Called every few seconds: an event that a crash leaves open lasted at least until then."""
        with self._lock:
            if self._open:
                self._save_open()

    def left_open(self, cause: Literal["restart", "takeover"] = "restart") -> list[tuple[Stream, Event]]:
        """Ends for the events that a crash left open, at the time of the last `alive`, `begun` or `ended`, by the clock
        as it was when they began.

        Those of a recording from another time end when they began.
        """
        left, self._left = self._left, {}
        ends = []
        with self._lock:
            for found in map(OpenEvent.from_json, left.get("events", [])):
                lasted_s = left.get("lasted", {}).get(found.begin.id)  # earlier versions did not write it
                alive = min(left["alive"], time.time()) if lasted_s is None else found.noted + lasted_s
                self._open[found.begin.id] = _Noted(json.dumps(found.to_json()), Lasting.left(found, alive))
                ends.append((found.stream, found.end(alive, cause)))
        return ends

    def _save_known(self) -> None:
        document = {"id": self.id, "paused": sorted(self.paused), "keys": self._keys}
        self._save("known.json", json.dumps(document, indent=1))

    def _save_open(self) -> None:
        entries = ",\n".join(each.entry for each in self._open.values())
        now = time.monotonic()
        lasted_s = json.dumps({event_id: round(each.lasting.seconds(now), 3) for event_id, each in self._open.items()})
        self._save("open.json", f'{{"alive": {time.time()!r}, "lasted": {lasted_s}, "events": [\n{entries}\n]}}')

    def _save(self, name: str, document: str) -> None:
        try:
            path = self.folder / name
            with replacing(path, private_mode(path)) as partial:
                partial.write_text(document, "utf-8")
            self._writable = True
        except OSError as error:
            if self._writable:
                log.warning("%s: cannot be written (%s)", self.folder, error.strerror)
            self._writable = False


def _is_known(document: Any) -> bool:
    keys, paused = document.get("keys", {}), document.get("paused", [])
    return (
        isinstance(keys, dict)
        and isinstance(paused, list)
        and isinstance(document["id"], str)
        and re.fullmatch(r"[0-9A-Za-z_-]{1,64}", document["id"]) is not None
        and all(map(is_text, [*paused, *keys]))
        and all(map(is_level, keys.values()))
    )


def _is_open(document: Any) -> bool:
    events = document["events"]
    lasted = document.get("lasted", {})
    if not (isinstance(events, list) and is_time(document["alive"])):
        return False
    if not (isinstance(lasted, dict) and all(map(is_time, lasted.values()))):
        return False
    ids = [OpenEvent.from_json(each).begin.id for each in events]
    return len(set(ids)) == len(ids)


def _read(path: Path, is_right: Callable[[Any], bool]) -> dict[str, Any]:
    """The document in the file. Empty where there is no file, or a damaged one, which is renamed."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if is_right(document):
            return document
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        pass
    aside = unused(path.with_suffix(".damaged"))
    with contextlib.suppress(OSError):
        path.replace(aside)
    log.warning("%s: is damaged; put aside as %s", path, aside.name)
    return {}
