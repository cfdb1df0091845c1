"""The controller of `launcher top`: a stack of pages, a bottom line, and the effects of keys."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from launcher.errors import Error, counted
from launcher.screens.dashboard.job_page import LOG, OVERVIEW, JobPage
from launcher.screens.dashboard.overview_page import Overview
from launcher.screens.dashboard.page import (
    WATCHING,
    Drawn,
    Later,
    Page,
    Prompt,
    Terminal,
    TextPage,
    command_page,
    help_page,
    hints,
)
from launcher.screens.format import command_text, first_line, harmless
from launcher.screens.job_actions import (
    KEYS,
    READ_ONLY,
    TAG,
    TEXT_KEYS,
    Change,
    JobText,
    one_line,
    propose_change,
    put_text,
    text_of,
)
from launcher.screens.snapshots import Queue, Screen
from launcher.screens.text_table import Line, Span, Tone, line, shortened
from launcher.store.queue import Store
from launcher.store.rows import JobRow

_ROOM = 24  # columns of a job's name before what is typed


class Controller:
    """Takes looks and keys, and tells what is to be drawn; whoever draws it is outside."""

    def __init__(
        self, queue: Queue, *, later: Later, terminal: Terminal, read_only: bool = False
    ) -> None:
        """Begin with the queue.

        Args:
            queue: as it is now.
            later: runs what may take seconds beside everything else.
            terminal: what else can be done with the terminal.
            read_only: nothing can be changed.
        """
        self._queue, self._later, self._terminal = queue, later, terminal
        self._read_only = read_only
        self._store = queue.store  # of the newest look
        self._overview = Overview()
        self._opened: JobPage | None = None  # over the overview
        self._text: TextPage | None = None  # over both
        self._asked: Change | None = None  # there is one at most
        self._prompt: Prompt | None = None  # while something is typed
        self._sought = ""
        self._answer: Line | None = None
        self._trouble = ""  # why the newest look came to nothing
        self.screen: Screen | None = None
        self.left = False

    def look(self) -> None:
        """Read the queue again; an error is shown, and the next read may succeed."""
        try:
            self.screen = self._queue.look(waiting=self._overview.waiting, sought=self._sought)
            self._overview.show(self.screen)
            if self._queue.store is not self._store:
                self._begin_anew()
            self._look_at_job()
        except (Error, OSError, sqlite3.Error) as error:
            self._trouble = one_line(error)
        else:
            self._trouble = ""
        self._overview.note = self._queue.note

    def press(self, key: str, character: str | None = None) -> None:
        """Do what a key means now.

        Args:
            key: its name, or the character.
            character: what it types, None where that is nothing.
        """
        try:
            if key == "ctrl+c":
                self.left = True
            elif self._asked is not None:
                change, self._asked = self._asked, None
                self._make(change, key)
            elif self._prompt is not None:
                self._type(self._prompt, key, character)
            else:
                self._answer = None
                self._steer(key)
        except (Error, OSError, sqlite3.Error) as error:
            self.say(one_line(error), Tone.BAD)

    def paste(self, text: str) -> None:
        """Take in what was pasted, where something is typed."""
        if self._prompt is not None:
            self._prompt.paste(text)

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Tell something in the bottom line until the next key."""
        self._answer = line(harmless(text), tone)

    def close(self) -> None:
        """End what goes on beside the screen."""
        if self._opened is not None:
            self._opened.log.leave_search()
        self._opened = None

    @property
    def _page(self) -> Page:
        """The page that is on top."""
        return self._text or self._opened or self._overview

    def draw(self, width: int, height: int) -> Drawn:
        """Return the page with its bottom line."""
        page = self._page
        drawn = page.draw(width, max(1, height - 1))
        lines = [row.cut(width) for row in drawn.lines[: height - 1]]
        lines += [line("")] * (height - 1 - len(lines))
        return drawn._replace(lines=[*lines, self._bottom(page, width)])

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
            self._prompt = self._search(page)
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
            self.close()
        elif key == "q":
            self.left = True
        elif self._sought:
            self._seek("")

    def _search(self, page: Page) -> Prompt | None:
        """Return the line that is typed after a slash: a filter of the queue, or a text in a log."""
        if page is self._overview:
            return Prompt(
                label="filter",
                hint="Enter keeps  Esc shows all",
                text=self._sought,
                done=self._seek,
                changed=self._seek,
                left=lambda: self._seek(""),
            )
        if isinstance(page, JobPage) and page.shows_log:
            return Prompt(label="search", hint="Enter searches  Esc leaves", done=page.log.search)
        return None

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
            self._terminal.copy("\n".join(commands))
            self._text = TextPage(partial(command_page, commands))

    def _edit(self, job: int | None) -> None:
        """Let the owner change a job in an editor, which has the terminal meanwhile."""
        chosen = self._chosen([job], to_change=True)
        if chosen is None or job is None:
            return
        store, before = chosen
        self._terminal.run_verb("edit", str(job))
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
            proposal = propose_change(key, rows, store)
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
            label = shortened(first.asked, len(first.what) + _ROOM, middle=True)
            text = harmless(first_line(first.text))
        else:
            label = f"{first.what}s ({counted(len(texts), 'marked job')})"
            hint = "TAG gives, -TAG takes  Esc leaves" if kind == TAG else hint
        done = partial(self._put, texts)
        self._prompt = Prompt(label=label, hint=hint, text=text, longest=first.longest, done=done)

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
            self._asked = self._prompt = None
            self.close()
            self._overview.marked.clear()
            self.say("the queue was deleted or replaced", Tone.WARN)
        self._store = self._queue.store

    def _look_at_job(self) -> None:
        opened = self._opened
        if opened is not None:
            opened.look()
            if opened.gone:
                self.close()
                self.say(f"job {opened.job} was cleaned")

    def _look_again(self) -> None:
        """Show what was changed from here."""
        self._overview.marked.clear()
        if self._opened is not None:
            self._opened.look(again=True)
        self._queue.changed()
        self.look()

    def _type(self, prompt: Prompt, key: str, character: str | None) -> None:
        if key in {"up", "down", "pageup", "pagedown"}:
            self._page.press(key)
            return
        more = False
        try:
            more = prompt.press(key, character)
        finally:
            if not more:
                self._prompt = None

    def _seek(self, text: str) -> None:
        if text != self._sought:
            self._sought = text
            self.look()

    def _bottom(self, page: Page, width: int) -> Line:
        if self._asked is not None:
            return self._asked.question(width)
        if self._prompt is not None:
            return self._prompt.draw(width)
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
