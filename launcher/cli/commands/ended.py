"""The verbs about jobs that have ended: what they did, and what is deleted of them, or of the work that kinds keep."""

import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import click

from launcher.backends.pilots_file import past_pilots
from launcher.cli.jobs import (
    ask,
    dry_run_option,
    of_jobs,
    rehearse,
    say,
    say_unchanged,
    select,
    some,
    yes_option,
)
from launcher.cli.option_types import States, flag, json_option, span, whole
from launcher.errors import MachineError, UsageError, counted
from launcher.screens.answers import Answer, tell
from launcher.screens.format import harmless, iso, moment, named
from launcher.screens.history_view import SECTIONS, columns, draw, headline, record
from launcher.screens.pilots import HERE
from launcher.screens.terminal import remark
from launcher.screens.text_table import Line, Tone, line
from launcher.staging.left_stages import remove_of
from launcher.states import ENDED, State
from launcher.store.client import open_queue
from launcher.store.forgotten_jobs import (
    ForgottenJob,
    add_forgotten,
    forgotten_jobs,
    remove_forgotten,
)
from launcher.store.history import History
from launcher.store.history_report import Past
from launcher.store.queue import Store
from launcher.store.retention import (
    Copies,
    Left,
    Rules,
    choose,
    copies_before,
    delete,
    delete_copies,
    folders_of,
    in_batches,
    refusal,
    size_of,
)
from launcher.store.rows import JobRow
from launcher.system.paths import Attempt, Home, find_home
from launcher.units import format_bytes, parse_seconds

if TYPE_CHECKING:
    from launcher.kind_interface import Kept

NOTHING = "no job has run or ended yet"
# jobs that are forgotten in one transaction, which takes some seconds; others wait ten for it
BATCH = 50_000
NAMED = 20  # folders that were left


@of_jobs()
@some
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

    In a pipe: one tab-separated line each, in seconds and bytes:

    \b
    day     date done failed cancelled skipped gpu-seconds core-seconds median
    run     name jobs done failed attempts gpu-seconds core-seconds
    cause   cause detail attempts seconds newest-job
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
    begin = 0.0 if since is None else begin_of(since, now)
    home = find_home(os.environ)
    if home.exists():
        with open_queue() as (_, store):
            jobs = {job.id for job in select(store, patterns)} if patterns else None
            with store.reading():
                past = History(store.database, begin, now, jobs).past(places_by_token(home))
    elif patterns:
        with open_queue():  # which says that there is no queue
            return
    else:
        past = Past()
    beginning = f" since {moment(begin)}" if since else ""

    def drawn(width: int) -> list[Line]:
        head = [line(text, Tone.STRONG) for text in wrap(headline(past) + beginning, width)]
        return [*head, line(""), *draw(past, width, sections)]

    if past.days or as_json:
        answer = Answer(
            record=lambda: {"since": iso(begin) if since else None, **record(past, sections)},
            rows=lambda: columns(past, sections),
            drawn=drawn,
        )
        tell(answer, as_json=as_json)
    else:
        remark(f"{NOTHING}{beginning}")


def places_by_token(home: Home) -> dict[str, tuple[str, str]]:
    """Return backend and node of each pilot, and of this machine by ''."""
    places = {token: (past.backend, past.node) for token, past in past_pilots(home).items()}
    return places | {"": (HERE, os.uname().nodename)}


def begin_of(text: str, now: float) -> float:
    """Return the time that a person means: so long ago, or a local day or moment.

    Raises:
        UsageError: it is neither, or still to come.
    """
    try:
        at = datetime.fromisoformat(text.strip()).astimezone().timestamp()
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


@of_jobs()
@some
@click.option(
    "--older",
    type=span(),
    help="Delete jobs that ended longer ago than this time, such as 30d. Alone, also delete old backups "
    "(except the newest) and damaged databases.",
)
@click.option(
    "--state",
    "states",
    type=States(ENDED),
    help="Delete jobs in these states, such as failed,cancelled.",
)
@click.option(
    "--keep",
    type=whole(1),
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
    never deleted. Jobs that an unfinished job needs are kept.

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
    rules = Rules(older_s=older or 0.0, states=states or ENDED, keep=keep or 0)
    with open_queue() as (home, store):
        left = [] if dry_run else _finish_interrupted(home, store)
        jobs = _chosen(store, patterns, rules)
        by_age = older is not None and not patterns and states is None and keep is None
        copies = copies_before(home, time.time() - rules.older_s) if by_age else Copies(old=())
        if not jobs and patterns:
            raise UsageError(
                "nothing to clean. The matching jobs have not ended, are needed by others, or are kept by an "
                "option."
            )
        if not jobs and not copies.old:
            remark("nothing to clean")
            _name_kept(copies)
            _refuse_left(left)
            return
        if dry_run:
            _rehearse(home, jobs, copies, _sizes(_unused_calls(home, store, jobs)))
            return
        if not yes:
            ask(jobs, f"{_question(jobs, copies)}?", needed=True)
        _clean_up(home, store, jobs, copies, rules)


def _clean_up(
    home: Home, store: Store, jobs: Sequence[JobRow], copies: Copies, rules: Rules
) -> None:
    """Forget jobs, delete their files and old copies, and print what became of each.

    Raises:
        MachineError: a folder could not be deleted.
    """
    cleaned = _clean(home, store, jobs, rules)
    store.steering.forget_contexts()
    calls = _unused_calls(home, store, cleaned.gone)  # which no job needs any more
    freed = cleaned.freed + copies.size + _sizes(calls)
    for path in calls:
        path.unlink(missing_ok=True)
    kept = delete_copies(copies.old)
    say(cleaned.gone, _what)
    remark(f"{_done(cleaned.gone, copies)} deleted, {format_bytes(freed)} freed")
    _name_changed(cleaned.changed)
    _name_kept(copies)
    for path, why in kept:
        remark(f"not deleted: {harmless(str(path))}: {why}")
    _refuse_left(cleaned.left)


def _unused_calls(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[Path]:
    """Return the files of calls that no job needs once these jobs are forgotten."""
    from launcher.functions.calls import unused_calls  # cloudpickle

    return unused_calls(home, store, jobs)


def _chosen(store: Store, patterns: Sequence[str], rules: Rules) -> list[JobRow]:
    now = time.time()
    jobs = select(store, patterns) if patterns else _ended(store, rules, now)
    allowed = _allowed(store, jobs, rules, now)
    free = store.steering.forgettable(job.id for job in allowed)
    return [job for job in allowed if job.id in free]


def _ended(store: Store, rules: Rules, now: float) -> list[JobRow]:
    return store.read.ended_before(now - rules.older_s, rules.states)


def _allowed(store: Store, jobs: Iterable[JobRow], rules: Rules, now: float) -> list[JobRow]:
    """Return which of the jobs the rules let go."""
    ended = store.read.ended_before(float("inf"), ENDED) if rules.keep else []
    return choose(jobs, rules, ended=ended, now=now)


class _Cleaned(NamedTuple):
    """The result of cleaning jobs."""

    gone: list[JobRow]
    freed: int  # bytes
    left: list[Left]
    changed: list[JobRow]  # that stay: they changed, or became needed, after they were chosen


def _clean(home: Home, store: Store, jobs: Sequence[JobRow], rules: Rules) -> _Cleaned:
    """Forget jobs, then delete their folders."""
    left = {job.id: remnants for job in jobs if (remnants := _refused(folders_of(home, job)))}
    going = [job for job in jobs if job.id not in left]
    gone: list[JobRow] = []
    # the newest first: what needs another of them goes before it
    for batch in in_batches(going[::-1], BATCH):
        gone += _forget(home, store, batch, rules)
    freed, stuck = _delete_folders(home, store)
    numbers = {job.id for job in gone}
    return _Cleaned(
        gone=sorted(gone, key=lambda job: job.id),
        freed=freed,
        left=[*chain.from_iterable(left.values()), *stuck],
        changed=[job for job in going if job.id not in numbers],
    )


def _forget(home: Home, store: Store, jobs: Sequence[JobRow], rules: Rules) -> list[JobRow]:
    """Forget those of the chosen jobs that may still go, in one transaction; return them."""
    chosen = {job.id: (job.state, job.attempts, job.ended) for job in jobs}
    with store.writing():
        unchanged = [
            job
            for job in store.read.jobs_by_id(chosen)
            if chosen[job.id] == (job.state, job.attempts, job.ended)
        ]
        allowed = _allowed(store, unchanged, rules, time.time())
        forgotten = set(store.steering.forget(job.id for job in allowed))
        gone = [job for job in allowed if job.id in forgotten]
        with_folders = [job for job in gone if job.attempts]
        if with_folders:
            add_forgotten(
                home,
                [ForgottenJob(job.id, job.attempts, job.spec.run_folder) for job in with_folders],
            )
    return gone


def _delete_folders(home: Home, store: Store) -> tuple[int, list[Left]]:
    """Delete the folders of forgotten jobs; return the freed bytes and the remaining folders."""
    freed, left, deleted = 0, list[Left](), set[int]()
    for job in forgotten_jobs(home, store):
        stuck = []
        for attempt in folders_of(home, job):
            size = size_of(attempt)
            if refusal(attempt) is None:
                remove_of(attempt, job.run_folder)
            remnant = delete(attempt)
            freed += size if remnant is None else 0
            stuck += [remnant] if remnant else []
        left += stuck
        deleted |= set() if stuck else {job.id}
    remove_forgotten(home, store, deleted)
    return freed, left


def _finish_interrupted(home: Home, store: Store) -> list[Left]:
    """Delete the folders that an interrupted `clean` has left; return those that cannot be deleted."""
    jobs = forgotten_jobs(home, store)
    if not jobs:
        return []
    freed, left = _delete_folders(home, store)
    what = f"{counted(len(jobs), 'job')} of an interrupted `launcher clean`"
    remark(f"deleted the folders of {what}, {format_bytes(freed)} freed")
    return left


def _name_changed(jobs: Sequence[JobRow]) -> None:
    if jobs:
        were = "was" if len(jobs) == 1 else "were"
        remark(
            f"{counted(len(jobs), 'job')} changed or became needed meanwhile and {were} kept: {named(jobs)}"
        )


def _refused(attempts: Iterable[Attempt]) -> list[Left]:
    """Return those of the folders that must not be deleted, and why."""
    return [Left(attempt=attempt, why=why) for attempt in attempts if (why := refusal(attempt))]


def _refuse_left(left: Sequence[Left]) -> None:
    """Name the folders that are left.

    Raises:
        MachineError: there are some.
    """
    _name_left(left)
    if left:
        raise MachineError(
            f"{counted(len(left), 'folder')} could not be deleted. "
            "Fix the problems above and run the command again."
        )


def _sizes(files: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in files)


def _rehearse(home: Home, jobs: Sequence[JobRow], copies: Copies, calls: int) -> None:
    attempts = [attempt for job in jobs for attempt in folders_of(home, job)]
    left = _refused(attempts)
    stays = sum(size_of(remnant.attempt) for remnant in left)
    freed = sum(map(size_of, attempts)) - stays + copies.size + calls
    for copy in copies.old:
        click.echo(f"would delete {harmless(str(copy))}")
    _name_left(left)
    _name_kept(copies)
    done = _done(jobs, copies)
    remark(f"{done} would be deleted, {format_bytes(freed)} would be freed")
    rehearse(jobs, lambda job: f"be {_what(job)}")


def _done(jobs: Sequence[JobRow], copies: Copies) -> str:
    return " and ".join([counted(len(jobs), "job"), *_counted(copies)])


def _counted(copies: Copies) -> list[str]:
    number = len(copies.old)
    return [f"{number} old {'copy' if number == 1 else 'copies'} of the queue"] if number else []


def _question(jobs: Sequence[JobRow], copies: Copies) -> str:
    forget = f"delete {counted(len(jobs), 'job')} with the logs" if jobs else ""
    return " and ".join(filter(None, (forget, *(f"delete {copy}" for copy in _counted(copies)))))


def _name_kept(copies: Copies) -> None:
    kept = {
        copies.newest: (
            "the newest backup, from which a damaged queue is restored. Delete it yourself if its content "
            "must go."
        ),
        copies.undecided: "until you decide what to do with the damaged queue",
    }
    for path, why in kept.items():
        if path is not None:
            remark(f"kept: {harmless(str(path))}, {why}")


def _name_left(left: Sequence[Left]) -> None:
    for remnant in left[:NAMED]:
        remark(f"not deleted: {harmless(str(remnant.attempt.folder))}: {remnant.why}")
    if len(left) > NAMED:
        remark(f"not deleted: {len(left) - NAMED:,} more folders")


def _what(job: JobRow) -> str:
    return f"deleted, {job.state}"


def clean_features(unused_s: float, *, yes: bool, dry_run: bool) -> None:
    """Delete what was not used for so many seconds; jobs compute it again where they need it.

    Args:
        unused_s: since it was last used.
        yes: do not ask.
        dry_run: print what would go, and delete nothing.

    Raises:
        UsageError: no installed kind keeps anything; or nobody can be asked.
        MachineError: something cannot be deleted.
    """
    # pydantic, and whatever the kinds import
    from launcher.kind_interface import KeepsWork
    from launcher.kinds import find_kinds

    keepers = [kind for kind in find_kinds().kinds.values() if isinstance(kind, KeepsWork)]
    if not keepers:
        raise UsageError("no installed job type caches features. List the types: launcher kinds")
    for keeper in keepers:
        kept = keeper.kept(unused_s=unused_s)
        named = f"{_files(kept)} in {harmless(kept.folder)}, {format_bytes(kept.size)}"
        if not kept.files:
            remark("nothing to clean")
        elif dry_run:
            click.echo(f"would delete {named}")
            say_unchanged()
        else:
            if not yes:
                ask([], f"delete {named}?", needed=True)
            gone = keeper.clear(unused_s=unused_s)
            remark(f"{_files(gone)} deleted, {format_bytes(gone.size)} freed")
            if gone.files < kept.files:
                left = counted(kept.files - gone.files, "file")
                remark(f"not deleted: {left} in {harmless(kept.folder)} that a job is writing")


def _files(kept: "Kept") -> str:
    return counted(kept.files, "feature file")
