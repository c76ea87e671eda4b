"""One connection to the page. Nobody keeps one for long without asking, or without reading. It knows uvicorn."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 100
REQUEST_SECONDS = 10.0
"""Longest wait for a whole request, its body too, seconds."""
STALL_SECONDS = 30.0
"""Time within which a reader must take LEAST_BYTES of what waits for it, seconds."""
LEAST_BYTES = 16_384


class Connection(H11Protocol):
    """As uvicorn's, with limits. Where there are too many, the oldest of those that have not asked yet is ended."""

    _since = 0.0
    """When it began, in the loop's time."""
    _deadline: asyncio.TimerHandle | None = None
    """Ends the connection unless a whole request arrives before."""
    _stall: asyncio.TimerHandle | None = None
    """Looks whether the reader goes on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._since = self.loop.time()
        self._make_room()
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_waited_for:
            self._wait_for_request()
        else:
            self._forget_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self._end_if_stalled, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._forget_stall()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._forget_stall()
        super().connection_lost(exc)

    @property
    def _is_waited_for(self) -> bool:
        """Whether no whole request has arrived that is not answered yet."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Connection) and each._is_waited_for]
        if len(self.connections) >= MOST_CONNECTIONS and others:
            oldest = min(others, key=lambda each: each._since)
            self.connections.discard(oldest)
            oldest.transport.abort()

    def _wait_for_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _end_if_stalled(self, before: int) -> None:
        """
        Args:
            before: bytes that waited for the reader STALL_SECONDS ago.
        """
        waiting = self.transport.get_write_buffer_size()
        if waiting > before - LEAST_BYTES:
            self.transport.abort()
        else:
            self._stall = self.loop.call_later(STALL_SECONDS, self._end_if_stalled, waiting)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
