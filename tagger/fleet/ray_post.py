"""A worker's post on a node of a Ray cluster: an actor that keeps the worker's process beside it running.

So a worker is the very same process as on one machine, and its end is known for sure, by its parent. The post passes on
what the worker asks. Its own death changes nothing: the next post finds the process running, as a coordinator that is
started again does on one machine.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger import __version__, cluster
from tagger.errors import TaggerError
from tagger.files import home, make_folders
from tagger.fleet.leases import now
from tagger.fleet.local import ASK_SECONDS, Server
from tagger.fleet.machine import NOTICED_SECONDS, LocalStaff, cores_of

log = logging.getLogger("tagger.fleet")

NAMESPACE = "tagger"
"""Where the actors have their names."""
COORDINATOR = "fleet"
"""The coordinator's name. A cluster has one fleet."""
_TEND_SECONDS = 0.5
_SILENT_SECONDS = 15.0
"""Time without a question after which a worker's leases have ended, seconds."""
_ALONE_SECONDS = 90.0
"""Time without a coordinator after which a post ends, seconds. Its worker has ended before."""


@dataclass(frozen=True)
class FleetJob:
    """What all actors of a fleet are told."""

    given: bytes
    """What each worker reads from its standard input: its settings."""
    folder: str | None
    """Where each machine keeps what survives a restart. None: below tagger's home there."""
    program: Sequence[str] = ("-m", "tagger.fleet.process")
    """Arguments of Python for a worker; its folder, node, session and place follow."""
    version: str = __version__
    """The version of tagger that the fleet runs."""

    @property
    def path(self) -> Path:
        """The folder, on this machine."""
        return Path(self.folder) if self.folder is not None else home() / "fleet"


class Leader:
    """The coordinator's actor, asked from any process of the cluster. From any thread."""

    def __init__(self) -> None:
        self._ray = cluster.library()
        self._actor: Any = None

    def ask(self, method: str, *arguments: Any, wait_s: float = ASK_SECONDS) -> Any:
        """
        Raises:
            ConnectionError: it does not answer.
            LookupError: there is none.
        """
        try:
            if self._actor is None:
                self._actor = self._ray.get_actor(COORDINATOR, namespace=NAMESPACE)
            return self._ray.get(getattr(self._actor, method).remote(*arguments), timeout=wait_s)
        except self._ray.exceptions.ActorDiedError as error:  # for good: another fleet may have been started
            self._actor = None
            raise ConnectionError(short(error)) from None
        except self._ray.exceptions.RayError as error:
            raise ConnectionError(short(error)) from None
        except ValueError:
            raise LookupError("no fleet runs there") from None


class Post:
    """The actor. Its methods return what went wrong, since an exception would arrive as Ray's."""

    def __init__(self, job: FleetJob, node: str, host: str, number: int, count: int) -> None:
        """
        Args:
            node: the worker's name.
            host: the machine's name, for people.
            number: of this worker among those that share the machine's cores.
            count: of these workers. 0: it has a GPU, and may use any core.
        """
        self._node, self._host, self._leader = node, host, Leader()
        self._folder = job.path / node
        self._asked: dict[str, float] = {}
        """Session -> when it asked last."""
        self._answered = now()
        """When the coordinator answered last."""
        self._ending = threading.Event()
        self._problem: str | None = None
        if job.version != __version__:
            self._problem = f"has tagger {__version__}, not {job.version}; install the same on all nodes"
            return
        place = cores_of(number, count) if count else ""
        command = [sys.executable, *job.program, str(self._folder), node]
        self._staff = LocalStaff([node], lambda _, session: [*command, session, place], job.given)
        try:
            make_folders(self._folder, is_private=True)
            self._server = Server(self._folder, self._pass_on)
        except OSError as error:
            self._problem = f"{self._folder}: cannot be used ({error.strerror or error})"
            return
        self._tending = threading.Thread(target=self._tend, name="post", daemon=True)
        self._tending.start()

    def state(self) -> tuple[str | None, list[str]]:
        """
        Returns:
            Why there can be no worker here, None where there can; and what is amiss with it, one line each.
        """
        return self._problem, [] if self._problem is not None else self._staff.troubles

    def end(self) -> None:
        """Ends the worker."""
        self._ending.set()
        if self._problem is None:
            self._tending.join()

    def _pass_on(self, message: dict[str, Any], pid: int) -> Any:
        """Passes a worker's report to the coordinator, and its answer back. In any thread."""
        report: Mapping[str, Any] = {**message["report"], "host": self._host}
        session = str(report["request"]["session"])
        self._asked[session] = now()
        self._staff.note(session, pid)
        try:
            orders = self._leader.ask("answer", {"report": report})
        except LookupError as error:
            raise ConnectionError(str(error)) from None
        self._answered = now()
        if orders is not None and orders["is_end"]:
            self._ending.set()
        return orders

    def _tend(self) -> None:
        began, ended = now(), list[str]()
        while not self._ending.wait(_TEND_SECONDS):
            if now() - self._answered > _ALONE_SECONDS:
                log.error("no coordinator for %g s; this post ends", _ALONE_SECONDS)
                self._staff.end()
                os._exit(TaggerError.exit_code)
            known = [session for session, at in self._asked.copy().items() if now() - at < _SILENT_SECONDS]
            may_start = now() - began > NOTICED_SECONDS
            ended += self._staff.tend([self._node] if known else [], known, may_start)
            ended = self._told(ended)
        self._told([*ended, *self._staff.end()])
        self._server.close()

    def _told(self, ended: list[str]) -> list[str]:
        """Says which sessions have ended. Returns those of which the coordinator does not know yet."""
        with contextlib.suppress(ConnectionError, LookupError):
            if ended:
                self._leader.ask("answer", {"ended": ended})
            for session in ended:
                self._asked.pop(session, None)
            return []
        return ended


def short(error: Exception) -> str:
    """The last line of an error of Ray's, which come with their stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
