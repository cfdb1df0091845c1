"""Watching jobs until they end: a live picture in a terminal, one line a change elsewhere."""

import errno
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import wrap

import click

from launcher.frontends.screens import queue_view
from launcher.frontends.screens.job_columns import (
    JobColumn,
    Record,
    column_records,
    keys_of,
    pipe_cells,
    table_of_columns,
)
from launcher.frontends.screens.job_view import (
    WAITING,
    format_numbers,
    job_views,
    read_final_metrics,
)
from launcher.frontends.screens.queue_head import progress
from launcher.frontends.screens.queue_view import TONES, job_table, running_table, snapshot_lines
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.gpu.monitor import GpuPoller
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import ENDED_STATES, ReasonCode, State, strip_state_prefix
from launcher.queue.store.client import check_database_current
from launcher.queue.store.feed import JobEvent, JobTracker
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import (
    GLYPHS,
    PAUSED,
    failure_hold_texts,
    tally,
    time_of_day,
)
from launcher.system.live_display import alternate_screen, live_area
from launcher.system.terminal import terminal_size
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextStyle, line, tab_separated, width_of
from launcher.system.units import format_seconds
from launcher.system.waiting import wait_until

DRAW_INTERVAL_S = 0.5
POLL_INTERVAL_S = 0.1  # seconds between two looks at the size of the window
_BEFORE_NAME = len("14:02:07 ✓ cancelled ")  # columns of a change's line
PATIENCE_S = 5.0  # seconds after which the reason is shown if nothing has started
MOST_REASONS = 3  # jobs whose reasons are shown
CHECK_EVERY_S = 2.0  # pause between checks that the queue, and who reads a pipe, are still there


def watch_run(
    home: Home, store: Store, jobs: Sequence[int], first_event: int, *, live: bool
) -> None:
    """Show a run until all its jobs have ended.

    Args:
        home: the queue folder.
        store: its database.
        jobs: numbers of the run's jobs.
        first_event: the event after which it begins.
        live: redraw a live display; otherwise print one line per change.

    Raises:
        KeyboardInterrupt: the user ends the watch; the jobs continue.
        MachineError: the queue was stopped; the jobs wait.
    """
    live = live and os.environ.get("TERM") != "dumb"
    followed = JobTracker(home, store, store.read.jobs_by_id(jobs), first_event=first_event)
    ended = {job.id for job in followed.rows.values() if job.state in ENDED_STATES}
    queue, drawn, started = QueueSnapshotReader(home, store), 0.0, time.monotonic()
    picture: Sequence[TextLine] = ()
    with live_area(live=live) as show:
        for changes in followed.events_until_ended():
            width = terminal_size(sys.stderr)[0] if live else None
            messages = _message_lines(store, followed, changes, ended, width)
            now = time.monotonic()
            if any(change.state is State.RUNNING for change in changes):
                started = now
            is_due = now - drawn > DRAW_INTERVAL_S
            if width is not None and is_due:
                waits = now - started > PATIENCE_S
                picture = _draw([*followed.rows.values()], queue, width, waits=waits)
                drawn = now
            if messages or is_due:
                show(messages, picture)


def _message_lines(
    store: Store,
    tracker: JobTracker,
    changes: Sequence[JobEvent],
    ended_jobs: set[int],
    width: int | None,
) -> list[TextLine]:
    """Return the lines about changes, and add the jobs that have ended to `ended_jobs`."""
    messages: list[TextLine] = []
    for change in changes:
        # a job that failed may be queued again by its owner
        (ended_jobs.add if change.state in ENDED_STATES else ended_jobs.discard)(change.job)
        message = event_line(store, tracker.rows[change.job], change, quiet=width is not None)
        if message is not None:
            tail = (
                f"  [{len(ended_jobs)}/{len(tracker.rows)}]" if change.state in ENDED_STATES else ""
            )
            messages += wrap_message(message, tail, width)
    held = [change.job for change in changes if change.code == ReasonCode.FAILURE_LIMIT]
    messages += [line(text) for text in failure_hold_texts(map(tracker.rows.__getitem__, held))]
    if skipped := sum(change.state is State.SKIPPED for change in changes):
        needy = "1 job that needs it is" if skipped == 1 else f"{skipped} jobs that need it are"
        messages.append(line(f"{needy} skipped  [{len(ended_jobs)}/{len(tracker.rows)}]"))
    return messages


def watch_queue(
    home: Home,
    store: Store,
    read_wanted_jobs: Callable[[], list[JobRow]] | None,
    every_s: float,
    records: Callable[[], list[Record]] | None = None,
    chosen_columns: Sequence[JobColumn] = (),
) -> None:
    """Show the queue until Ctrl-C; in a pipe or a dumb terminal, a line for each change.

    Args:
        home: the queue folder.
        store: its database.
        read_wanted_jobs: returns the jobs to show; None for the usual sections.
        every_s: seconds between two redraws.
        records: returns the records of the jobs to show if columns are chosen.
        chosen_columns: these; with them, a line in a pipe is a job as it is after the change.

    Raises:
        KeyboardInterrupt: the user ends the watch.
        MachineError: the queue was deleted or replaced.
        BrokenPipeError: the pipe was closed.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        _print_changes(
            home, store, read_wanted_jobs() if read_wanted_jobs else None, chosen_columns
        )
        return
    # the result of a GPU query is shown at the next redraw
    lookout = GpuPoller(Nvml().snapshot, lambda: None)
    queue = QueueSnapshotReader(home, store, gpu_poller=lookout, measures=True)
    with alternate_screen() as show:
        while True:
            check_database_current(home, store)
            columns, rows = terminal_size()
            if records:
                lines = table_of_columns(records(), chosen_columns).to_lines(columns)
            elif read_wanted_jobs:
                with store.database.reading():
                    listed = job_views(home, store, read_wanted_jobs())
                lines = job_table(listed, time.time()).to_lines(columns)
            else:
                lines = snapshot_lines(queue.read_snapshot(waiting_limit=rows), columns)
            show(lines, columns, rows)
            wait_until(partial(_is_resized, columns, rows), every_s, POLL_INTERVAL_S)


def _is_resized(columns: int, rows: int) -> bool:
    return terminal_size() != (columns, rows)


def _print_changes(
    home: Home, store: Store, jobs: Sequence[JobRow] | None, columns: Sequence[JobColumn]
) -> None:
    """Print what happens to jobs, None: to any, on the standard output, a line for each change."""
    reader = select.poll()
    reader.register(sys.stdout, 0)
    followed, checked = JobTracker(home, store, jobs), time.monotonic()
    while True:
        if time.monotonic() - checked > CHECK_EVERY_S:
            check_database_current(home, store)
            if reader.poll(0):  # the next change may come in days
                raise BrokenPipeError(errno.EPIPE, "nobody reads the output")
            checked = time.monotonic()
        changes = followed.read_events()
        if columns:
            rows, keys = [followed.rows[change.job] for change in changes], keys_of(columns)
            records = column_records(home, store, rows, columns)
            click.echo(tab_separated(pipe_cells(record, keys) for record in records), nl=False)
            time.sleep(followed.poll_interval_s)
            continue
        held = [change.job for change in changes if change.code == ReasonCode.FAILURE_LIMIT]
        for text in failure_hold_texts(map(followed.rows.__getitem__, held)):
            click.echo(text)
        for change in changes:
            message = event_line(store, followed.rows[change.job], change, quiet=False)
            if message is not None:
                click.echo(message.text)
        time.sleep(followed.poll_interval_s)


_RUNNING_WORDS: Mapping[str, str] = {
    code: str(code)
    for code in (ReasonCode.PAUSED, ReasonCode.ENDING, ReasonCode.SETTLING, ReasonCode.FROZEN)
}


def event_line(store: Store, job: JobRow, change: JobEvent, *, quiet: bool) -> TextLine | None:
    """Return one line for one change, or None if the change is not shown.

    Args:
        store: the queue's database.
        job: the changed job.
        change: the event.
        quiet: leave out starts, which the live display shows.
    """
    name = sanitize_terminal(job.name)
    reason = sanitize_terminal(strip_state_prefix(change.reason.partition("\n")[0]))
    glyph = GLYPHS[change.state]
    match change.state:
        case State.RUNNING if not quiet:
            words = [_RUNNING_WORDS.get(change.code, "start"), name, reason]
            glyph = PAUSED if change.code == ReasonCode.PAUSED else glyph
        case State.DONE:
            attempt = store.read.newest_attempts([job.id]).get(job.id)
            seconds = None if attempt is None else attempt.seconds
            took = "" if seconds is None else format_seconds(max(0.0, seconds))
            result = store.read.result_of(job.id) or read_final_metrics(store.home, job)
            words = ["done", name, took, format_numbers(result)]
        case State.FAILED:
            words = ["failed", name, reason, f"→ launcher logs {job.id}"]
        case State.HELD if change.code == ReasonCode.FAILURE_LIMIT:
            return None  # one line for all held jobs
        case State.CANCELLED | State.HELD:
            words = [change.state, name, reason]
        case State.QUEUED if job.attempts:
            words = ["again", name, reason]
        case _:
            return None
    details = "  ".join(filter(None, words[1:]))
    text = f"{time_of_day(change.at)} {glyph} {words[0]:<9} {details}"
    plain = change.state in {State.RUNNING, State.QUEUED}
    return line(text, TextStyle.PLAIN if plain else TONES[change.state])


def wrap_message(message: TextLine, tail: str, width: int | None) -> list[TextLine]:
    """Return a change as lines that fit the terminal; further lines begin below the name.

    If a word does not fit there, further lines are indented by two columns.

    Args:
        message: the result of `event_line`.
        tail: text at its end.
        width: columns of the terminal. None without a terminal: the result is one line.
    """
    text, tone = f"{message.text}{tail}", message.spans[0].style
    if width is None or width_of(text) <= width:
        return [line(text, tone)]
    longest = max(map(width_of, text.split()))
    indent = " " * (_BEFORE_NAME if _BEFORE_NAME + longest <= width else 2)
    pieces = wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line(piece, tone) for piece in pieces]


def _draw(
    rows: Sequence[JobRow], queue: QueueSnapshotReader, width: int, *, waits: bool
) -> list[TextLine]:
    """Return the lines about a run: its progress and its running jobs.

    Args:
        rows: the jobs of the run.
        queue: reads their queue.
        width: columns.
        waits: nothing has started for PATIENCE_S; the reason is shown if nothing runs.
    """
    ours = {row.id for row in rows}
    counts = Counter(row.state for row in rows)
    ended = sum(counts[state] for state in ENDED_STATES)
    run = sanitize_terminal(rows[0].run) if rows else ""
    screen = queue.read_snapshot(waiting_limit=WAITING if waits else 0, recent=0)
    left_s = screen.run_remaining_s.get(run)
    waiting = [job for job in screen.waiting if job.id in ours][:MOST_REASONS]
    screen = screen._replace(
        active={run: (ended, len(rows))} if rows else {},
        run_remaining_s={} if left_s is None else {run: left_s},
        remaining_s=None,  # the field is about the whole queue
        running=tuple(work for work in screen.running if work.id in ours),
        waiting=tuple(waiting),
        more=counts[State.QUEUED] + counts[State.HELD] - len(waiting) if waiting else 0,
    )
    head = [*progress(screen, width), line(tally(counts), TextStyle.DIM)]
    below = (
        running_table(screen) if screen.running else queue_view.waiting_table(screen)
    ).to_lines(width)
    return [*head, *below]
