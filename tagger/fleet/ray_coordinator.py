"""The coordinator as an actor of a Ray cluster.

It sits on the head node, where Ray's own controller is: so no other node's death is its own, and a network that falls
apart leaves one coordinator, to which those on the other side have no way. Ray starts it again when its process dies.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tagger import __version__, cluster, logs
from tagger.errors import TaggerError, UserError
from tagger.fleet.coordinator import Habits
from tagger.fleet.leases import now
from tagger.fleet.ray_post import FleetJob
from tagger.fleet.ray_staff import RayStaff
from tagger.fleet.run import Fleet, FleetFolder
from tagger.stop import Stop

log = logging.getLogger("tagger.fleet")

LED_SECONDS = 15.0
"""Time without a word of the command that leads after which another may lead, seconds."""
_READ_SECONDS = 0.5
_END_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """What the command says when it starts the fleet."""

    job: FleetJob
    habits: Habits
    name: str
    """What the names of the workers begin with."""
    workers: int | None
    """Workers of each node. None: one for each GPU, or for each four cores."""
    is_gpu: bool


class CoordinatorActor:
    """The actor. Its methods return what went wrong, since an exception would arrive as Ray's."""

    def __init__(self, plan: Plan) -> None:
        logs.configure()
        self._plan = plan
        self._lock = threading.Lock()
        """Held to begin."""
        self._leader, self._leader_host, self._led = "", "", now()
        """The command that leads, where it runs, and when it was last heard of."""
        self._sources: dict[str, str] | None = None
        self._problem = ""
        """Why the command could not read the sources."""
        self._stop = Stop()
        self._fleet: Fleet | None = None
        self._running: threading.Thread | None = None
        self._failure: TaggerError | None = None
        try:
            self._folder = FleetFolder(plan.job.path, may_be_new=True)
        except TaggerError as error:
            self._failure = error
            return
        self._habits = plan.habits
        if cluster.library().get_runtime_context().was_current_actor_reconstructed:
            # Workers are there. Until leases of before have ended they say so; to wait for dead ones would help nobody.
            self._habits = replace(plan.habits, gather_s=0.0)
            self._sources = self._folder.kept()
            if self._sources is not None:
                try:
                    self._begin()
                except Exception:  # else Ray would give it up; the command's next word begins it
                    log.exception("the coordinator cannot begin at once")

    def version(self) -> str:
        """The version of tagger that the fleet runs."""
        return __version__

    def settings(self) -> bytes:
        """Those of all workers, as the command gave them."""
        return self._plan.job.given

    def lead(self, who: str, host: str, sources: Mapping[str, str] | None, problem: str = "") -> TaggerError | bool:
        """The command that leads says that it is there. It does so every few seconds.

        Args:
            who: a name that no other run of the command has.
            host: where it runs.
            sources: all of them, if they have changed. None: they have not.
            problem: why they cannot be read. Empty: they can.

        Returns:
            Whether it has to say what the sources are; or why it cannot lead.
        """
        with self._lock:
            if self._failure is not None:
                return self._failure
            if who != self._leader and self._leader and now() - self._led < LED_SECONDS:
                return UserError(f"a fleet runs there already, led from {self._leader_host}; a cluster has one")
            is_new = who != self._leader
            self._leader, self._leader_host, self._led, self._problem = who, host, now(), problem
            if sources is not None:
                self._sources = dict(sources)
                self._folder.keep(sources)
                self._begin()
            return sources is None and (is_new or self._sources is None)

    def is_led(self, by_other_than: str) -> bool:
        """Whether another command leads."""
        return self._leader not in ("", by_other_than) and now() - self._led < LED_SECONDS

    def answer(self, message: dict[str, Any]) -> Any:
        """Answers a worker's post or a command, as `Fleet.answer`."""
        if self._fleet is None:
            raise RuntimeError("the coordinator does not know the sources yet")
        found = self._fleet.answer(message)
        if "status" in message:
            found["troubles"] += self._unled()
        return found

    def end(self) -> TaggerError | None:
        """Ends the fleet in good order."""
        self._stop.set()
        if self._running is not None:
            self._running.join(_END_SECONDS)
        return self._failure

    def _begin(self) -> None:
        if self._fleet is not None:
            return
        plan = self._plan
        staff = RayStaff(plan.job, plan.name, plan.workers, plan.is_gpu)
        self._fleet = Fleet(self._folder, self._habits, staff, self._read, _READ_SECONDS)
        self._running = threading.Thread(target=self._run, args=[self._fleet], name="coordinator", daemon=True)
        self._running.start()

    def _run(self, fleet: Fleet) -> None:
        try:
            fleet.run(self._stop)
        except TaggerError as error:
            self._failure = error
        except Exception as error:
            log.exception("the coordinator has failed")
            self._failure = TaggerError(f"the coordinator has failed: {error!r}")

    def _read(self) -> Mapping[str, str]:
        if self._problem:
            raise TaggerError(self._problem)
        assert self._sources is not None
        return self._sources

    def _unled(self) -> list[str]:
        silent_s = now() - self._led
        if silent_s < LED_SECONDS:
            return []
        return [
            f"nobody has read the sources for {silent_s:.0f} s; they stay as they were until "
            "`tagger fleet FILE --ray` runs again"
        ]
