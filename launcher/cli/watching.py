"""Watching a run until it ends: a live picture in a terminal, one line a change elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launcher.cli.session import keep_going, step_of, stopped
from launcher.paths import Home
from launcher.states import ENDED, State
from launcher.store.rows import JobRow
from launcher.store.store import Store
from launcher.units import format_seconds
from launcher.views import GLYPHS, clock, harmless, tally

LOOK_EVERY_S = 0.1
DRAW_EVERY_S = 0.5
CHECK_EVERY_S = 2.0  # how soon a scheduler that was killed is replaced
METRICS = 3  # results of a job that are shown in its line
COLOURS = {State.DONE: "green", State.FAILED: "red", State.SKIPPED: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that happened to a job of the run."""

    at: float
    job: JobRow
    state: State
    reason: str


class Watcher:
    """Follows the jobs of one run from now on; what it reads grows with what happens only."""

    def __init__(self, home: Home, store: Store, jobs: tuple[int, ...]) -> None:
        """Begin with the changes that come after this moment."""
        self._home, self._store = home, store
        self._last = store.read.last_event()
        self._rows = {row.id: row for row in store.read.jobs_by_id(jobs)}
        self._checked = time.monotonic()

    def rows(self) -> list[JobRow]:
        """Return the run's jobs as they were at the last call of `changes`."""
        return list(self._rows.values())

    def changes(self) -> list[Change]:
        """Return what happened since the last call."""
        news = self._store.read.events_after(self._last)
        if not news:
            return []
        self._last = news[-1][0]
        ours = {one[2] for one in news}.intersection(self._rows)
        self._rows |= {row.id: row for row in self._store.read.jobs_by_id(ours)}
        return [
            Change(at=at, job=self._rows[job], state=state, reason=reason)
            for _, at, job, state, reason in news
            if job in ours
        ]

    def keep_alive(self) -> None:
        """Replace a scheduler that was killed.

        Raises:
            MachineError: the queue was stopped on purpose, and jobs of the run are left.
        """
        now = time.monotonic()
        if now - self._checked > CHECK_EVERY_S:
            self._checked = now
            if not keep_going(self._home) and not self.finished():
                raise stopped()

    def finished(self) -> bool:
        """Tell whether no job of the run is open any more."""
        return all(row.state in ENDED for row in self.rows())

    def result(self, job: JobRow) -> str:
        """Return the first few numbers of a job's result."""
        result = self._store.read.result_of(job.id) or {}
        numbers = {k: v for k, v in result.items() if isinstance(v, int | float) and v is not None}
        shown = list(numbers.items())[:METRICS]
        return " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in shown
        )

    def took(self, job: JobRow) -> str:
        """Return how long a job's last attempt took."""
        attempts = self._store.read.attempts_of(job.id)
        if not attempts or attempts[-1]["ended"] is None:
            return ""
        return format_seconds(attempts[-1]["ended"] - attempts[-1]["claimed"])

    def steps(self) -> Iterator[tuple[JobRow, str]]:
        """Return the running jobs with how far they are."""
        for row in self.rows():
            if row.state is State.RUNNING:
                yield row, str(step_of(self._home, row) or row.reason)


def watch_run(watcher: Watcher, *, live: bool) -> None:
    """Show the run until all its jobs have ended.

    Raises:
        KeyboardInterrupt: the person leaves; the jobs go on.
        MachineError: the queue was stopped; the jobs wait.
    """
    console = Console(stderr=True, highlight=False)
    with _picture(console, live=live) as picture:
        drawn = 0.0
        done = sum(row.state in ENDED for row in watcher.rows())
        total = len(watcher.rows())
        while True:
            changes = watcher.changes()
            for change in changes:
                done += change.state in ENDED
                text = _line(watcher, change, done, total, quiet=live)
                if text is not None:
                    console.print(text, soft_wrap=True)
            skipped = sum(change.state is State.SKIPPED for change in changes)
            if skipped:
                told = (
                    "1 job that needs it is" if skipped == 1 else f"{skipped} jobs that need it are"
                )
                console.print(f"{told} skipped  [{done}/{total}]")
            now = time.monotonic()
            if picture is not None and now - drawn > DRAW_EVERY_S:
                picture.update(_draw(watcher, total))
                drawn = now
            if watcher.finished():
                return
            watcher.keep_alive()
            time.sleep(LOOK_EVERY_S)


@contextmanager
def _picture(console: Console, *, live: bool) -> Iterator[Live | None]:
    if not live:
        yield None
        return
    with Live(console=console, auto_refresh=True, refresh_per_second=4, transient=True) as picture:
        yield picture


def _line(watcher: Watcher, change: Change, done: int, total: int, *, quiet: bool) -> Text | None:
    """Return one line for one change; in the live picture starts are seen anyway."""
    name = harmless(change.job.name)
    reason = harmless(change.reason.partition("\n")[0])
    match change.state:
        case State.RUNNING if not quiet:
            words = ["start", name, reason]
        case State.DONE:
            words = ["done", name, watcher.took(change.job), watcher.result(change.job)]
        case State.FAILED:
            words = ["failed", name, reason, f"→ launcher logs {change.job.id}"]
        case State.CANCELLED | State.HELD:
            words = [change.state, name, reason]
        case State.QUEUED if change.job.attempts:
            words = ["again", name, reason]
        case _:
            return None
    tail = f"  [{done}/{total}]" if change.state in ENDED else ""
    text = f"{clock(change.at)} {GLYPHS[change.state]} {words[0]:<9} {'  '.join(filter(None, words[1:]))}"
    return Text(text + tail, style=COLOURS.get(change.state, ""))


def _draw(watcher: Watcher, total: int) -> Group:
    rows = watcher.rows()
    counts = {state: sum(row.state is state for row in rows) for state in State}
    ended = sum(counts[state] for state in ENDED)
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(total=total, completed=ended, width=40), f"{ended} of {total}")
    jobs = Table.grid(padding=(0, 2))
    for row, step in watcher.steps():
        jobs.add_row(f"{GLYPHS[State.RUNNING]} {harmless(row.name)}", harmless(step))
    return Group(head, Text(tally(counts), style="dim"), jobs)
