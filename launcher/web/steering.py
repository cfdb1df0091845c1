"""Changes of jobs from the page: the same questions and acts as in `launcher top`."""

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from launcher.errors import Error, UsageError
from launcher.screens.dashboard.job_actions import JobAction, done_text, propose
from launcher.screens.format import harmless
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.system.paths import Home, check_home
from launcher.web.pages.page import Content, NotThere

KEYS: Mapping[str, str] = {
    "hold": "h",
    "release": "l",
    "cancel": "c",
    "retry": "r",
    "raise": "+",
    "lower": "-",
}  # the verbs of addresses, by the keys that `top` has for them
LABELS: Mapping[str, str] = {
    "hold": "Hold",
    "release": "Release",
    "cancel": "Cancel",
    "retry": "Retry",
    "raise": "Priority +1",
    "lower": "Priority -1",
}
_NOTICES = 100  # that are remembered: each is shown once, after the redirect


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What shall be done, and to which job."""

    job: int
    verb: str

    @property
    def key(self) -> str:
        """The key that does it in `top`.

        Raises:
            NotThere: there is no such verb.
        """
        if self.verb not in KEYS:
            raise NotThere(f"there is no change {harmless(self.verb)!r} of a job")
        return KEYS[self.verb]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked before a change, or why there can be none."""

    text: str
    possible: bool
    again: bool = False  # another one was answered

    def content(self, target: Target) -> Content:
        """Return what fills the page that asks."""
        values = {"target": target, "question": self}
        return Content(title=f"{target.verb} job {target.job}", values=values)


class ReadOnly(UsageError):
    """Nothing can be changed from this page."""


class Steering:
    """Changes jobs in a thread of its own: who has a change written may have to wait for the scheduler."""

    def __init__(self, home: Home, *, read_only: bool) -> None:
        """Change nothing yet.

        Args:
            home: the queue's.
            read_only: every change is refused.
        """
        self._home, self._read_only = home, read_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steering")
        self._numbers = itertools.count(1)
        self._notices: dict[int, str] = {}

    async def ask(self, target: Target) -> Question:
        """Return the question for a change.

        Raises:
            ReadOnly: nothing can be changed.
            NotThere: there is no such job or change.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, target)

    async def act(self, target: Target, confirmed: str) -> int | Question:
        """Do what was confirmed, and return the number of the notice that says so.

        Args:
            target: what, and to which job.
            confirmed: the question that was answered; where another would be asked now, as the job
                has changed meanwhile, that is returned, and nothing is done.

        Raises:
            ReadOnly: nothing can be changed.
            NotThere: there is no such job or change.
        """
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, self._act, target, confirmed)
        if isinstance(done, Question):
            return done
        number = next(self._numbers)
        self._notices[number] = done
        self._notices.pop(number - _NOTICES, None)
        return number

    def notice(self, number: int | None) -> str:
        """Return what was done, once; '' where there is nothing to tell."""
        return "" if number is None else self._notices.pop(number, "")

    def close(self) -> None:
        """End the thread, when all that was begun is done."""
        self._thread.shutdown()

    def _ask(self, target: Target) -> Question:
        with self._opened() as store:
            proposal = self._proposed(target, store)
            return _question(proposal)

    def _act(self, target: Target, confirmed: str) -> str | Question:
        with self._opened() as store:
            proposal = self._proposed(target, store)
            question = _question(proposal)
            if isinstance(proposal, str) or question.text != confirmed:
                return replace(question, again=bool(confirmed))
            touched = proposal.act(store)
        if not touched:
            return f"job {target.job} changed meanwhile: nothing was done"
        return f"{done_text(proposal, touched, self._home)}{self._follow_up(proposal)}"

    def _proposed(self, target: Target, store: Store) -> JobAction | str:
        rows = store.read.jobs_by_id([target.job])
        if not rows:
            raise NotThere(f"there is no job {target.job}; it may have been cleaned")
        return propose(target.key, rows[0], store)

    def _follow_up(self, action: JobAction) -> str:
        """Let the scheduler know; return what to tell where that fails."""
        try:
            action.after(self._home)
        except (Error, OSError) as error:
            return f", but {harmless(' '.join(str(error).split()))}"
        return ""

    @contextmanager
    def _opened(self) -> Iterator[Store]:
        if self._read_only:
            raise ReadOnly("read only: nothing can be changed from here")
        if not self._home.exists():
            raise NotThere("there is no queue yet")
        check_home(self._home)
        store = Store(self._home)
        try:
            yield store
        except sqlite3.Error as error:
            raise trouble(self._home.database, error) from error
        finally:
            store.close()


def _question(proposal: JobAction | str) -> Question:
    if isinstance(proposal, str):
        return Question(text=proposal, possible=False)
    return Question(text=proposal.asked, possible=True)
