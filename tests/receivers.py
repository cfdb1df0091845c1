"""Servers on the loopback that receive messages: mail, webhooks, and one that never answers."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HERE = "127.0.0.1"


@dataclass
class Mailbox:
    """A real SMTP server, and the mails that it has accepted."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Keep a mail."""
        content = cast("bytes", envelope.content)
        self.mails.append(BytesParser(policy=default).parsebytes(content))
        return "250 OK"

    @property
    def url(self) -> str:
        """The address of the mailbox as apprise has it."""
        return f"mailto://{HERE}:{self.port}?from=lab@example.org&to=me@example.org&mode=insecure"

    def text(self, number: int = 0) -> str:
        """Return the text of a mail as a person reads it."""
        body = self.mails[number].get_body(("plain", "html"))
        assert body is not None
        return cast("str", body.get_content()).replace("\r\n", "\n")


@contextmanager
def a_mailbox() -> Iterator[Mailbox]:
    """An SMTP server on a free port."""
    mailbox = Mailbox(port=free_port())
    controller = Controller(mailbox, hostname=HERE, port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@dataclass
class Webhook:
    """An HTTP server with its received posts and its responses."""

    port: int = 0
    posts: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # statuses of the next answers; then 200

    @property
    def url(self) -> str:
        """Its address as apprise has it, with a secret."""
        return f"json://{HERE}:{self.port}/hook-5ecre7"


@contextmanager
def a_webhook(statuses: Sequence[int] = ()) -> Iterator[Webhook]:
    """An HTTP server on a free port that takes JSON.

    Args:
        statuses: of its first answers.
    """
    webhook = Webhook(statuses=[*statuses])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            webhook.posts.append(json.loads(body))
            self.send_response(webhook.statuses.pop(0) if webhook.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # likewise
            pass

    server = ThreadingHTTPServer((HERE, 0), Handler)
    webhook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def a_silent_server() -> Iterator[int]:
    """A server that takes connections and never says a word; its port."""
    with socket.create_server((HERE, 0), backlog=16) as listening:
        yield int(listening.getsockname()[1])


def free_port() -> int:
    """Return a port without a listener."""
    with socket.create_server((HERE, 0)) as listening:
        return int(listening.getsockname()[1])
