"""`launcher add -- COMMAND ARG…`: queue any program."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from launcher.cli.complete import FILES, GROUPS, JOBS
from launcher.cli.missing_programs import missing_program
from launcher.cli.option_types import DEVICE, HEARD, PRIORITY, RUN, SIZE, WHEN, limited, span
from launcher.cli.select_jobs import HELP, select
from launcher.errors import UsageError, nearest
from launcher.job import Context, Resources, Spec, Terms, program_signature
from launcher.scheduler.feasibility import impossible
from launcher.scheduler.model import Machine, Waiting
from launcher.screens.format import harmless
from launcher.screens.gpu_users import seen_gpus
from launcher.states import OPEN, State
from launcher.store.client import (
    context_to_store,
    cores_for,
    open_queue,
    say_if_stopped,
    see_served,
)
from launcher.store.queue import NEW, NewJob, Store
from launcher.store.rows import visible_devices
from launcher.store.transitions import LONGEST_BACKOFF_S
from launcher.store.user_actions import HELD
from launcher.system import memory
from launcher.system.config import read_configuration
from launcher.system.daemon_control import scheduler_pid, wake
from launcher.system.environment import owners_environment
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.units import format_seconds

PREFIX = "command/"  # of every name
TERMS = Terms()


@click.command(
    context_settings={"allow_interspersed_args": False}, epilog=f"JOB of --after: {HELP}"
)
@click.option("--name", help="The job's name; by default command/ and a number.")
@click.option("--cpus", type=limited("cpus"), default=1, show_default=True)
@click.option("--ram", type=SIZE, help="Main memory that is promised to it, such as 8GiB.")
@click.option(
    "--gpus",
    type=limited("gpus"),
    help="How many GPUs it gets, all of them or none; without --gpus or --vram it sees none.",
)
@click.option("--vram", type=SIZE, help="GPU memory that is promised to it on each, such as 10GiB.")
@click.option("--device", type=DEVICE, help="Which GPU, as `launcher gpus` counts: cuda:1.")
@click.option("--exclusive", is_flag=True, help="Share its GPUs with nobody.")
@click.option(
    "--priority", type=PRIORITY, default=0, show_default=True, help="Higher starts sooner."
)
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    shell_complete=JOBS,
    help="Wait until it is done; of a whole name the newest job. Repeatable.",
)
@click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Store this variable though it looks like a secret; repeatable.",
)
@click.option("--hold", is_flag=True, help="Wait for `launcher release`.")
@click.option("--not-before", type=WHEN, help="18:00, 2026-12-24T18:00 (local) or +2h.")
@click.option("--time-limit", "time_limit_s", type=span(), help="End it after so long, such as 8h.")
@click.option("--warn", "warn_s", type=span(), help="Send --signal so long before the limit.")
@click.option("--signal", "warn_signal", type=HEARD, help="What --warn sends.  [default: SIGTERM]")
@click.option(
    "--retries",
    type=limited("retries"),
    default=TERMS.retries,
    help="How often it runs again after it failed.",
)
@click.option(
    "--backoff",
    "backoff_s",
    type=span(most_s=LONGEST_BACKOFF_S),
    default=f"{TERMS.backoff_s:g}s",
    show_default=True,
    help="Pause before the first retry; doubles each time, up to an hour.",
)
@click.option(
    "--grace",
    "grace_s",
    type=span(),
    default=f"{TERMS.grace_s:g}s",
    show_default=True,
    help="From SIGTERM to SIGKILL.",
)
@click.option(
    "--group",
    default="",
    shell_complete=GROUPS,
    help="Share the limit that `launcher group` gave it.",
)
@click.option(
    "--rerun",
    type=click.Choice(["again", "never"]),
    default=TERMS.rerun,
    show_default=True,
    help="What follows when it was stopped, or nobody can know how it ended; never: it fails.",
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, shell_complete=FILES)
def command(
    program: tuple[str, ...],
    *,
    name: str | None,
    cpus: int,
    ram: int | None,
    gpus: int | None,
    vram: int | None,
    device: str | None,
    exclusive: bool,
    priority: int,
    after: tuple[str, ...],
    hold: bool,
    pass_env: tuple[str, ...],
    **terms: Any,
) -> None:
    """Queue PROGRAM with its arguments; it starts here, as it is typed, without a shell.

    \b
    Examples:
      launcher add -- python train.py --lr 0.1
      launcher add --cpus 4 --name prep -- ./prepare.sh data/
      launcher add --after command/prep --time-limit 8h --warn 5m -- ./train.sh
      launcher add --vram 10GiB -- python train.py --lr 0.1
    """
    if name == "":
        raise UsageError("a job's name has at least one character; without --name it gets a number")
    if name is not None and name != os.fsencode(name).decode(errors="replace"):
        raise UsageError(f"the name {name!r} is no UTF-8 text; give another --name")
    name = None if name is None else name.removeprefix(PREFIX) or name
    resources = _resources(gpus, vram, device, exclusive=exclusive, cpus=cpus, ram=ram)
    agreed = _terms(terms)
    context = context_to_store(pass_env)
    with open_queue(make=True) as (home, store):
        _check_group(store, agreed.group)
        _check_possible(home, resources)
        spec = Spec(
            name="" if name is None else f"{PREFIX}{name}",
            kind="command",
            role="plain",
            run=RUN,
            root=str(home.folder),
            argv=program,
            signature=program_signature(program),
            resources=resources,
            terms=agreed,
            priority=priority,
        )
        job = _put(store, spec, context, after, State.HELD if hold else State.QUEUED)
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


def _put(store: Store, spec: Spec, context: Context, after: Sequence[str], state: State) -> int:
    """Commit the job; one without a name of its own gets its number's."""
    with store.writing():
        run = store.run(Path(spec.root), RUN)
        needs = [job.id for job in select(store, after, newest=True)]
        name = spec.name or _unused(store, run)
        _free_name(store, run, name)
        new = NewJob(
            spec=replace(spec, name=name),
            needs=needs,
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
    """Return a name made of the job's number, marked where somebody has given it by hand."""
    name = f"command/{store.next_number()}"
    while _taken(store, run, name):
        name += "'"
    return name


def _terms(asked: dict[str, Any]) -> Terms:
    limit_s, warn_s, signal = asked["time_limit_s"], asked["warn_s"], asked["warn_signal"]
    if limit_s == 0:
        raise UsageError("--time-limit: expected more than 0s; without it there is no limit")
    if warn_s is not None and limit_s is None:
        raise UsageError(
            "--warn counts back from --time-limit: say that, too, such as --time-limit 8h"
        )
    if warn_s is not None and limit_s is not None and warn_s >= limit_s:
        raise UsageError(
            f"--warn: expected a time shorter than --time-limit, which is {format_seconds(limit_s)}"
        )
    if signal is not None and warn_s is None:
        raise UsageError(f"--signal: {signal} is sent by --warn; say when, such as --warn 5m")
    given = {key: value for key, value in asked.items() if value is not None}
    return Terms(**given)


def _resources(
    gpus: int | None,
    vram: int | None,
    device: str | None,
    *,
    exclusive: bool,
    cpus: int,
    ram: int | None,
) -> Resources:
    """Return what a program asks for; it works on GPUs where anything is said of them.

    Raises:
        UsageError: that contradicts itself.
    """
    wanted = vram is not None or exclusive or (device or "cpu") != "cpu" or bool(gpus)
    if wanted and (gpus == 0 or device == "cpu"):
        said = "--gpus 0" if gpus == 0 else "--device cpu"
        raise UsageError(
            f"{said} contradicts the other options, which ask for a GPU; leave it out, or them"
        )
    if (gpus or 1) > 1 and (device or "").startswith("cuda:"):
        raise UsageError(
            f"--device {device} is one GPU, --gpus asks for {gpus}; leave one of them out"
        )
    if not wanted:
        return Resources(cpus=cpus, device="cpu", ram=ram)
    return Resources(
        cpus=cpus,
        device=device or "cuda",
        ram=ram,
        gpus=gpus or 1,
        min_vram=vram,
        exclusive=exclusive,
    )


def _check_possible(home: Home, resources: Resources) -> None:
    """Refuse what this machine can never give; of GPUs what the scheduler saw counts, the driver is not asked.

    Raises:
        UsageError: it is more than there is, or config.toml leaves it out.
    """
    known = resources.may_need_gpu and scheduler_pid(home) is not None
    look = seen_gpus(home) if known else None
    machine = Machine(
        cpus=cores_for(home),
        ram=memory.total() or resources.ram or 0,
        gpus=look.gpus if look else (),
        rules=read_configuration(os.environ).rules or Rules(),
    )
    job = Waiting(
        job=0,
        resources=resources,
        claim=resources.min_vram,
        visible=visible_devices(owners_environment(os.environ)),
    )
    if why := impossible(job, machine):
        raise UsageError(f"this machine can never run it: {harmless(why)}")


def _check_group(store: Store, group: str) -> None:
    known = [one.name for one in store.read.groups()]
    if not group or group in known:
        return
    close = nearest(group, known)
    hint = f"; did you mean {close!r}?" if close else ";"
    raise UsageError(
        f"there is no group {group!r}{hint} `launcher group {group} --limit N` makes one"
    )
