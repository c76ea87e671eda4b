"""`tagger collect` with a real broker and a real PostgreSQL, and what dies under it."""

import json
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from ulid import ULID

from tagger.collect.message import row_of
from tagger.history.log import EventLog, EventRow
from tagger.history.postgres import PostgresLog, shown
from tagger.times import rfc3339
from tests.collect.postgres import Postgres
from tests.programs import LONG_S, TAGGER, Mosquitto, refused, run, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

BROKER = ("allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0", "persistence true")
NODES = 5
HERE = "collecting $share/collect/tagger/+/+/event"


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps sessions on disk where it is ended in order."""
    with Mosquitto(tmp_path, *BROKER, f"persistence_location {tmp_path}/") as mosquitto:
        yield mosquitto


class Collecting:
    """`tagger collect` in its own process."""

    def __init__(self, database: str, broker: Mosquitto, name: str, folder: Path, *flags: str) -> None:
        self._command = [*TAGGER, "collect", database, "--mqtt", broker.url, "--client-id", name, *flags]
        self.log = folder / f"{name}.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stderr=log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(LONG_S)

    @property
    def said(self) -> str:
        return self.log.read_text()


class Nodes:
    """Publishes events as nodes do: each message is sent until the broker has acknowledged it."""

    def __init__(self, port: int, nodes: int = NODES) -> None:
        self._nodes = nodes
        self.ids: list[str] = []
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, "nodes", protocol=MQTTProtocolVersion.MQTTv311, clean_session=False
        )
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(0.1, 0.5)  # type: ignore[arg-type]
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def publish(self, events: int) -> None:
        """The begins and ends of events, mixed: an end comes some events after its begin."""
        last = None
        for _ in range(events):
            begin, end = self.messages(len(self.ids))
            for topic, message in [begin, *([last] if last is not None else [])]:
                self.client.publish(topic, json.dumps(message), 1)
            last = end
        if last is not None:
            self.client.publish(last[0], json.dumps(last[1]), 1)

    @property
    def on_their_way(self) -> int:
        """Number of messages that the broker has not acknowledged."""
        return len(self.client._out_messages)

    def settle(self) -> None:
        """Returns when the broker has acknowledged everything."""
        until(lambda: not self.on_their_way, "the broker has everything", LONG_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def messages(self, number: int) -> tuple[Any, Any]:
        node, identity, onset = f"node{number % self._nodes}", str(ULID()), 1_700_000_000.0 + number
        self.ids.append(identity)
        begin: dict[str, Any] = {"schema": 1, "type": "begin", "id": identity, "label": "dog", "score": 0.9}
        begin |= {
            "peak_score": 0.9,
            "onset": rfc3339(onset),
            "offset": None,
            "node": node,
            "source": "mic",
            "model": "m",
        }
        end = begin | {"type": "end", "score": 0.4, "peak_score": 0.95, "offset": rfc3339(onset + 2.5)}
        return (f"tagger/{node}/mic/event", begin), (f"tagger/{node}/mic/event", end)


def ended(database: str) -> int:
    """Number of events in the database that have an end."""
    try:
        with psycopg.connect(database, connect_timeout=5) as connection:
            row = connection.execute('SELECT count(*) FROM events WHERE "offset" IS NOT NULL').fetchone()
    except psycopg.Error:
        return -1
    return int(row[0]) if row else -1


def test_every_event_is_written_once_whatever_dies(
    database: str, postgres: Postgres, lasting: Mosquitto, tmp_path: Path
) -> None:
    collectors = [Collecting(database, lasting, f"collect{number}", tmp_path) for number in range(3)]
    for each in collectors:
        until(lambda each=each: HERE in each.said, "the collector is there", LONG_S)  # type: ignore[misc]
    nodes = Nodes(lasting.port)
    try:
        nodes.publish(300)
        collectors[0].kill()
        nodes.publish(300)
        collectors[0].start()
        postgres.stop(signal.SIGQUIT)
        nodes.publish(300)
        postgres.start()
        collectors[1].kill()
        nodes.publish(300)
        nodes.settle()
        until(lambda: collectors[0].said.count(HERE) > 1, "the first is back", LONG_S)
        before = [each.said.count(HERE) for each in collectors]
        lasting.restart()
        collectors[1].start()
        # Mosquitto 2.0.11 has forgotten shared subscriptions, though not what the sessions hold.
        for each, times in zip(collectors, before, strict=True):
            until(lambda each=each, times=times: each.said.count(HERE) > times, "it is back", LONG_S)  # type: ignore[misc]
        nodes.publish(300)
        nodes.settle()
        until(lambda: ended(database) == len(nodes.ids), "every event has its end", LONG_S)
        for each in collectors:
            assert each.stop() == 0, each.said
    finally:
        nodes.close()
        for each in collectors:
            each.kill()
    with psycopg.connect(database) as connection:
        rows = connection.execute('SELECT id, node, onset, "offset", score, peak_score FROM events').fetchall()
    assert sorted(row[0] for row in rows) == sorted(nodes.ids)
    by_id = {row[0]: row[1:] for row in rows}
    for number, identity in enumerate(nodes.ids):
        onset = 1_700_000_000.0 + number
        assert by_id[identity] == (f"node{number % NODES}", onset, onset + 2.5, 0.4, 0.95)


def test_what_is_no_event_is_left_out_and_said(database: str, broker: Mosquitto, tmp_path: Path) -> None:
    collector = Collecting(database, broker, "one", tmp_path)
    until(lambda: HERE in collector.said, "the collector is there", LONG_S)
    nodes = Nodes(broker.port)
    try:
        # The subscription may come after the first messages.
        until(lambda: nodes.publish(1) or ended(database) > 0, "an event is written", LONG_S)
        nodes.client.publish("tagger/node1/mic/event", b"no event", 1)
        nodes.client.publish("tagger/cellar/mic/event", json.dumps(nodes.messages(1)[0][1]), 1)
        until(lambda: "of another node than its topic" in collector.said, "both were refused", LONG_S)
        assert "tagger/node1/mic/event: a message is no JSON; left out (1 message so far)" in collector.said
        assert collector.stop() == 0
    finally:
        nodes.close()
        collector.kill()
    assert "2 left out, 0 waiting" in collector.said


def test_an_event_that_the_database_cannot_hold_keeps_no_other_from_it(
    database: str, broker: Mosquitto, tmp_path: Path
) -> None:
    PostgresLog(database).close()
    with psycopg.connect(database) as connection:  # somebody's own index, which some label cannot be in
        connection.execute("CREATE INDEX ON events ((1 / (length(label) - 3)))")
    collector = Collecting(database, broker, "one", tmp_path)
    until(lambda: HERE in collector.said, "the collector is there", LONG_S)
    nodes = Nodes(broker.port)
    try:
        topic, dog = nodes.messages(0)[1]
        until(
            lambda: [
                nodes.client.publish(topic, json.dumps(dog | {"id": str(ULID()), "label": label}), 1)
                for label in ("dog", "siren")
            ] and ended(database) > 2,
            "events besides are written",
            LONG_S,
        )  # fmt: skip
        nodes.settle()
        assert collector.stop() == 0
    finally:
        nodes.close()
        collector.kill()
    assert "the database cannot hold event 01" in collector.said
    assert "division by zero; left out (1 message so far)" in collector.said
    assert ", 0 waiting" in collector.said
    assert "Traceback" not in collector.said


def test_the_longest_names_are_held(database: str) -> None:
    payload = {"schema": 1, "type": "begin", "id": str(ULID()), "score": 0.5, "peak_score": 0.5, "model": "m"}
    rng = random.Random(1)  # letters of four bytes that no compression shortens
    names = {
        key: "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(300)) for key in ("node", "source", "label")
    }
    topic, message = f"tagger/{names['node']}/x/event", payload | names | {"onset": "2026-11-27T10:00:00+00:00"}
    with closing(PostgresLog(database)) as log:
        log.write([row_of(topic, json.dumps(message).encode())])


def test_a_database_that_lacks_letters_is_refused(postgres: Postgres, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    refused(
        run("collect", postgres.url("latin"), "--mqtt", "mqtt://127.0.0.1:1"), "holds text as LATIN1", "ENCODING 'UTF8'"
    )


def test_events_lists_the_database_as_it_lists_a_file(database: str, tmp_path: Path) -> None:
    rows = [
        EventRow(str(ULID()), f"n{i % 2}", "mic", "dog" if i % 3 else "siren", 1_700_000_000.0 + 60 * i,
                 None if i == 7 else 1_700_000_002.5 + 60 * i, 0.5, 0.25 + i / 20, "m", "test" if i == 5 else None)
        for i in range(12)
    ]  # fmt: skip
    log, many = EventLog(tmp_path / "events.sqlite"), PostgresLog(database)
    with closing(log), closing(many):
        log.write(rows)
        many.write(rows)
        many.write(rows[:3])  # again: changes nothing
    asked: list[list[str]] = [
        *([], ["--json"], ["--count"], ["--count", "--json"], ["--last", "3"], ["--day", "2023-11-14", "--chart"]),
        *(["--label", "dog", "--node", "n1"], ["--min-score", "0.5", "--min-s", "1"], ["--since", "2023-11-14T22:20Z"]),
    ]
    for flags in asked:
        ours, theirs = run("events", tmp_path / "events.sqlite", *flags), run("events", database, *flags)
        assert (ours.exit_code, ours.stdout, ours.stderr) == (theirs.exit_code, theirs.stdout, theirs.stderr), flags
        assert ours.exit_code == 0
        assert ours.stdout
    refused(run("events", database, "--label", "dgo"), "did you mean dog")


def test_an_end_completes_its_event_and_nobody_elses(database: str) -> None:
    begin = EventRow(str(ULID()), "attic", "mic", "dog", 10.0, None, 0.9, 0.9, "m", None)
    end = EventRow(begin.id, "attic", "mic", "dog", 10.0, 12.0, 0.3, 0.95, "m", "restart")
    other = EventRow(begin.id, "cellar", "mic", "cat", 10.0, 99.0, 1.0, 1.0, "m", None)
    with closing(PostgresLog(database)) as log:
        for row in (begin, other, end, begin, other, end):
            log.write([row])
    with psycopg.connect(database) as connection:
        found = connection.execute('SELECT node, label, "offset", score, peak_score, cause FROM events').fetchall()
        times = connection.execute("SELECT extract(epoch FROM began), extract(epoch FROM ended) FROM events").fetchall()
    assert found == [("attic", "dog", 12.0, 0.3, 0.95, "restart")]
    assert [tuple(map(float, row)) for row in times] == [(10.0, 12.0)]


STAND_IN = """
CREATE FUNCTION create_hypertable(
    relation regclass, time_column_name name, chunk_time_interval interval, migrate_data boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = relation AND indisunique AND NOT (
        SELECT attnum FROM pg_attribute WHERE attrelid = relation AND attname = time_column_name) = ANY (indkey)) THEN
        RAISE 'cannot create a unique index without the column "%" (used in partitioning)', time_column_name;
    END IF;
    EXECUTE format('COMMENT ON TABLE %s IS %L', relation, format('%s %s', time_column_name, chunk_time_interval));
END $$
"""
"""What TimescaleDB, which Debian does not have, asks of a table; it makes no chunks."""


@pytest.mark.parametrize("is_filled", [False, True], ids=["new", "of the version before"])
def test_a_hypertable_holds_each_event_once_too(database: str, is_filled: bool) -> None:
    at = 1_795_000_000.0
    begin = EventRow(str(ULID.from_timestamp(at)), "attic", "mic", "dog", at, None, 0.9, 0.9, "m", None)
    end = EventRow(begin.id, "attic", "mic", "dog", at + 1, at + 2, 0.3, 0.95, "m", None)  # another onset: no matter
    other = EventRow(begin.id, "cellar", "mic", "cat", at, at + 99, 1.0, 1.0, "m", None)
    if is_filled:
        with closing(PostgresLog(database)) as log:
            log.write([begin])
    with psycopg.connect(database) as connection:
        connection.execute(STAND_IN)
        if is_filled:
            connection.execute("DELETE FROM tagger_schema WHERE version > 1")
    with closing(PostgresLog(database)) as log:
        for row in (begin, other, end, begin, end, other):
            log.write([row])
    with psycopg.connect(database) as connection:
        found = connection.execute('SELECT node, onset, "offset", peak_score, extract(epoch FROM made) FROM events')
        assert [(*row[:4], float(row[4])) for row in found] == [("attic", at, at + 2, 0.95, at)]
        (said,) = connection.execute("SELECT obj_description('events'::regclass)").fetchone() or ("",)
        assert said == "made 7 days"
    assert json.loads(run("events", database, "--json").stdout)["id"] == begin.id


def test_many_collectors_make_the_tables_together(database: str) -> None:
    logs: list[PostgresLog] = []
    threads = [threading.Thread(target=lambda: logs.append(PostgresLog(database))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in logs:
        each.close()
    assert len(logs) == len(threads)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("secret", "wrong"), ["password authentication failed", "check"]),
        (lambda url: url + "_gone", ["does not exist"]),
        (lambda url: "sqlite://x", ["no URL of a PostgreSQL database"]),
        (lambda url: url + "?sslmode=nonsense", ["nonsense"]),
    ],
)
def test_a_database_that_refuses_is_said_in_one_line_without_its_password(
    database: str, change: Any, words: list[str]
) -> None:
    done = run("collect", change(database), "--mqtt", "mqtt://127.0.0.1:1")
    refused(done, *words)
    assert "secret" not in done.output
    assert "wrong" not in done.output


def test_a_database_that_is_not_there_yet_is_waited_for(broker: Mosquitto, tmp_path: Path) -> None:
    collector = Collecting("postgresql://127.0.0.1:1/sounds", broker, "one", tmp_path)
    try:
        until(lambda: "the broker keeps the events; trying again" in collector.said, "it waits", LONG_S)
        assert "WARNING: collect: postgresql://127.0.0.1:1/sounds: connection failed" in collector.said
        assert collector.stop() == 0
    finally:
        collector.kill()


def test_newer_tables_and_foreign_databases_are_refused(database: str) -> None:
    refused(run("events", database), "has no events; `tagger collect` writes them")
    PostgresLog(database).close()
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO tagger_schema (version) VALUES (9999)")
    for command in ("events", "collect"):
        refused(run(command, database), "written by a newer version of tagger")


@pytest.mark.parametrize("flags", [["--mqtt", "none"], ["--mqtt", "embedded"]])
def test_a_broker_of_its_own_has_nothing_to_collect(flags: list[str]) -> None:
    refused(run("collect", "postgresql://127.0.0.1/x", *flags), "needs a broker that others publish to")


def test_a_group_is_one_level_of_a_topic() -> None:
    refused(run("collect", "postgresql://127.0.0.1/x", "--group", "a/#"), "--group a/#")


def test_the_only_collector_is_in_no_group() -> None:
    given = ("--alone", "--group", "collect")
    refused(run("collect", "postgresql://127.0.0.1/x", *given), "--alone and --group exclude each other")


def test_a_url_is_shown_without_its_secrets() -> None:
    assert shown("postgresql://me:pw@db:5/x?sslpassword=y") == "postgresql://db:5/x"
    assert shown("postgresql:///x") == "postgresql:///x"
    assert "pw" not in shown("postgresql://me:pw@[::1/x")


def test_the_password_is_off_the_command_line(database: str, broker: Mosquitto, tmp_path: Path) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc")
    collector = Collecting(database, broker, "one", tmp_path)
    try:
        until(lambda: HERE in collector.said, "the collector is there", LONG_S)
        seen = Path(f"/proc/{collector.process.pid}/cmdline").read_bytes()
        assert b"collect" in seen
        assert b"secret" not in seen
        assert "better: PGPASSWORD" in collector.said
        assert ":secret" not in collector.said
    finally:
        collector.kill()


def test_the_only_collector_misses_nothing_while_it_is_away(database: str, lasting: Mosquitto, tmp_path: Path) -> None:
    collector = Collecting(database, lasting, "one", tmp_path, "--alone")
    nodes = Nodes(lasting.port)
    try:
        until(lambda: HERE.partition("/collect/")[2] in collector.said, "the collector is there", LONG_S)
        collector.kill()
        nodes.publish(20)
        nodes.settle()
        lasting.restart()
        nodes.publish(20)
        nodes.settle()
        collector.start()
        until(lambda: ended(database) == len(nodes.ids) == 40, "every event has its end", LONG_S)
    finally:
        nodes.close()
        collector.kill()


def test_a_collector_that_leaves_hands_over_what_the_broker_held_for_it(
    database: str, broker: Mosquitto, tmp_path: Path
) -> None:
    one, other = Collecting(database, broker, "one", tmp_path), Collecting(database, broker, "other", tmp_path)
    nodes = Nodes(broker.port)
    try:
        for each in (one, other):
            until(lambda each=each: HERE in each.said, "the collector is there", LONG_S)  # type: ignore[misc]
        one.kill()
        nodes.publish(20)  # half of the messages are the dead one's
        nodes.settle()
        assert ended(database) < 20
        left = run("collect", database, "--mqtt", broker.url, "--client-id", "one", "--leave")
        assert left.exit_code == 0, left.output
        assert ended(database) == 20
        nodes.publish(20)
        until(lambda: ended(database) == 40, "all go to the other", LONG_S)
    finally:
        nodes.close()
        for each in (one, other):
            each.kill()
