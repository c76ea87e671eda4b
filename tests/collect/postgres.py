"""A real PostgreSQL server of its own, on 127.0.0.1."""

import os
import pwd
import shutil
import signal
import subprocess
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.programs import LONG_S, free_port, until

_SETTINGS = (
    *("fsync=off", "max_connections=30", "shared_buffers=16MB", "listen_addresses=127.0.0.1"),
    "unix_socket_directories=",
)


class Postgres:
    """Skips the test where the programs are not installed. Its user is `tagger`, with the password `secret`."""

    def __init__(self, folder: Path) -> None:
        self._programs = _programs()
        self._folder = folder / "postgres"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self._user: str | None = None
        if os.geteuid() == 0:  # the server refuses to run as root
            self._user = next((each.pw_name for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody")), None)
            self._let_in()
        self._folder.mkdir()
        self.log = self._folder.with_suffix(".log")
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        password = self._folder.with_suffix(".password")
        password.write_text("secret")
        password.chmod(0o644)
        subprocess.run(
            [self._programs / "initdb", "-D", self._folder, "-U", "tagger", "-A", "scram-sha-256", "-N", "-E", "UTF8",
             "--locale=C", f"--pwfile={password}"],
            user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self._launch()
        until(self._lets_in, "postgres lets its user in", LONG_S)

    def _let_in(self) -> None:
        """Lets the server's user reach its folder. A pytest that starts beside this one takes that away again."""
        for each in self._folder.parents:
            if not each.stat().st_mode & 0o001:
                each.chmod(each.stat().st_mode | 0o011)

    def _launch(self) -> None:
        if self._user is not None:
            self._let_in()
        options = [part for each in _SETTINGS for part in ("-c", each)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder, "-p", str(self.port), *options],
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
            )

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT: breaks connections off, and ends in order. SIGQUIT: ends at once, and recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def made(self) -> str:
        """URL of a new database. Starts the server, if a test has left it stopped."""
        if self._process is None:
            self.start()
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def children(self) -> int:
        """Number of the server's processes besides the first; each connection has one."""
        return len(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())

    def _lets_in(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            self._launch()
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres", password: str = "secret") -> str:
        return f"postgresql://tagger:{password}@127.0.0.1:{self.port}/{database}"


def _programs() -> Path:
    """The folder of the server's programs, the newest version's."""
    found = [Path(each).parent for each in (shutil.which("initdb"),) if each]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name), reverse=True)
    for each in found:
        if (each / "initdb").exists() and (each / "postgres").exists():
            return each
    pytest.skip("PostgreSQL is not installed (apt install postgresql)")
