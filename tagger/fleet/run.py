"""The coordinator as a running process: its folder, its socket, its workers, and the sources as they change.

    generation   a number that is higher at every start
    clean        there while no worker can hold a lease, since the last coordinator has ended in good order
    drained      nodes and hosts that get no streams, one a line
    sources.json the sources of a fleet on Ray, while nobody who reads their file is there
    lock         held while the coordinator runs
    fleet.sock   answers workers and `tagger fleet status`

It may die at any moment. Its workers go on until their leases end, 12 s later, and ask again and again meanwhile. One
that is started in time leaves every stream where it is. It gives none to another worker before the last lease that the
coordinator before it can have given has ended.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tagger.daemon.hold import hold
from tagger.errors import TaggerError
from tagger.files import replacing
from tagger.fleet.coordinator import Coordinator, Habits
from tagger.fleet.leases import now
from tagger.fleet.local import Server
from tagger.fleet.machine import NOTICED_SECONDS
from tagger.fleet.messages import Report
from tagger.stop import Stop
from tagger.unforeseen import contained

log = logging.getLogger(__name__)

_TEND_SECONDS = 0.5
_END_SECONDS = 8.0
"""Longest wait for the workers to end, seconds."""


class Staff(Protocol):
    """Keeps workers running, wherever they are."""

    @property
    def nodes(self) -> Collection[str]:
        """Names of the workers that ought to be there."""

    @property
    def troubles(self) -> Sequence[str]:
        """Why workers are not there, one line each."""

    def note(self, session: str, pid: int) -> None:
        """A worker has asked. From any thread.

        Args:
            pid: its process. 0: not known, or of another machine.
        """

    def tend(self, present: Collection[str], known: Collection[str], may_start: bool) -> list[str]:
        """Starts what does not run, and kills what hangs. Called about twice a second.

        Args:
            present: nodes whose worker has been heard of.
            known: sessions that may have leases.

        Returns:
            Sessions that have surely ended, each once.
        """

    def end(self) -> list[str]:
        """Ends all, at once where they do not end by themselves.

        Returns:
            Sessions that have surely ended.
        """


class FleetFolder:
    """The coordinator's folder, which one coordinator at a time uses."""

    def __init__(self, folder: Path, may_be_new: bool = False) -> None:
        """
        Args:
            may_be_new: whether a coordinator before may have had another folder, such as that of another machine.

        Raises:
            UserError: another coordinator uses the folder, or it cannot be written.
        """
        self._lock = hold(folder, "give this one a folder of its own: --state DIR")
        self.path = folder
        self._number, self._clean, self._drained, self._sources = (
            folder / each for each in ("generation", "clean", "drained", "sources.json")
        )
        before = 0
        with contextlib.suppress(OSError, ValueError):
            before = int(self._number.read_text("utf-8"))
        self.is_first = self._clean.exists() or not (may_be_new or self._number.exists())
        self.generation = max(before + 1, int(time.time()))
        self.drained = set[str]()
        """Nodes that were drained, by this coordinator or one before."""
        with contextlib.suppress(OSError, ValueError):
            self.drained = set(self._drained.read_text("utf-8").splitlines())

    def begin(self) -> None:
        """Notes that workers may hold leases from now on.

        Raises:
            OSError: the folder cannot be written.
        """
        self._clean.unlink(missing_ok=True)
        with replacing(self._number) as partial:
            partial.write_text(str(self.generation), "utf-8")

    def drain(self, nodes: set[str]) -> None:
        """Keeps which nodes are drained. A disk that is full is logged."""
        self.drained = nodes
        try:
            with replacing(self._drained) as partial:
                partial.write_text("".join(f"{node}\n" for node in sorted(nodes)), "utf-8")
        except OSError as error:
            log.warning("%s: cannot be written (%s)", self._drained, error.strerror or error)

    def keep(self, sources: Mapping[str, str]) -> None:
        """Keeps the sources for a coordinator that is started while nobody says what they are. A disk that is full is
        logged.
        """
        try:
            with replacing(self._sources, 0o600) as partial:  # URLs hold passwords
                partial.write_text(json.dumps(dict(sources)), "utf-8")
        except OSError as error:
            log.warning("%s: cannot be written (%s)", self._sources, error.strerror or error)

    def kept(self) -> dict[str, str] | None:
        """What `keep` kept. None: nothing that can be read."""
        try:
            found = json.loads(self._sources.read_text("utf-8"))
            return {str(name): str(text) for name, text in found.items()}
        except (OSError, ValueError, AttributeError):
            return None

    def close(self, is_clean: bool) -> None:
        """
        Args:
            is_clean: no worker holds a lease any more.
        """
        if is_clean:
            with contextlib.suppress(OSError):  # the next one waits
                self._clean.touch()
        self._lock.close()


class Fleet:
    """A running coordinator. `run` returns when `stop` is set."""

    def __init__(
        self,
        folder: FleetFolder,
        habits: Habits,
        staff: Staff,
        read_sources: Callable[[], Mapping[str, str]],
        every_s: float = 5.0,
        others: int = 0,
    ) -> None:
        """
        Args:
            staff: keeps the workers running.
            read_sources: reads the sources as they are now. Raises TaggerError: they stay as they were.
            every_s: time between two looks at the sources, seconds.
            others: number of workers that come from elsewhere.

        Raises:
            TaggerError: the sources cannot be read.
        """
        self._folder, self._staff, self._read, self._every_s = folder, staff, read_sources, every_s
        self._lock = threading.Lock()
        self.coordinator = Coordinator(habits, folder.generation, now(), len(staff.nodes) + others, folder.is_first)
        self.coordinator.sources = dict(read_sources())
        self.coordinator.drained = folder.drained
        self._is_over = threading.Event()
        self._problem = ""
        """Why the sources could not be read when they were last."""

    def run(self, stop: Stop) -> None:
        """
        Raises:
            TaggerError: the folder cannot be written, or the socket not be made.
        """
        try:
            self._folder.begin()
            server = Server(self._folder.path, self.answer)
        except OSError as error:
            raise TaggerError(f"{self._folder.path}: cannot be used ({error.strerror or error})") from None
        start_at = now()
        if not self._folder.is_first:  # workers of the coordinator before are about to say that they are there
            start_at += NOTICED_SECONDS
        threading.Thread(target=self._read_all, name="sources", daemon=True).start()
        try:
            while not stop.wait(_TEND_SECONDS):
                with self._lock:
                    self.coordinator.plan(now())
                    present = {node for node in self._staff.nodes if self.coordinator.session_of(node) is not None}
                    known = self.coordinator.leases.sessions
                self._lose(self._staff.tend(present, known, now() >= start_at))
        finally:
            self._end(server)

    def answer(self, message: dict[str, Any], pid: int = 0) -> Any:
        """Answers a worker or a command. In any thread.

        Args:
            pid: the process that asks. 0: not known.

        Raises:
            ValueError: it is no message.
        """
        try:
            if "report" in message:
                report = Report.from_json(message["report"])
                self._staff.note(report.request.session, pid)
                with self._lock:
                    orders = self.coordinator.renew(report, now())
                return None if orders is None else orders.to_json()
            if "ended" in message:
                self._lose(message["ended"])
                return None
            if "drain" in message:
                return self._drain(str(message["drain"]), bool(message.get("drained", True)))
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None
        with self._lock:
            return {
                **self.coordinator.status(now()),
                "problem": self._problem,
                "troubles": [*self._staff.troubles],
                "pid": os.getpid(),
            }

    def _drain(self, node: str, is_drained: bool) -> Any:
        with self._lock:
            drained = self.coordinator.drained
            known = {*self._staff.nodes, *drained, *self.coordinator.hosts}
            if node not in known and self.coordinator.session_of(node) is None:
                return {"problem": f"there is no worker {node!r}"}
            self.coordinator.drained = drained | {node} if is_drained else drained - {node}
            self._folder.drain(self.coordinator.drained)
            return {"drained": sorted(self.coordinator.drained)}

    def _lose(self, sessions: Collection[str]) -> None:
        """Their processes have surely ended."""
        with self._lock:
            for session in sessions:
                self.coordinator.lose(session, now())

    def _read_all(self) -> None:
        """Looks at the sources again and again; a server that does not answer delays nothing else."""
        while not self._is_over.wait(self._every_s):
            with contained("sources: a look at them"):
                self._read_again()

    def _read_again(self) -> None:
        try:
            found = dict(self._read())
        except TaggerError as error:
            if str(error) != self._problem:
                log.warning("sources: %s; they stay as they were", error)
            self._problem = str(error)
            return
        self._problem = ""
        before = self.coordinator.sources
        if found == before:
            return
        came, went = len(found.keys() - before.keys()), len(before.keys() - found.keys())
        changed = sum(before[name] != found[name] for name in found.keys() & before.keys())
        log.info("sources: %d came, %d went, %d changed; %d in all", came, went, changed, len(found))
        with self._lock:
            self.coordinator.sources = found

    def _end(self, server: Server) -> None:
        self._is_over.set()
        with self._lock:
            self.coordinator.is_ending = True
        until = now() + _END_SECONDS
        while now() < until and self._is_held():
            time.sleep(0.1)
        self._lose(self._staff.end())
        server.close()
        self._folder.close(is_clean=not self._is_held())

    def _is_held(self) -> bool:
        with self._lock:
            leases = self.coordinator.leases
            leases.lapse(now())
            return any(leases.owned(session) for session in leases.sessions)
