"""What a worker left open is ended by the next owner of its stream, once, whatever else fails."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tagger.daemon.open_event import OpenEvent
from tagger.errors import TaggerError
from tagger.events import Event, Stream
from tagger.fleet import journal
from tagger.fleet.journal import Journal
from tagger.fleet.opened import Record
from tagger.mqtt.outbox import Outbox
from tagger.mqtt.sink import MqttSink
from tagger.settings import MqttSettings
from tests.programs import Mosquitto, Subscriber, subscribed, until

pytestmark = pytest.mark.broker

LABELS = ("dog", "siren")
BEGIN = Event("begin", "01HZ0000000000000000000000", "dog", 0.9, 0.9, 1_000.0)
OWN_END = replace(BEGIN, type="end", offset=1_007.0)
STRANGE: list[str | bytes] = [
    "{",
    "[]",
    '{"fleet": "city", "epoch": 1}',
    '{"fleet": "town", "epoch": 1, "alive": 1, "session": "", "events": []}',
    '{"fleet": "city", "epoch": 1, "alive": NaN, "session": "", "events": [{}]}',
    json.dumps({"fleet": "city", "epoch": 1, "session": "", "events": 7}),
    json.dumps({"fleet": "city", "epoch": 1, "by": "", "taken": 7}),
    json.dumps({"fleet": "city", "epoch": 1, "session": "", "events": []}).encode("utf-16"),
    Record("city", 1, "x", [(OpenEvent(Stream("n", "pond", "fake", LABELS), BEGIN, 1.0), 1.0)]).to_json(),
    "9" * 10_000,
    "[" * 100_000,
    "x" * 10_000_000,
    b"\xff\x00",
]
"""Messages that no worker of this fleet writes."""


class Worker:
    """What publishes for one worker."""

    made: ClassVar[list["Worker"]] = []

    def __init__(
        self, broker: Mosquitto, node: str, outbox: Path | None = None, version: str = "3.1.1", model: str = "fake"
    ) -> None:
        self.made.append(self)
        self.forgotten: list[Event] = []
        self.is_dying, self.is_closed = False, False
        self.node, self.model = node, model
        settings = MqttSettings("127.0.0.1", broker.port, node=node, version=version)
        self.journal = Journal(settings, "city", self._end, self.forgotten.append)
        self.sink = MqttSink(settings, None, Outbox(outbox, 100), f"client-{node}", journal=self.journal)
        self.sink.open(())

    @property
    def stream(self) -> Stream:
        return Stream(self.node, "yard", self.model, LABELS)

    def _end(self, stream: Stream, event: Event) -> None:
        if not self.is_dying:
            self.sink.event(stream, event)

    def hears(self, epoch: int) -> None:
        self.sink.join(self.stream)
        self.journal.hears(self.stream, epoch, lambda: True)
        self.sink.status(self.stream, "online", "")

    def begins(self, heard: Subscriber) -> None:
        """Hears the stream under the first lease, and an event in it that lasts."""
        self.hears(1)
        self.event(BEGIN)
        until(lambda: heard.jsons("tagger/city-1/yard/event"), "it has begun")
        until(self.is_idle, "it knows that the broker has the begin")

    def leaves(self) -> None:
        self.sink.leave(self.stream)
        self.journal.leaves("yard")

    def event(self, event: Event) -> None:
        self.sink.event(self.stream, event)

    def is_idle(self) -> bool:
        return not self.sink.counts()["waiting"]

    def vanish(self) -> None:
        """Its machine is gone: nothing more comes from it."""
        self.sink.connection.stop()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.sink.close(5 if self.sink.connection.is_connected else 0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("GRACE_SECONDS", "ALONE_SECONDS", "RETURN_SHARE"):
        monkeypatch.setattr(journal, name, 0.0)
    yield
    while Worker.made:
        with suppress(TaggerError):  # of a machine that is gone, something waits
            Worker.made.pop().close()


def events(heard: Subscriber) -> list[tuple[str, str, str | None]]:
    return [(each["node"], each["type"], each.get("cause")) for each in heard.jsons("tagger/city-1/yard/event")]


def forgets_all(broker: Mosquitto, heard: Subscriber) -> None:
    broker.kill()
    broker.start()
    until(lambda: heard.subscriptions == 2, "the subscriber is back")


def ticked(worker: Worker, true: Callable[[], Any], what: str) -> None:
    def done() -> Any:
        worker.journal.tick()
        return true()

    until(done, what)


TAKEN = [("city-1", "begin", None), ("city-1", "end", "takeover")]


@pytest.mark.parametrize("forgets", [False, True], ids=["the broker is there", "the broker dies and forgets all"])
def test_the_next_owner_ends_what_a_machine_that_never_returns_left_open(broker: Mosquitto, forgets: bool) -> None:
    one, two = Worker(broker, "city-1"), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#", retry_s=0.1) as heard:
        one.hears(1)
        one.event(BEGIN)
        until(lambda: heard.payloads("tagger/city-1/yard/any/state")[-1:] == ["ON"], "it has begun")
        one.vanish()
        if forgets:
            broker.kill()
            broker.start()
        two.hears(2)
        ticked(two, lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "it has ended")
        until(two.is_idle, "the broker has all")
        heard.catch_up()
        assert events(heard) == TAKEN
        begin, end = heard.jsons("tagger/city-1/yard/event")
        assert begin["id"] == end["id"]
    with subscribed(broker.port, "tagger/city-1/#") as late:
        late.catch_up()
        left = {message.topic: message.payload for _, message in late.messages}
        assert left.keys() <= {"tagger/city-1/status", "tagger/city-1/yard/open"}, "none of its states stays"
    two.leaves()
    two.close()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_much_that_is_open_is_ended_by_the_next_owner(broker: Mosquitto, version: str) -> None:
    """Its message is longer than what is taken from a broker elsewhere."""
    one, two = (Worker(broker, node, version=version, model="m" * 4_000) for node in ("city-1", "city-2"))
    begins = [replace(BEGIN, id=f"01HZ00000000000000000000{number:02d}") for number in range(40)]
    with subscribed(broker.port, "tagger/+/yard/event", retry_s=0.1) as heard:
        one.hears(1)
        for begin in begins:
            one.event(begin)
        until(lambda: len(heard.messages) == len(begins), "they have begun")
        until(one.is_idle, "it knows that the broker has the begins")
        one.vanish()
        two.hears(2)
        ticked(two, lambda: len(heard.messages) == 2 * len(begins), "they have ended")
        assert {each["id"] for each in heard.jsons("tagger/city-1/yard/event") if each["type"] == "end"} == {
            each.id for each in begins
        }
    two.leaves()
    two.close()


def test_a_worker_that_was_held_up_ends_nothing_that_another_has_taken(broker: Mosquitto, tmp_path: Path) -> None:
    one, two = Worker(broker, "city-1", tmp_path / "one.sqlite"), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#") as heard:
        one.hears(1)
        one.event(BEGIN)
        until(lambda: len(heard.jsons("tagger/city-1/yard/event")) == 1, "it has begun")
        two.hears(2)
        ticked(two, lambda: one.forgotten, "the first knows that it was taken")
        one.event(OWN_END)
        one.leaves()
        one.close()
        until(two.is_idle, "the broker has all")
        heard.catch_up()
        assert events(heard) == TAKEN
        two.leaves()
        two.close()
    with subscribed(broker.port, "tagger/#") as late:
        late.catch_up()
        assert {message.topic for _, message in late.messages} == {"tagger/city-1/status", "tagger/city-2/status"}


def test_an_end_that_waits_on_the_disk_of_a_worker_that_comes_back_is_not_sent_once_it_was_taken(
    broker: Mosquitto, tmp_path: Path
) -> None:
    outbox = tmp_path / "one.sqlite"
    one, two = Worker(broker, "city-1", outbox), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#") as heard:
        one.begins(heard)
        one.vanish()
        one.event(OWN_END)
        until(lambda: not one.is_idle(), "its end waits")
        two.hears(2)
        ticked(two, lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "the other has ended it")
        until(two.is_idle, "the broker has all")
        again = Worker(broker, "city-1", outbox)
        again.journal.restore(again.stream, OWN_END)
        until(again.is_idle, "nothing waits any more")
        until(lambda: again.forgotten == [BEGIN], "it is forgotten")
        heard.catch_up()
        assert events(heard) == TAKEN
        for each in (again, two):
            each.leaves()
            each.close()


def test_what_an_owner_that_dies_as_well_had_taken_is_ended_by_the_third(broker: Mosquitto) -> None:
    one, two, three = (Worker(broker, f"city-{i}") for i in (1, 2, 3))
    with subscribed(broker.port, "tagger/#") as heard:
        one.hears(1)
        one.event(BEGIN)
        until(lambda: len(heard.jsons("tagger/city-1/yard/event")) == 1, "it has begun")
        one.vanish()
        two.is_dying = True  # just before it publishes the end
        two.hears(2)
        ticked(two, lambda: '"taken"' in heard.payloads("tagger/city-1/yard/open")[-1], "the second has taken it")
        two.vanish()
        three.hears(3)
        ticked(three, lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "the third has ended it")
        until(three.is_idle, "the broker has all")
        heard.catch_up()
        assert events(heard) == TAKEN
        assert heard.payloads("tagger/city-1/yard/any/state")[-1] == ""
    three.leaves()
    three.close()


def test_a_stream_that_was_given_up_in_good_order_is_not_ended_again(broker: Mosquitto) -> None:
    one, two = Worker(broker, "city-1"), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#") as heard:
        one.hears(1)
        one.event(BEGIN)
        one.event(OWN_END)
        one.leaves()
        until(lambda: heard.payloads("tagger/city-1/yard/open")[-1:] == [""], "nothing is open")
        two.hears(2)
        for _ in range(3):
            two.journal.tick()
        two.leaves()
        for each in (one, two):
            each.close()
        heard.catch_up()
        assert events(heard) == [("city-1", "begin", None), ("city-1", "end", None)]


def test_what_another_fleet_or_anybody_else_says_changes_nothing(broker: Mosquitto) -> None:
    two = Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#") as heard:
        for i, payload in enumerate(STRANGE):
            heard.publish(f"tagger/town-{i}/yard/open", payload, retain=True)
        two.hears(2)
        until(lambda: heard.payloads("tagger/city-2/yard/open"), "it hears the stream")
        two.journal.tick()
        two.leaves()
        two.close()
        heard.catch_up()
        assert {message.topic.split("/")[1] for _, message in heard.messages if not message.payload} <= {"city-2"}


def test_a_worker_ends_what_an_earlier_run_left_open_of_a_stream_that_nobody_has(broker: Mosquitto) -> None:
    began = time.time() - 10
    one = Worker(broker, "city-1")
    with subscribed(broker.port, "tagger/#") as heard:
        one.hears(1)
        one.event(replace(BEGIN, onset=began))
        until(lambda: len(heard.jsons("tagger/city-1/yard/event")) == 1, "it has begun")
        one.vanish()
        again = Worker(broker, "city-1")
        ticked(again, lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "it has ended")
        until(again.is_idle, "the broker has all")
        again.close()
        heard.catch_up()
        assert events(heard) == TAKEN
        assert heard.payloads("tagger/city-1/yard/open")[-1] == ""
        assert 10 <= heard.jsons("tagger/city-1/yard/event")[-1]["duration_s"] < 100


def test_the_states_of_a_machine_that_comes_back_without_its_disk_are_removed_by_the_next_owner(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ALONE_SECONDS", 1_000.0)
    one, two = Worker(broker, "city-1"), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#") as heard:
        one.hears(1)
        until(lambda: heard.payloads("tagger/city-1/yard/status")[-1:] == ["online"], "it is heard")
        one.vanish()
        again = Worker(broker, "city-1")
        until(lambda: heard.payloads("tagger/city-1/status").count("online") == 2, "it is back")
        two.hears(2)
        ticked(two, lambda: heard.payloads("tagger/city-1/yard/status")[-1] == "", "its states are removed")
        until(lambda: heard.payloads("tagger/city-1/yard/open")[-1] == "", "nothing is open")
        two.leaves()
        for each in (again, two):
            each.close()
    with subscribed(broker.port, "tagger/#") as late:
        late.catch_up()
        assert {message.topic for _, message in late.messages} == {"tagger/city-1/status", "tagger/city-2/status"}


def test_ends_that_wait_on_the_disk_of_a_worker_are_named_again_to_a_broker_that_has_forgotten_all(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """So others, who remember that the event was open, see that it is ended."""
    outbox = tmp_path / "one.sqlite"
    one = Worker(broker, "city-1", outbox)
    with subscribed(broker.port, "tagger/#", retry_s=0.1) as heard:
        one.begins(heard)
        one.vanish()
        one.event(OWN_END)
        until(lambda: not one.is_idle(), "its end waits")
        forgets_all(broker, heard)
        Worker(broker, "city-1", outbox)
        until(lambda: heard.payloads("tagger/city-1/yard/open")[-1] == "", "nothing is open")
        assert BEGIN.id in heard.payloads("tagger/city-1/yard/open")[-2]
        assert events(heard) == [("city-1", "begin", None), ("city-1", "end", None)]


def test_what_others_remember_is_ended_by_a_worker_that_comes_back_without_its_disk_to_a_broker_that_has_forgotten_all(
    broker: Mosquitto,
) -> None:
    one, two, three = (Worker(broker, f"city-{i}") for i in (1, 2, 3))
    with subscribed(broker.port, "tagger/#", retry_s=0.1) as heard:
        one.begins(heard)
        one.vanish()
        forgets_all(broker, heard)
        again = Worker(broker, "city-1")
        again.hears(2)
        ticked(again, lambda: len(heard.jsons("tagger/city-1/yard/event")) == 2, "it has ended")
        for each in (again, two, three):
            until(each.is_idle, "the broker has all")
        heard.catch_up()
        assert events(heard) == TAKEN
        until(lambda: '"events": []' in heard.payloads("tagger/city-1/yard/open")[-1], "nothing is said to be open")
        again.leaves()


def test_what_others_remember_is_ended_by_an_owner_that_came_after_the_broker_had_forgotten_all(
    broker: Mosquitto,
) -> None:
    one, two = Worker(broker, "city-1"), Worker(broker, "city-2")
    with subscribed(broker.port, "tagger/#", retry_s=0.1) as heard:
        one.begins(heard)
        one.vanish()
        forgets_all(broker, heard)
        three = Worker(broker, "city-3")
        three.hears(2)

        def is_ended() -> bool:
            two.journal.tick()
            return len(heard.jsons("tagger/city-1/yard/event")) == 2

        ticked(three, is_ended, "it has ended")
        for each in (two, three):
            until(each.is_idle, "the broker has all")
        heard.catch_up()
        assert events(heard) == TAKEN
        three.leaves()
