"""`launcher add -- COMMAND ARG…`: queue any program."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_values
from pathlib import Path
from typing import Any

import click

from launcher.backends.settings import configured_backends
from launcher.backends.shape import placed_terms
from launcher.cli.complete import FILES, GROUPS, JOBS
from launcher.cli.missing_programs import missing_program
from launcher.cli.option_types import RUN, SHARE, TextDefaultOption, typed
from launcher.cli.select_jobs import HELP, select
from launcher.context import Context
from launcher.errors import UsageError
from launcher.functions.checks import check_request
from launcher.functions.options import assembled
from launcher.job import Spec, program_signature
from launcher.job_options.consistency import on_command_line
from launcher.job_options.registry import job_options
from launcher.job_options.request import JobRequest
from launcher.job_options.value_types import Choice, Truth, ValueType
from launcher.screens.format import harmless
from launcher.states import OPEN, State
from launcher.store.client import (
    context_to_store,
    open_queue,
    say_if_stopped,
    see_served,
)
from launcher.store.queue import NEW, NewJob, Store
from launcher.store.steering.replacement import WAITING, replace_waiting
from launcher.store.user_actions import HELD
from launcher.system.daemon_control import wake

PREFIX = "command/"  # of every name

Verb = Callable[..., Any]


def _job_options(verb: Verb) -> Verb:
    """Add the options of the table to a verb."""
    for option in reversed([*job_options().values()]):
        switch = isinstance(option.takes, Truth)
        verb = click.option(
            option.flag,
            option.name,
            is_flag=switch or None,  # False would mean that it may stand without a value
            type=bool if switch else _type_of(option.takes),
            shell_complete=GROUPS if option.name == "group" else None,
            cls=TextDefaultOption,
            text_default="" if switch else option.default,
            help=f"{option.help}.",
        )(verb)
    return verb


def _type_of(takes: ValueType) -> click.ParamType[Any]:
    return click.Choice(takes.words) if isinstance(takes, Choice) else typed(takes)


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=f"JOB of --after and --after-any: {HELP}",
)
@click.option("--name", help="Name of the job; by default command/ and its number.")
@_job_options
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    shell_complete=JOBS,
    help="Start only when JOB is done; a full name means its newest job; repeatable.",
)
@click.option(
    "--after-any",
    multiple=True,
    metavar="JOB",
    shell_complete=JOBS,
    help="Start only when JOB has ended, whether done, failed, cancelled or skipped; repeatable.",
)
@click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Pass this variable to the job although its name looks like a secret; repeatable.",
)
@click.option(
    "--share",
    type=SHARE,
    help="Part of the machine of all added programs, as one run, while other runs wait, too.",
)
@click.option("--hold", is_flag=True, help="Hold the job until `launcher release`.")
@click.option(
    "--replace",
    is_flag=True,
    help="If a job of this --name waits, change that one: it keeps its number, its place and the jobs after it.",
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, shell_complete=FILES)
def command(
    program: tuple[str, ...],
    *,
    name: str | None,
    after: tuple[str, ...],
    after_any: tuple[str, ...],
    hold: bool,
    replace: bool,
    share: float | None,
    pass_env: tuple[str, ...],
    **options: Any,
) -> None:
    """Queue PROGRAM with its arguments; it runs in this folder, without a shell.

    \b
    Examples:
      launcher add -- python train.py --lr 0.1
      launcher add --cpus 4 --name prep -- ./prepare.sh data/
      launcher add --after command/prep --time-limit 8h --warn 5m -- ./train.sh
      launcher add --after-any 'train/*' -- ./notify.sh
      launcher add --vram 10GiB -- python train.py --lr 0.1
      launcher add --replace --name prep -- ./prepare.sh data2/
    """
    if name == "":
        raise UsageError("a job's name has at least one character; without --name it gets a number")
    if name is not None and name != os.fsencode(name).decode(errors="replace"):
        raise UsageError(f"the name {name!r} is no UTF-8 text; give another --name")
    if replace and name is None:
        raise UsageError("--replace wants the --name of the job that it replaces")
    name = None if name is None else name.removeprefix(PREFIX) or name
    request, backends = _request(options), configured_backends(os.environ)
    terms = placed_terms(request.terms, backends)
    context = context_to_store(pass_env)
    with open_queue(make=True) as (home, store):
        check_request(home, store, with_values(request, terms=terms), backends)
        spec = Spec(
            name="" if name is None else f"{PREFIX}{name}",
            kind="command",
            role="plain",
            run=RUN,
            root=str(home.folder),
            argv=program,
            signature=program_signature(program),
            resources=request.resources,
            terms=terms,
            priority=request.priority,
        )
        state = State.HELD if hold else State.QUEUED
        ties = _Ties(after, after_any, replace)
        job = _put(store, spec, context, state, ties, share=share)
        wake(home)  # first: an idle scheduler starts the program within milliseconds
        (row,) = store.read.jobs_by_id([job])
        click.echo(f"{job}\t{harmless(row.name)}")
        if reason := missing_program(program[0], Path.cwd(), os.environ):
            way = f"it fails unless it is there by then; `launcher cancel {job}` takes it out"
            click.echo(f"warning: {harmless(reason)}; {way}", err=True)
        if row.state is State.SKIPPED:
            click.echo(f"skipped: {harmless(row.reason)}", err=True)
        if not say_if_stopped(home):  # a script that queues must not lift what a person decided
            see_served(home)


@dataclass(frozen=True, slots=True)
class _Ties:
    """Other jobs, as the command line names them."""

    after: Sequence[str]
    after_any: Sequence[str]
    replaces: bool  # a waiting job of its name


def _put(
    store: Store, spec: Spec, context: Context, state: State, ties: _Ties, *, share: float | None
) -> int:
    """Commit the job; one without a name of its own gets its number's."""
    with store.writing():
        run = store.run(Path(spec.root), RUN, share=share)
        needs = [job.id for job in select(store, ties.after, newest=True)]
        awaited = [job.id for job in select(store, ties.after_any, newest=True)]
        name = spec.name or _unused(store, run)
        holder = store.read.in_run(run, name)
        if ties.replaces and holder is not None and holder.state in WAITING:
            new = NewJob(spec=spec, needs=needs, after_any=awaited, state=state)
            return replace_waiting(store, holder, context, new, time.time())
        _free_name(store, run, name)
        new = NewJob(
            spec=with_values(spec, name=name),
            needs=needs,
            after_any=awaited,
            state=state,
            reason=NEW if state is State.QUEUED else HELD,
        )
        return store.put(run, context, new, time.time())


def _free_name(store: Store, run: int, name: str) -> None:
    """Take a name from the ended job that has it: the newest job of a name is the one that is meant.

    Raises:
        UsageError: the job has not ended yet.
    """
    holder = store.read.in_run(run, name)
    if holder is None:
        return
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
    store.owning.rename(number, older)
    click.echo(f"job {number} ({holder.state}) is called {harmless(older)} from now on", err=True)


def _taken(store: Store, run: int, name: str) -> bool:
    return store.read.in_run(run, name) is not None


def _unused(store: Store, run: int) -> str:
    """Return a name made of the job's number, with a suffix where a job has that name already."""
    name = f"command/{store.next_number()}"
    while _taken(store, run, name):
        name += "'"
    return name


def _request(options: Mapping[str, Any]) -> JobRequest:
    """Return what a program asks for; it works on GPUs where an option asks for one.

    Raises:
        UsageError: the options contradict each other.
    """
    given = {
        name: value for name, value in options.items() if value is not None and value is not False
    }
    return assembled(given, on_command_line)
