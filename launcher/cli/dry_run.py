"""`launcher run --dry-run`: what would run and why, as a listing, shell commands or JSON."""

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path

import click

from launcher.accounts import Account
from launcher.backends.settings import Backends
from launcher.cli.engine_estimates import EngineEstimates
from launcher.errors import UsageError
from launcher.functions.checks import absent_groups
from launcher.functions.plan_checks import groups_to_run
from launcher.planning.estimates import read_history
from launcher.planning.first_wave import hopeless_elsewhere, hopeless_jobs, read_machine_state
from launcher.planning.missing_packages import missing_packages
from launcher.planning.plan import Plan
from launcher.planning.preview import (
    kinds_to_run,
    plan_commands,
    plan_json,
    preview_backends,
    preview_plan,
    refusals,
)
from launcher.planning.queue_comparison import Comparison
from launcher.screens.plan_view import WIDTH, draw_plan, refusal
from launcher.store.client import look_at_queue
from launcher.store.queue import Store
from launcher.system.environment import unset
from launcher.system.files import Json
from launcher.system.git import worktree
from launcher.system.paths import find_home


class Form(StrEnum):
    """The output of a dry run."""

    SOME = "some"  # a listing of the first jobs
    ALL = "--all"
    COMMANDS = "--commands"
    JSON = "--json"


def choose_form(dry_run: bool, asked: Mapping[Form, bool]) -> Form:
    """Return the output that the options of a dry run ask for.

    Raises:
        UsageError: it is no dry run, or the options exclude each other.
    """
    wanted = [form for form, given in asked.items() if given]
    if wanted and not dry_run:
        raise UsageError(
            f"{wanted[0]} shows a plan and runs nothing: add --dry-run, or leave {wanted[0]} out"
        )
    if len(wanted) > 1 and Form.COMMANDS in wanted:
        raise UsageError(f"say {' or '.join(wanted)}, not both")
    return wanted[0] if wanted else Form.SOME


def list_plans(
    plans: Sequence[Plan],
    taskfiles: Sequence[str],
    form: Form,
    compared: Callable[[Store | None, Plan], Comparison],
    options: Sequence[str],
    pass_env: Sequence[str],
    backends: Backends,
) -> int:
    """Print what would run; write nothing, make no queue, and submit no pilot.

    Args:
        plans: one for each task file.
        taskfiles: their paths, as typed.
        form: the output.
        compared: compares a plan with the queue.
        options: further options of the command, as typed; they belong to the command that starts it.
        pass_env: variables to pass to the jobs, beside those of the plans.
        backends: the configured ones.

    Returns:
        The exit code: that of a usage error where `run` would refuse a plan; 0 for JSON, which
        holds the reasons.
    """
    refused = False
    home = find_home(os.environ)
    shown: list[str] = []
    records: list[Json] = []
    ask = EngineEstimates(home)
    with look_at_queue(home) if home.exists() else nullcontext((home, None)) as (_, store):
        machine_state = read_machine_state(home, store, Path.cwd() / "runs", time.time())
        kinds = {job.kind: plan.kinds[job.kind] for plan in plans for job in plan.jobs}
        history = read_history(store, kinds, gpus=bool(machine_state.machine.gpus))
        for plan, path in zip(plans, taskfiles, strict=True):
            comparison = compared(store, plan)
            compared_jobs = comparison.jobs
            if form is Form.COMMANDS:
                hopeless = hopeless_jobs(compared_jobs, machine_state)
                hopeless |= hopeless_elsewhere(compared_jobs, backends)
                reasons = _refusals(store, comparison, hopeless, pass_env)
                refused = refused or bool(reasons)
                shown += plan_commands(compared_jobs)
                _warn(plan, reasons)
                continue
            state = machine_state._replace(account=_account(store, plan))
            elsewhere = preview_backends(compared_jobs, backends, ask)
            preview = preview_plan(compared_jobs, history, state, backends, elsewhere)
            reasons = _refusals(store, comparison, preview.wave.hopeless, pass_env)
            refused = refused or bool(reasons)
            sources = {id(job.sources): job.sources for job in plan.jobs}  # of a kind: one
            tree = worktree(Path.cwd(), {module for each in sources.values() for module in each})
            if form is Form.JSON:
                records.append(
                    plan_json(
                        plan,
                        compared_jobs,
                        preview,
                        tree,
                        refused=reasons,
                        savings=comparison.savings,
                    )
                )
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
                savings=comparison.savings,
            )
            shown += ["", listing] if shown else [listing]
    if form is Form.JSON:
        shown.append(json.dumps(records[0] if len(records) == 1 else _document(records)))
    for text in shown:
        click.echo(text)
    return UsageError.exit_code if refused and form is not Form.JSON else 0


def _refusals(
    store: Store | None,
    comparison: Comparison,
    hopeless: Mapping[str, int],
    pass_env: Sequence[str],
) -> list[str]:
    """Return why `run` would refuse a plan; empty: it would not.

    Args:
        store: the queue, None where there is none.
        comparison: of the plan with it.
        hopeless: why jobs of the plan can never start here, and how many those are.
        pass_env: variables to pass to the jobs, beside those of the plan.
    """
    plan, compared_jobs = comparison.plan, comparison.jobs
    unset_variables = unset(os.environ, (*plan.pass_env, *pass_env))
    uninstalled = missing_packages(kinds_to_run(plan, compared_jobs))
    return [
        *refusals(plan, hopeless, unset_variables, uninstalled),
        *absent_groups(store, groups_to_run([comparison])),
    ]


def _account(store: Store | None, plan: Plan) -> Account:
    """Return the account of a plan's run, with the share that it would have."""
    account = Account() if store is None else store.read.account(Path.cwd(), plan.name)
    return account if plan.share is None else account._replace(share=plan.share)


def _document(records: Sequence[Json]) -> Json:
    return {"schema": 1, "plans": [*records]}


def _warn(plan: Plan, reasons: Sequence[str]) -> None:
    """Print on stderr the warnings and refusals that a listing prints below its jobs."""
    for warning in plan.warnings:
        click.echo(str(warning), err=True)
    if reasons:
        click.echo(refusal(reasons), err=True)
