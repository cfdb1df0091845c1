"""The controller of `launcher top`: a stack of pages, a bottom line, and the effects of keys."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace

from launcher.errors import Error
from launcher.screens.dashboard.job_actions import KEYS, JobAction, done_text, propose
from launcher.screens.dashboard.job_page import JobPage
from launcher.screens.dashboard.key_bindings import WATCHING, help_page, hints
from launcher.screens.dashboard.layout import Window
from launcher.screens.dashboard.overview_page import Overview
from launcher.screens.dashboard.page import Drawn, Page
from launcher.screens.dashboard.sources import Source
from launcher.screens.format import harmless
from launcher.screens.screen import Screen
from launcher.screens.text_table import Line, Span, Tone, line, shortened

LONGEST_FILTER = 200
_READ_ONLY = "read only: nothing can be changed from here"

Later = Callable[[Callable[[], None]], None]  # runs something that may take seconds


class Help:
    """The page that tells what the keys do."""

    job = None
    hints = (("q", "back"), ("j k", "scroll"))

    def __init__(self) -> None:
        """Begin at its top."""
        self._window = Window()

    def press(self, key: str) -> bool:
        """Scroll."""
        return self._window.press(key)

    def draw(self, width: int, height: int) -> Drawn:
        """Return what fits."""
        lines = help_page(width)
        self._window.fit(len(lines), height)
        return Drawn(lines=lines[self._window.top : self._window.end])


class Controller:
    """Takes looks and keys, and tells what is to be drawn; whoever draws it is outside."""

    def __init__(self, source: Source, *, later: Later, read_only: bool = False) -> None:
        """Begin with the queue.

        Args:
            source: where screens come from.
            later: runs what may take seconds beside everything else.
            read_only: nothing can be changed.
        """
        self._source, self._later = source, later
        self._read_only = read_only
        self._store = source.store  # of the newest look
        self._overview = Overview()
        self._pages: list[Page] = [self._overview]
        self._action: JobAction | None = None  # that was asked about
        self._typed: str | None = None  # the filter, while it is typed
        self._sought = ""
        self._said: Line | None = None
        self._trouble = ""  # why the newest look came to nothing
        self.screen: Screen | None = None
        self.left = False

    def look(self) -> None:
        """Read the queue again; an error is shown, and the next read may succeed."""
        try:
            self.screen = self._source.look(waiting=self._overview.waiting, sought=self._sought)
            self._overview.show(self.screen)
            if self._source.store is not self._store:
                self._begin_anew()
            self._look_at_job()
        except (Error, OSError, sqlite3.Error) as error:
            self._trouble = _one_line(error)
        else:
            self._trouble = self._source.complaint
        self._overview.note = self._source.note

    def press(self, key: str, character: str | None = None) -> None:
        """Do what a key means now.

        Args:
            key: its name, or the character.
            character: what it types, None where that is nothing.
        """
        if key == "ctrl+c":
            self.left = True
        elif self._action is not None:
            self._answer(key)
        elif self._typed is not None:
            self._type(key, character)
        else:
            self._said = None
            self._steer(key)

    def paste(self, text: str) -> None:
        """Take in what was pasted: a part of the filter, where that is typed."""
        if self._typed is not None:
            first = next(iter(text.splitlines()), "")
            shown = "".join(char for char in first if char.isprintable())
            self._typed = (self._typed + shown)[:LONGEST_FILTER]
            self._seek(self._typed)

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Tell something in the bottom line until the next key."""
        self._said = line(harmless(text), tone)

    def draw(self, width: int, height: int) -> Drawn:
        """Return the page with its bottom line."""
        page = self._pages[-1]
        drawn = page.draw(width, max(1, height - 1))
        lines = [row.cut(width) for row in drawn.lines[: height - 1]]
        lines += [line("")] * (height - 1 - len(lines))
        return replace(drawn, lines=[*lines, self._bottom(page, width)])

    def _steer(self, key: str) -> None:
        page = self._pages[-1]
        if key == "?" and not isinstance(page, Help):
            self._pages.append(Help())
        elif key in {"q", "escape"}:
            self._back(key)
        elif key in KEYS:
            self._ask(key, page.job)
        elif page.press(key):
            return
        elif page is self._overview and key == "/":
            self._typed = self._sought
        elif page is self._overview and key in {"enter", "w"}:
            self._open(page.job, why=key == "w")

    def _back(self, key: str) -> None:
        if len(self._pages) > 1:
            self._pages.pop()
        elif key == "q":
            self.left = True
        elif self._sought:
            self._seek("")

    def _open(self, job: int | None, *, why: bool) -> None:
        store, home = self._source.store, self._source.home
        if store is None or home is None:
            self.say("a recording holds no more of a job than this" if job else "no job is chosen")
        elif job is None:
            self.say("no job is chosen")
        else:
            try:
                page = JobPage(home, store, job, why=why)
            except (Error, OSError, sqlite3.Error) as error:
                self.say(_one_line(error), Tone.BAD)
                return
            if page.gone:
                self.say(f"job {job} was cleaned")
            else:
                self._pages.append(page)

    def _begin_anew(self) -> None:
        """Leave what belongs to a queue that is gone."""
        if self._store is not None:
            self._action = None
            self._pages = [page for page in self._pages if not isinstance(page, JobPage)]
            self.say("the queue was deleted or replaced", Tone.WARN)
        self._store = self._source.store

    def _look_at_job(self) -> None:
        for page in [page for page in self._pages if isinstance(page, JobPage)]:
            page.look()
            if page.gone:
                self._pages.remove(page)
                self.say(f"job {page.job} was cleaned")

    def _ask(self, key: str, job: int | None) -> None:
        store = self._source.store
        if self._read_only or self._source.home is None:
            self.say(_READ_ONLY, Tone.WARN)
            return
        if job is None or store is None:
            self.say("no job is chosen")
            return
        try:
            rows = store.read.jobs_by_id([job])
            proposal = propose(key, rows[0], store) if rows else f"job {job} was cleaned"
        except sqlite3.Error as error:
            self.say(_one_line(error), Tone.BAD)
            return
        if isinstance(proposal, JobAction):
            self._action = proposal
        else:
            self.say(proposal, Tone.WARN)

    def _answer(self, key: str) -> None:
        action, self._action = self._action, None
        if key != "y" or action is None:
            self.say("nothing was changed")
            return
        store, home = self._source.store, self._source.home
        assert store is not None
        assert home is not None
        try:
            touched = action.act(store)
        except (Error, OSError, sqlite3.Error) as error:
            self.say(_one_line(error), Tone.BAD)
            return
        if not touched:
            self.say(f"job {action.job.id} changed meanwhile: nothing was done", Tone.WARN)
            return
        self.say(done_text(action, touched, home), Tone.GOOD)

        def follow_up() -> None:
            try:
                action.after(home)
            except (Error, OSError) as error:
                self.say(_one_line(error), Tone.BAD)

        self._later(follow_up)
        for page in self._pages:
            if isinstance(page, JobPage):
                page.look(again=True)
        self._source.changed()
        self.look()

    def _type(self, key: str, character: str | None) -> None:
        typed = self._typed or ""
        match key:
            case "enter":
                self._typed = None
                return
            case "escape":
                self._typed, typed = None, ""
            case "backspace" | "ctrl+h":
                self._typed = typed = typed[:-1]
            case "ctrl+u":
                self._typed = typed = ""
            case _ if character and character.isprintable() and len(typed) < LONGEST_FILTER:
                self._typed = typed = typed + character
            case "up" | "down" | "pageup" | "pagedown":
                self._overview.press(key)
                return
        self._seek(typed)

    def _seek(self, text: str) -> None:
        if text != self._sought:
            self._sought = text
            self.look()

    def _bottom(self, page: Page, width: int) -> Line:
        if self._action is not None:
            return self._action.question(width)
        if self._typed is not None:
            text = "  Enter keeps  Esc shows all"
            room = max(8, width - len(text) - len("filter: _"))
            typed = self._typed[-room:]
            spans = (
                Span("filter: ", Tone.STRONG),
                Span(f"{harmless(typed)}_"),
                Span(text, Tone.DIM),
            )
            return Line(spans).cut(width)
        if self._trouble:
            return line(self._trouble, Tone.BAD).cut(width)
        if self._said is not None:
            return self._said.cut(width)
        keys = page.hints
        if self._read_only or self._source.store is None:
            keys = [binding for binding in keys if binding[0] not in WATCHING]
        text = ""
        if page is self._overview and self._sought:
            text = f"filter: {shortened(harmless(self._sought), 20)}, Esc shows all  "
        elif self._source.store is None and self._source.home is None:
            text = f"{self._source.note}  "
        elif self._read_only:
            text = "read only  "
        return Line((Span(text, Tone.WARN), *hints(keys, width - len(text)).spans)).cut(width)


def _one_line(error: Exception) -> str:
    """Return what went wrong, for the bottom line."""
    return harmless(" ".join(str(error).split())) or type(error).__name__
