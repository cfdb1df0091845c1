"""The web application: addresses, and who answers them."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from launcher.errors import Error
from launcher.web.guard import MOST_BODY, Access, Guard
from launcher.web.live import QueueReader, Streams, TooManyStreams
from launcher.web.log_file import log_file
from launcher.web.pages.page import Address, Content, NotThere, Page
from launcher.web.pages.registry import PAGES
from launcher.web.rendering import FOLDER
from launcher.web.run_file import Place, TooLarge, newest_of_name, run_file
from launcher.web.site import Site
from launcher.web.steering import Answer, ReadOnly, Steering, Target

EVENTS = "text/event-stream"
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}  # its address has its version
_STATUS: Mapping[type[Exception], int] = {
    NotThere: 404,
    ReadOnly: 403,
    TooLarge: 413,
}  # of others 503
Endpoint = Callable[[Request], Awaitable[Response]]


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
        self, access: Access, reader: QueueReader, streams: Streams, site: Site, steering: Steering
    ) -> None:
        """Make the addresses known.

        Args:
            access: the secrets.
            reader: reads the queue.
            streams: keeps open pages up to date.
            site: renders pages.
            steering: changes jobs.
        """
        self._access, self._reader, self._streams = access, reader, streams
        self._site, self._steering = site, steering

    def asgi(self) -> ASGIApp:
        """Return what a server runs."""
        routes = [
            *(Route(f"/{page.path}", self._page(page)) for page in PAGES),
            Route("/jobs/{job:int}/log/raw", self._raw_log),
            Route("/run/{name:path}", self._run_named),
            Route("/runs/{run:int}/files/{folder:str}/{path:path}", self._run_file),
            Route("/jobs/{job:int}/{verb:str}", self._ask, methods=["GET"]),
            Route("/jobs/{job:int}/{verb:str}", self._act, methods=["POST"]),
            Mount("/static", Assets(directory=FOLDER / "static")),
        ]
        inside = Starlette(
            routes=[Mount(self._access.root.removesuffix("/"), routes=routes)],
            exception_handlers={
                404: self._missing,
                405: self._missing,
                Error: self._failed,
                OSError: self._failed,
                sqlite3.Error: self._failed,
                ClientDisconnect: self._cut_off,
            },
        )
        return Guard(inside, self._access)

    def _page(self, page: Page) -> Endpoint:
        async def answer(request: Request) -> Response:
            address = self._address(request)
            if EVENTS in request.headers.get("accept", ""):
                try:
                    events = self._streams.open(page, address)
                except TooManyStreams as error:
                    return Response(f"{error}\n", 503, {"retry-after": "10"}, "text/plain")
                return StreamingResponse(events, media_type=EVENTS)
            notice = self._steering.notice(address.whole("notice"))
            shown = await self._reader.run(
                lambda view: self._site.show(view, page, address, notice=notice)
            )
            return HTMLResponse(shown.rendered.html)

        return answer

    async def _ask(self, request: Request) -> Response:
        """Ask whether a job shall be changed."""
        target = self._target(request)
        question = await self._steering.ask(target)
        return await self._fill(request, "question.html", question.content(target))

    async def _act(self, request: Request) -> Response:
        """Change a job, where what is confirmed is still what would be done."""
        target = self._target(request)
        form = dict(
            parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True)
        )
        # a form's lines end as in mail: HTML, 4.10.21
        text = form.get("text", "").replace("\r\n", "\n")
        answer = Answer(confirms=form.get("question", ""), text=text)
        answered = await self._steering.act(target, answer)
        if isinstance(answered, int):
            place = f"{self._site.root}jobs/{target.job}?notice={answered}"
            return RedirectResponse(place, 303)
        return await self._fill(request, "question.html", answered.content(target), 409)

    async def _raw_log(self, request: Request) -> Response:
        number = self._address(request).whole("attempt")
        job = int(request.path_params["job"])
        content, size = await self._reader.run(lambda view: log_file(view, job, number))
        return StreamingResponse(
            content, headers={"content-length": str(size)}, media_type="text/plain; charset=utf-8"
        )

    async def _run_named(self, request: Request) -> Response:
        """Lead to the newest run of a name."""
        name = str(request.path_params["name"])
        run = await self._reader.run(lambda view: newest_of_name(view, name))
        return RedirectResponse(f"{self._site.root}runs/{run}", 303)

    async def _run_file(self, request: Request) -> Response:
        """Send a picture that a run left."""
        place = Place(
            run=int(request.path_params["run"]),
            folder=str(request.path_params["folder"]),
            path=str(request.path_params["path"]),
            figure=self._address(request).whole("figure"),
        )
        file = await self._reader.run(lambda view: run_file(view, place))
        return Response(file.content, headers=dict(file.headers), media_type=file.media_type)

    async def _missing(self, request: Request, error: Exception) -> Response:  # noqa: ARG002  # Starlette's shape
        return await self._message(request, 404, "there is no such page")

    async def _failed(self, request: Request, error: Exception) -> Response:
        return await self._message(request, _STATUS.get(type(error), 503), str(error))

    async def _cut_off(self, request: Request, error: Exception) -> Response:  # noqa: ARG002  # Starlette's shape
        """Answer a form whose length was not announced, and that the guard read no further."""
        return Response(f"a request may have {MOST_BODY:,} bytes\n", 413, media_type="text/plain")

    async def _message(self, request: Request, status: int, text: str) -> Response:
        try:
            content = Content(
                title="not there" if status == 404 else "trouble", values={"text": text}
            )
            return await self._fill(request, "message.html", content, status)
        except (Error, OSError, sqlite3.Error):  # the head of the page needs the queue, too
            return Response(f"{text}\n", status, media_type="text/plain")

    async def _fill(
        self, request: Request, template: str, content: Content, status: int = 200
    ) -> Response:
        address = self._address(request)
        rendered = await self._reader.run(
            lambda view: self._site.fill(view, template, address, content)
        )
        return HTMLResponse(rendered.html, status)

    def _target(self, request: Request) -> Target:
        return Target(job=int(request.path_params["job"]), verb=str(request.path_params["verb"]))

    def _address(self, request: Request) -> Address:
        return Address(
            path=request.url.path.removeprefix(self._access.root),
            parts=dict(request.path_params),
            query=tuple(parse_qsl(request.url.query, keep_blank_values=True)),
        )
