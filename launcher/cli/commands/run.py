"""`launcher run TASKFILE`: plan, queue, watch, and tell what came out."""

import gc
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path

import click

from launcher.cli.complete import TASK_FILES
from launcher.cli.group_rows import absent_groups, check_groups
from launcher.cli.missing_programs import warn_of_missing_programs
from launcher.cli.run_results import collect, draw
from launcher.errors import MachineError, TaskFileError, UsageError, counted
from launcher.job import Context
from launcher.planning.export import plan_commands, plan_json
from launcher.planning.first_wave import MachineState, hopeless_jobs
from launcher.planning.load import plan_files
from launcher.planning.machine_state import read_history, read_machine_state
from launcher.planning.missing_packages import missing_packages
from launcher.planning.plan import Plan
from launcher.planning.preview import kinds_to_run, preview_plan, refusals
from launcher.planning.queue_comparison import ACCEPT_CODE, Action, Comparison, compare_with_queue
from launcher.planning.submit import Submitted, submit
from launcher.scheduler.model import Machine
from launcher.screens.format import harmless
from launcher.screens.plan_view import WIDTH, draw_plan, other_code, refusal
from launcher.screens.terminal import terminal_width
from launcher.screens.watch import Watcher, watch_run
from launcher.states import OPEN, State
from launcher.store.client import (
    context_to_store,
    cores_for,
    lift_stop,
    look_at_queue,
    open_queue,
    set_off,
)
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system import memory
from launcher.system.environment import unset
from launcher.system.files import Json, stamp
from launcher.system.git import worktree
from launcher.system.paths import Home, find_home
from launcher.taskfile.legacy_names import Wanted

LEFT = 130


class Form(StrEnum):
    """How a dry run shows a plan."""

    SOME = "some"  # a listing of the first jobs
    ALL = "--all"
    COMMANDS = "--commands"
    JSON = "--json"


@click.command()
@click.argument(
    "taskfiles", nargs=-1, required=True, metavar="TASKFILE…", shell_complete=TASK_FILES
)
@click.option("--dry-run", "-n", is_flag=True, help="List what would run, and why; queue nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --dry-run: the plan as JSON (schema 1)."
)
@click.option("--all", "everything", is_flag=True, help="With --dry-run: list every job.")
@click.option("--commands", is_flag=True, help="With --dry-run: print shell commands only.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override the file: a setting (lr=0.01, train.lr=0.01) or a key (name=quick, resources.cpus=2).",
)
@click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Pass this variable to the jobs although its name looks like a secret; repeatable.",
)
@click.option("--detach", is_flag=True, help="Queue the jobs and return at once.")
@click.option("--force", is_flag=True, help="Run all jobs again, also those that are done.")
@click.option(
    "--accept-code",
    is_flag=True,
    help="Keep results of the same settings and inputs that were made with other code.",
)
def command(
    taskfiles: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    everything: bool,
    commands: bool,
    settings: tuple[str, ...],
    detach: bool,
    force: bool,
    accept_code: bool,
    pass_env: tuple[str, ...],
) -> int:
    """Queue the jobs of TASKFILE and show their progress; Ctrl-C leaves the view, not the jobs.

    Jobs that are done with the same settings, code and files do not run again; --accept-code also
    keeps what was done with other code, such as that of an earlier version. A dry run exits with 2
    if the run would be refused; with --json it prints the reasons and exits with 0.

    \b
    Examples:
      launcher run tasks/quickstart.yaml --dry-run
      launcher run tasks/quickstart.yaml
    """
    with _uncollected():
        plans = plan_files(taskfiles, settings=settings)
        dry_run = dry_run or any(plan.wanted is Wanted.LIST for plan in plans)
        form = _form(dry_run, {Form.JSON: as_json, Form.ALL: everything, Form.COMMANDS: commands})
        warn_of_missing_programs(plans)
        if dry_run:
            options = [word for setting in settings for word in ("--set", setting)]
            options += ["--force"] if force else []
            options += [ACCEPT_CODE] if accept_code else []
            options += [word for name in pass_env for word in ("--pass-env", name)]
            return _list(plans, taskfiles, form, options, pass_env)
    results = any(plan.wanted is Wanted.RESULTS for plan in plans)
    for plan in plans:
        if not results:
            _refuse_missing(plan)
        for warning in plan.warnings:
            click.echo(str(warning), err=True)
    if results:
        return _tell_results(plans)
    code = 0
    with open_queue(make=True) as (home, store):
        with _uncollected():
            # all of them are compared before any is queued: a refusal leaves nothing behind
            comparisons = [
                _compare(store, plan, force=force, accept_code=accept_code) for plan in plans
            ]
            _check_possible(home, store, comparisons)
            check_groups(store, _groups_of(comparisons))
            contexts = [context_to_store((*plan.pass_env, *pass_env)) for plan in plans]
            submitted = [
                _queue(store, comparison, context)
                for comparison, context in zip(comparisons, contexts, strict=True)
            ]
        since = store.read.last_event()  # what starts at once is told, too
        try:
            if any(submission.queued or submission.joined for submission in submitted):
                lift_stop(home)
                set_off(home)
            if detach:
                return 0
            for submission in submitted:
                watcher = Watcher(home, store, submission.jobs, since=since)
                watch_run(watcher, live=sys.stderr.isatty())
                code = max(code, _conclude(store, submission))
        except KeyboardInterrupt:
            _say_left(store, submitted)
            return LEFT
    return code


def _check_possible(home: Home, store: Store, comparisons: Sequence[Comparison]) -> None:
    """Refuse what this machine can never give, before anything is queued.

    Raises:
        MachineError: packages that some jobs import are not installed.
        UsageError: some jobs would wait for ever.
    """
    kinds = (kind for each in comparisons for kind in kinds_to_run(each.plan, each.jobs))
    if uninstalled := missing_packages(kinds):
        raise MachineError(f"{'; '.join(uninstalled)}; nothing is queued")
    compared_jobs = [
        compared
        for comparison in comparisons
        for compared in comparison.jobs
        if compared.action is not Action.CACHED
    ]
    asked = {compared.job.resources for compared in compared_jobs}
    if any(resources.may_need_gpu for resources in asked):
        machine_state = read_machine_state(home, store, Path.cwd() / "runs", time.time())
    else:  # the driver need not be asked
        machine_state = MachineState(
            now=time.time(), machine=Machine(cpus=cores_for(home), ram=memory.total())
        )
    refused = [
        f"{counted(number, 'job')} can never start here: {harmless(why)}"
        for why, number in hopeless_jobs(compared_jobs, machine_state).items()
    ]
    if refused:
        raise UsageError("; ".join(refused) + "; nothing is queued")


def _groups_of(comparisons: Iterable[Comparison]) -> list[str]:
    """Return the groups of the jobs that have to run, each once."""
    compared_jobs = (compared for comparison in comparisons for compared in comparison.jobs)
    to_run = (compared.job for compared in compared_jobs if compared.action is Action.RUN)
    return [*dict.fromkeys(job.terms.group for job in to_run)]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: of thousands of jobs to be queued nothing is any."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _compare(store: Store | None, plan: Plan, *, force: bool, accept_code: bool) -> Comparison:
    rows = store.read.jobs_of(Path.cwd(), plan.name) if store else {}
    return compare_with_queue(plan, rows, stamp, force=force, accept_code=accept_code)


def _form(dry_run: bool, asked: Mapping[Form, bool]) -> Form:
    """Return how a plan is to be shown.

    Raises:
        UsageError: no plan is to be shown, or in two ways at once.
    """
    wanted = [form for form, chosen in asked.items() if chosen]
    if wanted and not dry_run:
        raise UsageError(
            f"{wanted[0]} shows a plan and runs nothing: add --dry-run, or leave {wanted[0]} out"
        )
    if len(wanted) > 1 and Form.COMMANDS in wanted:
        raise UsageError(f"say {' or '.join(wanted)}, not both")
    return wanted[0] if wanted else Form.SOME


def _list(
    plans: Sequence[Plan],
    taskfiles: Sequence[str],
    form: Form,
    options: Sequence[str],
    pass_env: Sequence[str],
) -> int:
    """Show what would run with these options; nothing is written, and no queue is begun."""
    refused = False
    home = find_home(os.environ)
    shown: list[str] = []
    records: list[Json] = []
    with look_at_queue(home) if home.exists() else nullcontext((home, None)) as (_, store):
        machine_state = read_machine_state(home, store, Path.cwd() / "runs", time.time())
        kinds = {job.kind: plan.kinds[job.kind] for plan in plans for job in plan.jobs}
        history = read_history(store, kinds, gpus=bool(machine_state.machine.gpus))
        for plan, path in zip(plans, taskfiles, strict=True):
            comparison = _compare(
                store, plan, force="--force" in options, accept_code=ACCEPT_CODE in options
            )
            compared_jobs = comparison.jobs
            unset_ones = unset(os.environ, (*plan.pass_env, *pass_env))
            uninstalled = missing_packages(kinds_to_run(plan, compared_jobs))
            hopeless = hopeless_jobs(compared_jobs, machine_state)
            reasons = refusals(plan, hopeless, unset_ones, uninstalled)
            reasons += absent_groups(store, _groups_of([comparison]))
            refused = refused or bool(reasons)
            if form is Form.COMMANDS:
                shown += plan_commands(compared_jobs)
                _warn(plan, reasons)
                continue
            preview = preview_plan(compared_jobs, history, machine_state)
            tree = worktree(Path.cwd(), {module for job in plan.jobs for module in job.sources})
            if form is Form.JSON:
                records.append(plan_json(plan, compared_jobs, preview, tree, refused=reasons))
                continue
            listing = draw_plan(
                plan,
                compared_jobs,
                preview,
                taskfile=path,
                start=shlex.join(["launcher", "run", path, *options]),
                tree=tree,
                width=shutil.get_terminal_size((WIDTH, 24)).columns,
                everything=form is Form.ALL,
                refused=reasons,
            )
            shown += ["", listing] if shown else [listing]
    if form is Form.JSON:
        document: Json = {"schema": 1, "plans": records}
        shown.append(json.dumps(records[0] if len(records) == 1 else document))
    for text in shown:
        click.echo(text)
    # who asks for JSON gets the plan, and reads in it that it would be refused
    return UsageError.exit_code if refused and form is not Form.JSON else 0


def _warn(plan: Plan, reasons: Sequence[str]) -> None:
    """Tell beside command lines what a listing says below them."""
    for warning in plan.warnings:
        click.echo(str(warning), err=True)
    if reasons:
        click.echo(refusal(reasons), err=True)


def _tell_results(plans: Iterable[Plan]) -> int:
    """Print the tables of runs: what `parse: true` of the original's file asks for."""
    with open_queue() as (_, store):
        for plan in plans:
            rows = [*store.read.jobs_of(Path.cwd(), plan.name).values()]
            click.echo(draw(collect(rows), width=terminal_width()))
    return 0


def _refuse_missing(plan: Plan) -> None:
    """Raise what a dry run only warns of: nothing is queued that must fail."""
    if plan.missing:
        raise TaskFileError(plan.missing)


def _queue(store: Store, comparison: Comparison, context: Context) -> Submitted:
    plan = comparison.plan
    submission = submit(store, Path.cwd(), comparison, context, time.time())
    parts = [f"{submission.queued} queued"]
    parts += [f"{submission.joined} under way already"] if submission.joined else []
    parts += [f"{submission.cached} done before"] if submission.cached else []
    click.echo(f"{plan.name}: {counted(len(submission.jobs), 'job')}, {', '.join(parts)}", err=True)
    if text := other_code(comparison.jobs, queued=True):
        click.echo(harmless(text), err=True)
    return submission


def _say_left(store: Store, submitted: Iterable[Submitted]) -> None:
    """Tell someone who leaves the view what goes on, and how to come back."""
    numbers = [number for submission in submitted for number in submission.jobs]
    left = sum(row.state in OPEN for row in store.read.jobs_by_id(numbers))
    click.echo(
        f"\n{counted(left, 'job')} {'goes' if left == 1 else 'go'} on; "
        "the same `launcher run` comes back to them, "
        "`launcher status` lists them, `launcher stop` stops",
        err=True,
    )


def _conclude(store: Store, submission: Submitted) -> int:
    rows = store.read.jobs_by_id(submission.jobs)
    table = collect(rows)
    if table:
        click.echo(draw(table, width=terminal_width()))
    _say_what_is_missing(rows)
    click.echo(f"\nfiles: {rows[0].spec.run_folder}", err=True)
    return 0 if all(row.state is State.DONE for row in rows) else 1


def _say_what_is_missing(rows: Sequence[JobRow]) -> None:
    """Name what failed and what to do next; what was skipped because of it is only counted."""
    for row in rows:
        if row.state in {State.FAILED, State.CANCELLED}:
            reason = harmless(row.reason.partition("\n")[0])
            click.echo(f"{row.state}: {harmless(row.name)}: {reason}", err=True)
            click.echo(f"  launcher logs {row.id} · launcher show {row.id}", err=True)
    skipped = sum(row.state is State.SKIPPED for row in rows)
    if skipped:
        verb = "needs" if skipped == 1 else "need"
        click.echo(f"skipped: {counted(skipped, 'job')} that {verb} them", err=True)
    if any(row.state is not State.DONE for row in rows):
        click.echo("the same `launcher run` again runs only what is not done", err=True)
