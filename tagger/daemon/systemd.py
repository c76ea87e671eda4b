"""What systemd is told of a service of `Type=notify`: that it is ready, how it does, and that it is alive.

sd_notify(3) is a datagram of lines, so this needs no library. The watchdog is fed from the daemon's main thread, and
only while no source's thread is stuck: each takes audio, waits for it, or is about to connect again. Else systemd
restarts the service after `WatchdogSec`.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

from tagger.health import Snapshot

log = logging.getLogger(__name__)

_STATUS_SECONDS = 10.0
"""Time between two looks at the health where there is no watchdog, seconds."""
_FEEDS = 4
"""Number of times that the watchdog is fed within its time."""
_LONGEST_STATUS = 300
"""Letters of a status."""


class Service:
    """This process as a service. Says nothing where systemd did not start it so."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """
        Args:
            address: of systemd's socket; `@` stands for an abstract one. None: nobody listens.
            watchdog_s: time within which the watchdog must be fed, seconds. None: there is none.
        """
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self._has_watchdog = address is not None and watchdog_s is not None
        self.every_s = watchdog_s / _FEEDS if watchdog_s is not None else _STATUS_SECONDS
        """Time between two calls of `report`, seconds."""
        self._status, self._failed, self._starved = "", False, False

    @classmethod
    def of(cls, env: MutableMapping[str, str]) -> "Service":
        """The service that the environment describes. Its variables are removed: they are not for child processes."""
        address = env.pop("NOTIFY_SOCKET", None)
        micros, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        is_watched = micros.isdecimal() and int(micros) > 0 and pid in ("", str(os.getpid()))
        is_usable = address is not None and address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX")
        return cls(address if is_usable else None, int(micros) / 1e6 if is_watched else None)

    def ready(self) -> None:
        """The daemon listens, or listens again after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The settings are read again; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def report(self, look: Callable[[], Snapshot]) -> None:
        """Feeds the watchdog unless a thread is stuck, and says how the daemon does if that has changed.

        Args:
            look: makes the snapshot. It is not called where nobody listens.
        """
        if self._address is None:
            return
        snapshot = look()
        problems = snapshot.problems
        heard = sum(each.condition.state == "hearing" for each in snapshot.sources)
        status = f"{heard} of {len(snapshot.sources)} heard{''.join(f'; {line}' for line in problems)}"
        if not snapshot.stuck and self._has_watchdog:
            self._send("WATCHDOG=1")
        if snapshot.stuck and self._has_watchdog and not self._starved:
            log.error("%s: the thread is stuck; systemd will restart the service", ", ".join(snapshot.stuck))
        self._starved = bool(snapshot.stuck)
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status[:_LONGEST_STATUS]}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.settimeout(1.0)
                client.connect(self._address)
                client.sendall("\n".join(lines).encode())
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be told how the service does: %s", error.strerror or error)
            self._failed = True
