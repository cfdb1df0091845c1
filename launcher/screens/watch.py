"""Watching jobs until they end: a live picture in a terminal, one line a change elsewhere."""

import errno
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap

import click

from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens import queue_view
from launcher.screens.format import GLYPHS, PAUSED, clock, harmless, tally
from launcher.screens.job_view import WAITING, numbers_of, views_of
from launcher.screens.live_display import below_messages, whole_screen
from launcher.screens.queue_head import progress
from launcher.screens.queue_view import TONES, jobs_listed, running, screen_lines
from launcher.screens.snapshots import Queue
from launcher.screens.terminal import terminal_size
from launcher.screens.text_table import Line, Tone, line, width_of
from launcher.states import ENDED, ReasonCode, State, without_state
from launcher.store.client import check_still_there
from launcher.store.feed import Change, FollowedJobs
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.units import format_seconds

DRAW_EVERY_S = 0.5
LOOK_EVERY_S = 0.1  # at the window's size
_BEFORE_NAME = len("14:02:07 ✓ cancelled ")  # columns of a change's line
PATIENCE_S = 5.0  # when nothing has started for so long, it is told why
MOST_REASONS = 3  # jobs whose reasons are told
CHECK_EVERY_S = 2.0  # that the queue, and who reads a pipe, are still there


def watch_run(home: Home, store: Store, jobs: Sequence[int], since: int, *, live: bool) -> None:
    """Show a run until all its jobs have ended.

    Args:
        home: whose queue.
        store: its database.
        jobs: of the run.
        since: the event after which it begins.
        live: draw a picture that changes; else only lines.

    Raises:
        KeyboardInterrupt: the person leaves; the jobs go on.
        MachineError: the queue was stopped; the jobs wait.
    """
    live = live and os.environ.get("TERM") != "dumb"
    followed = FollowedJobs(home, store, store.read.jobs_by_id(jobs), since=since)
    ended = followed.rows.keys() - followed.open
    queue, drawn, started = Queue(home, store), 0.0, time.monotonic()
    picture: Sequence[Line] = ()
    with below_messages(live=live) as show:
        for changes in followed.until_ended():
            width = terminal_size(sys.stderr)[0] if live else None
            messages = _told(store, followed, changes, ended, width)
            now = time.monotonic()
            if any(change.state is State.RUNNING for change in changes):
                started = now
            is_due = now - drawn > DRAW_EVERY_S
            if width is not None and is_due:
                waits = now - started > PATIENCE_S
                picture = _draw([*followed.rows.values()], queue, width, waits=waits)
                drawn = now
            if messages or is_due:
                show(messages, picture)


def _told(
    store: Store,
    followed: FollowedJobs,
    changes: Sequence[Change],
    ended: set[int],
    width: int | None,
) -> list[Line]:
    """Return what is told of changes, and note in `ended` which jobs have ended."""
    messages: list[Line] = []
    for change in changes:
        # a job that failed may be queued again by its owner
        (ended.add if change.state in ENDED else ended.discard)(change.job)
        message = change_line(store, followed.rows[change.job], change, quiet=width is not None)
        if message is not None:
            tail = f"  [{len(ended)}/{len(followed.rows)}]" if change.state in ENDED else ""
            messages += in_lines(message, tail, width)
    if skipped := sum(change.state is State.SKIPPED for change in changes):
        needy = "1 job that needs it is" if skipped == 1 else f"{skipped} jobs that need it are"
        messages.append(line(f"{needy} skipped  [{len(ended)}/{len(followed.rows)}]"))
    return messages


def watch_queue(
    home: Home, store: Store, wanted: Callable[[], list[JobRow]] | None, every_s: float
) -> None:
    """Show the queue until Ctrl-C; in a pipe or a dumb terminal, a line for each change.

    Args:
        home: whose queue.
        store: its database.
        wanted: returns the jobs that are shown; None: all that matter.
        every_s: seconds between two pictures.

    Raises:
        KeyboardInterrupt: the person leaves.
        MachineError: the queue was deleted or replaced meanwhile.
        BrokenPipeError: the reader of the pipe has left.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        _follow(home, store, wanted() if wanted else None)
        return
    # who needs a look at the GPUs has it in the next picture
    lookout = Lookout(Nvml().snapshot, lambda: None)
    queue = Queue(home, store, lookout=lookout, measures=True)
    with whole_screen() as show:
        while True:
            check_still_there(home, store)
            columns, rows = terminal_size()
            if wanted:
                with store.reading():
                    listed = views_of(home, store, wanted())
                lines = jobs_listed(listed, time.time()).drawn(columns)
            else:
                lines = screen_lines(queue.look(waiting=rows), columns)
            show(lines, columns, rows)
            until_s = time.monotonic() + every_s
            # at once where the window's size has changed
            while (left_s := until_s - time.monotonic()) > 0 and terminal_size() == (columns, rows):
                time.sleep(min(LOOK_EVERY_S, left_s))


def _follow(home: Home, store: Store, jobs: Sequence[JobRow] | None) -> None:
    """Print what happens to jobs, None: to any, on the standard output, a line for each change."""
    reader = select.poll()
    reader.register(sys.stdout, 0)
    followed, checked = FollowedJobs(home, store, jobs), time.monotonic()
    while True:
        if time.monotonic() - checked > CHECK_EVERY_S:
            check_still_there(home, store)
            if reader.poll(0):  # the next change may come in days
                raise BrokenPipeError(errno.EPIPE, "nobody reads the output")
            checked = time.monotonic()
        for change in followed.changes():
            message = change_line(store, followed.rows[change.job], change, quiet=False)
            if message is not None:
                click.echo(message.text)
        time.sleep(followed.pause_s)


_RUNNING_WORDS: Mapping[str, str] = {
    code: str(code) for code in (ReasonCode.PAUSED, ReasonCode.ENDING, ReasonCode.SETTLING)
}


def change_line(store: Store, job: JobRow, change: Change, *, quiet: bool) -> Line | None:
    """Return one line for one change, None where there is nothing to say.

    Args:
        store: the queue's database.
        job: whose change it is.
        change: what happened.
        quiet: starts are seen elsewhere.
    """
    name = harmless(job.name)
    reason = harmless(without_state(change.reason.partition("\n")[0]))
    glyph = GLYPHS[change.state]
    match change.state:
        case State.RUNNING if not quiet:
            words = [_RUNNING_WORDS.get(change.code, "start"), name, reason]
            glyph = PAUSED if change.code == ReasonCode.PAUSED else glyph
        case State.DONE:
            attempt = store.read.newest_attempts([job.id]).get(job.id)
            seconds = None if attempt is None else attempt.seconds
            took = "" if seconds is None else format_seconds(max(0.0, seconds))
            words = ["done", name, took, numbers_of(store.read.result_of(job.id) or {})]
        case State.FAILED:
            words = ["failed", name, reason, f"→ launcher logs {job.id}"]
        case State.CANCELLED | State.HELD:
            words = [change.state, name, reason]
        case State.QUEUED if job.attempts:
            words = ["again", name, reason]
        case _:
            return None
    details = "  ".join(filter(None, words[1:]))
    text = f"{clock(change.at)} {glyph} {words[0]:<9} {details}"
    plain = change.state in {State.RUNNING, State.QUEUED}
    return line(text, Tone.PLAIN if plain else TONES[change.state])


def in_lines(message: Line, tail: str, width: int | None) -> list[Line]:
    """Return a change as lines that a terminal need not break; what follows stands below the name.

    Where a word has no room there, what follows is indented by two columns only.

    Args:
        message: as `change_line` has it.
        tail: what stands at its end.
        width: columns of the terminal; None: there is none, and it is one line.
    """
    text, tone = f"{message.text}{tail}", message.spans[0].tone
    if width is None or width_of(text) <= width:
        return [line(text, tone)]
    longest = max(map(width_of, text.split()))
    indent = " " * (_BEFORE_NAME if _BEFORE_NAME + longest <= width else 2)
    pieces = wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line(piece, tone) for piece in pieces]


def _draw(rows: Sequence[JobRow], queue: Queue, width: int, *, waits: bool) -> list[Line]:
    """Return the part of the screen that is about the run: how far it is, and what of it runs.

    Args:
        rows: its jobs.
        queue: theirs.
        width: columns.
        waits: nothing has started for long; where nothing runs either, it is told why.
    """
    ours = {row.id for row in rows}
    counts = Counter(row.state for row in rows)
    ended = sum(counts[state] for state in ENDED)
    run = harmless(rows[0].run) if rows else ""
    screen = queue.look(waiting=WAITING if waits else 0, recent=0)
    left_s = screen.runs_left.get(run)
    waiting = [job for job in screen.waiting if job.id in ours][:MOST_REASONS]
    screen = screen._replace(
        active={run: (ended, len(rows))} if rows else {},
        runs_left={} if left_s is None else {run: left_s},
        left_s=None,  # that of the whole queue
        running=tuple(work for work in screen.running if work.id in ours),
        waiting=tuple(waiting),
        more=counts[State.QUEUED] + counts[State.HELD] - len(waiting) if waiting else 0,
    )
    head = [*progress(screen, width), line(tally(counts), Tone.DIM)]
    below = (running(screen) if screen.running else queue_view.waiting(screen)).drawn(width)
    return [*head, *below]
