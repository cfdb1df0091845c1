"""`launcher top`: a stack of pages, a bottom line, and the effects of keys, as an application of Textual's.

What is typed is Textual's Input. All else are lines that `status` shares, drawn where they changed: Textual's RichLog
takes 10 s and 216 MiB for each MiB of a log, its Footer cuts keys in two at 20 columns, and below a ModalScreen all is
drawn again at each change, 24 % of a core at 60 a second instead of 6.
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

from launcher.errors import Error, counted
from launcher.screens.dashboard.job_page import LOG, OVERVIEW, JobPage
from launcher.screens.dashboard.keys import SAME, WATCHING, help_page, hints
from launcher.screens.dashboard.overview_page import Overview
from launcher.screens.dashboard.page import Page, Prompt
from launcher.screens.dashboard.text_page import TextPage, command_page
from launcher.screens.dashboard.widgets import Canvas, Typed
from launcher.screens.format import command_text, first_line, harmless
from launcher.screens.job_actions import KEYS, READ_ONLY, Change, one_line, propose
from launcher.screens.job_texts import TAG, TEXT_KEYS, JobText, put_text, text_of
from launcher.screens.snapshots import Queue, Screen
from launcher.screens.text_table import Line, Span, Tone, line, shortened
from launcher.store.queue import Store
from launcher.store.rows import JobRow

LOOK_EVERY_S = 1.0
TERMINATED = 128 + signal.SIGTERM
_LEAVE = {"ctrl+c", "ctrl+q"}
_SCROLL = {"up", "down", "pageup", "pagedown"}  # the page, while something is typed
_NAME = 24  # columns of a job's name before what is typed
_THEME = "ansi-dark"  # the person's own palette and background
_SUSPENDING = (signal.SIGTSTP, signal.SIGCONT)
_VERB = (
    *(sys.executable, "-P", "-c"),
    "import sys; from launcher.cli.main import main; sys.exit(main())",
)


class Top(App[int]):
    """Shows a queue on the whole screen; its result is the exit code."""

    ENABLE_COMMAND_PALETTE = False
    INLINE_PADDING = 0
    CSS = """
    Screen { layers: default typed; overflow: hidden; background: ansi_default; color: ansi_default; }
    """

    def __init__(self, queue: Queue, *, colour: bool, read_only: bool = False) -> None:
        """Show a queue.

        Args:
            queue: as it is now.
            colour: draw in the terminal's sixteen colours.
            read_only: nothing can be changed.
        """
        super().__init__(ansi_color=True)
        self.theme = _THEME
        self._canvas, self._typed = Canvas(colour=colour), Typed()
        self._away = False  # suspended, and the terminal given back
        self._queue, self._read_only = queue, read_only
        self._store = queue.store  # of the newest look
        self._overview = Overview()
        self._opened: JobPage | None = None  # over the overview
        self._text: TextPage | None = None  # over both
        self._asked: Change | None = None  # there is one at most
        self._sought = ""
        self._answer: Line | None = None
        self._trouble = ""  # why the newest look came to nothing
        self.picture: Screen | None = None  # of the newest look

    # --- Textual's events

    def compose(self) -> ComposeResult:
        """Put up the canvas, and what is typed over it."""
        yield self._canvas
        yield self._typed

    def on_mount(self) -> None:
        """Start to refresh, and handle the signals that end a program."""
        if not self.is_headless:
            self._mind_signals()
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)

    def on_unmount(self) -> None:
        """End what goes on beside the screen: the program would wait for it."""
        self._close()

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size."""
        self._draw(event.size.width, event.size.height)

    async def on_event(self, event: Event) -> None:
        """Take keys and what is pasted, each wholly before the next; leave other events to Textual.

        It would hand them from widget to widget, where those that mean an action are overtaken by letters.
        """
        if not isinstance(event, Key | Paste):
            await super().on_event(event)
        elif self.return_value is None:  # it was not left
            self.app_focus = True  # who types is there, whatever the terminal told of it before
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
                # Textual has names for most characters, which change; with Alt, it has the character, too
                bare = event.is_printable and key != "space" and "+" not in key
                self._press((event.character if bare else None) or key)
        except (Error, OSError, sqlite3.Error) as error:
            self.say(one_line(error), Tone.BAD)
        self._draw()

    def on_input_changed(self) -> None:
        """Have a filter hold while it is typed; of keys that came at once, the last one counts."""
        prompt = self._typed.prompt
        if prompt is not None and prompt.live:
            prompt.done(self._typed.value)
            self._draw()

    def _look(self) -> None:
        if not self.is_headless and not _has_terminal():
            signal.raise_signal(signal.SIGHUP)  # closed without a word: Textual would not end
        self.look()
        self._draw()

    def look(self) -> None:
        """Read the queue again; an error is shown, and the next read may succeed."""
        try:
            self.picture = self._queue.look(waiting=self._overview.waiting, sought=self._sought)
            self._overview.show(self.picture)
            if self._queue.store is not self._store:
                self._begin_anew()
            self._look_at_job()
        except (Error, OSError, sqlite3.Error) as error:
            self._trouble = one_line(error)
        else:
            self._trouble = ""
        self._overview.note = self._queue.note

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Tell something in the bottom line until the next key."""
        self._answer = line(harmless(text), tone)

    def _close(self) -> None:
        """End what goes on beside the screen."""
        if self._opened is not None:
            self._opened.log.leave_search()
        self._opened = None

    @property
    def _page(self) -> Page:
        """The page that is on top."""
        return self._text or self._opened or self._overview

    def _draw(self, width: int = 0, height: int = 0) -> None:
        width, height = max(1, width or self.size.width), max(2, height or self.size.height)
        page = self._page
        lines = [row.cut(width) for row in page.draw(width, height - 1)[: height - 1]]
        lines += [line("")] * (height - 1 - len(lines))
        self._canvas.show([*lines, self._bottom(page, width)])

    def _press(self, key: str) -> None:
        key = SAME.get(key, key)
        if self._asked is not None:
            change, self._asked = self._asked, None
            self._make(change, key)
        elif self._typed.prompt is not None:
            self._page.press(key)
        else:
            self._answer = None
            self._steer(key)

    def _steer(self, key: str) -> None:
        page = self._page
        if key == "?":
            self._text = TextPage(help_page)
        elif key == "q" or (key == "escape" and not page.press(key)):
            self._back(key)
        elif key in KEYS:
            self._ask(key, self._jobs(page))
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

    def _jobs(self, page: Page) -> list[int]:
        """Return the jobs that a key means: those that are marked, or the one that is chosen or open."""
        if page is self._overview:
            return self._overview.jobs
        return [] if page.job is None else [page.job]

    def _back(self, key: str) -> None:
        if self._text is not None:
            self._text = None
        elif self._opened is not None:
            self._close()
        elif key == "q":
            self.exit(0)
        elif self._sought:
            self._seek("")

    def _search(self, page: Page) -> None:
        """Have something typed after a slash: a filter of the queue, or a text in a log."""
        if page is self._overview:
            prompt = Prompt(
                label="filter",
                hint="Enter keeps  Esc shows all",
                text=self._sought,
                done=self._seek,
                live=True,
            )
            self._typed.begin(prompt)
        elif isinstance(page, JobPage) and page.shows_log:
            hint = "Enter searches  Esc leaves"
            self._typed.begin(Prompt(label="search", hint=hint, done=page.log.search))

    def _open(self, job: int | None, key: str) -> None:
        chosen = self._chosen([job])
        if chosen is not None and job is not None:
            start = LOG if key == "L" else OVERVIEW
            queue, why = self._queue, key == "w"
            self._opened = JobPage(queue, chosen[0], job, later=self._later, why=why, page=start)

    def _copy(self, jobs: Sequence[int]) -> None:
        """Give the terminal the command lines of jobs for its clipboard, and show them."""
        chosen = self._chosen(jobs)
        if chosen is not None:
            store, rows = chosen
            commands = [command_text(row, store.read.folder_of(row.id)) for row in rows]
            self.copy_to_clipboard("\n".join(commands))
            self._text = TextPage(partial(command_page, commands))

    def _edit(self, job: int | None) -> None:
        """Let the owner change a job in an editor, which has the terminal meanwhile."""
        chosen = self._chosen([job], to_change=True)
        if chosen is None or job is None:
            return
        store, before = chosen
        self._run_verb("edit", str(job))
        after = store.read.jobs_by_id([job])
        specs = [[(row.spec_text, row.state) for row in rows] for rows in (before, after)]
        if specs[0] == specs[1]:
            self.say(f"job {job} is as it was")
        else:
            self.say(f"job {job} was changed", Tone.GOOD)
        self._look_again()

    def _ask(self, key: str, jobs: Sequence[int]) -> None:
        """Ask about what a key does to jobs, or say why that cannot be."""
        chosen = self._chosen(jobs, to_change=True)
        if chosen is not None:
            store, rows = chosen
            proposal = propose(key, rows, store)
            if isinstance(proposal, str):
                self.say(proposal, Tone.WARN)
            else:
                self._asked = proposal

    def _make(self, change: Change, key: str) -> None:
        """Make the change that was asked about if the key says so."""
        store = self._queue.store
        if key != "y" or store is None:
            self.say("nothing was changed")
            return
        touched = change.act(store)
        self._answer = change.report(touched, self._queue.home)
        if touched:
            self._later(partial(self._follow_up, change))
            self._look_again()

    def _follow_up(self, change: Change) -> None:
        try:
            change.after(self._queue.home)
        except (Error, OSError) as error:
            self.say(one_line(error), Tone.BAD)

    def _write(self, kind: str, jobs: Sequence[int]) -> None:
        """Have a text on jobs typed; of several, tags are given and taken away, and notes replaced."""
        chosen = self._chosen(jobs, to_change=True)
        if chosen is None:
            return
        store, rows = chosen
        texts = [text_of(kind, row, store) for row in rows]
        first, hint, text = texts[0], "Enter keeps  Esc leaves it", ""
        if len(texts) == 1:
            label = shortened(first.asked, len(first.what) + _NAME, middle=True)
            text = harmless(first_line(first.text))
        else:
            label = f"{first.what}s ({counted(len(texts), 'marked job')})"
            hint = "TAG gives, -TAG takes  Esc leaves" if kind == TAG else hint
        done = partial(self._put, texts)
        longest = first.longest
        self._typed.begin(Prompt(label=label, hint=hint, text=text, longest=longest, done=done))

    def _put(self, texts: Sequence[JobText], typed: str) -> None:
        chosen = self._chosen([text.job.id for text in texts], to_change=True)
        if chosen is not None:
            self.say(put_text(texts, chosen[0], typed), Tone.GOOD)
            self._look_again()

    def _chosen(
        self, jobs: Sequence[int | None], *, to_change: bool = False
    ) -> tuple[Store, list[JobRow]] | None:
        """Return the queue and those of its jobs that a key means; else say why there are none."""
        store, numbers = self._queue.store, [job for job in jobs if job is not None]
        if to_change and self._read_only:
            self.say(READ_ONLY, Tone.WARN)
        elif store is None or not numbers:
            self.say("no job is chosen")
        elif rows := store.read.jobs_by_id(numbers):
            return store, rows
        elif len(numbers) == 1:
            self.say(f"job {numbers[0]} was cleaned", Tone.WARN)
        else:
            self.say(f"{len(numbers):,} marked jobs were cleaned", Tone.WARN)
        return None

    def _begin_anew(self) -> None:
        """Leave what belongs to a queue that is gone."""
        if self._store is not None:
            self._asked = None
            self._typed.end()
            self._close()
            self._overview.marked.clear()
            self.say("the queue was deleted or replaced", Tone.WARN)
        self._store = self._queue.store

    def _look_at_job(self) -> None:
        opened = self._opened
        if opened is not None:
            opened.look()
            if opened.gone:
                self._close()
                self.say(f"job {opened.job} was cleaned")

    def _look_again(self) -> None:
        """Show what was changed from here."""
        self._overview.marked.clear()
        if self._opened is not None:
            self._opened.look(again=True)
        self._queue.changed()
        self.look()

    def _seek(self, text: str) -> None:
        if text != self._sought:
            self._sought = text
            self.look()

    def _bottom(self, page: Page, width: int) -> Line:
        if self._asked is not None:
            return self._asked.question(width)
        if self._typed.prompt is not None:
            return self._typed.draw(self._typed.prompt, width)
        if self._trouble:
            return line(self._trouble, Tone.BAD).cut(width)
        if self._answer is not None:
            return self._answer.cut(width)
        keys = page.hints
        if self._read_only or self._queue.store is None:
            keys = [binding for binding in keys if binding[0] not in WATCHING]
        text = self._state(page)
        return Line((Span(text, Tone.WARN), *hints(keys, width - len(text)).spans)).cut(width)

    def _state(self, page: Page) -> str:
        """Return what stands before the keys: what is not as usual."""
        text = ""
        if page is self._overview and self._overview.marked:
            text = f"{len(self._overview.marked):,} marked, U unmarks  "
        if page is self._overview and self._sought:
            return f"{text}filter: {shortened(harmless(self._sought), 20)}, Esc shows all  "
        if text:
            return text
        return "read only  " if self._read_only else ""

    # --- the terminal

    def _run_verb(self, *words: str) -> None:
        """Give the terminal to a verb until it ends; what it says of an error can be read."""
        argv = [*_VERB, *words]
        with self.suspend(), _signals_of_others():
            code = subprocess.run(argv, check=False).returncode
            if code:
                print("\nEnter goes back to launcher top ", end="", file=sys.stderr, flush=True)  # noqa: T201  # the screen is away
                sys.stdin.readline()
        self._draw_anew()

    def _mind_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.exit, TERMINATED)
        # nothing can be drawn on a terminal that is gone, nor is there anything to save
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)

        def go_away(number: int, frame: FrameType | None) -> None:
            self._away = True
            if callable(suspend):
                suspend(number, frame)

        def come_back(number: int, frame: FrameType | None) -> None:
            # Textual would take a terminal again that it has never given back, and never end
            if self._away and callable(resume):
                resume(number, frame)
            self._away = False
            loop.call_soon_threadsafe(self._draw_anew)

        signal.signal(signal.SIGTSTP, go_away)
        signal.signal(signal.SIGCONT, come_back)

    def _draw_anew(self) -> None:
        """Fill a terminal that others have drawn on meanwhile."""
        self.screen.refresh(layout=True)
        self._canvas.refresh()
        self._look()

    def _later(self, action: Callable[[], None]) -> None:
        def apart() -> None:
            action()
            self.call_from_thread(self._draw)

        self.run_worker(apart, thread=True, exit_on_error=False)


@contextmanager
def _signals_of_others() -> Iterator[None]:
    """Leave to another program of our process group what is typed to interrupt and to suspend it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_SUSPENDING)}
    signal.signal(signal.SIGINT, lambda *_: None)  # not ignored: the program would inherit that
    for number in _SUSPENDING:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_terminal() -> bool:
    return sys.__stdin__ is not None and os.isatty(sys.__stdin__.fileno())
