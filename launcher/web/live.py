"""The queue, read for all pages by one thread; and server-sent events: what of a page has changed.

SQLite's connections belong to the thread that made them. What has changed is rendered once for all browsers that show it.
The queue is looked at only while a page is open. A look costs a stat of a few files and a number of
SQLite; a page is rendered again where these have changed, and takes at most SHARE of a core.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from launcher.errors import Error
from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.format import harmless
from launcher.screens.snapshots import Queue, scheduler_of
from launcher.system.error_log import Troubles
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.web.pages.page import Address, Page, View
from launcher.web.rendering import Fragment
from launcher.web.runs.run_data import Background, RunData, read_runs
from launcher.web.runs.run_filter import Settings, SettingsIndex
from launcher.web.site import Site

T = TypeVar("T")
Mark = tuple[object, ...]


class QueueReader:
    """Runs functions in the thread that reads the queue, one after another."""

    def __init__(self, home: Home, *, read_only: bool) -> None:
        """Read nothing yet.

        Args:
            home: need not exist.
            read_only: pages offer no changes.
        """
        self._home, self._read_only = home, read_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        index = SettingsIndex(home)
        self._runs: Background[tuple[int, ...], RunData] = Background(partial(read_runs, home))
        self._settings: Background[None, Mapping[int, Settings]] = Background(
            lambda _: index.read()
        )
        # no processes of jobs are measured: an open page costs less than that would
        self._queue = Queue(home, lookout=Lookout(Nvml().snapshot, _unneeded), measures=False)

    async def run(self, work: Callable[[View], T]) -> T:
        """Return what a function makes of the queue as it is now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self._view()))

    def close(self) -> None:
        """Give the database back, when all that was begun is done."""
        self._thread.submit(self._queue.close).result()
        self._thread.shutdown()
        self._runs.close()
        self._settings.close()

    def _view(self) -> View:
        return View(
            home=self._home,
            queue=self._queue,
            runs=self._runs,
            settings=self._settings,
            read_only=self._read_only,
            now=time.time(),
        )


def mark_of(view: View) -> Mark:
    """Return what is another value when the queue, its scheduler or the GPUs may have changed."""
    return view.version, scheduler_of(view.home), stamps([view.home.gpus])


def stamps(files: Iterable[Path]) -> Mark:
    """Return the sizes and times of files; None for one that is not there."""
    return tuple(stamp(str(file)) for file in files)


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


@dataclass(eq=False)
class _Stream:
    """An open page: what is to be sent to it. A newer version of a part takes the place of an older."""

    waiting: dict[str, bytes] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, name: str, event: bytes) -> None:
        self.waiting[name] = event
        self.news.set()


@dataclass(eq=False, kw_only=True)
class _Channel:
    """An address that somebody watches."""

    page: Page
    address: Address
    streams: list[_Stream] = field(default_factory=list)
    sent: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # name → version, event
    mark: Mark = ()
    files: tuple[Path, ...] = ()
    pause_s: float = LOOK_EVERY_S  # before the next look: longer after one that cost much
    renew_at: float = 0.0
    task: asyncio.Task[None] | None = (
        None  # its own, so that a slow page holds up no other's stream
    )

    def troubled(self, why: str) -> dict[str, tuple[str, bytes]]:
        """Return what is sent where the page cannot be shown; all of it is sent anew once it can."""
        text = harmless(" ".join(why.split()))
        self.mark, self.pause_s = (), LOOK_EVERY_S
        self.sent = {name: sent for name, sent in self.sent.items() if name == "trouble"}
        return {"trouble": (text, _data({"trouble": text}))}


class Streams:
    """Keeps open pages up to date."""

    def __init__(
        self,
        reader: QueueReader,
        site: Site,
        *,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        """Watch nothing yet.

        Args:
            reader: reads the queue.
            site: renders pages.
            clock: tells the time in seconds.
            cost: tells the seconds of CPU that its thread has used.
        """
        self._reader, self._site, self._clock, self._cost = reader, site, clock, cost
        self._troubles = Troubles()
        self._channels: dict[Address, _Channel] = {}
        self._closed = False

    @property
    def number(self) -> int:
        """How many streams are open."""
        return sum(len(channel.streams) for channel in self._channels.values())

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for channel in self._channels.values():
            for stream in channel.streams:
                stream.news.set()

    def open(self, page: Page, address: Address) -> AsyncIterator[bytes]:
        """Return the events of a page from now on; all its parts as they are come first.

        Raises:
            TooManyStreams: no more can be opened.
        """
        if self._closed or self.number >= MOST_STREAMS:
            raise TooManyStreams(f"{MOST_STREAMS} pages are open: close some")
        channel = self._channels.setdefault(address, _Channel(page=page, address=address))
        stream = _Stream()
        for name, (_, event) in channel.sent.items():
            stream.put(name, event)
        channel.streams.append(stream)
        if channel.task is None or channel.task.done():
            channel.task = asyncio.get_running_loop().create_task(self._watch(channel))
        return self._events(channel, stream)

    async def _events(self, channel: _Channel, stream: _Stream) -> AsyncIterator[bytes]:
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                try:
                    await asyncio.wait_for(stream.news.wait(), ALIVE_EVERY_S)
                except TimeoutError:
                    yield _COMMENT
                    continue
                stream.news.clear()
                events, stream.waiting = b"".join(stream.waiting.values()), {}
                if events:
                    yield events
        finally:
            channel.streams.remove(stream)
            if not channel.streams:
                self._channels.pop(channel.address, None)

    async def _watch(self, channel: _Channel) -> None:
        while channel.streams and not self._closed:
            await self._look(channel)
            await asyncio.sleep(channel.pause_s)

    async def _look(self, channel: _Channel) -> None:
        """Render a page again where it may have changed, and send what of it has."""

        def look(view: View) -> dict[str, tuple[str, bytes]] | None:
            began = self._cost()
            mark = (*mark_of(view), *stamps(channel.files))
            now = self._clock()
            channel.pause_s = LOOK_EVERY_S
            if mark == channel.mark and now < channel.renew_at:
                return None
            shown = self._site.show(view, channel.page, channel.address)
            channel.files = shown.files
            channel.mark = (*mark_of(view), *stamps(channel.files))
            events = {
                name: (fragment.version, _event(name, fragment))
                for name, fragment in shown.rendered.fragments.items()
            }
            channel.renew_at = now if shown.pending else now + RENEW_S
            channel.pause_s = max(LOOK_EVERY_S, (self._cost() - began) / SHARE)
            return events

        try:
            events = await self._reader.run(look)
        except (Error, OSError, sqlite3.Error) as error:
            events = channel.troubled(str(error))
        # a fault of ours: a page that is drawn no more must not look like one on which nothing happens
        except Exception as error:  # noqa: BLE001
            self._troubles.tell(error)
            events = channel.troubled(f"this page cannot be drawn: {type(error).__name__}")
        else:
            if events is not None and "trouble" in channel.sent:
                events["trouble"] = ("", _data({"trouble": ""}))
        for name, (version, event) in (events or {}).items():
            if channel.sent.get(name, ("", b""))[0] != version:
                channel.sent[name] = version, event
                for stream in channel.streams:
                    stream.put(name, event)


def _event(name: str, fragment: Fragment) -> bytes:
    return _data({"id": name, "version": fragment.version, "html": fragment.html})


def _data(record: dict[str, str]) -> bytes:
    return f"data: {json.dumps(record)}\n\n".encode()
