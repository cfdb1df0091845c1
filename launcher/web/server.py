"""The server of the live page: its socket, its link, its end; not too many connections, and none that is silent for long."""

import asyncio
import getpass
import os
import shlex
import socket
from collections.abc import Callable, Sequence

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from launcher.errors import MachineError, UsageError
from launcher.system.paths import Home
from launcher.web.application import Application
from launcher.web.guard import KNOWN, new_access
from launcher.web.live import Streams
from launcher.web.view import QueueReader

MOST_CONNECTIONS = 200  # a browser has six to a host
HEAD_S = 10.0  # in which a request's head must be there
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 5\r\nconnection: close\r\n\r\ntoo many connections\n"
)


class BoundedConnection(H11Protocol):
    """A connection that is refused where there are too many, and closed where it sends no request.

    Who has shown no cookie makes room for those who come: strangers cannot keep the owner out.
    """

    _timer: asyncio.TimerHandle | None = None
    since = 0.0  # by the clock of its loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Answer with 503 where there are too many, before a byte of it is read."""
        super().connection_made(transport)
        self.since = self.loop.time()
        there = [each for each in self.connections if isinstance(each, BoundedConnection)]
        there = [each for each in there if not each.transport.is_closing()]
        if len(there) > MOST_CONNECTIONS:
            strangers = [each for each in there if each is not self and not each.is_known]
            refused = min(strangers, key=lambda each: each.since, default=self)
            if refused.cycle is None:  # nothing is being sent to it
                refused.transport.write(_FULL)
            refused.transport.close()
        if not transport.is_closing():
            self._expect()

    @property
    def is_known(self) -> bool:
        """Whether its last request was let in."""
        return bool(self.scope) and KNOWN in self.scope

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what was sent; a head that is begun must be ended in time, too."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect()
        else:
            self._stop_timer()

    def _expect(self) -> None:
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


ADDRESS = "127.0.0.1"
_HEAD_BYTES = 1 << 14  # of a request
_BACKLOG = (
    64  # connections that are accepted at one go: each takes a descriptor until it is refused
)
_LAST_S = 2  # for answers that are under way at the end


def serve(home: Home, port: int, *, read_only: bool, ready: Callable[[str, int], None]) -> None:
    """Serve the page of a home until a signal ends it.

    Args:
        home: need not exist.
        port: 0 for a free one.
        read_only: pages change nothing.
        ready: called with the first link and the port when the server can be reached.

    Raises:
        UsageError: the port is taken, or only root may use it.
        MachineError: there is no socket to be had.
        KeyboardInterrupt: the signal was SIGINT.
    """
    try:
        listener = socket.create_server((ADDRESS, port), backlog=_BACKLOG)
    except OSError as error:
        raise _refused(port, error) from error
    with listener:
        port = listener.getsockname()[1]
        access = new_access(home.folder, port)
        reader = QueueReader(home, access.root, read_only=read_only)
        streams = Streams(reader)
        application = Application(access, reader, streams)
        config = uvicorn.Config(
            application.asgi(),
            loop="asyncio",
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_LAST_S,
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )
        try:
            _Server(config, streams, lambda: ready(access.link(port), port)).run([listener])
        finally:
            application.close()
            reader.close()


def tunnel_command(port: int) -> str:
    """Return what to type on another machine so that the link works there."""
    there = f"{getpass.getuser()}@{os.uname().nodename}"
    return shlex.join(["ssh", "-N", "-L", f"{port}:{ADDRESS}:{port}", there])


class _Server(uvicorn.Server):
    """Ends its streams before it waits for the answers that are under way."""

    def __init__(self, config: uvicorn.Config, streams: Streams, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._streams, self._ready = streams, ready

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(None if sockets is None else list(sockets))
        self._ready()

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        self._streams.close()
        await super().shutdown(None if sockets is None else list(sockets))


def _refused(port: int, error: OSError) -> Exception:
    why = os.strerror(error.errno or 0)
    if isinstance(error, PermissionError):
        return UsageError(
            f"only root may serve on port {port}. Choose a port from 1024 with --port."
        )
    if port:
        return UsageError(
            f"cannot serve on port {port}: {why}. Choose another port with --port, "
            "or leave --port out for a free one."
        )
    return MachineError(f"cannot serve on {ADDRESS}: {why}")
