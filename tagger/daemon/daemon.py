"""The running daemon: a thread for each listener, periodic tasks, changes of settings, and an orderly end."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tagger.daemon.outputs import OpenSinks
from tagger.daemon.systemd import Service
from tagger.errors import TaggerError
from tagger.listen import Listener
from tagger.policy import Policy
from tagger.settings import ListenSettings
from tagger.sinks import Sink
from tagger.stop import Stop

log = logging.getLogger(__name__)

_DELIVERY_SECONDS = 10.0
"""Longest wait for the last messages when all streams end by themselves, seconds."""
_DELIVERY_SECONDS_INTERRUPTED = 2.0
"""The same when someone waits for the daemon to stop."""
_JOIN_SECONDS = 2.0
"""Longest wait for a listener to finish the window in hand, seconds."""


@dataclass(frozen=True)
class Task:
    """Work that the daemon does every `every_s` seconds."""

    every_s: float
    work: Callable[[], None]


class Daemon:
    """Runs listeners, each in a thread of its own, until their sources end or `stop` is set."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        sink: Sink,
        stop: Stop,
        tasks: Sequence[Task] = (),
        before_close: Callable[[], None] = lambda: None,
        outputs: OpenSinks | None = None,
        policies_of: Callable[[ListenSettings], Sequence[Policy]] | None = None,
        service: Service | None = None,
    ) -> None:
        """
        Args:
            sink: the sink of all listeners; closed at the end.
            tasks: run in the thread that calls `run`.
            before_close: called after the listeners have finished, before the sink is closed.
            outputs: the sinks behind `sink`, for `apply`.
            policies_of: what counts as an event of each source by given settings, for `apply`; raises SettingError.
            service: is told when the daemon is ready, and when it stops.
        """
        self._listeners, self._sink, self._stop = listeners, sink, stop
        self._tasks, self._before_close, self._outputs = tasks, before_close, outputs
        self._policies_of = policies_of
        self.service = service or Service()

    def run(self) -> None:
        """Returns when all sources have ended or `stop` is set.

        Raises:
            TaggerError: a source or a sink failed. All others were closed in good order before. After an interruption
                such an error is only logged: whoever stopped the daemon knows that the audio was not heard to its end.
        """
        threads = [threading.Thread(target=self._follow, args=[each], daemon=True) for each in self._listeners]
        for thread in threads:
            thread.start()
        self.service.ready()
        started = time.monotonic()
        due = {task: time.monotonic() + task.every_s for task in self._tasks}
        while not self._stop.wait(min(due.values(), default=math.inf) - time.monotonic()):
            for task, at in due.items():
                if time.monotonic() >= at:
                    task.work()
                    due[task] = time.monotonic() + task.every_s
        self.service.stopping()
        if self._stop.interrupted:
            log.info("stopping")
        for listener in self._listeners:
            listener.stop()
        for thread in threads:
            thread.join(timeout=_JOIN_SECONDS)
        for listener in self._listeners:
            listener.finish("stopped")
        self._before_close()
        self._close_sink()
        if self._stop.interrupted:
            self._log_totals(time.monotonic() - started)
        errors = [self._stop.failure, *(listener.error for listener in self._listeners)]
        for error in errors:
            if error is not None and self._stop.interrupted:
                log.warning("%s", error)
            elif error is not None:
                raise error

    @property
    def settings(self) -> ListenSettings:
        """The settings in force, with the port that an embedded broker got."""
        assert self._outputs is not None, "a daemon without outputs has no settings"
        context = self._outputs.context
        return replace(context.settings, mqtt=context.mqtt)

    def apply(self, settings: ListenSettings) -> list[str]:
        """Changes policy and sinks while the daemon runs; the audio goes on.

        Returns:
            A phrase for each sink that changed, to be logged.

        Raises:
            SettingError: the settings do not fit the model; nothing was changed.
        """
        assert self._outputs is not None, "a daemon without outputs cannot change them"
        assert self._policies_of is not None, "a daemon without a model has one policy"
        policies = self._policies_of(settings)
        context = self._outputs.context
        streams = tuple(
            replace(stream, labels=policy.names) for stream, policy in zip(context.streams, policies, strict=True)
        )
        changed = self._outputs.change(replace(context, settings=settings, mqtt=settings.mqtt, streams=streams))
        for listener, stream, policy in zip(self._listeners, streams, policies, strict=True):
            listener.set_policy(policy, stream)
        return changed

    def _log_totals(self, uptime_s: float) -> None:
        listeners = self._listeners
        log.info(
            "stopped after %.0f s; windows: %d, skipped: %d, events: %d",
            uptime_s,
            *(sum(each.windows for each in listeners), sum(each.skipped for each in listeners)),
            sum(each.events for each in listeners),
        )

    def _close_sink(self) -> None:
        try:
            self._sink.close(_DELIVERY_SECONDS_INTERRUPTED if self._stop.interrupted else _DELIVERY_SECONDS)
        except TaggerError as error:
            self._stop.fail(error)

    def _follow(self, listener: Listener) -> None:
        try:
            listener.run()
        except Exception as error:
            log.debug("in the listener's thread", exc_info=True)
            self._stop.fail(TaggerError(f"{listener.stream.source}: {type(error).__name__}: {error}"))
        if all(each.finished for each in self._listeners):
            self._stop.set()
