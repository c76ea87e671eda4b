"""Twelve faults of live sources, each many times: how soon the reason is published, and how soon audio is back.

    python bench/faults.py                          # each fault 20 times, all at once: about 20 minutes
    python bench/faults.py --times 3 --only server_killed --only half_open
    python bench/faults.py --log faults.jsonl       # again after an interruption: goes on where it was

One daemon (`tagger listen`, as a process) has a source for each fault, and one that nothing happens to. Mosquitto is
the broker; GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, run by /usr/bin/python3), and this program's
server of HTTP are the sources; PulseAudio is the microphone. What is not installed is left out, and said.

For each fault: the longest time until `stats` says one of the right reasons (limit 10 s; zeros need 5 s of zeros), the
longest time from the source's return until it is `online` again (limit 15 s), and failures. At the end: descriptors,
threads and processes of the daemon, before and after; and whether the undisturbed source had the same scores as in a
daemon beside it, which has that source alone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from tagger.sources.healing import SETTLED_SECONDS
from tests import radio
from tests.programs import Mosquitto, Subscriber, VirtualMicrophone, until, write_wav
from tests.radio import Radio
from tests.rtsp import RtspServer

REASON_SECONDS, BACK_SECONDS = 10.0, 15.0
OUTAGE_SECONDS = 11.0
"""Length of each outage: long enough for the reason, and for some failed tries."""
HOST = "stream.faults.test"


class Relay:
    """Passes TCP on; or stops passing on, without closing; or takes connections and says nothing."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.is_open = threading.Event()
        self.is_open.set()
        self.denies_sound_alone = False
        """RTSP: a client that sets up one track gets nothing after PLAY."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks all connections."""
        for each in self._ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            self._ends.append(client)
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.is_open.wait()  # says nothing until then
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.to)) as server:
            self._ends.append(server)
            setups = [0, 0]
            """Requests SETUP and PLAY so far."""
            up = threading.Thread(target=self._pump, args=[client, server, setups], daemon=True)
            up.start()
            self._pump(server, client, setups, is_down=True)

    def _pump(self, one: socket.socket, other: socket.socket, setups: list[int], is_down: bool = False) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self.is_open.wait()
                if not is_down:
                    setups[0] += data.count(b"SETUP rtsp")
                    setups[1] += data.count(b"PLAY rtsp")
                elif self.denies_sound_alone and setups[1] and setups[0] < 2:
                    continue
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@dataclass
class Fault:
    """One way in which a source breaks."""

    name: str
    url: str
    """Source, as `tagger listen` takes it, without a name."""
    reasons: tuple[str, ...]
    """What `stats` may say."""
    break_it: Callable[[], None]
    mend_it: Callable[[], None]
    reason_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    keeps_online: bool = False
    """The sound goes on, with another reason."""
    log: Path | None = None
    """File that gets a line of JSON for each time."""

    @property
    def done(self) -> int:
        """How often it has happened."""
        return len(self.back_s) + len(self.failures)

    def note(self, **result: float | str) -> None:
        """Notes how one time went: `reason_s` and `back_s`, seconds, or `failure`."""
        self.take(result)
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(json.dumps({"fault": self.name, **result}) + "\n")

    def take(self, result: dict[str, Any]) -> None:
        """Counts how one time went."""
        for key, to in (("reason_s", self.reason_s), ("back_s", self.back_s), ("failure", self.failures)):
            if key in result:
                to.append(result[key])

    def go_on(self, log: Path | None) -> None:
        """Counts what a file has of earlier runs; what comes is written behind it."""
        self.log = log
        for line in log.read_text().splitlines() if log is not None and log.exists() else []:
            if (result := json.loads(line)).get("fault") == self.name:
                self.take(result)


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def _nothing() -> None:
    pass


def faults(stack: ExitStack, folder: Path, hosts: Path | None) -> Iterator[Fault]:
    """All that can be made here. Servers end with the stack."""
    if RtspServer.is_installed():
        killed, stopped, camera, shared = RtspServer(), RtspServer(), RtspServer(), RtspServer()
        for each in (killed, stopped, camera, shared):
            stack.callback(each.kill)
        url = "rtsp://127.0.0.1:{}/{}".format
        yield Fault("server_killed", url(killed.port, "live"), ("refused", "gone"), killed.kill, killed.start)
        yield Fault(
            "server_stopped", url(stopped.port, "live"), ("no_bytes", "cannot_connect"),
            lambda: stopped.process.send_signal(signal.SIGSTOP), lambda: stopped.process.send_signal(signal.SIGCONT),
        )  # fmt: skip
        half = Relay(shared.port)
        yield Fault("half_open", url(half.port, "live"), ("no_bytes",), half.is_open.clear, half.is_open.set)
        alone = Relay(camera.port)

        def deny() -> None:
            alone.denies_sound_alone = True
            alone.cut()

        def allow() -> None:  # it goes on to deny sound alone: the whole stream must be found
            pass

        yield Fault("sound_alone_denied", url(alone.port, "camera"), ("no_bytes", "gone", ""), deny, allow)
    else:
        click.echo("left out: server-killed, server-stopped, half-open, sound-alone-denied (no GStreamer RTSP server)")

    yield from _http_faults(stack, hosts)
    yield from _microphone_fault(stack, folder)


def _http_faults(stack: ExitStack, hosts: Path | None) -> Iterator[Fault]:
    def on_air(
        name: str, reasons: tuple[str, ...], broken: Callable[[Radio, socket.socket], None], keeps_online: bool = False
    ) -> Fault:
        server = Radio()
        stack.callback(server.stop)

        def change(play: Callable[[Radio, socket.socket], None]) -> Callable[[], None]:
            def do() -> None:
                server.play = play
                server.hang_up()

            return do

        fault = Fault(name, server.url(user="me:secret"), reasons, change(broken), change(radio.plays_noise))
        fault.keeps_online = keeps_online
        return fault

    yield on_air("garbage", ("not_audio", "no_sound"), radio.sends_garbage)
    yield on_air("nothing_after_connect", ("no_bytes",), radio.says_nothing)
    yield on_air("wrong_password", ("password",), radio.wants_a_password)
    yield on_air("zeros", ("zeros",), radio.plays_zeros, keeps_online=True)
    codecs = Radio()
    stack.callback(codecs.stop)
    kinds = [("libmp3lame", "mp3", 44_100), ("aac", "adts", 48_000), ("libopus", "ogg", 48_000)]
    sounds = [(radio.encoded(30.0, *kind), 30.0) for kind in kinds]
    turn = [0]

    def plays(server: Radio, connection: socket.socket) -> None:
        radio.plays_bytes(server, connection, *sounds[turn[0] % len(sounds)])

    def next_codec() -> None:
        turn[0] += 1
        codecs.hang_up()

    codecs.play = plays
    yield Fault("other_codec_and_rate", codecs.url(), ("gone", ""), next_codec, _nothing)

    stamped = Radio()
    stack.callback(stamped.stop)
    offset = [0.0]

    def jumps(server: Radio, connection: socket.socket) -> None:
        radio.plays_stamped(server, connection, lambda: offset[0])

    def jump() -> None:
        offset[0] += 3600.0

    stamped.play = jumps
    yield Fault("clock_jump", stamped.url(), ("clock",), jump, _nothing, keeps_online=True)

    if hosts is not None:
        named = Radio()
        stack.callback(named.stop)

        def forget() -> None:
            hosts.write_text("127.0.0.1 localhost\n")
            named.hang_up()

        yield Fault(
            "name_gone", f"http://{HOST}:{named.port}/live", ("cannot_connect",), forget,
            lambda: _write_hosts(hosts),
        )  # fmt: skip
    else:
        click.echo("left out: name-gone (needs root, for a mount of its own over /etc/hosts)")


def _write_hosts(hosts: Path) -> None:
    hosts.write_text(f"127.0.0.1 localhost {HOST}\n")


def _microphone_fault(stack: ExitStack, folder: Path) -> Iterator[Fault]:
    try:
        microphone = VirtualMicrophone(folder)
    except BaseException as error:  # pytest's skip
        click.echo(f"left out: microphone ({error})")
        return
    os.environ.update(microphone.env)
    running = [microphone]
    stack.callback(lambda: running[0]._process.kill())  # noqa: PLW0108 - the one that runs then

    def unload() -> None:
        running[0]._process.kill()
        running[0]._process.wait()

    def load() -> None:
        running[0] = VirtualMicrophone(folder)

    yield Fault("microphone", "mic:pulse", ("missing", "gone", "failed"), unload, load)


class Watch:
    """What the daemon publishes, taken apart once as it comes."""

    def __init__(self, subscriber: Subscriber, node: str) -> None:
        self._subscriber, self._node = subscriber, node
        self._taken = 0
        self._lock = threading.Lock()
        self._reasons: dict[str, list[tuple[float, str]]] = {}
        self._online: dict[str, list[float]] = {}
        self._heard: dict[str, float] = {}
        self._scores: dict[str, dict[float, str]] = {}

    def reason(self, source: str, since: float) -> tuple[str, float] | None:
        """The newest reason that `stats` said after a moment, and when."""
        self._take()
        newest = self._reasons.get(source, [])[-1:]
        return (newest[0][1], newest[0][0]) if newest and newest[0][0] >= since else None

    def online_at(self, source: str, since: float) -> float | None:
        """When the source was said to be online after a moment."""
        self._take()
        return next((at for at in list(self._online.get(source, [])) if at >= since), None)

    def sounds(self, source: str, since: float) -> bool:
        self._take()
        return self._heard.get(source, -1.0) >= since

    def scores(self, source: str) -> dict[float, str]:
        self._take()
        return dict(self._scores.get(source, {}))

    def _take(self) -> None:
        with self._lock:
            new = self._subscriber.messages[self._taken :]
            self._taken += len(new)
            for at, message in new:
                _, node, *parts = message.topic.split("/")
                if node != self._node:
                    continue
                if parts == ["stats"]:
                    for name, each in json.loads(message.payload)["sources"].items():
                        self._reasons.setdefault(name, []).append((at, each["reason"]))
                elif len(parts) == 2 and parts[1] == "status" and message.payload == b"online":
                    self._online.setdefault(parts[0], []).append(at)
                elif len(parts) == 2 and parts[1] == "scores":
                    made = json.loads(message.payload)
                    self._heard[parts[0]] = at
                    self._scores.setdefault(parts[0], {})[made["start"]] = json.dumps(made["top"])


def suffer(fault: Fault, watch: Watch, times: int) -> None:
    """Breaks a source and mends it, again and again."""
    while fault.done < times:
        try:
            fault.note(**_once(fault, watch))
        except AssertionError as error:
            fault.note(failure=str(error))
        except BaseException as error:
            fault.note(failure=f"{type(error).__name__}: {error}")


def _wait_for(found: Callable[[], float | None], limit_s: float) -> float | None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (at := found()) is not None:
            return at
        time.sleep(0.1)
    return None


def _once(fault: Fault, watch: Watch) -> dict[str, float]:
    began = time.monotonic()
    if _wait_for(lambda: 1.0 if watch.sounds(fault.name, began) else None, 60.0) is None:
        raise AssertionError("no sound before the fault")
    time.sleep(SETTLED_SECONDS + 1.0)
    broken = time.monotonic()
    fault.break_it()

    def right() -> float | None:
        found = watch.reason(fault.name, broken + 0.2)
        return found[1] if found is not None and found[0] in fault.reasons else None

    said = _wait_for(right, 20.0)
    if said is None:
        found = watch.reason(fault.name, broken)
        fault.mend_it()
        raise AssertionError(f"no right reason within 20 s: {found and found[0]!r}")
    heals_itself = fault.mend_it is _nothing or "" in fault.reasons
    if not heals_itself:
        time.sleep(max(0.0, broken + OUTAGE_SECONDS - time.monotonic()))
    mended = time.monotonic() if not heals_itself else broken
    fault.mend_it()
    returned = time.monotonic() if not heals_itself else broken  # a server that starts answers then
    if fault.keeps_online:

        def well() -> float | None:
            found = watch.reason(fault.name, mended + 0.2)
            return found[1] if found is not None and found[0] == "" else None

        back = _wait_for(well, 90.0) if fault.mend_it is not _nothing else mended
    else:
        back = _wait_for(lambda: watch.online_at(fault.name, mended), 90.0)
    if back is None:
        raise AssertionError("no audio within 90 s of the return")
    return {"reason_s": said - broken, "back_s": max(0.0, back - returned)}


def used(pid: int) -> dict[str, int]:
    """Descriptors, threads and child processes, with those of children."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    parents = {int(a): int(b) for a, b, c in map(str.split, listed.splitlines()) if "Z" not in c}
    family = {pid}
    while more := {each for each, parent in parents.items() if parent in family} - family:
        family |= more
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "processes": len(family),
    }


@contextmanager
def daemon(
    broker: Mosquitto, node: str, sources: Sequence[str], hop_s: float, hosts: Path | None, folder: Path
) -> Iterator[int]:
    """`tagger listen` as a process; yields its id."""
    config = folder / "tagger.toml"
    config.write_text("[listen]\nstats_s = 0.5\n")
    flags = ["--config", str(config), "--mqtt", broker.url, "--node", node, "--hop", f"{hop_s:g}"]
    command = [sys.executable, "-m", "tagger", "listen", *sources, *flags]
    if hosts is not None:
        mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
    log = (folder / f"{node}.log").open("ab")
    env = os.environ | {"TAGGER_HOME": str(folder / f"home-{node}")}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        log.close()


@click.command()
@click.option("--times", default=20, show_default=True, help="How often each fault happens.")
@click.option("--only", multiple=True, help="Only this fault; repeatable.")
@click.option("--hop", "hop_s", default=2.0, show_default=True, help="Hop of the daemon, seconds.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the daemons' logs, which are kept.")
@click.option("--log", type=click.Path(path_type=Path), help="File for the result of each time; the next run goes on.")
def main(times: int, only: tuple[str, ...], hop_s: float, keep: Path | None, log: Path | None) -> None:
    """Breaks live sources in twelve ways and measures how they heal."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        hosts: Path | None = folder / "hosts"
        if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            hosts = None
        else:
            _write_hosts(folder / "hosts")
        broker = stack.enter_context(Mosquitto(folder))
        subscriber = Subscriber(broker.port)
        stack.callback(subscriber.close)
        watch, beside = Watch(subscriber, "faults"), Watch(subscriber, "alone")
        seed = np.random.default_rng(0)
        reference = write_wav(
            folder / "reference.wav",
            seed.standard_normal(round(32_000 * (300 + 90 * times)), dtype=np.float32) / 20,
        )
        undisturbed = f"undisturbed={reference}"
        chosen = [each for each in faults(stack, folder, hosts) if not only or each.name in only]
        for each in chosen:
            each.go_on(log)
        sources = [undisturbed, *(f"{each.name}={each.url}" for each in chosen)]
        with (
            daemon(broker, "alone", [undisturbed], hop_s, None, folder),
            daemon(broker, "faults", sources, hop_s, hosts, folder) as pid,
        ):
            for each in chosen:
                until(lambda each=each: watch.sounds(each.name, 0.0), f"{each.name} is heard")  # type: ignore[misc]
            before = used(pid)
            threads = [threading.Thread(target=suffer, args=[each, watch, times]) for each in chosen]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            time.sleep(5.0)
            after = used(pid)
        expected, found = beside.scores("undisturbed"), watch.scores("undisturbed")
    both = sorted(set(expected) & set(found))
    same = sum(expected[each] == found[each] for each in both)
    click.echo(f"{'fault':24}{'times':>6}{'reason within':>15}{'audio within':>14}  failures")
    for each in chosen:
        reason_s, back_s = max(each.reason_s, default=0.0), max(each.back_s, default=0.0)
        counted = {
            "reasons late": sum(one > REASON_SECONDS for one in each.reason_s),
            "audio late": sum(one > BACK_SECONDS for one in each.back_s),
            **Counter(each.failures),
        }
        late = [f"{count} of {each.done} {what}" for what, count in counted.items() if count]
        said = "; ".join(late) or "none"
        click.echo(f"{each.name:24}{each.done:>6}{reason_s:>13.1f} s{back_s:>12.1f} s  {said}")
    click.echo(f"before {before}, after {after}")
    click.echo(f"the undisturbed source: {same} of {len(both)} windows have the same scores as alone;")
    for where, windows in (("beside the faults", found), ("alone", expected)):
        click.echo(f"  {where}: {len(windows)} windows, the last at {max(windows):g} s")


if __name__ == "__main__":
    main()
