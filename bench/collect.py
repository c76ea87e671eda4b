"""Collectors that are killed, a broker and a database that restart: what is in the database in the end, and how fast.

    python bench/collect.py              100,000 events of 50 nodes through three collectors, with deaths
    python bench/collect.py --speed      how many events a second one and three collectors write, undisturbed

Needs Mosquitto and PostgreSQL (apt install mosquitto postgresql), and the extra `dev`.
"""

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
    database, collectors = _collectors(number, postgres, broker, folder)
    nodes = Nodes(broker.port, machines)
    begun = time.monotonic()
    for _ in range(events // 1_000):
        nodes.publish(1_000)
        until(lambda: nodes.on_their_way < 5_000, "the broker keeps up", _LONG_S)
    until(lambda: ended(database) == len(nodes.ids), "all are written", _LONG_S)
    took = time.monotonic() - begun
    print(f"{number} collector(s): {len(nodes.ids):,} events, {2 * len(nodes.ids):,} messages, in {took:.1f} s: "
          f"{len(nodes.ids) / took:,.0f} events a second")  # fmt: skip
    nodes.close()
    for each in collectors:
        each.stop()


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
