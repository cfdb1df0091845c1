"""What stands before every page: who is let in, how large a request may be, what browsers are told."""

from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from launcher.web.access import Access, refusal

MOST_BODY = 1 << 17  # bytes; a note of 10,000 characters may take 12 bytes for each
MOST_ADDRESS = 1 << 12  # fewer digits than Python makes a number of
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    # not `no-referrer`: with that, browsers hide the origin of a page's own forms, too
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
_KEEP_NOTHING = ("cache-control", "no-store")
_STRANGER = (
    "this page opens with the link that `launcher web` printed when it started; "
    "open that link in this browser"
)


class Guard:
    """Lets nobody in without the link or its cookie."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Guard an application.

        Args:
            app: is only called for who may see it.
            access: the secrets.
        """
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application do so."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # there is none here
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refused = refusal(headers)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if refused is None and scope["path"] == "/" and self._access.opens(token):
            await _redirect(send, self._access)
        elif refused is None and not self._access.knows(headers.get("cookie", "")):
            await _refuse(send, 403, _STRANGER)
        elif refused is None and scope["method"] in CHANGING and "origin" not in headers:
            await _refuse(send, 403, "the request does not say from which page it comes")
        elif refused is not None:
            await _refuse(send, *refused)
        elif len(scope["raw_path"]) + len(scope["query_string"]) > MOST_ADDRESS:
            await _refuse(send, 414, f"an address may have {MOST_ADDRESS:,} characters")
        elif _too_large(headers):
            await _refuse(send, 413, f"a request may have {MOST_BODY:,} bytes")
        else:
            await self._app(scope, _measured(receive), _with_headers(send))


def _headers(scope: Scope) -> Mapping[str, str]:
    """Return a request's headers; of one that stands there twice, both with a comma between."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joint = "; " if name == "cookie" else ","
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    return headers


def _too_large(headers: Mapping[str, str]) -> bool:
    length = headers.get("content-length", "0")
    return not length.isdecimal() or int(length) > MOST_BODY


def _measured(receive: Receive) -> Receive:
    """Return what reads a request whose length was not announced no further than is allowed."""
    taken = 0

    async def measured() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MOST_BODY else message

    return measured


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            ours = [each for each in (*HEADERS, _KEEP_NOTHING) if each[0].encode() not in names]
            message["headers"] = [*message.get("headers", ()), *_encoded(ours)]
        await send(message)

    return sent


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


async def _redirect(send: Send, access: Access) -> None:
    headers = (
        ("location", access.root),
        ("set-cookie", access.set_cookie),
        ("content-length", "0"),
    )
    start = {"status": 303, "headers": _encoded((*headers, *HEADERS, _KEEP_NOTHING))}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, why: str) -> None:
    body = (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>launcher: no access</title>'
        f"<h1>No access</h1><p>{escape(why[0].upper() + why[1:])}.</p></html>\n"
    ).encode()
    headers = (("content-type", "text/html; charset=utf-8"), ("content-length", str(len(body))))
    start = {"status": status, "headers": _encoded((*headers, *HEADERS, _KEEP_NOTHING))}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body})
