"""Live sources that break in twelve ways and are mended, for `bench/faults.py`: servers, and what is done to them."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests import radio
from tests.programs import VirtualMicrophone
from tests.radio import Radio
from tests.rtsp import RtspServer

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


def nothing() -> None:
    """Mends what heals by itself."""


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
    yield Fault("other_codec_and_rate", codecs.url(), ("gone", ""), next_codec, nothing)

    stamped = Radio()
    stack.callback(stamped.stop)
    offset = [0.0]

    def jumps(server: Radio, connection: socket.socket) -> None:
        radio.plays_stamped(server, connection, lambda: offset[0])

    def jump() -> None:
        offset[0] += 3600.0

    stamped.play = jumps
    yield Fault("clock_jump", stamped.url(), ("clock",), jump, nothing, keeps_online=True)

    if hosts is not None:
        named = Radio()
        stack.callback(named.stop)

        def forget() -> None:
            hosts.write_text("127.0.0.1 localhost\n")
            named.hang_up()

        yield Fault(
            "name_gone", f"http://{HOST}:{named.port}/live", ("cannot_connect",), forget,
            lambda: write_hosts(hosts),
        )  # fmt: skip
    else:
        click.echo("left out: name-gone (needs root, for a mount of its own over /etc/hosts)")


def write_hosts(hosts: Path) -> None:
    """Writes a file of host names, with that of the server whose name goes."""
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
