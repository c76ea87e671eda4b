"""Serves the page in a thread of its own, with an event loop of its own. It knows uvicorn."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tagger.errors import SettingError, TaggerError
from tagger.ports import host_problem, port_problem
from tagger.settings import WebSettings
from tagger.web.access import Access
from tagger.web.api import Daemon
from tagger.web.app import application
from tagger.web.connection import Connection

log = logging.getLogger(__name__)

_MOST_HEADER_BYTES = 16_384
_CLOSE_SECONDS = 3.0
"""Longest wait for the thread at the end, seconds."""


@contextmanager
def serving(settings: WebSettings, daemon: Daemon) -> Iterator[int]:
    """Serves a daemon's page within the block. Yields the port.

    Raises:
        SettingError: the address cannot be opened.
    """
    access = Access(settings)
    daemon.live.has_login = access.asks
    with serving_application(settings, application(daemon, access), daemon.live.hang_up) as port:
        yield port


@contextmanager
def serving_application(
    settings: WebSettings, served: Any, hang_up: Callable[[], None] = lambda: None
) -> Iterator[int]:
    """Serves any application within the block. Yields the port.

    Args:
        hang_up: ends what is read for long.

    Raises:
        SettingError: the address cannot be opened.
    """
    listening = _socket(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            served,
            http=Connection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="error",  # whoever sends nonsense must not fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_graceful_shutdown=1,
        )
    )

    def serve() -> None:
        try:
            server.run(sockets=[listening])
        except BaseException as error:  # the daemon listens on without its page
            log.warning("the live page is gone: %s: %s", type(error).__name__, error, exc_info=True)

    thread = threading.Thread(target=serve, name="web", daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        hang_up()
        server.should_exit = True
        thread.join(_CLOSE_SECONDS)
        listening.close()


def _socket(settings: WebSettings) -> socket.socket:
    """A socket that listens; whoever comes before the server runs, waits."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio sends each answer at once (TCP_NODELAY); else its second part waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(64)
        return listening
    except OSError as error:
        listening.close()
        shown = settings.address
        if problem := port_problem(error):
            raise SettingError("web.address", f"its port {problem}", shown) from None
        if problem := host_problem(error):
            raise SettingError("web.address", problem, shown) from None
        raise TaggerError(f"web: {shown} cannot be opened: {error.strerror or error}") from None
