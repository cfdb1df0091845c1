"""The web application: its addresses and their handlers."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from launcher.frontends.web.access import Credentials
from launcher.frontends.web.chart_library import (
    ADDRESS,
    chart_library,
    compressed_library,
    missing_library,
)
from launcher.frontends.web.curves import curves_context
from launcher.frontends.web.guard import MOST_BODY, AuthMiddleware
from launcher.frontends.web.job_pages import job_context, jobs_context
from launcher.frontends.web.live import MOST_STREAMS, EventStreams
from launcher.frontends.web.logs import log_context, whole_log
from launcher.frontends.web.overview import overview_context
from launcher.frontends.web.page import FOLDER, Address, PageContent, WebPage, render
from launcher.frontends.web.run_files import FILE_HEADERS, newest_of_name, run_file
from launcher.frontends.web.runs import comparison_context, run_context, runs_context
from launcher.frontends.web.steering import ActionTarget, Question, apply_change, build_question
from launcher.frontends.web.view import QueueReader, QueueView
from launcher.system.errors import Error

T = TypeVar("T")
# a new page is a function that fills it, a template, and a line here
PAGES = (
    WebPage("overview", "", overview_context),
    WebPage("jobs", "jobs", jobs_context),
    WebPage("runs", "runs", runs_context),
    WebPage("curves", "curves", curves_context),
    WebPage("job", "jobs/{number:int}", job_context),
    WebPage("log", "jobs/{number:int}/log", log_context),
    WebPage("run", "runs/{number:int}", run_context),
    WebPage("compare", "runs/compare", comparison_context),
)
EVENTS = "text/event-stream"
# the address of the file contains its version
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_NOTICES = 100  # notices that are remembered: each is shown once, after the redirect


class Assets(StaticFiles):
    """The scripts, the style sheet and the icon."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        """Return a file that a browser keeps."""
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]  # as given
        response.headers.update(_FOR_EVER)
        return response


class Application:
    """Answers authenticated requests."""

    def __init__(self, access: Credentials, reader: QueueReader, streams: EventStreams) -> None:
        """Create the application; `asgi` returns what a server runs.

        Args:
            access: the secrets.
            reader: reads the queue.
            streams: keeps open pages up to date.
        """
        self._access, self._reader, self._streams = access, reader, streams
        # changes have a thread of their own: one may have to wait for the scheduler
        self._changes = ThreadPoolExecutor(1, thread_name_prefix="steering")
        self._numbers = itertools.count(1)
        self._notices: dict[str, str] = {}

    def asgi(self) -> ASGIApp:
        """Return what a server runs."""
        routes = [
            *(Route(f"/{page.path}", partial(self._page, page)) for page in PAGES),
            Route("/jobs/{number:int}/log/raw", self._raw_log),
            Route("/run/{name:path}", self._run_named),
            Route("/runs/{number:int}/files/{folder:str}/{path:path}", self._run_file),
            Route("/jobs/{number:int}/{verb:str}", self._show_question, methods=["GET"]),
            Route("/jobs/{number:int}/{verb:str}", self._apply_answer, methods=["POST"]),
            Route(f"/{ADDRESS}", self._chart_library),
            Mount("/static", Assets(directory=FOLDER / "static")),
        ]
        failures = (404, 405, Error, OSError, sqlite3.Error, ClientDisconnect)
        inside = Starlette(
            routes=[Mount(self._access.root.removesuffix("/"), routes=routes)],
            exception_handlers=dict.fromkeys(failures, self._error_response),
        )
        return AuthMiddleware(inside, self._access)

    def close(self) -> None:
        """Wait for the changes that were begun."""
        self._changes.shutdown()

    async def _page(self, page: WebPage, request: Request) -> Response:
        address = self._address(request)
        if EVENTS in request.headers.get("accept", ""):
            events = self._streams.open(page, address)
            if events is None:
                full = f"{MOST_STREAMS} pages are open. Close some of them.\n"
                return Response(full, 503, {"retry-after": "10"}, "text/plain")
            return StreamingResponse(events, media_type=EVENTS)
        notice = self._notices.pop(address.text("notice"), "")

        def html(view: QueueView) -> str:
            return render(view, page.name, address, page.context(view, address), notice).html

        return HTMLResponse(await self._reader.run(html))

    async def _show_question(self, request: Request) -> Response:
        """Return the question that confirms a change of a job."""
        return await self._question_response(
            request, await self._run_change(build_question, _target(request))
        )

    async def _apply_answer(self, request: Request) -> Response:
        """Change a job if the confirmed change is still the one that would be made."""
        target, body = _target(request), (await request.body()).decode(errors="replace")
        form = dict(parse_qsl(body, keep_blank_values=True))
        # a form's lines end as in mail: HTML, 4.10.21
        text = form.get("text", "").replace("\r\n", "\n")
        answered = await self._run_change(apply_change, target, form.get("question", ""), text)
        if isinstance(answered, Question):
            return await self._question_response(request, answered, 409)
        number = next(self._numbers)
        self._notices[f"{number}"] = answered
        self._notices.pop(f"{number - _NOTICES}", None)
        return RedirectResponse(f"{self._access.root}jobs/{target.job}?notice={number}", 303)

    async def _run_change(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._changes, work, self._reader.view, *arguments
        )

    async def _question_response(
        self, request: Request, question: Question, status: int = 200
    ) -> Response:
        job, verb = question.target
        content = PageContent(f"{verb} job {job}", {"question": question})
        return await self._page_response(request, "question", content, status)

    async def _raw_log(self, request: Request) -> Response:
        address = self._address(request)
        content = await self._reader.run(lambda view: whole_log(view, address))
        # without a length: the log may be cut while it is sent
        return StreamingResponse(content, media_type="text/plain; charset=utf-8")

    async def _chart_library(self, request: Request) -> Response:
        """Send the chart library, compressed if the browser allows it."""
        library = chart_library()
        if library is None:
            return Response(f"{missing_library()}\n", 404, media_type="text/plain")
        headers = {**_FOR_EVER, "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            content = await asyncio.to_thread(compressed_library)
        else:
            content = await asyncio.to_thread(library.path.read_bytes)
        return Response(content, headers=headers, media_type="text/javascript")

    async def _run_named(self, request: Request) -> Response:
        """Redirect to the newest run of a name."""
        name = str(request.path_params["name"])
        run = await self._reader.run(lambda view: newest_of_name(view, name))
        return RedirectResponse(f"{self._access.root}runs/{run}", 303)

    async def _run_file(self, request: Request) -> Response:
        """Send a picture or a report of a run."""
        run, folder, path = (request.path_params[name] for name in ("number", "folder", "path"))
        content, media_type = await self._reader.run(lambda view: run_file(view, run, folder, path))
        return Response(content, headers=FILE_HEADERS, media_type=media_type)

    async def _error_response(self, request: Request, error: Exception) -> Response:
        """Return an error as a page, or as plain text if no page can be rendered."""
        if isinstance(
            error, ClientDisconnect
        ):  # the length of the request was not announced: the rest is not read
            return Response(
                f"a request may have at most {MOST_BODY:,} bytes\n", 413, media_type="text/plain"
            )
        status, text = getattr(error, "status", 503), str(error)
        if isinstance(error, HTTPException):  # an error of Starlette: 404, or 405
            status, text = 404, "this page does not exist"
        content = PageContent("not found" if status == 404 else "error", {"text": text})
        try:
            return await self._page_response(request, "message", content, status)
        except (Error, OSError, sqlite3.Error):  # the head of the page needs the queue, too
            return Response(f"{text}\n", status, media_type="text/plain")

    async def _page_response(
        self, request: Request, template: str, content: PageContent, status: int
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


def _target(request: Request) -> ActionTarget:
    return ActionTarget(request.path_params["number"], request.path_params["verb"])
