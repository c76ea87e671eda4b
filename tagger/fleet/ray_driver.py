"""The command `tagger fleet --ray`: it starts the actors of a fleet, or finds them running, and reads the sources for
them. Without it the fleet goes on as it was.
"""

import contextlib
import logging
import pickle
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from tagger import __version__, cluster
from tagger.errors import TaggerError, UserError
from tagger.fleet.leases import now
from tagger.fleet.ray_coordinator import LED_SECONDS, CoordinatorActor, Plan
from tagger.fleet.ray_post import COORDINATOR, NAMESPACE, Leader, short
from tagger.fleet.ray_staff import room_of
from tagger.stop import Stop

log = logging.getLogger(__name__)

TELL_SECONDS = 2.0
"""Time between two words to the coordinator, seconds."""
_BEGIN_SECONDS = 120.0
"""Longest time until the coordinator has begun, seconds."""
_HUNG_SECONDS = 30.0
"""Time without an answer of the coordinator after which its process is killed, so that Ray starts it again, seconds."""
_ALONE_SECONDS = 120.0
"""Time without an answer of the coordinator after which the command gives up, seconds."""
_END_SECONDS = 40.0
_AT_ONCE = 64
"""Questions that the coordinator answers at one time."""


class RayFleet:
    """A fleet on a Ray cluster, led from this process. A context manager; leaving it leaves the cluster."""

    def __init__(
        self, address: str, plan: Plan, read_sources: Callable[[], Mapping[str, str]], every_s: float = 5.0
    ) -> None:
        """
        Args:
            address: of the cluster, as `ray.init` takes it: `auto` or `host:6379`.
            read_sources: reads the sources as they are now. Raises TaggerError: they stay as they were.
            every_s: time between two looks at the sources, seconds.
        """
        self._address, self._plan, self._read, self._every_s = address, plan, read_sources, every_s
        self.sources: Mapping[str, str] = {}
        self._who = secrets.token_hex(8)
        self._answered = now()
        """When the coordinator answered last."""
        self._killed = now()
        """When a coordinator that hung was killed."""

    def __enter__(self) -> "RayFleet":
        """
        Raises:
            TaggerError: no cluster answers, or it has no room, or another fleet; or the sources cannot be read.
        """
        self.sources = dict(self._read())
        self._ray = cluster.join(self._address, NAMESPACE)
        try:
            self._begin()
        except BaseException:
            self._ray.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def run(self, stop: Stop) -> None:
        """Reads the sources again and again, until `stop` is set; then ends the fleet in good order.

        Raises:
            TaggerError: the coordinator has failed, or does not answer any more.
        """
        read_at, said, problem = now(), self.sources, ""
        is_wanted = False
        while not stop.wait(TELL_SECONDS):
            if now() - read_at >= self._every_s:
                read_at = now()
                try:
                    self.sources, problem = dict(self._read()), ""
                except TaggerError as error:
                    problem = str(error)
            try:
                is_wanted = self._tell(self.sources if is_wanted or self.sources != said else None, problem)
                said = self.sources
            except (ConnectionError, LookupError) as error:
                log.debug("the coordinator does not answer: %s", error)
                is_wanted = True
                if now() - max(self._answered, self._killed) > _HUNG_SECONDS:
                    log.warning("the coordinator has not answered for %g s; starting it again", _HUNG_SECONDS)
                    self._remove(for_good=False)
                    self._killed = now()
                if now() - self._answered > _ALONE_SECONDS:
                    raise TaggerError(
                        f"--ray {self._address}: the coordinator has not answered for {_ALONE_SECONDS:g} s ({error})"
                    ) from None
        self._end()

    def answer(self, message: dict[str, Any]) -> Any:
        """Asks the coordinator. From any thread.

        Raises:
            TaggerError: it does not answer.
        """
        try:
            return _asked(self._leader, message)
        except LookupError as error:
            raise TaggerError(str(error)) from None

    def _begin(self) -> None:
        rooms = [room_of(node, self._plan.workers, self._plan.is_gpu) for node in self._ray.nodes() if node["Alive"]]
        if not any(room.workers for room in rooms):
            raise UserError(f"--ray {self._address}: the cluster has no {'GPU' if self._plan.is_gpu else 'CPU'}")
        made = self._ray.remote(CoordinatorActor).options(
            name=COORDINATOR,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",  # this command's death changes nothing
            max_restarts=-1,
            max_concurrency=_AT_ONCE,
            num_cpus=0,
            resources={"node:__internal_head__": 0.001},
        )
        actor = made.remote(self._plan)
        self._leader = Leader()
        try:
            version, given = self._ray.get([actor.version.remote(), actor.settings.remote()], timeout=_BEGIN_SECONDS)
        except self._ray.exceptions.RayError as error:
            raise TaggerError(f"--ray {self._address}: the coordinator does not begin ({short(error)})") from None
        if version != __version__:
            raise UserError(
                f"--ray {self._address}: the cluster's head node has tagger {version}, not {__version__}; "
                "install the same on all nodes"
            )
        try:
            self._take_the_lead()
        except (ConnectionError, LookupError) as error:
            raise TaggerError(f"--ray {self._address}: the coordinator does not answer ({error})") from None
        if pickle.loads(given) != pickle.loads(self._plan.job.given):
            log.warning("a fleet runs there already; it keeps its settings until it is ended (Ctrl-C) and started anew")

    def _take_the_lead(self) -> None:
        """Waits while another command leads: one that was killed does so until its silence is noticed."""
        until = now() + LED_SECONDS + 2 * TELL_SECONDS
        while now() < until and self._leader.ask("is_led", self._who):
            time.sleep(TELL_SECONDS)
        self._tell(self.sources)

    def _tell(self, sources: Mapping[str, str] | None, problem: str = "") -> bool:
        """Says to the coordinator that this command leads. Returns whether it has to say what the sources are.

        Raises:
            TaggerError: it may not lead.
            ConnectionError, LookupError: nobody answers.
        """
        answer = self._leader.ask("lead", self._who, socket.gethostname(), sources, problem)
        if isinstance(answer, TaggerError):
            if not self._leader.ask("is_led", self._who):
                self._remove()
            raise answer
        self._answered = now()
        return bool(answer)

    def _end(self) -> None:
        try:
            error = self._leader.ask("end", wait_s=_END_SECONDS)
        except (ConnectionError, LookupError) as problem:
            raise TaggerError(f"the fleet could not be ended in good order ({problem})") from None
        self._remove()
        if error is not None:
            raise error

    def _remove(self, for_good: bool = True) -> None:
        """Ends the coordinator's actor.

        Args:
            for_good: whether Ray is not to start it again.
        """
        with contextlib.suppress(ValueError, self._ray.exceptions.RayError):
            self._ray.kill(self._ray.get_actor(COORDINATOR, namespace=NAMESPACE), no_restart=for_good)


def ask(address: str, message: Mapping[str, Any]) -> Any:
    """Asks the coordinator of a cluster.

    Raises:
        UserError: no cluster answers, or no fleet runs there.
        TaggerError: the coordinator does not answer.
    """
    ray = cluster.join(address, NAMESPACE)
    try:
        return _asked(Leader(), message)
    except LookupError:
        raise UserError(
            f"--ray {address}: no fleet runs there; start it with `tagger fleet FILE --ray {address}`"
        ) from None
    finally:
        ray.shutdown()


def _asked(leader: Leader, message: Mapping[str, Any]) -> Any:
    for left in (1, 0):
        try:
            return leader.ask("answer", dict(message))
        except ConnectionError as error:
            if not left:
                raise TaggerError(f"the coordinator does not answer ({error}); it may be starting again") from None
            time.sleep(1.0)
    raise AssertionError
