"""Access to the page: the secrets of a server, and the requests that it refuses.

The decision depends only on a request's address, host, origin and cookie.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TOKEN_BYTES = 32
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:]+)(?::([0-9]{1,5}))?")


class Credentials(NamedTuple):
    """The secrets of one server; they are valid until it ends.

    All pages are below a folder with a random name, and the cookie is limited to that folder. Browsers
    send cookies to every port of a host, and another user of the machine may listen on one.
    """

    token: str  # in the first link
    cookie: str  # secret that a browser has for it
    name: str  # name of the cookie for this home and port
    folder: str  # below which all pages lie

    @property
    def root(self) -> str:
        """The path of the first page, with a slash at its end."""
        return f"/{self.folder}/"

    @property
    def set_cookie(self) -> str:
        """The header's value that gives a browser the cookie."""
        return f"{self.name}={self.cookie}; Path={self.root}; HttpOnly; SameSite=Strict"

    def link(self, port: int) -> str:
        """Return the link that lets a browser in."""
        return f"http://127.0.0.1:{port}/?token={self.token}"

    def is_token(self, token: str) -> bool:
        """Return whether a token is that of the link."""
        return _equal_in_constant_time(token, self.token)

    def has_cookie(self, header: str) -> bool:
        """Return whether the cookies of a request contain that of this server.

        Browsers also send the cookies of other servers on this host, in any form. They are ignored.
        """
        cookies = (cookie.strip().partition("=") for cookie in header.split(";"))
        return any(
            name == self.name and _equal_in_constant_time(value, self.cookie)
            for name, _, value in cookies
        )


def new_credentials(home: Path, port: int) -> Credentials:
    """Return new secrets.

    Args:
        home: the queue's.
        port: port of the server.
    """
    place = hashlib.sha256(bytes(home)).hexdigest()[:12]
    return Credentials(
        token=secrets.token_urlsafe(TOKEN_BYTES),
        cookie=secrets.token_urlsafe(TOKEN_BYTES),
        name=f"launcher-{place}-{port}",
        folder=secrets.token_hex(8),
    )


def refusal(headers: Mapping[str, str]) -> tuple[int, str] | None:
    """Return the status and the reason to refuse a request with, before its cookie matters.

    The port of the host may be another than ours: a tunnel may begin at any. A name that is not this
    machine's is a page elsewhere whose name was bound to this address to read what is here.

    Args:
        headers: headers by their names in small letters.
    """
    host = headers.get("host", "")
    match = _HOST.fullmatch(host)
    if match is None or match[1].lower() not in _LOOPBACK:
        return 421, "this server accepts only the host names 127.0.0.1 and localhost"
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return 403, "the request comes from another page"
    return None


def _equal_in_constant_time(given_text: str, expected_text: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(given_text.encode(errors="replace"), expected_text.encode())
