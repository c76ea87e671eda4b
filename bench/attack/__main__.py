"""Attacks the live page as somebody would who shall not be let in, and says what was tried and what gave way.

    python -m bench.attack [--minutes 10] [--only PART] [--rate 50]

A daemon is started with a login, clips, events and scores; all requests go over the wire. After each round of all
parts it is looked at: it lives, holds no more than at first, and nothing leaked, changed or opened. Exit code 1:
something gave way. The parts `markup` and `other_site` need Debian's Chromium and `scripts/setup dev`.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.attack import bodies, browser, headers, logins, paths, readers
from bench.attack.target import Target, target
from bench.attack.wire import Pace, Tries

Part = Callable[[Target, Tries, random.Random], None]
PARTS: dict[str, Part] = {
    each.__name__: each
    for each in (
        *(paths.paths, paths.clips, headers.headers, headers.smuggling, headers.sites, bodies.bodies, bodies.noise),
        *(readers.readers, readers.connections, browser.markup, browser.other_site, logins.logins),
    )
}


def _show(name: str, tries: Tries, seconds: float) -> None:
    print(f"{name}: {tries.answers.total():,} in {seconds:.0f} s {json.dumps(tries.answers)}", flush=True)
    for each in tries.notes:
        print(f"  {each}", flush=True)
    for each in tries.gave_way[:20]:
        print(f"  GAVE WAY {each}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="begin no part after so many minutes")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rate", type=float, default=50, help="most requests a second")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, most), most))
    rng, totals, gave_way, rounds = random.Random(given.seed), dict[str, Counter[str]](), 0, 0
    parts = PARTS if given.only is None else {given.only: PARTS[given.only]}
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, target(Path(folder), Pace(given.rate)) as attacked:
        begin, busy = time.monotonic(), attacked.processor_seconds()
        while time.monotonic() - begin < 60 * given.minutes:
            for name, attack in parts.items():
                tries, start = Tries(), time.monotonic()
                attack(attacked, tries, rng)
                totals.setdefault(name, Counter()).update(tries.answers)
                gave_way += len(tries.gave_way)
                _show(name, tries, time.monotonic() - start)
                if time.monotonic() - begin > 60 * given.minutes:
                    break
            start, rounds = time.monotonic(), rounds + 1
            looked = attacked.look()
            gave_way += len(looked.gave_way)
            _show(f"after round {rounds}", looked, time.monotonic() - start)
        took, busy = time.monotonic() - begin, attacked.processor_seconds() - busy
    print(f"\n{took / 60:.0f} minutes, {rounds} rounds; the daemon took {100 * busy / took:.1f} % of a core")
    for name, answers in totals.items():
        print(f"{name}: {answers.total():,} {json.dumps(answers)}")
    print(f"{sum(each.total() for each in totals.values()):,} tried, {gave_way} gave way")
    sys.exit(1 if gave_way else 0)


if __name__ == "__main__":
    main()
