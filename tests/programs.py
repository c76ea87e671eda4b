"""Real programs that tests run: the command `tagger`, in this process or its own, a broker, a virtual microphone."""

import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import paho.mqtt.client as paho
import pytest
import soundfile
from paho.mqtt.enums import MQTTProtocolVersion

from tagger.cli.main import main

ROOT = Path(__file__).parent.parent
TAGGER = [sys.executable, "-m", "tagger"]
LONG_S = 180.0
"""Time limit of what takes some seconds on a quiet machine, seconds. Generous: only a failure waits for all of it."""
_PORTS = itertools.count(os.getpid() * 101)
"""Two processes that test at a time begin far from each other."""
_FENCE = "fence/"
"""Topics of a subscriber's own messages begin with this."""


def run(*args: object, stdin: bytes | None = None, **env: str) -> click.testing.Result:
    """Runs the command in this process, without the seconds that a new one takes to import torch."""
    return click.testing.CliRunner(env=env).invoke(main, [str(arg) for arg in args], input=stdin)


def refused(result: click.testing.Result, *words: str) -> None:
    """Checks that a command ended with exit code 2 and one line that contains these words."""
    assert result.exit_code == 2, result.output
    _says_in_one_line(result.stderr, *words)


def refused_process(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Checks the same for a command that ran in its own process."""
    assert done.returncode == 2, done.stderr
    _says_in_one_line(done.stderr, *words)


def _says_in_one_line(stderr: str, *words: str) -> None:
    errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in errors[0]


def tagger(
    *args: object, stdin: bytes | None = None, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    command = [*TAGGER, *map(str, args)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, env=os.environ | env, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def running(*args: object, stdin: int | None = subprocess.DEVNULL, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the command in the background; kills it at the end of the block if it still runs."""
    process = subprocess.Popen(
        [*TAGGER, *map(str, args)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | env,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Asks the process to end. Returns its exit code and its output."""
    process.send_signal(number)
    out, err = process.communicate(timeout=LONG_S)
    return process.returncode, out.decode(), err.decode()


def until_said(process: subprocess.Popen[bytes], words: str, seconds: float = LONG_S) -> str:
    """Reads standard error until it has these words. Returns what was read; `stop` returns the rest."""
    assert process.stderr is not None
    said, deadline = b"", time.monotonic() + seconds
    while words not in said.decode(errors="replace"):
        ready, _, _ = select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(process.stderr.fileno(), 65_536) if ready else b""
        if not more:
            pytest.fail(f"{'it ended' if ready else f'after {seconds:g} s'}, and never said {words!r}: {said.decode()}")
        said += more
    return said.decode()


def until_it_catches(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Waits until the process has a handler of its own for this signal. Skips the test where there is no /proc."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc")

    def caught() -> int:
        (mask,) = re.findall(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        return int(mask, 16) >> (number - 1) & 1

    until(caught, f"it catches {number.name}")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """In the block, this process can write files of so many bytes at most. Skips the test where that cannot be."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def free_port() -> int:
    """A port on which nobody listens, another one at each call.

    It is none of those that Linux gives to outgoing connections (from 32768 on): a client could take it before it is
    used, or while a broker that had it is away, and whoever tried to reach that broker could be connected to itself.
    """
    while True:
        port = 10_000 + next(_PORTS) % 22_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Mosquitto:
    """A real broker on 127.0.0.1. Skips the test where the program is not installed."""

    def __init__(self, folder: Path, *config: str, port: int | None = None) -> None:
        self.program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if self.program is None:
            pytest.skip("mosquitto is not installed (apt install mosquitto)")
        self.port = port or free_port()
        self.config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *(config or ["allow_anonymous true"])]
        if os.geteuid() == 0:  # otherwise it becomes a user who may not read this folder
            lines.append("user root")
        self.config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> "Mosquitto":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.kill()
        assert self.program is not None
        self._process = subprocess.Popen(
            [self.program, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: can_connect(self.port), "mosquitto answers")
        assert self._process.poll() is None, f"mosquitto has ended; is port {self.port} taken?"

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def restart(self) -> None:
        """Ends it in order, so that it writes down what it holds, and starts it again."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait(LONG_S)
        self.start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Subscriber:
    """A client that keeps all messages in order, with their time on the monotonic clock."""

    def __init__(
        self,
        port: int,
        topics: str = "#",
        retry_s: float = 1.0,
        user: str | None = None,
        password: str | None = None,
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
    ) -> None:
        self.messages: list[tuple[float, paho.MQTTMessage]] = []
        self.subscriptions = 0
        """Number of subscriptions so far."""
        self._fence = f"{_FENCE}{id(self)}"
        self._fences = 0
        """Number of fence messages that came back."""
        subscribed = threading.Event()

        def on_subscribe(*_: object) -> None:
            self.subscriptions += 1
            subscribed.set()

        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe([(topics, 1), (self._fence, 1)])
        self._client.on_subscribe = on_subscribe
        self._client.on_message = lambda _client, _data, message: self._received(message)
        self._client.reconnect_delay_set(retry_s, retry_s)  # type: ignore[arg-type]
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(LONG_S), "the subscriber was never subscribed"

    def _received(self, message: paho.MQTTMessage) -> None:
        if message.topic == self._fence:
            self._fences += 1
        elif not message.topic.startswith(_FENCE):
            self.messages.append((time.monotonic(), message))

    def catch_up(self) -> None:
        """Waits for all messages that the broker has for it by now, such as the retained ones."""
        before = self._fences
        self.publish(self._fence, "")  # a broker keeps the order of messages
        until(lambda: self._fences > before, "the broker passes on what it has")

    def payloads(self, topic: str) -> list[str]:
        return [message.payload.decode() for _, message in list(self.messages) if message.topic == topic]

    def jsons(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.payloads(topic)]

    def publish(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(LONG_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Without these it is no cycle, and its sockets are closed at once.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None


@contextmanager
def subscribed(port: int, topics: str = "#", **options: Any) -> Iterator[Subscriber]:
    subscriber = Subscriber(port, topics, **options)
    try:
        yield subscriber
    finally:
        subscriber.close()


def until(true: Callable[[], object], what: str, seconds: float = LONG_S) -> None:
    """Waits until `true()` is; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s still not: {what}")
        time.sleep(0.02)


def until_heard(subscriber: Subscriber, scores: str, end: float) -> None:
    """Waits until the windows of which this topic tells have passed this time, seconds since the epoch."""
    until(lambda: datetime.fromisoformat(subscriber.jsons(scores)[-1]["time"]).timestamp() > end, "all of it is heard")


class VirtualMicrophone:
    """PulseAudio with a null sink, whose monitor is the default input of PortAudio's device `pulse`."""

    PROGRAMS = ("pulseaudio", "pactl", "paplay")

    def __init__(self, folder: Path) -> None:
        missing = [program for program in self.PROGRAMS if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed (apt install pulseaudio pulseaudio-utils)")
        if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
            pytest.skip("ALSA cannot reach PulseAudio (apt install libasound2-plugins)")
        (folder / ".asoundrc").write_text("pcm.!default pulse\nctl.!default pulse\n")
        self.env = {"HOME": str(folder), "PULSE_RUNTIME_PATH": str(folder / "pulse")}
        shutil.rmtree(folder / "pulse", ignore_errors=True)
        (folder / "pulse").mkdir(mode=0o700)
        self._process = subprocess.Popen(
            [
                "pulseaudio",
                *("-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit"),
                *("-L", "module-native-protocol-unix", "-L", "module-null-sink sink_name=mic rate=44100"),
            ],
            env=os.environ | self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self._pactl("set-default-source", "mic.monitor") == 0, "PulseAudio answers")

    def _pactl(self, *args: str) -> int:
        command = ["pactl", *args]
        return subprocess.run(command, env=os.environ | self.env, capture_output=True, check=False).returncode

    def play(self, path: Path) -> None:
        """Plays a file. Returns when it has been played."""
        subprocess.run(["paplay", "-d", "mic", str(path)], env=os.environ | self.env, check=True, timeout=600)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate_hz: int = 32_000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def siren(seconds: float, rate_hz: int = 32_000) -> "np.ndarray[Any, Any]":
    """Samples of a siren that rises and falls in a faint wind, which is announced; without wind it is a theremin."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * np.cumsum(1000 - 500 * np.cos(2 * np.pi * 0.2 * time_s)) / rate_hz
    wind = 0.01 * np.random.default_rng(0).standard_normal(len(time_s))
    return sum((0.3 / k * np.sin(k * phase) for k in range(1, 7)), wind)


def write_siren(path: Path, silent_s: float) -> Path:
    """Writes a file with silence, 20 s of a siren, and 8 s of silence."""
    return write_wav(path, np.concatenate([np.zeros(round(silent_s * 32_000)), siren(20), np.zeros(8 * 32_000)]))
