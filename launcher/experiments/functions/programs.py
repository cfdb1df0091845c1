"""Programs on their way into the queue, as `launcher add` and `submit_program` queue them: all in one transaction.

Their names are given, numbered, or taken from jobs that have ended.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from launcher.experiments.functions.program_files import (
    check_files,
    expand_inputs,
    find_finished_program,
    refuse_replaced_folders,
    replaced_outputs_warning,
)
from launcher.provenance.file_digests import FileDigests
from launcher.provenance.file_patterns import is_pattern
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import INPUTS, OUTPUTS, Context, file_paths, with_programs
from launcher.queue.jobs.job import FUNCTION_RUN, PROGRAM_RUN, Spec, Terms
from launcher.queue.jobs.job_folders import with_folder_suffix, with_folder_suffixes
from launcher.queue.jobs.signatures import program_cost
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.job_names import queued_name, superseded_name
from launcher.queue.store.job_selection import describe_pattern
from launcher.queue.store.queue import NEW, NewJob, Store
from launcher.queue.store.queued_code import describe_code
from launcher.queue.store.replacement import (
    WAITING_STATES,
    EqualJobs,
    replace_equal_jobs,
    replace_waiting,
)
from launcher.queue.store.rows import JobRow
from launcher.queue.store.runs import find_run_origin
from launcher.queue.store.steering import HELD_REASON
from launcher.system.errors import UsageError, pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import is_utf8, sanitize_terminal, shell_line

PREFIX = "command/"  # prefix of every name


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
    """Return the folder of the results of a run of programs and functions, which its first job determines.

    Raises:
        UsageError: the run belongs to a task file, or to the functions without a run.
    """
    if spec.run == FUNCTION_RUN:
        raise UsageError(f"run {spec.run!r} is for Python functions. Write another --run.")
    owner = None if spec.run == PROGRAM_RUN else find_run_origin(store.database.execute, spec.run)
    if owner is None:
        return spec.root
    if owner.is_planned:
        raise UsageError(
            f"run {spec.run!r} belongs to a task file in {owner.root}. Write another --run."
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

    name: str  # name of the job; '' if the job gets one of its number
    argv: tuple[str, ...]
    settings: Mapping[str, Any] = MappingProxyType({})
    # options of the program's job that contain swept values
    terms: Mapping[str, str] = MappingProxyType({})


class Sweep(NamedTuple):
    """The swept values and flags of a command, as typed."""

    values: Sequence[str]
    flags: Sequence[str]


def programs_of(
    name: str, argv: tuple[str, ...], sweep: Sweep, settings: Mapping[str, Any], terms: Terms
) -> list[Program]:
    """Return what is started: one program, or one with each combination of values.

    Raises:
        TaskFileError: values do not fit.
    """
    if not any(sweep):
        return [Program(name, argv, settings)]
    # pydantic, which no other way to add needs
    from launcher.experiments.taskfile.programs import swept_command, terms_with_braces

    typed = name.removeprefix(PREFIX) or None
    lines, warnings = swept_command(
        sweep.values, typed, argv, settings, sweep.flags, terms=terms_with_braces(terms)
    )
    for warning in warnings:
        print_stderr(str(warning))
    return [
        Program(f"{PREFIX}{own}" if own else "", argv, filled, filled_terms)
        for own, argv, filled, filled_terms in lines
    ]


JobFinder = Callable[[Store], Sequence[int]]  # returns the numbers of jobs; raises UsageError


def no_jobs(_: Store) -> Sequence[int]:
    """Return no jobs."""
    return ()


class SubmitRequest(NamedTuple):
    """What is the same for all jobs that a command adds."""

    spec: Spec  # without a program and a name
    context: Context
    after: JobFinder = no_jobs  # jobs that must be done before
    after_any: JobFinder = no_jobs  # jobs that must have ended before
    tags: Sequence[str] = ()
    hold: bool = False
    replaces: bool = False  # a waiting job of its name
    share: float | None = None  # share of the machine, for all added programs
    snapshot: bool = False  # the code of the jobs comes from a snapshot of now


def build_specs(store: Store, request: SubmitRequest, programs: Sequence[Program]) -> list[Spec]:
    """Return the specifications of programs, with patterns replaced by files.

    Raises:
        UsageError: a pattern matches no file.
    """
    specs = [
        request.spec._replace(
            name=name,
            argv=argv,
            settings=settings,
            terms=request.spec.terms.with_files(terms) if terms else request.spec.terms,
            signature=program_cost(settings, argv),
        )
        for name, argv, settings, terms in programs
    ]
    if not any(is_pattern(name) for spec in specs for name in spec.settings.get(INPUTS, ())):
        return specs
    makers = store.read.programs_by_output(OPEN_STATES)
    return expand_inputs(specs, request.context.folder, makers)


def files_warnings(
    store: Store, request: SubmitRequest, specs: Sequence[Spec], spelling: str
) -> list[str]:
    """Return warnings about files of numbers that several jobs name.

    Args:
        store: The queue, before the jobs are in it.
        request: What is the same for all jobs.
        specs: The jobs.
        spelling: How the user writes an option.
    """
    if not (request.spec.terms.metrics or request.spec.terms.tensorboard):
        return []
    # for few jobs
    from launcher.experiments.functions.shared_files import shared_files_warnings

    return shared_files_warnings(store, specs, request.context.folder, spelling=spelling)


def split_finished_programs(
    home: Home, store: Store, request: SubmitRequest, specs: list[Spec], *, dry_run: bool = False
) -> tuple[list[Spec], dict[int, str]]:
    """Return the programs without finished outputs, and the names of the jobs that finished the others.

    Args:
        home: Queue folder.
        store: Its database.
        request: What is the same for all jobs.
        specs: The programs.
        dry_run: Print why outdated outputs are made again, and store nothing.
    """
    if not any(spec.settings.get(OUTPUTS) for spec in specs):
        return specs, {}
    from launcher.provenance.hashing_progress import watch_hashing  # few programs name outputs

    digests, folder = FileDigests(home.digests, watch_hashing()), request.context.folder
    paths = {path for spec in specs for path in file_paths(OUTPUTS, spec, folder, 0)}
    makers = store.read.programs_by_output(paths=paths)
    earlier = [find_finished_program(spec, folder, makers, store, digests) for spec in specs]
    if dry_run:
        why = {", ".join(each.changes): each.row.id for each in earlier if each and each.changes}
        for changes, job in why.items():
            print_stderr(f"since job {job} made the same outputs: {sanitize_terminal(changes)}")
    else:
        digests.save()
    left = [spec for spec, each in zip(specs, earlier, strict=True) if each is None or each.changes]
    if warning := replaced_outputs_warning(left, folder, makers):
        print_stderr(warning)
    return left, {each.row.id: each.row.name for each in earlier if each and not each.changes}


class CheckedPrograms(NamedTuple):
    """Programs that can be queued, and the jobs of the queue that this is about."""

    specs: Sequence[Spec]
    dependencies: Sequence[int]  # jobs that must be done before the programs
    after_any: Sequence[int]  # jobs that must have ended before the programs
    producers: Sequence[Sequence[int]]  # for each program the jobs that make its inputs
    replaced: JobRow | None
    holders: Sequence[JobRow]  # ended jobs with the names of the new jobs


def check_programs(store: Store, request: SubmitRequest, specs: Sequence[Spec]) -> CheckedPrograms:
    """Refuse programs that cannot be queued, all of them; nothing is written.

    Raises:
        UsageError: a name, a file, a run or a job that they should follow is in the way.
    """
    root = root_of_run(store, request.spec)
    specs = [spec if spec.root == root else spec._replace(root=root) for spec in specs]
    run = store.read.find_run(root, request.spec.run)
    needs, after_any = request.after(store), request.after_any(store)
    replaced = store.read.find_job(run, specs[0].name) if request.replaces else None
    if replaced is not None and replaced.state not in WAITING_STATES:
        replaced = None
    before = _find_producers(store, request, specs, replaced)
    named = [] if replaced is not None else [spec.name for spec in specs if spec.name]
    # one query for all names, as few or none are taken
    taken = store.read.existing_names(run, named)
    holders = [row for name in named if name in taken and (row := ended_holder(store, run, name))]
    return CheckedPrograms(specs, needs, after_any, before, replaced, holders)


def commit_jobs(
    store: Store,
    request: SubmitRequest,
    specs: Sequence[Spec],
    record: Callable[[Sequence[int]], object] = lambda _: None,
) -> dict[int, str]:
    """Commit jobs, and return their names by their numbers; one without a name of its own gets its number's.

    Args:
        store: The queue.
        request: What is the same for all jobs.
        specs: The jobs.
        record: Is called with the numbers of jobs in the transaction that inserts them.
    """
    if not request.snapshot:
        return _commit_jobs(store, request, specs, record)
    # few commands need this module
    from launcher.experiments.functions.job_snapshots import snapshot_taken

    with snapshot_taken(store, request.context, specs) as context:
        return _commit_jobs(store, request._replace(context=context), specs, record)


def _commit_jobs(
    store: Store,
    request: SubmitRequest,
    specs: Sequence[Spec],
    record: Callable[[Sequence[int]], object],
) -> dict[int, str]:
    state, reason = (State.HELD, HELD_REASON) if request.hold else (State.QUEUED, NEW)
    request = request._replace(context=with_programs(request.context, specs))
    code = describe_code(specs, request.context, time.time())
    with store.database.writing():
        specs, needs, after_any, before, replaced, holders = check_programs(store, request, specs)
        run = store.ensure_run(Path(specs[0].root), request.spec.run, share=request.share)
        first = replaced.id if replaced is not None else store.next_job_number()
        if not specs[0].name:
            names = unused_names(store, run, range(first, first + len(specs)))
            specs = [spec._replace(name=name) for spec, name in zip(specs, names, strict=True)]
        if replaced is None:
            specs = with_folder_suffixes(specs, first, store.home)
        else:
            specs = [with_folder_suffix(specs[0], first, replaced.spec, store.home)]
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
            number = replace_waiting(
                store, replaced, request.context, jobs[0], time.time(), code=code
            )
            store.job_control.change_tags([number], request.tags, ())
            return {number: specs[0].name}
        _print_renamed([rename_ended_job(store, run, holder) for holder in holders])
        numbers: list[int] = []
        if not store.reserve_numbers(jobs):
            numbers = store.insert_new(run, request.context, jobs, time.time(), code=code)
            record(numbers)
            store.job_control.change_tags(numbers, request.tags, ())
        if numbers and specs[0].batch:
            _replace_equal(store, request, run, dict(zip(numbers, specs, strict=True)))
    if not numbers:
        numbers = store.insert_in_portions(
            run, request.context, jobs, time.time(), first, code=code
        )
        store.job_control.change_tags(numbers, request.tags, ())
        if specs[0].batch:
            with store.database.writing():
                _replace_equal(store, request, run, dict(zip(numbers, specs, strict=True)))
    return {number: spec.name for number, spec in zip(numbers, specs, strict=True)}


def _replace_equal(store: Store, request: SubmitRequest, run: int, new: Mapping[int, Spec]) -> None:
    """Let the jobs of a batch replace equal older ones. Inside `writing`."""
    _print_equal(replace_equal_jobs(store, run, request.context, new), request.spec.run)


def _find_producers(
    store: Store, request: SubmitRequest, specs: Sequence[Spec], replaced_job: JobRow | None
) -> Sequence[Sequence[int]]:
    """Return for each program the jobs that make what it reads.

    Raises:
        UsageError: a file cannot be one of a program, or nothing makes it.
    """
    settings = {id(spec.settings): spec.settings for spec in specs}.values()  # many share theirs
    if not any(each.get(name) for each in settings for name in (INPUTS, OUTPUTS)):
        return [()] * len(specs)
    own = () if replaced_job is None else (replaced_job.id,)
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
