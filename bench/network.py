"""Many cameras in one daemon: are windows skipped, and what does a stream cost?

    python bench/network.py                                     # 8 RTSP sources, 2 minutes, 2 of them broken at random
    python bench/network.py --sources 40 --broken 10 --minutes 30
    python bench/network.py --others                            # Icecast, and HLS by nginx, too: one source each

GStreamer's RTSP server plays live noise of 16 kHz for each source (Debian: gir1.2-gst-rtsp-server-1.0); a relay before
some of them breaks off, stops passing on, and goes on. `tagger listen` runs as a process. Printed are windows that were
skipped on the healthy ones, reconnects of the others, memory of the daemon and of each reader (private: what it shares
with none; PSS: with its part of what it shares), and processor time. The servers run on the same machine. With `--log`
the counts of each minute are in a file, too, which an interruption leaves.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import av
import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.outages import Relay
from tagger.bench.usage import usage
from tests.programs import Mosquitto, Subscriber, free_port, until
from tests.rtsp import RtspServer

_CAMERAS_A_SERVER = 10
ICECAST = """<icecast><limits><sources>4</sources></limits>
<authentication><source-password>hackme</source-password><admin-user>a</admin-user><admin-password>b</admin-password>
</authentication><hostname>localhost</hostname><listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address>
</listen-socket><paths><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>
<adminroot>/usr/share/icecast2/admin</adminroot></paths><logging><accesslog>a.log</accesslog><errorlog>e.log</errorlog>
</logging>{owner}</icecast>
"""
OWNER = "<security><changeowner><user>nobody</user><group>nogroup</group></changeowner></security>"
NGINX = """daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{}}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {folder}/www; types {{
application/vnd.apple.mpegurl m3u8; video/mp2t ts; }} }} }}
"""


def encode(url: str, form: str, codec: str, rate_hz: int, options: dict[str, str], over: threading.Event) -> None:
    """Encodes noise at the pace of the clock, into a server or a folder, until `over`."""
    with av.open(url, "w", format=form, options=options) as out:
        stream = out.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate_hz)
        noise, began, sent = np.random.default_rng(0), time.monotonic(), 0
        while not over.wait(max(0.0, began + sent / rate_hz - time.monotonic())):
            wave = (3000 * noise.standard_normal((1, 1024))).astype("<i2")
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, sent
            sent += 1024
            for made in resampler.resample(frame):
                out.mux(stream.encode(made))


def others(stack: ExitStack, folder: Path) -> list[str]:
    """Icecast, and HLS by nginx, where they are installed."""
    sources, over = list[str](), threading.Event()
    folder.chmod(0o777)
    (folder / "www").mkdir(mode=0o755)

    def start(*command: str) -> None:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.kill)

    def play(*args: object) -> None:
        thread = threading.Thread(target=encode, args=[*args, over])
        thread.start()
        stack.callback(thread.join)

    is_root = os.geteuid() == 0
    if program := shutil.which("icecast2"):
        port = free_port()
        (folder / "icecast.xml").write_text(ICECAST.format(port=port, folder=folder, owner=OWNER if is_root else ""))
        start(program, "-c", str(folder / "icecast.xml"))
        time.sleep(2)
        base = f"icecast://source:hackme@127.0.0.1:{port}"
        play(f"{base}/live.mp3", "mp3", "libmp3lame", 44_100, {"content_type": "audio/mpeg"})
        play(f"{base}/live.ogg", "ogg", "libopus", 48_000, {"content_type": "application/ogg"})
        sources += [f"icecast_{each}=http://127.0.0.1:{port}/live.{each}" for each in ("mp3", "ogg")]
    if program := shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        port = free_port()
        user = "user root;" if is_root else ""
        (folder / "nginx.conf").write_text(NGINX.format(port=port, folder=folder, user=user))
        start(program, "-c", str(folder / "nginx.conf"))
        options = {"hls_time": "2", "hls_list_size": "5", "hls_flags": "delete_segments"}
        play(str(folder / "www" / "live.m3u8"), "hls", "aac", 48_000, options)
        sources.append(f"hls=http://127.0.0.1:{port}/live.m3u8")
    stack.callback(over.set)
    return sources


def breaks(relays: list[Relay], over: threading.Event) -> None:
    """Breaks a relay at random, mends it some seconds later, and so on."""
    chance = random.Random(0)
    while relays and not over.wait(chance.uniform(1, 5)):
        relay = chance.choice(relays)
        if chance.random() < 0.5:
            relay.cut()
        else:
            relay.is_open.clear()
            over.wait(chance.uniform(2, 15))
            relay.is_open.set()


def memory_mb(pid: int) -> tuple[float, float]:
    """What a process shares with no other, and its PSS, MB."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name.rstrip(":")] = int(value) / 1024
    return found["Private_Clean"] + found["Private_Dirty"], found["Pss"]


def children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(each) for each in listed.split() if Path(f"/proc/{each}/smaps_rollup").exists()]


MODULES = ("tagger.sources.network.host", "tagger.levels.process")
"""Processes of the daemon beside the readers."""


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


Stats = dict[str, dict[str, object]]
"""The sources of a message on `stats`."""


def counted(before: Stats, after: Stats, names: set[str]) -> dict[str, int]:
    """What these sources counted between two messages."""
    return {
        key: sum(int(str(after[name][key])) - int(str(before[name][key])) for name in names)
        for key in ("windows", "skipped", "overruns", "reconnects")
    }


def counts(before: Stats, after: Stats, broken: set[str]) -> None:
    """Prints what was counted between two messages."""
    for title, names in (("healthy", set(after) - broken), ("broken", set(after) & broken)):
        click.echo(f"{title:8} {len(names):3} sources: {counted(before, after, names)}")
        for name in sorted(names):
            if after[name]["state"] != "hearing":
                click.echo(f"         {name}: {after[name]['state']}, {after[name]['detail']}")


def note(log: Path | None, minute: float, before: Stats, after: Stats, broken: set[str], pid: int) -> None:
    """Writes what was counted so far, the highest lag of a healthy source, and the daemon's memory."""
    if log is None:
        return
    healthy = set(after) - broken
    line = {
        "minute": round(minute, 2),
        "healthy": counted(before, after, healthy),
        "broken": counted(before, after, set(after) & broken),
        "lag_ms": max((float(str(after[name]["lag_ms"] or 0)) for name in healthy), default=0.0),
        "daemon_mb": memory_mb(pid),
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def costs(pid: int, used_s: float, passed_s: float) -> None:
    """Prints memory and processor time of the daemon, what measures levels, its host of readers, and the readers."""
    own = {module: each for each in children(pid) for module in MODULES if module in command_line(each)}
    host = own["tagger.sources.network.host"]
    readers = [(*memory_mb(each), usage(each).cpu_s) for each in children(host)]
    for name, mb, cores in (
        ("daemon", memory_mb(pid), used_s / passed_s),
        *((module, memory_mb(each), usage(each).cpu_s / passed_s) for module, each in own.items()),
        (f"{len(readers)} readers, median", *_medians(readers, passed_s)),
    ):
        click.echo(f"{name:28} {mb[0]:6.1f} MB private, PSS {mb[1]:6.1f} MB, {cores:.3f} cores")


def _medians(readers: list[tuple[float, float, float]], passed_s: float) -> tuple[tuple[float, float], float]:
    private, pss, used_s = (median(each) for each in zip(*readers, strict=True))
    return (private, pss), used_s / passed_s


@click.command()
@click.option("--sources", "count", default=8, show_default=True, help="Number of RTSP sources.")
@click.option("--broken", default=2, show_default=True, help="How many of them are broken at random.")
@click.option("--minutes", default=2.0, show_default=True, help="Length of the run.")
@click.option("--hop", "hop_s", default=1.0, show_default=True, help="Hop of the daemon, seconds.")
@click.option("--others", "with_others", is_flag=True, help="Icecast and HLS, too, where they are installed.")
@click.option("--log", type=click.Path(path_type=Path), help="File for the counts of each minute.")
def main(count: int, broken: int, minutes: float, hop_s: float, with_others: bool, log: Path | None) -> None:
    """Runs a daemon on many RTSP sources."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Mosquitto(folder))
        subscriber = Subscriber(broker.port, "tagger/network/stats")
        stack.callback(subscriber.close)
        sources, relays = list[str](), list[Relay]()
        server: RtspServer | None = None
        for number in range(count):
            if server is None or number % _CAMERAS_A_SERVER == 0:
                server = RtspServer(cameras=_CAMERAS_A_SERVER)
                stack.callback(server.kill)
            port = server.port
            if number < broken:
                relays.append(Relay(port))
                port = relays[-1].port
            sources.append(f"camera_{number}=rtsp://127.0.0.1:{port}/live{number % _CAMERAS_A_SERVER}")
        if with_others:
            sources += others(stack, folder)
        config = folder / "tagger.toml"
        config.write_text("[listen]\nstats_s = 2\n")
        command = [sys.executable, "-m", "tagger", "listen", *sources, "--config", str(config), "--hop", f"{hop_s:g}"]
        said = stack.enter_context((folder / "daemon.log").open("wb"))
        daemon = subprocess.Popen(
            [*command, "--mqtt", broker.url, "--node", "network"],
            stdout=said, stderr=said, env=os.environ | {"TAGGER_HOME": str(folder / "home")},
        )  # fmt: skip
        stack.callback(daemon.kill)

        def stats() -> Stats:
            payloads = subscriber.payloads("tagger/network/stats")
            return json.loads(payloads[-1])["sources"] if payloads else {}

        until(lambda: stats() and all(each["windows"] for each in stats().values()), "all are heard")
        over = threading.Event()
        breaker = threading.Thread(target=breaks, args=[relays, over])
        breaker.start()
        before, began_s, began = stats(), usage(daemon.pid).cpu_s, time.monotonic()
        names = {f"camera_{number}" for number in range(broken)}
        while (left_s := began + 60 * minutes - time.monotonic()) > 0:
            time.sleep(min(60.0, left_s))
            note(log, (time.monotonic() - began) / 60, before, stats(), names, daemon.pid)
        over.set()
        breaker.join()
        passed_s = time.monotonic() - began
        used_s = usage(daemon.pid).cpu_s - began_s
        after = stats()
        click.echo(f"{len(sources)} sources, {broken} of them broken at random, {minutes:g} min, hop {hop_s:g} s")
        counts(before, after, names)
        costs(daemon.pid, used_s, passed_s)
        daemon.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(30)


if __name__ == "__main__":
    main()
