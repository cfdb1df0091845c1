"""Changes from the screen: asked about, confirmed, made, and told of."""

import sqlite3
from collections.abc import Callable, Sequence

from launcher.errors import Error
from launcher.screens.dashboard.job_actions import JobAction, done_text, propose
from launcher.screens.dashboard.job_batches import BatchAction, propose_many
from launcher.screens.dashboard.job_texts import JobText, job_text
from launcher.screens.dashboard.page import Later
from launcher.screens.dashboard.prompt import Prompt
from launcher.screens.dashboard.sources import Queue
from launcher.screens.dashboard.typed_texts import put_text, typed_text
from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Tone, line
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

TEXT_KEYS = {"t": "tag", "n": "note"}
READ_ONLY = "read only: nothing can be changed from here"


Change = JobAction | BatchAction


class Changes:
    """Holds the change that is asked about; there is one at most."""

    def __init__(
        self,
        queue: Queue,
        *,
        later: Later,
        say: Callable[[Line], None],
        changed: Callable[[], None],
        read_only: bool = False,
    ) -> None:
        """Ask about nothing yet.

        Args:
            queue: whose jobs are changed.
            later: runs what may take seconds beside everything else.
            say: shows a line until the next key.
            changed: is called when jobs were changed.
            read_only: nothing can be changed.
        """
        self._queue, self._later, self._say = queue, later, say
        self._changed, self._read_only = changed, read_only
        self.asked: Change | None = None

    def queue(self) -> tuple[Store, Home] | None:
        """Return the queue if it can be changed; else say why not."""
        store = self._queue.store
        if self._read_only:
            self._say(line(READ_ONLY, Tone.WARN))
        elif store is None:
            self._say(line("no job is chosen"))
        else:
            return store, self._queue.home
        return None

    def ask(self, key: str, jobs: Sequence[int]) -> None:
        """Ask about what a key does to jobs, or say why that cannot be."""
        queue = self.queue()
        if queue is None:
            return
        store, _ = queue
        if not jobs:
            self._say(line("no job is chosen"))
            return
        try:
            rows = store.read.jobs_by_id(jobs)
            proposal = _proposal(key, rows, store) if rows else f"{_named(jobs)} cleaned"
        except sqlite3.Error as error:
            self._say(line(one_line(error), Tone.BAD))
            return
        if isinstance(proposal, str):
            self._say(line(harmless(proposal), Tone.WARN))
        else:
            self.asked = proposal

    def answer(self, key: str) -> None:
        """Make the change that was asked about if the key says so."""
        change, self.asked = self.asked, None
        queue = self.queue() if key == "y" else None
        if change is None or queue is None:
            self._say(line("nothing was changed"))
            return
        store, home = queue
        try:
            touched = change.act(store)
        except (Error, OSError, sqlite3.Error) as error:
            self._say(line(one_line(error), Tone.BAD))
            return
        self._say(_report(change, touched, home))
        if not touched:
            return

        def follow_up() -> None:
            try:
                change.after(home)
            except (Error, OSError) as error:
                self._say(line(one_line(error), Tone.BAD))

        self._later(follow_up)
        self._changed()

    def write(self, key: str, jobs: Sequence[int]) -> Prompt | None:
        """Return the line in which a text on jobs is typed; None where there can be none, which is said.

        Args:
            key: one of TEXT_KEYS.
            jobs: of several, their tags are given and taken away, and their notes replaced.
        """
        queue = self.queue()
        if queue is None:
            return None
        store, _ = queue
        try:
            texts = [job_text(TEXT_KEYS[key], row, store) for row in store.read.jobs_by_id(jobs)]
        except sqlite3.Error as error:
            self._say(line(one_line(error), Tone.BAD))
            return None
        if not texts:
            self._say(line(f"{_named(jobs)} cleaned" if jobs else "no job is chosen"))
            return None
        return typed_text(texts, lambda text: self._put(texts, text))

    def _put(self, texts: Sequence[JobText], text: str) -> None:
        queue = self.queue()
        if queue is None:
            return
        store, _ = queue
        try:
            outcome = put_text(texts, store, text)
        except (Error, sqlite3.Error) as error:
            self._say(line(one_line(error), Tone.BAD))
            return
        self._say(line(outcome, Tone.GOOD))
        self._changed()


def one_line(error: Exception) -> str:
    """Return what went wrong, for the bottom line."""
    return harmless(" ".join(str(error).split())) or type(error).__name__


def _proposal(key: str, rows: Sequence[JobRow], store: Store) -> Change | str:
    return propose(key, rows[0], store) if len(rows) == 1 else propose_many(key, rows, store)


def _named(jobs: Sequence[int]) -> str:
    return f"job {jobs[0]} was" if len(jobs) == 1 else f"{len(jobs):,} marked jobs were"


def _report(change: Change, touched: Sequence[int], home: Home) -> Line:
    if isinstance(change, BatchAction):
        return change.report(touched, home)
    if not touched:
        return line(f"job {change.job.id} changed meanwhile: nothing was done", Tone.WARN)
    return line(done_text(change, touched, home), Tone.GOOD)
