"""The logs of several jobs at once: each line whole, and with the name of its job before it."""

import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import click

from launcher.errors import counted
from launcher.screens.format import harmless, named
from launcher.screens.terminal import coloured
from launcher.screens.text_table import distinguished, width_of
from launcher.states import OPEN, State
from launcher.store.client import keep_going, stopped
from launcher.store.feed import Feed
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import tail_offset
from launcher.system.paths import Home
from launcher.system.text import ESCAPE, RESET, Plain, with_colours, without_colours

CHUNK_BYTES = 1 << 16  # of one job before the next one has its turn
LONGEST_BYTES = 8 << 10  # of a line; a longer one is cut into several
FOLLOW_EVERY_S = 0.1
CHECK_EVERY_S = 5.0  # a scheduler that died for good must not be waited for
MOST_NAME = 40  # columns
COLOURS = (
    "cyan",
    "green",
    "yellow",
    "blue",
    "magenta",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
    "bright_blue",
    "bright_magenta",
)  # red is for what went wrong
# where a terminal begins a line: a progress bar never writes a newline
_TURNS = re.compile(rb"\r\n|\n|\r(?!\Z)")
_LINES = re.compile(rb"\n")


class Labels:
    """What stands before the lines of each job."""

    def __init__(self, jobs: Mapping[int, str], *, terminal: bool, colour: bool) -> None:
        """Name jobs by their names, and by their numbers where those do not tell them apart."""
        names = {job: harmless(name) for job, name in jobs.items()}
        if terminal:
            shown = distinguished(names.values(), MOST_NAME)
            names = {job: shown[name] for job, name in names.items()}
        times = Counter(names.values())
        names = {job: f"{n} #{job}" if times[n] > 1 else n for job, n in names.items()}
        width = max(map(width_of, names.values()), default=0)
        self._labels = {}
        for job, name in names.items():
            padded = name + " " * (width - width_of(name))
            if colour:
                # by the name, so that a job has the same colour each time
                padded = click.style(
                    padded, fg=COLOURS[zlib.crc32(name.encode(errors="replace")) % len(COLOURS)]
                )
            self._labels[job] = f"{padded} │ " if terminal else f"{name}\t"

    def of(self, job: int) -> str:
        """Return what stands before the lines of a job."""
        return self._labels[job]


class Lines:
    """Cuts what a job writes into whole lines; what has no end yet is kept back."""

    def __init__(self, *, turns: bool) -> None:
        """Cut at newlines; with `turns` also where a terminal's cursor goes back to the left."""
        self._ends, self._turn = (_TURNS, b"\r") if turns else (_LINES, b"")
        self._kept = b""

    def cut(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their ends."""
        data = self._kept + chunk
        lines, begin = [], 0
        # only ends are looked for: a pattern of whole lines would try anew from every byte of one
        for end in self._ends.finditer(data):
            lines.append(data[begin : end.start()])
            begin = end.end()
        self._kept = data[begin:]
        while len(self._kept) > LONGEST_BYTES:
            lines.append(self._kept[:LONGEST_BYTES])
            self._kept = self._kept[LONGEST_BYTES:]
        return lines

    def rest(self) -> list[bytes]:
        """Return the line that has no end yet."""
        kept, self._kept = self._kept, b""
        return [kept.removesuffix(self._turn)] if kept else []


@dataclass(slots=True)
class _Source:
    """One job's log as far as it was read."""

    row: JobRow
    attempt: int
    lines: Lines
    tail: int | None  # only so many lines of the first log
    position: int = 0
    last: bool = False  # only this attempt


class Followers:
    """Prints what several jobs write, attempt after attempt, until all of them have ended.

    A log is open only while it is read, so that any number of jobs can be followed.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        jobs: Sequence[JobRow],
        *,
        event: int,
        tail: int | None,
        raw: bool = False,
    ) -> None:
        """Follow jobs as they were after an event; `raw` passes on every byte."""
        self._raw = raw
        self._home, self._store, self._feed = home, store, Feed(store, event)
        self._terminal = sys.stdout.isatty()
        names = {job.id: job.name for job in jobs}
        self._labels = Labels(names, terminal=self._terminal, colour=coloured(sys.stdout))
        self._sources = {job.id: self._source(job, tail) for job in jobs}
        self._checked = float("-inf")

    def _source(self, job: JobRow, tail: int | None) -> _Source:
        lines = Lines(turns=self._terminal)
        return _Source(row=job, attempt=max(job.attempts, 1), lines=lines, tail=tail)

    def follow(self, attempt: int | None) -> None:
        """Follow one attempt of each job, or all from the newest on."""
        for source in self._sources.values():
            if attempt is not None:
                source.attempt, source.last = attempt, True
        self._say_waiting()
        while True:
            self._take_in()
            wrote = self._turn()
            if not self._sources:
                return
            if not wrote:
                sys.stdout.flush()
                self._keep_alive()
                time.sleep(FOLLOW_EVERY_S)

    def _say_waiting(self) -> None:
        rows = [source.row for source in self._sources.values()]
        waiting = [row for row in rows if row.attempts == 0 and row.state in OPEN]
        if waiting:
            has = "has" if len(waiting) == 1 else "have"
            notice = f"{counted(len(waiting), 'job')} {has} not run yet: {named(waiting)}"
            click.echo(notice, err=True)

    def _take_in(self) -> None:
        """Learn what became of the jobs since the last look."""
        changed = {change.job for change in self._feed.since()}
        self._look_at(changed & set(self._sources))

    def _look_at(self, jobs: AbstractSet[int]) -> None:
        """Read what is on record of jobs; those that were cleaned are not followed any more."""
        by_id = {row.id: row for row in self._store.read.jobs_by_id(jobs)} if jobs else {}
        for job in jobs:
            source = self._sources[job]
            if job in by_id:
                source.row = by_id[job]
                continue
            self._say(job, source.lines.rest())
            click.echo(f"{harmless(source.row.name)}: cleaned, and its log with it", err=True)
            del self._sources[job]

    def _turn(self) -> bool:
        """Print what each job wrote since its last turn; tell whether it was anything."""
        wrote = False
        for job, source in list(self._sources.items()):
            if source.attempt > source.row.attempts:  # it has not begun yet
                if source.row.state not in OPEN:
                    self._never_ran(source)
                    del self._sources[job]
                continue
            running = source.row.state is State.RUNNING and source.row.attempts == source.attempt
            chunk = self._read(source)
            self._say(job, source.lines.cut(chunk))
            wrote = wrote or bool(chunk)
            if running or chunk:
                continue
            self._say(job, source.lines.rest())
            source.attempt, source.position, source.tail = source.attempt + 1, 0, None
            ended = source.row.state not in OPEN and source.row.attempts < source.attempt
            if source.last or ended:
                del self._sources[job]
            wrote = True
        return wrote

    def _never_ran(self, source: _Source) -> None:
        row = source.row
        if row.attempts == 0 or source.last:
            which = f"no attempt {source.attempt}" if source.last else "has not run"
            click.echo(f"{harmless(row.name)}: {which}: {harmless(row.reason)}", err=True)

    def _read(self, source: _Source) -> bytes:
        log = self._home.attempt(source.row.id, source.attempt).log
        try:
            size = log.stat().st_size
            if size < source.position:  # the file was truncated
                source.position = 0
            if source.tail is None and size == source.position:
                return b""
            with log.open("rb") as file:
                if source.tail is not None:
                    source.position, source.tail = tail_offset(file, source.tail), None
                file.seek(source.position)
                chunk = file.read(CHUNK_BYTES)
        except OSError:  # not made yet, or cleaned
            return b""
        source.position += len(chunk)
        return chunk

    def _say(self, job: int, lines: Sequence[bytes]) -> None:
        if lines:
            say(self._labels.of(job), lines, terminal=self._terminal, raw=self._raw)

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self._checked > CHECK_EVERY_S:
            self._checked = now
            self._look_at(set(self._sources))  # what was cleaned has left no event either
            if not self._sources:
                return
            runs = any(source.row.state is State.RUNNING for source in self._sources.values())
            if not keep_going(self._home, self._store) and not runs:
                raise stopped()


def say(label: str, lines: Sequence[bytes], *, terminal: bool, raw: bool = False) -> None:
    """Print lines behind a label; only colours steer a terminal, and nothing comes so far in a pipe.

    Args:
        label: what stands before each.
        lines: without their ends.
        terminal: where they go.
        raw: they go there as the bytes that they are.
    """
    if raw or not terminal:
        before = label.encode(errors="replace")
        bodies = lines if raw else map(_plain, lines)
        click.echo(b"".join(b"%s%s\n" % (before, body) for body in bodies), nl=False)
        return
    colour = coloured(sys.stdout)
    shown, reset = (with_colours, RESET) if colour else (without_colours, "")
    for raw_line in lines:
        text = "\t".join(map(shown, raw_line.decode(errors="replace").split("\t")))
        click.echo(f"{label}{text}{reset if ESCAPE in text else ''}", color=True)


def _plain(text: bytes) -> bytes:
    plain = Plain()
    return plain.feed(text) + plain.rest()


def header(job: JobRow, attempt: int) -> str:
    """Return what stands above a log where there are several, as `tail` writes it."""
    return f"==> {harmless(job.name)} (job {job.id}, attempt {attempt}) <=="


def ends_with_newline(log: Path) -> bool:
    """Tell whether what follows a log begins a line of its own."""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
