"""The container files, built and run by Podman: image, compose with its broker, add-on, quadlet.

    sudo python bench/images.py [--folder /var/tmp/tagger-deploy] [--compose podman-compose]

It needs root, Debian's debootstrap, podman, buildah, runc, netavark, aardvark-dns and iptables, and podman-compose. No
registry is asked: the base image is made by `debootstrap`, as Debian's own is, and Mosquitto's of that and Debian's
package. So it says how our files build and run, and nothing about other people's images.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bare_debian import Check, all_right, bare_tree, files_of, layered, timed, until

from deploy import broker, labels

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.programs import Subscriber, can_connect, free_port  # noqa: E402

_BASE = "docker.io/library/debian:trixie-slim"
_MOSQUITTO = "docker.io/library/eclipse-mosquitto:2"
_NEEDED = ("debootstrap", "podman", "buildah", "runc", "iptables")
_LEFT_OUT = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "var/cache/*", "var/lib/apt/lists/*", "dev/*")
"""What Debian's slim image has not either."""
_ENGINE = """
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
_MOSQUITTO_FILE = f"""
FROM {_BASE}
RUN apt-get update && apt-get install -y --no-install-recommends mosquitto && rm -rf /var/lib/apt/lists/* && \\
    install -d -m 0777 /mosquitto/config /mosquitto/data
"""
_SAFE = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host", "--rm")
_OPENS_A_CARD = "import os; os.open('/dev/snd/controlC0', os.O_RDWR)"
_FEWEST_LABELS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/tagger-deploy"))
    parser.add_argument("--compose", default="podman-compose", help="the program podman-compose")
    options = parser.parse_args()
    missing = [each for each in (*_NEEDED, options.compose) if not shutil.which(each)]
    if os.geteuid() != 0 or missing:
        sys.exit(f"this needs root, and: {', '.join(missing)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        is_right = all_right(checks(options.folder, Path(name), options.compose))
    sys.exit(not is_right)


def checks(folder: Path, work: Path, compose: str) -> Iterator[Check]:
    """All of it, in order."""
    (work / "engine.conf").write_text(_ENGINE)
    os.environ["CONTAINERS_CONF"] = str(work / "engine.conf")
    tree = bare_tree(folder / "trixie", "trixie")
    left_out = [f"--exclude=./{each}" for each in _LEFT_OUT]
    with subprocess.Popen(["tar", "-C", str(tree), "-c", *left_out, "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["podman", "import", "-", _BASE], stdin=tar.stdout, check=True, capture_output=True)
    yield from image(work)
    yield from composed(work, compose)
    yield from addon(work)
    yield from quadlet(tree)


def image(work: Path) -> Iterator[Check]:
    seconds = timed(lambda: build("tagger", ROOT / "deploy/container/Containerfile", ROOT, work))
    yield f"image built in {seconds:.0f} s: {megabytes('tagger')}, of which the base {megabytes(_BASE)}", True
    demo = ROOT / "tagger/sources/demo/demo.ogg"
    here = json.loads(run(sys.executable, "-m", "tagger", "tag", str(demo), "--json").splitlines()[0])
    there = json.loads(
        podman(*_SAFE, f"--volume={demo}:/demo.ogg:ro", "tagger", "tag", "/demo.ogg", "--json").splitlines()[0]
    )
    same = [each["label"] for each in here["top"]] == [each["label"] for each in there["top"]]
    yield f"read-only, without rights, it tags the demo as this machine does: {there['top'][0]}", same
    user = podman(*_SAFE, "--entrypoint=id", "tagger").strip()
    yield f"it runs as {user}", "uid=10001" in user
    yield from sound_card(work)


def sound_card(work: Path) -> Iterator[Check]:
    """A device that nobody drives gives ENXIO or ENODEV where it may be opened, else EPERM or EACCES."""
    card = work / "snd"
    card.mkdir()
    run("mknod", "-m", "660", str(card / "controlC0"), "c", "116", "0")
    os.chown(card / "controlC0", 0, 29)
    python = ("--entrypoint=/opt/tagger/bin/python", "tagger", "-c", _OPENS_A_CARD)
    rights = (f"--volume={card}:/dev/snd", "--device-cgroup-rule=c 116:* rw", "--group-add=29")
    for what, given, is_open in (
        ("the folder, the rule and the group", rights, True),
        ("the folder and the rule", rights[:2], False),
        ("the folder and the group", (rights[0], rights[2]), False),
    ):
        said = podman(*_SAFE, *given, *python, check=False)
        yield f"a sound card, with {what}: {said.splitlines()[-1]}", ("No such device" in said) == is_open


def composed(work: Path, compose: str) -> Iterator[Check]:
    (work / "Mosquitto").write_text(_MOSQUITTO_FILE)
    build(_MOSQUITTO, work / "Mosquitto", work, work)
    folder, port = work / "checkout/deploy/compose", free_port()
    shutil.copytree(ROOT / "deploy", work / "checkout/deploy", ignore=shutil.ignore_patterns(".env", "data", "secrets"))
    run(str(folder / "setup"))
    settings = folder / "data/tagger/tagger.toml"
    settings.write_text(settings.read_text().replace('["mic"]', '["demo"]'))
    with (folder / ".env").open("a") as file:
        file.write(f"COMPOSE_FILE=compose.yaml\nMQTT_PORT={port}\n")
    with ExitStack() as stack:
        stack.callback(run, compose, "down", cwd=folder)
        run(compose, "up", "-d", cwd=folder)
        until("the broker", lambda: can_connect(port))
        password = (folder / "secrets/mqtt_homeassistant").read_text().strip()
        subscriber = Subscriber(port, user="homeassistant", password=password)
        until("labels over MQTT", lambda: len(labels(subscriber)) >= _FEWEST_LABELS)
        yield f"compose: the broker passes on {', '.join(labels(subscriber))}", True
        told = {each.topic for _, each in subscriber.messages if each.topic.startswith("homeassistant/")}
        yield f"compose: announced to Home Assistant on {', '.join(told)}", len(told) == 1
        container = run(compose, "ps", "-q", cwd=folder).split()
        asked = [run("podman", "exec", each, "tagger", "status", check=False) for each in container]
        yield "compose: `tagger status` in the container answers", any("demo" in each for each in asked)
        written = [path for path in files_of(folder) if path.startswith("data/tagger/state/")]
        yield f"compose: the daemon wrote {len(written)} files under data/tagger/state", bool(written)


def addon(work: Path) -> Iterator[Check]:
    run(str(ROOT / "deploy/homeassistant/pack"), str(work / "addons"))
    folder, data = work / "addons/tagger", work / "data"
    wheel = next(folder.glob("tagger-*.whl"))
    yield f"add-on: packed with {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB", True
    seconds = timed(lambda: build("tagger-addon", folder / "Dockerfile", folder, work))
    yield f"add-on: built in {seconds:.0f} s: {megabytes('tagger-addon')}", True
    data.mkdir()
    (data / "options.json").write_text(json.dumps({"sources": ["demo"], "labels": ["siren"]}))
    with broker(work / "mosquitto.conf") as port, supervisor(port) as address:
        subscriber = Subscriber(port)
        mounts = (
            f"--volume={data}:/data",
            f"--add-host=supervisor:{address}",
            "--network=host",
            "--env=SUPERVISOR_TOKEN=t",
        )
        container = podman("-d", *mounts, "tagger-addon").strip()
        try:
            until("labels over MQTT", lambda: len(labels(subscriber)) >= _FEWEST_LABELS)
            yield f"add-on: the Supervisor's broker passes on {', '.join(labels(subscriber))}", True
            yield "add-on: it is healthy", not run("podman", "healthcheck", "run", container).strip()
        finally:
            run("podman", "rm", "--force", "--time=20", container)
        left = [each.payload for _, each in subscriber.messages if each.topic == "tagger/homeassistant/status"]
        yield f"add-on: it said goodbye: {left}", left[-1:] == [b"offline"]


def quadlet(tree: Path) -> Iterator[Check]:
    """Asks Podman's generator, of a version that has one, for the service that it makes of our file."""
    with layered(tree) as root:
        shutil.copytree(ROOT / "deploy/quadlet", root / "quadlet")
        inside = ("chroot", str(root), "sh", "-ec")
        run(*inside, "cd /tmp; apt-get update -qq; apt-get download -qq podman; dpkg -x podman_*.deb podman")
        generator = "QUADLET_UNIT_DIRS=/quadlet /tmp/podman/usr/libexec/podman/quadlet"
        said = run(*inside, f"{generator} -dryrun -user", check=False)
    safe = ("--read-only", "--cap-drop all", "no-new-privileges", "--userns keep-id:uid=10001,gid=10001")
    line = next((line for line in said.splitlines() if line.startswith("ExecStart=")), said)
    yield f"quadlet: {line}", all(each in line for each in safe)


@contextmanager
def supervisor(port: int) -> Iterator[str]:
    """Home Assistant's Supervisor, as far as the add-on asks it: its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            service = {"host": "127.0.0.1", "port": port, "ssl": False, "username": "", "password": ""}
            self.wfile.write(json.dumps({"result": "ok", "data": service}).encode())

        def log_message(self, *_: object) -> None:
            pass

    address = "127.0.0.80"
    with ThreadingHTTPServer((address, 80), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()


def run(*command: str, check: bool = True, cwd: Path | None = None) -> str:
    """Runs a command; what it prints. Exits if it fails, unless `check` is false."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=cwd)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout if check else done.stdout + done.stderr


def podman(*arguments: str, check: bool = True) -> str:
    return run("podman", "run", *arguments, check=check)


def build(name: str, file: Path, context: Path, work: Path) -> None:
    """Builds an image. A certificate of this network's own is seen while it is built, and not kept."""
    options = []
    if certificate := os.environ.get("PIP_CERT"):
        (work / "pip.conf").write_text("[global]\ncert = /etc/outside.pem\n")
        options = [f"--volume={work}/pip.conf:/etc/pip.conf:ro", f"--volume={certificate}:/etc/outside.pem:ro"]
    command = ["buildah", "bud", "--isolation=chroot", "--network=host", "--format=docker", "--layers", *options]
    run(*command, "--file", str(file), "--tag", name, str(context))


def megabytes(image: str) -> str:
    return f"{int(run('podman', 'image', 'inspect', '--format={{.Size}}', image)) / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
