"""The verbs that change jobs which are queued, run or have ended: hold, release, priority, cancel, pause, resume, touch, tag, note."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import click

from launcher.cli.complete import offer_jobs
from launcher.cli.job_selection import (
    confirm_changes,
    dry_run_option,
    filter_by_state,
    open_searches,
    pattern_command,
    print_jobs,
    print_planned_changes,
    required_patterns,
    select,
    select_with_searches,
    yes_option,
)
from launcher.cli.option_types import PRIORITY, flag, json_option
from launcher.cli.touched_files import check_outputs, read_accepted_files, with_outputs
from launcher.errors import UsageError, pluralize
from launcher.screens.command_output import print_json, print_table
from launcher.screens.format import first_line, format_job_names, pause_reason, reserved_text
from launcher.screens.live_display import watch_hashing
from launcher.screens.terminal import print_stderr
from launcher.screens.text_table import TextTable, text_columns
from launcher.states import ENDED_STATES, OPEN_STATES, State
from launcher.store.client import note_if_stopped, open_queue, wake_or_start_scheduler
from launcher.store.queue import Store
from launcher.store.rows import AttemptRow, JobRow
from launcher.store.searches import CANCELLED, SearchRow, SearchState
from launcher.store.tags import TAG_RULE, check_note, is_tag
from launcher.system.daemon_control import wake
from launcher.system.file_digests import FileDigests
from launcher.system.paths import Home, find_home
from launcher.system.scheduler_start import ensure_scheduler
from launcher.system.text import sanitize_terminal, shell_line

_FEW = 5  # jobs that a note names
_EXAMPLE = "such as launcher tag 12 +paper"


class SelectedJobs(NamedTuple):
    """The jobs that a verb is about, each in a state in which it can be changed."""

    store: Store
    jobs: list[JobRow]
    dry_run: bool


class JobChange(NamedTuple):
    """The change of a verb to jobs, and its texts."""

    # returns the numbers of those that it changed
    apply: Callable[[list[int], float], Iterable[int]]
    would: Callable[[JobRow], str]  # text of the planned change of a job, behind "would"
    did: Callable[[JobRow], str]  # text of the change that was made to it
    notify_scheduler: Callable[[Home], object] = wake  # lets the scheduler know
    jobs: Sequence[JobRow] | None = None  # the chosen jobs that it concerns; None: all
    missed: str = (
        ""  # said of those that were not changed; '': that they changed before it could be done
    )


class SearchChange(NamedTuple):
    """The change of a verb to open searches of the runs that it names."""

    apply: Callable[[Store, SearchRow], object]
    done: str  # text of the change that was made
    cancels: bool = False  # jobs that it queues meanwhile are changed, too


def _pause_search(store: Store, search: SearchRow) -> None:
    store.searches.set_state(search.id, SearchState.PAUSED, only_from=SearchState.RUNNING)


def _resume_search(store: Store, search: SearchRow) -> None:
    store.searches.set_state(search.id, SearchState.RUNNING, only_from=SearchState.PAUSED)


def _end_search(store: Store, search: SearchRow) -> None:
    store.searches.end(search.id, CANCELLED, failed=False)


_SEARCH_PAUSED = SearchChange(_pause_search, "paused: no further trial starts")
_SEARCH_RESUMED = SearchChange(_resume_search, "resumed")
_SEARCH_CANCELLED = SearchChange(_end_search, "cancelled", cancels=True)


def _changing_command(
    what: str,
    states: Collection[State],
    on_search: SearchChange | None = None,
    **settings: Any,
) -> Callable[[Callable[..., JobChange]], click.Command]:
    """Return what makes a verb of a function that says how jobs in some states are changed.

    The verb selects the jobs, changes them, lets the scheduler know, and prints what became of each;
    in a rehearsal what would.

    Args:
        what: the change, as in "nothing to hold".
        states: where it is possible.
        on_search: the change of the searches of a run, None for no change.
        settings: of the command.
    """

    def verb(change_of: Callable[..., JobChange]) -> click.Command:
        @wraps(change_of)
        def steer(patterns: tuple[str, ...], dry_run: bool, **given: Any) -> None:
            with open_queue() as (home, store):
                searches, jobs = _select(store, patterns, states, what, on_search)
                if not jobs:
                    _change_searches(home, store, searches, on_search, dry_run=dry_run)
                    return
                change = change_of(SelectedJobs(store, jobs, dry_run), **given)
                jobs = jobs if change.jobs is None else [*change.jobs]
                if dry_run:
                    print_planned_changes(jobs, change.would)
                    return
                jobs += _change_searches(home, store, searches, on_search, dry_run=False)
                jobs = [*{job.id: job for job in jobs}.values()]
                touched = {*change.apply([job.id for job in jobs], time.time())}
                print_jobs([job for job in jobs if job.id in touched], change.did)
                change.notify_scheduler(home)
            if left := [job for job in jobs if job.id not in touched]:
                why = change.missed or "unchanged, the state changed meanwhile"
                print_stderr(f"{why}: {format_job_names(left)}")

        return pattern_command(**settings)(steer)

    return verb


def _select(
    store: Store,
    patterns: Sequence[str],
    states: Collection[State],
    what: str,
    on_search: SearchChange | None,
) -> tuple[list[SearchRow], list[JobRow]]:
    """Return the searches and the jobs that a verb changes, at least one of them.

    Raises:
        UsageError: there is nothing to change.
    """
    searches = [each for found in open_searches(store, patterns).values() for each in found]
    if on_search is None or not searches:
        return [], filter_by_state(select(store, patterns), states, what)
    jobs, _ = select_with_searches(store, patterns)
    return searches, [job for job in jobs if job.state in states]


def _change_searches(
    home: Home,
    store: Store,
    searches: Sequence[SearchRow],
    change: SearchChange | None,
    *,
    dry_run: bool,
) -> list[JobRow]:
    """Change searches, and print that. Return the jobs that they queued meanwhile, if these are changed, too."""
    if change is None:
        return []
    for search in searches:
        if not dry_run:
            change.apply(store, search)
        would = "would be " if dry_run else ""
        run = sanitize_terminal(search.run)
        click.echo(f"search of run {run}\t{would}{change.done}")
    if searches:
        wake(home)
    if dry_run or not change.cancels:
        return []
    return [*store.read.jobs_by_id(store.searches.open_jobs(each.id for each in searches))]


def _wake_or_start(home: Home) -> None:
    wake(home)
    ensure_scheduler(home)


def _set_off(home: Home) -> None:
    wake_or_start_scheduler(home)
    note_if_stopped(home)


@_changing_command("hold", {State.QUEUED}, _SEARCH_PAUSED)
@required_patterns
@dry_run_option
def hold(chosen: SelectedJobs) -> JobChange:
    """Keep queued jobs from starting.

    They start after `launcher release`. Running jobs are not affected. A search of a run is paused.

    \b
    Examples:
      launcher hold 'train/*'
      launcher hold run:quickstart --dry-run
    """
    return JobChange(chosen.store.job_control.hold, lambda _: "be held", lambda _: "held")


@_changing_command("release", {State.HELD}, _SEARCH_RESUMED)
@required_patterns
@dry_run_option
def release(chosen: SelectedJobs) -> JobChange:
    """Let held jobs start.

    Jobs are held by `launcher hold` and `launcher add --hold`, and if too many jobs of their command failed.

    \b
    Examples:
      launcher release 'train/*'
      launcher release 12 13
    """
    return JobChange(
        chosen.store.job_control.release, lambda _: "be released", lambda _: "released", _set_off
    )


# a negative number is not an option
@_changing_command(
    "change", {State.QUEUED, State.HELD}, context_settings={"ignore_unknown_options": True}
)
@click.argument("number", type=PRIORITY)
@required_patterns
@dry_run_option
def priority(chosen: SelectedJobs, number: int) -> JobChange:
    """Set the priority of waiting jobs.

    Higher starts earlier; the default is 0. One point is worth a day of waiting: a job with priority 1
    starts before jobs with priority 0 that were queued less than a day earlier.

    \b
    Examples:
      launcher priority 10 'train/*'
      launcher priority -1 run:quickstart
    """
    return JobChange(
        lambda numbers, _: chosen.store.job_control.set_priority(numbers, number),
        lambda job: f"get priority {job.priority} → {number}",
        lambda job: f"priority {job.priority} → {number}",
    )


@_changing_command("cancel", OPEN_STATES, _SEARCH_CANCELLED)
@required_patterns
@flag(
    "--now",
    "at_once",
    help="Kill running jobs with SIGKILL at once, also those that are ending already.",
)
@yes_option
@dry_run_option
def cancel(chosen: SelectedJobs, at_once: bool, yes: bool) -> JobChange:
    """Cancel jobs.

    Waiting jobs are removed from the queue. Running jobs, with their child processes, get SIGTERM, and
    SIGKILL after the grace period (30 s by default). With --now, they cannot save their work. Jobs that
    depend on cancelled jobs are skipped. `cancel run:NAME` also ends the searches of the run.

    In scripts, use --yes: there is no terminal to ask for confirmation.

    \b
    Examples:
      launcher cancel 'test/*'
      launcher cancel run:quickstart --yes
      launcher cancel --now 12 --yes
    """
    store, jobs, dry_run = chosen
    running = [job for job in jobs if job.state is State.RUNNING]
    if needy := store.read.dependents_of(job.id for job in jobs):
        need = f"{pluralize(len(needy), 'job')} that {'depends' if len(needy) == 1 else 'depend'} on them"
        would = "would" if dry_run else "will"
        print_stderr(f"{need} {would} be skipped: {format_job_names(needy)}")
    if not (dry_run or yes) and (running or len(jobs) > 1):
        what = f"{'kill' if at_once else 'end'} {pluralize(len(running), 'running job')}"
        if not running:
            what = f"cancel {pluralize(len(jobs), 'job')}"
        confirm_changes(jobs, f"{what}?", needed=bool(running))
    return JobChange(
        partial(store.job_control.cancel, at_once=at_once),
        lambda job: _cancel_text(job, "be killed" if at_once else "be ended", "be cancelled"),
        lambda job: _cancel_text(job, "killed" if at_once else "ending", "cancelled"),
        _wake_or_start if running else wake,
    )


@_changing_command("accept", ENDED_STATES)
@required_patterns
@yes_option
@dry_run_option
def touch(chosen: SelectedJobs, yes: bool) -> JobChange:
    """Accept the files of ended programs as they are.

    The jobs count as done without running. Their outputs and inputs are recorded as they are now, so the next
    `launcher run` does not run them. Jobs that read an output run again only if its content has changed.

    Use it if you made an output yourself, or if a change of an input does not matter. Each output must exist, and
    no running job may write it.
    A changed entry of the task file still runs, also if a new file matches an input pattern of it. To run
    an accepted job: `launcher retry --force`.

    \b
    Examples:
      launcher touch 12 --dry-run
      launcher touch run:quickstart --yes
    """
    jobs, others = with_outputs(chosen.jobs)
    check_outputs(jobs)
    chosen.store.job_control.check_no_writer(jobs)
    if others:
        print_stderr(f"unchanged, not programs with outputs: {format_job_names(others)}")
    if not (chosen.dry_run or yes) and len(jobs) > 1:
        confirm_changes(jobs, f"accept the files of {pluralize(len(jobs), 'job')}?", needed=True)

    def accept(numbers: list[int], now: float) -> list[int]:
        digests = FileDigests(find_home(os.environ).digests, watch_hashing())
        control = chosen.store.job_control
        control.accept_files([read_accepted_files(chosen.store, job, digests) for job in jobs], now)
        digests.save()
        if skipped := control.skipped_after(numbers):
            them = " ".join(str(job.id) for job in skipped[:_FEW])
            more = f" and {len(skipped) - _FEW} more" if len(skipped) > _FEW else ""
            were = "was" if len(skipped) == 1 else "were"
            print_stderr(
                f"note: {pluralize(len(skipped), 'job')} {were} skipped before. To run: launcher retry {them}{more}"
            )
        return numbers

    return JobChange(
        accept,
        lambda job: f"be accepted ({job.state})",
        lambda job: (
            "accepted" if job.state is State.DONE else f"accepted, not run ({job.state} before)"
        ),
        wake,
        jobs,
    )


def _cancel_text(job: JobRow, running: str, waiting: str) -> str:
    """Return what is said of a job that is cancelled: one text if it runs, the other if it waits."""
    return running if job.state is State.RUNNING else waiting


# --- standing still


@_changing_command("pause", {State.RUNNING}, _SEARCH_PAUSED)
@required_patterns
@dry_run_option
def pause(chosen: SelectedJobs) -> JobChange:
    """Pause running jobs until `launcher resume`.

    All processes of a job are stopped (SIGSTOP). Reserved cores, memory and GPU memory stay reserved, and
    the job keeps its data in GPU memory. The pause does not count toward the time limit, the run time or
    the share of the run. GPU-hours in `launcher history`, and those that are compared with other users,
    include it. `launcher cancel` also ends paused jobs. `launcher group NAME --pause` lets no waiting job
    of a group start.

    \b
    Examples:
      launcher pause train/gan2:pre
      launcher pause 12 13
    """
    store = chosen.store
    attempts = store.read.newest_attempts(job.id for job in chosen.jobs)
    jobs = _jobs_on_this_machine(chosen.jobs, attempts)
    places = {job.id: (attempts[job.id].device, attempts[job.id].vram) for job in jobs}

    def apply_pause(_: list[int], now: float) -> list[int]:
        reasons = {number: pause_reason(*place, now) for number, place in places.items()}
        return store.job_control.pause(reasons, now)

    def paused_text(job: JobRow) -> str:
        stays = reserved_text(*places[job.id])
        return f"paused; {stays}" if stays else "paused"

    missed = "unchanged, already paused or about to end"
    return JobChange(
        apply_pause, lambda job: f"be {paused_text(job)}", paused_text, _wake_or_start, jobs, missed
    )


def _jobs_on_this_machine(jobs: list[JobRow], attempts: Mapping[int, AttemptRow]) -> list[JobRow]:
    """Return the jobs that run on this machine; name the others.

    Raises:
        UsageError: none does.
    """
    elsewhere = [job for job in jobs if attempts[job.id].pilot]
    here = [job for job in jobs if not attempts[job.id].pilot]
    if elsewhere:
        why = "jobs on cluster nodes cannot be paused, as their allocation would expire"
        if not here:
            raise UsageError(f"nothing to pause: {why}. The jobs are {format_job_names(elsewhere)}")
        print_stderr(f"unchanged: {format_job_names(elsewhere)} ({why})")
    return here


@_changing_command("resume", {State.RUNNING}, _SEARCH_RESUMED)
@required_patterns
@dry_run_option
def resume(chosen: SelectedJobs) -> JobChange:
    """Continue paused jobs.

    Jobs are paused by `launcher pause`.

    \b
    Examples:
      launcher resume train/gan2:pre
      launcher resume run:quickstart --dry-run
    """
    paused = [job for job in chosen.jobs if job.paused is not None]
    if not paused:
        raise UsageError(
            f"nothing to resume. These jobs are not paused: {format_job_names(chosen.jobs)}"
        )
    steering = chosen.store.job_control
    return JobChange(
        steering.resume, lambda _: "be resumed", lambda _: "resumed", _wake_or_start, paused
    )


# --- what owners write on jobs to find them again


@pattern_command(
    # -old is a tag to be taken away, so no option of this verb is one letter
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument(
    "words", nargs=-1, metavar="[PATTERN]… [+TAG]… [-TAG]…", shell_complete=offer_jobs
)  # fmt: skip
@flag("--dry-run", help="Print the changes without making them.")
@json_option
def tag(words: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Add tags to jobs (+TAG), remove tags (-TAG), or list them.

    Without +TAG and -TAG, the tags of the jobs are listed; without PATTERN, all tags. Every command that
    takes PATTERN selects jobs by tag: tag:NAME, or a pattern such as 'tag:pap*'.

    \b
    Examples:
      launcher tag run:quickstart +paper
      launcher tag 12 13 +baseline -old
    """
    if words == ("-h",):
        click.echo(click.get_current_context().get_help())
        return
    add, remove = (_tags(words, sign) for sign in "+-")
    patterns = [word for word in words if word[:1] not in {"+", "-"}]
    if twice := {*add} & {*remove}:
        raise UsageError(
            f"tag {min(twice)!r} cannot be both added and removed. Remove one of them."
        )
    if (add or remove) and not patterns:
        raise UsageError(f"missing PATTERN. Name the jobs, {_EXAMPLE}")
    if (add or remove) and as_json:
        raise UsageError("--json only lists tags. Remove --json, or +TAG and -TAG.")
    with open_queue() as (_, store):
        if not patterns:
            numbers = store.job_control.all_tags()
            print_table(
                {"tags": [{"tag": tag, "jobs": number} for tag, number in numbers.items()]},
                TextTable(text_columns("TAG", "JOBS", numbers={1}), numbers.items()),
                as_json=as_json,
                empty_text=f"no job has a tag. Add one, {_EXAMPLE}",
            )
            return
        jobs = _select_or_suggest_tag(store, patterns, words)
        tags = store.job_control.tags_of(job.id for job in jobs)
        if as_json:
            records = [
                {"id": job.id, "name": sanitize_terminal(job.name), "tags": tags.get(job.id, [])}
                for job in jobs
            ]
            print_json({"jobs": records})
            return
        if not (add or remove):
            print_jobs(jobs, lambda job: ", ".join(tags.get(job.id, ())))
            return
        changes = " ".join([*(f"+{tag}" for tag in add), *(f"-{tag}" for tag in remove)])
        if dry_run:
            print_planned_changes(jobs, lambda _: f"get {changes}")
            return
        touched = {*store.job_control.change_tags([job.id for job in jobs], add, remove)}
        tags = store.job_control.tags_of(job.id for job in jobs)

    def now(job: JobRow) -> str:
        has = f"tags: {', '.join(tags[job.id])}" if tags.get(job.id) else "no tags"
        return has if job.id in touched else f"{has} (as before)"

    print_jobs(jobs, now)


def _select_or_suggest_tag(
    store: Store, patterns: Sequence[str], words: Sequence[str]
) -> list[JobRow]:
    """Return the selected jobs. If some words select none, the error says how they would be tags.

    Raises:
        UsageError: a word selects nothing.
    """
    try:
        return select(store, patterns)
    except UsageError as error:
        missed = {each for each in patterns if not store.read.select_by_pattern(each)}
        if missed == {*patterns} or not all(map(is_tag, missed)):
            raise
        found = [word for word in patterns if word not in missed]  # jobs first, then their tags
        signed = (f"+{word}" if word in missed else word for word in words if word not in found)
        changed = shell_line([*found, *signed])
        raise UsageError(f"{error}. To add the tag: launcher tag {changed}") from error


def _tags(words: Sequence[str], sign: str) -> list[str]:
    """Return the tags behind a sign, each once.

    Raises:
        UsageError: one of them cannot be a tag.
    """
    tags = [*dict.fromkeys(word[1:] for word in words if word.startswith(sign))]
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(
                f"{sign + tag!r} is not a valid tag ({TAG_RULE}). Write a tag {_EXAMPLE}"
            )
    return tags


@pattern_command()
@click.argument("pattern", shell_complete=offer_jobs)
@click.argument("text", required=False)
@dry_run_option
def note(pattern: str, text: str | None, dry_run: bool) -> None:
    """Write a note on jobs. Without TEXT, print the notes.

    TEXT replaces the old note; "" removes it. Notes are shown by `launcher show` and in --json output.

    \b
    Examples:
      launcher note 12 "the run of table 3"
      launcher note train/gan2:pre
    """
    if text is not None:
        check_note(text)
    with open_queue() as (_, store):
        jobs = _select_for_note(store, pattern, text)
        if text is None:
            print_jobs(jobs, lambda job: job.owner_note)
            return
        what = f"note: {first_line(text)}" if text else "no note"
        if dry_run:
            print_planned_changes(jobs, lambda _: f"have {what}")
            return
        store.job_control.set_note([job.id for job in jobs], text)
    print_jobs(jobs, lambda _: what)


def _select_for_note(store: Store, pattern: str, text: str | None) -> list[JobRow]:
    """Return the jobs that get a note. If the text names jobs instead, the error says so.

    Raises:
        UsageError: the pattern selects nothing.
    """
    try:
        return select(store, [pattern])
    except UsageError as error:
        if not text or not store.read.select_by_pattern(text):
            raise
        swapped = shell_line([text, pattern])
        raise UsageError(f"{error}. Write the jobs first: launcher note {swapped}") from error
