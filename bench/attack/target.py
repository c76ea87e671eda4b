"""The daemon that is attacked: the command itself, with a login, clips, events and scores, and what may not be read."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.attack.wire import CANARY, GUEST, OWNER, Pace, Tries, Wire
from tagger.clips.folder import EVENTS
from tagger.sources.file import DEMO
from tagger.web.passwords import hash_of
from tests.programs import can_connect, free_port, until
from tests.web.test_clips import save

SOURCE = "kitchen"
_RATE_HZ = 32_000
_BAIT = ("../secret.flac", "siren/../../secret.flac", "siren/link.flac", "linked/secret.flac", "siren/pipe.flac",
         "siren/%2e%2e%2fsecret.flac", "siren/a\u0000.flac", "/etc/passwd",
         "siren/<img src=x data-evil>.flac")  # fmt: skip
"""Names that the table of clips is made to hold; the ids of these events are bait0, bait1, ..."""


@dataclass(frozen=True)
class Cost:
    """What the daemon holds."""

    resident_mb: float
    descriptors: int
    threads: int


class Target:
    """The daemon, and what is known of it. Its owner is logged in from the start: guesses close the door for a time."""

    def __init__(self, port: int, folder: Path, process: "subprocess.Popen[bytes]", pace: Pace) -> None:
        self.port, self.folder, self._process, self._pace = port, folder, process, pace
        self._wires: list[Wire] = []
        self.origin = f"http://127.0.0.1:{port}"
        wire = self.wire()
        _, self.owner_cookie = wire.log_in(OWNER)
        _, self.guest_cookie = wire.log_in(GUEST)
        assert self.owner_cookie, "the owner cannot log in"
        assert self.guest_cookie, "the guest cannot log in"
        until(lambda: len(self.json("/api/events")["events"]) > 2, "the daemon hears the demo")
        self._settings = self._settings_now()
        self._files = self._files_now()
        time.sleep(15)  # connections and threads of the start end
        self.first = self.cost()

    @property
    def owner(self) -> dict[str, str]:
        """Headers of the owner's browser."""
        return {"Cookie": self.owner_cookie, "Origin": self.origin}

    @property
    def guest(self) -> dict[str, str]:
        return {"Cookie": self.guest_cookie, "Origin": self.origin}

    def wire(self, timeout: float = 30) -> Wire:
        made = Wire(self.port, self._pace, timeout)
        self._wires.append(made)
        return made

    def json(self, path: str) -> Any:
        """The owner's answer."""
        status, text = self.wire().ask(path, headers=self.owner)
        assert status == 200, f"{path}: {status} {text[-300:]}"
        return json.loads(text.partition("\r\n\r\n")[2])

    def clips(self) -> list[str]:
        """Ids of the events of which a clip is there."""
        return [each["id"] for each in self.json("/api/clips?limit=1000")["clips"]]

    def cost(self) -> Cost:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (resident,), (threads,) = (re.findall(rf"{name}:\s*([0-9]+)", status) for name in ("VmRSS", "Threads"))
        descriptors = len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))
        return Cost(int(resident) / 1000, descriptors, int(threads))

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def look(self) -> Tries:
        """After a round: it lives, holds no more than before, and nothing leaked, changed or opened."""
        tries = Tries()
        tries.expect("the daemon has ended", self._process.poll() is None)
        start = time.monotonic()
        heard = self.json("/api/sources")["sources"]
        tries.expect(f"the owner waits {time.monotonic() - start:.1f} s", time.monotonic() - start < 5)
        tries.expect(f"sources: {heard}", [each["name"] for each in heard] == [SOURCE])
        tries.expect(f"{SOURCE} is not heard: {heard}", heard[0]["state"] in ("hearing", "silent"))
        deadline = time.monotonic() + 60  # connections and threads that are idle end by themselves
        while time.monotonic() < deadline and not self._is_bounded(self.cost()):
            time.sleep(1)
        cost = self.cost()
        tries.expect(f"{cost}, and at first {self.first}", self._is_bounded(cost))
        tries.notes.append(
            f"{cost.resident_mb:.0f} MB (at first {self.first.resident_mb:.0f}), {cost.descriptors} descriptors"
            f" ({self.first.descriptors}), {cost.threads} threads ({self.first.threads})"
        )
        for path in ("/api/me", "/api/events", "/api/clips", "/api/openapi.json", "/api/thresholds?source=" + SOURCE):
            status, _ = self.wire().ask(path)
            tries.look(f"a stranger: {path}", status, status == 401)
        tries.expect("settings or marks changed", self._settings_now() == self._settings)
        changed = {name for name, tag in self._files_now().items() if self._files.get(name) != tag}
        tries.expect(f"files changed: {changed}", not changed)
        for wire in self._wires:
            for leak in wire.leaks:
                tries.expect(f"leaked: {leak}", False)
        self._wires.clear()
        log = (self.folder / "log").read_text(errors="replace")
        tries.expect("a traceback in the log", "Traceback" not in log)
        tries.expect(f"the log has {len(log):,} characters", len(log) < 2_000_000)
        return tries

    def _is_bounded(self, cost: Cost) -> bool:
        return (
            cost.resident_mb < self.first.resident_mb + 80
            and cost.descriptors <= self.first.descriptors + 12
            and cost.threads <= self.first.threads + 12
        )

    def _settings_now(self) -> Any:
        marks = [each for each in self.json("/api/clips?verdict=reviewed")["clips"] if each["verdict"]]
        return self.json("/api/labels"), marks

    def _files_now(self) -> dict[str, str]:
        """Digests of what the daemon does not write by itself."""
        own = ("home/", "clips/", "events.sqlite", "scores.sqlite", "log")
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not (name := path.relative_to(self.folder).as_posix()).startswith(own)
        }


@contextmanager
def target(folder: Path, pace: Pace) -> Iterator[Target]:
    """A daemon that hears the demo again and again, within the block."""
    save(folder / "clips", "siren", "dog")
    for name, password in (("owner", OWNER), ("guest", GUEST)):
        (folder / name).write_text(hash_of(password) + "\n")
        (folder / name).chmod(0o600)
    port = free_port()
    web = f'address = "127.0.0.1:{port}"\npassword_file = "owner"\nguest_password_file = "guest"\n'
    (folder / "tagger.toml").write_text(f"# {CANARY}\n[web]\n{web}")
    outputs = ["--event-log", folder / "events.sqlite", "--score-history", folder / "scores.sqlite"]
    command = ["listen", f"{SOURCE}=-", "--rate", str(_RATE_HZ), "--mqtt", "none", "--config", folder / "tagger.toml"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tagger", *map(str, [*command, "--save-clips", folder / "clips", *outputs])],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=os.environ | {"TAGGER_HOME": str(folder / "home"), "TAGGER_CANARY": CANARY},
        )
        threading.Thread(target=_feed, args=(process,), daemon=True).start()
        try:
            until(lambda: process.poll() is not None or can_connect(port), "the page is served")
            if process.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            _lay_bait(folder)
            yield Target(port, folder, process, pace)
        finally:
            process.kill()
            process.wait()


def _feed(process: "subprocess.Popen[bytes]") -> None:
    """Gives the daemon the demo at the pace of the clock, until it ends."""
    samples, rate_hz = soundfile.read(DEMO, dtype="int16")
    assert rate_hz == _RATE_HZ
    assert process.stdin is not None
    at, start = 0, time.monotonic()
    while process.poll() is None:
        part = np.take(samples, range(at, at + rate_hz), mode="wrap")
        try:
            process.stdin.write(part.tobytes())
            process.stdin.flush()
        except OSError:
            return
        at += rate_hz
        time.sleep(max(0.0, start + at / rate_hz - time.monotonic()))


def _lay_bait(folder: Path) -> None:
    """Puts beside and among the clips what must not be read, and names it in their table, as no request can: a daemon
    that starts tidies the table up.
    """
    root, secret = folder / "clips", folder / "outside" / "secret.flac"
    secret.parent.mkdir()
    secret.write_text(CANARY * 50)
    (folder / "secret.flac").write_text(CANARY * 50)
    (root / "siren" / "link.flac").symlink_to(secret)
    (root / "siren" / "%2e%2e%2fsecret.flac").symlink_to(secret)
    (root / "linked").symlink_to(secret.parent)
    os.mkfifo(root / "siren" / "pipe.flac")
    line = json.loads((root / EVENTS).read_text().splitlines()[-1])
    with (root / EVENTS).open("a") as table:
        for number, name in enumerate(_BAIT):
            table.write(json.dumps(line | {"id": f"bait{number}", "file": name}) + "\n")


BAIT_IDS = tuple(f"bait{number}" for number in range(len(_BAIT)))
