"""The server of the web page: its socket, its link and its shutdown."""

import getpass
import os
import shlex
import socket
from collections.abc import Callable, Sequence

import uvicorn

from launcher.frontends.web.access import new_credentials
from launcher.frontends.web.application import Application
from launcher.frontends.web.connections import BoundedConnection
from launcher.frontends.web.live import EventStreams
from launcher.frontends.web.view import QueueReader
from launcher.queue.home.paths import Home
from launcher.system.errors import MachineError, UsageError

ADDRESS = "127.0.0.1"
_HEAD_BYTES = 1 << 14  # bytes of the head of a request
_BACKLOG = (
    64  # connections that are accepted at one go: each takes a descriptor until it is refused
)
_LAST_S = 2  # seconds for answers that are under way at the end


def serve(home: Home, port: int, *, read_only: bool, ready: Callable[[str, int], None]) -> None:
    """Serve the page of a queue folder until a signal ends it.

    Args:
        home: the queue folder, which need not exist.
        port: 0 for a free one.
        read_only: pages change nothing.
        ready: called with the first link and the port when the server accepts connections.

    Raises:
        UsageError: the port is in use, or only root may use it.
        MachineError: no socket can be created.
        KeyboardInterrupt: the signal was SIGINT.
    """
    try:
        listener = socket.create_server((ADDRESS, port), backlog=_BACKLOG)
    except OSError as error:
        raise _explain_refusal(port, error) from error
    with listener:
        port = listener.getsockname()[1]
        access = new_credentials(home.folder, port)
        reader = QueueReader(home, access.root, read_only=read_only)
        streams = EventStreams(reader)
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
    """Return the command that makes the link work on another machine."""
    there = f"{getpass.getuser()}@{os.uname().nodename}"
    return shlex.join(["ssh", "-N", "-L", f"{port}:{ADDRESS}:{port}", there])


class _Server(uvicorn.Server):
    """Ends its streams before it waits for pending responses."""

    def __init__(
        self, config: uvicorn.Config, streams: EventStreams, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._streams, self._ready = streams, ready

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(None if sockets is None else list(sockets))
        self._ready()

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        self._streams.close()
        await super().shutdown(None if sockets is None else list(sockets))


def _explain_refusal(port: int, error: OSError) -> Exception:
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
