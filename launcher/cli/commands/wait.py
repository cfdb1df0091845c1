"""`launcher wait`: come back when jobs have ended."""

import json
import time
from collections.abc import Iterable, Sequence

import click

from launcher.cli.complete import JOBS
from launcher.cli.option_types import span
from launcher.cli.select_jobs import HELP, select
from launcher.errors import MachineError, counted
from launcher.screens.format import harmless, named
from launcher.screens.job_details import job_records
from launcher.states import ENDED, OPEN, State
from launcher.store.client import keep_going, open_queue, stopped
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.units import format_seconds

LOOK_EVERY_S = 0.05
CHECK_EVERY_S = 5.0  # a scheduler that died for good must not be waited for


class Waiter:
    """Follows jobs until none of them is open; what it reads grows with what happens only."""

    def __init__(self, home: Home, store: Store, jobs: Sequence[JobRow], last_event: int) -> None:
        """Wait for jobs as they were after an event."""
        self._home, self._store, self._last = home, store, last_event
        self._all = [job.id for job in jobs]
        self._left = {job.id for job in jobs if job.state in OPEN}
        self._held_said = False
        self._say_held(job for job in jobs if job.state is State.HELD)

    def until_ended(self, timeout_s: float | None) -> list[JobRow]:
        """Return the jobs when all of them have ended.

        Raises:
            MachineError: it takes longer, or the queue is stopped.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        checked = seen = float("-inf")
        while True:
            version = self._store.read.data_version()
            if version != seen:
                self._take_in()
                seen = version
            if not self._left:
                rows = self._store.read.jobs_by_id(self._all)
                self._left = {job.id for job in rows if job.state in OPEN}  # queued again
                if not self._left:
                    return rows
            now = time.monotonic()
            if deadline is not None and timeout_s is not None and now > deadline:
                raise MachineError(
                    f"still not ended after {format_seconds(timeout_s)}; the jobs go on; "
                    "`launcher wait` again, or `launcher status` shows what they do"
                )
            if now - checked > CHECK_EVERY_S:
                checked = now
                if not keep_going(self._home, self._store):
                    self._take_in()
                    if self._left:
                        raise stopped()
            time.sleep(LOOK_EVERY_S)

    def _take_in(self) -> None:
        held = set()
        for number, _, job, state, _ in self._store.read.events_after(self._last):
            self._last = number
            if state in ENDED:
                self._left.discard(job)
            elif job in self._left and state is State.HELD:
                held.add(job)
        if held and not self._held_said:
            self._say_held(self._store.read.jobs_by_id(held))

    def _say_held(self, jobs: Iterable[JobRow]) -> None:
        held = list(jobs)
        if held:
            self._held_said = True
            does = "does" if len(held) == 1 else "do"
            warning = f"{counted(len(held), 'held job')} {does} not start before `launcher release`"
            click.echo(f"{warning}: {named(held)}", err=True)


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…", shell_complete=JOBS)
@click.option("--timeout", type=span(bare=True), help="Give up after this time, with exit code 3.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1): all jobs.")
def command(patterns: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """Wait until the jobs have ended; without PATTERN, all queued and running jobs.

    A full name means the newest job of that name. The exit code is 0 if all jobs are done, and 1 if
    one failed, was cancelled or skipped; these are printed.

    \b
    Examples:
      launcher wait
      launcher wait run:quickstart --timeout 1h
    """
    with open_queue() as (home, store):
        last = store.read.last_event()
        jobs = select(store, patterns, newest=True) if patterns else store.read.jobs_open()
        ended = Waiter(home, store, jobs, last).until_ended(timeout)
        records = job_records(home, store, ended) if as_json else []
    missed = [job for job in ended if job.state is not State.DONE]
    if as_json:
        click.echo(json.dumps({"schema": 1, "jobs": records}))
    else:
        for job in missed:
            click.echo(f"{job.id}\t{harmless(job.name)}\t{job.state}\t{harmless(job.reason)}")
    return 1 if missed else 0
