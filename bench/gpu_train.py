"""Trains two networks on all five folds of ESC-50, on one GPU that is there for some minutes only.

    python bench/gpu_train.py pack ESC-50/ clips.zip               # where the data is: 16 kHz, about 45 MB
    tagger models download mn04
    python bench/gpu_train.py train clips.zip --out gpu/ [--minutes 9.5]   # where the GPU is
    python bench/gpu_train.py train ESC-50/ --out tiny/ --device cpu --tiny       # every step; learns nothing

Each fold trains `mn04`, the whole network, gently and long, with a moving average of its weights; and then the CRNN,
which that fold's `mn04` teaches. All folds go on at the same time, each in a process of its own, since one fold does
not fill a GPU: clips are prepared on the processor.

When the time is over, all stop, with their state in `--out`: the same command with the same folder goes on, and what
was finished is kept. `--out` has `results.json`, and `checkpoints.zip` with every finished checkpoint. That archive
may also be all that is brought back: finished folds that are unpacked from it into `--out` are not trained again.

The settings of `mn04` are those of its authors for ESC-50 (80 epochs, a low rate), not chosen by us.
"""

import argparse
import io
import json
import multiprocessing
import os
import signal
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger.audio.decode import decode
from tagger.checkpoints.header import read_header
from tagger.errors import TaggerError
from tagger.files import replacing
from tagger.progress import counted
from train.data import esc50, waveforms
from train.data.dataset import FOLDS
from train.fit.backbone import load_backbone
from train.fit.job import WINDOW_SECONDS, Job
from train.fit.run import run
from train.fit.trainer import TrainingStoppedError
from train.messages import Say
from train.recipe import named

PACKED_HZ = 16_000
COMPRESSION = 0.7
"""0 to 1; libsndfile's for Vorbis."""
TO_STOP_S = 20.0
"""Time that processes have to save their state, seconds."""
WHOLE = {
    "epochs": "80",
    "patience": "80",
    "batch": "64",
    "frozen_blocks": "0",
    "learning_rate": "1e-4",
    "average": "0.999",
    "start_share": "0",
    "warmup_epochs": "5",
}
TINY = {"epochs": "1", "batch": "8", "crop_seconds": "0.5"}


@dataclass(frozen=True)
class Plan:
    """What is trained, where and how. Processes get it."""

    data: Path
    out: Path
    device: str = "auto"
    tiny: bool = False

    def jobs(self, fold: int) -> list[Job]:
        """The trainings of a fold, in their order: the teacher, and its student."""
        dataset = esc50.read(self.data)
        teacher, student = self.folder("mn04", fold), self.folder("crnn", fold)
        common: dict[str, Any] = {"dataset": dataset, "folds": (fold,), "device": self.device, "resume": True}
        whole = named("finetune", TINY | {"frozen_blocks": "0"} if self.tiny else WHOLE)
        network: dict[str, Any] = {"model": "mn01", "start": "nothing"} if self.tiny else {"model": "mn04"}
        taught = named("crnn-distilled", TINY | {"stored_views": "1"} if self.tiny else {})
        return [
            Job(recipe=whole, recipe_name="finetune", output=teacher, **network, **common),
            Job(
                model="crnn",
                recipe=taught,
                recipe_name="crnn-distilled",
                output=student,
                teacher=str(teacher / f"fold{fold}.safetensors"),
                **common,
            ),
        ]

    def folder(self, network: str, fold: int) -> Path:
        return self.out / network / f"fold{fold}"

    def finished(self) -> dict[str, dict[int, Path]]:
        """By network and fold: checkpoints that are there."""
        return {
            network: {
                fold: path
                for fold in FOLDS
                if (path := self.folder(network, fold) / f"fold{fold}.safetensors").is_file()
                and path.with_name(f"esc50-fold{fold}.npz").is_file()
            }
            for network in ("mn04", "crnn")
        }


def trained(plan: Plan, fold: int, say: Say) -> None:
    """Trains both networks of a fold, or what is left of them.

    Raises:
        TrainingStoppedError: by SIGINT or SIGTERM.
    """
    for job in plan.jobs(fold):
        if not job.is_done(fold):
            run(job, say)


def _process(plan: Plan, fold: int, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        trained(plan, fold, lambda text: print(f"fold {fold}: {text}", flush=True))
    except TrainingStoppedError as error:
        print(f"fold {fold}: {error}", flush=True)


def train(plan: Plan, folds: Sequence[int], seconds: float) -> dict[str, Any]:
    """Trains all folds at once for so long; returns what `results.json` says."""
    began = time.monotonic()
    recipe = named("finetune", {})
    rate_hz = load_backbone("crnn", None, recipe).mel.sample_rate_hz
    waveforms.load(esc50.read(plan.data), rate_hz, WINDOW_SECONDS, True, print)  # once, and not in every process
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // len(folds))
    processes = [context.Process(target=_process, args=(plan, fold, threads)) for fold in folds]
    for process in processes:
        process.start()
    ends = began + seconds - TO_STOP_S
    for process in processes:
        process.join(max(0.0, ends - time.monotonic()))
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGTERM)  # its state is saved
    for process in processes:
        process.join(TO_STOP_S)
        process.kill()
    return written(plan, time.monotonic() - began)


def written(plan: Plan, seconds: float) -> dict[str, Any]:
    """Writes `results.json` and `checkpoints.zip`, of everything that is finished; returns the former."""
    finished = plan.finished()
    results: dict[str, Any] = {"seconds": round(seconds, 1), "tiny": plan.tiny}
    with replacing(plan.out / "checkpoints.zip") as partial, zipfile.ZipFile(partial, "w") as archive:
        for network, paths in finished.items():
            found = {fold: read_header(path)["metrics"]["accuracy"] for fold, path in paths.items()}
            mean = float(np.mean(list(found.values()))) if len(found) == len(FOLDS) else None
            results[network] = {"accuracy": found, "mean": mean}
            for path in paths.values():
                for each in sorted(path.parent.iterdir()):
                    if each.is_file():
                        archive.write(each, each.relative_to(plan.out))
    with replacing(plan.out / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def pack(data: Path, target: Path) -> None:
    """Writes ESC-50's clips as an archive in its own layout: 16 kHz, Ogg Vorbis."""
    import soundfile

    dataset = esc50.read(data)
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for inside in (esc50.TABLE, "LICENSE"):
            if (data / inside).is_file():
                archive.write(data / inside, f"{esc50.ARCHIVE_TOP}/{inside}")
        for clip in counted("packing", dataset.clips, "clips"):
            samples, file = np.concatenate(list(decode(clip.path, PACKED_HZ))), io.BytesIO()
            soundfile.write(file, samples, PACKED_HZ, format="OGG", subtype="VORBIS", compression_level=COMPRESSION)
            archive.writestr(f"{esc50.ARCHIVE_TOP}/audio/{clip.path.stem}.ogg", file.getvalue())
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("target", type=Path)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("--out", type=Path, default=Path("runs/gpu"))
    training.add_argument("--minutes", type=float, default=9.5)
    training.add_argument("--device", default="auto")
    training.add_argument("--tiny", action="store_true")
    training.add_argument("--fold", type=int, action="append", choices=FOLDS)
    options = parser.parse_args()
    try:
        if options.command == "pack":
            pack(options.data, options.target)
            return
        plan = Plan(options.data, options.out, options.device, options.tiny)
        print(json.dumps(train(plan, options.fold or FOLDS, 60 * options.minutes), indent=2))
    except TaggerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
