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
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from launcher.queue.home.paths import LOG, STDERR, Home
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State
from launcher.queue.store.client import queue_stopped_error
from launcher.queue.store.feed import JobTracker
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import format_job_names, reason_to_show, why
from launcher.queue.workers.log_limit import offset_after_move
from launcher.system.errors import UsageError, pluralize
from launcher.system.log_files import data_chunks, read_file_part, tail_offset
from launcher.system.terminal import uses_colour
from launcher.system.terminal_codes import (
    ESCAPE,
    RESET,
    PlainTextFilter,
    apply_backspaces,
    keep_colours_only,
    strip_colours,
)
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import distinguish_names, width_of

CHUNK_BYTES = 1 << 16  # bytes of one job before the next job has its turn
LONGEST_BYTES = 8 << 10  # bytes of a line; a longer one is cut into several
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
# places at which a terminal begins a line: a progress bar never writes a newline
_TURNS = re.compile(rb"\r\n|\n|\r(?!\Z)")
_LINES = re.compile(rb"\n")
_VALUES = re.compile(r"@(?=[^@=]+=)")  # between the name of a swept program and its values
_TEXT = re.compile(r"[^\t\n]+")  # text that is made harmless
# a colour or an end of a line whose second part is still to be read
_BEGUN = re.compile(r"(?:\x1b(?:\[[0-9;:]{0,64})?|\r)\Z")


def line_labels(jobs: Mapping[int, str], *, terminal: bool, colour: bool) -> dict[int, str]:
    """Return the prefix of each job's lines: its name, and its number if other jobs have the same name."""
    names = {job: sanitize_terminal(name) for job, name in jobs.items()}
    if terminal:
        shown = distinguish_names(names.values(), MOST_NAME)
        names = {job: shown[name] for job, name in names.items()}
    times = Counter(names.values())
    names = {job: f"{n} #{job}" if times[n] > 1 else n for job, n in names.items()}
    if not terminal:
        return {job: f"{name}\t" for job, name in names.items()}
    width = max(map(width_of, names.values()), default=0)
    labels = {}
    for job, name in names.items():
        padded = name + " " * (width - width_of(name))
        # by the name, so that a job has the same colour each time
        number = zlib.crc32(name.encode(errors="replace")) % len(COLOURS)
        labels[job] = f"{click.style(padded, fg=COLOURS[number]) if colour else padded} │ "
    return labels


class LineSplitter:
    """Splits the output of a job into whole lines; an incomplete line is kept back."""

    def __init__(self, *, turns: bool) -> None:
        """Cut at newlines; with `turns` also where a terminal's cursor goes back to the left."""
        self._ends, self._turn = (_TURNS, b"\r") if turns else (_LINES, b"")
        self._buffer = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their ends."""
        # the pattern matches only line ends; one for whole lines would be retried from every byte of a line
        *lines, self._buffer = self._ends.split(self._buffer + chunk)
        while len(self._buffer) > LONGEST_BYTES:
            lines.append(self._buffer[:LONGEST_BYTES])
            self._buffer = self._buffer[LONGEST_BYTES:]
        return lines

    def flush(self) -> list[bytes]:
        """Return the line that has no end yet."""
        kept, self._buffer = self._buffer, b""
        return [kept.removesuffix(self._turn)] if kept else []


class LogPrinter:
    """Prints the log of one job unchanged if it is alone, otherwise in whole lines after a label.

    On a terminal, only colours act as escape sequences. For a pipe, escape sequences are removed.
    """

    def __init__(self, label: str = "", *, raw: bool) -> None:
        """Print nothing yet.

        Args:
            label: the prefix of each line; '' if the log is the only one.
            raw: every byte is printed.
        """
        self._label, self._raw = label, raw
        is_terminal = sys.stdout.isatty()
        self._as_text, self._colour = is_terminal and not raw, uses_colour(sys.stdout)
        self._lines, self._plain = LineSplitter(turns=is_terminal), PlainTextFilter()
        # a character may be cut in two where one reading ends, and so may a colour
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._buffer = ""

    def tail_offset(self, file: BinaryIO, lines: int) -> int:
        """Return where the last lines of a log begin, counted as they are printed here."""
        as_shown = sys.stdout.isatty() and (bool(self._label) or not self._raw)
        return tail_offset(file, lines, as_shown=as_shown)

    def write(self, chunk: bytes) -> None:
        """Print a piece."""
        if self._label:
            self._print_labelled(self._lines.split(chunk))
        elif self._as_text:
            text = self._buffer + self._decoder.decode(chunk)
            begun = _BEGUN.search(text)
            cut = begun.start() if begun else len(text)
            shown, beyond = _as_shown(text[:cut])
            self._buffer = beyond + text[cut:]
            self._show(shown)
        else:
            click.echo(chunk if self._raw else self._plain.feed(chunk), nl=False)

    def close(self) -> None:
        """Print what was kept back."""
        if self._label:
            self._print_labelled(self._lines.flush())
        elif self._as_text:
            shown, beyond = _as_shown(self._buffer)
            self._show(shown + beyond.rstrip("\b") + (RESET if self._colour else ""))
        else:
            click.echo(self._plain.flush(), nl=False)

    def _print_labelled(self, lines: Sequence[bytes]) -> None:
        if self._as_text:
            for one in lines:
                text, _ = apply_backspaces(one.decode(errors="replace"))
                reset = RESET if self._colour and ESCAPE in text else ""
                self._show(f"{self._label}{text}{reset}\n")
            return
        label = self._label.encode(errors="replace")
        bodies = lines if self._raw else map(_plain_text, lines)
        click.echo(b"".join(b"%s%s\n" % (label, body) for body in bodies), nl=False)

    def _show(self, text: str) -> None:
        shown = keep_colours_only if self._colour else strip_colours
        click.echo(_TEXT.sub(lambda match: shown(match[0]), text), nl=False, color=True)


def _as_shown(text: str) -> tuple[str, str]:
    """Return text as a terminal shows it, with newlines only, and the rest of a line that later output may overwrite."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\b" not in text:
        return text, ""
    *lines, last = text.split("\n")
    whole, at = apply_backspaces(last)
    shown = [*(apply_backspaces(each)[0] for each in lines), whole[:at]]
    return "\n".join(shown), whole[at:] + "\b" * (len(whole) - at)


def _plain_text(text: bytes) -> bytes:
    plain = PlainTextFilter()
    return plain.feed(text) + plain.flush()


def print_log(log: Path, lines: int | None, *, raw: bool) -> bool:
    """Print a log as it is now. Return whether it ends with a whole line.

    Args:
        log: the file.
        lines: print the last ones only; None: all.
        raw: print every byte unchanged.

    Raises:
        UsageError: there is no such file.
    """
    with open_log(log) as file, closing(LogPrinter(raw=raw)) as output:
        if lines is not None:
            file.seek(output.tail_offset(file, lines))
        end = b"\n"
        for chunk in data_chunks(file, CHUNK_BYTES):
            output.write(chunk)
            end = chunk[-1:]
    return end == b"\n"


def open_log(log: Path) -> BinaryIO:
    """Open a log.

    Raises:
        UsageError: there is no such file.
    """
    try:
        return log.open("rb", buffering=0)
    except FileNotFoundError:
        raise missing_log_error(log) from None


def missing_log_error(log: Path) -> UsageError:
    """Return the error for an attempt without a log."""
    job, folder = log.parent.name.partition("-")[0], log.parent
    if log.name == STDERR and (folder / LOG).exists():
        return UsageError(
            f"job {job} has no separate standard error: it is in the log. "
            "Print it without --stderr. To separate it: launcher add --stderr separate"
        )
    if folder.is_symlink() and not folder.exists():
        return UsageError(
            f"cannot reach the attempt folder {folder.readlink()} on the file system of the pilot. "
            "Mount that file system on this machine"
        )
    return UsageError(
        f"no log at {log}: the attempt did not start. See the reason: launcher show {job}"
    )


def resolve_attempt(row: JobRow, attempt: int | None) -> int:
    """Return the number of the attempt whose log is shown, by default of the newest.

    Raises:
        UsageError: there is no such attempt.
    """
    if row.attempts == 0:
        then = (
            "To wait for it, use -f"
            if row.state in OPEN_STATES
            else f"To run it: launcher retry {'--force ' if row.state is State.DONE else ''}{row.id}"
        )
        new = reason_to_show(row).code is ReasonCode.NEW
        waits = str(row.state) if new else why(row)
        raise UsageError(f"{row.name} has not run yet ({waits}). {then}")
    if attempt is not None and attempt > row.attempts:
        raise UsageError(
            f"--attempt {attempt}: {row.name} has {pluralize(row.attempts, 'attempt')}. "
            "Leave --attempt out for the newest."
        )
    return attempt or row.attempts


@dataclass(slots=True)
class _Source:
    """One job's log as far as it was read."""

    attempt: int
    output: LogPrinter
    tail: int | None  # only this many lines of the first log
    position: int = 0
    left_out: int = 0  # bytes of the log when its last part was moved; 0: it was not
    last: bool = False  # only this attempt
    explained: bool = False  # the reason why this attempt has not started was printed

    def read(self, log: Path) -> bytes:
        """Return the next piece of a log; nothing if there is none."""
        if self.tail is not None:
            try:
                with log.open("rb") as file:
                    self.position = self.output.tail_offset(file, self.tail)
                    self.tail = None
            except OSError:  # the log does not exist yet, or was cleaned
                return b""
        part = read_file_part(log, begin=self.position, most_bytes=CHUNK_BYTES)
        if part is not None and part.size < self.position:  # the log was shortened
            begin, self.left_out = offset_after_move(log, self.position, self.left_out)
            part = read_file_part(log, begin=begin, most_bytes=CHUNK_BYTES)
        if part is None:
            return b""
        self.position = part.end_offset
        return part.data


class LogFollower:
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
        attempt: int | None = None,
        raw: bool = False,
        file: str = LOG,
    ) -> None:
        """Follow jobs.

        Args:
            home: whose queue.
            store: its database.
            jobs: the jobs as they were after the event.
            event: the number of the event.
            tail: print only this many lines of the existing log.
            attempt: the only attempt of each job to print, or None for all from the newest on.
            raw: print every byte unchanged.
            file: which file of an attempt is printed, `LOG` or `STDERR`.
        """
        self._home, self._raw, self._file = home, raw, file
        self._followed = JobTracker(home, store, jobs, first_event=event, is_scheduler_alive=False)
        self._is_alone = len(jobs) == 1
        names = {job.id: job.name for job in jobs}
        colour = uses_colour(sys.stdout)
        self._labels = line_labels(names, terminal=sys.stdout.isatty(), colour=colour)
        last = attempt is not None
        self._sources = {
            job.id: _Source(attempt or max(job.attempts, 1), self._output(job.id), tail, last=last)
            for job in jobs
        }
        self._checked = time.monotonic()

    def _output(self, job: int) -> LogPrinter:
        return LogPrinter("" if self._is_alone else self._labels[job], raw=self._raw)

    def follow(self) -> None:
        """Print until there is no more. Of several jobs, those that are held because others failed are not waited for.

        Raises:
            UsageError: the one job has ended without the attempt, or was cleaned.
            MachineError: the queue was stopped, and none of them runs.
        """
        self._followed.read_events()
        rows = self._followed.rows
        waiting = [row for row in rows.values() if row.attempts == 0 and row.state in OPEN_STATES]
        if waiting and not self._is_alone:
            has = "has" if len(waiting) == 1 else "have"
            notice = (
                f"{pluralize(len(waiting), 'job')} {has} not run yet: {format_job_names(waiting)}"
            )
            click.echo(notice, err=True)
        try:
            while self._sources:
                self._followed.read_events()
                wrote = [
                    self._print_new_output(rows[job], source)
                    for job, source in [*self._sources.items()]
                ]
                if not any(wrote):
                    sys.stdout.flush()
                    self._drop_cleaned()
                    self._pause()
        finally:
            for source in self._sources.values():
                if self._is_alone:  # colours of the log are reset
                    source.output.close()

    def _pause(self) -> None:
        """Wait for more output while a followed job may write some."""
        if not self._is_alone and not self._sources.keys() & self._followed.open_jobs:
            self._sources.clear()
        if not self._sources:
            return
        self._followed.check_scheduler()
        states = {self._followed.rows[job].state for job in self._sources}
        if self._followed.is_queue_stopped and State.RUNNING not in states:
            raise queue_stopped_error()
        time.sleep(FOLLOW_EVERY_S)

    def _drop_cleaned(self) -> None:
        """Stop following jobs that were cleaned, which may not create an event."""
        now = time.monotonic()
        if now - self._checked < CHECK_EVERY_S:
            return
        self._checked = now
        there = {row.id for row in self._followed.add(self._sources)}
        for job in [*self._sources.keys() - there]:
            if self._is_alone:
                raise UsageError(
                    f"job {job} was cleaned, and its log with it; `launcher status` lists the rest"
                )
            self._sources.pop(job).output.close()
            name = sanitize_terminal(self._followed.rows[job].name)
            click.echo(f"{name}: cleaned, and its log with it", err=True)

    def _print_new_output(self, row: JobRow, source: _Source) -> bool:
        """Print the new output of a job. Return whether there was some, or the attempt has ended."""
        if source.attempt > row.attempts:
            self._explain_no_attempt(row, source)
            return False
        running = row.state is State.RUNNING and row.attempts == source.attempt
        chunk = source.read(self._log(row, source))
        source.output.write(chunk)
        if not running and not chunk:
            self._end_attempt(row, source)
        return bool(chunk) or not running

    def _end_attempt(self, row: JobRow, source: _Source) -> None:
        """Turn to the next attempt of a job, or leave it."""
        log = self._log(row, source)
        source.output.close()
        source.output = self._output(row.id)
        source.attempt, source.position, source.tail = source.attempt + 1, 0, None
        source.left_out = 0
        source.explained = False
        if source.last or (row.state not in OPEN_STATES and row.attempts < source.attempt):
            del self._sources[row.id]
        if self._is_alone and not log.exists():
            raise missing_log_error(log)

    def _explain_no_attempt(self, row: JobRow, source: _Source) -> None:
        """Say once why an attempt has not begun, or leave a job that has ended without it."""
        name = sanitize_terminal(row.name)
        if row.state in OPEN_STATES:
            if self._is_alone and not source.explained:
                waits = "has not run yet" if source.attempt == 1 else "waits to run again"
                click.echo(f"{name} {waits}: {sanitize_terminal(why(row))}", err=True)
                source.explained = True
            return
        del self._sources[row.id]
        if row.attempts and not source.last:
            return
        if self._is_alone:
            resolve_attempt(row, source.attempt)  # this call raises an error
        which = f"no attempt {source.attempt}" if source.last else "has not run"
        click.echo(f"{name}: {which}: {sanitize_terminal(row.reason)}", err=True)

    def _log(self, row: JobRow, source: _Source) -> Path:
        return self._home.attempt(row.id, source.attempt).folder / self._file


def header(job: JobRow, attempt: int) -> str:
    """Return the title of a log among several, in the format of `tail`: a swept program with its values after a blank."""
    name = _VALUES.sub(" ", job.name, count=1) if job.name.startswith(f"{PROGRAM}/") else job.name
    return f"==> {sanitize_terminal(name)} (job {job.id}, attempt {attempt}) <=="
