"""The measurements, one function each: they fill `Results`, and tell how many seconds have passed."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tagger.bench.audio import demo
from tagger.bench.broker import broker
from tagger.bench.child import ONE_THREAD, Child
from tagger.bench.daemon import Daemon, Program, quantiles_ms
from tagger.bench.machine import installed_bytes
from tagger.bench.results import CompareResult, Cost, DaemonResult, Growth, Point, Results, StreamsResult
from tagger.bench.settings import COMPARE_WINDOW_S, COMPARED_MODEL, BenchSettings
from tagger.bench.streams import is_carried, most_streams
from tagger.checkpoints import store
from tagger.checkpoints.info import CheckpointInfo, read_info
from tagger.engine.runtime import AUTO, RUNTIMES
from tagger.errors import UserError
from tagger.printable import number_of
from tagger.settings import DEFAULT_MODEL

WORKER = "tagger.bench.worker"
_PEER_PROGRAM = Path(__file__).with_name("peer_program.py")
_SETTLE_S = 1.5
"""Time after a change of the number of live sources, seconds."""
_GUESS = 0.6
"""Share of the number that one source's cost promises, which is tried first."""
_HOPS_S = (5.0, 2.5, 1.0, 0.5, 0.25)
_WINDOWS_S = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0)
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Numbers of live sources whose cost is measured, as shares of those that one source's cost promises."""
_CLOSE_LOGIT = 12.0
"""Logits beyond this differ by what float32 leaves of a score near 0 or 1."""

Tick = Callable[[float], None]
"""Called with the seconds that have passed since the last call."""


def models_of(settings: BenchSettings) -> list[str]:
    """The models to measure: those that were named, or the bundled ones, the default first."""
    if settings.models:
        return list(settings.models)
    bundled = [entry.name for entry in store.entries() if entry.origin == "bundled"]
    return sorted(bundled, key=lambda name: (name != DEFAULT_MODEL, name))


def runtimes_of(settings: BenchSettings) -> list[str]:
    """The runtimes to measure.

    Raises:
        UserError: there is no such runtime.
    """
    if settings.runtime in (None, AUTO):
        return [name for name, runtime in RUNTIMES.items() if runtime.is_installed]
    if settings.runtime not in RUNTIMES:
        raise UserError(f"--runtime {settings.runtime}: unknown; use one of {', '.join(RUNTIMES)}")
    return [settings.runtime]


def _first_model(settings: BenchSettings) -> tuple[Path, CheckpointInfo, float, float]:
    """The model of a daemon or of live sources: its file, its document, and window and hop, seconds."""
    path = store.find(models_of(settings)[0]).resolve()
    info = read_info(path)
    window_s = settings.window_s or info.window_seconds
    return path, info, window_s, min(settings.hop_s, window_s)


def cost(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """Each model on each runtime, in turn, on one thread."""
    with ExitStack() as stack:
        port = stack.enter_context(broker(settings.embedded)).port
        opened: list[tuple[str, dict[str, Any], float, Child]] = []
        for model in models_of(settings):
            path = str(store.find(model).resolve())
            for runtime in runtimes_of(settings):
                began = time.monotonic()
                child = stack.enter_context(Child.module(WORKER, ONE_THREAD))
                try:
                    about = child.ask(do="open", model=path, runtime=runtime)
                except UserError as error:
                    results.left_out.append(f"{model} on {runtime}: {error}")
                    continue
                window_s = settings.window_s or about["window_s"]
                child.ask(do="stream", window_s=window_s, hop_s=min(settings.hop_s, window_s), port=port)
                opened.append((runtime, about, window_s, child))
                tick(time.monotonic() - began)
        runs: list[list[dict[str, float]]] = [[] for _ in opened]
        for _ in range(settings.rounds):
            for measured, (*_, child) in zip(runs, opened, strict=True):
                measured.append(child.ask(do="run", windows=settings.windows))
                tick(measured[-1]["wall_s"])
            results.costs = [
                _cost(about, runtime, window_s, min(settings.hop_s, window_s), measured)
                for (runtime, about, window_s, _), measured in zip(opened, runs, strict=True)
            ]


def _cost(about: dict[str, Any], runtime: str, window_s: float, hop_s: float, runs: Sequence[dict[str, float]]) -> Cost:
    def each(key: str) -> list[float]:
        return [1000 * run[key] / run["audio_s"] for run in runs]

    return Cost(
        model=about["model"],
        runtime=runtime,
        runs_on=about["runs_on"],
        window_s=window_s,
        hop_s=hop_s,
        ms=statistics.median(each("cpu_s")),
        features_ms=statistics.median(each("features_s")),
        levels_ms=statistics.median(each("levels_s")),
        network_ms=statistics.median(each("network_s")),
        least_ms=min(each("cpu_s")),
        rounds=len(runs),
    )


def daemon(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """Starts daemons, and listens to one live source with the last."""
    results.daemon = measure_daemon(settings, tick)


def measure_daemon(settings: BenchSettings, tick: Tick, program: Program | None = None) -> DaemonResult:
    """
    Args:
        program: another tagger than this, which knows the model by the same name.
    """
    path, info, window_s, hop_s = _first_model(settings)
    model = str(path) if program is None else info.name
    runtime = None if settings.runtime == AUTO else settings.runtime
    starts, heard = [], None
    with broker(settings.embedded) as running:
        while heard is None:
            began = time.monotonic()
            with Daemon(running, model, info.mel.sample_rate_hz, window_s, hop_s, runtime, program) as each:
                starts.append(each.start())
                tick(time.monotonic() - began)
                if len(starts) == settings.starts:
                    heard = each.listen(settings.live_s, tick)
    return DaemonResult(
        model=info.name,
        hop_s=hop_s,
        broker=running.name,
        ready_s=statistics.median(each.ready_s for each in starts),
        first_score_s=statistics.median(each.first_score_s for each in starts),
        starts=len(starts),
        seconds=heard.seconds,
        cpu_ms=1000 * heard.cpu_s / heard.seconds,
        resident_mb=heard.resident_bytes / 1e6,
        latency=quantiles_ms(heard.latencies_s),
    )


class _Sources:
    """Live sources in a process of their own."""

    def __init__(self, settings: BenchSettings, stack: ExitStack, tick: Tick) -> None:
        path, self.info, self.window_s, self.hop_s = _first_model(settings)
        self.broker = stack.enter_context(broker(settings.embedded))
        self._child, self._tick = stack.enter_context(Child.module(WORKER, {"OPENBLAS_NUM_THREADS": "1"})), tick
        self._child.ask(do="open", model=str(path), runtime=settings.runtime or AUTO, device=settings.device)
        self._child.ask(do="lanes", window_s=self.window_s, hop_s=self.hop_s, port=self.broker.port)

    def run(self, count: int, seconds: float) -> dict[str, Any]:
        """So many sources for some seconds."""
        began = time.monotonic()
        self._child.ask(do="resize", count=count)
        time.sleep(_SETTLE_S)
        self._tick(time.monotonic() - began)
        self._child.ask(do="begin")
        left_s = seconds
        while left_s > 0:
            piece_s = min(1.0, left_s)
            time.sleep(piece_s)
            self._tick(piece_s)
            left_s -= piece_s
        return self._child.ask(do="count")

    def promised(self, cores: int) -> float:
        """Number of sources that would use all cores, if each cost what one alone does."""
        alone = self.run(1, 3.0)
        return float(cores * alone["seconds"] / max(alone["cpu_s"], 1e-3))


def streams(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """The most live sources that are carried, or whether so many are."""
    with ExitStack() as stack:
        sources = _Sources(settings, stack, tick)
        if settings.streams is not None:
            found, tried = sources.run(settings.streams, settings.confirm_s), list[dict[str, Any]]()
        else:
            first = round(_GUESS * sources.promised(results.machine.cores))
            found, tried = most_streams(sources.run, first, sources.hop_s, settings.step_s, settings.confirm_s)
    results.streams = StreamsResult(
        model=sources.info.name,
        hop_s=sources.hop_s,
        streams=found["streams"],
        carried=is_carried(found, sources.hop_s),
        seconds=found["seconds"],
        windows=found["windows"],
        skipped=found["skipped"],
        lag_p50_ms=1000 * found["lag_p50_s"],
        lag_p99_ms=1000 * found["lag_p99_s"],
        cpu_share=found["cpu_s"] / found["seconds"] / results.machine.cores,
        broker=sources.broker.name,
        tried=tuple(tried),
    )


def compare(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """Times tagger beside EfficientAT's own code, in turn: the same weights and windows, one thread each.

    Raises:
        UserError: its code cannot run.
    """
    path = _compared_model(settings)
    info = read_info(path)
    window_s = settings.window_s or COMPARE_WINDOW_S
    hop_s, rate_hz = min(settings.hop_s, window_s), info.mel.sample_rate_hz
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = demo(rate_hz)
        np.save(folder / "samples.npy", samples)
        began = time.monotonic()
        ours = stack.enter_context(Child.module(WORKER, ONE_THREAD))
        ours.ask(do="open", model=str(path), runtime=settings.runtime or AUTO, device="cpu")
        command = [settings.python, str(_PEER_PROGRAM)]
        peer = stack.enter_context(Child(command, ONE_THREAD, str(settings.efficientat)))
        peer.ask(
            do="open",
            name=info.name,
            weights=str(path),
            samples=str(folder / "samples.npy"),
            window=round(window_s * rate_hz),
            hop=round(hop_s * rate_hz),
        )
        paths = {"samples": str(folder / "samples.npy"), "out": str(folder / "ours.npy")}
        windows = ours.ask(do="logits", window_s=window_s, hop_s=hop_s, **paths)["windows"]
        peer.ask(do="logits", windows=windows, out=str(folder / "peer.npy"))
        answers = np.load(folder / "ours.npy"), np.load(folder / "peer.npy").astype(np.float64)
        ours.ask(do="bare", window_s=window_s, hop_s=hop_s)
        tick(time.monotonic() - began)
        rounds = []
        for _ in range(settings.rounds):
            rounds.append([each.ask(do="run", windows=settings.windows) for each in (ours, peer)])
            tick(sum(each["wall_s"] for each in rounds[-1]))
    results.compare = compared(info.name, window_s, hop_s, rounds, *answers)


def compared(
    model: str, window_s: float, hop_s: float, rounds: Sequence[Sequence[dict[str, float]]], ours: Any, peer: Any
) -> CompareResult:
    """
    Args:
        rounds: of each, what our run and the peer's said.
        ours, peer: [windows, labels], logits.
    """

    def ms(which: int, key: str) -> float:
        return statistics.median(1000 * each[which][key] / each[which]["windows"] for each in rounds)

    close = np.abs(peer) < _CLOSE_LOGIT
    return CompareResult(
        model=model,
        window_s=window_s,
        hop_s=hop_s,
        rounds=len(rounds),
        ours_ms=ms(0, "cpu_s"),
        peer_ms=ms(1, "cpu_s"),
        times=statistics.median(peer_run["cpu_s"] / our_run["cpu_s"] for our_run, peer_run in rounds),
        ours_wall_ms=ms(0, "wall_s"),
        peer_wall_ms=ms(1, "wall_s"),
        windows=len(ours),
        logit_difference=float(np.abs(ours - peer)[close].max()),
        score_difference=float(np.abs(1 / (1 + np.exp(-ours)) - 1 / (1 + np.exp(-peer))).max()),
        same_first=int((ours.argmax(1) == peer.argmax(1)).sum()),
    )


def growth(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """Cost against windows a second, length of a window, and number of live sources."""
    path, info, window_s, hop_s = _first_model(settings)
    with broker(settings.embedded) as running, Child.module(WORKER, ONE_THREAD) as child:
        child.ask(do="open", model=str(path), runtime=settings.runtime or AUTO)

        def point(x: float, window_s: float, hop_s: float) -> Point:
            child.ask(do="stream", window_s=window_s, hop_s=hop_s, port=running.port)
            runs = [child.ask(do="run", windows=settings.windows) for _ in range(settings.rounds)]
            tick(sum(run["wall_s"] for run in runs))
            return Point(x, statistics.median(1000 * run["cpu_s"] / run["audio_s"] for run in runs))

        hops = tuple(point(1 / each, window_s, each) for each in _HOPS_S if each <= window_s)
        least_s = info.mel.least_samples / info.mel.sample_rate_hz
        lengths = tuple(point(each, each, min(hop_s, each)) for each in _WINDOWS_S if each > least_s)
    with ExitStack() as stack:
        sources = _Sources(settings, stack, tick)
        most = sources.promised(results.machine.cores)
        counts = sorted({max(1, round(share * most)) for share in _SHARES})
        runs = [sources.run(count, settings.step_s) for count in counts]
    carried = [run for run in runs if is_carried(run, sources.hop_s)]
    for run in runs:
        if run not in carried:
            results.left_out.append(f"cost of {number_of(run['streams'], 'live source')}: not carried")
    lanes = tuple(Point(run["streams"], 1000 * run["cpu_s"] / run["seconds"]) for run in carried)
    results.growth = Growth(info.name, hop_s, window_s, hops, lengths, lanes)


def size(settings: BenchSettings, results: Results, tick: Tick) -> None:
    """What a device carries besides Python: tagger, and what it needs."""
    results.installed_mb = installed_bytes() / 1e6


MEASURE: dict[str, Callable[[BenchSettings, Results, Tick], None]] = {
    "cost": cost,
    "daemon": daemon,
    "streams": streams,
    "compare": compare,
    "growth": growth,
    "size": size,
}
"""By the names in `tagger.bench.settings.PARTS`."""


def expected_s(part: str, settings: BenchSettings) -> float:
    """About how long a part takes, seconds: for the time that is left."""
    pairs = len(models_of(settings)) * len(runtimes_of(settings))
    return {
        "cost": pairs * (2.0 + 0.03 * settings.rounds * settings.windows),
        "daemon": 3.0 * settings.starts + settings.live_s + 2,
        "streams": 4 + settings.confirm_s + (0 if settings.streams else 6 * (settings.step_s + _SETTLE_S)),
        "compare": 12 + 0.06 * settings.rounds * settings.windows,
        "growth": 0.3 * settings.rounds * settings.windows + len(_SHARES) * (settings.step_s + _SETTLE_S) + 8,
        "size": 0.5,
    }[part]


def check(settings: BenchSettings) -> None:
    """Finds what cannot be measured before anything is.

    Raises:
        UserError: a model, a runtime or a folder is not there.
    """
    for model in models_of(settings):
        read_info(store.find(model))
    runtimes_of(settings)
    if "compare" in settings.parts:
        if settings.efficientat is None:
            raise UserError("compare: name the folder of EfficientAT's repository: --compare DIR")
        if not (settings.efficientat / "models" / "preprocess.py").is_file():
            raise UserError(f"--compare {settings.efficientat}: not the folder of EfficientAT's repository")
        read_info(_compared_model(settings))


def _compared_model(settings: BenchSettings) -> Path:
    return store.find(settings.models[0] if settings.models else COMPARED_MODEL).resolve()
