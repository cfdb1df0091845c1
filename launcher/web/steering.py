"""Changes of jobs from the page: the same questions and acts as in `launcher top`, asked before, and answered."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, TypeVar

from launcher.errors import Error, UsageError
from launcher.screens.format import harmless
from launcher.screens.job_actions import KEYS as VERBS
from launcher.screens.job_actions import (
    NOTE,
    READ_ONLY,
    TAG,
    TEXT_KEYS,
    JobAction,
    JobText,
    one_line,
    propose,
    text_of,
)
from launcher.store.client import open_home
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home, check_home
from launcher.web.pages.page import NotThere, job_of

T = TypeVar("T")
# the verbs of addresses, each with its key, which is that of `top`
KEYS = {verb: key for key, verb in {**VERBS, **TEXT_KEYS}.items()}
_LABELS = {"raise": "Priority +1", "lower": "Priority -1", "tag": "Tags"}  # others: the verb
CHANGED = "The job has changed meanwhile; nothing was done yet."
_NOTICES = 100  # that are remembered: each is shown once, after the redirect


class ReadOnly(UsageError):
    """Nothing can be changed from this page."""


class Target(NamedTuple):
    """What shall be done, and to which job."""

    job: int
    verb: str


class Question(NamedTuple):
    """What is asked before a change, or why there can be none."""

    target: Target
    text: str
    # is sent with the answer, and another one where something else would be done; '': nothing can be
    confirms: str = ""
    field: JobText | None = None  # the text that is changed
    typed: str = ""  # what stands where it is typed
    trouble: str = ""  # why the answer to the one before did nothing


def buttons_of(job: JobRow, store: Store) -> list[tuple[str, str, str]]:
    """Return the verbs that may be done to a job now, their labels and keys."""
    return [
        (verb, _LABELS.get(verb, verb.capitalize()), key)
        for verb, key in KEYS.items()
        if verb in {TAG, NOTE} or isinstance(propose(key, job, store), JobAction)
    ]


def _proposed(target: Target, store: Store) -> JobAction | JobText | str:
    """Return a change, or why it cannot be."""
    verb, job = target.verb, job_of(store, target.job)
    return text_of(verb, job, store) if verb in {TAG, NOTE} else propose(KEYS[verb], job, store)


def _question(target: Target, proposal: JobAction | JobText | str) -> Question:
    if isinstance(proposal, str):
        return Question(target, proposal)
    if isinstance(proposal, JobAction):
        return Question(target, proposal.asked, proposal.asked)
    digest = hashlib.sha256(proposal.text.encode(errors="surrogatepass")).hexdigest()
    confirms = f"{proposal.asked} {digest[:16]}"
    return Question(target, f"{proposal.asked}:", confirms, proposal, proposal.text)


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
            NotThere: there is no such job, or no such change.
        """
        return await self._run(partial(self._ask, target))

    async def act(self, target: Target, confirms: str, text: str) -> int | Question:
        """Do what was confirmed, and return the number of the notice that says so.

        Args:
            target: what, and to which job.
            confirms: of the question that was answered; where another would be asked now, as the job
                has changed meanwhile, or what was typed may not be, it is asked again, and nothing is done.
            text: that was typed.

        Raises:
            ReadOnly: nothing can be changed.
            NotThere: there is no such job, or no such change.
        """
        done = await self._run(partial(self._act, target, confirms, text))
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

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _ask(self, target: Target) -> Question:
        with self._opened(target) as store:
            return _question(target, _proposed(target, store))

    def _act(self, target: Target, confirms: str, text: str) -> str | Question:
        with self._opened(target) as store:
            proposal = _proposed(target, store)
            question = _question(target, proposal)
            if confirms and question.field is not None:
                question = question._replace(typed=text)
            if isinstance(proposal, str) or question.confirms != confirms:
                return question._replace(trouble=CHANGED if confirms else "")
            if isinstance(proposal, JobText):
                try:
                    return proposal.put(store, text)
                except UsageError as error:
                    return question._replace(trouble=str(error))
            touched = proposal.act(store)
        if not touched:
            return f"job {target.job} changed meanwhile: nothing was done"
        done = proposal.told(touched, self._home)
        try:
            proposal.after(self._home)
        except (Error, OSError) as error:
            return f"{done}, but {one_line(error)}"
        return done

    def _opened(self, target: Target) -> AbstractContextManager[Store]:
        if target.verb not in KEYS:
            raise NotThere(f"there is no change {harmless(target.verb)!r} of a job")
        if self._read_only:
            raise ReadOnly(READ_ONLY)
        if not self._home.exists():
            raise NotThere("there is no queue yet")
        check_home(self._home)
        return open_home(self._home)
