"""The logs of jobs, printed and followed: that of one as it grows, those of several line by line.

Of several each line is whole, and has the name of its job before it.
"""

import codecs
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from launcher.errors import UsageError, counted
from launcher.screens.format import harmless, named, reason_to_show, why
from launcher.screens.terminal import coloured
from launcher.screens.text_table import distinguished, width_of
from launcher.states import OPEN, ReasonCode, State
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
_BEGUN = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")  # a colour whose end is still to be read


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


class Output(Protocol):
    """A destination for a log."""

    def write(self, chunk: bytes) -> None:
        """Print a chunk of bytes."""

    def close(self) -> None:
        """Print what is still buffered."""


class _Raw:
    """Prints every byte."""

    def write(self, chunk: bytes) -> None:
        click.echo(chunk, nl=False)

    def close(self) -> None:
        """Nothing is buffered."""


class _Pipe:
    """Prints all but escape sequences."""

    def __init__(self) -> None:
        self._plain = Plain()

    def write(self, chunk: bytes) -> None:
        click.echo(self._plain.feed(chunk), nl=False)

    def close(self) -> None:
        click.echo(self._plain.rest(), nl=False)


class _Terminal:
    """Prints text, with its colours where they are enabled."""

    def __init__(self) -> None:
        # a character may be cut in two where one reading ends, and so may a colour
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._colour = coloured(sys.stdout)
        self._kept = ""

    def write(self, chunk: bytes) -> None:
        text = self._kept + self._decoder.decode(chunk)
        begun = _BEGUN.search(text)
        cut = begun.start() if begun else len(text)
        text, self._kept = text[:cut], text[cut:]
        self._show(text)

    def close(self) -> None:
        self._show(self._kept)
        if self._colour:
            click.echo(RESET, nl=False, color=True)

    def _show(self, text: str) -> None:
        shown = with_colours if self._colour else without_colours
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        texts = ("\t".join(map(shown, line.split("\t"))) for line in lines)
        click.echo("\n".join(texts), nl=False, color=True)


class _Labelled:
    """Prints whole lines behind a label; only colours steer a terminal, and nothing comes so far in a pipe."""

    def __init__(self, label: str, *, terminal: bool, raw: bool) -> None:
        self._label, self._terminal, self._raw = label, terminal, raw
        self._lines = Lines(turns=terminal)

    def write(self, chunk: bytes) -> None:
        self._say(self._lines.cut(chunk))

    def close(self) -> None:
        self._say(self._lines.rest())

    def _say(self, lines: Sequence[bytes]) -> None:
        if self._raw or not self._terminal:
            before = self._label.encode(errors="replace")
            bodies = lines if self._raw else map(_plain, lines)
            click.echo(b"".join(b"%s%s\n" % (before, body) for body in bodies), nl=False)
            return
        colour = coloured(sys.stdout)
        shown, reset = (with_colours, RESET) if colour else (without_colours, "")
        for line in lines:
            text = "\t".join(map(shown, line.decode(errors="replace").split("\t")))
            click.echo(f"{self._label}{text}{reset if ESCAPE in text else ''}", color=True)


def _plain(text: bytes) -> bytes:
    plain = Plain()
    return plain.feed(text) + plain.rest()


def _output(*, raw: bool) -> Output:
    """Return where the log of one job alone is printed."""
    return _Raw() if raw else _Terminal() if sys.stdout.isatty() else _Pipe()


def print_log(log: Path, lines: int | None, *, raw: bool) -> None:
    """Print a log as it is now.

    Args:
        log: the file.
        lines: print the last ones only; None: all.
        raw: print every byte unchanged.

    Raises:
        UsageError: there is no such file.
    """
    try:
        file = log.open("rb")
    except FileNotFoundError:
        raise no_log(log) from None
    with file, closing(_output(raw=raw)) as output:
        if lines is not None:
            file.seek(tail_offset(file, lines))
        while chunk := file.read(CHUNK_BYTES):
            output.write(chunk)


def no_log(log: Path) -> UsageError:
    """Return the error for an attempt without a log."""
    job, folder = log.parent.name.partition("-")[0], log.parent
    if folder.is_symlink() and not folder.exists():
        return UsageError(
            f"the folder of its attempt cannot be reached: {folder.readlink()}, on the file system of "
            "its pilot; is that mounted?"
        )
    return UsageError(
        f"there is no log at {log}; its attempt was never started: `launcher show {job}` tells more"
    )


def attempt_of(row: JobRow, attempt: int | None) -> int:
    """Return which attempt's log is meant, the newest where none is named.

    Raises:
        UsageError: there is no such attempt.
    """
    if row.attempts == 0:
        then = "-f waits for it" if row.state in OPEN else "`launcher retry` queues it again"
        new = reason_to_show(row).code is ReasonCode.NEW
        waits = f"it is {row.state}" if new else why(row)
        raise UsageError(f"{row.name} has not run yet: {waits}; {then}")
    if attempt is not None and attempt > row.attempts:
        raise UsageError(
            f"{row.name} has {counted(row.attempts, 'attempt')}, and you ask for number {attempt}; "
            "without --attempt you get the newest"
        )
    return attempt or row.attempts


@dataclass(slots=True)
class _Source:
    """One job's log as far as it was read."""

    row: JobRow
    attempt: int
    output: Output
    tail: int | None  # only so many lines of the first log
    position: int = 0
    last: bool = False  # only this attempt
    explained: bool = False  # it was said why this attempt has not begun


class Followers:
    """Prints what jobs write, attempt after attempt, until all of them have ended.

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
        self._is_alone = len(jobs) == 1
        self._terminal = sys.stdout.isatty()
        names = {job.id: job.name for job in jobs}
        self._labels = Labels(names, terminal=self._terminal, colour=coloured(sys.stdout))
        self._sources = {
            job.id: _Source(
                row=job, attempt=max(job.attempts, 1), output=self._output(job.id), tail=tail
            )
            for job in jobs
        }
        self._checked = float("-inf")

    def _output(self, job: int) -> Output:
        if self._is_alone:
            return _output(raw=self._raw)
        return _Labelled(self._labels.of(job), terminal=self._terminal, raw=self._raw)

    def follow(self, attempt: int | None) -> None:
        """Follow one attempt of each job, or all from the newest on.

        Raises:
            UsageError: the one job has ended without it, or was cleaned.
            MachineError: the queue was stopped, and none of them runs.
        """
        for source in self._sources.values():
            if attempt is not None:
                source.attempt, source.last = attempt, True
        self._say_waiting()
        try:
            self._follow()
        finally:
            for source in self._sources.values():
                if self._is_alone:  # its colours are set back
                    source.output.close()

    def _follow(self) -> None:
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
        if waiting and not self._is_alone:
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
            if self._is_alone:
                raise UsageError(
                    f"job {job} was cleaned, and its log with it; `launcher status` lists the rest"
                )
            source.output.close()
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
                elif self._is_alone and not source.explained:
                    self._explain(source)
                continue
            running = source.row.state is State.RUNNING and source.row.attempts == source.attempt
            chunk = self._read(source)
            source.output.write(chunk)
            wrote = wrote or bool(chunk)
            if not running and not chunk:
                self._end_attempt(source)
                wrote = True
        return wrote

    def _end_attempt(self, source: _Source) -> None:
        """Turn to the next attempt of a job, or leave it."""
        job, log = source.row.id, self._log(source)
        source.output.close()
        source.output = self._output(job)
        source.attempt, source.position, source.tail = source.attempt + 1, 0, None
        source.explained = False
        if source.last or (source.row.state not in OPEN and source.row.attempts < source.attempt):
            del self._sources[job]
        if self._is_alone and not log.exists():
            raise no_log(log)

    def _explain(self, source: _Source) -> None:
        source.explained = True
        waits = "has not run yet" if source.attempt == 1 else "waits to run again"
        click.echo(f"{harmless(source.row.name)} {waits}: {harmless(why(source.row))}", err=True)

    def _never_ran(self, source: _Source) -> None:
        row = source.row
        if row.attempts and not source.last:
            return
        if self._is_alone:
            attempt_of(row, source.attempt)  # that is an error
        which = f"no attempt {source.attempt}" if source.last else "has not run"
        click.echo(f"{harmless(row.name)}: {which}: {harmless(row.reason)}", err=True)

    def _log(self, source: _Source) -> Path:
        return self._home.attempt(source.row.id, source.attempt).log

    def _read(self, source: _Source) -> bytes:
        log = self._log(source)
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
