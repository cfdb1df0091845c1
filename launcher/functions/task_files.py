"""Task files and plans into the queue, as `launcher run --detach` brings them there."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.backends.settings import configured_backends, placed_terms
from launcher.errors import TaskFileError, UsageError
from launcher.store.client import context_to_store, lift_stop, open_queue, set_off

if TYPE_CHECKING:  # who submits functions plans nothing
    from launcher.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in the queue."""

    name: str
    folder: Path  # of its results
    jobs: tuple[int, ...]  # numbers of all its jobs, in the plan's order
    queued: int  # of these
    joined: int  # that were under way already
    cached: int  # that were done before

    def wait(self, timeout: float | None = None) -> dict[int, str]:
        """Wait until its jobs have ended; return their states, as `launcher.api.wait` does."""
        from launcher.functions.waiting import wait

        return wait(self.jobs, timeout=timeout)

    def results(self) -> Any:
        """Return what came out of it, as `launcher.api.results` does."""
        from launcher.functions.results import results

        return results(self)


def submit_plan(
    file: "str | Path | Plan",
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
    from launcher.functions.plan_checks import check_plans, compare
    from launcher.planning.submit import submit

    made = _plan(file, settings, on)
    backends = configured_backends(os.environ)
    made = made.with_terms(lambda terms: placed_terms(terms, backends))
    if made.missing:
        raise TaskFileError(made.missing)
    root = made.run_folder.parent.parent
    context = replace(context_to_store((*made.pass_env, *pass_env)), folder=str(root))
    with open_queue(make=True) as (home, store):
        comparison = compare(store, made, root, force=force, accept_code=accept_code)
        check_plans(home, store, [comparison], backends, root)
        submitted = submit(store, root, comparison, context, time.time())
        if submitted.queued or submitted.joined:
            lift_stop(home)
            set_off(home)
    counts = {name: getattr(submitted, name) for name in ("queued", "joined", "cached")}
    return Run(name=made.name, folder=made.run_folder, jobs=submitted.jobs, **counts)


def _plan(
    file: "str | Path | Plan", settings: Sequence[str], on: str | Sequence[str] | None
) -> "Plan":
    from launcher.planning.load import load, plan

    places = [] if on is None else [on if isinstance(on, str) else ",".join(on)]
    chosen = [*settings, *(f"resources.on={names}" for names in places)]
    if isinstance(file, str | Path):
        return plan(load(file, settings=chosen))
    if chosen:
        raise UsageError(
            "a plan is complete: give `settings` and `on` when it is made, "
            "load(file, settings=[…]), or submit its file"
        )
    return file
