"""What one GPU carries: windows a second, live streams, agreement with the processor, a memory that is full.

    python bench/gpu.py                        # needs ./scripts/setup torch, and a GPU
    python bench/gpu.py --device cpu --quick   # the same steps with tiny numbers; says nothing of a GPU

It takes five minutes at most. Every step prints its numbers when it has them, and the last line is JSON with all.
Windows are of the built-in demo; each goes from samples in the host's memory to scores there, mel spectrogram included.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from tagger.bench.audio import demo
from tagger.bench.lanes import Lanes
from tagger.engine.runtime import open_model
from tagger.engine.runtime_torch import choose_device
from tagger.engine.scores import WindowClassifier
from tagger.events import Samples, Window

MODELS = ("esc50", "esc50-crnn")
"""An mn04 with two heads, and a recurrent network."""
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
STREAMS = (1, 100, 1_000, 5_000)
QUICK_BATCHES, QUICK_STREAMS = (1, 3), (2,)
LONGEST_S = 300.0
"""Time after which no step is begun, seconds."""


class Sounds:
    """The demo's windows, as the engine is given them."""

    def __init__(self, rate_hz: int, window_s: float) -> None:
        sound, self.size = demo(rate_hz), round(window_s * rate_hz)
        starts = range(0, len(sound) - self.size, rate_hz // 4)
        self.all: list[Samples] = [sound[start : start + self.size] for start in starts]

    def windows(self, count: int) -> list[Window]:
        return [Window(self.all[number % len(self.all)], 0, self.size, 0.0) for number in range(count)]


def throughput(model: WindowClassifier, sounds: Sounds, batch: int, seconds: float) -> float | None:
    """Windows a second in batches of one size; None: they do not fit the memory."""
    prepare, windows = model.preparer(sounds.size, sounds.size), sounds.windows(batch)

    def classify() -> None:
        model.of_prepared([prepare(each) for each in windows])

    try:
        for _ in range(2):
            classify()
        began, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds or not count:
            classify()
            count += batch
        return count / passed
    except Exception as error:
        if not model.is_out_of_memory(error):
            raise
        return None


def live(model: WindowClassifier, streams: int, seconds: float) -> dict[str, Any]:
    """Lag, and skipped windows, of so many live streams at a hop of one second."""
    lanes = Lanes(model, model.info.window_seconds, 1.0)
    try:
        began = time.monotonic()
        lanes.resize(streams)
        time.sleep(min(2.0, seconds))  # each has had its first window
        started_s = time.monotonic() - began
        lanes.begin()
        time.sleep(seconds)
        return asdict(lanes.count()) | {"started_s": started_s}
    finally:
        lanes.close()


def agreement(model: WindowClassifier, exact: WindowClassifier, sounds: Sounds, most: int) -> dict[str, float]:
    """How far scores are from the processor's in float32."""
    windows = np.stack(sounds.all[:: max(1, len(sounds.all) // most)][:most])
    parts = np.array_split(windows, max(1, len(windows) // 16))
    found, right = (np.concatenate([each(part).values for part in parts]) for each in (model, exact))
    return {
        "windows": len(windows),
        "largest_difference": float(np.abs(found - right).max()),
        "other_best_label": int((found.argmax(1) != right.argmax(1)).sum()),
    }


def survival(model: WindowClassifier, sounds: Sounds, device: torch.device, quick: bool) -> dict[str, Any]:
    """Classifies a batch that does not fit: on a GPU one that may use little memory, else a model that says so."""
    count = 8 if quick else 512
    expected = np.stack([each.values for each in model.classify(sounds.windows(4))])
    undo: Callable[[], None]
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        share = (torch.cuda.memory_reserved(device) + (1 << 29)) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
        how, undo = "512 MiB left", lambda: torch.cuda.set_per_process_memory_fraction(1.0, device)
    else:
        whole, most = model.scores_of, 3

        def small(prepared: Sequence[Any], windows: Sequence[Window]) -> Any:
            if len(windows) > most:
                raise MemoryError
            return whole(prepared, windows)

        model.scores_of = small  # type: ignore[method-assign]
        how, undo = f"at most {most} windows, simulated", lambda: delattr(model, "scores_of")
    try:
        found = model.classify(sounds.windows(count))
    finally:
        undo()
    values = np.stack([each.values for each in found])
    first = float(np.abs(values[:4] - expected).max())
    return {"how": how, "windows": count, "answered": len(found), "largest_difference": first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that every step runs")
    parser.add_argument("--model", action="append", help="repeatable [default: esc50 and esc50-crnn]")
    options = parser.parse_args()
    threading.stack_size(512 * 1024)  # thousands of threads need as many stacks
    measure(options.device, options.quick, options.model or MODELS)


def measure(device_name: str, quick: bool, models: Sequence[str]) -> dict[str, Any]:
    """Runs all steps, prints them, and returns what the last line says."""
    ends = time.monotonic() + LONGEST_S
    device = choose_device(device_name)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"{name}, torch {torch.__version__}", flush=True)
    if device.type == "cpu":
        print("no GPU is used: these numbers say nothing of one")
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "models": {}}
    for label in models:
        model = open_model(label, "torch", str(device))
        sounds = Sounds(model.info.mel.sample_rate_hz, model.info.window_seconds)
        of: dict[str, Any] = {"windows_a_second": {}, "streams": {}}
        results["models"][label] = of
        print(f"{label} on {model.runs_on}")
        for batch in QUICK_BATCHES if quick else BATCHES:
            rate = throughput(model, sounds, batch, 0.0 if quick else 2.0) if time.monotonic() < ends else None
            of["windows_a_second"][batch] = rate
            print(f"  batch {batch:5}: {'not measured' if rate is None else f'{rate:9.0f} windows/s'}", flush=True)
        of["agreement"] = agreement(model, open_model(label, "torch", "cpu"), sounds, 2 if quick else 64)
        print(f"  beside the processor: {_words(of['agreement'])}", flush=True)
        for streams in QUICK_STREAMS if quick else STREAMS:
            if label != models[0] or time.monotonic() > ends:
                continue
            of["streams"][streams] = result = live(model, streams, 1.0 if quick else 20.0)
            print(f"  {streams:5} streams: {_words(result)}", flush=True)
        of["out_of_memory"] = survival(model, sounds, device, quick)
        print(f"  memory that does not suffice: {_words(of['out_of_memory'])}", flush=True)
        if device.type == "cuda":
            of["memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
            print(f"  most memory: {of['memory_mb']:.0f} MB", flush=True)
    print(json.dumps(results))
    return results


def _words(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in result.items()
    )


if __name__ == "__main__":
    main()
