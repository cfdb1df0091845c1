"""`launcher add -- COMMAND ARG…`: queue any program, or with --from each command of a file, all in one transaction.

Their names are given, numbered, or taken from jobs that have ended.
"""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from launcher.backends.eligibility import with_default_backends
from launcher.backends.settings import BackendSettings, read_configured_backends
from launcher.cli.added_files import (
    check_files,
    expand_inputs,
    find_finished_program,
    refuse_replaced_folders,
    replaced_outputs_warning,
)
from launcher.cli.added_start import (
    check_folders,
    check_tags,
    read_variables,
    stored_secrets_warning,
)
from launcher.cli.command_lines import (
    CommandFile,
    command_file,
    missing_programs,
    typed_oddities,
)
from launcher.cli.complete import offer_files, offer_groups, offer_jobs, offer_runs
from launcher.cli.help_pages import launcher_command
from launcher.cli.jobs import PATTERN_HELP, gc_paused, select
from launcher.cli.option_types import RUN, SHARE, TextDefaultOption, flag, value_param
from launcher.context import (
    INPUTS,
    OUTPUTS,
    Context,
    entry_context,
    file_paths,
    program_words,
)
from launcher.errors import UsageError, pluralize
from launcher.functions.options import absent_gpu_warning, check_request, make_request
from launcher.job import FILE_BATCH, FUNCTION, PROGRAM, SWEEP_BATCH, Spec, run_name_fault
from launcher.job_options.registry import job_options
from launcher.job_options.value_types import TRUTH, on_command_line
from launcher.screens.live_display import watch_hashing
from launcher.screens.terminal import print_stderr
from launcher.signatures import program_cost
from launcher.states import OPEN_STATES, State, strip_state_prefix
from launcher.store.client import (
    context_to_store,
    ensure_scheduler_with_note,
    note_if_stopped,
    open_home,
    open_queue,
    open_queue_readonly,
)
from launcher.store.job_names import queued_name, superseded_name
from launcher.store.job_selection import describe_pattern
from launcher.store.queue import NEW, NewJob, Store
from launcher.store.replacement import (
    WAITING_STATES,
    EqualJobs,
    replace_equal_jobs,
    replace_waiting,
)
from launcher.store.rows import JobRow
from launcher.store.runs import find_run_origin
from launcher.store.steering import HELD_REASON
from launcher.system.daemon_control import wake
from launcher.system.file_digests import FileDigests
from launcher.system.file_patterns import is_pattern
from launcher.system.paths import Home, find_home
from launcher.system.text import is_utf8, sanitize_terminal, shell_line

PREFIX = "command/"  # of every name
PARTITION_S = 2.0  # so long Slurm is waited for
# the options on the help page; a job option that is not here is among the others
SECTIONS: Mapping[str, Sequence[str]] = {
    "Resources": ("gpus", "vram", "cpus", "ram", "exclusive", "device", "gpu-ids", "on"),
    "Order": ("after", "after-any", "not-before", "priority", "group", "hold"),
    "Failures and limits": (
        "time-limit",
        "warn",
        "signal",
        "grace",
        "retries",
        "max-failures",
        "backoff",
        "rerun",
        "notify-on",
    ),
    "Names and files": ("name", "run", "tag", "input", "output", "tensorboard", "stderr"),
    "Start and end": ("cwd", "env", "pass-env", "wait", "follow"),
    "Many jobs": ("sweep", "sweep-flag", "from", "replace", "share", "dry-run"),
}

Function = Callable[..., Any]


def _job_options(function: Function) -> Function:
    """Add the options of the table to the function of a command."""
    for option in reversed([*job_options().values()]):
        takes = option.takes
        switch = takes is TRUTH
        read = click.Choice(takes.words) if takes.words else value_param(takes)
        function = click.option(
            option.flag,
            option.name,
            is_flag=switch or None,  # False would allow it without a value
            type=bool if switch else read,
            shell_complete=offer_groups if option.name == "group" else None,
            cls=TextDefaultOption,
            text_default="" if switch else option.default,
            help=f"{option.help}.",
        )(function)
    return function


@launcher_command(
    context_settings={"allow_interspersed_args": False},
    epilog=f"JOB: {PATTERN_HELP}",
    sections=SECTIONS,
)
@click.option("--name", help="Name of the job.  [default: command/ and its number]")
@click.option(
    "--run",
    "run_name",
    default=RUN,
    show_default=True,
    metavar="NAME",
    shell_complete=offer_runs,
    help=f"Run of the job. Files go to runs/NAME/, those of the run {RUN} to the queue folder.",
)
@_job_options
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    shell_complete=offer_jobs,
    help="Start when JOB is done. Skip this job if JOB fails. Repeatable.",
)
@click.option(
    "--after-any",
    multiple=True,
    metavar="JOB",
    shell_complete=offer_jobs,
    help="Start when JOB has ended, however it ended. Repeatable.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Tag of the job, for tag:TAG. Repeatable.",
)
@click.option(
    "--cwd",
    metavar="FOLDER",
    shell_complete=offer_files,
    help="Folder in which the program starts.  [default: the current folder]",
)
@click.option(
    "--env",
    multiple=True,
    metavar="KEY=VALUE",
    help="Environment variable of the program. Repeatable.",
)
@click.option(
    "--pass-env",
    multiple=True,
    metavar="NAME",
    help="Store this environment variable although it looks like a secret. Repeatable.",
)
@click.option(
    "--share",
    type=SHARE,
    help="Share of the machine for the --run while other runs wait.",
)
@click.option(
    "--input",
    INPUTS,
    multiple=True,
    metavar="FILE",
    shell_complete=offer_files,
    help="File that the program reads, a folder such as data/, or a pattern such as 'm-*.npz'. The job waits for "
    "the jobs that make the files. Repeatable.",
)
@click.option(
    "--output",
    OUTPUTS,
    multiple=True,
    metavar="FILE",
    shell_complete=offer_files,
    help="File that the program makes, or a folder such as out/. The job fails if it is missing, and is not queued "
    "if it is up to date. Repeatable.",
)
@flag("--hold", help="Hold the job until `launcher release`.")
@flag(
    "--replace",
    help="Replace the waiting job with the same --name and --run. Its number, place and dependent jobs "
    "stay.",
)
@click.option(
    "--from",
    "source",
    metavar="FILE",
    shell_complete=offer_files,
    help="Queue each line of FILE as a command; - reads standard input. A --name gets the numbers 1, 2, …",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUES",
    help="Queue the program once per value: lr=0.1,0.01 or seed=1..3 or lr=0.1..0.5..0.1 (with a step). "
    "Repeat for all combinations. Use {lr} or {sweep} in the arguments.",
)
@click.option(
    "--sweep-flag",
    "flags",
    multiple=True,
    metavar="NAME",
    help="Queue the program with --NAME and without it. Use {NAME} or {sweep} in the arguments. "
    "Repeatable.",
)
@flag("--wait", help="Wait until the job ends. Exits with 1 if it is not done.")
@flag("--follow", help="Print the output of the job until it ends. Exits like --wait.")
@flag("--dry-run", help="Show what would be queued.")
@click.argument(
    "program",
    nargs=-1,
    required=False,
    type=click.UNPROCESSED,
    metavar="[--] PROGRAM [ARGS]…",
    shell_complete=offer_files,
)
@gc_paused()
def add(
    program: tuple[str, ...],
    *,
    source: str | None,
    name: str | None,
    run_name: str,
    after: tuple[str, ...],
    after_any: tuple[str, ...],
    hold: bool,
    replace: bool,
    share: float | None,
    pass_env: tuple[str, ...],
    tags: tuple[str, ...],
    cwd: str | None,
    env: tuple[str, ...],
    sweeps: tuple[str, ...],
    flags: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    follow: bool,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Queue a program.

    PROGRAM runs in the current folder, without a shell. Unless you reserve a GPU, PROGRAM sees none.
    {job_folder} in its arguments is a new folder for the job's files, {run_folder} the folder of the run.

    With --wait and --follow, Ctrl-C ends the command; the job continues. --follow prints only the output of
    the job on standard output.

    \b
    Examples:
      launcher add -- python train.py --lr 0.1
      launcher add --gpus 1 -- python train.py
      launcher add --name prep --cpus 4 -- ./prepare.sh data/
      launcher add --after prep --time-limit 8h -- ./train.sh
      launcher add --name grid --sweep lr=0.1,0.01 -- python train.py --lr {lr}
      launcher add --name half --sweep-flag amp -- python train.py {amp}
      launcher add --from commands.txt --gpus 1
      launcher add --cwd model --env OMP_NUM_THREADS=2 --follow -- python fit.py
    """
    if source is not None and outputs:
        raise UsageError("--output cannot be combined with --from. Remove one of them.")
    swept = "--sweep" if sweeps else "--sweep-flag" if flags else ""
    _check_words(program, name, source=source, swept=swept, replaces=replace)
    if hold and (wait or follow):
        option = "--wait" if wait else "--follow"
        raise UsageError(
            f"{option} cannot be combined with --hold: a held job does not start before "
            "`launcher release`. Remove one of them."
        )
    full_name, backends = check_name(name), read_configured_backends(os.environ)
    if fault := run_name_fault(run_name):
        raise UsageError(f"--run {run_name!r} {fault}")
    if options["max_failures"] is not None and not (swept or source):
        raise UsageError(
            "--max-failures counts the jobs that one command queues. Add --sweep, --sweep-flag or --from."
        )
    given = {
        name: value for name, value in options.items() if value is not None and value is not False
    }
    request = make_request(given, on_command_line)
    request = request._replace(terms=with_default_backends(request.terms, backends))
    file = None if source is None else command_file(source)
    given_settings = {
        **({} if cwd is None else {"cwd": cwd}),
        **({"env": read_variables(env)} if env else {}),
        **({INPUTS: [*inputs]} if inputs else {}),
        **({OUTPUTS: [*outputs]} if outputs else {}),
    }
    check_tags(tags)
    programs = _programs(full_name, program, file, _Sweep(sweeps, flags), given_settings)
    check_folders(each.settings for each in programs)
    context = context_to_store(pass_env)
    with _readonly_queue() if dry_run else open_queue(make=True) as (home, store):
        check_request(home, store, request, backends)
        spec = Spec(
            name="",
            kind=PROGRAM,
            role="plain",
            run=run_name,
            root=str(home.folder) if run_name == RUN else context.folder,
            resources=request.resources,
            terms=request.terms,
            priority=request.priority,
            batch=FILE_BATCH if source else SWEEP_BATCH if swept else "",
        )
        asked = SubmitRequest(
            spec, context, after, after_any, tags, hold=hold, replaces=replace, share=share
        )
        asked_for = [(request.resources, request.terms)] * len(programs)
        if dry_run:
            _print_planned_jobs(home, store, asked, programs)
            _warn(absent_gpu_warning(home, asked_for))
            return 0
        since = store.read.last_event()
        jobs = _queue_programs(home, store, asked, programs, file, err=follow)
        if not note_if_stopped(home):  # a script that queues must not lift what a person decided
            ensure_scheduler_with_note(home)
        on = request.terms.on
        _warn(absent_gpu_warning(home, asked_for))
        if request.terms.notify_on:
            # tables of config.toml that few commands need
            from launcher.cli.notify_warnings import no_target_warning

            _warn(no_target_warning("--notify-on", os.environ))
        _warn_of_partitions(
            [backends.by_name[name] for name in on if name in backends.by_name], home
        )
        if not (wait or follow) or not jobs:
            return 0
        # the screens, which no other way to add needs
        from launcher.cli.await_jobs import await_jobs

        return await_jobs(home, store, jobs, since, follow=follow)


def _warn(text: str) -> None:
    if text:
        print_stderr(text)


def _warn_of_partitions(backends: Sequence[BackendSettings], home: Home) -> None:
    """Print immediately what Slurm reports about a named partition; the job waits until it is corrected."""
    named = [settings for settings in backends if settings.kind == "slurm" and settings.partition]
    if not named:
        return
    # 150 modules that few commands need
    from launcher.functions.plan_checks import engine_refusals

    for why in engine_refusals(named, home, PARTITION_S):
        print_stderr(f"warning: {why}")


def _check_words(
    program: tuple[str, ...],
    name: str | None,
    *,
    source: str | None,
    swept: str,
    replaces: bool,
) -> None:
    """Refuse options that contradict each other; `swept` is the option that makes a sweep, '' for none.

    Raises:
        UsageError: there is neither a program nor a file of them, or two of the words contradict each other.
    """
    if source is None and not program:
        raise UsageError(
            "missing PROGRAM, or --from FILE. Example: launcher add -- python train.py"
        )
    if source is not None and program:
        raise UsageError(
            f"--from {source} cannot be combined with the program {program[0]!r}. Remove the program, or "
            "write it into the lines of the file."
        )
    if swept and source is not None:
        raise UsageError(f"{swept} cannot be combined with --from. Remove one of them.")
    if replaces and (swept or source is not None):
        what = swept or "--from"
        raise UsageError(
            f"--replace changes one job and cannot be combined with {what}. Remove one of them."
        )
    if replaces and name is None:
        raise UsageError("--replace needs the name of the job to replace. Add --name NAME")


def check_name(name: str | None) -> str:
    """Return a typed name with the common prefix of names; '' if no name was typed.

    Raises:
        UsageError: it is empty, no text, or selects something else.
    """
    if name is None:
        return ""
    if not name:
        raise UsageError("--name is empty. Leave it out to name the job by its number.")
    if not is_utf8(name):
        raise UsageError(f"--name {name!r} is not valid UTF-8. Write another name.")
    if meaning := describe_pattern(name):
        raise UsageError(
            f"--name {name!r} would not select this job: `launcher cancel {shell_line([name])}` selects "
            f"{meaning}. Write another name, such as {shell_line([_other_name(name)])}"
        )
    return f"{PREFIX}{name.removeprefix(PREFIX) or name}"


def _other_name(name: str) -> str:
    return name.replace(":", "-") if ":" in name else f"job-{name}"


def ended_holder(store: Store, run: int, name: str) -> JobRow | None:
    """Return the ended job that has a name, which a new one may take: the newest job of a name is the one that is meant.

    Raises:
        UsageError: the job has not ended yet.
    """
    holder = store.read.find_job(run, name)
    if holder is None:
        return None
    number = holder.id
    if holder.state in OPEN_STATES:
        raise UsageError(
            f"the name {name!r} is used by job {number} ({holder.state}). Write another --name. To free "
            f"the name: launcher cancel {number}. To run that job again after it ended: "
            f"launcher retry {number}"
        )
    if queued_name(name, number) != name:
        raise UsageError(
            f"the name {name!r} belongs to job {number}, which was renamed to it when a newer job took "
            "its name. Write another --name."
        )
    return holder


def rename_ended_job(store: Store, run: int, holder: JobRow) -> tuple[JobRow, str]:
    """Take a name from the ended job that has it; return that job as it was, and its name from now on."""
    older = superseded_name(holder.name, holder.id)
    while store.read.find_job(run, older):
        older += "'"
    store.job_control.rename_ended(holder.id, older)
    return holder, older


def root_of_run(store: Store, spec: Spec) -> str:
    """Return the folder of the results of a program's run, which its first program determines.

    Raises:
        UsageError: the run belongs to a task file, or to functions of Python.
    """
    owner = None if spec.run == RUN else find_run_origin(store.database.execute, spec.run)
    if owner is None:
        return spec.root
    if owner.kind == FUNCTION or owner.is_planned:
        whose = "Python functions" if owner.kind == FUNCTION else "a task file"
        raise UsageError(
            f"run {spec.run!r} belongs to {whose} in {owner.root}. Write another --run."
        )
    return str(owner.root)


def unused_names(store: Store, run: int, numbers: Iterable[int]) -> list[str]:
    """Return names made of jobs' numbers, with a suffix where a job has that name already."""
    names = [f"{PREFIX}{number}" for number in numbers]
    while taken := store.read.existing_names(run, names):
        names = [f"{name}'" if name in taken else name for name in names]
    return names


class Program(NamedTuple):
    """What is started for one job."""

    name: str  # of the job; '' if it gets one of its number
    argv: tuple[str, ...]
    settings: Mapping[str, Any] = MappingProxyType({})


class _Sweep(NamedTuple):
    """The swept values and flags of a command, as typed."""

    values: Sequence[str]
    flags: Sequence[str]


def _programs(
    name: str,
    program: tuple[str, ...],
    file: CommandFile | None,
    sweep: _Sweep,
    settings: Mapping[str, Any],
) -> list[Program]:
    """Return what is started: one program, each of a file, or one with each combination of values.

    Raises:
        TaskFileError: values do not fit.
    """
    if file is not None:
        return [
            Program(f"{name}-{number}" if name else "", command.argv, settings)
            for number, command in enumerate(file.commands, 1)
        ]
    if not any(sweep):
        return [Program(name, program, settings)]
    # pydantic, which no other way to add needs
    from launcher.taskfile.programs import swept_command

    typed = name.removeprefix(PREFIX) or None
    lines, warnings = swept_command(sweep.values, typed, program, settings, sweep.flags)
    for warning in warnings:
        print_stderr(str(warning))
    return [Program(f"{PREFIX}{own}" if own else "", argv, filled) for own, argv, filled in lines]


class SubmitRequest(NamedTuple):
    """What is the same for all jobs that a command adds."""

    spec: Spec  # without a program and a name
    context: Context
    after: Sequence[str]  # other jobs, as the command line names them
    after_any: Sequence[str]
    tags: Sequence[str]
    hold: bool
    replaces: bool  # a waiting job of its name
    share: float | None  # of the machine, for all added programs


@contextmanager
def _readonly_queue() -> Iterator[tuple[Home, Store]]:
    """Open the caller's queue for questions only; if there is none, an empty one, which is deleted."""
    home = find_home(os.environ)
    if home.exists():
        with open_queue_readonly(home) as opened:
            yield opened
    else:
        with TemporaryDirectory() as folder, open_home(Home(Path(folder))) as store:
            yield home, store


def _print_planned_jobs(
    home: Home, store: Store, request: SubmitRequest, programs: Sequence[Program]
) -> None:
    """Print name and command line of each job that would be queued.

    Raises:
        UsageError: it would be refused.
    """
    specs = _drop_finished_programs(
        home, store, request, _build_specs(store, request, programs), dry_run=True
    )
    if specs:
        with store.reading():
            _check_programs(store, request, specs)
    for spec in specs:
        words = program_words(spec.settings, spec.argv)
        click.echo(
            f"{sanitize_terminal(spec.name or f'{PREFIX}…')}\t{sanitize_terminal(shlex.join(words))}"
        )
    print_stderr(f"{pluralize(len(specs), 'job')}; nothing was queued (dry run)")


def _build_specs(store: Store, request: SubmitRequest, programs: Sequence[Program]) -> list[Spec]:
    """Return the specifications of programs, with patterns replaced by files.

    Raises:
        UsageError: a pattern matches no file.
    """
    specs = [
        request.spec._replace(
            name=name, argv=argv, settings=settings, signature=program_cost(settings, argv)
        )
        for name, argv, settings in programs
    ]
    if not any(is_pattern(name) for spec in specs for name in spec.settings.get(INPUTS, ())):
        return specs
    makers = store.read.programs_by_output(OPEN_STATES)
    return expand_inputs(specs, request.context.folder, makers)


def _queue_programs(
    home: Home,
    store: Store,
    request: SubmitRequest,
    programs: Sequence[Program],
    file: CommandFile | None,
    *,
    err: bool,
) -> Mapping[int, str]:
    """Queue programs, all of them or none; print and return the numbers and names of their jobs.

    Args:
        home: Queue folder.
        store: Its database.
        request: What is the same for all jobs.
        programs: What is started.
        file: The file that contains the programs, None if they were typed.
        err: Print the jobs on standard error.

    Raises:
        UsageError: a name belongs to a job that has not ended, or a job that they should follow is not there.
    """
    specs = _build_specs(
        store, request, programs
    )  # before: while many are written others have to wait
    specs = _drop_finished_programs(home, store, request, specs, err=err)
    if not specs:
        return {}
    jobs = _commit_jobs(store, request, specs)
    wake(home)  # first: an idle scheduler starts the program within milliseconds
    many = file is not None or len(jobs) > 1
    _print_added(jobs, None if not many else "held" if request.hold else "queued", err=err)
    start = entry_context(specs[0], request.context._replace(environment=os.environ))
    folder, environment = Path(start.folder), start.environment
    if file is not None:
        for problem in (*file.warnings, *missing_programs(file, folder, environment)):
            print_stderr(str(problem))
    else:
        job = None if many else min(jobs)
        for oddity in typed_oddities(programs[0].argv, folder, environment, job):
            print_stderr(f"warning: {sanitize_terminal(oddity)}")
    variables = (each.settings.get("env", {}) for each in specs)
    _warn(stored_secrets_warning(variables, (each.argv for each in specs)))
    (row,) = store.read.jobs_by_id([min(jobs)])
    if row.state is State.SKIPPED:  # they all follow the same jobs
        which = " all jobs" if many else ""
        print_stderr(f"skipped{which}: {sanitize_terminal(strip_state_prefix(row.reason))}")
    return jobs


def _drop_finished_programs(
    home: Home,
    store: Store,
    request: SubmitRequest,
    specs: list[Spec],
    *,
    dry_run: bool = False,
    err: bool = False,
) -> list[Spec]:
    """Return the programs without finished outputs; print finished ones with their jobs, and outdated ones."""
    if not any(spec.settings.get(OUTPUTS) for spec in specs):
        return specs
    digests, folder = FileDigests(home.digests, watch_hashing()), request.context.folder
    paths = {path for spec in specs for path in file_paths(OUTPUTS, spec, folder, 0)}
    makers = store.read.programs_by_output(paths=paths)
    earlier = [find_finished_program(spec, folder, makers, store, digests) for spec in specs]
    if not dry_run:
        digests.save()
    done = {each.row.id: each.row.name for each in earlier if each and not each.changes}
    if done:
        if not dry_run:
            _print_added(done, None, err=err)
        first = min(done)
        whose = f"job {first}" if len(done) == 1 else f"job {first} and {len(done) - 1:,} more"
        print_stderr(
            f"not queued: {whose} made the same outputs with the same command and files. "
            f"To run it again: launcher retry {first} --force"
        )
    if dry_run:
        why = {", ".join(each.changes): each.row.id for each in earlier if each and each.changes}
        for changes, job in why.items():
            print_stderr(f"since job {job} made the same outputs: {sanitize_terminal(changes)}")
    left = [spec for spec, each in zip(specs, earlier, strict=True) if each is None or each.changes]
    _warn(replaced_outputs_warning(left, folder, makers))
    return left


class CheckedPrograms(NamedTuple):
    """Programs that can be queued, and the jobs of the queue that this is about."""

    specs: Sequence[Spec]
    dependencies: Sequence[int]  # that they follow when these are done, and
    after_any: Sequence[int]  # when these have ended
    producers: Sequence[Sequence[int]]  # for each of them those that make what it reads
    replaced: JobRow | None
    holders: Sequence[JobRow]  # ended jobs of their names


def _check_programs(store: Store, request: SubmitRequest, specs: Sequence[Spec]) -> CheckedPrograms:
    """Refuse programs that cannot be queued, all of them; nothing is written.

    Raises:
        UsageError: a name, a file, a run or a job that they should follow is in the way.
    """
    root = root_of_run(store, request.spec)
    specs = [spec if spec.root == root else spec._replace(root=root) for spec in specs]
    run = store.read.find_run(root, request.spec.run)
    needs, after_any = (
        [job.id for job in select(store, patterns, newest=True)]
        for patterns in (request.after, request.after_any)
    )
    replaced = store.read.find_job(run, specs[0].name) if request.replaces else None
    if replaced is not None and replaced.state not in WAITING_STATES:
        replaced = None
    before = _find_producers(store, request, specs, replaced)
    named = [] if replaced is not None else [spec.name for spec in specs if spec.name]
    taken = store.read.existing_names(run, named)  # one query for all, as few or none are
    holders = [row for name in named if name in taken and (row := ended_holder(store, run, name))]
    return CheckedPrograms(specs, needs, after_any, before, replaced, holders)


def _commit_jobs(store: Store, request: SubmitRequest, specs: Sequence[Spec]) -> dict[int, str]:
    """Commit jobs, and return their names by their numbers; one without a name of its own gets its number's."""
    state, reason = (State.HELD, HELD_REASON) if request.hold else (State.QUEUED, NEW)
    with store.writing():
        specs, needs, after_any, before, replaced, holders = _check_programs(store, request, specs)
        run = store.ensure_run(Path(specs[0].root), request.spec.run, share=request.share)
        first = replaced.id if replaced is not None else store.next_job_number()
        if not specs[0].name:
            names = unused_names(store, run, range(first, first + len(specs)))
            specs = [spec._replace(name=name) for spec, name in zip(specs, names, strict=True)]
        jobs = [
            NewJob(
                _with_outputs(spec, request, number),
                [*dict.fromkeys([*needs, *makers])],
                after_any,
                state,
                reason,
            )
            for number, (spec, makers) in enumerate(zip(specs, before, strict=True), first)
        ]
        if replaced is not None:
            number = replace_waiting(store, replaced, request.context, jobs[0], time.time())
            store.job_control.change_tags([number], request.tags, ())
            return {number: specs[0].name}
        _print_renamed([rename_ended_job(store, run, holder) for holder in holders])
        numbers: list[int] = []
        if not store.reserve_numbers(jobs):
            numbers = store.insert_new(run, request.context, jobs, time.time())
            store.job_control.change_tags(numbers, request.tags, ())
        if numbers and specs[0].batch:
            _replace_equal(store, request, run, dict(zip(numbers, specs, strict=True)))
    if not numbers:
        numbers = store.insert_in_portions(run, request.context, jobs, time.time(), first)
        store.job_control.change_tags(numbers, request.tags, ())
        if specs[0].batch:
            with store.writing():
                _replace_equal(store, request, run, dict(zip(numbers, specs, strict=True)))
    return {number: spec.name for number, spec in zip(numbers, specs, strict=True)}


def _replace_equal(store: Store, request: SubmitRequest, run: int, new: Mapping[int, Spec]) -> None:
    """Let the jobs of a batch replace equal older ones. Inside `writing`."""
    _print_equal(replace_equal_jobs(store, run, request.context, new), request.spec.run)


def _find_producers(
    store: Store, request: SubmitRequest, specs: Sequence[Spec], replaced: JobRow | None
) -> Sequence[Sequence[int]]:
    """Return for each program the jobs that make what it reads.

    Raises:
        UsageError: a file cannot be one of a program, or nothing makes it.
    """
    settings = {id(spec.settings): spec.settings for spec in specs}.values()  # many share theirs
    if not any(each.get(name) for each in settings for name in (INPUTS, OUTPUTS)):
        return [()] * len(specs)
    own = () if replaced is None else (replaced.id,)
    makers = store.read.programs_by_output(OPEN_STATES)
    before = check_files(specs, request.context.folder, makers, own)
    refuse_replaced_folders(specs, request.context.folder, store)
    return before


def _with_outputs(spec: Spec, request: SubmitRequest, job: int) -> Spec:
    if not spec.settings.get(OUTPUTS):
        return spec
    return spec._replace(outputs=file_paths(OUTPUTS, spec, request.context.folder, job))


def _print_renamed(older: Sequence[tuple[JobRow, str]]) -> None:
    if len(older) == 1:
        ((job, name),) = older
        ended = "finished" if job.state is State.DONE else job.state
        print_stderr(f"note: renamed the {ended} job {job.id} to {sanitize_terminal(name)}")
    elif older:
        names = f"{sanitize_terminal(older[0][1])} to {sanitize_terminal(older[-1][1])}"
        print_stderr(f"note: renamed {len(older):,} ended jobs: {names}")


def _print_equal(equal: EqualJobs, run: str) -> None:
    if equal.replaced:
        print_stderr(
            f"note: the new jobs replace {pluralize(len(equal.replaced), 'older job')} with equal commands. "
            f"To print the results of all: {shell_line(['launcher', 'results', run])} --all-jobs"
        )
    if equal.waiting:
        first, last = equal.waiting[0], equal.waiting[-1]
        which = f"job {first} waits" if first == last else f"jobs between {first} and {last} wait"
        print_stderr(
            f"warning: {which} with equal commands, and the results will contain both. "
            f"To see them: {shell_line(['launcher', 'status', f'run:{run}'])}"
        )


def _print_added(jobs: Mapping[int, str], done: str | None, *, err: bool) -> None:
    """Print the numbers of added jobs: on a terminal a summary for a file, otherwise one line per job."""
    if done is not None and sys.stdout.isatty():
        first, last = min(jobs), max(jobs)
        names = sanitize_terminal(jobs[first])
        listed = (
            f"{first} to {last} ({names} to {sanitize_terminal(jobs[last])})"
            if last > first
            else names
        )
        click.echo(f"{pluralize(len(jobs), 'job')} {done}: {listed}", err=err)
    else:
        lines = (f"{number}\t{sanitize_terminal(name)}" for number, name in jobs.items())
        click.echo("\n".join(lines), err=err)
