"""A live page whose daemon is made of what a test says, and requests to it."""

import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="Starlette is not installed: scripts/setup dev")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: scripts/setup dev")

from tagger.errors import UserError
from tagger.events import Block, Event, LabelScore, Report, Scores, Stream
from tagger.faults import Faults
from tagger.features.config import MelConfig
from tagger.health import Snapshot
from tagger.mqtt.nodes import Nodes
from tagger.policy import LabelPolicy, Policy
from tagger.settings import MqttSettings, WebSettings
from tagger.web.api import Daemon
from tagger.web.clips import Clips
from tagger.web.examining import Examining
from tagger.web.kept import Kept
from tagger.web.live import Live
from tagger.web.server import serving
from tagger.web.thresholds import Thresholds
from tests.connections import Unconnected
from tests.healths import snapshot, source
from tests.programs import free_port

LABELS = ("dog", "siren")
STREAM = Stream("attic", "mic", "fake", LABELS)
RATE_HZ = 32_000
FINDINGS = (
    {"about": "model", "state": "ok", "said": "a window takes 9 ms", "advice": ""},
    {"about": "broker", "state": "fail", "said": "no answer", "advice": "start one"},
)
"""What doctor finds here."""


@dataclass
class Page:
    """A page that is served, and what it wished of its daemon."""

    port: int
    live: Live
    event_log: Path | None
    nodes: Nodes
    faults: Faults
    paused: list[tuple[str, bool]] = field(default_factory=list)
    found: Snapshot = field(default_factory=lambda: snapshot(source("mic")))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, text_of: str = "utf-8", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers by lower-case name, and text of an answer. Headers: `content_type` is Content-Type.

        Args:
            text_of: encoding of the text.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode(text_of)
        finally:
            connection.close()

    def json(self, path: str, **headers: str) -> Any:
        status, _, text = self.ask(path, **headers)
        assert status == 200, text
        return json.loads(text)

    def post(self, path: str, body: str, **headers: str) -> tuple[int, Any]:
        status, _, text = self.ask(path, "POST", body, **{"content_type": "application/json"} | headers)
        return status, json.loads(text)

    def pause(self, name: str, paused: bool) -> dict[str, Any]:
        if name != "mic":
            raise UserError(f"source: there is no {name!r}")
        self.paused.append((name, paused))
        return {"sources": [name], "enabled": not paused}


@contextmanager
def page(
    event_log: Path | None = None,
    clips: Path | None = None,
    thresholds: Thresholds | None = None,
    examine: Callable[[], Iterable[Mapping[str, str]]] = lambda: FINDINGS,
    broker: MqttSettings | None = None,
    host: str = "127.0.0.1",
    sources: Sequence[str] = ("mic",),
    **settings: Any,
) -> Iterator[Page]:
    """Serves a page within the block.

    Args:
        clips: the folder of saved clips.
        thresholds: what others would have given.
        examine: what doctor finds.
        sources: names of what is listened to.
        broker: whose other nodes are shown; nothing connects to it, a test calls `nodes.note`.
        host: this machine's address on which it is served.
        settings: fields of WebSettings.
    """
    live = Live(MelConfig())
    live.open([replace(STREAM, source=each) for each in sources])
    served = Page(free_port(), live, event_log, Nodes(lambda: broker, connect=Unconnected), Faults())
    served.found = snapshot(*(source(each) for each in sources))
    live.snapshot = lambda: served.found
    live.policy_of = lambda source: Policy(LABELS, (LabelPolicy(enter=0.8), LabelPolicy(enter=0.6)))
    labels = [{"label": each, "topic": each, "enter": 0.8, "exit": 0.4, "announced": True} for each in LABELS]
    daemon = Daemon(
        live=live,
        snapshot=lambda: served.found,
        describe=lambda: dict.fromkeys(sources, "a microphone"),
        labels=lambda: {"mic": labels},
        pause=served.pause,
        kept=Kept(live.events, lambda: served.event_log, settings.get("database")),
        clips=None if clips is None else Clips(clips, MelConfig()),
        thresholds=thresholds,
        others=served.nodes,
        faults=served.faults,
        examining=Examining(examine),
    )
    served.nodes.follow()
    with serving(WebSettings(**{"address": f"{host}:{served.port}"} | settings), daemon):
        yield served


class Follower:
    """Reads what is live, one event at a time."""

    def __init__(self, page: Page, query: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=90)
        self._connection.request("GET", f"/api/live{query}")
        self.response = self._connection.getresponse()

    def next(self) -> tuple[str, Any]:
        """Kind and data of the next event. Raises EOFError at the end."""
        kind = ""
        while line := self.response.readline().decode():
            if line.startswith("event: "):
                kind = line[7:].strip()
            if line.startswith("data: "):
                return kind, json.loads(line[6:])
        raise EOFError

    def until(self, wanted: str) -> Any:
        """Data of the next event of this kind; others are passed over."""
        while True:
            kind, data = self.next()
            if kind == wanted:
                return data

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def report(time: float = 100.0, *top: LabelScore) -> Report:
    scores = Scores(np.zeros(2, np.float32), 0.0, 5.0, time, np.zeros((2, 1), np.float32), 0.3)
    return Report(scores, top or (LabelScore("dog", 0.7, "below enter 0.80"),), "dog: below enter 0.80", 0.05)


def event(id: str, onset: float, offset: float | None = None, label: str = "dog", peak: float = 0.9) -> Event:
    return Event("begin" if offset is None else "end", id, label, 0.85, peak, onset, offset)


def tone(seconds: float, hertz: float, time: float, gap: bool = False) -> Block:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return Block((0.5 * np.sin(2 * np.pi * hertz * (at + time))).astype(np.float32), time, gap)
