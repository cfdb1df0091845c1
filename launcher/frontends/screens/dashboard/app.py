"""`launcher top`: a stack of pages, a bottom line, and the effects of keys, as an application of Textual.

Typed text uses Textual's Input. All other text consists of lines that `status` shares; only changed lines are drawn.
Other widgets of Textual are not used, because:

1. RichLog takes 10 s and 216 MiB for each MiB of a log.
2. Footer splits keys at 20 columns.
3. Below a ModalScreen each change redraws everything. This takes 24 % of a core at 60 changes per second instead of 6 %.
"""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from textual.app import App, ComposeResult
from textual.events import Event, Key, Paste, Resize

from launcher.frontends.screens.dashboard.job_page import LOG, OVERVIEW, JobPage
from launcher.frontends.screens.dashboard.keys import CHANGE_KEYS, KEY_ALIASES, help_page, hints
from launcher.frontends.screens.dashboard.overview_page import Overview
from launcher.frontends.screens.dashboard.page import DashboardPage, Prompt
from launcher.frontends.screens.dashboard.text_page import TextPage, command_page
from launcher.frontends.screens.dashboard.widgets import Canvas, PromptInput
from launcher.frontends.screens.job_actions import (
    KEYS,
    READ_ONLY,
    ProposedChange,
    one_line,
    propose,
)
from launcher.frontends.screens.job_texts import TAG, TEXT_KEYS, JobText, read_job_text, write_texts
from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import command_text, first_line
from launcher.system.errors import Error, pluralize
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line, shorten

POLL_INTERVAL_S = 1.0
TERMINATED = 128 + signal.SIGTERM
_LEAVE = {"ctrl+c", "ctrl+q"}
_SCROLL = {"up", "down", "pageup", "pagedown"}  # keys that scroll the page while text is typed
_NAME = 24  # columns of a job's name before the typed text
_THEME = "ansi-dark"  # the user's own palette and background
_SUSPENDING = (signal.SIGTSTP, signal.SIGCONT)
_VERB = (
    *(sys.executable, "-P", "-c"),
    "import sys; from launcher.frontends.cli.main import main; sys.exit(main())",
)


class Top(App[int]):
    """The full-screen view of a queue; its result is the exit code."""

    ENABLE_COMMAND_PALETTE = False
    INLINE_PADDING = 0
    CSS = """
    Screen { layers: default typed; overflow: hidden; background: ansi_default; color: ansi_default; }
    """

    def __init__(
        self, queue: QueueSnapshotReader, *, colour: bool, read_only: bool = False
    ) -> None:
        """Show a queue.

        Args:
            queue: queue as it is now.
            colour: draw in the terminal's sixteen colours.
            read_only: nothing can be changed.
        """
        super().__init__(ansi_color=True)
        self.theme = _THEME
        self._canvas, self._typed = Canvas(colour=colour), PromptInput()
        self._is_suspended = False  # suspended, and the terminal restored
        self._queue, self._read_only = queue, read_only
        self._store = queue.store  # store of the newest snapshot
        self._overview = Overview()
        self._opened: JobPage | None = None  # over the overview
        self._text: TextPage | None = None  # over both
        self._proposed: ProposedChange | None = None  # waits for confirmation
        self._search_text = ""
        self._status_message: TextLine | None = None
        self._read_error = ""  # why the newest read failed
        self.snapshot: QueueSnapshot | None = None  # the newest

    # --- events of Textual

    def compose(self) -> ComposeResult:
        """Create the canvas, and the text input above it."""
        yield self._canvas
        yield self._typed

    def on_mount(self) -> None:
        """Start to refresh, and handle the signals that end a program."""
        if not self.is_headless:
            self._install_signal_handlers()
        self._refresh_and_draw()
        self.set_interval(POLL_INTERVAL_S, self._refresh_and_draw)

    def on_unmount(self) -> None:
        """End background work, for which the program would wait."""
        self._close()

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size."""
        self._draw(event.size.width, event.size.height)

    async def on_event(self, event: Event) -> None:
        """Handle keys and pasted text one after the other; leave other events to Textual.

        Textual would pass them from widget to widget, where letters overtake keys with an action.
        """
        if not isinstance(event, Key | Paste):
            await super().on_event(event)
        elif self.return_value is None:  # the app has not exited
            self.app_focus = True  # a key proves the focus, even if the terminal reported its loss
            await self._take(event)

    async def _take(self, event: Key | Paste) -> None:
        key = event.key if isinstance(event, Key) else ""
        prompt = self._typed.prompt
        try:
            if key == "ctrl+z":
                self.action_suspend_process()
            elif key in _LEAVE:
                self.exit(0)
            elif prompt is not None and key not in _SCROLL:
                await self._typed.take(prompt, event)
            elif isinstance(event, Key):
                # Textual's names of characters change between versions; with Alt the character is set, too
                bare = event.is_printable and key != "space" and "+" not in key
                self._press((event.character if bare else None) or key)
        except (Error, OSError, sqlite3.Error) as error:
            self.show_message(one_line(error), TextStyle.BAD)
        self._draw()

    def on_input_changed(self) -> None:
        """Apply a filter while it is typed; of keys that arrive together, only the last one counts."""
        prompt = self._typed.prompt
        if prompt is not None and prompt.live:
            prompt.done(self._typed.value)
            self._draw()

    def _refresh_and_draw(self) -> None:
        if not self.is_headless and not _has_terminal():
            signal.raise_signal(signal.SIGHUP)  # closed without a signal: Textual would not end
        self.refresh_queue()
        self._draw()

    def refresh_queue(self) -> None:
        """Read the queue again; an error is shown, and the next read may succeed."""
        try:
            self.snapshot = self._queue.read_snapshot(
                waiting_limit=self._overview.waiting, search_text=self._search_text
            )
            self._overview.show(self.snapshot)
            if self._queue.store is not self._store:
                self._reset_queue()
            self._refresh_job()
        except (Error, OSError, sqlite3.Error) as error:
            self._read_error = one_line(error)
        else:
            self._read_error = ""
        self._overview.message = self._queue.message

    def show_message(self, text: str, tone: TextStyle = TextStyle.PLAIN) -> None:
        """Show a message in the bottom line until the next key."""
        self._status_message = line(sanitize_terminal(text), tone)

    def _close(self) -> None:
        """End background work."""
        if self._opened is not None:
            self._opened.log.cancel_search()
        self._opened = None

    @property
    def _page(self) -> DashboardPage:
        """The visible page."""
        return self._text or self._opened or self._overview

    def _draw(self, width: int = 0, height: int = 0) -> None:
        width, height = max(1, width or self.size.width), max(2, height or self.size.height)
        page = self._page
        lines = [row.truncate(width) for row in page.draw(width, height - 1)[: height - 1]]
        lines += [line("")] * (height - 1 - len(lines))
        self._canvas.show([*lines, self._status_bar(page, width)])

    def _press(self, key: str) -> None:
        key = KEY_ALIASES.get(key, key)
        if self._proposed is not None:
            change, self._proposed = self._proposed, None
            self._apply_change(change, key)
        elif self._typed.prompt is not None:
            self._page.press(key)
        else:
            self._status_message = None
            self._handle_key(key)

    def _handle_key(self, key: str) -> None:
        page = self._page
        if key == "?":
            self._text = TextPage(help_page)
        elif key == "q" or (key == "escape" and not page.press(key)):
            self._go_back(key)
        elif key in KEYS:
            self._propose_change(key, self._jobs(page))
        elif key == "escape" or page.press(key):
            return
        elif key == "/":
            self._search(page)
        elif key in TEXT_KEYS:
            self._write(TEXT_KEYS[key], self._jobs(page))
        elif key == "y":
            self._copy(self._jobs(page))
        elif key == "e":
            self._edit(page.job)
        elif page is self._overview and key in {"enter", "w", "L"}:
            self._open(page.job, key)

    def _jobs(self, page: DashboardPage) -> list[int]:
        """Return the jobs of a key: the marked ones, or the one that is selected or open."""
        if page is self._overview:
            return self._overview.jobs
        return [] if page.job is None else [page.job]

    def _go_back(self, key: str) -> None:
        if self._text is not None:
            self._text = None
        elif self._opened is not None:
            self._close()
        elif key == "q":
            self.exit(0)
        elif self._search_text:
            self._filter_queue("")

    def _search(self, page: DashboardPage) -> None:
        """Prompt for a filter of the queue, or for a search text in a log."""
        if page is self._overview:
            prompt = Prompt(
                label="filter",
                hint="Enter keeps  Esc shows all",
                text=self._search_text,
                done=self._filter_queue,
                live=True,
            )
            self._typed.begin(prompt)
        elif isinstance(page, JobPage) and page.shows_log:
            hint = "Enter searches  Esc leaves"
            self._typed.begin(Prompt(label="search", hint=hint, done=page.log.search))

    def _open(self, job: int | None, key: str) -> None:
        chosen = self._select_jobs([job])
        if chosen is not None and job is not None:
            start = LOG if key == "L" else OVERVIEW
            queue, why = self._queue, key == "w"
            self._opened = JobPage(
                queue,
                chosen[0],
                job,
                run_in_background=self._run_in_background,
                why=why,
                page=start,
            )

    def _copy(self, jobs: Sequence[int]) -> None:
        """Copy the command lines of jobs to the terminal's clipboard, and show them."""
        chosen = self._select_jobs(jobs)
        if chosen is not None:
            store, rows = chosen
            commands = [command_text(row, store.read.working_folder(row.id)) for row in rows]
            self.copy_to_clipboard("\n".join(commands))
            self._text = TextPage(partial(command_page, commands))

    def _edit(self, job: int | None) -> None:
        """Edit a job in an editor, which uses the terminal until it ends."""
        chosen = self._select_jobs([job], to_change=True)
        if chosen is None or job is None:
            return
        store, before = chosen
        self._run_verb("edit", str(job))
        after = store.read.jobs_by_id([job])
        specs = [[(row.spec_text, row.state) for row in rows] for rows in (before, after)]
        if specs[0] == specs[1]:
            self.show_message(f"job {job} is as it was")
        else:
            self.show_message(f"job {job} was changed", TextStyle.GOOD)
        self._refresh_after_change()

    def _propose_change(self, key: str, jobs: Sequence[int]) -> None:
        """Ask for confirmation of a change of jobs, or show why it is not possible."""
        chosen = self._select_jobs(jobs, to_change=True)
        if chosen is not None:
            store, rows = chosen
            proposal = propose(key, rows, store)
            if isinstance(proposal, str):
                self.show_message(proposal, TextStyle.WARN)
            else:
                self._proposed = proposal

    def _apply_change(self, change: ProposedChange, key: str) -> None:
        """Apply the proposed change if the key confirms it."""
        store = self._queue.store
        if key != "y" or store is None:
            self.show_message("nothing was changed")
            return
        touched = change.act(store)
        self._status_message = change.report(touched, self._queue.home)
        if touched:
            self._run_in_background(partial(self._notify_scheduler, change))
            self._refresh_after_change()

    def _notify_scheduler(self, change: ProposedChange) -> None:
        try:
            change.notify_scheduler(self._queue.home)
        except (Error, OSError) as error:
            self.show_message(one_line(error), TextStyle.BAD)

    def _write(self, kind: str, jobs: Sequence[int]) -> None:
        """Prompt for the tags or the note of jobs; for several jobs, tags are added or removed and notes replaced."""
        chosen = self._select_jobs(jobs, to_change=True)
        if chosen is None:
            return
        store, rows = chosen
        texts = [read_job_text(kind, row, store) for row in rows]
        first, hint, text = texts[0], "Enter keeps  Esc leaves it", ""
        if len(texts) == 1:
            label = shorten(first.prompt, len(first.label) + _NAME, middle=True)
            text = sanitize_terminal(first_line(first.text))
        else:
            label = f"{first.label}s ({pluralize(len(texts), 'marked job')})"
            hint = "TAG gives, -TAG takes  Esc leaves" if kind == TAG else hint
        done = partial(self._write_texts, texts)
        longest = first.longest
        self._typed.begin(Prompt(label=label, hint=hint, text=text, longest=longest, done=done))

    def _write_texts(self, texts: Sequence[JobText], typed_text: str) -> None:
        chosen = self._select_jobs([text.job.id for text in texts], to_change=True)
        if chosen is not None:
            self.show_message(write_texts(texts, chosen[0], typed_text), TextStyle.GOOD)
            self._refresh_after_change()

    def _select_jobs(
        self, jobs: Sequence[int | None], *, to_change: bool = False
    ) -> tuple[Store, list[JobRow]] | None:
        """Return the queue and the jobs of a key; show a message and return none if there are no such jobs."""
        store, numbers = self._queue.store, [job for job in jobs if job is not None]
        if to_change and self._read_only:
            self.show_message(READ_ONLY, TextStyle.WARN)
        elif store is None or not numbers:
            self.show_message("no job is chosen")
        elif rows := store.read.jobs_by_id(numbers):
            return store, rows
        elif len(numbers) == 1:
            self.show_message(f"job {numbers[0]} was cleaned", TextStyle.WARN)
        else:
            self.show_message(f"{len(numbers):,} marked jobs were cleaned", TextStyle.WARN)
        return None

    def _reset_queue(self) -> None:
        """Close the pages of a queue that was deleted."""
        if self._store is not None:
            self._proposed = None
            self._typed.end()
            self._close()
            self._overview.marked.clear()
            self.show_message("the queue was deleted or replaced", TextStyle.WARN)
        self._store = self._queue.store

    def _refresh_job(self) -> None:
        opened = self._opened
        if opened is not None:
            opened.refresh()
            if opened.is_deleted:
                self._close()
                self.show_message(f"job {opened.job} was cleaned")

    def _refresh_after_change(self) -> None:
        """Refresh after a change made on this screen."""
        self._overview.marked.clear()
        if self._opened is not None:
            self._opened.refresh(force=True)
        self._queue.invalidate_search()
        self.refresh_queue()

    def _filter_queue(self, text: str) -> None:
        if text != self._search_text:
            self._search_text = text
            self.refresh_queue()

    def _status_bar(self, page: DashboardPage, width: int) -> TextLine:
        if self._proposed is not None:
            return self._proposed.question(width)
        if self._typed.prompt is not None:
            return self._typed.draw(self._typed.prompt, width)
        if self._read_error:
            return line(self._read_error, TextStyle.BAD).truncate(width)
        if self._status_message is not None:
            return self._status_message.truncate(width)
        keys = page.hints
        if self._read_only or self._queue.store is None:
            keys = [binding for binding in keys if binding[0] not in CHANGE_KEYS]
        text = self._state(page)
        return TextLine(
            (TextSpan(text, TextStyle.WARN), *hints(keys, width - len(text)).spans)
        ).truncate(width)

    def _state(self, page: DashboardPage) -> str:
        """Return the unusual modes that the bottom line shows before the keys."""
        text = ""
        if page is self._overview and self._overview.marked:
            text = f"{len(self._overview.marked):,} marked, U unmarks  "
        if page is self._overview and self._search_text:
            return f"{text}filter: {shorten(sanitize_terminal(self._search_text), 20)}, Esc shows all  "
        if text:
            return text
        return "read only  " if self._read_only else ""

    # --- the terminal

    def _run_verb(self, *words: str) -> None:
        """Run a command in the terminal until it ends; an error message stays readable."""
        argv = [*_VERB, *words]
        with self.suspend(), _signals_of_others():
            code = subprocess.run(argv, check=False).returncode
            if code:
                print("\nEnter goes back to launcher top ", end="", file=sys.stderr, flush=True)  # noqa: T201  # the screen is away
                sys.stdin.readline()
        self._redraw_all()

    def _install_signal_handlers(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.exit, TERMINATED)
        # a closed terminal cannot be drawn on, and there is nothing to save
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)

        def go_away(signal_number: int, frame: FrameType | None) -> None:
            self._is_suspended = True
            if callable(suspend):
                suspend(signal_number, frame)

        def come_back(signal_number: int, frame: FrameType | None) -> None:
            # Textual would take over a terminal that it has never restored, and never end
            if self._is_suspended and callable(resume):
                resume(signal_number, frame)
            self._is_suspended = False
            loop.call_soon_threadsafe(self._redraw_all)

        signal.signal(signal.SIGTSTP, go_away)
        signal.signal(signal.SIGCONT, come_back)

    def _redraw_all(self) -> None:
        """Redraw a terminal on which other programs have drawn."""
        self.screen.refresh(layout=True)
        self._canvas.refresh()
        self._refresh_and_draw()

    def _run_in_background(self, action: Callable[[], None]) -> None:
        def run_and_draw() -> None:
            action()
            self.call_from_thread(self._draw)

        self.run_worker(run_and_draw, thread=True, exit_on_error=False)


@contextmanager
def _signals_of_others() -> Iterator[None]:
    """Leave interrupt and suspend keys to another program of this process group."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_SUSPENDING)}
    # a handler, because programs would inherit an ignored signal
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in _SUSPENDING:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_terminal() -> bool:
    return sys.__stdin__ is not None and os.isatty(sys.__stdin__.fileno())
