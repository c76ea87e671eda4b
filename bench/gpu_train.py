"""Trains the networks of docs/results.md on a GPU that is there for some minutes only.

    tagger models download mn04
    python bench/gpu_train.py ESC-50/ --background nontarget/train --out gpu/ [--what stream,crnn] [--minutes 9]
    python bench/gpu_train.py ESC-50/ --out tiny/ --device cpu --tiny       # every step; learns nothing

What is trained, of all clips and with each fold held out; `--what` names parts of it, with commas:

- `head`: a last layer on the frozen `mn04`.
- `finetune`: the recipe `finetune`.
- `crnn`: the recipe `crnn-pretrained`.
- `stream`, `stream-rooms`: `STREAMS`, the recipe `stream` as it is and with other settings. The windows that they learn
  from are made first, by many processes.

Trainings go on at the same time, each in a process of its own. When the time is over, all stop, with their state in
`--out`: the same command with the same folder goes on, and what was finished is kept. `--out` has `results.json`, and
`checkpoints-1.zip`, ... with everything that is finished, 15 MB each or less; `states-1.zip`, ... has the states of
what is not, 16 MB for each CRNN. These may also be all that is brought back: what is unpacked from them into `--out`
is not trained again, and what began goes on.

All processes together make about 110 steps of the CRNN's pretraining a second on an H200: 90 epochs of six networks
take ten minutes, with nothing beside them.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.gpu_plan import PARTS, Plan, tasks
from tagger.checkpoints.header import read_header
from tagger.errors import TaggerError
from tagger.files import replacing
from train.data.dataset import FOLDS
from train.fit.job import EVERYTHING

TO_STOP_S = 20.0
"""Time that processes have to save their state, seconds."""
EVERY_S = 60.0
ARCHIVE_BYTES = 15_000_000


def train(plan: Plan, seconds: float, processes: int) -> dict[str, Any]:
    """Does all tasks, as many at once as there may be; returns what `results.json` says. It is written every minute."""
    began = time.monotonic()
    plan.decode()
    print(f"decoded: {time.monotonic() - began:.0f} s", flush=True)
    context = multiprocessing.get_context("spawn")
    waiting, running = list(tasks(plan)), dict[str, BaseProcess]()
    ends, written_at = began + seconds - TO_STOP_S, began
    while (waiting or running) and time.monotonic() < ends:
        for name in [name for name, process in running.items() if not process.is_alive()]:
            print(f"{time.monotonic() - began:.0f} s: {name} ended, {running.pop(name).exitcode}", flush=True)
        unfinished = [*running, *(task.name for task in waiting)]
        ready = [task for task in waiting if not any(name.startswith(task.needs) for name in unfinished if task.needs)]
        for task in ready[: max(0, processes - len(running))]:
            running[task.name] = context.Process(target=task)
            running[task.name].start()
            waiting.remove(task)
        if time.monotonic() > written_at + EVERY_S:
            written(plan, time.monotonic() - began)
            written_at = time.monotonic()
        time.sleep(0.2)
    for process in running.values():
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGTERM)  # its state is saved
    for process in running.values():
        process.join(TO_STOP_S)
        process.kill()
    return written(plan, time.monotonic() - began)


def written(plan: Plan, seconds: float) -> dict[str, Any]:
    """Writes `results.json`, and archives, of everything that is finished; returns the former."""
    finished, files = plan.finished(), list[Path]()
    results: dict[str, Any] = {"seconds": round(seconds, 1), "tiny": plan.tiny}
    for part, paths in finished.items():
        found = {fold: read_header(path)["metrics"]["accuracy"] for fold, path in paths.items() if fold != EVERYTHING}
        mean = float(np.mean(list(found.values()))) if len(found) == len(FOLDS) else None
        results[part] = {"accuracy": found, "mean": mean}
        files += [each for path in paths.values() for each in sorted(path.parent.iterdir()) if each.is_file()]
    done = {path.parent for paths in finished.values() for path in paths.values()}
    states = [each for each in sorted(plan.out.glob("*/*/state/*/*.pt")) if each.parents[2] not in done]
    _pack(plan.out, "checkpoints", files)
    _pack(plan.out, "states", states)
    with replacing(plan.out / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def _pack(out: Path, name: str, files: Sequence[Path]) -> None:
    """Writes `NAME-1.zip`, ... of these files of the folder; a file that is larger than an archive has its own."""
    for old in out.glob(f"{name}-*.zip"):
        old.unlink()
    archives: list[list[Path]] = [[]]
    for each in files:
        if archives[-1] and sum(file.stat().st_size for file in [*archives[-1], each]) > ARCHIVE_BYTES:
            archives.append([])
        archives[-1].append(each)
    for number, members in enumerate(archives, 1):
        with replacing(out / f"{name}-{number}.zip") as partial, zipfile.ZipFile(partial, "w") as archive:
            for each in members:
                archive.write(each, each.relative_to(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--background", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--makers", type=int, default=6)
    parser.add_argument("--pretrain-epochs", type=int, default=0)
    parser.add_argument("--what", default=",".join(PARTS), help=f"parts, with commas: {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--fold", type=int, action="append", choices=FOLDS)
    given = parser.parse_args()
    what = tuple(given.what.split(","))
    if unknown := [part for part in what if part not in PARTS]:
        parser.error(f"--what {unknown[0]}: parts are {', '.join(PARTS)}")
    folds = tuple(given.fold or FOLDS)
    plan = Plan(
        given.data,
        given.out,
        given.device,
        given.tiny,
        given.background,
        folds,
        given.makers,
        given.pretrain_epochs,
        what,
    )
    try:
        print(json.dumps(train(plan, 60 * given.minutes, given.processes), indent=2))
    except TaggerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
