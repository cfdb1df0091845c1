"""Task files and plans into the queue, as `launcher run --detach` brings them there."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backends.settings import Backends, configured_backends
from launcher.backends.shape import placed_terms, runs_only_here
from launcher.errors import MachineError, TaskFileError, UsageError, counted
from launcher.functions.checks import check_group
from launcher.planning.first_wave import MachineState, hopeless_elsewhere, hopeless_jobs
from launcher.planning.load import load, plan
from launcher.planning.machine_state import read_machine_state
from launcher.planning.missing_packages import missing_packages
from launcher.planning.plan import Plan
from launcher.planning.preview import kinds_to_run
from launcher.planning.queue_comparison import Action, ComparedJob, Comparison, compare_with_queue
from launcher.planning.sharing.shared_jobs import with_shared_jobs
from launcher.planning.submit import submit
from launcher.scheduler.policy.model import Machine
from launcher.states import State
from launcher.store.client import context_to_store, cores_for, lift_stop, open_queue, set_off
from launcher.store.queue import Store
from launcher.system import memory
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.system.text import harmless


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in the queue."""

    name: str
    folder: Path  # of its results
    jobs: tuple[int, ...]  # numbers of all its jobs, in the plan's order
    queued: int  # of these
    joined: int  # that were under way already
    cached: int  # that were done before

    def wait(self, timeout: float | None = None) -> dict[int, State]:
        """Wait until its jobs have ended; return their states, as `launcher.api.wait` does."""
        from launcher.functions.waiting import wait

        return wait(self.jobs, timeout=timeout)

    def results(self) -> Any:
        """Return what came out of it, as `launcher.api.results` does."""
        from launcher.functions.results import results

        return results(self)


def submit_plan(
    file: str | Path | Plan,
    *,
    settings: Sequence[str] = (),
    on: str | Sequence[str] | None = None,
    force: bool = False,
    accept_code: bool = False,
    pass_env: Sequence[str] = (),
) -> Run:
    """Queue the jobs of a task file or plan that have to run, all of them or none.

    Args:
        file: a task file's path, or its plan.
        settings: `key=value` each, stronger than the file, as with `--set`; not of a plan.
        on: where the jobs may run, the preferred place first.
        force: all jobs run again.
        accept_code: results of other code are kept.
        pass_env: variables that the jobs get although their names look like secrets.

    Raises:
        TaskFileError: all that is wrong with the file, or an input that is missing.
        UsageError: some jobs could never start.
        MachineError: packages are not installed, or the queue cannot be used.
    """
    made = _plan(file, settings, on)
    backends = configured_backends(os.environ)
    made = made.with_terms(lambda terms: placed_terms(terms, backends))
    if made.missing:
        raise TaskFileError(made.missing)
    context = context_to_store((*made.pass_env, *pass_env))
    root = made.run_folder.parent.parent
    with open_queue(make=True) as (home, store):
        comparison = compare(store, made, root, force=force, accept_code=accept_code)
        check_plans(home, store, [comparison], backends, root)
        submitted = submit(store, root, comparison, context, time.time())
        if submitted.queued or submitted.joined:
            lift_stop(home)
            set_off(home)
    return Run(
        name=made.name,
        folder=made.run_folder,
        jobs=submitted.jobs,
        queued=submitted.queued,
        joined=submitted.joined,
        cached=submitted.cached,
    )


def _plan(file: str | Path | Plan, settings: Sequence[str], on: str | Sequence[str] | None) -> Plan:
    places = [] if on is None else [on if isinstance(on, str) else ",".join(on)]
    chosen = [*settings, *(f"resources.on={names}" for names in places)]
    if not isinstance(file, Plan):
        return plan(load(file, settings=chosen))
    if chosen:
        raise UsageError(
            "a plan is complete: give `settings` and `on` when it is made, "
            "load(file, settings=[…]), or submit its file"
        )
    return file


def compare(store: Store, made: Plan, root: Path, *, force: bool, accept_code: bool) -> Comparison:
    """Return each job of a plan beside the queue's job of that name, with what to do about it."""
    rows = store.read.jobs_of(root, made.name)
    comparison = compare_with_queue(made, rows, stamp, force=force, accept_code=accept_code)
    return with_shared_jobs(comparison, rows)


def check_plans(
    home: Home,
    store: Store,
    comparisons: Sequence[Comparison],
    backends: Backends,
    root: Path,
) -> None:
    """Refuse jobs that can never run where they may, before any is queued.

    Raises:
        MachineError: packages that some jobs import are not installed.
        UsageError: some jobs could never start, or their group is not there.
    """
    kinds = (kind for each in comparisons for kind in kinds_to_run(each.plan, each.jobs))
    if uninstalled := missing_packages(kinds):
        raise MachineError(f"{'; '.join(uninstalled)}; nothing is queued")
    jobs = [job for each in comparisons for job in each.jobs if job.action is not Action.CACHED]
    state = _state(home, store, jobs, root)
    refused = [
        f"{counted(number, 'job')} can never start here: {harmless(why)}"
        for why, number in hopeless_jobs(jobs, state).items()
    ]
    refused += [
        f"{counted(number, 'job')} can never start: {harmless(why)}"
        for why, number in hopeless_elsewhere(jobs, backends).items()
    ]
    if refused:
        raise UsageError("; ".join(refused) + "; nothing is queued")
    for group in {job.job.terms.group for job in jobs if job.action is Action.RUN}:
        check_group(store, group)


def _state(home: Home, store: Store, jobs: Sequence[ComparedJob], root: Path) -> MachineState:
    """Return the machine; the driver is asked only where a job may work on a GPU here."""
    here = [compared for compared in jobs if runs_only_here(compared.job.terms)]
    if any(compared.job.resources.may_need_gpu for compared in here):
        return read_machine_state(home, store, root / "runs", time.time())
    return MachineState(now=time.time(), machine=Machine(cpus=cores_for(home), ram=memory.total()))
