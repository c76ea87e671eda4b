"""The table of `tagger bench`."""

from collections.abc import Iterator

from tagger.bench.machine import BUSY
from tagger.bench.results import CompareResult, Cost, DaemonResult, Growth, Results, StreamsResult
from tagger.printable import number_of


def lines(results: Results) -> Iterator[str]:
    """The lines of the table."""
    machine = results.machine
    extras = f" ({', '.join(machine.instructions)})" if machine.instructions else ""
    yield f"{machine.processor}, {number_of(machine.cores, 'core')}{extras}; {machine.system}"
    yield ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    if results.costs:
        yield ""
        yield from _costs(results.costs)
    if results.daemon is not None:
        yield ""
        yield from _daemon(results.daemon)
    if results.installed_mb is not None:
        yield _row("installed, without Python", f"{results.installed_mb:.0f} MB")
    if results.streams is not None:
        yield ""
        yield from _streams(results.streams, machine.cores)
    if results.compare is not None:
        yield ""
        yield from _compare(results.compare)
    if results.growth is not None:
        yield ""
        yield from _growth(results.growth)
    yield ""
    for left_out in results.left_out:
        yield f"not measured: {left_out}"
    if not results.complete:
        yield "interrupted: the rest was not measured"


def warnings(results: Results) -> Iterator[str]:
    """Reasons to believe the numbers less."""
    load = results.load
    shares = (results.machine.busy_before, None if load is None else load.others)
    busy = max((each for each in shares if each is not None), default=0.0)
    if busy >= BUSY:
        yield f"other programs used {100 * busy:.0f} % of this machine meanwhile: the numbers would be better without"
    if load is not None and load.stolen is not None and load.stolen >= BUSY / 2:
        yield f"other machines on the same hardware took {100 * load.stolen:.0f} % of the processor time"


def _row(what: str, value: str) -> str:
    return f"{what:<44}{value}"


def _costs(costs: list[Cost]) -> Iterator[str]:
    """Window and hop are in the head where all are alike, else in each line."""
    shapes = {(each.window_s, each.hop_s) for each in costs}
    shape = "{:g} s every {:g} s".format(*next(iter(shapes))) if len(shapes) == 1 else "each model's window"
    head = f"processor time a second of audio, samples to published scores, one thread, {shape}"
    yield head
    yield f"{'':<44}{'all':>8}  {'features':>8}  {'network':>8}  {'levels':>8}  {'rest':>8}   windows a second"
    for each in costs:
        own = "" if len(shapes) == 1 else f", {each.window_s:g} s every {each.hop_s:g} s"
        name = f"{each.model}, {each.runs_on}{own}"
        own_ms = each.ms, each.features_ms, each.network_ms, each.levels_ms, each.rest_ms
        parts = "  ".join(f"{ms:>5.1f} ms" for ms in own_ms)
        yield f"{name:<44}{parts}   {1000 / (each.ms * each.hop_s):,.0f}"


def _daemon(daemon: DaemonResult) -> Iterator[str]:
    latency = daemon.latency
    yield f"`tagger listen` with one live source, {daemon.model}, hop {daemon.hop_s:g} s, through {daemon.broker}"
    starts = f", median of {daemon.starts}" if daemon.starts > 1 else ""
    yield _row("start to ready", f"{daemon.ready_s:.2f} s{starts}")
    yield _row("start to the first score, its audio at once", f"{daemon.first_score_s:.2f} s")
    yield _row("processor time a second, whole process", f"{daemon.cpu_ms:.1f} ms, over {daemon.seconds:.0f} s")
    if latency["windows"]:
        of = number_of(latency["windows"], "window")
        yield _row(
            "last sample to the message at a subscriber",
            f"median {latency['median_ms']:.1f} ms, p99 {latency['p99_ms']:.1f} ms, of {of}",
        )
    yield _row("memory", f"{daemon.resident_mb:.0f} MB")


def _streams(streams: StreamsResult, cores: int) -> Iterator[str]:
    word, on = "carried" if streams.carried else "NOT carried", number_of(cores, "core")
    yield f"live sources on {on}, {streams.model}, hop {streams.hop_s:g} s, through {streams.broker}"
    yield _row(
        word,
        f"{streams.streams}: {streams.skipped} skipped of {number_of(streams.windows + streams.skipped, 'window')}",
    )
    yield _row("for", f"{streams.seconds:.0f} s, using {100 * streams.cpu_share:.0f} % of the cores")
    yield _row("lag of a window", f"median {streams.lag_p50_ms:.0f} ms, p99 {streams.lag_p99_ms:.0f} ms")


def _compare(compare: CompareResult) -> Iterator[str]:
    shape = f"{compare.window_s:g} s every {compare.hop_s:g} s"
    yield f"beside EfficientAT's own code, {compare.model}, {shape}, one source, one thread, in turn"
    yield _row("tagger", f"{compare.ours_ms:.1f} ms a window, {1000 / compare.ours_ms:,.0f} a second")
    yield _row("EfficientAT", f"{compare.peer_ms:.1f} ms a window, {1000 / compare.peer_ms:,.0f} a second")
    yield _row("times as many", f"{compare.times:.1f}, median of {compare.rounds} rounds")
    yield _row(
        "the same answer",
        f"logits differ by at most {compare.logit_difference:.1e}, scores by {compare.score_difference:.1e}; "
        f"first label the same in {compare.same_first} of {number_of(compare.windows, 'window')}",
    )


def _growth(growth: Growth) -> Iterator[str]:
    yield f"processor time a second, {growth.model}"
    for what, points in (
        ("windows a second", growth.hops),
        ("seconds of a window", growth.windows),
        ("live sources", growth.sources),
    ):
        yield _row(what, "  ".join(f"{point.x:g}: {point.ms:.1f} ms" for point in points))
