"""The web application: addresses, and who answers them."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from launcher.errors import Error
from launcher.web.guard import MOST_BODY, Access, Guard
from launcher.web.live import QueueReader, Streams, TooManyStreams
from launcher.web.pages.log import whole_log
from launcher.web.pages.page import Address, Content, NotThere, Page, View
from launcher.web.rendering import FOLDER, PAGES, render
from launcher.web.run_file import HEADERS, TooLarge, newest_of_name, run_file
from launcher.web.steering import Question, ReadOnly, Steering, Target

EVENTS = "text/event-stream"
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}  # its address has its version
_STATUS: Mapping[type[Exception], int] = {
    NotThere: 404,
    ReadOnly: 403,
    TooLarge: 413,
}  # of others 503


class Assets(StaticFiles):
    """The script, the style sheet and the icon."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        """Return a file that a browser keeps."""
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]  # as given
        response.headers.update(_FOR_EVER)
        return response


class Application:
    """Answers requests of those whom the guard lets in."""

    def __init__(
        self, access: Access, reader: QueueReader, streams: Streams, steering: Steering
    ) -> None:
        """Make the addresses known.

        Args:
            access: the secrets.
            reader: reads the queue.
            streams: keeps open pages up to date.
            steering: changes jobs.
        """
        self._access, self._reader = access, reader
        self._streams, self._steering = streams, steering

    def asgi(self) -> ASGIApp:
        """Return what a server runs."""
        routes = [
            *(Route(f"/{page.path}", self._page(page)) for page in PAGES),
            Route("/jobs/{number:int}/log/raw", self._raw_log),
            Route("/run/{name:path}", self._run_named),
            Route("/runs/{number:int}/files/{folder:str}/{path:path}", self._run_file),
            Route("/jobs/{number:int}/{verb:str}", self._ask, methods=["GET"]),
            Route("/jobs/{number:int}/{verb:str}", self._act, methods=["POST"]),
            Mount("/static", Assets(directory=FOLDER / "static")),
        ]
        inside = Starlette(
            routes=[Mount(self._access.root.removesuffix("/"), routes=routes)],
            exception_handlers={
                404: self._failed,
                405: self._failed,
                Error: self._failed,
                OSError: self._failed,
                sqlite3.Error: self._failed,
                ClientDisconnect: self._failed,
            },
        )
        return Guard(inside, self._access)

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            address = self._address(request)
            if EVENTS in request.headers.get("accept", ""):
                try:
                    events = self._streams.open(page, address)
                except TooManyStreams as error:
                    return Response(f"{error}\n", 503, {"retry-after": "10"}, "text/plain")
                return StreamingResponse(events, media_type=EVENTS)
            notice = self._steering.notice(address.whole("notice"))

            def html(view: View) -> str:
                content = page.fill(view, address)
                return render(view, page.name, address, content, renewed=True, notice=notice).html

            return HTMLResponse(await self._reader.run(html))

        return answer

    async def _ask(self, request: Request) -> Response:
        """Ask whether a job shall be changed."""
        return await self._asked(request, await self._steering.ask(_target(request)))

    async def _act(self, request: Request) -> Response:
        """Change a job, where what is confirmed is still what would be done."""
        target, body = _target(request), (await request.body()).decode(errors="replace")
        form = dict(parse_qsl(body, keep_blank_values=True))
        # a form's lines end as in mail: HTML, 4.10.21
        text = form.get("text", "").replace("\r\n", "\n")
        answered = await self._steering.act(target, form.get("question", ""), text)
        if isinstance(answered, Question):
            return await self._asked(request, answered, 409)
        return RedirectResponse(f"{self._access.root}jobs/{target.job}?notice={answered}", 303)

    async def _asked(self, request: Request, question: Question, status: int = 200) -> Response:
        job, verb = question.target
        content = Content(f"{verb} job {job}", {"question": question})
        return await self._fill(request, "question", content, status)

    async def _raw_log(self, request: Request) -> Response:
        address = self._address(request)
        content, size = await self._reader.run(lambda view: whole_log(view, address))
        return StreamingResponse(
            content, headers={"content-length": str(size)}, media_type="text/plain; charset=utf-8"
        )

    async def _run_named(self, request: Request) -> Response:
        """Lead to the newest run of a name."""
        name = str(request.path_params["name"])
        run = await self._reader.run(lambda view: newest_of_name(view, name))
        return RedirectResponse(f"{self._access.root}runs/{run}", 303)

    async def _run_file(self, request: Request) -> Response:
        """Send a picture that a run left."""
        run, parts = self._address(request).number, request.path_params
        content, media_type = await self._reader.run(
            lambda view: run_file(view, run, parts["folder"], parts["path"])
        )
        return Response(content, headers=HEADERS, media_type=media_type)

    async def _failed(self, request: Request, error: Exception) -> Response:
        """Say what is wrong, on a page where that can be drawn."""
        status, text = _STATUS.get(type(error), 503), str(error)
        if isinstance(
            error, ClientDisconnect
        ):  # its length was not announced: it is read no further
            return Response(
                f"a request may have {MOST_BODY:,} bytes\n", 413, media_type="text/plain"
            )
        if isinstance(error, HTTPException):  # of Starlette: 404, or 405
            status, text = 404, "there is no such page"
        content = Content("not there" if status == 404 else "trouble", {"text": text})
        try:
            return await self._fill(request, "message", content, status)
        except (Error, OSError, sqlite3.Error):  # the head of the page needs the queue, too
            return Response(f"{text}\n", status, media_type="text/plain")

    async def _fill(
        self, request: Request, template: str, content: Content, status: int
    ) -> Response:
        address = self._address(request)
        rendered = await self._reader.run(lambda view: render(view, template, address, content))
        return HTMLResponse(rendered.html, status)

    def _address(self, request: Request) -> Address:
        return Address(
            path=request.url.path.removeprefix(self._access.root),
            number=request.path_params.get("number", 0),
            query=tuple(parse_qsl(request.url.query, keep_blank_values=True)),
        )


def _target(request: Request) -> Target:
    return Target(request.path_params["number"], request.path_params["verb"])
