"""Changes of jobs from the page: the same questions and acts as in `launcher top`, asked before, and answered."""

import asyncio
import hashlib
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from launcher.errors import Error, UsageError
from launcher.screens.dashboard.job_actions import (
    TEXTS,
    JobAction,
    JobText,
    done_text,
    propose,
)
from launcher.screens.format import harmless
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.system.paths import Home, check_home
from launcher.web.pages.page import Content, NotThere

KEYS: Mapping[str, str] = {
    "hold": "h",
    "release": "l",
    "pause": "p",
    "resume": "u",
    "cancel": "c",
    "retry": "r",
    "raise": "+",
    "lower": "-",
    "tag": "t",
    "note": "n",
}  # the verbs of addresses; what `top` can do, too, has the key that it has there
LABELS: Mapping[str, str] = {
    "hold": "Hold",
    "release": "Release",
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel",
    "retry": "Retry",
    "raise": "Priority +1",
    "lower": "Priority -1",
    "tag": "Tags",
    "note": "Note",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What shall be done, and to which job."""

    job: int
    verb: str

    def __post_init__(self) -> None:
        """Refuse what nobody can do.

        Raises:
            NotThere: there is no such verb.
        """
        if self.verb not in KEYS:
            raise NotThere(f"there is no change {harmless(self.verb)!r} of a job")

    @property
    def key(self) -> str:
        """The key that does it."""
        return KEYS[self.verb]

    @property
    def writes(self) -> bool:
        """A text on the job is changed."""
        return self.verb in TEXTS


class Field(NamedTuple):
    """Where a text is typed."""

    text: str
    rule: str
    longest: int  # characters
    several_lines: bool


class Answer(NamedTuple):
    """What a form sends."""

    confirms: str  # of the question that was answered
    text: str = ""  # that was typed


class Question(NamedTuple):
    """What is asked before a change, or why there can be none."""

    text: str
    possible: bool
    confirms: str = ""  # is sent with the answer: another one where something else would be done
    field: Field | None = None
    trouble: str = ""  # why the answer to the one before did nothing

    def content(self, target: Target) -> Content:
        """Return what fills the page that asks."""
        yes = "Save" if target.writes else f"Yes, {target.verb}"
        values = {"target": target, "question": self, "yes": yes}
        return Content(title=f"{target.verb} job {target.job}", values=values)


def question_of(proposal: JobAction | JobText | str) -> Question:
    """Return the question for a change.

    Args:
        proposal: the change, or why it cannot be.
    """
    if isinstance(proposal, str):
        return Question(text=proposal, possible=False)
    if isinstance(proposal, JobAction):
        return Question(text=proposal.asked, possible=True, confirms=proposal.asked)
    digest = hashlib.sha256(proposal.text.encode(errors="surrogatepass")).hexdigest()
    field = Field(
        text=proposal.text,
        rule=proposal.rule,
        longest=proposal.longest,
        several_lines=proposal.several_lines,
    )
    confirms = f"{proposal.asked} {digest[:16]}"
    return Question(text=f"{proposal.asked}:", possible=True, confirms=confirms, field=field)


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
                return question._replace(trouble=CHANGED if answer.confirms else "")
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
            return TEXTS[target.verb](rows[0], store)
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
        typed = typed._replace(text=answer.text)
    return question._replace(field=typed, trouble=trouble)
