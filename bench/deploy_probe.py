"""Run by systemd in the place of the daemon, in the daemon's sandbox: tries what must succeed and what must fail.

It prints a line `probe ok WHAT` or `probe FAIL WHAT` for each. `bench/deploy.py` puts it there and reads the lines.
Outside the sandbox, as root, what must fail would be done: it refuses root.
"""

import ctypes
import errno
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_NOBODY_DRIVES_IT = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
"""Errors of a device that may be opened, and of which the kernel has no driver."""


def error_of(do: Callable[[], object]) -> int:
    """The number of the error that it ends with; 0: none."""
    try:
        do()
    except OSError as error:
        return error.errno or -1
    return 0


def tell(what: str, ok: bool, found: object = "") -> None:
    print(f"probe {'ok' if ok else 'FAIL'} {what}{'' if ok else f': {found}'}", flush=True)


def succeeds(what: str, do: Callable[[], object], or_errors: Iterable[int] = ()) -> None:
    found = error_of(do)
    tell(what, found in (0, *or_errors), os.strerror(found))


def fails(what: str, do: Callable[[], object]) -> None:
    tell(what, error_of(do) != 0, "is possible")


def make_file(folder: str) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


def connect_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def call(name: str, *args: object) -> None:
    """Calls a function of the C library that returns -1 for an error."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), "")


def main() -> None:
    if os.geteuid() == 0:
        sys.exit("deploy_probe: root may mount and set the clock; `python bench/deploy.py` runs this in the sandbox")
    for name in ("controlC0", "pcmC0D0c"):
        succeeds(f"opens /dev/snd/{name}", lambda name=name: os.open(f"/dev/snd/{name}", os.O_RDWR), _NOBODY_DRIVES_IT)
    succeeds("writes /var/lib/tagger", lambda: make_file("/var/lib/tagger"))
    succeeds("writes /run/tagger", lambda: make_file("/run/tagger"))
    succeeds("makes a FIFO in /run/tagger", lambda: os.mkfifo("/run/tagger/probe.fifo"))
    succeeds("connects by TCP", connect_to_itself)
    succeeds("opens a UDP socket of IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close())
    succeeds("opens a Unix socket", lambda: socket.socket(socket.AF_UNIX).close())
    succeeds("starts a thread", lambda: threading.Thread(target=int).start())
    succeeds("starts a process", lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0))
    succeeds("reads /proc/cpuinfo", lambda: Path("/proc/cpuinfo").read_text())

    import av
    import onnxruntime
    import sounddevice

    from tagger.checkpoints.store import find

    succeeds("loads PortAudio", sounddevice.query_devices)
    succeeds("loads FFmpeg", lambda: av.Codec("aac", "r"))
    graph = str(find("esc50").with_suffix(".onnx"))
    succeeds("loads a network", lambda: onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]))

    fails("does not write its own code", lambda: os.open("/opt/tagger/current/bin/tagger", os.O_WRONLY))
    fails("does not write /etc", lambda: make_file("/etc"))
    fails("does not write /usr", lambda: make_file("/usr/local"))
    fails("does not see into /root", lambda: list(Path("/root").iterdir()))
    fails("does not see into /home", lambda: list(Path("/home/somebody").iterdir()))
    fails("does not open /dev/kmsg", lambda: os.open("/dev/kmsg", os.O_RDONLY))
    fails("does not open another device", lambda: os.open("/dev/console", os.O_RDWR | os.O_NOCTTY))
    fails("opens no raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    fails("opens no packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    fails("makes no namespace", lambda: call("unshare", 0x10000000))
    fails("mounts nothing", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
    fails("does not change its user", lambda: os.setuid(0))
    fails("does not set the clock", lambda: call("clock_settime", 0, ctypes.create_string_buffer(16)))
    tell("does not see the processes of others", not Path("/proc/1").exists(), "sees process 1")
    tell("came to its end", True)


if __name__ == "__main__":
    main()
