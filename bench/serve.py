"""Recordings by HTTP through Ray Serve: as fast as `tagger tag`, the same scores, and unharmed by what is no recording?

    python bench/archive.py make clips/ recordings/ --hours 0.5 && python bench/serve.py recordings/

Needs the extra `serve`. The cluster is this machine, with a replica for each core.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

CORES = len(os.sched_getaffinity(0))


def tagged(folder: Path) -> tuple[float, dict[str, list[Any]]]:
    """Seconds that `tagger tag` takes, and its windows by file."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tagger", "tag", "--json", str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took_s, found = time.monotonic() - began, dict[str, list[Any]]()
    for line in map(json.loads, printed.splitlines()):
        found.setdefault(line["file"], []).append(line)
    return took_s, found


def post(port: int, path: Path) -> tuple[int, dict[str, Any]]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=600)) as connection, path.open("rb") as file:
        connection.request("POST", f"/tag?parts=windows&file={quote(str(path))}", file)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def raw(port: int, head: str, body: bytes = b"", times: int = 1) -> str:
    """The first line that answers a request made by hand, or what happened instead."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with suppress(ConnectionError):
            connection.sendall(f"POST /tag HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
            for _ in range(times):
                connection.sendall(body)
        try:
            return connection.recv(1000).partition(b"\r\n")[0].decode() or "closed"
        except OSError as error:
            return type(error).__name__


def hostile(port: int, good: bytes) -> None:
    """Says what answers bodies that are no recording."""
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    for what, head, body, times in (
        ("empty", "Content-Length: 0", b"", 1),
        ("text", "Content-Length: 4000", b"text" * 1000, 1),
        ("a list of other files", "Content-Length: 41", b"ffconcat version 1.0\nfile '/etc/hostname'\n"[:41], 1),
        ("half of a recording", f"Content-Length: {len(good) // 2}", good[: len(good) // 2], 1),
        ("10 TB, it says", "Content-Length: 10000000000000", b"", 1),
        ("2 GB in chunks", "Transfer-Encoding: chunked", chunk, 32_000),
        ("less than it says", "Content-Length: 100000", b"RIFF", 1),
        ("more than it says", "Content-Length: 4", good[:100_000], 1),
    ):
        began = time.monotonic()
        print(f"{what}: {raw(port, head, body, times)}, after {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--clients", type=int, default=2 * CORES, help="requests at once")
    args = parser.parse_args()
    with TemporaryDirectory(dir="/tmp") as folder:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": folder, "RAY_worker_niceness": "0"}
        run(args.recordings, args.clients, folder)


def run(recordings: Path, clients: int, folder: str) -> None:
    import ray
    from ray import serve

    from tagger.ray.serve import app

    alone_s, expected = tagged(recordings)
    ray.init(num_cpus=CORES, include_dashboard=False, _temp_dir=folder, logging_level="ERROR", log_to_driver=False)
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        began = time.monotonic()
        serve.run(app({"idle_s": "5"}), name="tagger")
        print(f"the first replica was ready after {time.monotonic() - began:.1f} s", flush=True)
        paths = [Path(each) for each in expected]
        for number in range(3):
            began = time.monotonic()
            with ThreadPoolExecutor(clients) as pool:
                answers = list(pool.map(lambda path: post(port, path), paths))
            took_s = time.monotonic() - began
            bad = [status for status, _ in answers if status != 200]
            print(
                f"round {number}: {len(paths)} recordings in {took_s:.1f} s, {len(paths) / took_s:.2f} a second, with "
                f"{clients} at once; tagger tag {alone_s:.1f} s; {len(bad)} were not answered",
                flush=True,
            )
        differ = max(
            abs(ours["score"] - theirs["score"])
            for path, (_, answer) in zip(paths, answers, strict=True)
            for window, other in zip(answer["windows"], expected[str(path)], strict=True)
            for ours, theirs in zip(window["top"], other["top"], strict=True)
        )
        print(f"scores differ by at most {differ:.6f}", flush=True)
        hostile(port, paths[0].read_bytes())
        status, again = post(port, paths[0])
        same = again.get("windows") == answers[0][1]["windows"]
        print(f"then a recording: {status}, {'the same' if same else 'OTHER'} windows")
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
