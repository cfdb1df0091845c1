"""Connections of the server: a limited number, and none that sends no request."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from launcher.frontends.web.guard import AUTHENTICATED

MOST_CONNECTIONS = 200  # a browser has six to a host
HEAD_S = 10.0  # in which a request's head must be there
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 5\r\nconnection: close\r\n\r\ntoo many connections\n"
)


class BoundedConnection(H11Protocol):
    """A connection that is refused if there are too many, and closed if it sends no request.

    Connections without a valid cookie are closed first, so other users cannot lock the owner out.
    """

    _timer: asyncio.TimerHandle | None = None
    since = 0.0  # by the clock of the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Answer with 503 if there are too many, before reading a byte."""
        super().connection_made(transport)
        self.since = self.loop.time()
        there = [each for each in self.connections if isinstance(each, BoundedConnection)]
        there = [each for each in there if not each.transport.is_closing()]
        if len(there) > MOST_CONNECTIONS:
            strangers = [each for each in there if each is not self and not each.is_known]
            refused = min(strangers, key=lambda each: each.since, default=self)
            if refused.cycle is None:  # no response is being sent
                refused.transport.write(_FULL)
            refused.transport.close()
        if not transport.is_closing():
            self._start_timer()

    @property
    def is_known(self) -> bool:
        """Whether its last request was authenticated."""
        return bool(self.scope) and AUTHENTICATED in self.scope

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; a request's head must be complete in time."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start_timer()
        else:
            self._stop_timer()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
