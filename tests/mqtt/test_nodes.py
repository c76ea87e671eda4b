"""The other nodes of a broker: what is known of them, and what is not believed."""

import json
from typing import Any

import pytest

from tagger.mqtt.connection import Connection
from tagger.mqtt.message import Outgoing
from tagger.mqtt.node_stats import MOST_BYTES, MOST_SOURCES
from tagger.mqtt.nodes import MOST_NODES, Nodes
from tagger.settings import MqttSettings
from tagger.times import rfc3339
from tests.connections import Unconnected
from tests.healths import NOW, snapshot, source
from tests.programs import Mosquitto, running, until

BROKER = MqttSettings(node="own")


class Told(Nodes):
    """Nodes of a broker that a test plays, and its clock."""

    def __init__(self, settings: MqttSettings | None = BROKER) -> None:
        self.settings, self.now, self.made = settings, NOW, list[Unconnected]()
        super().__init__(lambda: self.settings, lambda: self.now, self._make)
        self.follow()

    def _make(self, settings: MqttSettings) -> Any:
        self.made.append(Unconnected(settings))
        return self.made[-1]

    def tell(self, topic: str, payload: str | bytes | dict[str, Any], retained: bool = False) -> None:
        text = json.dumps(payload) if isinstance(payload, dict) else payload
        self.note(f"tagger/{topic}", text if isinstance(text, bytes) else text.encode(), retained)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.to_json()["nodes"]
        return found

    @property
    def only(self) -> dict[str, Any]:
        (node,) = self.nodes
        return node

    def states(self) -> dict[str, str]:
        return {each["source"]: each["state"] for each in self.only["sources"]}


def stats(**sources: str) -> dict[str, Any]:
    """A message on `stats`, an hour after the node's start."""
    return snapshot(*(source(name, state=state) for name, state in sources.items()), uptime_s=3_600).stats({})


def test_a_node_is_known_by_what_it_publishes() -> None:
    told = Told()
    assert told.made[0].topics == [
        "tagger/+/status", "tagger/+/stats", "tagger/+/+/status", "tagger/+/+/status/detail"
    ]  # fmt: skip
    told.tell("attic/status", "online", retained=True)
    assert (told.only["online"], told.only["since"], told.only["version"]) == (True, None, None)
    told.tell("attic/stats", stats(mic="hearing", door="retrying"))
    assert told.only == {
        **{"node": "attic", "online": True, "since": rfc3339(NOW - 3_600), "heard": rfc3339(NOW)},
        **{"version": stats()["version"], "verdict": "degraded", "problems": stats(door="retrying")["problems"]},
        "sources": [
            {"source": "door", "state": "retrying", "reason": "", "detail": "", "since": rfc3339(NOW - 60)},
            {"source": "mic", "state": "hearing", "reason": "", "detail": "", "since": rfc3339(NOW - 60)},
        ],
        "more": False,
    }
    assert told.only["problems"]


def test_it_is_known_when_a_node_goes_and_comes() -> None:
    told = Told()
    told.tell("attic/status", "online", retained=True)
    told.now += 100
    told.tell("attic/status", "offline")
    told.now += 100
    assert (told.only["online"], told.only["since"]) == (False, rfc3339(NOW + 100))
    told.tell("attic/status", "offline")  # again the same
    assert told.only["since"] == rfc3339(NOW + 100)
    told.tell("attic/status", "online")
    assert (told.only["online"], told.only["since"]) == (True, rfc3339(NOW + 200))


def test_after_the_broker_was_away_a_node_is_unknown_until_it_is_told_again() -> None:
    told = Told()
    told.tell("attic/status", "online")
    told.made[0].on_connected()
    assert (told.only["online"], told.only["since"]) == (None, rfc3339(NOW))
    told.tell("attic/status", "online", retained=True)
    assert (told.only["online"], told.only["since"]) == (True, rfc3339(NOW))
    told.made[0].on_connected()
    told.tell("attic/status", "offline", retained=True)  # it went while we were away
    assert (told.only["online"], told.only["since"]) == (False, None)


def test_a_source_s_topic_is_newer_than_the_statistics() -> None:
    told = Told()
    told.tell("attic/status", "online")
    told.tell("attic/mic/status", "online", retained=True)
    told.tell("attic/mic/status/detail", "online", retained=True)
    assert told.states() == {"mic": "hearing"}
    told.now += 1
    told.tell("attic/stats", stats(mic="silent", door="starting"))
    told.tell("attic/door/status", "offline")
    assert told.states() == {"mic": "silent", "door": "starting"}  # both say the same
    told.now += 1
    told.tell("attic/mic/status/detail", "unplugged")
    told.tell("attic/mic/status", "offline")
    assert told.only["sources"][1] == {
        **{"source": "mic", "state": "offline", "reason": "", "detail": "unplugged", "since": None}
    }
    told.tell("attic/mic/status", "disabled")
    assert told.states()["mic"] == "off"
    told.now += 1
    told.tell("attic/stats", stats(mic="hearing", door="starting"))
    assert told.states()["mic"] == "hearing"
    told.tell("attic/status", "offline")
    assert told.states() == {"mic": "offline", "door": "offline"}


def test_what_was_removed_from_the_broker_is_gone() -> None:
    told = Told()
    told.tell("attic/status", "online")
    told.tell("attic/mic/status", "online")
    told.tell("attic/door/status", "online")
    told.tell("attic/mic/status", "")
    assert told.states() == {"door": "hearing"}
    told.tell("attic/status", "")
    told.tell("attic/door/status", "")
    told.tell("attic/door/status/detail", "")
    assert told.nodes == []


@pytest.mark.parametrize(("topic", "payload"), [
    ("attic/status", "ONLINE"), ("attic/status", b"\xff"), ("attic/status", "x" * 100_000),
    ("attic/stats", "[" * 50_000), ("attic/stats", "nonsense"), ("attic/stats", "[1]"), ("attic/stats", b"\xff\xfe"),
    ("attic/stats", '{"verdict": "ok"' + " " * MOST_BYTES + "}"), ("attic/stats", "9" * 50_000),
    ("attic/mic/status", "<b>"), ("attic/request/status", "{}"), ("attic/a/b/status", "online"),
    ("own/status", "online"),
    ("attic\u202e\x00/status", "online"), (f"{'a' * 101}/status", "online"), (" /status", "online"),
    ("attic/event", "{}"), ("attic/mic/status/detail", "unplugged"),
])  # fmt: skip
def test_what_no_node_publishes_is_nothing(topic: str, payload: str | bytes) -> None:
    told = Told()
    told.tell(topic, payload)
    assert [each for each in told.nodes if each["online"] is not None or each["sources"]] == []
    assert all(each["version"] is None for each in told.nodes)


def test_of_statistics_what_is_not_as_a_node_writes_it_is_left_out() -> None:
    told = Told()
    odd: list[dict[str, Any]] = [
        {"version": 7, "verdict": "<b>", "uptime_s": -1, "problems": "x", "sources": []},
        {"version": "v" * 900, "verdict": ["ok"], "uptime_s": 1e300, "problems": [1, "p" * 900], "sources": {"a": 1}},
        {"version": "\ud800", "uptime_s": 10**300, "sources": {"a b": {"state": "hearing"}, "b": {"state": {}}}},
        {"sources": {"mic": {"state": "hearing", "reason": "<b>", "detail": ["x"], "since": "yesterday"}}},
        {"sources": {"mic": {"state": "hearing", "reason": [], "since": "9999-99-99T00:00"}}, "problems": ["p"] * 900},
    ]
    told.tell("attic/status", "online", retained=True)
    for each in odd:
        told.tell("attic/stats", each)
        found = told.only
        json.dumps(found, allow_nan=False).encode()
        assert (found["verdict"], found["since"]) == (None, None)
        assert len(json.dumps(found)) < 8_000
        assert all(source["reason"] == source["detail"] == "" for source in found["sources"])
    assert told.states() == {"mic": "hearing"}


def test_a_flood_of_nodes_and_sources_is_bounded() -> None:
    told = Told()
    for number in range(3 * MOST_NODES):
        told.tell(f"n{number}/status", "online")
        told.tell(f"n{number}/stats", stats())
    assert (len(told.nodes), told.to_json()["more"]) == (MOST_NODES, True)
    for number in range(3 * MOST_SOURCES):
        told.tell(f"n0/s{number}/status", "online")
        told.tell(f"n0/t{number}/status/detail", "x" * 10_000)
    assert 0 < len(told.nodes[0]["sources"]) <= MOST_SOURCES
    told.tell("n0/stats", stats(**{f"u{number}": "hearing" for number in range(3 * MOST_SOURCES)}))
    assert len(told.nodes[0]["sources"]) <= MOST_SOURCES


def test_what_was_left_out_is_asked_for_once_there_is_room() -> None:
    told = Told()
    for number in range(MOST_NODES + 1):
        told.tell(f"n{number}/status", "online", retained=True)
    asked = len(told.made[0].topics)
    told.tell("n7/status", "")
    assert len(told.made[0].topics) == 2 * asked, "the broker says again what it retains"
    told.tell(f"n{MOST_NODES}/status", "online", retained=True)
    assert (len(told.nodes), told.to_json()["more"]) == (MOST_NODES, False)


def test_a_node_that_comes_takes_the_place_of_one_that_is_gone() -> None:
    told = Told()
    for number in range(MOST_NODES):
        told.tell(f"n{number}/status", "offline" if number == 3 else "online", retained=True)
    told.tell("fake/status", "offline")
    told.tell("new/status", "online")
    names = [each["node"] for each in told.nodes]
    assert ("new" in names, "n3" in names, "fake" in names, len(names)) == (True, False, False, MOST_NODES)
    told.made[0].on_connected()
    assert told.to_json()["more"] is False, "the broker says again what there is"


@pytest.mark.parametrize("by_topics", [True, False])
def test_more_sources_than_are_kept_are_told(by_topics: bool) -> None:
    told = Told()
    names = [f"s{number}" for number in range(MOST_SOURCES + 1)]
    told.tell("attic/status", "online")
    if by_topics:
        for name in names:
            told.tell(f"attic/{name}/status", "online")
    else:
        told.tell("attic/stats", json.dumps({"sources": {name: {"state": "hearing"} for name in names}}))
    assert (len(told.only["sources"]), told.only["more"]) == (MOST_SOURCES, True)
    told.tell("attic/stats", stats(mic="hearing"))
    for name in names:
        told.tell(f"attic/{name}/status", "")
    assert (len(told.only["sources"]), told.only["more"]) == (1, False)


def test_statistics_that_are_too_long_to_read_are_told() -> None:
    told = Told()
    told.tell("attic/status", "online")
    told.tell("attic/stats", " " * (MOST_BYTES + 1))
    assert told.only["more"] is True


def test_another_broker_after_a_reload_is_asked_anew() -> None:
    told = Told()
    told.tell("attic/status", "online")
    told.settings = MqttSettings(host="other", node="own")
    assert told.to_json()["nodes"] == []
    assert told.to_json()["broker"] == "mqtt://other:1883"
    assert [each.is_stopped for each in told.made] == [True, False]
    told.settings = None
    assert told.to_json() == {"broker": None, "connected": False, "trouble": None, "more": False, "nodes": []}
    told.close()


def test_a_broker_that_cannot_be_reached_is_told() -> None:
    told = Told()
    told.made[0].is_connected, told.made[0].trouble = False, "connection refused"
    assert (told.to_json()["connected"], told.to_json()["trouble"]) == (False, "connection refused")


@pytest.mark.slow
def test_a_daemon_is_seen_by_the_broker_and_when_it_is_gone(broker: Mosquitto) -> None:
    settings = MqttSettings(port=broker.port, node="own")
    watching = Nodes(lambda: settings)
    watching.follow()

    def only() -> dict[str, Any]:
        found = watching.to_json()["nodes"]
        return found[0] if len(found) == 1 else {"online": None, "sources": []}

    command = ("listen", "mic=demo", "--realtime", "--node", "attic")
    with running(*command, "--mqtt", f"mqtt://127.0.0.1:{broker.port}", TAGGER_LISTEN_STATS_S="1"):
        until(lambda: only()["online"] and only().get("version"), "the other node is known")
        until(lambda: [each["state"] for each in only()["sources"]] == ["hearing"], "its source is heard")
    until(lambda: only()["online"] is False, "it is gone")
    assert only()["since"] is not None
    watching.close()


def test_no_message_is_too_large_for_the_connection() -> None:
    assert MOST_BYTES < 100_000
    message = json.dumps(stats(**{f"source_{number:03}": "hearing" for number in range(MOST_SOURCES)}))
    assert len(message) < MOST_BYTES
    assert Connection(BROKER, None).packet_bytes(Outgoing("tagger/attic/stats", message)) < 100_000
