"""The checks before every page: authentication, the size of requests, and the security headers of responses."""

from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from launcher.frontends.web.access import Credentials, refusal

MOST_BODY = 1 << 17  # bytes; a note of 10,000 characters may take 12 bytes for each
MOST_ADDRESS = 1 << 12  # fewer digits than Python makes a number of
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not `no-referrer`: with that, browsers hide the origin of a page's own forms, too
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}  # headers of every answer that has no others
AUTHENTICATED = "let in"  # in the scope of a request that was let in
_STRANGER = (
    "this page needs the link that `launcher web` printed when it started. "
    "Open that link in this browser"
)


class AuthMiddleware:
    """Refuses requests without the link or its cookie."""

    def __init__(self, app: ASGIApp, access: Credentials) -> None:
        """Wrap an application.

        Args:
            app: only called for authenticated requests.
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
        answer: ASGIApp | None = self._own_response(scope)
        if answer is None:
            scope[AUTHENTICATED] = True
            answer, receive = self._app, _limit_body(receive)
        await answer(scope, receive, _with_headers(send))

    def _own_response(self, scope: Scope) -> Response | None:
        """Return the response to a refused request or to the link; None if the application answers."""
        headers = _headers(scope)
        refused = refusal(headers)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if refused is None and scope["path"] == "/" and self._access.is_token(token):
            cookie = {"set-cookie": self._access.set_cookie}
            return RedirectResponse(self._access.root, 303, cookie)
        refused = refused or self._refusal(scope, headers)
        if refused is None:
            return None
        status, why = refused
        return HTMLResponse(
            '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>launcher: no access</title>'
            f"<h1>No access</h1><p>{escape(why[0].upper() + why[1:])}.</p></html>\n",
            status,
        )

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return the status and reason for which a request with a valid host and origin is refused; None if it is not."""
        if not self._access.has_cookie(headers.get("cookie", "")):
            return 403, _STRANGER
        if scope["method"] in CHANGING and "origin" not in headers:
            return 403, "the request has no Origin header"
        if len(scope["raw_path"]) + len(scope["query_string"]) > MOST_ADDRESS:
            return 414, f"an address may have at most {MOST_ADDRESS:,} characters"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY:
            return 413, f"a request may have at most {MOST_BODY:,} bytes"
        return None


def _headers(scope: Scope) -> Mapping[str, str]:
    """Return a request's headers; repeated ones are joined with commas."""
    given = Headers(scope=scope)
    return {name: ("; " if name == "cookie" else ",").join(given.getlist(name)) for name in given}


def _limit_body(receive: Receive) -> Receive:
    """Return a receiver that reads at most MOST_BODY bytes of a request without a length."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MOST_BODY else message

    return receive_limited


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
