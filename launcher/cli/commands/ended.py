"""The verbs about jobs that have ended: what they did, and what is deleted of them, or of the work that kinds keep."""

import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

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
from launcher.screens.format import harmless, iso, moment
from launcher.screens.history_view import SECTIONS, columns, draw, headline, record
from launcher.screens.pilots import HERE
from launcher.screens.terminal import Answer, remark, tell
from launcher.screens.text_table import Line, Tone, line
from launcher.staging.view import remove_of
from launcher.states import ENDED, State
from launcher.store.client import open_queue
from launcher.store.history import History, Past
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
from launcher.system.paths import Home, find_home
from launcher.units import format_bytes, parse_seconds

if TYPE_CHECKING:
    from launcher.kind_interface import Kept

NOTHING = "nothing has ended or run yet"
BATCH = 500  # jobs; the queue is written in between, and others write it too
NAMED = 20  # folders that were left


@of_jobs()
@some
@click.option(
    "--since",
    metavar="WHEN",
    help="Count only jobs since then: 7d, 12h, or a day such as 2026-11-01.",
)
@click.option(
    "--by",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="Print only this section, in full; repeatable.",
)
@json_option
def history(
    patterns: tuple[str, ...], since: str | None, sections: tuple[str, ...], as_json: bool
) -> None:
    """Summarize past jobs: all, or those that match PATTERN.

    By day and by run: jobs by outcome, GPU-hours and core-hours. By cause: attempts that were not
    done. By memory: VRAM requested and used, and what to request next time. By node, where there are
    several: what ran there. In a pipe, one line each, separated by tabs, in seconds and bytes:

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
                f"--since takes a time such as 7d or 12h, or a day such as 2026-11-01, not {text!r}"
            ) from error
    if at > now:
        raise UsageError(
            f"--since {text} is still to come; give an earlier day, or a span such as 7d"
        )
    return max(at, 0.0)


# --- deleting


@of_jobs()
@some
@click.option(
    "--older", type=span(), help="Delete only jobs that ended before this time span, such as 30d."
)
@click.option(
    "--state",
    "states",
    type=States(ENDED),
    help="Delete only jobs in these states, such as failed,cancelled.",
)
@click.option("--keep", type=whole(1), help="Keep the newest NUMBER of each run.")
@flag(
    "--features",
    help="Delete features that jobs share, and no job; with --older those unused for so long.",
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
    """Delete ended jobs from the queue, with their logs, attempts and results.

    At least one option or PATTERN is required; jobs that match all of them are deleted. Jobs that an
    unfinished job depends on are kept, and files under runs/ are never deleted. --older alone also
    deletes backups and damaged databases of that age, except the newest backup. The queue forgets
    these jobs: `launcher run` would run them again, even if their files still exist.

    --features deletes the features of frozen networks that jobs compute once and share; jobs compute
    them again where they need them.

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
                "--features goes with --older, --yes and --dry-run only: it cleans no job"
            )
        clean_features(older or 0.0, yes=yes, dry_run=dry_run)
        return
    if not patterns and older is None and states is None and keep is None:
        raise UsageError("say what may go: --older 30d, --state failed, --keep N, or PATTERN…")
    from launcher.functions.calls import unused_calls  # cloudpickle

    rules = Rules(older_s=older or 0.0, states=states or ENDED, keep=keep or 0)
    with open_queue() as (home, store):
        jobs = _chosen(store, patterns, rules)
        by_age = older is not None and not patterns and states is None and keep is None
        copies = copies_before(home, time.time() - rules.older_s) if by_age else Copies(old=())
        if not jobs and patterns:
            raise UsageError(
                "nothing to clean: all of them are open, needed, or kept by a rule; cancel what is open, or "
                "leave a rule out"
            )
        if not jobs and not copies.old:
            remark("nothing to clean")
            _name_kept(copies)
            return
        if dry_run:
            _rehearse(home, jobs, copies, _sizes(unused_calls(home, store, jobs)))
            return
        if not yes:
            ask(jobs, f"{_question(jobs, copies)}?", needed=True)
        freed, gone, left = _clean(home, store, jobs)
        store.steering.forget_contexts()
        calls = unused_calls(home, store, gone)  # which no job needs any more
        freed += copies.size + _sizes(calls)
        for path in calls:
            path.unlink(missing_ok=True)
        kept = delete_copies(copies.old)
    say(gone, _what)
    remark(f"{_done(gone, copies)} cleaned, {format_bytes(freed)} freed")
    _name_kept(copies)
    _name_left(left)
    for path, why in kept:
        remark(f"left: {harmless(str(path))}: {why}")
    if left:
        raise MachineError(
            f"{counted(len(left), 'folder')} could not be deleted; the jobs stay: "
            "repair what is named above, and clean again"
        )


def _chosen(store: Store, patterns: Sequence[str], rules: Rules) -> list[JobRow]:
    now = time.time()
    ended = store.read.ended_before(float("inf"), ENDED) if rules.keep else []
    if patterns:
        jobs = select(store, patterns)
    else:
        jobs = ended or store.read.ended_before(now - rules.older_s, rules.states)
    allowed = choose(jobs, rules, ended=ended, now=now)
    free = store.steering.forgettable(job.id for job in allowed)
    return [job for job in allowed if job.id in free]


def _clean(
    home: Home, store: Store, jobs: Sequence[JobRow]
) -> tuple[int, list[JobRow], list[Left]]:
    """Delete folders, then forget their jobs; return bytes, jobs, and what was left."""
    freed, gone, left = 0, [], []
    for batch in in_batches(jobs, BATCH):
        clear = []
        for job in batch:
            kept = []
            for attempt in folders_of(home, job):
                size = size_of(attempt)
                if refusal(attempt) is None:
                    remove_of(attempt, job.spec.run_folder)
                trouble = delete(attempt)
                freed += size if trouble is None else 0
                kept += [trouble] if trouble else []
            left += kept
            clear += [] if kept else [job.id]
        forgotten = set(store.steering.forget(clear))
        gone += [job for job in batch if job.id in forgotten]
    return freed, gone, left


def _sizes(files: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in files)


def _rehearse(home: Home, jobs: Sequence[JobRow], copies: Copies, calls: int) -> None:
    attempts = [attempt for job in jobs for attempt in folders_of(home, job)]
    left = [Left(attempt=attempt, why=why) for attempt in attempts if (why := refusal(attempt))]
    stays = sum(size_of(remnant.attempt) for remnant in left)
    freed = sum(map(size_of, attempts)) - stays + copies.size + calls
    for copy in copies.old:
        click.echo(f"would delete {harmless(str(copy))}")
    _name_left(left)
    _name_kept(copies)
    done = _done(jobs, copies)
    remark(f"{done} would be cleaned, {format_bytes(freed)} would be freed")
    rehearse(jobs, lambda job: f"be {_what(job)}")


def _done(jobs: Sequence[JobRow], copies: Copies) -> str:
    return " and ".join([counted(len(jobs), "job"), *_counted(copies)])


def _counted(copies: Copies) -> list[str]:
    number = len(copies.old)
    return [f"{number} old {'copy' if number == 1 else 'copies'} of the queue"] if number else []


def _question(jobs: Sequence[JobRow], copies: Copies) -> str:
    forget = f"forget {counted(len(jobs), 'job')} and delete the logs" if jobs else ""
    return " and ".join(filter(None, (forget, *(f"delete {copy}" for copy in _counted(copies)))))


def _name_kept(copies: Copies) -> None:
    kept = {
        copies.newest: (
            "the newest backup: what a damaged queue would go back to; delete it by hand where it "
            "holds what must go"
        ),
        copies.undecided: "until you decide how the queue goes on",
    }
    for path, why in kept.items():
        if path is not None:
            remark(f"kept: {harmless(str(path))}, {why}")


def _name_left(left: Sequence[Left]) -> None:
    for remnant in left[:NAMED]:
        remark(f"left: {harmless(str(remnant.attempt.folder))}: {remnant.why}")
    if len(left) > NAMED:
        remark(f"left: {len(left) - NAMED:,} more")


def _what(job: JobRow) -> str:
    return f"forgotten, {job.state}"


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
        raise UsageError("no installed kind keeps features; `launcher kinds` lists the kinds")
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
            remark(f"{_files(gone)} cleaned, {format_bytes(gone.size)} freed")
            if gone.files < kept.files:
                left = counted(kept.files - gone.files, "file")
                what = f"{left} in {harmless(kept.folder)} that a job is writing"
                remark(f"left: {what}")


def _files(kept: "Kept") -> str:
    return counted(kept.files, "feature file")
