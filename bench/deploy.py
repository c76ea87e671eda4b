"""The install script and the service on a bare Debian that boots: installed twice, heard over MQTT, removed again.

    sudo python bench/deploy.py [--suite bookworm] [--folder /var/tmp/tagger-deploy]

It needs root and Debian's debootstrap, systemd-container and mosquitto. `debootstrap` fills FOLDER/SUITE once; a
container of that boots systemd, below a layer that takes all changes. In it,

1. `deploy/install.sh` runs twice, and the second time starts the service;
2. the service plays a clip, through its own ExecStart and in its own sandbox; a broker outside gets its events;
3. a daemon that hangs is restarted by systemd's watchdog;
4. `bench/deploy_probe.py` takes the daemon's place in the sandbox, and tries what must succeed and what must fail;
5. `deploy/install.sh --uninstall` and `apt autoremove` remove it, and each file that is left is named.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bare_debian import (
    Check,
    Machine,
    all_right,
    bare_tree,
    booted,
    changed,
    files_of,
    layered,
    megabytes,
    timed,
    until,
)

from tagger.bench.usage import usage

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.programs import Subscriber, can_connect, free_port  # noqa: E402

_PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
"""What a Debian that boots has, beyond the smallest tree."""
_AUDIO = 29
"""Number of Debian's group audio."""
_CARD = ("controlC0", "pcmC0D0c")
"""Devices of a sound card. Nobody drives them here: opening one gives ENODEV or ENXIO where it is allowed."""
_KEPT_BY_OTHERS = (
    "var/log/",
    "var/cache/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/lib/systemd/",
    "etc/ld.so.cache",
    "etc/hosts",
)
"""Where apt and systemd keep their own records; and what the package netbase makes where it is missing."""
_BACKUPS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-")
"""What `useradd` and `userdel` leave of the version before."""
_EXPOSURE = 2.0
"""Highest exposure that is accepted."""
_SETTINGS = """
[listen]
sources = ["clip=/var/lib/tagger/clip.ogg", "stream=http://127.0.0.1:{web}/demo.ogg"]
[mqtt]
url = "mqtt://127.0.0.1:{port}"
"""
_PROBE = """
[Service]
Type=oneshot
WatchdogSec=0
Restart=no
ExecStart=
ExecStart=/opt/tagger/current/bin/python /var/lib/tagger/probe.py
"""
_WATCHDOG = """
[Service]
WatchdogSec=5s
TimeoutAbortSec=5s
RestartSec=1s
"""
_DROP_IN = "etc/systemd/system/tagger.service.d"
_INSTALL = "/checkout/deploy/install.sh"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="Debian's name, 12 or newer")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/tagger-deploy"))
    parser.add_argument(
        "--deb", action="store_true", help="the package instead of the script; a suite with Python as here"
    )
    options = parser.parse_args()
    missing = [each for each in ("debootstrap", "systemd-nspawn", "mosquitto") if not shutil.which(each)]
    if os.geteuid() != 0 or missing:
        sys.exit("this needs root, and: apt install debootstrap systemd-container mosquitto")
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        root = stack.enter_context(layered(bare_tree(options.folder / options.suite, options.suite, _PACKAGES)))
        machine = stack.enter_context(booted(root, f"--bind={sound_card(root.parent / 'snd')}:/dev/snd"))
        port = stack.enter_context(broker(root.parent / "mosquitto.conf"))
        web = stack.enter_context(web_server(ROOT / "tagger/sources/demo"))
        do = package_checks if options.deb else checks
        is_right = all_right(do(machine, _SETTINGS.format(port=port, web=web), port))
    sys.exit(not is_right)


def sound_card(folder: Path) -> Path:
    """Makes the devices of a sound card that nobody drives."""
    folder.mkdir()
    for minor, name in enumerate(_CARD):
        subprocess.run(["mknod", "-m", "660", str(folder / name), "c", "116", str(minor)], check=True)
        os.chown(folder / name, 0, _AUDIO)
    return folder


@contextmanager
def broker(settings: Path) -> Iterator[int]:
    """A Mosquitto outside the container; its port."""
    port = free_port()
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(["mosquitto", "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until("the broker", lambda: can_connect(port))
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def web_server(folder: Path) -> Iterator[int]:
    """Serves the files of a folder; its port."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def checks(machine: Machine, settings: str, port: int) -> Iterator[Check]:
    """All of it, in order."""
    before = files_of(machine.root)
    yield from installs_twice(machine, settings)
    yield from labels_a_clip(machine, port)
    yield from is_restarted_when_it_hangs(machine)
    yield from keeps_to_its_sandbox(machine)
    yield from leaves_only_data(machine, before)


def package_checks(machine: Machine, settings: str, port: int) -> Iterator[Check]:
    """The same of the package, as far as it differs."""
    before, data = files_of(machine.root), machine.root / "var/lib/tagger"
    subprocess.run([ROOT / "deploy/deb/build", machine.root / "var/cache"], check=True, stdout=sys.stderr)
    (package,) = (machine.root / "var/cache").glob("tagger_*.deb")
    machine.run("apt-get", "update", "-qq")
    install = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", f"/var/cache/{package.name}")
    seconds = timed(lambda: machine.run(*install))
    yield f"{package.name}, {package.stat().st_size / 1e6:.0f} MB, installed in {seconds:.0f} s", True
    put_settings(machine, settings)
    machine.run("systemctl", "enable", "--now", "tagger")
    yield from labels_a_clip(machine, port)
    machine.run("apt-get", "remove", "-qq", "-y", "tagger")
    yield "apt remove leaves the data", (data / "tagger.toml").exists()
    machine.run("apt-get", "purge", "-qq", "-y", "tagger")
    machine.run("apt-get", "autoremove", "--purge", "-qq", "-y")
    paths = changed(before, files_of(machine.root))
    left = [path for path in paths if not path.startswith((*_KEPT_BY_OTHERS, *_BACKUPS))]
    yield f"apt purge leaves: {left}", not left


def put_settings(machine: Machine, settings: str) -> None:
    """Lays a clip and settings into the service's folder."""
    data = machine.root / "var/lib/tagger"
    shutil.copy(ROOT / "tagger/sources/demo/demo.ogg", data / "clip.ogg")
    (data / "tagger.toml").write_text(settings)
    machine.run("chown", "-R", "tagger:tagger", "/var/lib/tagger")


def installs_twice(machine: Machine, settings: str) -> Iterator[Check]:
    app = machine.root / "opt/tagger"
    seconds = timed(lambda: machine.run(_INSTALL, "--no-start"))
    yield f"installed in {seconds:.0f} s; /opt/tagger has {megabytes(app)}", True
    yield "not started, as asked", machine.property("ActiveState") == "inactive"
    first = (app / "current").readlink()

    put_settings(machine, settings)
    seconds = timed(lambda: machine.run(_INSTALL))
    yield f"installed again in {seconds:.0f} s, and started", machine.property("ActiveState") == "active"
    releases = [Path("/opt/tagger", each.name) for each in app.glob("venv-*")]
    yield "one release is left, the new one", releases == [(app / "current").readlink()] and first not in releases
    machine.run("touch", "/var/cache/broken.whl")
    said = machine.run(_INSTALL, "--wheel", "/var/cache/broken.whl", check=False)
    kept = [Path("/opt/tagger", each.name) for each in app.glob("venv-*")]
    running = machine.property("ActiveState") == "active" and machine.property("NRestarts") == "0"
    yield (
        f"a new version that cannot be installed leaves the old one: {said.splitlines()[-1]}",
        kept == releases and running,
    )
    found = machine.run("tagger", "config", "check", "--offline")
    yield "`sudo tagger` acts for the service: it reads its settings", "/var/lib/tagger/tagger.toml" in found


def labels_a_clip(machine: Machine, port: int) -> Iterator[Check]:
    subscriber, begun = Subscriber(port), time.monotonic()
    machine.run("systemctl", "restart", "tagger")
    until("a label", lambda: labels(subscriber))
    machine.run("systemctl", "reload", "tagger")
    yield "it lives after a reload", machine.property("ActiveState") == "active"
    until("five labels", lambda: len(labels(subscriber)) >= 5)
    yield f"five labels in {time.monotonic() - begun:.0f} s: {', '.join(labels(subscriber))}", True
    until("a label of the stream", lambda: labels(subscriber, "stream"))
    yield f"a stream by HTTP is heard, too: {', '.join(labels(subscriber, 'stream'))}", True
    used = usage(machine.process_outside(int(machine.property("MainPID"))))
    yield f"memory of the service: {used.resident_bytes / 1e6:.0f} MB", used.resident_bytes > 0
    odd = [line for line in log(machine) if any(word in line.lower() for word in ("error", "permi", "traceback"))]
    yield f"lines of the log that name an error: {odd}", not odd
    yield "it was not restarted", machine.property("NRestarts") == "0"
    machine.run("systemctl", "stop", "tagger")
    yield "stopped without a failure", machine.property("Result") == "success"


def keeps_to_its_sandbox(machine: Machine) -> Iterator[Check]:
    last = machine.run("systemd-analyze", "security", "--no-pager", "tagger").splitlines()[-1]
    exposure = float(last.split(":")[1].split()[0])
    yield f"systemd-analyze security: {exposure}", exposure <= _EXPOSURE

    probe = machine.root / "var/lib/tagger/probe.py"
    shutil.copy(ROOT / "bench/deploy_probe.py", probe)
    with changed_unit(machine, _PROBE):
        machine.run("systemctl", "start", "tagger", check=False)
    lines = log(machine)
    for line in lines:
        if line.startswith("probe "):
            _, verdict, what = line.split(" ", 2)
            yield f"in the sandbox: {what}", verdict == "ok"
    if "probe ok came to its end" not in lines:
        yield "\n".join(["the probe did not come to its end:", *lines[-10:]]), False
    probe.unlink()


def is_restarted_when_it_hangs(machine: Machine) -> Iterator[Check]:
    """Stops the process, as a deadlock would, under a watchdog of 5 s."""
    with changed_unit(machine, _WATCHDOG):
        machine.run("systemctl", "start", "tagger")
        until("a status", lambda: machine.property("StatusText"))
        yield f"systemctl status: {machine.property('StatusText')}", True
        yield f"sudo tagger status: {machine.run('tagger', 'status', check=False).splitlines()[0]}", True
        first, begun = machine.property("MainPID"), time.monotonic()
        machine.run("sh", "-c", f"kill -STOP {first}")
        until("a restart", lambda: machine.property("NRestarts") == "1" and machine.property("ActiveState") == "active")
        seconds = time.monotonic() - begun
        yield f"a process that hangs is restarted after {seconds:.0f} s", machine.property("MainPID") != first
        machine.run("systemctl", "stop", "tagger")


@contextmanager
def changed_unit(machine: Machine, lines: str) -> Iterator[None]:
    """The service with other lines, for a while."""
    drop_in = machine.root / _DROP_IN
    drop_in.mkdir()
    (drop_in / "bench.conf").write_text(lines)
    machine.run("systemctl", "daemon-reload")
    yield
    shutil.rmtree(drop_in)
    machine.run("systemctl", "daemon-reload")


def leaves_only_data(machine: Machine, before: dict[str, tuple[int, int]]) -> Iterator[Check]:
    data = machine.root / "var/lib/tagger"
    seconds = timed(lambda: machine.run(_INSTALL, "--uninstall"))
    machine.run("apt-get", "autoremove", "--purge", "-qq", "-y")
    paths = changed(before, files_of(machine.root))
    left = [path for path in paths if not path.startswith(("var/lib/tagger/", *_KEPT_BY_OTHERS, *_BACKUPS))]
    yield f"removed in {seconds:.0f} s; left, beside /var/lib/tagger: {left}", not left
    yield "the data are left", (data / "tagger.toml").exists()
    machine.run(_INSTALL, "--purge")
    yield "--purge removes them, too", not data.exists()
    machine.run(_INSTALL, "--uninstall")
    yield "--uninstall of nothing is no error", True


def labels(subscriber: Subscriber, source: str | None = None) -> list[str]:
    """Labels of which an event has begun, in any source or in one."""
    events = [json.loads(each.payload) for _, each in list(subscriber.messages) if each.topic.endswith("/event")]
    begun = [event for event in events if event["type"] == "begin" and source in (None, event["source"])]
    return sorted({event["label"] for event in begun})


def log(machine: Machine) -> list[str]:
    """What the service has printed."""
    return machine.run("journalctl", "--no-pager", "--output=cat", "--unit=tagger").splitlines()


if __name__ == "__main__":
    main()
