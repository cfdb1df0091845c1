"""`launcher run TASKFILE`: plan a task file, queue its jobs, watch them, and print the results.

With --dry-run: what would run and why, as a listing, shell commands or JSON.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path

import click

from launcher.experiments.functions.options import absent_gpu_warning
from launcher.experiments.functions.plan_checks import (
    check_plans,
    compare,
    make_engine_query,
    reasons_against,
)
from launcher.experiments.functions.program_start import stored_secrets_warning
from launcher.experiments.functions.shared_files import IN_TASK_FILE, shared_files_warnings
from launcher.experiments.planning.backend_preview import preview_backends
from launcher.experiments.planning.comparison import ACCEPT_CODE, ADOPT, Comparison, open_jobs
from launcher.experiments.planning.dependencies import file_folder_note
from launcher.experiments.planning.estimates import read_history
from launcher.experiments.planning.first_wave import read_machine_state
from launcher.experiments.planning.load import plan_files
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.plan_records import plan_commands, plan_json
from launcher.experiments.planning.preview import preview_plan
from launcher.experiments.planning.submit import SubmittedRun, starting_specs, submit
from launcher.experiments.results.result_jobs import count_results, result_jobs
from launcher.experiments.results.rows import results_of
from launcher.experiments.search.submission import SearchRequest
from launcher.experiments.taskfile.legacy_names import LegacyAction
from launcher.frontends.cli.await_jobs import await_search
from launcher.frontends.cli.command_lines import missing_code
from launcher.frontends.cli.complete import offer_task_files
from launcher.frontends.cli.findings import CheckStatus
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.job_selection import EXIT_ABORTED, gc_paused, print_failed_jobs
from launcher.frontends.cli.notify_warnings import no_target_warning
from launcher.frontends.cli.option_types import flag, policy_option, value_param
from launcher.frontends.cli.plain_tables import is_plain
from launcher.frontends.cli.result_tables import GUIDE, draw
from launcher.frontends.cli.searches import (
    check_searches,
    commit_searches,
    planned_searches,
    print_planned_searches,
)
from launcher.frontends.notify.settings import read_configured_notify
from launcher.frontends.screens.code_notes import different_code_notes
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.screens.plan_differences import other_code, other_folder, other_options
from launcher.frontends.screens.plan_view import WIDTH, draw_plan, refusal
from launcher.provenance.git import WorkTree, worktree
from launcher.provenance.hashing_progress import watch_hashing
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import Backends, read_configured_backends
from launcher.queue.home.paths import Home, find_home
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.accounts import FairShareAccount
from launcher.queue.jobs.context import Context, current_context
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.scheduler.chosen_policy import policy_message, set_policy
from launcher.queue.scheduler.policy.disciplines import SchedulingPolicy
from launcher.queue.store.client import (
    clear_stop,
    context_to_store,
    open_queue,
    open_queue_readonly,
    wake_or_start_scheduler,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.runs import read_fair_share_account
from launcher.system.errors import TaskFileError, UsageError, pluralize, suggestion_or_known_names
from launcher.system.executables import (
    missing_program,
    module_of,
    script_of,
)
from launcher.system.files import Json
from launcher.system.terminal import print_stderr, terminal_width
from launcher.system.text import sanitize_terminal

SECTIONS: Mapping[str, Sequence[str]] = {
    "Common options": (
        "dry-run",
        "detach",
        "set",
        "on",
        "max-failures",
        "accept-code",
        "force",
        "snapshot",
    ),
    "Output of --dry-run": ("all", "json", "commands"),
}


class Form(StrEnum):
    """The output of a dry run."""

    SOME = "some"  # a listing of the first jobs
    ALL = "--all"
    COMMANDS = "--commands"
    JSON = "--json"


def _choose_form(dry_run: bool, asked_forms: Mapping[Form, bool]) -> Form:
    """Return the output that the options of a dry run ask for.

    Raises:
        UsageError: it is not a dry run, or the options exclude each other.
    """
    wanted = [form for form, given in asked_forms.items() if given]
    if wanted and not dry_run:
        raise UsageError(f"{wanted[0]} works only with --dry-run. Add --dry-run.")
    if len(wanted) > 1 and Form.COMMANDS in wanted:
        raise UsageError(f"{' and '.join(wanted)} cannot be combined. Remove one of them.")
    return wanted[0] if wanted else Form.SOME


@launcher_command(
    sections=SECTIONS,
    heading="Queue jobs",
    place=20,
    other_names={"FILE": "apply snakemake"},
)
@click.argument(
    "taskfiles", nargs=-1, required=True, metavar="TASKFILE…", shell_complete=offer_task_files
)
@flag(
    "--dry-run",
    "-n",
    help="Show the plan and queue nothing. Exits with 2 if the run would be refused.",
)
@flag(
    "--json", "as_json", help="With --dry-run: print the plan as JSON (schema 1) and exit with 0."
)
@flag("--all", "everything", help="With --dry-run: list every job.")
@flag("--commands", help="With --dry-run: print shell commands only.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the file: lr=0.01, train.lr=0.01, name=quick, resources.cpus=2. Repeatable.",
)
@click.option(
    "--share",
    metavar="FLOAT",
    help="Share of the machine while other runs wait.  [default: share of the file, or 1]",
)
@click.option(
    "--on",
    metavar="NAMES",
    help="Where to run, preferred place first: slurm,local.",
)
@click.option(
    "--max-failures",
    type=value_param(job_options()["max_failures"].takes),
    help="Hold the other jobs after this many failures. none: never.  [default: hold if the first 5 jobs "
    "fail with one cause]",
)
@policy_option()
@click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Store this environment variable although it looks like a secret. Repeatable.",
)
@flag(
    "--snapshot",
    help="Run the code as it is now, from a copy of the git repository. Programs write where they would write without it.",
)
@flag("--detach", help="Queue the jobs and return.")
@flag("--force", help="Run all jobs again.")
@flag(
    "--accept-code",
    help="Keep results made with other code, such as an older version.",
)
@click.option(
    "--adopt",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep results of the same jobs from FOLDER, the earlier folder of the project.",
)
def command(
    taskfiles: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    everything: bool,
    commands: bool,
    settings: tuple[str, ...],
    share: str | None,
    on: str | None,
    max_failures: int | None,
    policy: SchedulingPolicy | None,
    snapshot: bool,
    detach: bool,
    force: bool,
    accept_code: bool,
    adopt: Path | None,
    pass_env: tuple[str, ...],
) -> int:
    """Queue the jobs of a task file and show their progress.

    Ctrl-C closes the view; the jobs continue. Finished jobs do not run again if settings, code and input
    files are unchanged.

    \b
    Examples:
      launcher run tasks/quickstart.yaml --dry-run
      launcher run tasks/quickstart.yaml
      launcher run tasks/quickstart.yaml --set name=quick --detach
    """
    settings = settings if share is None else (*settings, f"share={share}")
    typed = settings
    settings = settings if on is None else (*settings, f"resources.on={on}")
    if max_failures is not None:
        settings = (*settings, f"resources.max_failures={max_failures or 'none'}")
    backends = read_configured_backends(os.environ)
    watch = watch_hashing()
    compared = partial(
        compare,
        root=Path.cwd(),
        force=force,
        accept_code=accept_code,
        adopt=adopt,
        watch=watch,
    )
    with gc_paused():
        plans = plan_files(taskfiles, settings=settings, watch=watch)
        plans = [
            plan.with_terms(lambda terms: with_default_backends(terms, backends)) for plan in plans
        ]
        searches = [
            planned_searches(plan, file, settings)
            for plan, file in zip(plans, taskfiles, strict=True)
        ]
        dry_run = dry_run or any(plan.wanted is LegacyAction.LIST for plan in plans)
        form = _choose_form(
            dry_run, {Form.JSON: as_json, Form.ALL: everything, Form.COMMANDS: commands}
        )
        _warn_of_programs(plans, searches)
        _warn_of_secrets(plans)
        _warn_of_reservations(os.environ)
        for plan in plans:
            if plan.notify.to is not None or plan.notify.events:
                _warn_of_targets(plan.name, plan.notify, os.environ)
            elif any(job.terms.notify_on for job in plan.jobs) and (
                text := no_target_warning("notify_on", os.environ)
            ):
                print_stderr(text)
        if dry_run:
            options = [word for setting in typed for word in ("--set", setting)]
            options += ["--force"] if force else []
            options += [ACCEPT_CODE] if accept_code else []
            options += [] if adopt is None else [ADOPT, str(adopt)]
            options += [word for name in pass_env for word in ("--pass-env", name)]
            options += [] if on is None else ["--on", on]
            options += (
                [] if max_failures is None else ["--max-failures", str(max_failures or "none")]
            )
            options += [] if policy is None else ["--policy", policy.name]
            options += ["--snapshot"] if snapshot else []
            code = _list(
                plans, taskfiles, form, compared, options, pass_env, backends, policy, snapshot
            )
            if form in {Form.SOME, Form.ALL}:
                print_planned_searches([each for found in searches for each in found])
            return code
    results = any(plan.wanted is LegacyAction.RESULTS for plan in plans)
    for plan in plans:
        if plan.missing and not results:  # a dry run only warns: such jobs must fail
            raise TaskFileError(plan.missing)
        for warning in plan.warnings:
            print_stderr(str(warning))
    if results:
        return _print_results(plans)
    code = 0
    with open_queue(make=True) as (home, store):
        with gc_paused():
            # compare all of them before any is queued, so that a refusal leaves nothing behind
            comparisons = [compared(store, plan) for plan in plans]
            check_plans(home, store, comparisons, backends, Path.cwd())
            for found in searches:
                check_searches(store, found)
            _warn_of_gpus(home, comparisons)
            _warn_of_files(store, comparisons)
            if policy is not None:
                set_policy(home, policy)
                print_stderr(policy_message(home))
            for comparison in comparisons:  # before anything is queued
                if text := other_code(comparison.jobs, dry_run=False):
                    print_stderr(sanitize_terminal(text))
            contexts = [context_to_store((*plan.pass_env, *pass_env)) for plan in plans]
            with ExitStack() as stack:
                if snapshot:
                    contexts = [
                        stack.enter_context(_snapshot_taken(store, comparison, context))
                        for comparison, context in zip(comparisons, contexts, strict=True)
                    ]
                submitted = [
                    _queue(store, comparison, context)
                    for comparison, context in zip(comparisons, contexts, strict=True)
                ]
                sought = [
                    number
                    for found, context in zip(searches, contexts, strict=True)
                    for number in commit_searches(store, context, found)
                ]
        # before the start, so that jobs that start at once are shown
        since = store.read.last_event()
        try:
            if sought or any(submission.queued or submission.joined for submission in submitted):
                clear_stop(home)
                wake_or_start_scheduler(home)
            if detach:
                return 0
            from launcher.frontends.screens.watch import (
                watch_run,
            )  # the module imports all screens, which a dry run never needs

            for submission in (each for each in submitted if each.jobs):
                watch_run(home, store, submission.jobs, since, live=sys.stderr.isatty())
                code = max(code, _watch_and_report(home, store, submission))
            for number in sought:
                code = max(code, await_search(home, store, number))
        except KeyboardInterrupt:
            _print_remaining(store, submitted, [plan.name for plan in plans])
            return EXIT_ABORTED
    return code


def _warn_of_targets(run: str, notify: RunNotify, environ: Mapping[str, str]) -> None:
    """Warn if requested messages of a run have no target, or if a named target does not exist."""
    try:
        settings = read_configured_notify(environ)
    except UsageError as error:
        print_stderr(f"warning: run {run} sends no messages: {sanitize_terminal(str(error))}")
        return
    names = [] if settings is None else [target.name for target in settings.targets]
    for name in notify.to or ():
        if name not in names:
            text = f"warning: notify: config.toml has no target {name!r}{suggestion_or_known_names(name, names)}"
            print_stderr(sanitize_terminal(text))
    if not names and notify.to is None:
        text = f"warning: notify: run {run} sends no messages. Add a table [notify.NAME] to config.toml"
        print_stderr(sanitize_terminal(f"{text} (launcher help messages)."))


def _warn_of_reservations(environ: Mapping[str, str]) -> None:
    """Print why the folder that LAUNCHER_CLAIMS names cannot be used."""
    named = environ.get("LAUNCHER_CLAIMS")
    if not named or os.access(f"{named}/", os.R_OK | os.W_OK | os.X_OK):  # the default one exists
        return
    # all checks, which a folder that can be used does not need
    from launcher.frontends.cli.queue_checks import find_reservations_folder, judge_reservations

    finding = judge_reservations(*find_reservations_folder(environ, None))
    if finding.status is CheckStatus.WARNING:
        advice = f"{finding.advice[0].upper()}{finding.advice[1:]}"
        print_stderr(sanitize_terminal(f"warning: {finding.summary}. {advice}."))


def _warn_of_programs(plans: Iterable[Plan], searches: Iterable[Sequence[SearchRequest]]) -> None:
    """Print which programs and scripts of task files and of their searches do not exist, each once."""
    # program, script, folder, PATH → the first job, and its task file
    first: dict[tuple[str, str, str, str], tuple[PlannedJob | Spec, str]] = {}
    made: set[Path] = set()
    here = os.environ.get("PATH", os.defpath)
    for plan, found in zip(plans, searches, strict=True):
        made.update(Path(output) for job in plan.jobs for output in job.outputs)
        sought = [spec for search in found if (spec := search.definition.spec) is not None]
        jobs: list[PlannedJob | Spec] = [*plan.jobs, *sought]
        for job in jobs:
            if not job.entry:
                folder, variables = job.settings.get("cwd"), job.settings.get("env")
                path = variables.get("PATH", here) if isinstance(variables, dict) else here
                code = script_of(job.argv) or module_of(job.argv)
                key = job.argv[0], code, str(folder or ""), str(path)
                first.setdefault(key, (job, plan.file))
    notes: dict[str, None] = {}
    for (program, script, folder, path), (job, file) in first.items():
        place = Path.cwd() / Path(folder).expanduser()
        reason = missing_program(program, place, {"PATH": path})
        name = program if reason else script
        if not reason and made.isdisjoint((place / script, *(place / script).parents)):
            reason = missing_code(job.argv, place, {**os.environ, "PATH": path})
        if reason:
            text = f"warning: {reason}. {job.name} will fail unless this is fixed before it starts."
            print_stderr(sanitize_terminal(text))
            if "/" in name or name == script_of(job.argv):
                notes[file_folder_note(file, str(Path(folder, name)), Path.cwd())] = None
    if note := next(filter(None, notes), ""):
        print_stderr(sanitize_terminal(f"note: {note}"))
    _warn_of_hydra(plans, [search for found in searches for search in found])


def _warn_of_hydra(plans: Iterable[Plan], searches: Iterable[SearchRequest]) -> None:
    """Print how many programs of task files and of their searches may write into one folder of Hydra."""
    by_folder: dict[str, list[Sequence[str]]] = {}
    jobs: list[tuple[PlannedJob | Spec, int]] = [(job, 1) for plan in plans for job in plan.jobs]
    for definition in (search.definition for search in searches):
        jobs += [] if definition.spec is None else [(definition.spec, definition.job_count)]
    for job, count in jobs:
        if not job.entry and any("=" in word and word[0] != "-" for word in job.argv if word):
            programs = by_folder.setdefault(str(job.settings.get("cwd") or ""), [])
            programs += [job.argv] * count
    for folder, programs in by_folder.items():
        if len(programs) > 1:
            # for few task files
            from launcher.experiments.functions.hydra_folders import shared_folder_warning

            place = str(Path.cwd() / Path(folder).expanduser())
            if warning := shared_folder_warning(programs, place):
                print_stderr(sanitize_terminal(warning))


def _warn_of_secrets(plans: Iterable[Plan]) -> None:
    """Print which variables and arguments of programs look like secrets; the queue stores them."""
    jobs = [job for plan in plans for job in plan.jobs if not job.entry]
    given = [env for job in jobs if isinstance(env := job.settings.get("env"), dict)]
    texts = ({name: str(text) for name, text in env.items()} for env in given)
    if warning := stored_secrets_warning(texts, (job.argv for job in jobs)):
        print_stderr(warning)


def _warn_of_files(store: Store | None, comparisons: Iterable[Comparison]) -> None:
    """Print which files of numbers several jobs name."""
    specs = [
        spec
        for comparison in comparisons
        if any(each.job.terms.metrics or each.job.terms.tensorboard for each in comparison.jobs)
        for spec in starting_specs(comparison, Path.cwd())
    ]
    for warning in shared_files_warnings(store, specs, str(Path.cwd()), spelling=IN_TASK_FILE):
        print_stderr(warning)


def _warn_of_gpus(home: Home, comparisons: Iterable[Comparison]) -> None:
    """Print how many jobs need a GPU of this machine while none is visible."""
    jobs = [compared.job for each in comparisons for compared in open_jobs(each.jobs)]
    if warning := absent_gpu_warning(home, [(job.resources, job.terms) for job in jobs]):
        print_stderr(warning)


def _print_results(plans: Iterable[Plan]) -> int:
    """Print the result tables of runs: the meaning of `parse: true` in a file of the original."""
    with open_queue() as (home, store):
        for plan in plans:
            rows = [*store.read.jobs_of(Path.cwd(), plan.name).values()]
            chosen = result_jobs(home, store, rows)
            table = results_of([each.job for each in chosen]).rows
            click.echo(draw(table, width=terminal_width()))
            notes = count_results(chosen, tests=bool(table)).notes()
            for note in (*notes, *different_code_notes(store, [each.job for each in chosen])):
                print_stderr(f"note: {note}")
    return 0


def _snapshot_taken(
    store: Store, comparison: Comparison, context: Context
) -> AbstractContextManager[Context]:
    """Return what yields the context of a plan's jobs with a snapshot, if there are any to queue."""
    # few commands need this module
    from launcher.experiments.functions.job_snapshots import snapshot_taken

    specs = [*starting_specs(comparison, Path.cwd())]
    return snapshot_taken(store, context, specs) if specs else nullcontext(context)


def _queue(store: Store, comparison: Comparison, context: Context) -> SubmittedRun:
    plan = comparison.plan
    submission = submit(store, Path.cwd(), comparison, context, time.time())
    parts = [f"{submission.queued} queued"]
    parts += [f"{submission.joined} already queued or running"] if submission.joined else []
    parts += [f"{submission.cached} done before"] if submission.cached else []
    print_stderr(f"{plan.name}: {pluralize(len(submission.jobs), 'job')}, {', '.join(parts)}")
    for text in (other_options(comparison.jobs), other_folder(comparison, is_queued=True)):
        if text:
            print_stderr(sanitize_terminal(text))
    return submission


def _print_remaining(
    store: Store, submitted_runs: Iterable[SubmittedRun], runs: Sequence[str]
) -> None:
    """Print how many jobs go on after Ctrl-C, and how to come back to them or to cancel them."""
    numbers = [number for submission in submitted_runs for number in submission.jobs]
    left = sum(row.state in OPEN_STATES for row in store.read.jobs_by_id(numbers))
    chosen = [f"run:{sanitize_terminal(run)}" for run in dict.fromkeys(runs)]
    print_stderr(
        f"\n{pluralize(left, 'job')} {'continues' if left == 1 else 'continue'}. "
        "To see the progress again, repeat the command. "
        f"To list the jobs: launcher status. To cancel them: launcher cancel {shlex.join(chosen)}"
    )


def _watch_and_report(home: Home, store: Store, submission: SubmittedRun) -> int:
    rows = store.read.jobs_by_id(submission.jobs)
    chosen = result_jobs(home, store, rows)
    table = results_of([each.job for each in chosen]).rows
    if table:
        click.echo(draw(table, width=terminal_width()))
    if not all(map(is_plain, table)):
        print_stderr(f"\n{GUIDE}")
    if table:
        notes = count_results(chosen, tests=True).older_notes()
        for note in (*notes, *different_code_notes(store, [each.job for each in chosen])):
            print_stderr(f"note: {note}")
    print_failed_jobs(rows)
    if any(row.state is not State.DONE for row in rows):
        print_stderr("To run the jobs that are not done, repeat the command.")
    print_stderr(f"\nfiles: {rows[0].spec.run_folder}")
    return 0 if all(row.state is State.DONE for row in rows) else 1


# --- what would run


def _list(
    plans: Sequence[Plan],
    taskfiles: Sequence[str],
    form: Form,
    compare_plan: Callable[[Store | None, Plan], Comparison],
    options: Sequence[str],
    pass_env: Sequence[str],
    backends: Backends,
    policy: SchedulingPolicy | None,
    with_snapshot: bool,
) -> int:
    """Print what would run; write nothing, make no queue, and submit no pilot.

    Args:
        plans: one for each task file.
        taskfiles: their paths, as typed.
        form: the output.
        compare_plan: compares a plan with the queue.
        options: further options of the command, as typed; they belong to the command that starts it.
        pass_env: variables to pass to the jobs, in addition to those of the plans.
        backends: the configured ones.
        policy: the scheduling policy to assume, or None for the policy of the queue.
        with_snapshot: the jobs would get a snapshot.

    Returns:
        The exit code of a usage error if `run` would refuse a plan, otherwise 0. With JSON it is
        always 0, because the output contains the reasons.
    """
    home, refused, lines = find_home(os.environ), False, list[str]()
    records: list[dict[str, Json]] = []
    comparisons: list[Comparison] = []
    ask = make_engine_query(home)
    with open_queue_readonly(home) if home.exists() else nullcontext((home, None)) as (_, store):
        state = read_machine_state(home, store, Path.cwd() / "runs", time.time(), policy)
        kinds = {job.kind: plan.kinds[job.kind] for plan in plans for job in plan.jobs}
        history = read_history(store, kinds, gpus=bool(state.machine.gpus))
        for plan, path in zip(plans, taskfiles, strict=True):
            comparison = compare_plan(store, plan)
            comparisons.append(comparison)
            jobs = comparison.jobs
            elsewhere = () if form is Form.COMMANDS else preview_backends(jobs, backends, ask)
            own = state._replace(account=_account_with_share(store, plan))
            preview = preview_plan(jobs, history, own, backends, elsewhere)
            reasons = [*reasons_against(store, comparison, preview.wave.unsatisfiable, pass_env)]
            snapshot = None
            if with_snapshot:
                from launcher.experiments.functions.job_snapshots import (
                    plan_snapshot,  # few commands need this module
                )

                specs = starting_specs(comparison, Path.cwd())
                try:
                    snapshot = plan_snapshot(home, current_context(os.environ), specs)
                except UsageError as error:
                    reasons.append(str(error).rstrip("."))
            refused = refused or bool(reasons)
            if form is Form.COMMANDS:
                lines += plan_commands(jobs)
                _warn(plan, reasons)
            elif form is Form.JSON:
                savings = comparison.savings
                records.append(
                    plan_json(plan, jobs, preview, _tree(plan), refusals=reasons, savings=savings)
                    | {"snapshot": snapshot and snapshot.source.manifest.key}
                )
            else:
                listing = draw_plan(
                    comparison,
                    preview,
                    taskfile=path,
                    start=shlex.join(["launcher", "run", path, *options]),
                    tree=_tree(plan),
                    width=shutil.get_terminal_size((WIDTH, 24)).columns,
                    everything=form is Form.ALL,
                    refusals=reasons,
                    snapshot="" if snapshot is None else str(snapshot),
                )
                lines += ["", listing] if lines else [listing]
        _warn_of_files(store, comparisons)
    if form is Form.JSON:
        print_json(records[0] if len(records) == 1 else {"plans": records})
    for line in lines:
        click.echo(line)
    _warn_of_gpus(home, comparisons)
    return UsageError.exit_code if refused and form is not Form.JSON else 0


def _tree(plan: Plan) -> WorkTree | None:
    """Return the working tree, with those changes that decide results of the plan."""
    sources = {id(job.sources): job.sources for job in plan.jobs}  # jobs of a kind share one
    modules = {module for each in sources.values() for module in each}
    index = plan.index
    files = {} if index is None else {each: file for each in modules if (file := index.file(each))}
    return worktree(Path.cwd(), files)


def _account_with_share(store: Store | None, plan: Plan) -> FairShareAccount:
    """Return the account of a plan's run, with the share that it would have."""
    account = (
        FairShareAccount()
        if store is None
        else read_fair_share_account(store.database.execute, Path.cwd(), plan.name)
    )
    return account if plan.share is None else account._replace(share=plan.share)


def _warn(plan: Plan, reasons: Sequence[str]) -> None:
    """Print on stderr the warnings and refusals that a listing prints below its jobs."""
    for warning in plan.warnings:
        print_stderr(str(warning))
    if reasons:
        print_stderr(refusal(reasons))
