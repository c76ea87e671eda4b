"""How a fleet does, for people and for Prometheus."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from tagger.daemon.metrics import CONTENT_TYPE, metric
from tagger.daemon.web import Answer
from tagger.errors import TaggerError
from tagger.printable import number_of

Status = Mapping[str, Any]
"""What the coordinator says (`Coordinator.status`)."""
_TEXT = "text/plain; charset=utf-8"
_MOST_LINES = 30
"""Streams that are named in the text; those that are amiss come first."""


def page(path: str, status: Callable[[], Status]) -> Answer | None:
    """The answer to a request on the port. None: there is no such page.

    Args:
        status: asks the coordinator. Raises TaggerError: it does not answer.
    """
    try:
        return _page(path, status)
    except TaggerError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n"


def _page(path: str, status: Callable[[], Status]) -> Answer | None:
    if path == "/metrics":
        return HTTPStatus.OK, CONTENT_TYPE, exposition(status())
    if path == "/status":
        return HTTPStatus.OK, "application/json", json.dumps(status(), allow_nan=False)
    if path not in ("/healthz", "/readyz"):
        return None
    lines = problems(status()) if path == "/readyz" else []
    code = HTTPStatus.SERVICE_UNAVAILABLE if lines else HTTPStatus.OK
    return code, _TEXT, "".join(f"{line}\n" for line in lines or ["ok"])


def problems(status: Status) -> list[str]:
    """What is amiss, one line each. Empty: all is well."""
    found = fleet_problems(status)
    for name, each in status["streams"].items():
        if each["node"] is None:
            found.append(f"{name}: no worker has it")
        elif each.get("state") not in ("hearing", "off"):
            found.append(f"{name}: {each.get('state', 'starting')}: {each.get('detail') or 'not heard yet'}")
    return found


def fleet_problems(status: Status) -> list[str]:
    """What is amiss apart from single streams, one line each."""
    found: list[str] = []
    if status["problem"]:
        found.append(f"sources: {status['problem']}; they stay as they were")
    found += status["troubles"]
    if status["sources"] > status["capacity"]:
        found.append(f"the workers can carry {status['capacity']:g} streams, and there are {status['sources']}")
    for name, each in status["nodes"].items():
        if each["trouble"]:
            found.append(f"{name}: {each['trouble']}; {number_of(each['waiting'], 'event waits', 'events wait')}")
    return found


def lines(status: Status) -> list[str]:
    """The answer of `tagger fleet status`."""
    heard, sources = status["heard"], status["sources"]
    found = [
        f"{number_of(sources, 'stream')}, {heard} heard; {number_of(len(status['nodes']), 'worker')} "
        f"that can carry {status['capacity']:g}"
    ]
    if not status["granting"]:
        found.append("the coordinator has just been started: it waits until the leases before it have ended")
    if moved := ", ".join(f"{reason} {count}" for reason, count in status["moved"].items()):
        found.append(f"streams that were given to another worker: {moved}")
    width = max(map(len, (*status["nodes"], "worker")))
    found += ["", f"{'worker':<{width}}  streams  capacity  events waiting  last heard of"]
    for name, each in status["nodes"].items():
        drained = "  drained" if each["drained"] else ""
        found.append(
            f"{name:<{width}}  {each['streams']:>7}  {each['capacity']:>8g}  {each['waiting']:>14}  "
            f"{each['silent_s']:>7.1f} s ago{drained}"
        )
    if amiss := problems(status):
        found += ["", *amiss[:_MOST_LINES]]
        if len(amiss) > _MOST_LINES:
            found.append(f"... and {len(amiss) - _MOST_LINES} more")
    return found


def exposition(status: Status) -> str:
    """The text that Prometheus reads: sums, and the same by stream."""
    return "".join(f"{line}\n" for line in _metrics(status))


def _metrics(status: Status) -> Iterator[str]:
    streams, nodes = status["streams"], status["nodes"]
    totals = (
        ("tagger_fleet_sources", "Streams that ought to be heard.", status["sources"]),
        ("tagger_fleet_heard", "Streams that are heard.", status["heard"]),
        ("tagger_fleet_without_owner", "Streams that no worker has.", status["without_owner"]),
        ("tagger_fleet_capacity", "Streams that the workers can carry, as they measure it.", status["capacity"]),
        ("tagger_fleet_workers", "Workers that have leases.", len(nodes)),
    )
    for name, help, value in totals:
        yield from metric(name, "gauge", help, [({}, value)])
    yield from metric(
        "tagger_fleet_moved_total",
        "counter",
        "Times that a stream was given to another worker.",
        [({"reason": reason}, count) for reason, count in status["moved"].items()],
    )
    for key, help in (("streams", "Streams of a worker."), ("capacity", "Streams that it can carry."),
                      ("waiting", "Events that wait for the broker.")):  # fmt: skip
        yield from metric(
            f"tagger_worker_{key}", "gauge", help, [({"node": n}, each[key]) for n, each in nodes.items()]
        )
    labels = {name: {"source": name, "node": each["node"] or ""} for name, each in streams.items()}
    yield from metric(
        "tagger_source_heard",
        "gauge",
        "1: the stream is heard.",
        [(labels[name], each.get("state") == "hearing") for name, each in streams.items()],
    )
    for key, name, help in (
        ("windows", "tagger_windows_total", "Windows that were classified."),
        ("skipped", "tagger_windows_skipped_total", "Windows that were left out."),
        ("events", "tagger_events_total", "Events that have begun."),
    ):
        yield from metric(name, "counter", help, [(labels[of], each.get(key)) for of, each in streams.items()])
    states = Counter(each.get("state", "unheard") for each in streams.values())
    yield from metric(
        "tagger_fleet_states", "gauge", "Streams by state.", [({"state": s}, n) for s, n in sorted(states.items())]
    )
