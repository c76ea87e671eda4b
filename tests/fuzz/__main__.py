"""Every fuzzer: `scripts/fuzz --inputs 10000 --seed 1`. Exit code 1 if anything was found."""

import argparse
import faulthandler
import importlib
import pkgutil
import sys
import time

HANG_S = 60
"""A fuzzer that says nothing for so long hangs: where is shown, and the command ends."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds damaged inputs to everything that reads one.")
    parser.add_argument("--inputs", type=int, default=1000, help="inputs for each fuzzer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one fuzzer by its name, such as audio")
    options = parser.parse_args()
    package = sys.modules["tests.fuzz"]
    fuzzers = {}
    for module in pkgutil.iter_modules(package.__path__, "tests.fuzz."):
        if module.name != __spec__.name and (found := getattr(importlib.import_module(module.name), "fuzz", None)):
            fuzzers[module.name.rpartition(".")[2]] = found
    problems = 0
    for name, fuzz in fuzzers.items():
        if options.only not in (None, name):
            continue
        began = time.monotonic()
        faulthandler.dump_traceback_later(HANG_S + options.inputs, exit=True)
        for problem in fuzz(options.inputs, options.seed):
            print(problem, flush=True)
            problems += 1
        print(f"{name}: {options.inputs} inputs in {time.monotonic() - began:.0f} s", flush=True)
        faulthandler.cancel_dump_traceback_later()
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
