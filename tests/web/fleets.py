"""A fleet's page with what a test says that the fleet does."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tagger.daemon.open_event import OpenEvent
from tagger.events import Event, Stream
from tagger.fleet.opened import Record
from tagger.fleet.view import View
from tagger.settings import MqttSettings, WebSettings
from tagger.web.access import Access
from tagger.web.app import fleet_application
from tagger.web.server import serving_application
from tests.programs import free_port


def status(streams: int, workers: int = 4) -> dict[str, Any]:
    """What a coordinator says; each 50th stream is amiss."""
    nodes = {
        f"city-{i + 1}": {
            "host": f"rack{i + 1}", "session": f"city-{i + 1}#1", "streams": streams // workers, "capacity": 300.0,
            "wanted": streams // workers, "silent_s": 0.4, "waiting": 0, "trouble": None, "drained": i == 2,
        }
        for i in range(workers)
    }  # fmt: skip
    found: dict[str, Any] = {
        f"street_{i}": {
            "node": f"city-{i % workers + 1}",
            "state": "retrying" if i % 50 == 49 else "hearing",
            "detail": "nobody answers" if i % 50 == 49 else "",
            "windows": 1000,
            "skipped": i % 7,
            "latency_s": 0.1,
            "events": 3,
        }
        for i in range(streams)
    }
    heard = sum(each["state"] == "hearing" for each in found.values())
    return {
        **{"schema": 1, "sources": streams, "heard": heard, "without_owner": 0, "capacity": 300.0 * workers},
        **{"granting": True, "moved": {"lost": 3}, "problem": "", "troubles": [], "pid": 1},
        "nodes": nodes,
        "streams": found,
    }


@dataclass
class FleetPage:
    """A page that is served, and what it shows."""

    view: View
    port: int = field(default_factory=free_port)
    status: dict[str, Any] = field(default_factory=lambda: status(1_000))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def opens(self, node: str, source: str, *labels: str, fleet: str = "city") -> None:
        """A worker says what is open."""
        stream = Stream(node, source, "fake", labels)
        events = [
            (OpenEvent(stream, Event("begin", f"{source}-{each}", each, 0.9, 0.9, time.time()), 0.0), time.time())
            for each in labels
        ]
        self.view.note(f"tagger/{node}/{source}/open", Record(fleet, 1, "x", events).to_json().encode(), True)

    def event(self, node: str, source: str, event: Event) -> None:
        payload = json.dumps(event.to_json(Stream(node, source, "fake", (event.label,)), time.time()))
        self.view.note(f"tagger/{node}/{source}/event", payload.encode(), False)


@contextmanager
def fleet_page(**settings: Any) -> Iterator[FleetPage]:
    """Serves a page within the block; nothing connects to its broker, a test calls `view.note`.

    Args:
        settings: fields of WebSettings.
    """
    served: FleetPage
    view = View(MqttSettings("127.0.0.1", 1, node="city"), lambda: served.status)
    served = FleetPage(view)
    web = WebSettings(**{"address": f"127.0.0.1:{served.port}"} | settings)
    with serving_application(web, fleet_application(view.to_json, Access(web))):
        yield served
