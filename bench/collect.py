"""Collectors that are killed, a broker and a database that restart: what is in the database in the end, and how fast.

    python bench/collect.py              100,000 events of 50 nodes through three collectors, with deaths
    python bench/collect.py --speed      how many events a second one and three collectors write, back at a full broker

Needs Mosquitto and PostgreSQL (apt install mosquitto postgresql), and the extra `dev`.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.collect.postgres import Postgres
from tests.collect.test_collect import BROKER, Collecting, Nodes, ended
from tests.programs import Mosquitto, until

_LONG_S = 3_600.0


@click.command()
@click.option("--events", default=100_000, show_default=True)
@click.option("--nodes", "machines", default=50, show_default=True)
@click.option("--speed", is_flag=True, help="Kill nothing; measure one and three collectors.")
def main(events: int, machines: int, speed: bool) -> None:
    """Prints what is in the database in the end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        postgres = Postgres(folder)
        try:
            with Mosquitto(folder, *BROKER, f"persistence_location {folder}/") as broker:
                if speed:
                    for collectors in (1, 3):
                        _speed(events, machines, collectors, postgres, broker, folder)
                else:
                    _deaths(events, machines, postgres, broker, folder)
        finally:
            postgres.stop(signal.SIGQUIT)


def _collectors(number: int, postgres: Postgres, broker: Mosquitto, folder: Path) -> tuple[str, list[Collecting]]:
    database, name = postgres.made(), f"group{number}"
    found = [Collecting(database, broker, f"{name}-{i}", folder, "--group", name) for i in range(number)]
    for each in found:
        until(lambda each=each: "collecting" in each.said, "the collector is there", _LONG_S)  # type: ignore[misc]
    return database, found


def _speed(events: int, machines: int, number: int, postgres: Postgres, broker: Mosquitto, folder: Path) -> None:
    """The collectors go away, the broker gets all events, and the collectors come back: nobody else works then."""
    database, collectors = _collectors(number, postgres, broker, folder)
    for each in collectors:
        each.kill()
    nodes = Nodes(broker.port, machines)
    for _ in range(events // 1_000):
        nodes.publish(1_000)
        until(lambda: nodes.on_their_way < 5_000, "the broker keeps up", _LONG_S)
    nodes.settle()
    nodes.close()
    others = {"Mosquitto": broker.pid, "PostgreSQL": postgres.pid}
    idle, before = postgres.children, {name: _processor_s(pid) for name, pid in others.items()}
    for each in collectors:
        each.start()
    with psycopg.connect(database, autocommit=True) as connection:

        def written() -> int:
            row = connection.execute('SELECT count(*) FROM events WHERE "offset" IS NOT NULL').fetchone()
            return int(row[0]) if row else 0

        until(lambda: written() > 0, "the first are written", _LONG_S)
        at, begun, spent = written(), time.monotonic(), sum(_processor_s(each.pid) for each in collectors)
        while (now := written()) < len(nodes.ids):
            time.sleep(0.5)
        took, count = time.monotonic() - begun, now - at
        (size,) = connection.execute("SELECT pg_total_relation_size('events')").fetchone() or (0,)
    spent = sum(_processor_s(each.pid) for each in collectors) - spent
    for each in collectors:
        each.stop()
    until(lambda: postgres.children == idle, "PostgreSQL's processes for them have ended", _LONG_S)
    costs = {"collectors": spent / count}
    costs |= {name: (_processor_s(pid) - before[name]) / len(nodes.ids) for name, pid in others.items()}
    shown = ", ".join(f"{name} {1e6 * each:.0f} us" for name, each in costs.items())
    print(f"{number} collector(s): {count:,} events, begin and end, in {took:.1f} s: {count / took:,.0f} a second; "
          f"processor time of an event: {shown}; {size / len(nodes.ids):.0f} bytes in the database")  # fmt: skip


def _processor_s(pid: int) -> float:
    """Processor time of a process and of its children that have ended, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _deaths(events: int, machines: int, postgres: Postgres, broker: Mosquitto, folder: Path) -> None:
    database, collectors = _collectors(3, postgres, broker, folder)
    nodes, is_over, killed = Nodes(broker.port, machines), threading.Event(), 0

    def kill() -> None:
        nonlocal killed
        while not is_over.wait(5):
            one = random.choice(collectors)
            one.kill()
            one.start()
            killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    begun, restarts = time.monotonic(), []
    for part in range(100):
        nodes.publish(events // 100)
        until(lambda: nodes.on_their_way < 5_000, "the broker keeps up", _LONG_S)
        if part in (20, 60):
            postgres.stop(signal.SIGQUIT)
            time.sleep(3)
            postgres.start()
            restarts.append("PostgreSQL")
        if part in (40, 80):
            nodes.settle()
            before = [each.said.count("collecting") for each in collectors]
            broker.restart()
            for each, times in zip(collectors, before, strict=True):
                until(lambda each=each, times=times: each.said.count("collecting") > times, "it is back", _LONG_S)  # type: ignore[misc]
            restarts.append("broker")
        print(
            f"\r{len(nodes.ids):,} events published, {ended(database):,} written, {killed} killed ",
            end="",
            file=sys.stderr,
        )
    until(lambda: ended(database) >= len(nodes.ids), "all are written", _LONG_S)
    is_over.set()
    killer.join()
    with psycopg.connect(database) as connection:
        found = [str(row[0]) for row in connection.execute("SELECT id FROM events").fetchall()]
    print(f"\n{len(nodes.ids):,} events of {machines} nodes in {time.monotonic() - begun:.0f} s; "
          f"{killed} times a collector killed; restarted: {', '.join(restarts)}")  # fmt: skip
    print(f"in the database: {len(found):,} rows; missing {len(set(nodes.ids) - set(found))}, "
          f"doubled {len(found) - len(set(found))}, strange {len(set(found) - set(nodes.ids))}")  # fmt: skip
    nodes.close()
    for each in collectors:
        each.stop()
    if sorted(found) != sorted(nodes.ids):
        sys.exit(1)


if __name__ == "__main__":
    main()
