"""Submission of task files and plans, as by `launcher run --detach`; `wait` and `results` for their jobs.

`wait` returns when jobs have ended, and draws a progress bar in a terminal and in a notebook. `results` returns a
pandas table if pandas is installed.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from html import escape
from importlib import import_module
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.experiments.functions.future import Future
from launcher.experiments.results.metric import interval_columns, read_metric
from launcher.experiments.results.pivot import flatten_record
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.home.paths import find_home
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.scheduler.job_wait import JobWait
from launcher.queue.store.client import (
    clear_stop,
    context_to_store,
    find_run_jobs,
    open_queue,
    open_queue_readonly,
    wake_or_start_scheduler,
    without_own_job,
)
from launcher.queue.store.feed import JobTracker
from launcher.queue.texts import tally
from launcher.system.errors import Error, TaskFileError, UsageError
from launcher.system.terminal import print_stderr

if TYPE_CHECKING:
    from launcher.experiments.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in the queue."""

    name: str
    folder: Path  # folder of the run's results
    jobs: tuple[int, ...]  # numbers of all the run's jobs, in the plan's order
    queued: int  # number of these jobs that were queued
    joined: int  # number of these jobs that were under way already
    cached: int  # number of these jobs that were done before

    def wait(self, timeout: float | None = None) -> dict[int, str]:
        """Wait until its jobs have ended; return their states, as `launcher.api.wait` does."""
        return wait(self.jobs, timeout=timeout)

    def results(self) -> Any:
        """Return the results of the run, as `launcher.api.results` does."""
        return results(self)


Job = Future[Any] | Run | int
After = Job | Iterable[Job]  # jobs after which others start


def submit_plan(
    file: "str | Path | Plan",
    *,
    settings: Sequence[str] = (),
    on: str | Sequence[str] | None = None,
    force: bool = False,
    accept_code: bool = False,
    pass_env: Sequence[str] = (),
    snapshot: bool = False,
) -> Run:
    """Queue the jobs of a task file or plan that have to run, all of them or none.

    Args:
        file: a task file's path, or its plan.
        settings: `key=value` each, stronger than the file, as with `--set`; not of a plan.
        on: where the jobs may run, the preferred place first.
        force: all jobs run again.
        accept_code: results of other code are kept.
        pass_env: variables that the jobs get although their names look like secrets.
        snapshot: the jobs run the code as it is now, also if it is changed before they start.

    Raises:
        TaskFileError: all that is wrong with the file, or an input that is missing.
        UsageError: some jobs could never start.
        MachineError: packages are not installed, or the queue cannot be used.
    """
    from launcher.experiments.functions.options import absent_gpu_warning
    from launcher.experiments.functions.plan_checks import check_plans, compare
    from launcher.experiments.planning.comparison import open_jobs
    from launcher.experiments.planning.submit import starting_specs, submit

    made = _plan(file, settings, on)
    backends = read_configured_backends(os.environ)
    made = made.with_terms(lambda terms: with_default_backends(terms, backends))
    if made.missing:
        raise TaskFileError(made.missing)
    root = made.run_folder.parent.parent
    context = context_to_store((*made.pass_env, *pass_env))._replace(folder=str(root))
    with open_queue(make=True) as (home, store):
        comparison = compare(store, made, root, force=force, accept_code=accept_code)
        check_plans(home, store, [comparison], backends, root)
        jobs = [compared.job for compared in open_jobs(comparison.jobs)]
        if warning := absent_gpu_warning(home, [(job.resources, job.terms) for job in jobs]):
            print_stderr(warning)
        with ExitStack() as stack:
            specs = [*starting_specs(comparison, root)] if snapshot else []
            if specs:
                from launcher.experiments.functions.job_snapshots import (
                    snapshot_taken,  # few calls need this module
                )

                context = stack.enter_context(snapshot_taken(store, context, specs))
            submitted = submit(store, root, comparison, context, time.time())
        if submitted.queued or submitted.joined:
            clear_stop(home)
            wake_or_start_scheduler(home)
    return Run(name=made.name, folder=made.run_folder, **submitted._asdict())


def _plan(
    file: "str | Path | Plan", settings: Sequence[str], on: str | Sequence[str] | None
) -> "Plan":
    from launcher.experiments.planning.load import load, plan

    chosen = [*settings]
    if on is not None:
        chosen.append(f"resources.on={on if isinstance(on, str) else ','.join(on)}")
    if isinstance(file, str | Path):
        return plan(load(file, settings=chosen))
    if chosen:
        raise UsageError(
            "settings and on cannot change a finished plan. Use them in load(file, settings=[…]), or "
            "submit the task file."
        )
    return file


def results(run: str | Run, *, frame: bool | None = None, all_jobs: bool = False) -> Any:
    """Return the results of a run, one row per test. Without tests, one row per job that reported numbers.

    A number with an interval makes three columns: accuracy, accuracy_low, accuracy_high. A name counts once: the newest
    job of a name that has a result is a row.

    Args:
        run: its name, or the value that `submit` returned. A name means the run of this folder if there is
            one, otherwise the newest run.
        frame: True for a pandas DataFrame, False for a list of dicts. None for a DataFrame if pandas is
            installed.
        all_jobs: also return jobs that a newer job of the same name replaced.

    Raises:
        UsageError: there is no such run.
        MachineError: packages by which its plugin package reads results are not installed.
        ModuleNotFoundError: `frame` is True, and pandas is not installed.
    """
    # imported here, as they load the job types of plugin packages
    from launcher.experiments.results.result_jobs import result_jobs
    from launcher.experiments.results.rows import kinds_of, rows_of

    with open_queue() as (home, store):
        jobs = (
            find_run_jobs(store, run) if isinstance(run, str) else store.read.jobs_by_id(run.jobs)
        )
        chosen = [each.job for each in result_jobs(home, store, jobs, all_jobs=all_jobs)]
        rows = [flat(row) for row in rows_of(home, store, chosen, kinds_of(chosen)).rows]
    if frame is None:
        frame = find_spec("pandas") is not None
    return import_module("pandas").DataFrame(rows) if frame else rows


def unfinished_models(run_folder: Path) -> dict[str, str]:
    """Return the models and folders of a run whose job has no result, with the reason.

    The keys are IDs of models and names of made folders. The values are "failed", "cancelled", "skipped", "running" or
    "waiting". Returns nothing if this machine has no queue with the run.

    Args:
        run_folder: runs/<run>.
    """
    from launcher.experiments.results.result_jobs import (  # both need pydantic
        result_jobs,
        unfinished_states,
    )

    home, place = find_home(os.environ), run_folder.resolve()
    if not home.exists() or place.parent.name != "runs":
        return {}
    with suppress(Error), open_queue_readonly(home) as (_, store):
        rows = store.read.jobs_of_runs_named(place.name)
        jobs = [row for row in rows if Path(row.root).resolve() == place.parent.parent]
        return unfinished_states(result_jobs(home, store, jobs))
    return {}


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with three columns for a number with an interval, and names `outer.inner` for nested values."""
    cells: dict[str, Any] = {}
    for name, value in flatten_record(row):
        metric = read_metric(value) if isinstance(value, Mapping) else None
        cells |= {name: value} if metric is None else interval_columns(name, metric)
    return cells


States = Mapping[int, State]
Show = Callable[[States], None]


@contextmanager
def bar(*, show: bool) -> Iterator[Show]:
    """Yield the function that shows the states of jobs. It does nothing without a terminal or notebook."""
    ipython = sys.modules.get("IPython")
    if show and ipython is not None and hasattr(ipython.get_ipython(), "kernel"):  # a notebook
        display = import_module("IPython.display")
        handle = display.display(display.HTML(""), display_id=True)
        yield lambda states: handle.update(display.HTML(html(states)))
    elif show and sys.stderr.isatty():
        with _show_in_terminal() as shown:
            yield shown
    else:
        yield lambda _: None


def html(states: States) -> str:
    """Return the bar as HTML."""
    ended, total, text = _sum_states(states)
    shown = escape(f"{ended} of {total} · {text}")
    return f'<progress value="{ended}" max="{max(1, total)}"></progress> {shown}'


@contextmanager
def _show_in_terminal() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("")

        def show(states: States) -> None:
            ended, total, text = _sum_states(states)
            progress.update(task, completed=ended, total=total, description=text)

        yield show


def _sum_states(states: States) -> tuple[int, int, str]:
    """Return how many have ended, of how many, and how many are in each state."""
    ended = sum(state in ENDED_STATES for state in states.values())
    return ended, len(states), tally(Counter(states.values()))


Jobs = Future[Any] | Run | int | str


def wait(
    jobs: Jobs | Iterable[Jobs], timeout: float | None = None, *, progress: bool = True
) -> dict[int, str]:
    """Wait until jobs have ended. Returns the state by job number: {12: "done"}.

    The name of a run means the newest job of each name. Inside a job, the job itself is left out.

    Args:
        jobs: futures, runs, names of runs, numbers of jobs, or several of these.
        timeout: seconds; then the states are returned as they are. None: as long as it takes.
        progress: show a bar, in a terminal or a notebook; elsewhere nothing is printed.

    Raises:
        UsageError: there is no such job or run, or an argument names neither.
        MachineError: the queue is stopped, or gone. Inside a job, also if an awaited job can never start, because
            jobs that wait for such jobs hold its resources.
    """
    deadline = inf if timeout is None else time.monotonic() + timeout
    with open_queue() as (home, store):
        numbers = numbers_of(
            jobs,
            "wait: expected futures, runs, names of runs or job numbers",
            lambda run: [
                row.id for row in store.read.replace_superseded(find_run_jobs(store, run))
            ],
        )
        numbers = without_own_job(home, numbers)
        followed = JobTracker(home, store)
        known = {row.id for row in followed.add(numbers)}
        for number in numbers:
            if number not in known:
                raise UsageError(f"job {number} does not exist")
        waiting = JobWait(home, numbers, is_limited=timeout is not None)
        with waiting, bar(show=progress) as show:
            show(_states(followed))
            for changes in followed.events_until_ended():
                waiting.check()
                if changes:
                    show(_states(followed))
                if time.monotonic() >= deadline:
                    break
        return {number: str(followed.rows[number].state) for number in numbers}


def _states(tracker: JobTracker) -> dict[int, State]:
    return {job: row.state for job, row in tracker.rows.items()}


def numbers_of(
    jobs: object, expected_kind: str, jobs_of_run: Callable[[str], list[int]] | None = None
) -> list[int]:
    """Return the numbers of jobs, each once.

    Args:
        jobs: futures, runs, numbers, or several of these.
        expected_kind: the error message for other values.
        jobs_of_run: returns the numbers of a run by its name. None if names are not accepted.

    Raises:
        UsageError: the argument names no job, or there is no such run.
    """
    match jobs:
        case Future():
            return [jobs.job]
        case Run():
            return [*jobs.jobs]
        case int() if not isinstance(jobs, bool):
            return [jobs]
        case str() if jobs_of_run is not None:
            return jobs_of_run(jobs)
        case Iterable() if not isinstance(jobs, str):
            several = (
                number for each in jobs for number in numbers_of(each, expected_kind, jobs_of_run)
            )
            return [*dict.fromkeys(several)]
    raise UsageError(f"{expected_kind}, got {jobs!r:.80}")
