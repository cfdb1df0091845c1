"""One program or many into the queue, in one transaction; and what the caller is told of them.

Their names are given, numbered, or taken from jobs that have ended.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from launcher.cli.commands.adding.command_lines import CommandFile, missing_programs
from launcher.cli.missing_programs import missing_program
from launcher.cli.select_jobs import select
from launcher.context import Context
from launcher.errors import Problem, UsageError, counted
from launcher.job import Spec, program_signature
from launcher.screens.format import harmless
from launcher.states import OPEN, State
from launcher.store.queue import NEW, WAITING, NewJob, Store, replace_waiting
from launcher.store.steering import HELD
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from launcher.system.text import is_utf8

PREFIX = "command/"  # of every name


def checked_name(name: str | None) -> str:
    """Return a name as it was typed with what stands before every name; '' where none was typed.

    Raises:
        UsageError: it is empty, or no text.
    """
    if name is None:
        return ""
    if not name:
        raise UsageError("a job's name has at least one character; without --name it gets a number")
    if not is_utf8(name):
        raise UsageError(f"the name {name!r} is no UTF-8 text; give another --name")
    return f"{PREFIX}{name.removeprefix(PREFIX) or name}"


class Renamed(NamedTuple):
    """An ended job that gave its name to a new one."""

    number: int
    state: State
    name: str  # that it has now


def free_name(store: Store, run: int, name: str) -> Renamed | None:
    """Take a name from the ended job that has it: the newest job of a name is the one that is meant.

    Raises:
        UsageError: the job has not ended yet.
    """
    holder = store.read.in_run(run, name)
    if holder is None:
        return None
    number = holder.id
    if holder.state in OPEN:
        raise UsageError(
            f"{name!r} is job {number}, which is {holder.state}: give another --name, or end that "
            f"one with `launcher cancel {number}`; when it has ended a new job may have its name, "
            f"or `launcher retry {number}` runs it again"
        )
    if name.rstrip("'").endswith(f"@{number}"):
        raise UsageError(
            f"{name!r} stays the name of job {number}: so an older job is called when a newer one "
            "takes its name; give another --name"
        )
    older = f"{name}@{number}"
    while _taken(store, run, older):
        older += "'"
    store.steering.rename(number, older)
    return Renamed(number, holder.state, older)


def unused_name(store: Store, run: int, number: int) -> str:
    """Return a name made of a job's number, with a suffix where a job has that name already."""
    name = f"{PREFIX}{number}"
    while _taken(store, run, name):
        name += "'"
    return name


def _taken(store: Store, run: int, name: str) -> bool:
    return store.read.in_run(run, name) is not None


class Asked(NamedTuple):
    """What is the same for all jobs that a command adds."""

    spec: Spec  # without a program; its name is '' where each job gets one of its number
    context: Context
    after: Sequence[str] = ()  # other jobs, as the command line names them
    after_any: Sequence[str] = ()
    hold: bool = False
    replaces: bool = False  # a waiting job of its name
    share: float | None = None  # of the machine, for all added programs

    @property
    def state(self) -> State:
        """The state in which a job begins."""
        return State.HELD if self.hold else State.QUEUED


def add_program(home: Home, store: Store, asked: Asked, program: tuple[str, ...]) -> None:
    """Queue one program.

    Raises:
        UsageError: its name belongs to a job that has not ended, or a job that it should follow is not there.
    """
    spec = replace(asked.spec, argv=program, signature=program_signature(program))
    job = _put(store, asked._replace(spec=spec))
    wake(home)  # first: an idle scheduler starts the program within milliseconds
    (row,) = store.read.jobs_by_id([job])
    click.echo(f"{job}\t{harmless(row.name)}")
    if reason := missing_program(program[0], Path.cwd(), os.environ):
        way = f"it fails unless it is there by then; `launcher cancel {job}` takes it out"
        click.echo(f"warning: {harmless(reason)}; {way}", err=True)
    if row.state is State.SKIPPED:
        click.echo(f"skipped: {harmless(row.reason)}", err=True)


def _put(store: Store, asked: Asked) -> int:
    """Commit a job; one without a name of its own gets its number's."""
    spec = asked.spec
    with store.writing():
        run = store.run(Path(spec.root), spec.run, share=asked.share)
        new = _new(store, asked)
        name = spec.name or unused_name(store, run, store.next_number())
        holder = store.read.in_run(run, name)
        if asked.replaces and holder is not None and holder.state in WAITING:
            return replace_waiting(store, holder, asked.context, new, time.time())
        _say_renamed([free_name(store, run, name)])
        new = new._replace(spec=replace(spec, name=name))
        return store.put(run, asked.context, new, time.time())


def add_programs(home: Home, store: Store, asked: Asked, file: CommandFile) -> None:
    """Queue the commands of a file, all of them or none.

    Raises:
        UsageError: as `add_program`.
    """
    expected = store.next_number()
    specs = _specs(asked.spec, file, expected)  # before: while many are written others have to wait
    with store.writing():
        run = store.run(Path(asked.spec.root), asked.spec.run, share=asked.share)
        first = store.next_number()
        if first != expected:  # others were quicker
            specs = _specs(asked.spec, file, first)
        if asked.spec.name:
            _say_renamed([free_name(store, run, spec.name) for spec in specs])
        else:
            specs = [_unused(store, run, spec, number) for number, spec in enumerate(specs, first)]
        template = _new(store, asked)
        jobs = [template._replace(spec=spec) for spec in specs]
        numbers = store.put_new(run, asked.context, jobs, time.time())
    names = [spec.name for spec in specs]
    wake(home)
    _say_added(numbers, names, asked.state)
    for problem in (*file.warnings, *_missing(file)):
        click.echo(str(problem), err=True)
    (row,) = store.read.jobs_by_id(numbers[:1])
    if row.state is State.SKIPPED:  # they all follow the same jobs
        click.echo(f"skipped, all of them: {harmless(row.reason)}", err=True)


def _new(store: Store, asked: Asked) -> NewJob:
    """Return a job with those that it follows. Inside `writing`."""
    return NewJob(
        spec=asked.spec,
        needs=[job.id for job in select(store, asked.after, newest=True)],
        after_any=[job.id for job in select(store, asked.after_any, newest=True)],
        state=asked.state,
        reason=HELD if asked.hold else NEW,
    )


def _specs(spec: Spec, file: CommandFile, first: int) -> list[Spec]:
    """Return a spec for each command of a file, by its place in the file or by its number from `first` on."""
    prefix, start = (f"{spec.name}-", 1) if spec.name else (PREFIX, first)
    return [
        replace(
            spec,
            name=f"{prefix}{number}",
            argv=command.argv,
            signature=program_signature(command.argv),
        )
        for number, command in enumerate(file.commands, start)
    ]


def _unused(store: Store, run: int, spec: Spec, number: int) -> Spec:
    """Return a spec with a name that no job has."""
    name = unused_name(store, run, number)
    return spec if name == spec.name else replace(spec, name=name)


def _missing(file: CommandFile) -> list[Problem]:
    lines = [(command.number, command.text, command.argv[0]) for command in file.commands]
    problem = missing_programs(file.name, lines, Path.cwd(), os.environ)
    return [] if problem is None else [problem]


def _say_renamed(renamed: Sequence[Renamed | None]) -> None:
    older = [job for job in renamed if job is not None]
    if len(older) == 1:
        (job,) = older
        text = f"job {job.number} ({job.state}) is called {harmless(job.name)} from now on"
        click.echo(text, err=True)
    elif older:
        names = f"{harmless(older[0].name)} to {harmless(older[-1].name)}"
        click.echo(f"{len(older):,} ended jobs are called {names} from now on", err=True)


def _say_added(numbers: Sequence[int], names: Sequence[str], state: State) -> None:
    """Print the numbers: how many to a person, each with its name to a program."""
    if sys.stdout.isatty():
        first, last = harmless(names[0]), harmless(names[-1])
        listed = f"{numbers[0]} to {numbers[-1]} ({first} to {last})" if numbers[1:] else first
        click.echo(f"{counted(len(numbers), 'job')} {state}: {listed}")
    else:
        lines = zip(numbers, names, strict=True)
        click.echo("\n".join(f"{number}\t{harmless(name)}" for number, name in lines))
