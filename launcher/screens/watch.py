"""Watching jobs until they end: a live picture in a terminal, one line a change elsewhere."""

import errno
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from textwrap import wrap
from typing import NamedTuple

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from launcher.screens.format import GLYPHS, clock, harmless, tally
from launcher.screens.queue_view import TONES, progress, running
from launcher.screens.screen import numbers_of
from launcher.screens.snapshots import Snapshots
from launcher.screens.terminal import STYLES, coloured
from launcher.screens.text_table import Line, Span, Tone, line, width_of
from launcher.states import ENDED, State
from launcher.store.client import check_still_there, keep_going, stopped
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.units import format_seconds

LOOK_EVERY_S = 0.1
DRAW_EVERY_S = 0.5
_BEFORE_NAME = len("14:02:07 ✓ cancelled ")  # columns of a change's line
CHECK_EVERY_S = 2.0  # how soon a scheduler that was killed is replaced


class Change(NamedTuple):
    """Something that happened to a job."""

    at: float
    job: JobRow
    state: State
    reason: str


class Watcher:
    """Follows jobs; what it reads grows with what happens only."""

    def __init__(
        self, home: Home, store: Store, jobs: tuple[int, ...] | None, *, since: int | None = None
    ) -> None:
        """Follow jobs.

        Args:
            home: whose queue.
            store: its database.
            jobs: which; None: all.
            since: the event after which it begins; None: the newest one.
        """
        self.home, self.store, self._all = home, store, jobs is None
        self._last = store.read.last_event() if since is None else since
        self._rows = {row.id: row for row in store.read.jobs_by_id(jobs or ())}
        self._checked = time.monotonic()
        self.snapshots = Snapshots(home, store)

    def rows(self) -> list[JobRow]:
        """Return the jobs as they were at the last call of `changes`."""
        return list(self._rows.values())

    def changes(self) -> list[Change]:
        """Return what happened since the last call."""
        news = self.store.read.events_after(self._last)
        if not news:
            return []
        self._last = news[-1][0]
        ours = {event[2] for event in news}
        if not self._all:
            ours &= self._rows.keys()
        by_id = {row.id: row for row in self.store.read.jobs_by_id(ours)}
        self._rows = by_id if self._all else self._rows | by_id
        return [
            Change(at=at, job=by_id[job], state=state, reason=reason)
            for _, at, job, state, reason in news
            if job in by_id
        ]

    def keep_alive(self) -> None:
        """Replace a scheduler that was killed.

        Raises:
            MachineError: the queue was stopped on purpose, and jobs of the run are left.
        """
        now = time.monotonic()
        if now - self._checked > CHECK_EVERY_S:
            self._checked = now
            if not keep_going(self.home, self.store) and not self.finished():
                raise stopped()

    def finished(self) -> bool:
        """Tell whether no job of those that are followed is open any more."""
        return all(row.state in ENDED for row in self.rows())

    def result(self, job: JobRow) -> str:
        """Return the first few numbers of a job's result."""
        return numbers_of(self.store.read.result_of(job.id) or {})

    def took(self, job: JobRow) -> str:
        """Return how long a job's last attempt took."""
        spans = self.store.frames.spans([job.id])
        return format_seconds(spans[job.id]) if job.id in spans else ""


def watch_run(watcher: Watcher, *, live: bool) -> None:
    """Show the run until all its jobs have ended.

    Raises:
        KeyboardInterrupt: the person leaves; the jobs go on.
        MachineError: the queue was stopped; the jobs wait.
    """
    plain = not coloured(sys.stderr)  # rich alone would still write bold and dim
    console = Console(stderr=True, highlight=False, color_system=None if plain else "auto")
    with _picture(console, live=live) as picture:
        drawn = 0.0
        ended = {row.id for row in watcher.rows() if row.state in ENDED}
        total = len(watcher.rows())
        while True:
            changes = watcher.changes()
            for change in changes:
                # a job that failed may be queued again by its owner
                (ended.add if change.state in ENDED else ended.discard)(change.job.id)
                message = change_line(watcher, change, quiet=live)
                if message is not None:
                    tail = f"  [{len(ended)}/{total}]" if change.state in ENDED else ""
                    for text in in_lines(message, tail, console.width if live else None):
                        console.print(_text(text), soft_wrap=True)
            skipped = sum(change.state is State.SKIPPED for change in changes)
            if skipped:
                needy = (
                    "1 job that needs it is" if skipped == 1 else f"{skipped} jobs that need it are"
                )
                console.print(f"{needy} skipped  [{len(ended)}/{total}]")
            now = time.monotonic()
            if picture is not None and now - drawn > DRAW_EVERY_S:
                picture.update(_draw(watcher, console.width))
                drawn = now
            if watcher.finished():
                return
            watcher.keep_alive()
            time.sleep(LOOK_EVERY_S)


def follow(watcher: Watcher) -> None:
    """Print what happens on the standard output, a line for each change, until Ctrl-C.

    Raises:
        KeyboardInterrupt: the person leaves.
        MachineError: the queue was deleted or replaced meanwhile.
        BrokenPipeError: the reader of the pipe has left.
    """
    reader = select.poll()
    reader.register(sys.stdout, 0)
    checked = time.monotonic()
    while True:
        if time.monotonic() - checked > CHECK_EVERY_S:
            check_still_there(watcher.home, watcher.store)
            if reader.poll(0):  # the next change may come in days
                raise BrokenPipeError(errno.EPIPE, "nobody reads the output")
            checked = time.monotonic()
        for change in watcher.changes():
            message = change_line(watcher, change, quiet=False)
            if message is not None:
                click.echo(message.text)
        time.sleep(LOOK_EVERY_S)


def change_line(watcher: Watcher, change: Change, *, quiet: bool) -> Line | None:
    """Return one line for one change, None where there is nothing to say.

    Args:
        watcher: whose change it is.
        change: what happened.
        quiet: starts are seen elsewhere.
    """
    name = harmless(change.job.name)
    reason = harmless(change.reason.partition("\n")[0])
    match change.state:
        case State.RUNNING if not quiet:
            words = ["start", name, reason]
        case State.DONE:
            words = ["done", name, watcher.took(change.job), watcher.result(change.job)]
        case State.FAILED:
            words = ["failed", name, reason, f"→ launcher logs {change.job.id}"]
        case State.CANCELLED | State.HELD:
            words = [change.state, name, reason]
        case State.QUEUED if change.job.attempts:
            words = ["again", name, reason]
        case _:
            return None
    details = "  ".join(filter(None, words[1:]))
    text = f"{clock(change.at)} {GLYPHS[change.state]} {words[0]:<9} {details}"
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


@contextmanager
def _picture(console: Console, *, live: bool) -> Iterator[Live | None]:
    if not live:
        yield None
        return
    with Live(console=console, auto_refresh=True, refresh_per_second=4, transient=True) as picture:
        yield picture


def _draw(watcher: Watcher, width: int) -> Group:
    """Return the part of the screen that is about the run: how far it is, and what of it runs."""
    rows = watcher.rows()
    ours = {row.id for row in rows}
    counts = {state: sum(row.state is state for row in rows) for state in State}
    ended = sum(counts[state] for state in ENDED)
    ours_runs = {harmless(row.run) for row in rows[:1]}
    screen = watcher.snapshots.take(waiting=0, recent=0)
    screen = replace(
        screen,
        active={harmless(rows[0].run): (ended, len(rows))} if rows else {},
        runs_left={run: left for run, left in screen.runs_left.items() if run in ours_runs},
        left_s=None,  # that of the whole queue
        running=tuple(work for work in screen.running if work.line.id in ours),
    )
    head = [*progress(screen, width), line(tally(counts), Tone.DIM)]
    return Group(*map(_text, [*head, *running(screen, width)]))


def _text(drawn: Line) -> Text:
    """Return a line as rich draws it."""
    return Text.assemble(*(_piece(span) for span in drawn.spans))


def _piece(span: Span) -> tuple[str, str]:
    style = STYLES[span.tone]
    words = [word for word in ("bold", "dim") if style.get(word)]
    return span.text, " ".join([*words, *filter(None, [style.get("fg")])])
