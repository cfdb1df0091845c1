"""Somebody before `launcher top`, in a terminal that does not exist."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import closing

from textual.events import Key
from textual.pilot import Pilot

from launcher.frontends.screens.dashboard.app import Top
from launcher.frontends.screens.dashboard.widgets import Canvas
from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.queue.home.paths import Home
from launcher.system.text_table import TextSpan, TextStyle
from tests.build import DEADLINE_S


class User:
    """Somebody before the screen: presses keys, and reads."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self._pilot = pilot

    @property
    def top(self) -> Top:
        app = self._pilot.app
        assert isinstance(app, Top)
        return app

    @property
    def lines(self) -> list[str]:
        return [row.text.rstrip() for row in self.top.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def bottom(self) -> str:
        return self.lines[-1]

    @property
    def chosen(self) -> str:
        """The line that the cursor is on."""
        return next((one for one in self.lines if one.startswith("▸")), "")

    @property
    def highlighted(self) -> str:
        """The lines that stand out: the chosen job's, or what was found in a log."""
        canvas = self.top.query_one(Canvas)
        return "\n".join(
            row.text
            for row in canvas.rows
            if row.spans[:1] == (TextSpan(row.text, TextStyle.CHOSEN),)
        )

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def after(self, keys: str, *texts: str, chosen: str = "", bottom: str = "") -> None:
        """Press keys, and see texts on the screen, in the line of the cursor, or as the last line."""
        await self.press(*keys.split())
        for text in texts:
            assert text in self.text
        assert chosen in self.chosen
        assert bottom in {"", self.bottom}

    async def type(self, text: str) -> None:
        """Press keys, waiting only after the last one until the screen is idle."""
        for key in text[:-1]:
            self.send(key)
            for _ in range(2):  # the screen passes it on
                await self._pilot._wait_for_screen()
        await self.press(text[-1])

    def send(self, key: str) -> None:
        """Press a key, and wait for nothing."""
        self.top.post_message(Key(key, key if len(key) == 1 else None))

    async def look(self) -> None:
        """Let a second pass."""
        self.top._refresh_and_draw()
        await self._pilot.pause()

    async def sees(self, holds: Callable[[], object]) -> None:
        """Wait until the screen becomes as a test wants it, also if it is not idle."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, self.text
            await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], object]) -> None:
        """Look until the screen is as a test wants it."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, self.text
            await asyncio.sleep(0.02)
            await self.look()


Story = Callable[[User], Awaitable[None]]


def run_top(
    queue: QueueSnapshotReader, story: Story, *, size: tuple[int, int] = (80, 24), **how: bool
) -> int | None:
    """Have somebody before a screen of this size, and return the exit code."""

    async def run() -> int | None:
        app = Top(queue, **{"colour": True, **how})
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await story(User(pilot))
        return app.return_value

    return asyncio.run(run())


def run_on_queue(
    home: Home, story: Story, *, size: tuple[int, int] = (80, 24), **how: bool
) -> int | None:
    with closing(QueueSnapshotReader(home)) as queue:
        return run_top(queue, story, size=size, **how)


class FixedSnapshotReader(QueueSnapshotReader):
    """A queue that looks as a test wants it, at every moment; its database is the home's."""

    def __init__(self, home: Home, screen: QueueSnapshot) -> None:
        super().__init__(home)
        self._screen = screen

    def read_snapshot(
        self, *, waiting_limit: int = 0, recent: int = 0, search_text: str = ""
    ) -> QueueSnapshot:
        self.current()
        return self._screen


def run_on_snapshot(
    home: Home, screen: QueueSnapshot, story: Story, *, size: tuple[int, int] = (80, 24)
) -> None:
    with closing(FixedSnapshotReader(home, screen)) as queue:
        run_top(queue, story, size=size)


def report(home: Home, job: int, *steps: int) -> None:
    """Let a running job report its progress."""
    lines = [
        {"at": 1000.0 + step, "step": step, "total": 90, "metrics": {"loss": 1 / step, "auc": 0.9}}
        for step in steps
    ]
    with home.attempt(job, 1).progress.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in lines)
