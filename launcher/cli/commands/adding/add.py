"""`launcher add -- COMMAND ARG…`: queue any program, or with --from each command of a file."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as with_values
from typing import Any

import click

from launcher.backends.settings import (
    BackendSettings,
    configured_backends,
    placed_terms,
    runs_only_here,
)
from launcher.cli.commands.adding.command_lines import command_file
from launcher.cli.commands.adding.programs import Asked, add_program, add_programs, checked_name
from launcher.cli.complete import FILES, GROUPS, JOBS
from launcher.cli.option_types import RUN, SHARE, TextDefaultOption, typed
from launcher.cli.select_jobs import HELP
from launcher.errors import UsageError
from launcher.functions.checks import check_request, unseen_gpus
from launcher.functions.options import assembled
from launcher.job import Spec
from launcher.job_options.registry import JobRequest, job_options
from launcher.job_options.value_types import Choice, Truth, ValueType, on_command_line
from launcher.screens.format import harmless
from launcher.store.client import context_to_store, open_queue, say_if_stopped, see_served
from launcher.system.paths import Home

PARTITION_S = 2.0  # so long Slurm is waited for

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
@click.option(
    "--from",
    "source",
    metavar="FILE",
    shell_complete=FILES,
    help="Queue each line of FILE as a command, all or none; -: of the standard input. A --name gets "
    "the numbers 1, 2, …",
)
@click.argument("program", nargs=-1, required=False, type=click.UNPROCESSED, shell_complete=FILES)
def command(
    program: tuple[str, ...],
    *,
    source: str | None,
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
      launcher add --from commands.txt --gpus 1
      ./sweep.py | launcher add --from - --name sweep
    """
    _check_words(program, name, source=source, replace=replace)
    full_name, request = checked_name(name), _request(options)
    backends = configured_backends(os.environ)
    terms = placed_terms(request.terms, backends)
    file = None if source is None else command_file(source)
    around = context_to_store(pass_env)
    with open_queue(make=True) as (home, store):
        check_request(home, store, with_values(request, terms=terms), backends)
        spec = Spec(
            name=full_name,
            kind="command",
            role="plain",
            run=RUN,
            root=str(home.folder),
            resources=request.resources,
            terms=terms,
            priority=request.priority,
        )
        asked = Asked(
            spec=spec,
            context=around,
            after=after,
            after_any=after_any,
            hold=hold,
            replaces=replace,
            share=share,
        )
        if file is None:
            add_program(home, store, asked, program)
        else:
            add_programs(home, store, asked, file)
        if not say_if_stopped(home):  # a script that queues must not lift what a person decided
            see_served(home)
        if runs_only_here(terms) and (why := unseen_gpus(home, request.resources)):
            click.echo(f"warning: {harmless(why)}; the job waits until one can", err=True)
        _warn_of_partitions(
            [backends.by_name[on] for on in terms.on if on in backends.by_name], home
        )


def _warn_of_partitions(asked: Sequence[BackendSettings], home: Home) -> None:
    """Say at once what Slurm says to a partition by name; the job waits until it is mended."""
    named = [settings for settings in asked if settings.kind == "slurm" and settings.partition]
    if not named:
        return
    from launcher.cli.engine_estimates import refusals  # 150 modules that few commands need

    for why in refusals(named, home, PARTITION_S):
        click.echo(f"warning: {why}", err=True)


def _check_words(
    program: tuple[str, ...],
    name: str | None,
    *,
    source: str | None,
    replace: bool,
) -> None:
    """Refuse what cannot stand together.

    Raises:
        click.MissingParameter: there is neither a program nor a file of them.
        UsageError: two of the words contradict each other.
    """
    if source is None and not program:
        raise click.MissingParameter(
            ctx=click.get_current_context(),
            param_hint="'PROGRAM', or --from FILE",
            param_type="argument",
        )
    if source is not None and program:
        raise UsageError(
            f"--from queues the commands of {source!r}: leave the program {program[0]!r} out, or write "
            "it into each of its lines"
        )
    if replace and source is not None:
        raise UsageError("--replace changes one job; a file of --from makes new ones")
    if replace and name is None:
        raise UsageError("--replace wants the --name of the job that it replaces")


def _request(options: Mapping[str, Any]) -> JobRequest:
    """Return what a program asks for; it works on GPUs where an option asks for one.

    Raises:
        UsageError: the options contradict each other.
    """
    given = {
        name: value for name, value in options.items() if value is not None and value is not False
    }
    return assembled(given, on_command_line)
