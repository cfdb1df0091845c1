"""`launcher edit`, `launcher retry`: change what jobs ask for, and queue those again that have ended.

The command starts the user's editor on a temporary file, waits for its end, and reads the text back.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.frontends.cli.complete import offer_jobs
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.job_selection import (
    EXIT_ABORTED,
    NOTHING_CHANGED,
    PATTERN_HELP,
    dry_run_option,
    filter_by_state,
    names_job,
    only_job,
    optional_patterns,
    pattern_command,
    print_jobs,
    print_planned_changes,
    select,
)
from launcher.frontends.cli.option_types import Command, flag
from launcher.frontends.screens.job_changes import HELD_AGAIN, RETRY
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, State
from launcher.queue.store.client import (
    check_database_current,
    clear_stop,
    note_if_stopped,
    open_queue,
)
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.steering import trial_changes
from launcher.system.errors import MachineError, Problem, TaskFileError, UsageError, pluralize
from launcher.system.stored_fields import Unreadable
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal

if TYPE_CHECKING:
    from launcher.experiments.planning.revision import Revision


VARIABLES = ("VISUAL", "EDITOR")
_USUAL = ("sensible-editor", "nano", "vi")


def _set_option(occasion: str) -> Callable[[Command], Command]:
    return click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Change a value {occasion}: resources.vram=16GiB. Repeatable.",
    )


class EditorFailed(MachineError):
    """The editor could not be started, or ended with an error."""


def editor_argv(environment: Mapping[str, str]) -> list[str]:
    """Return the command line of the editor, without the file.

    Raises:
        UsageError: none is set and none is installed; or the variable cannot be read.
    """
    for name in VARIABLES:
        text = environment.get(name, "").strip()
        if text:
            try:
                argv = shlex.split(text)
            except ValueError as error:
                raise UsageError(
                    f"{name} is {text!r}, which is not a command line: {error}"
                ) from None
            if not argv or not argv[0]:
                raise UsageError(f"{name} is {text!r}, which does not name a program")
            return argv
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal for an editor. Change values with --set KEY=VALUE")
    for program in _USUAL:
        if path := shutil.which(program):
            return [path]
    raise UsageError("no editor found. Set the variable EDITOR, for example to nano.")


def _run_editor(path: Path, text: str) -> str:
    """Write a text, wait for the editor, and return what is there then.

    Raises:
        EditorFailed: the editor failed, so the requested changes are unknown.
        UsageError: there is no editor, or the text is not UTF-8.
    """
    path.write_text(text, encoding="utf-8")
    argv = editor_argv(os.environ)
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the editor's
    try:
        code = subprocess.run([*argv, str(path)], check=False).returncode
    except OSError as error:
        why = error.strerror or str(error)
        raise EditorFailed(
            f"cannot start the editor {sanitize_terminal(argv[0])} ({why})"
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        raise EditorFailed(f"the editor {sanitize_terminal(argv[0])} failed ({how})")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise UsageError(f"the editor saved a file that is not valid UTF-8: {error}") from error


@launcher_command(
    epilog=f"JOB: {PATTERN_HELP}",
    heading="Change",
    place=40,
    offered_states=(State.QUEUED, State.HELD, State.FAILED),
    other_names={"JOB": "modify update change"},
)
@click.argument("job", shell_complete=offer_jobs)
@_set_option("without an editor")
@flag("--force", help="Also change a finished job and run it again.")
@dry_run_option
def command(job: str, sets: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Change a waiting job in your editor.

    The editor is $VISUAL or $EDITOR. The job keeps its place in the queue. A failed, cancelled or skipped
    job is queued again. Nothing changes if you save the file unchanged or empty, or if the editor fails.

    You can change resources and options, and for programs argv, cwd and env. To change what an experiment
    computes, edit its task file and run it.

    \b
    Examples:
      launcher edit 12
      launcher edit train/gan2:pre --set resources.vram=16GiB
    """
    with open_queue() as (home, store):
        row = only_job(store, job)
        _refuse(row, sets, force=force)
        changed = _changes(home, store, [row], sets).get(row.id)
        revision = changed if sets else _edit_revision(home, store, row)
        if revision is None:
            print_stderr(f"job {row.id} is unchanged")
            return
        if dry_run:
            again = "" if row.state in OPEN_STATES else "be queued again, "
            _check_names(store, [revision])
            print_planned_changes([row], lambda _: f"{again}change: {revision.summary}")
            return
        check_database_current(home, store)
        _write(home, store, revision)


def _refuse(row: JobRow, sets: Sequence[str], *, force: bool) -> None:
    """Refuse a job that runs, or is done.

    Raises:
        UsageError: says what to do instead.
    """
    again = shlex.join(["launcher", "edit", str(row.id), *_set_options(sets)])
    if row.state is State.RUNNING:
        raise UsageError(
            f"job {row.id} is running and cannot be changed. Cancel it first: launcher cancel {row.id}. "
            f"Then change it and queue it again: {again}"
        )
    if row.state is State.DONE and not force:
        raise UsageError(f"job {row.id} is done. To change it and run it again: {again} --force")


def _set_options(sets: Sequence[str]) -> list[str]:
    return [word for text in sets for word in ("--set", text)]


def _edit_revision(home: Home, store: Store, row: JobRow) -> "Revision | None":
    """Return the changes of a job by its owner, None if there are none."""
    from launcher.experiments.functions.plan_checks import check_revisions
    from launcher.experiments.planning.revision import job_text, own_values, read_form, revise

    what = "" if row.state in OPEN_STATES else " A change queues it again."
    title = f"{sanitize_terminal(row.name)} of run {sanitize_terminal(row.run)}, job {row.id}: {row.state}.{what}"
    text = original = job_text(row, title)
    before = own_values(row, time.time())
    folder = Path(tempfile.mkdtemp(prefix="launcher-edit-"))  # readable for the user alone
    file = folder / f"job-{row.id}.yaml"
    keep = False
    try:
        while True:
            text = _run_editor(file, text)
            if text == original or not text.strip():
                return None
            try:
                revision = revise(store, row, before, read_form(row, text, time.time()))
                check_revisions(home, store, [revision] if revision else [])
            except UsageError as error:
                _print_text_errors(error)
                keep = True  # the user's text is worth more than the folder
                if not _confirm_editing_again():
                    print_stderr(f"{NOTHING_CHANGED}; your text is kept in {file}")
                    code = EXIT_ABORTED if sys.stdin.isatty() else error.exit_code
                    raise click.exceptions.Exit(code) from error
                keep = False
            else:
                return revision
    except EditorFailed as error:
        raise EditorFailed(f"{error}. The job is unchanged.") from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _print_text_errors(error: UsageError) -> None:
    """Print the errors of the edited text."""
    if not isinstance(error, TaskFileError):
        print_stderr(f"error: {sanitize_terminal(str(error))}")
        return
    problems: Sequence[Problem] = error.problems
    print_stderr("\n\n".join(map(str, problems)))
    print_stderr(f"\n{pluralize(len(problems), 'error')}")


def _confirm_editing_again() -> bool:
    """Ask whether to edit the text again; return False without a terminal."""
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("edit again?", default=True, err=True)
    except click.Abort:
        print_stderr("")
        return False


def _write(home: Home, store: Store, revision: "Revision") -> None:
    row = revision.row
    if row.state not in OPEN_STATES:
        _requeue(home, store, {row.id}, {row.id: revision}, others="with it")
        return
    with store.database.writing():
        _check_names(store, [revision])
        store.job_control.change_jobs([revision.to_changed_job()], time.time())
    wake(home)
    print_jobs(store.read.jobs_by_id([row.id]), lambda _: f"changed: {revision.summary}")
    note_if_stopped(home)


@pattern_command(
    heading="Change",
    place=20,
    offered_states=(State.FAILED, State.CANCELLED, State.SKIPPED),
    other_names={"JOB": "restart rerun requeue resubmit"},
)
@optional_patterns
@flag("--failed", help="Retry failed jobs: all, or those that match PATTERN.")
@flag("--force", help="Also run finished jobs again.")
@flag(
    "--snapshot", help="Run the present code, from a copy of it as with `launcher add --snapshot`."
)
@flag(
    "--environment",
    help="Run in the present environment: with the variables, PATH and Python of this command.",
)
@_set_option("first")
@flag("-y", "--yes", help="Also queue cancelled jobs again, without a question.")
@dry_run_option
def retry(
    patterns: tuple[str, ...],
    failed: bool,
    force: bool,
    snapshot: bool,
    environment: bool,
    sets: tuple[str, ...],
    yes: bool,
    dry_run: bool,
) -> None:
    """Queue failed, cancelled or skipped jobs again.

    Jobs they depend on, and jobs skipped because of them, are queued too. Retries count from zero. A job
    that was held when it was cancelled is held again. A future --not-before still applies. A job replaced
    by a newer job of the same name is queued only if PATTERN is its number or whole name.

    --set also changes a value of a sweep. The name of the job follows. A finished job keeps its result, and
    a new job gets the value.

    If PATTERN matches failed and cancelled jobs, the cancelled ones are queued only with --yes or after a question.

    A job that was queued with --snapshot runs the same copy of its code again, unless you write --snapshot.
    A job runs in the environment in which it was queued, unless you write --environment.

    \b
    Examples:
      launcher retry --failed
      launcher retry 'train/*' --dry-run
      launcher retry 12 --set resources.vram=16GiB --set resources.time_limit=8h
      launcher retry 'fit@lr=0.5' --set lr=0.2
    """
    with open_queue() as (home, store):
        chosen = _select_retries(home, store, patterns, only_failed=failed, force=force, sets=sets)
        if not yes:
            chosen = _leave_out_cancelled(store, chosen, patterns, dry_run=dry_run)
        numbers = {job.id for job in chosen}
        changes = _changes(home, store, chosen, sets)
        if not force:
            _refuse_done(chosen, changes)
        if any(change.is_new_job for change in changes.values()):
            _refuse_retaken(snapshot=snapshot, environment=environment)
        if dry_run:
            _check_names(store, changes.values())
            again = numbers - {job for job in changes if changes[job].is_new_job}
            queued = store.job_control.jobs_to_retry(again)
            held = store.job_control.previously_held(queued)
            rows = store.read.jobs_by_id({*queued, *numbers})
            print_planned_changes(rows, lambda job: f"be {_outcome(job, numbers, held, changes)}")
        else:
            _requeue(home, store, numbers, changes, snapshot=snapshot, environment=environment)


def _refuse_retaken(*, snapshot: bool, environment: bool) -> None:
    """Refuse another context for the copy of a finished job.

    Raises:
        UsageError: one is requested.
    """
    if snapshot or environment:
        option, words = ("--snapshot", " --snapshot") if snapshot else ("--environment", "")
        raise UsageError(
            f"{option} cannot be combined with --set of a finished job. "
            f"Queue the new job: launcher add{words}"
        )


def _leave_out_cancelled(
    store: Store, jobs: list[JobRow], patterns: Sequence[str], *, dry_run: bool
) -> list[JobRow]:
    """Return jobs without those that were cancelled, unless a user names or confirms them, or all were cancelled.

    Args:
        store: Database of the queue.
        jobs: Selected jobs.
        patterns: Patterns that select them.
        dry_run: Whether to ask nothing.
    """
    cancelled = {
        job.id
        for job in jobs
        if job.state is State.CANCELLED and not any(names_job(pattern, job) for pattern in patterns)
    }
    if not cancelled or len(cancelled) == len(jobs):
        return jobs
    noun = f"{pluralize(len(cancelled), 'cancelled job')}"
    if sys.stdin.isatty() and not dry_run:
        if click.confirm(f"also queue {noun} again?", err=True):
            return jobs
    else:
        words = shlex.join(["launcher", "retry", *patterns, "--yes"])
        print_stderr(f"note: {noun} left out. To queue cancelled jobs again, too: {words}")
    retried_with = store.job_control.jobs_to_retry
    return [
        job
        for job in jobs
        if job.id not in cancelled
        and not (job.state is State.SKIPPED and cancelled & {*retried_with({job.id})})
    ]


def _refuse_done(selected_jobs: Sequence[JobRow], changes: "Mapping[int, Revision]") -> None:
    """Refuse done jobs that already have the values of `--set`.

    Raises:
        UsageError: there is one.
    """
    for job in selected_jobs:
        if job.state is State.DONE and (job.id not in changes or not changes[job.id].is_new_job):
            raise UsageError(
                f"job {job.id} already has these values and is done. To run it again: launcher retry {job.id} --force"
            )


def _check_names(store: Store, revisions: "Iterable[Revision]") -> None:
    from launcher.experiments.planning.revision import check_new_names  # pydantic

    revisions = [*revisions]
    check_new_names(store, revisions)
    if store.read.snapshots(revision.row.id for revision in revisions):
        # few jobs have a revised specification
        from launcher.experiments.functions.job_snapshots import check_revised

        for revision in revisions:
            check_revised(store, revision.row.id, revision.spec)


def _requeue(
    home: Home,
    store: Store,
    numbers: Collection[int],
    changes: "Mapping[int, Revision]",
    *,
    others: str = "with them",
    snapshot: bool = False,
    environment: bool = False,
) -> None:
    """Queue ended jobs, and print the new state of these jobs and of those that are queued with them."""
    stored = [change.to_changed_job() for change in changes.values() if not change.is_new_job]
    copies = [change for change in changes.values() if change.is_new_job]
    again = {*numbers} - {change.row.id for change in copies}
    now = time.time()
    copied: dict[int, Revision] = {}
    with ExitStack() as stack:
        retaken = []
        if snapshot or environment:
            from launcher.experiments.functions.job_snapshots import (
                contexts_retaken,  # few commands need this module
            )

            rows = store.read.jobs_by_id(store.job_control.jobs_to_retry(again))
            revised = {change.row.id: change.spec for change in changes.values()}
            retaken = stack.enter_context(
                contexts_retaken(store, rows, revised, snapshot=snapshot, environment=environment)
            )
        if changes or retaken:
            with store.database.writing():
                _check_names(store, changes.values())
                for each in retaken:
                    store.renew_context(each.job, each.context, each.code, now)
                queued = store.job_control.retry(again, now, stored)
                copied = {_insert_copy(store, change, now): change for change in copies}
        else:
            queued = store.job_control.retry(again, now)
    clear_stop(home)  # prints that
    RETRY.notify_scheduler(home, ())
    rows = store.read.jobs_by_id([*queued, *copied])
    held = {row.id for row in rows if row.state is State.HELD}

    def outcome(job: JobRow) -> str:
        if job.id in copied:
            done = copied[job.id].row
            return f"queued with {copied[job.id].summary}. Job {done.id} {sanitize_terminal(done.name)} is unchanged"
        return _outcome(job, numbers, held, changes, others)

    print_jobs(rows, outcome)
    if not snapshot:
        _print_snapshots(store, [*queued, *copied])
    if held:
        print_stderr(
            f"note: {pluralize(len(held), 'job')} {'is' if len(held) == 1 else 'are'} held again. "
            "Let them start: launcher release"
        )


def _print_snapshots(store: Store, jobs: Sequence[int]) -> None:
    """Print which jobs run the code of a snapshot again, and how to run the present code."""
    found = store.read.snapshots(jobs)
    if found:
        keys = ", ".join(dict.fromkeys(each.key for each in found.values()))
        words = " ".join(map(str, [*found][:1] if len(found) == 1 else ["PATTERN"]))
        print_stderr(
            f"note: {pluralize(len(found), 'job')} {'runs' if len(found) == 1 else 'run'} the code of "
            f"snapshot {keys}. To run the present code: launcher retry {words} --snapshot"
        )


def _insert_copy(store: Store, revision: "Revision", now: float) -> int:
    """Queue the job that gets the changes of one that is done. Inside `writing`.

    Raises:
        UsageError: the environment of the done job cannot be read.
    """
    row = revision.row
    try:
        job = store.insert_copy(row, revision.spec, revision.new_job_reason(), now)
    except Unreadable as error:
        raise UsageError(f"job {row.id} cannot be queued with other values: {error}") from error
    store.searches.copy_trial(row.id, job, trial_changes(row.spec_without_sources, revision.spec))
    return job


def _outcome(
    job: JobRow,
    chosen_jobs: Collection[int],
    held_jobs: Collection[int],
    changes: "Mapping[int, Revision]",
    others: str = "with them",
) -> str:
    if job.id in changes and changes[job.id].is_new_job:
        return f"left unchanged, and a new job queued: {changes[job.id].summary}"
    outcome = HELD_AGAIN if job.id in held_jobs else RETRY.did
    with_them = "" if job.id in chosen_jobs else f" {others}"
    changed = f", changed: {changes[job.id].summary}" if job.id in changes else ""
    return f"{outcome}{with_them}{changed}"


def _select_retries(
    home: Home,
    store: Store,
    patterns: Sequence[str],
    *,
    only_failed: bool,
    force: bool,
    sets: Sequence[str],
) -> list[JobRow]:
    if not patterns and not only_failed:
        raise UsageError("no jobs selected. Choose jobs with a PATTERN or --failed.")
    if not patterns:
        failed_jobs = store.read.jobs_in_state(State.FAILED)
        superseded = newest_by_superseded(store.database.execute, failed_jobs)
        failed_jobs = [job for job in failed_jobs if job.id not in superseded]
        if not failed_jobs:
            raise UsageError(
                "nothing to retry. No job has failed; choose other jobs with a PATTERN."
            )
        return failed_jobs
    states = {State.FAILED} if only_failed else ENDED_STATES if force else RETRY.states
    jobs = select(store, patterns, current=True)
    if sets and not only_failed and not force:
        from launcher.experiments.planning.revision import changes_sweep  # pydantic

        if any(job.state is State.DONE and changes_sweep(job, sets) for job in jobs):
            return filter_by_state(jobs, ENDED_STATES, RETRY.verb)
    if not force and all(job.state is State.DONE for job in jobs):
        _changes(home, store, jobs, sets)  # an invalid --set is reported first
        command = f"launcher retry {shlex.join([*patterns, *_set_options(sets)])} --force"
        which = f"job {jobs[0].id} is" if len(jobs) == 1 else f"all {len(jobs):,} jobs are"
        it = "it" if len(jobs) == 1 else "them"
        raise UsageError(f"{which} done. To run {it} again: {command}")
    return filter_by_state(jobs, states, RETRY.verb)


def _changes(
    home: Home, store: Store, jobs: Sequence[JobRow], sets: Sequence[str]
) -> "Mapping[int, Revision]":
    """Return how `--set` changes each job; one that has those values already is not among them.

    Raises:
        UsageError: one of them cannot be changed so; says which.
    """
    if not sets:
        return {}
    # kinds and pydantic, which no other verb of this family needs
    from launcher.experiments.functions.plan_checks import check_revisions
    from launcher.experiments.planning.revision import revise_all

    revisions = revise_all(store, jobs, sets, time.time())
    check_revisions(home, store, revisions.values())
    return revisions
