"""The page's server as a real process, and requests to it as a browser sends them."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from tests.build import DEADLINE_S
from tests.forked import ROOT, Process, start

COMMAND = "tests.launcher.web.impatient"
TIMEOUT_S = DEADLINE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True, kw_only=True)
class Page:
    """A served page, and a browser that may have its cookie."""

    link: str
    port: int
    process: Process
    cookie: str = ""
    root: str = "/"
    errors: Path = field(default_factory=Path)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: Mapping[str, str] | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request; header names have `_` for `-`. Without a cookie of its own it has ours."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Cookie", self.cookie)
        data = None if body is None else urlencode(body).encode()
        if data is not None:
            sent.setdefault("Origin", f"http://127.0.0.1:{self.port}")
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            headers_in = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=headers_in, body=response.read())

    def get(self, path: str, **headers: str) -> Answer:
        """Get a page below the root."""
        return self.ask(f"{self.root}{path}", "GET", None, **headers)

    def post(self, path: str, body: Mapping[str, str], **headers: str) -> Answer:
        """Send a form to a page below the root."""
        return self.ask(f"{self.root}{path}", "POST", body, **headers)

    def enter(self) -> None:
        """Open the link."""
        answer = self.ask(self.link.partition(str(self.port))[2], Cookie="")
        assert answer.status == 303, answer
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.root = answer.headers["location"]

    def stream(self, path: str = "") -> socket.socket:
        """Open a page's stream, and return its connection after the request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        request = (
            f"GET {self.root}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Accept: text/event-stream\r\nCookie: {self.cookie}\r\n\r\n"
        )
        connection.sendall(request.encode())
        return connection


def events(connection: socket.socket) -> Iterator[dict[str, str]]:
    """Give the events of a stream; fail when none comes in time."""
    with connection.makefile("rb") as lines:
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


@contextmanager
def served(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Page]:
    """Serve the home of the environment as `launcher web` does, but impatiently, and open its link.

    Args:
        folder: for its output files.
        options: of the command.
        environment: another one than ours.
    """
    errors = folder / "web.err"
    link_end, out = os.pipe()
    with Path(os.devnull).open() as nothing, errors.open("w") as log:
        process = start(
            COMMAND,
            ["web", "--port", "0", *options],
            folder=ROOT,
            environment=os.environ if environment is None else environment,
            streams=(nothing.fileno(), out, log.fileno()),
        )
    os.close(out)
    said = os.fdopen(link_end)
    try:
        link = said.readline().strip()
        assert link, errors.read_text()
        port = int(link.split(":")[2].partition("/")[0])
        page = Page(link=link, port=port, process=process, errors=errors)
        page.enter()
        yield page
    finally:
        process.kill()
        process.wait()
        said.close()
