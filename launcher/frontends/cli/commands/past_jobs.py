"""The verbs about ended jobs: report their history, delete their files, and delete work that job types keep."""

import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import click

from launcher.frontends.cli.job_selection import (
    confirm_changes,
    dry_run_option,
    optional_patterns,
    pattern_command,
    print_jobs,
    print_planned_changes,
    print_unchanged,
    select,
    yes_option,
)
from launcher.frontends.cli.option_types import States, flag, json_option, span, whole_number
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.frontends.screens.history_view import (
    SECTIONS,
    columns,
    draw,
    headline,
    history_to_json,
)
from launcher.frontends.screens.pilot_table import LOCAL
from launcher.queue.backends.pilot_status import read_past_pilots
from launcher.queue.home.paths import Attempt, Home, find_home
from launcher.queue.job_options.value_types import in_known_zone
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.staging.earlier_stages import remove_attempt_stage
from launcher.queue.store.client import open_queue
from launcher.queue.store.forgotten_jobs import (
    ForgottenJob,
    add_forgotten,
    read_forgotten,
    remove_forgotten,
)
from launcher.queue.store.history import HistoryQueries
from launcher.queue.store.history_report import HistoryReport
from launcher.queue.store.queue import Store
from launcher.queue.store.retention import (
    OldCopies,
    RetentionRules,
    SkippedFolder,
    attempt_folders,
    deletable_bytes,
    delete_attempt_folder,
    delete_copies,
    deletion_refusal,
    find_old_copies,
    select_deletable,
)
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import format_job_names, iso_time, short_local_time
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.live_display import live_count
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextStyle, line
from launcher.system.units import format_bytes, parse_seconds

if TYPE_CHECKING:
    from launcher.experiments.kind_interface import Kept

NO_HISTORY = "no job has run or ended yet"
NAMED = 20  # folders that were left


@pattern_command(
    heading="Results",
    place=40,
    other_names={"": "sacct bhist past stats"},
)
@optional_patterns
@click.option(
    "--since",
    metavar="WHEN",
    help="Count only jobs since this time: 7d, 12h, or a day such as 2026-11-01.",
)
@click.option(
    "--by",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="Print only this section, with all of its lines. Repeatable.",
)
@json_option
def history(
    patterns: tuple[str, ...], since: str | None, sections: tuple[str, ...], as_json: bool
) -> None:
    """Summarize past jobs, GPU-hours and failures.

    By day and run: jobs per outcome, GPU-hours and core-hours. By cause: failed attempts. By memory: GPU
    memory requested and used, and the request for next time. By node, if there are several: jobs per node.

    In a pipe, one tab-separated line each, in seconds and bytes:

    \b
    day     date done failed cancelled skipped gpu-seconds core-seconds median
    run     name jobs done failed attempts gpu-seconds core-seconds
    cause   cause detail attempts seconds newest-job

    \b
    memory  name newest-job attempts declared asked peak beyond wasted ask
    node    name backend attempts done gpu-seconds core-seconds

    `beyond` counts attempts that used more than their reservation; `wasted` is in GiB-hours.

    \b
    Examples:
      launcher history
      launcher history --since 7d --by cause
      launcher history run:quickstart --json
    """
    now = time.time()
    begin = 0.0 if since is None else parse_since(since, now)
    home = find_home(os.environ)
    if home.exists():
        with open_queue() as (_, store):
            jobs = {job.id for job in select(store, patterns)} if patterns else None
            with store.database.reading():
                past = HistoryQueries(store.database, begin, now, jobs).build_report(
                    places_by_token(home)
                )
    elif patterns:
        with open_queue():  # `open_queue` reports a missing queue
            return
    else:
        past = HistoryReport()
    beginning = f" since {short_local_time(begin)}" if since else ""

    def draw_lines(width: int) -> list[TextLine]:
        head = [line(text, TextStyle.STRONG) for text in wrap(headline(past) + beginning, width)]
        return [*head, line(""), *draw(past, width, sections)]

    if past.days or as_json:
        answer = CommandOutput(
            record=lambda: {
                "since": iso_time(begin) if since else None,
                **history_to_json(past, sections),
            },
            rows=lambda: columns(past, sections),
            draw_lines=draw_lines,
        )
        print_output(answer, as_json=as_json)
    else:
        print_stderr(f"{NO_HISTORY}{beginning}")


def places_by_token(home: Home) -> dict[str, tuple[str, str]]:
    """Return backend and node of each pilot, and of this machine by ''."""
    places = {token: (past.backend, past.node) for token, past in read_past_pilots(home).items()}
    return places | {"": (LOCAL, os.uname().nodename)}


def parse_since(text: str, now: float) -> float:
    """Return the time that a person means: so long ago, or a local day or moment.

    Raises:
        UsageError: the text is no such time, or the time is still to come.
    """
    try:
        given = datetime.fromisoformat(text.strip())
        at = given.astimezone().timestamp()
        at = at if given.tzinfo else in_known_zone(at, text)
    except (ValueError, OverflowError):
        try:
            at = now - parse_seconds(text)
        except UsageError as error:
            raise UsageError(
                f"--since: expected a time such as 7d or 12h, or a day such as 2026-11-01, got {text!r}"
            ) from error
    if at > now:
        raise UsageError(
            f"--since {text} is in the future. Write an earlier day, or a time such as 7d."
        )
    return max(at, 0.0)


# --- deleting


@pattern_command(
    heading="Queue and machine",
    place=40,
    summary="Delete finished jobs and their logs.",
    offered_states=(State.FAILED, State.CANCELLED, State.SKIPPED),
    other_names={"--older 1d": "reset prune purge gc -C", "JOB": "rm delete remove"},
)
@optional_patterns
@click.option(
    "--older",
    type=span(),
    help="Delete jobs that ended longer ago than this time, such as 30d. Alone, also delete old backups "
    "(except the newest) and damaged databases.",
)
@click.option(
    "--state",
    "states",
    type=States(ENDED_STATES),
    help="Delete jobs in these states, such as failed,cancelled.",
)
@click.option(
    "--keep",
    type=whole_number(1),
    metavar="NUMBER",
    help="Delete all jobs except the newest NUMBER jobs of each run.",
)
@flag(
    "--features",
    help="Delete cached features instead of jobs; with --older, those not used for this time.",
)
@yes_option
@dry_run_option
def clean(
    patterns: tuple[str, ...],
    older: float | None,
    states: frozenset[State] | None,
    keep: int | None,
    features: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete finished jobs from the queue, with their logs and attempts.

    Give at least one option or PATTERN; only jobs that match all of them are deleted. Files below runs/ are
    never deleted. Jobs that an unfinished job or search needs are kept.

    A deleted job counts as new: `launcher run` runs it again, even if its files exist. Deleted features are
    computed again when a job needs them.

    \b
    Examples:
      launcher clean --older 30d --dry-run
      launcher clean --state failed,cancelled,skipped --yes
      launcher clean run:quickstart --keep 100
      launcher clean --features --older 30d
    """
    if features:
        if patterns or states is not None or keep is not None:
            raise UsageError(
                "--features can be combined only with --older, --yes and --dry-run. Remove the rest."
            )
        clean_features(older or 0.0, yes=yes, dry_run=dry_run)
        return
    if not patterns and older is None and states is None and keep is None:
        raise UsageError(
            "nothing selected. Choose jobs with a PATTERN, --older 30d, --state failed or --keep N."
        )
    rules = RetentionRules(
        min_age_s=older or 0.0, states=states or ENDED_STATES, keep_newest=keep or 0
    )
    with open_queue() as (home, store):
        left = [] if dry_run else _finish_interrupted(home, store)
        jobs = _select_jobs(store, patterns, rules)
        by_age = older is not None and not patterns and states is None and keep is None
        copies = (
            find_old_copies(home, time.time() - rules.min_age_s) if by_age else OldCopies(old=())
        )
        if not jobs and patterns:
            raise UsageError(
                "nothing to clean. The matching jobs have not ended, are needed by others, or are kept by an "
                "option."
            )
        if not jobs and not copies.old:
            if not dry_run:
                store.job_control.delete_unused_rows()
                _clean_snapshots(home, store)
            print_stderr("nothing to clean")
            _print_retained_copies(copies)
            _check_all_deleted(left)
            return
        if dry_run:
            _print_planned_deletion(home, jobs, copies, _sizes(_unused_calls(home, store, jobs)))
            return
        if not yes:
            confirm_changes(jobs, f"{_question(jobs, copies)}?", is_needed=True)
        _clean_up(home, store, jobs, copies, rules)


def _clean_up(
    home: Home, store: Store, jobs: Sequence[JobRow], copies: OldCopies, rules: RetentionRules
) -> None:
    """Forget jobs, delete their files and old copies, and print what became of each.

    Raises:
        MachineError: a folder could not be deleted.
    """
    cleaned = _clean(home, store, jobs, rules)
    store.job_control.delete_unused_rows()
    calls = _unused_calls(home, store, cleaned.deleted)  # calls that no job needs any more
    freed = cleaned.freed + copies.size + _sizes(calls)
    for path in calls:
        path.unlink(missing_ok=True)
    freed += _clean_snapshots(home, store)
    kept = delete_copies(copies.old)
    print_jobs(cleaned.deleted, _deletion_text)
    print_stderr(f"{_deleted_text(cleaned.deleted, copies)} deleted, {format_bytes(freed)} freed")
    _print_changed(cleaned.changed)
    _print_retained_copies(copies)
    for path, why in kept:
        print_stderr(f"not deleted: {sanitize_terminal(str(path))}: {why}")
    _check_all_deleted(cleaned.undeleted)


def _clean_snapshots(home: Home, store: Store) -> int:
    """Delete snapshots that no job needs any more; return the freed bytes, and print which stay."""
    if not home.snapshots.is_dir():
        return 0
    from launcher.experiments.functions.job_snapshots import (
        clean_snapshots,  # few queues have snapshots
    )

    freed, kept = clean_snapshots(store)
    for text in kept:
        print_stderr(f"kept: {sanitize_terminal(text)}")
    return freed


def _unused_calls(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[Path]:
    """Return the files of calls that no job needs once these jobs are forgotten."""
    from launcher.experiments.functions.calls import unused_calls  # cloudpickle

    return unused_calls(home, store, jobs)


def _select_jobs(store: Store, patterns: Sequence[str], rules: RetentionRules) -> list[JobRow]:
    now = time.time()
    jobs = select(store, patterns) if patterns else _jobs_ended_before(store, rules, now)
    allowed = _filter_by_rules(store, jobs, rules, now)
    free = store.job_control.deletable_jobs(job.id for job in allowed)
    return [job for job in allowed if job.id in free]


def _jobs_ended_before(store: Store, rules: RetentionRules, now: float) -> list[JobRow]:
    return store.read.ended_before(now - rules.min_age_s, rules.states)


def _filter_by_rules(
    store: Store, jobs: Iterable[JobRow], rules: RetentionRules, now: float
) -> list[JobRow]:
    """Return which of the jobs the rules let go."""
    ended = _newest_candidates(store, rules)
    kept = store.searches.kept_jobs()
    jobs = [job for job in jobs if job.id not in kept]
    return select_deletable(jobs, rules, ended_jobs=ended, now=now)


def _newest_candidates(store: Store, rules: RetentionRules) -> list[JobRow]:
    """Return all ended jobs, if the rules keep the newest of each run."""
    return store.read.ended_before(float("inf"), ENDED_STATES) if rules.keep_newest else []


class _CleanResult(NamedTuple):
    """The result of cleaning jobs."""

    deleted: list[JobRow]
    freed: int  # bytes
    undeleted: list[SkippedFolder]
    changed: list[JobRow]  # jobs that stay: they changed, or became needed, after the choice


def _clean(home: Home, store: Store, jobs: Sequence[JobRow], rules: RetentionRules) -> _CleanResult:
    """Forget jobs, then delete their folders."""
    left = {
        job.id: remnants
        for job in jobs
        if (remnants := _undeletable_folders(attempt_folders(home, job)))
    }
    going = [job for job in jobs if job.id not in left]
    gone: list[JobRow] = []
    # the newest first: what needs another of them goes before it
    ended = _newest_candidates(store, rules)
    with live_count("jobs deleted from the queue", len(going)) as count:

        def delete(batch: Sequence[JobRow]) -> None:
            gone.extend(_delete_jobs(home, store, batch, rules, ended))
            count(len(gone))

        store.database.write_in_portions(going[::-1], delete)
    freed, stuck = _delete_folders(home, store)
    numbers = {job.id for job in gone}
    return _CleanResult(
        deleted=sorted(gone, key=lambda job: job.id),
        freed=freed,
        undeleted=[*chain.from_iterable(left.values()), *stuck],
        changed=[job for job in going if job.id not in numbers],
    )


def _delete_jobs(
    home: Home,
    store: Store,
    jobs: Sequence[JobRow],
    rules: RetentionRules,
    ended_jobs: Sequence[JobRow],
) -> list[JobRow]:
    """Forget those of the chosen jobs that may still go; return them."""
    chosen = {job.id: (job.state, job.attempts, job.ended) for job in jobs}
    unchanged = [
        job
        for job in store.read.jobs_by_id(chosen)
        if chosen[job.id] == (job.state, job.attempts, job.ended)
    ]
    kept = store.searches.kept_jobs()
    allowed = [
        job
        for job in select_deletable(unchanged, rules, ended_jobs=ended_jobs, now=time.time())
        if job.id not in kept
    ]
    forgotten = set(store.job_control.delete_jobs(job.id for job in allowed))
    gone = [job for job in allowed if job.id in forgotten]
    with_folders = [job for job in gone if job.attempts]
    if with_folders:
        add_forgotten(
            home, [ForgottenJob(job.id, job.attempts, job.spec.run_folder) for job in with_folders]
        )
    return gone


def _delete_folders(home: Home, store: Store) -> tuple[int, list[SkippedFolder]]:
    """Delete the folders of forgotten jobs; return the freed bytes and the remaining folders."""
    freed, left, deleted = 0, list[SkippedFolder](), set[int]()
    jobs = read_forgotten(home, store)
    with live_count("jobs whose files were deleted", len(jobs)) as count:
        for number, job in enumerate(jobs):
            count(number)
            stuck = []
            for attempt in attempt_folders(home, job):
                size = deletable_bytes(attempt)
                if deletion_refusal(attempt) is None:
                    remove_attempt_stage(attempt, job.run_folder)
                remnant = delete_attempt_folder(attempt)
                freed += size if remnant is None else 0
                stuck += [remnant] if remnant else []
            left += stuck
            deleted |= set() if stuck else {job.id}
    remove_forgotten(home, store, deleted)
    return freed, left


def _finish_interrupted(home: Home, store: Store) -> list[SkippedFolder]:
    """Delete the folders that an interrupted `clean` has left; return those that cannot be deleted."""
    jobs = read_forgotten(home, store)
    if not jobs:
        return []
    freed, left = _delete_folders(home, store)
    what = f"{pluralize(len(jobs), 'job')} of an interrupted `launcher clean`"
    print_stderr(f"deleted the folders of {what}, {format_bytes(freed)} freed")
    return left


def _print_changed(jobs: Sequence[JobRow]) -> None:
    if jobs:
        were = "was" if len(jobs) == 1 else "were"
        print_stderr(
            f"{pluralize(len(jobs), 'job')} changed or became needed meanwhile and {were} kept: {format_job_names(jobs)}"
        )


def _undeletable_folders(attempts: Iterable[Attempt]) -> list[SkippedFolder]:
    """Return those of the folders that must not be deleted, and why."""
    return [
        SkippedFolder(attempt=attempt, why=why)
        for attempt in attempts
        if (why := deletion_refusal(attempt))
    ]


def _check_all_deleted(undeleted_folders: Sequence[SkippedFolder]) -> None:
    """Name the folders that are left.

    Raises:
        MachineError: there are some.
    """
    _print_undeleted(undeleted_folders)
    if undeleted_folders:
        raise MachineError(
            f"{pluralize(len(undeleted_folders), 'folder')} could not be deleted. "
            "Fix the problems above and run the command again."
        )


def _sizes(files: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in files)


def _print_planned_deletion(
    home: Home, jobs: Sequence[JobRow], copies: OldCopies, calls: int
) -> None:
    attempts = [attempt for job in jobs for attempt in attempt_folders(home, job)]
    left = _undeletable_folders(attempts)
    stays = sum(deletable_bytes(remnant.attempt) for remnant in left)
    freed = sum(map(deletable_bytes, attempts)) - stays + copies.size + calls
    for copy in copies.old:
        click.echo(f"would delete {sanitize_terminal(str(copy))}")
    _print_undeleted(left)
    _print_retained_copies(copies)
    done = _deleted_text(jobs, copies)
    print_stderr(f"{done} would be deleted, {format_bytes(freed)} would be freed")
    print_planned_changes(jobs, lambda job: f"be {_deletion_text(job)}")


def _deleted_text(jobs: Sequence[JobRow], copies: OldCopies) -> str:
    return " and ".join([pluralize(len(jobs), "job"), *_copies_text(copies)])


def _copies_text(copies: OldCopies) -> list[str]:
    number = len(copies.old)
    return [f"{number} old {'copy' if number == 1 else 'copies'} of the queue"] if number else []


def _question(jobs: Sequence[JobRow], copies: OldCopies) -> str:
    forget = f"delete {pluralize(len(jobs), 'job')} with the logs" if jobs else ""
    return " and ".join(
        filter(None, (forget, *(f"delete {copy}" for copy in _copies_text(copies))))
    )


def _print_retained_copies(copies: OldCopies) -> None:
    kept = {
        copies.newest_backup: (
            "the newest backup, from which a damaged queue is restored. Delete it yourself if its content "
            "must go."
        ),
        copies.undecided_damage: "until you decide what to do with the damaged queue",
    }
    for path, why in kept.items():
        if path is not None:
            print_stderr(f"kept: {sanitize_terminal(str(path))}, {why}")


def _print_undeleted(undeleted_folders: Sequence[SkippedFolder]) -> None:
    for remnant in undeleted_folders[:NAMED]:
        print_stderr(
            f"not deleted: {sanitize_terminal(str(remnant.attempt.folder))}: {remnant.why}"
        )
    if len(undeleted_folders) > NAMED:
        print_stderr(f"not deleted: {len(undeleted_folders) - NAMED:,} more folders")


def _deletion_text(job: JobRow) -> str:
    return f"deleted, {job.state}"


def clean_features(unused_s: float, *, yes: bool, dry_run: bool) -> None:
    """Delete what was not used for this many seconds; jobs compute it again where they need it.

    Args:
        unused_s: seconds since the last use.
        yes: do not ask.
        dry_run: print what would go, and delete nothing.

    Raises:
        UsageError: no installed kind keeps anything; or nobody can be asked.
        MachineError: something cannot be deleted.
    """
    # pydantic, and whatever the kinds import
    from launcher.experiments.kind_interface import KeepsWork
    from launcher.experiments.kinds import find_kinds

    keepers = [kind for kind in find_kinds().kinds.values() if isinstance(kind, KeepsWork)]
    if not keepers:
        raise UsageError("no installed job type caches features. List the types: launcher kinds")
    for keeper in keepers:
        kept = keeper.kept(unused_s=unused_s)
        named = f"{_files(kept)} in {sanitize_terminal(kept.folder)}, {format_bytes(kept.size)}"
        if not kept.files:
            print_stderr("nothing to clean")
        elif dry_run:
            click.echo(f"would delete {named}")
            print_unchanged()
        else:
            if not yes:
                confirm_changes([], f"delete {named}?", is_needed=True)
            gone = keeper.clear(unused_s=unused_s)
            print_stderr(f"{_files(gone)} deleted, {format_bytes(gone.size)} freed")
            if gone.files < kept.files:
                left = pluralize(kept.files - gone.files, "file")
                print_stderr(
                    f"not deleted: {left} in {sanitize_terminal(kept.folder)} that a job is writing"
                )


def _files(kept_results: "Kept") -> str:
    return pluralize(kept_results.files, "feature file")
