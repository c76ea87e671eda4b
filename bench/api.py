"""Holds the page's interface against its own OpenAPI document with schemathesis, as owner, as guest and as nobody.

    pip install schemathesis          # in an environment of its own: it is no part of the tests
    python bench/api.py [--schemathesis PROGRAM] [--examples 50] [--only owner] [--seed N]

A daemon is started with a login, clips, events and scores. What is asked is made of the document, and wrong in all
ways: each answer must have a status, a type and a body that the document tells. `/api/live` never ends, and is left
out: tests/web has it. Exit code 1: an answer was another.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.attack.target import SOURCE, Target, target
from bench.attack.wire import Pace
from tagger.web import openapi

_LEFT_OUT = (
    "ignored_auth",  # wrong passwords close the door for the right one; bench/attack has them
    "positive_data_acceptance",  # a name of a source or an id of a clip that is made up is none
)


def _who(attacked: Target) -> dict[str, dict[str, str]]:
    return {"owner": attacked.owner, "guest": attacked.guest, "nobody": {}}


def _document(attacked: Target) -> Any:
    """The page's document, in which names and ids that exist are offered beside all others."""
    known = {"name": [SOURCE], "source": [SOURCE], "label": ["Siren", "Dog"], "id": attacked.clips()[:3]}
    made = openapi.document()
    for methods in made["paths"].values():
        for operation in methods.values():
            for each in operation.get("parameters", ()):
                if each["name"] in known:
                    each["schema"] = {"anyOf": [{"enum": known[each["name"]]}, each["schema"]]}
    return json.loads(json.dumps(made))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemathesis", default=shutil.which("schemathesis"), help="the program")
    parser.add_argument("--examples", type=int, default=50, help="most requests of each kind to each path")
    parser.add_argument("--only", choices=("owner", "guest", "nobody"))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.schemathesis is None:
        raise SystemExit("schemathesis is missing: pip install schemathesis, or name it with --schemathesis PROGRAM")
    wrong = []
    with tempfile.TemporaryDirectory() as folder, target(Path(folder), Pace(100)) as attacked:
        document = Path(folder) / "openapi.json"
        document.write_text(json.dumps(_document(attacked)))
        for who, headers in _who(attacked).items():
            if given.only in (None, who):
                print(f"== as {who}", flush=True)
                command = [given.schemathesis, "run", document, "--url", attacked.origin, "--exclude-path", "/api/live"]
                command += ["--exclude-checks", ",".join(_LEFT_OUT), "--max-examples", given.examples]
                command += ["--seed", given.seed, "--continue-on-failure", "--report-dir", folder]
                for name, value in headers.items():
                    command += ["--header", f"{name}: {value}"]
                if subprocess.run([*map(str, command)], cwd=folder, env=os.environ, check=False).returncode:
                    wrong.append(who)
    print(f"wrong answers to: {', '.join(wrong)}" if wrong else "all answers are as the document says")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
