"""Server-sent events: the changed parts of an open page, rendered once for all browsers that show it.

The queue is polled only while a page is open. A poll reads the stat of a few files and SQLite's data
version. A page is rendered again if these have changed, and takes at most SHARE of a core.
"""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from launcher.frontends.screens.job_actions import one_line
from launcher.frontends.screens.snapshots import read_scheduler_status
from launcher.frontends.web.page import Address, WebPage, render
from launcher.frontends.web.view import QueueReader, QueueView
from launcher.system.error_log import ErrorThrottle
from launcher.system.errors import Error
from launcher.system.files import file_stamp

MOST_STREAMS = 60  # open pages; a browser closes those in hidden tabs
POLL_INTERVAL_S = 1.0
SHARE = 0.005  # part of a core per open page; the server and the polls take about as much again
PENDING_SHARE = 0.02  # seconds between two looks while values of a page are being read
RENEW_S = 15.0  # seconds after which a page is rendered even if nothing has changed
ALIVE_EVERY_S = 20.0  # seconds after which a comment is sent, which detects closed browsers


_Part = tuple[str, bytes]  # version and bytes of a part of a page, or of what is wrong with it


@dataclass(eq=False, kw_only=True)
class _Channel:
    """An address that is open in at least one browser."""

    page: WebPage
    address: Address
    streams: int = 0  # browsers that show the page
    parts: dict[str, _Part] = field(default_factory=dict)  # current parts of the page
    # another one after each change
    update_event: asyncio.Event = field(default_factory=asyncio.Event)
    fingerprint: object = None  # fingerprint of the queue and the files when they were rendered
    files: tuple[Path, ...] = ()
    pause_s: float = POLL_INTERVAL_S  # seconds before the next poll: longer after an expensive one
    renew_at: float = 0.0
    # its own, so that a slow page holds up no other's stream
    task: asyncio.Task[None] | None = None

    def wake_streams(self) -> None:
        """Wake the streams."""
        self.update_event.set()
        self.update_event = asyncio.Event()


class EventStreams:
    """Keeps open pages up to date."""

    def __init__(self, reader: QueueReader) -> None:
        """Watch nothing yet.

        Args:
            reader: reads the queue.
        """
        self._reader = reader
        self._errors = ErrorThrottle()
        self._channels: dict[Address, _Channel] = {}
        self._closed = False

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for channel in self._channels.values():
            channel.wake_streams()

    def open(self, page: WebPage, address: Address) -> AsyncIterator[bytes] | None:
        """Return the events of a page, beginning with all its parts; None if too many pages are open."""
        number = sum(channel.streams for channel in self._channels.values())
        if self._closed or number >= MOST_STREAMS:
            return None
        channel = self._channels.setdefault(address, _Channel(page=page, address=address))
        channel.streams += 1
        if channel.task is None or channel.task.done():
            channel.task = asyncio.get_running_loop().create_task(self._watch(channel))
        return self._events(channel)

    async def _events(self, channel: _Channel) -> AsyncIterator[bytes]:
        seen = {"trouble": ""}  # the versions that the browser has
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                news, parts = channel.update_event, channel.parts.items()
                # a part that differs only in its relative times is not sent: the script counts on
                fresh = [event for name, (version, event) in parts if seen.get(name) != version]
                seen |= {name: version for name, (version, _) in parts}
                yield b"".join(fresh) or b":\n\n"  # a comment detects a closed browser
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), ALIVE_EVERY_S)
        finally:
            channel.streams -= 1
            if not channel.streams:
                self._channels.pop(channel.address, None)

    async def _watch(self, channel: _Channel) -> None:
        while channel.streams and not self._closed:
            await self._refresh_page(channel)
            await asyncio.sleep(channel.pause_s)

    async def _refresh_page(self, channel: _Channel) -> None:
        """Render a page again if it may have changed, and send its changed parts."""
        try:
            parts = await self._reader.run(partial(_render_parts, channel))
        except (Error, OSError, sqlite3.Error) as error:
            parts = _error_parts(channel, one_line(error))
        # a fault of this program: a page that cannot be rendered must not look like an idle one
        except Exception as error:  # noqa: BLE001
            self._errors.log_error(error)
            parts = _error_parts(channel, f"cannot draw this page: {type(error).__name__}")
        if parts:
            channel.parts |= parts
            channel.wake_streams()


def _render_parts(channel: _Channel, view: QueueView) -> dict[str, _Part]:
    """Return the parts of a page as they are now; empty if nothing can have changed."""
    began, now = time.thread_time(), time.monotonic()
    channel.pause_s = POLL_INTERVAL_S
    fingerprint, files = _fingerprint(channel, view), channel.files
    if fingerprint == channel.fingerprint and now < channel.renew_at:
        return {}
    content = channel.page.context(view, channel.address)
    rendered = render(view, channel.page.name, channel.address, content)
    channel.files = content.files
    # changes made meanwhile are drawn the next time, and so are files that the fingerprint does not contain
    channel.fingerprint = fingerprint if content.files == files else None
    channel.renew_at = now if content.pending else now + RENEW_S
    share = PENDING_SHARE if content.pending else SHARE
    channel.pause_s = max(POLL_INTERVAL_S, (time.thread_time() - began) / share)
    parts = {
        name: _part(version, {"id": name, "version": version, "html": html})
        for name, (html, version) in rendered.fragments.items()
    }
    return {**parts, "trouble": _part("", {"trouble": ""})}


def _error_parts(channel: _Channel, why: str) -> dict[str, _Part]:
    """Return the error of a page that cannot be rendered; each poll renders it again until it can."""
    channel.fingerprint, channel.pause_s = None, POLL_INTERVAL_S
    return {"trouble": _part(why, {"trouble": why})}


def _fingerprint(channel: _Channel, view: QueueView) -> object:
    """Return a value that changes with the queue, its scheduler, the GPUs and a page's files."""
    files = (view.home.gpus, *channel.files)
    return (
        view.queue.version,
        read_scheduler_status(view.home),
        [file_stamp(str(file)) for file in files],
    )


def _part(version: str, record: dict[str, str]) -> _Part:
    return version, f"data: {json.dumps(record)}\n\n".encode()
