"""`launcher add -- COMMAND ARG…`: queue any program, or with --from each command of a file, all in one transaction."""

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from launcher.experiments.functions.options import absent_gpu_warning, check_request, make_request
from launcher.experiments.functions.program_start import (
    check_folders,
    check_tags,
    read_variables,
    stored_secrets_warning,
)
from launcher.experiments.functions.programs import (
    PREFIX,
    Program,
    SubmitRequest,
    Sweep,
    build_specs,
    check_name,
    check_programs,
    commit_jobs,
    files_warnings,
    programs_of,
    split_finished_programs,
)
from launcher.experiments.search.words import PRUNERS, SAMPLERS, SearchWords
from launcher.frontends.cli.command_lines import (
    CommandFile,
    command_file,
    missing_programs,
    typed_oddities,
)
from launcher.frontends.cli.complete import offer_files, offer_groups, offer_jobs, offer_runs
from launcher.frontends.cli.help_pages import COMMON_OPTIONS, TYPED_WORDS, launcher_command
from launcher.frontends.cli.job_selection import PATTERN_HELP, gc_paused, select
from launcher.frontends.cli.option_types import (
    SHARE,
    TextDefaultOption,
    flag,
    value_param,
    whole_number,
)
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import Backends, BackendSettings, read_configured_backends
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, find_home
from launcher.queue.job_options.registry import JobRequest, job_options
from launcher.queue.job_options.value_types import TRUTH, on_command_line
from launcher.queue.jobs.context import (
    INPUTS,
    OUTPUTS,
    Context,
    entry_context,
    program_words,
)
from launcher.queue.jobs.job import (
    FILE_BATCH,
    PROGRAM,
    PROGRAM_RUN,
    SWEEP_BATCH,
    Resources,
    Spec,
    Terms,
    run_name_fault,
)
from launcher.queue.jobs.states import State, strip_state_prefix
from launcher.queue.store.client import (
    context_to_store,
    ensure_scheduler_with_note,
    note_if_stopped,
    open_home,
    open_queue,
    open_queue_readonly,
)
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.file_owners import ON_COMMAND_LINE
from launcher.system.errors import UsageError, pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal

PARTITION_S = 2.0  # seconds to wait for Slurm
# the options on the help page; a job option that is not here is among the others
SECTIONS: Mapping[str, Sequence[str]] = {
    COMMON_OPTIONS: ("name", "gpus", "after", "time-limit", "sweep"),
    "Resources": ("vram", "cpus", "ram", "exclusive", "device", "gpu-ids", "on"),
    "Order": ("after-any", "not-before", "priority", "group", "hold"),
    "Failures and limits": (
        "warn",
        "signal",
        "grace",
        "retries",
        "max-failures",
        "backoff",
        "rerun",
        "notify-on",
    ),
    "Names and files": (
        "run",
        "tag",
        "note",
        "input",
        "output",
        "tensorboard",
        "metrics",
        "numbers",
        "stderr",
    ),
    "Start and end": ("cwd", "env", "pass-env", "snapshot", "wait", "follow"),
    "Many jobs": ("sweep-flag", "from", "replace", "share", "dry-run"),
    "Search": ("search", "trials", "parallel", "sampler", "pruner", "repeat", "search-seed"),
}

# the parameters that only a search has
SEARCH_OPTIONS = ("trials", "parallel", "sampler", "pruner", "repeat", "search_seed")

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
            is_flag=switch or None,  # False would allow the option without a value
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
    heading="Queue jobs",
    place=10,
    summary="Queue a program, a file of commands, or a parameter sweep.",
    offered_states=(State.RUNNING, State.QUEUED, State.HELD),
    other_names={
        "-- PROGRAM": "submit sbatch srun qsub bsub nohup",
        "--sweep NAME=VALUES -- PROGRAM": "sweep multirun",
        "--search METRIC -- PROGRAM": "search",
    },
)
@click.option("--name", help="Name of the job.  [default: command/ and its number]")
@click.option(
    "--run",
    "run_name",
    default=PROGRAM_RUN,
    show_default=True,
    metavar="NAME",
    shell_complete=offer_runs,
    help=f"Run of the job. Files go to runs/NAME/, those of the run {PROGRAM_RUN} to the queue folder.",
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
@flag(
    "--snapshot",
    help="Run the code as it is now, from a copy of the git repository. Programs write where they would write without it.",
)
@click.option(
    "--search",
    metavar="METRIC",
    help="Choose the values of --sweep by the results so far: acc, loss:min, or acc:max,loss:min. A range is "
    "lr=1e-5..1e-1:log or layers=2..6.",
)
@click.option("--trials", type=whole_number(1), help="Number of settings that a search tries.")
@click.option(
    "--parallel", type=whole_number(1), help="Jobs of a search at once.  [default: as many as fit]"
)
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default=SAMPLERS[0],
    show_default=True,
    help="How a search chooses values.",
)
@click.option(
    "--pruner",
    type=click.Choice(PRUNERS),
    help="How a search ends bad trials early.  [default: median for one metric]",
)
@click.option(
    "--repeat",
    metavar="NAME=VALUES",
    help="Run each setting of a search with each value: seed=1..3.",
)
@click.option(
    "--search-seed", type=whole_number(0), default=0, show_default=True, help="Seed of the sampler."
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
    snapshot: bool,
    dry_run: bool,
    wait: bool,
    follow: bool,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    search: str | None,
    trials: int | None,
    parallel: int | None,
    sampler: str,
    pruner: str | None,
    repeat: str | None,
    search_seed: int,
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
      launcher add --search acc --trials 60 --sweep n=2..6 -- python fit.py {sweep}
      launcher add --from commands.txt --gpus 1
      launcher add --cwd model --env OMP_NUM_THREADS=2 --follow -- python fit.py
    """
    typed = _typed_options()
    if search is not None and search.startswith("-"):
        raise UsageError(
            f"--search needs a metric before {search}. Write the metric after --search: --search acc."
        )
    if search is not None and "search" not in typed and not (sweeps or flags):
        search = None  # a default of the configuration
    if source is not None and outputs:
        raise UsageError("--output cannot be combined with --from. Remove one of them.")
    swept = "--sweep" if sweeps else "--sweep-flag" if flags else ""
    _check_words(program, name, source=source, swept_text=swept, replaces=replace)
    if hold and (wait or follow):
        option = "--wait" if wait else "--follow"
        raise UsageError(
            f"{option} cannot be combined with --hold: a held job does not start before "
            "`launcher release`. Remove one of them."
        )
    full_name, backends = check_name(name), read_configured_backends(os.environ)
    if fault := run_name_fault(run_name):
        raise UsageError(f"--run {run_name!r} {fault}")
    words = SearchWords(
        *(search or "", trials, parallel, sampler, pruner, repeat, search_seed),
        defaults=frozenset({"sampler", "pruner", "repeat"} - typed),
    )
    if search is None:
        _refuse_search_options(typed)
    elif hold or replace or follow or source is not None:
        given = "--hold" if hold else "--replace" if replace else "--follow" if follow else "--from"
        raise UsageError(f"{given} cannot be combined with --search. Remove one of them.")
    if options["max_failures"] is not None and not (swept or source):
        raise UsageError(
            "--max-failures counts the jobs that one command queues. Add --sweep, --sweep-flag or --from."
        )
    given_options = {
        name: value for name, value in options.items() if value is not None and value is not False
    }
    request = make_request(given_options, on_command_line)
    request = request._replace(terms=with_default_backends(request.terms, backends))
    file = None if source is None else command_file(source)
    given_settings = {
        **({} if cwd is None else {"cwd": cwd}),
        **({"env": read_variables(env)} if env else {}),
        **({INPUTS: [*inputs]} if inputs else {}),
        **({OUTPUTS: [*outputs]} if outputs else {}),
    }
    check_tags(tags)
    sought = None
    if search is not None:
        # pydantic and task files, which no other way to add needs
        from launcher.experiments.search.submission import program_search

        sought = program_search(
            words, sweeps, flags, full_name, program, given_settings, request.terms
        )
        sweeps, flags, program = (), (), sought.definition.argv
    programs = (
        programs_of(full_name, program, Sweep(sweeps, flags), given_settings, request.terms)
        if file is None
        else [
            Program(f"{full_name}-{number}" if full_name else "", command.argv, given_settings)
            for number, command in enumerate(file.commands, 1)
        ]
    )
    if sought is None:  # the search fills in the values
        check_folders(each.settings for each in programs)
    context = context_to_store(pass_env)
    with _readonly_queue() if dry_run else open_queue(make=True) as (home, store):
        check_request(home, store, request, backends)
        spec = Spec(
            name="",
            kind=PROGRAM,
            role="plain",
            run=run_name,
            root=str(home.folder) if run_name == PROGRAM_RUN else context.folder,
            resources=request.resources,
            terms=request.terms,
            priority=request.priority,
            batch=FILE_BATCH if source else SWEEP_BATCH if swept and sought is None else "",
        )
        asked = SubmitRequest(
            spec,
            context,
            partial(_newest, after),
            partial(_newest, after_any),
            tags,
            hold=hold,
            replaces=replace,
            share=share,
            snapshot=snapshot,
        )
        asked_for = [(request.resources, request.terms)] * len(programs)
        if sought is not None:
            # the same
            from launcher.frontends.cli.searches import add_search

            _warn(absent_gpu_warning(home, asked_for))
            definition = sought.definition
            _warn_of_search(definition.spec, definition.job_count, context, dry_run=dry_run)
            return add_search(home, store, asked, sought, dry_run=dry_run, wait=wait)
        if dry_run:
            _print_planned_jobs(home, store, asked, programs, file)
            _warn_of_gpus_and_targets(home, request, backends, asked_for)
            return 0
        since = store.read.last_event()
        jobs = _queue_programs(home, store, asked, programs, file, err=follow)
        if not note_if_stopped(home):  # a script that queues must not lift what a person decided
            ensure_scheduler_with_note(home)
        _warn_of_gpus_and_targets(home, request, backends, asked_for)
        if not (wait or follow) or not jobs:
            return 0
        # the screens, which no other way to add needs
        from launcher.frontends.cli.await_jobs import await_jobs

        return await_jobs(home, store, jobs, since, follow=follow)


def _newest(patterns: Sequence[str], store: Store) -> Sequence[int]:
    """Return the jobs that must be before others, as the command line names them."""
    return [job.id for job in select(store, patterns, newest=True)]


def _typed_options() -> frozenset[str]:
    """Return the parameters whose options are on the command line; others come from the configuration."""
    context = click.get_current_context()
    return frozenset(
        name
        for name in context.params
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    )


def _refuse_search_options(typed_options: Collection[str]) -> None:
    """Refuse options that only a search has.

    Raises:
        UsageError: such an option is on the command line.
    """
    for name in SEARCH_OPTIONS:
        if name in typed_options:
            raise UsageError(
                f"--{name.replace('_', '-')} belongs to a search. Add --search METRIC, such as --search acc."
            )


def _warn(text: str) -> None:
    if text:
        print_stderr(text)


def _warn_of_search(spec: Spec | None, jobs: int, context: Context, *, dry_run: bool) -> None:
    """Print what is odd about the program of the jobs of a search; one that is added keeps its command line."""
    if spec is not None:
        start = entry_context(spec, context._replace(environment=os.environ))
        for oddity in typed_oddities(spec.argv, Path(start.folder), start.environment, None):
            print_stderr(f"warning: {sanitize_terminal(oddity)}")
        _warn_of_hydra([spec] * jobs, start.folder, is_typed=dry_run)


def _warn_of_partitions(backends: Sequence[BackendSettings], home: Home) -> None:
    """Print immediately what Slurm reports about a named partition; the job waits until it is corrected."""
    named = [settings for settings in backends if settings.kind == "slurm" and settings.partition]
    if not named:
        return
    # 150 modules that few commands need
    from launcher.experiments.functions.plan_checks import engine_refusals

    for why in engine_refusals(named, home, PARTITION_S):
        print_stderr(f"warning: {why}")


def _check_words(
    program: tuple[str, ...],
    name: str | None,
    *,
    source: str | None,
    swept_text: str,
    replaces: bool,
) -> None:
    """Refuse options that contradict each other; `swept_text` is the option that makes a sweep, '' for none.

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
    if swept_text and source is not None:
        raise UsageError(f"{swept_text} cannot be combined with --from. Remove one of them.")
    if replaces and (swept_text or source is not None):
        what = swept_text or "--from"
        raise UsageError(
            f"--replace changes one job and cannot be combined with {what}. Remove one of them."
        )
    if replaces and name is None:
        raise UsageError("--replace needs the name of the job to replace. Add --name NAME")


@contextmanager
def _readonly_queue() -> Iterator[tuple[Home, Store]]:
    """Open the caller's queue for questions only; if there is none, an empty one, which is deleted."""
    home = find_home(os.environ)
    if home.exists():
        with open_queue_readonly(home) as opened:
            yield opened
    else:
        from tempfile import TemporaryDirectory  # 1 ms, only for a dry run without a queue

        with TemporaryDirectory() as folder, open_home(Home(Path(folder))) as store:
            yield home, store


def _print_planned_jobs(
    home: Home,
    store: Store,
    request: SubmitRequest,
    programs: Sequence[Program],
    file: CommandFile | None,
) -> None:
    """Print name and command line of each job that would be queued.

    Raises:
        UsageError: it would be refused.
    """
    specs, done = split_finished_programs(
        home, store, request, build_specs(store, request, programs), dry_run=True
    )
    _print_finished(done)
    if specs:
        with store.database.reading():
            check_programs(store, request, specs)
    if specs:
        _warn_of_programs(request, specs, programs, file, None)
    for warning in files_warnings(store, request, specs, ON_COMMAND_LINE):
        _warn(warning)
    if specs and request.snapshot:
        from launcher.experiments.functions.job_snapshots import (
            plan_snapshot,  # few commands need this module
        )

        planned = plan_snapshot(home, request.context, specs)
        print_stderr(f"snapshot {planned}")
        for note in planned.notes:
            print_stderr(f"note: {sanitize_terminal(note)}")
    for spec in specs:
        words = program_words(spec.settings, spec.argv)
        click.echo(
            f"{sanitize_terminal(spec.name or f'{PREFIX}…')}\t{sanitize_terminal(shlex.join(words))}"
        )
    print_stderr(f"{pluralize(len(specs), 'job')}; nothing was queued (dry run)")


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
    specs = build_specs(
        store, request, programs
    )  # before the loop, as other processes wait while many jobs are written
    specs, done = split_finished_programs(home, store, request, specs)
    if done:
        _print_added(done, None, err=err)
        _print_finished(done)
    if not specs:
        return {}
    shared = files_warnings(store, request, specs, ON_COMMAND_LINE)
    jobs = commit_jobs(store, request, specs)
    wake(home)  # first: an idle scheduler starts the program within milliseconds
    many = file is not None or len(jobs) > 1
    _print_added(jobs, None if not many else "held" if request.hold else "queued", err=err)
    _warn_of_programs(request, specs, programs, file, None if many else min(jobs))
    for warning in shared:
        _warn(warning)
    (row,) = store.read.jobs_by_id([min(jobs)])
    if row.state is State.SKIPPED:  # all programs of the command follow the same jobs
        which = " all jobs" if many else ""
        print_stderr(f"skipped{which}: {sanitize_terminal(strip_state_prefix(row.reason))}")
    return jobs


def _warn_of_programs(
    request: SubmitRequest,
    specs: Sequence[Spec],
    programs: Sequence[Program],
    file: CommandFile | None,
    job: int | None,
) -> None:
    """Print the warnings about the programs of jobs, also of jobs that are only planned.

    Args:
        request: What is the same for all jobs.
        specs: Their specifications.
        programs: What is started.
        file: The file that contains the programs, None if they were typed.
        job: Number of the only job; None if there are several, or it is only planned.
    """
    start = entry_context(specs[0], request.context._replace(environment=os.environ))
    folder, environment = Path(start.folder), start.environment
    if file is not None:
        for problem in (*file.warnings, *missing_programs(file, folder, environment)):
            print_stderr(str(problem))
    else:
        for oddity in typed_oddities(programs[0].argv, folder, environment, job):
            print_stderr(f"warning: {sanitize_terminal(oddity)}")
    if len(specs) > 1:
        _warn_of_hydra(specs, start.folder, is_typed=file is None)
    variables = (each.settings.get("env", {}) for each in specs)
    _warn(stored_secrets_warning(variables, (each.argv for each in specs)))


def _warn_of_hydra(specs: Sequence[Spec], folder: str, *, is_typed: bool) -> None:
    """Print that Hydra programs may write into one folder; `is_typed` ones with the line that prevents it."""
    # for several jobs only
    from launcher.experiments.functions.hydra_folders import OWN_FOLDER, shared_folder_warning

    words = click.get_current_context().meta[TYPED_WORDS]
    line = shlex.join(["launcher", "add", *words, OWN_FOLDER]) if is_typed else ""
    _warn(sanitize_terminal(shared_folder_warning((each.argv for each in specs), folder, line)))


def _warn_of_gpus_and_targets(
    home: Home,
    request: JobRequest,
    backends: Backends,
    requests: Sequence[tuple[Resources, Terms]],
) -> None:
    """Print the warnings about the machines and message targets of jobs, also of jobs that are only planned."""
    _warn(absent_gpu_warning(home, requests))
    if request.terms.notify_on:
        # tables of config.toml that few commands need
        from launcher.frontends.cli.notify_warnings import no_target_warning

        _warn(no_target_warning("--notify-on", os.environ))
    on = request.terms.on
    _warn_of_partitions([backends.by_name[name] for name in on if name in backends.by_name], home)


def _print_finished(finished_jobs: Mapping[int, str]) -> None:
    """Print that programs are not queued, because jobs have made their outputs already."""
    if not finished_jobs:
        return
    first = min(finished_jobs)
    whose = (
        f"job {first}"
        if len(finished_jobs) == 1
        else f"job {first} and {len(finished_jobs) - 1:,} more"
    )
    print_stderr(
        f"not queued: {whose} made the same outputs with the same command and files. "
        f"To run it again: launcher retry {first} --force"
    )


def _print_added(jobs: Mapping[int, str], job_name: str | None, *, err: bool) -> None:
    """Print the numbers of added jobs: on a terminal a summary for a file, otherwise one line per job."""
    if job_name is not None and sys.stdout.isatty():
        first, last = min(jobs), max(jobs)
        names = sanitize_terminal(jobs[first])
        listed = (
            f"{first} to {last} ({names} to {sanitize_terminal(jobs[last])})"
            if last > first
            else names
        )
        click.echo(f"{pluralize(len(jobs), 'job')} {job_name}: {listed}", err=err)
    else:
        lines = (f"{number}\t{sanitize_terminal(name)}" for number, name in jobs.items())
        click.echo("\n".join(lines), err=err)
