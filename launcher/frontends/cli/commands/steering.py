"""The verbs that change jobs which are queued, run or have ended: hold, release, priority, cancel, pause, resume, touch, tag, note."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import click

from launcher.frontends.cli.complete import offer_jobs
from launcher.frontends.cli.job_selection import (
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
from launcher.frontends.cli.option_types import PRIORITY as PRIORITY_VALUE
from launcher.frontends.cli.option_types import flag, json_option
from launcher.frontends.cli.touched_files import check_outputs, read_accepted_files, with_outputs
from launcher.frontends.screens.command_output import print_json, print_table
from launcher.frontends.screens.job_changes import (
    CANCEL,
    ENDED,
    HOLD,
    KILLED,
    PAUSE,
    PRIORITY,
    RELEASE,
    RESUME,
    TOUCH,
    ChangeRule,
    skipped_text,
)
from launcher.provenance.file_digests import FileDigests
from launcher.provenance.hashing_progress import watch_hashing
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, find_home
from launcher.queue.jobs.states import State
from launcher.queue.store.client import note_if_stopped, open_queue
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import CANCELLED, SearchRow, SearchState
from launcher.queue.store.tags import TAG_RULE, check_note, is_tag
from launcher.queue.texts import ORDER, first_line, format_job_names
from launcher.system.errors import UsageError, pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal, shell_line
from launcher.system.text_table import TextTable, text_columns

_FEW = 5  # jobs that a note names
_EXAMPLE = "such as launcher tag 12 +paper"


class SelectedJobs(NamedTuple):
    """The jobs that a verb is about, each in a state in which it can be changed."""

    store: Store
    jobs: list[JobRow]
    dry_run: bool
    rule: ChangeRule


class JobChange(NamedTuple):
    """The change of a verb to jobs, and its texts."""

    # returns the numbers of those that it changed
    apply: Callable[[list[int], float], Iterable[int]]
    would: Callable[[JobRow], str]  # text of the planned change of a job, behind "would"
    did: Callable[[JobRow], str]  # text of the change that was made to the job
    jobs: Sequence[JobRow]  # jobs that it concerns


class SearchChange(NamedTuple):
    """The change of a verb to open searches of the runs that it names."""

    apply: Callable[[Store, SearchRow], object]
    done: str  # text of the change that was made
    cancels: bool = False  # jobs that the search queues meanwhile are changed, too


def _pause_search(store: Store, search: SearchRow) -> None:
    store.searches.set_state(search.id, SearchState.PAUSED, former_state=SearchState.RUNNING)


def _resume_search(store: Store, search: SearchRow) -> None:
    store.searches.set_state(search.id, SearchState.RUNNING, former_state=SearchState.PAUSED)


def _end_search(store: Store, search: SearchRow) -> None:
    store.searches.end(search.id, CANCELLED, has_failed=False)


_SEARCH_PAUSED = SearchChange(_pause_search, "paused: no further trial starts")
_SEARCH_RESUMED = SearchChange(_resume_search, "resumed")
_SEARCH_CANCELLED = SearchChange(_end_search, "cancelled", cancels=True)


def _changing_command(
    rule: ChangeRule, on_search: SearchChange | None = None, **settings: Any
) -> Callable[[Callable[..., JobChange]], click.Command]:
    """Return what makes a verb of a function that says how jobs are changed.

    The verb selects the jobs, changes them, lets the scheduler know, and prints what became of each;
    in a rehearsal what would.

    Args:
        rule: the change.
        on_search: the change of the searches of a run, None for no change.
        settings: settings of the command.
    """
    settings.setdefault("offered_states", [state for state in ORDER if state in rule.states])

    def verb(change_of: Callable[..., JobChange]) -> click.Command:
        @wraps(change_of)
        def steer(patterns: tuple[str, ...], dry_run: bool, **arguments: Any) -> None:
            with open_queue() as (home, store):
                searches, jobs = _select(store, patterns, rule, on_search)
                if not jobs:
                    _change_searches(home, store, searches, on_search, dry_run=dry_run)
                    return
                change = change_of(SelectedJobs(store, jobs, dry_run, rule), **arguments)
                jobs = [*change.jobs]
                if dry_run:
                    print_planned_changes(jobs, change.would)
                    return
                jobs += _change_searches(home, store, searches, on_search, dry_run=False)
                jobs = [*{job.id: job for job in jobs}.values()]
                touched = {*change.apply([job.id for job in jobs], time.time())}
                print_jobs([job for job in jobs if job.id in touched], change.did)
                rule.notify_scheduler(home, jobs)
                _print_missed(store, rule, [job for job in jobs if job.id not in touched])
                if rule is RELEASE:
                    note_if_stopped(home)

        return pattern_command(**settings)(steer)

    return verb


def _print_missed(store: Store, rule: ChangeRule, jobs: Sequence[JobRow]) -> None:
    """Print which jobs were not changed, because they changed after the command had read them."""
    missed = {job.id: job for job in jobs}
    now = store.read.jobs_by_id([*missed]) if missed else []
    obstacles = rule.obstacles(store, [job for job in now if job.state in rule.states])
    texts = {number: obstacle.others for number, obstacle in obstacles.items() if obstacle.others}
    for text in dict.fromkeys([*texts.values(), f"{rule.missed}: {{0}}"]):
        if those := [job for job in jobs if texts.get(job.id, f"{rule.missed}: {{0}}") == text]:
            print_stderr(text.format(format_job_names(those)))


def _change_by_rule(selection: SelectedJobs) -> JobChange:
    """Return the change of jobs exactly as their rule says, without those that it cannot change.

    Raises:
        UsageError: it can change none.
    """
    store, jobs, _, rule = selection
    obstacles = {
        number: obstacle
        for number, obstacle in rule.obstacles(store, jobs).items()
        if obstacle.nothing
    }
    left = [job for job in jobs if job.id not in obstacles]
    for obstacle in dict.fromkeys(obstacles.values()):
        names = format_job_names([job for job in jobs if obstacles.get(job.id) == obstacle])
        if not left:
            raise UsageError(f"nothing to {rule.verb}{obstacle.nothing.format(names)}")
        if obstacle.others:
            print_stderr(obstacle.others.format(names))
    stays = rule.stays(store, left)

    def describe_change(job: JobRow) -> str:
        return f"{rule.did}; {stays[job.id]}" if stays.get(job.id) else rule.did

    return JobChange(
        partial(rule.apply, store.job_control),
        lambda job: f"be {describe_change(job)}",
        describe_change,
        left,
    )


def _select(
    store: Store, patterns: Sequence[str], rule: ChangeRule, on_search: SearchChange | None
) -> tuple[list[SearchRow], list[JobRow]]:
    """Return the searches and the jobs that a verb changes, at least one of them.

    Raises:
        UsageError: there is nothing to change.
    """
    searches = [each for found in open_searches(store, patterns).values() for each in found]
    if on_search is None or not searches:
        return [], filter_by_state(select(store, patterns), rule.states, rule.verb)
    jobs, _ = select_with_searches(store, patterns)
    return searches, [job for job in jobs if job.state in rule.states]


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


@_changing_command(
    HOLD,
    _SEARCH_PAUSED,
    heading="Change",
    place=50,
    summary="Keep jobs from starting.",
    other_names={"JOB": "stash qhold"},
)
@required_patterns
@dry_run_option
def hold(selection: SelectedJobs) -> JobChange:
    """Keep queued jobs from starting.

    They start after `launcher release`. Running jobs are not affected. A search of a run is paused.

    \b
    Examples:
      launcher hold 'train/*'
      launcher hold run:quickstart --dry-run
    """
    return _change_by_rule(selection)


@_changing_command(
    RELEASE,
    _SEARCH_RESUMED,
    heading="Change",
    place=60,
    other_names={"JOB": "enqueue unstash unhold qrls"},
)
@required_patterns
@dry_run_option
def release(selection: SelectedJobs) -> JobChange:
    """Let held jobs start.

    Jobs are held by `launcher hold` and `launcher add --hold`, and if too many jobs of their command failed.

    \b
    Examples:
      launcher release 'train/*'
      launcher release 12 13
    """
    return _change_by_rule(selection)


# a negative number is not an option
@_changing_command(
    PRIORITY,
    context_settings={"ignore_unknown_options": True},
    heading="Change",
    place=90,
    summary="Change the order of waiting jobs.",
    other_names={"5 JOB": "switch nice renice bump -u"},
)
@click.argument("number", type=PRIORITY_VALUE)
@required_patterns
@dry_run_option
def priority(selection: SelectedJobs, number: int) -> JobChange:
    """Set the priority of waiting jobs.

    Higher starts earlier; the default is 0. One point is worth a day of waiting: a job with priority 1
    starts before jobs with priority 0 that were queued less than a day earlier.

    \b
    Examples:
      launcher priority 10 'train/*'
      launcher priority -1 run:quickstart
    """
    return JobChange(
        lambda numbers, _: selection.store.job_control.set_priority(numbers, number),
        lambda job: f"get {PRIORITY.did} {job.priority} → {number}",
        lambda job: f"{PRIORITY.did} {job.priority} → {number}",
        selection.jobs,
    )


@_changing_command(
    CANCEL,
    _SEARCH_CANCELLED,
    heading="Change",
    place=10,
    other_names={"JOB": "kill rm delete remove scancel qdel bkill abort terminate -k -r"},
)
@required_patterns
@flag(
    "--now",
    "at_once",
    help="Kill running jobs with SIGKILL at once, also those that are ending already.",
)
@yes_option
@dry_run_option
def cancel(selection: SelectedJobs, at_once: bool, yes: bool) -> JobChange:
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
    store, jobs, dry_run, _ = selection
    words = KILLED if at_once else ENDED
    running = [job for job in jobs if job.state is State.RUNNING]
    if needy := store.read.dependents_of(job.id for job in jobs):
        skipped = skipped_text(len(needy), "depend", "on them", "would" if dry_run else "will")
        print_stderr(f"{skipped}: {format_job_names(needy)}")
    if not (dry_run or yes) and (running or len(jobs) > 1):
        what = f"{words.verb} {pluralize(len(running), 'running job')}"
        if not running:
            what = f"{CANCEL.verb} {pluralize(len(jobs), 'job')}"
        confirm_changes(jobs, f"{what}?", is_needed=bool(running))

    def text(job: JobRow, running_text: str) -> str:
        return running_text if job.state is State.RUNNING else CANCEL.did

    return JobChange(
        partial(store.job_control.cancel, at_once=at_once),
        lambda job: f"be {text(job, words.would)}",
        lambda job: text(job, words.did),
        jobs,
    )


@_changing_command(
    TOUCH,
    heading="Change",
    place=30,
    offered_states=(State.FAILED, State.CANCELLED, State.SKIPPED),
)
@required_patterns
@yes_option
@dry_run_option
def touch(selection: SelectedJobs, yes: bool) -> JobChange:
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
    jobs, others = with_outputs(selection.jobs)
    check_outputs(jobs)
    selection.store.job_control.check_no_writer(jobs)
    if others:
        print_stderr(f"unchanged, not programs with outputs: {format_job_names(others)}")
    if not (selection.dry_run or yes) and len(jobs) > 1:
        confirm_changes(jobs, f"accept the files of {pluralize(len(jobs), 'job')}?", is_needed=True)

    def accept(numbers: list[int], now: float) -> list[int]:
        digests = FileDigests(find_home(os.environ).digests, watch_hashing())
        control = selection.store.job_control
        control.accept_files(
            [read_accepted_files(selection.store, job, digests) for job in jobs], now
        )
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
        lambda job: f"be {TOUCH.did} ({job.state})",
        lambda job: (
            TOUCH.did if job.state is State.DONE else f"{TOUCH.did}, not run ({job.state} before)"
        ),
        jobs,
    )


# --- standing still


@_changing_command(
    PAUSE,
    _SEARCH_PAUSED,
    heading="Change",
    place=70,
    summary="Pause running jobs; their memory stays reserved.",
    other_names={"JOB": "suspend"},
)
@required_patterns
@dry_run_option
def pause(selection: SelectedJobs) -> JobChange:
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
    return _change_by_rule(selection)


@_changing_command(
    RESUME,
    _SEARCH_RESUMED,
    heading="Change",
    place=80,
    other_names={"JOB": "unpause continue"},
)
@required_patterns
@dry_run_option
def resume(selection: SelectedJobs) -> JobChange:
    """Continue paused jobs.

    Jobs are paused by `launcher pause`.

    \b
    Examples:
      launcher resume train/gan2:pre
      launcher resume run:quickstart --dry-run
    """
    return _change_by_rule(selection)


# --- what owners write on jobs to find them again


@pattern_command(
    # -old is a tag to be taken away, so no option of this verb is one letter
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    heading="Change",
    place=110,
    summary="Add or remove tags.",
    other_names={"JOB +TAG": "label"},
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
        UsageError: a word cannot be a tag.
    """
    tags = [*dict.fromkeys(word[1:] for word in words if word.startswith(sign))]
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(
                f"{sign + tag!r} is not a valid tag ({TAG_RULE}). Write a tag {_EXAMPLE}"
            )
    return tags


@pattern_command(
    heading="Change",
    place=120,
    summary="Write a note on jobs.",
    other_names={"JOB TEXT": "comment annotate"},
)
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
