"""Latency from the last sample of a window to its `scores` message at a subscriber.

    python bench/latency.py [--seconds 60] [--hop 0.5] [--model esc50]

One live source: raw PCM written to `tagger listen -` at the pace of a microphone, 50 ms at a time. A window's clock
starts when the block that completes it has been written to the pipe, and stops when an independent MQTT client has the
message. The broker is mosquitto if it is installed, else the embedded one.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho

RATE_HZ = 32_000
BLOCK_SECONDS = 0.05
PROGRESS_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hop", type=float, default=0.5)
    parser.add_argument("--model", default="esc50")
    options = parser.parse_args()

    port = free_port()
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    broker = subprocess.Popen([mosquitto, "-p", str(port)], stderr=subprocess.DEVNULL) if mosquitto else None
    listen = [sys.executable, "-m", "tagger", "listen", "-", "--hop", str(options.hop), "--model", options.model]
    listen += ["--node", "bench", "--mqtt", f"mqtt://127.0.0.1:{port}" if broker else f"embedded:{port}"]
    daemon = subprocess.Popen(listen, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        arrived = subscribe(port)
        written = feed(daemon, options.seconds)
        time.sleep(1)
    finally:
        daemon.terminate()
        daemon.wait(10)
        if broker:
            broker.terminate()
            broker.wait(10)
    report(written, arrived, Path(mosquitto).name if mosquitto else "embedded broker")


def subscribe(port: int) -> dict[int, float]:
    """End of a window, samples -> monotonic time at which its message arrived. A thread fills the result."""
    arrived: dict[int, float] = {}

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        arrived[round(json.loads(message.payload)["end"] * RATE_HZ)] = now

    ready: list[bool] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("tagger/bench/stdin/scores")
    client.on_subscribe = lambda *_: ready.append(True)
    client.reconnect_delay_set(1, 1)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    deadline = time.monotonic() + 60
    while not ready and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ready:
        sys.exit("no broker answered")
    return arrived


def feed(daemon: "subprocess.Popen[bytes]", seconds: float) -> dict[int, float]:
    """Plays noise in real time. Returns: number of samples written -> monotonic time after the write."""
    assert daemon.stdin is not None
    block = int(RATE_HZ * BLOCK_SECONDS)
    noise = (np.random.default_rng(0).standard_normal(block * 40) * 1000).astype("<i2")
    written: dict[int, float] = {}
    began, given = time.monotonic(), 0
    while given < seconds * RATE_HZ:
        time.sleep(max(0.0, began + (given + block) / RATE_HZ - time.monotonic()))
        at = given % len(noise)
        daemon.stdin.write(noise[at : at + block].tobytes())
        daemon.stdin.flush()
        given += block
        written[given] = time.monotonic()
        if given % (PROGRESS_SECONDS * RATE_HZ) == 0:
            print(f"{given / RATE_HZ:.0f} of {seconds:.0f} s", file=sys.stderr)
    return written


def report(written: dict[int, float], arrived: dict[int, float], broker: str) -> None:
    latencies = np.array([1000 * (arrived[end] - written[end]) for end in sorted(arrived) if end in written])
    if not len(latencies):
        sys.exit("no message arrived")
    median, p99 = np.percentile(latencies, [50, 99])
    print(f"{len(latencies)} windows through {broker}, last sample to subscriber:")
    print(f"median {median:.1f} ms, p99 {p99:.1f} ms, longest {latencies.max():.1f} ms")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
