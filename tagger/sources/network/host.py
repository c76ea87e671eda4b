"""The process that readers are forked from: `python -m tagger.sources.network.host FD`.

It loads FFmpeg once; a fork shares it and costs a few MB and a few milliseconds. It has one thread, so forks are safe.
It ends, with all readers, when the daemon's end of the socket closes, however the daemon died.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

from tagger.sources.network import reader
from tagger.sources.network.wire import Order

_MOST_BYTES = 1 << 16
"""Longest request."""


def serve(control: socket.socket) -> None:
    """Forks a reader for each order, and kills those that are not wanted any more, until the daemon is gone.

    A request is one JSON message: `{"start": ID, "order": {...}}`, with the reader's socket beside it, or
    `{"kill": ID}`.
    """
    reader.preload()
    children: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)
        if control.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(control, _MOST_BYTES, 1)
        if not data:
            break
        request = json.loads(data)
        if "kill" in request:
            _kill(children.get(request["kill"]))
            continue
        pid = os.fork()
        if not pid:
            control.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with socket.socket(fileno=descriptors[0]) as to:
                reader.Reader(Order(**request["order"]), to).run()
            os._exit(0)
        os.close(descriptors[0])
        children[request["start"]] = pid
    for pid in children.values():
        _kill(pid)


def _kill(pid: int | None) -> None:
    if pid is not None:  # it was not reaped, so no other process has its number
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int]) -> None:
    for key, pid in list(children.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del children[key]


if __name__ == "__main__":
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with socket.socket(fileno=int(sys.argv[1])) as from_daemon:
            serve(from_daemon)
    finally:
        os._exit(0)
