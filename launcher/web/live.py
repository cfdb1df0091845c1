"""The queue, read for all pages by one thread; and server-sent events: what of a page has changed.

SQLite's connections belong to the thread that made them. What has changed is rendered once for all browsers that show it.
The queue is looked at only while a page is open. A look costs a stat of a few files and a number of
SQLite; a page is rendered again where these have changed, and takes at most SHARE of a core.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from launcher.errors import Error
from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.job_actions import one_line
from launcher.screens.snapshots import Queue, scheduler_of
from launcher.system.error_log import Troubles
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.web.pages.page import Address, Page, View
from launcher.web.rendering import render
from launcher.web.runs.run_data import Background, read_runs
from launcher.web.runs.run_filter import SettingsIndex

T = TypeVar("T")


class QueueReader:
    """Runs functions in the thread that reads the queue, one after another."""

    def __init__(self, home: Home, root: str, *, read_only: bool) -> None:
        """Read nothing yet.

        Args:
            home: need not exist.
            root: the path of the first page, with a slash at its end.
            read_only: pages offer no changes.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        index = SettingsIndex(home)
        self._view = View(
            home=home,
            root=root,
            # no processes of jobs are measured: an open page costs less than that would
            queue=Queue(home, lookout=Lookout(Nvml().snapshot, _unneeded), measures=False),
            runs=Background(partial(read_runs, home)),
            settings=Background(lambda _: index.read()),
            read_only=read_only,
            now=time.time(),
        )

    async def run(self, work: Callable[[View], T]) -> T:
        """Return what a function makes of the queue as it is now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, lambda: work(self._view._replace(now=time.time()))
        )

    def close(self) -> None:
        """Give the database back, when all that was begun is done."""
        self._thread.submit(self._view.queue.close).result()
        self._thread.shutdown()
        self._view.runs.close()
        self._view.settings.close()


def _unneeded() -> None:
    """Return at once: the next look at the queue has the result of a query of the GPUs."""


MOST_STREAMS = 60  # open pages; a browser closes those that nobody sees
LOOK_EVERY_S = 1.0
SHARE = 0.005  # of a core, for each page that is open; server and looks take about as much again
RENEW_S = 15.0  # a page is rendered so often whether anything has changed or not
ALIVE_EVERY_S = 20.0  # a comment is sent, so that it is known that a browser has gone
_COMMENT = b":\n\n"


class TooManyStreams(Error):
    """No further page can be kept up to date."""


class _Part(NamedTuple):
    """A part of a page, or what is wrong with it, as it is sent."""

    version: str
    event: bytes


_NOTHING = _Part("", b"")


@dataclass(eq=False, kw_only=True)
class _Channel:
    """An address that somebody watches."""

    page: Page
    address: Address
    streams: int = 0  # browsers that show it
    parts: dict[str, _Part] = field(default_factory=dict)  # as they are now
    news: asyncio.Event = field(default_factory=asyncio.Event)  # another one after each change
    mark: object = None  # of the queue and the files when they were rendered
    files: tuple[Path, ...] = ()
    pause_s: float = LOOK_EVERY_S  # before the next look: longer after one that cost much
    renew_at: float = 0.0
    # its own, so that a slow page holds up no other's stream
    task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wake the streams."""
        self.news.set()
        self.news = asyncio.Event()


class Streams:
    """Keeps open pages up to date."""

    def __init__(self, reader: QueueReader) -> None:
        """Watch nothing yet.

        Args:
            reader: reads the queue.
        """
        self._reader = reader
        self._troubles = Troubles()
        self._channels: dict[Address, _Channel] = {}
        self._closed = False

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for channel in self._channels.values():
            channel.tell()

    def open(self, page: Page, address: Address) -> AsyncIterator[bytes]:
        """Return the events of a page from now on; all its parts as they are come first.

        Raises:
            TooManyStreams: no more can be opened.
        """
        number = sum(channel.streams for channel in self._channels.values())
        if self._closed or number >= MOST_STREAMS:
            raise TooManyStreams(f"{MOST_STREAMS} pages are open: close some")
        channel = self._channels.setdefault(address, _Channel(page=page, address=address))
        channel.streams += 1
        if channel.task is None or channel.task.done():
            channel.task = asyncio.get_running_loop().create_task(self._watch(channel))
        return self._events(channel)

    async def _events(self, channel: _Channel) -> AsyncIterator[bytes]:
        seen: dict[str, _Part] = {}
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                news = channel.news
                fresh = [part for name, part in channel.parts.items() if seen.get(name) != part]
                seen = {**channel.parts}
                if fresh:
                    yield b"".join(part.event for part in fresh)
                    continue
                try:
                    await asyncio.wait_for(news.wait(), ALIVE_EVERY_S)
                except TimeoutError:
                    yield _COMMENT
        finally:
            channel.streams -= 1
            if not channel.streams:
                self._channels.pop(channel.address, None)

    async def _watch(self, channel: _Channel) -> None:
        while channel.streams and not self._closed:
            await self._look(channel)
            await asyncio.sleep(channel.pause_s)

    async def _look(self, channel: _Channel) -> None:
        """Render a page again where it may have changed, and send what of it has."""
        try:
            parts = await self._reader.run(partial(_rendered, channel))
        except (Error, OSError, sqlite3.Error) as error:
            parts = _troubled(channel, one_line(error))
        # a fault of ours: a page that is drawn no more must not look like one on which nothing happens
        except Exception as error:  # noqa: BLE001
            self._troubles.tell(error)
            parts = _troubled(channel, f"this page cannot be drawn: {type(error).__name__}")
        # of one that differs in its times alone the browser has what it needs
        parts = {
            name: part
            for name, part in parts.items()
            if part.version != channel.parts.get(name, _NOTHING).version
        }
        if parts:
            channel.parts |= parts
            channel.tell()


def _rendered(channel: _Channel, view: View) -> dict[str, _Part]:
    """Return the parts of a page as they are now; none where nothing can have changed."""
    began, now = time.thread_time(), time.monotonic()
    channel.pause_s = LOOK_EVERY_S
    if _mark(channel, view) == channel.mark and now < channel.renew_at:
        return {}
    content = channel.page.fill(view, channel.address)
    rendered = render(view, channel.page.name, channel.address, content, renewed=True)
    channel.files = content.files
    channel.mark = _mark(channel, view)
    channel.renew_at = now if content.pending else now + RENEW_S
    channel.pause_s = max(LOOK_EVERY_S, (time.thread_time() - began) / SHARE)
    parts = {
        name: _part(version, {"id": name, "version": version, "html": html})
        for name, (html, version) in rendered.fragments.items()
    }
    return {**parts, "trouble": _part("", {"trouble": ""})}


def _troubled(channel: _Channel, why: str) -> dict[str, _Part]:
    """Return what is sent where a page cannot be shown; it is rendered anew at each look until it can."""
    channel.mark, channel.pause_s = None, LOOK_EVERY_S
    return {"trouble": _part(why, {"trouble": why})}


def _mark(channel: _Channel, view: View) -> object:
    """Return what is another value when the queue, its scheduler, the GPUs or a page's files may have changed."""
    files = (view.home.gpus, *channel.files)
    return view.version, scheduler_of(view.home), [stamp(str(file)) for file in files]


def _part(version: str, record: dict[str, str]) -> _Part:
    return _Part(version, f"data: {json.dumps(record)}\n\n".encode())
