"""Changes of jobs from the page: the same questions and acts as in `launcher top`."""

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from launcher.errors import Error, UsageError
from launcher.screens.dashboard.job_actions import JobAction, done_text, propose
from launcher.screens.dashboard.job_texts import JobText, job_text
from launcher.screens.format import harmless
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.system.paths import Home, check_home
from launcher.web.pages.page import NotThere
from launcher.web.questions import Answer, Question, Target, question_of

CHANGED = "The job has changed meanwhile; nothing was done yet."
_NOTICES = 100  # that are remembered: each is shown once, after the redirect


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
            NotThere: there is no such job.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, target)

    async def act(self, target: Target, answer: Answer) -> int | Question:
        """Do what was confirmed, and return the number of the notice that says so.

        Args:
            target: what, and to which job.
            answer: to a question; where another would be asked now, as the job has changed
                meanwhile, or what was typed may not be, it is asked again, and nothing is done.

        Raises:
            ReadOnly: nothing can be changed.
            NotThere: there is no such job.
        """
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, self._act, target, answer)
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
            return question_of(self._proposed(target, store))

    def _act(self, target: Target, answer: Answer) -> str | Question:
        with self._opened() as store:
            proposal = self._proposed(target, store)
            question = question_of(proposal)
            if isinstance(proposal, str):
                return replace(question, trouble=CHANGED if answer.confirms else "")
            if question.confirms != answer.confirms:
                return _again(question, answer, CHANGED if answer.confirms else "")
            if isinstance(proposal, JobText):
                try:
                    return proposal.put(store, answer.text)
                except UsageError as error:
                    return _again(question, answer, str(error))
            touched = proposal.act(store)
        if not touched:
            return f"job {target.job} changed meanwhile: nothing was done"
        return f"{done_text(proposal, touched, self._home)}{self._follow_up(proposal)}"

    def _proposed(self, target: Target, store: Store) -> JobAction | JobText | str:
        rows = store.read.jobs_by_id([target.job])
        if not rows:
            raise NotThere(f"there is no job {target.job}; it may have been cleaned")
        if target.writes:
            return job_text(target.verb, rows[0], store)
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


def _again(question: Question, answer: Answer, trouble: str) -> Question:
    """Return a question that is asked once more, with what was typed."""
    typed = question.field
    if typed is not None and answer.confirms:
        typed = replace(typed, text=answer.text)
    return replace(question, field=typed, trouble=trouble)
