"""`launcher logs`: print the output of jobs."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from launcher.frontends.cli.job_selection import pattern_command, required_patterns, select
from launcher.frontends.cli.option_types import json_option, whole_number
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.screens.follow_logs import (
    LogFollower,
    header,
    open_log,
    print_log,
    resolve_attempt,
)
from launcher.queue.home.paths import LOG, STDERR, Home
from launcher.queue.jobs.states import State
from launcher.queue.store.client import open_queue
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import failure_hold_texts, format_job_names
from launcher.queue.workers.progress.buffering import buffering_hint
from launcher.system.errors import UsageError, pluralize
from launcher.system.log_files import MOST_BYTES, data_chunks, tail_offset
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal


@pattern_command(
    heading="Watch",
    place=50,
    offered_states=(State.RUNNING, State.FAILED),
    other_names={"JOB": "log output cat -c", "JOB -f": "follow tail attach -t"},
)
@required_patterns
@click.option("-f", "--follow", is_flag=True, help="Follow the output until the jobs end.")
@click.option(
    "-n", "--lines", type=whole_number(1), help="Print only this many lines, the last ones."
)
@click.option("--attempt", type=whole_number(1), help="Print this attempt instead of the newest.")
@click.option(
    "--raw",
    is_flag=True,
    help="Print every byte unchanged. Control characters may affect the terminal.",
)
@click.option(
    "--stderr",
    "errors",
    is_flag=True,
    help="Print standard error of jobs with `--stderr separate`.",
)
@json_option
def command(
    patterns: tuple[str, ...],
    lines: int | None,
    follow: bool,
    attempt: int | None,
    raw: bool,
    errors: bool,
    as_json: bool,
) -> None:
    """Print the output of jobs.

    The log contains standard output and standard error of the newest attempt. If the job was added with
    --stderr separate, it contains only standard output. -f also waits for jobs that have not started, and
    continues with their retries. Of several jobs, those that are held because others failed are not waited for.

    Several logs are printed one after another. Jobs that a newer job of the same name replaced are left out, unless
    PATTERN is their number or whole name. With -f, each line begins with the name of its job, in a
    pipe followed by a tab. In a terminal, colours are kept and other control characters are printed as text
    (\\x1b). In a pipe, escape sequences are removed. -n and --json read at most the last 16 MiB.

    \b
    Examples:
      launcher logs 12 -f
      launcher logs train/gan2:pre -n 20 --attempt 1
      launcher logs 'train/*' run:quickstart -f
      launcher logs 12 --raw | less -R
      launcher logs 12 --stderr
    """
    if as_json and follow:
        raise UsageError("--json cannot be combined with --follow. Remove one of them.")
    if as_json and raw:
        raise UsageError("--json cannot be combined with --raw. Remove one of them.")
    file = STDERR if errors else LOG
    with open_queue() as (home, store):
        event = store.read.last_event()
        jobs = _select_jobs(store, patterns)
        if len(jobs) == 1 and attempt is None:
            _print_buffering_hint(home, jobs[0])
        if not errors and not as_json:
            _print_separate_errors(home, jobs, attempt)
        if follow:
            LogFollower(
                home, store, jobs, event=event, tail=lines, attempt=attempt, raw=raw, file=file
            ).follow()
            for text in failure_hold_texts(store.read.jobs_by_id(job.id for job in jobs)):
                print_stderr(f"note: {text}")
            return
        if len(jobs) > 1:
            _one_by_one(home, jobs, lines, attempt, as_json=as_json, raw=raw, file=file)
            return
        row = jobs[0]
        number = resolve_attempt(row, attempt)
        log = home.attempt(row.id, number).folder / file
        if as_json:
            print_json(_record(row, number, log, lines))
        else:
            print_log(log, lines, raw=raw)


def _print_buffering_hint(home: Home, row: JobRow) -> None:
    """Print why the log of a running program may be empty."""
    if row.state is State.RUNNING and (hint := buffering_hint(row.attempt_in(home), time.time())):
        print_stderr(f"note: {hint}")


def _print_separate_errors(home: Home, jobs: Sequence[JobRow], attempt: int | None) -> None:
    """Print which command prints the standard error that these logs do not contain."""
    separate = [
        str(job.id)
        for job in jobs
        if (shown := home.attempt(job.id, attempt or job.attempts)).error_log == shown.stderr
    ]
    if separate:
        which = " ".join(separate) + ("" if attempt is None else f" --attempt {attempt}")
        print_stderr(
            f"note: standard error is in a file of its own: launcher logs {which} --stderr"
        )


def _select_jobs(store: Store, patterns: Sequence[str]) -> list[JobRow]:
    """Return the jobs without those that newer ones replaced; of one name that several runs have, the newest run's."""
    jobs = select(store, patterns, current=True)
    shown = {job.id for job in jobs}
    if replaced := [job for job in select(store, patterns) if job.id not in shown]:
        several = len(replaced) > 1
        reason = (
            "are left out: newer jobs replaced them"
            if several
            else "is left out: a newer job replaced it"
        )
        print_stderr(
            f"note: {pluralize(len(replaced), 'job')} {reason}. To print {'one' if several else 'it'}: launcher logs {replaced[-1].id}"
        )
    same_job = len(patterns) == 1 and len({job.name for job in jobs}) == 1
    return jobs[-1:] if same_job else jobs


def _one_by_one(
    home: Home,
    jobs: Sequence[JobRow],
    lines: int | None,
    attempt: int | None,
    *,
    as_json: bool,
    raw: bool,
    file: str,
) -> None:
    ran = [job for job in jobs if job.attempts >= (attempt or 1)]
    if not ran:
        raise UsageError(
            f"none of these jobs has {_missing_log_text(attempt)}: {format_job_names(jobs)}. "
            + (
                "Wait for it with --follow."
                if attempt is None
                else "Remove --attempt to print the newest."
            )
        )
    records: list[dict[str, object]] = []
    for index, job in enumerate(ran):
        number = attempt or job.attempts
        log = home.attempt(job.id, number).folder / file
        try:
            if as_json:
                records.append(_record(job, number, log, lines))
                continue
            click.echo(f"{chr(10) if index else ''}{header(job, number)}")
            if not print_log(log, lines, raw=raw):
                click.echo()
        except UsageError as error:  # one log that is gone hides no other
            print_stderr(f"{sanitize_terminal(job.name)}: {sanitize_terminal(str(error))}")
    if as_json:
        print_json({"logs": records})
    left = [job for job in jobs if job.attempts < (attempt or 1)]
    if left:
        print_stderr(
            f"{pluralize(len(left), 'job')} without {_missing_log_text(attempt)}: {format_job_names(left)}"
        )


def _missing_log_text(attempt: int | None) -> str:
    return "a log yet" if attempt is None else f"an attempt {attempt}"


def _record(row: JobRow, attempt_number: int, log: Path, lines: int | None) -> dict[str, object]:
    with open_log(log) as file:
        size = file.seek(0, 2)
        start = tail_offset(file, lines) if lines else max(0, size - MOST_BYTES)
        file.seek(start)
        text = b"".join(data_chunks(file, MOST_BYTES)).decode(errors="replace")
    return {
        "job": row.id,
        "name": row.name,
        "attempt": attempt_number,
        "path": str(log),
        "bytes": size,
        "text": text,
    }
