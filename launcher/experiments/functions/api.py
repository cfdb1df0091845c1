"""`submit`, `submit_many` and `future`, as `launcher.api` offers them: each call is a job, all calls come in one transaction."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from launcher.experiments.functions.calls import (
    ENTRY,
    FOLDER,
    KIND,
    PRELOAD,
    Call,
    CallLabel,
    relative_to_home,
    write_calls,
)
from launcher.experiments.functions.future import Future, follow
from launcher.experiments.functions.main_module import MAIN, refuse_spawned_import
from launcher.experiments.functions.options import (
    JobOptions,
    absent_gpu_warning,
    check_request,
    read_request,
)
from launcher.experiments.functions.pickling import name_of
from launcher.experiments.functions.programs import root_of_run
from launcher.experiments.functions.task_files import After, Run, numbers_of, submit_plan
from launcher.queue.backends.eligibility import runs_only_here, with_default_backends
from launcher.queue.backends.pilot_records import pilots_root
from launcher.queue.backends.settings import LOCAL, Backends, read_configured_backends
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, find_home, make_home
from launcher.queue.job_options.registry import JobRequest
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import CALLS_BATCH, FUNCTION_RUN, Spec, Terms, run_name_fault
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import State
from launcher.queue.store.client import (
    context_to_store,
    ensure_scheduler_with_note,
    note_if_stopped,
    open_queue,
)
from launcher.queue.store.queue import NEW, NewJob, Store
from launcher.queue.store.queued_code import ONLY_IMPORTS, FunctionCode, describe_code
from launcher.queue.store.replacement import replace_equal_jobs
from launcher.queue.store.rows import GroupLimit
from launcher.queue.store.steering import HELD_REASON
from launcher.system.errors import UnknownName, UsageError
from launcher.system.terminal import print_stderr
from launcher.system.text import is_utf8

if TYPE_CHECKING:  # planning is imported where a task file comes
    from launcher.experiments.planning.plan import Plan

Value = TypeVar("Value")
_TASK_FILE_OPTIONS = [*signature(submit_plan).parameters][1:]  # the options of a task file


class CallOptions(JobOptions, total=False):
    """Options of a call, besides what its job asks for."""

    kwargs: Mapping[str, object] | None
    name: str
    after: After
    after_any: After
    pass_env: Sequence[str]
    hold: bool
    run: str
    snapshot: bool


@overload
def submit(
    function: "str | Path | Plan",
    /,
    *,
    settings: Sequence[str] = (),
    force: bool = False,
    accept_code: bool = False,
    pass_env: Sequence[str] = (),
    on: str | Sequence[str] | None = None,
    snapshot: bool = False,
) -> Run: ...


@overload
def submit(
    function: Callable[..., Value],
    /,
    *arguments: object,
    **options: Unpack[CallOptions],
) -> Future[Value]: ...


def submit(function: Any, /, *arguments: Any, **options: Any) -> Any:
    """Queue a function call as a job, or all jobs of a task file or a plan.

    A function travels with its closure and its arguments (cloudpickle). Its job runs in this folder,
    with this interpreter, environment and search path for modules, and goes on when this process has
    ended: `future` has it again.

    Args:
        function: function to be called, also a lambda, or one of a notebook; or the path of a task file, or a plan.
        arguments: arguments of the function, by position; those by name go into `kwargs`.
        options: options for a function, `kwargs`, `name`, `run`, `after`, `after_any`, `pass_env`, `hold`, and
            those of `launcher add`, such as gpus=1, vram="10GiB" or time_limit="8h".
            `kwargs` contains its keyword arguments. `name` is the job's name, which its number follows.
            `run` is the run of the job, `functions` if it is not given.
            `after` lists jobs that must be done before, and `after_any` jobs that must have ended.
            `pass_env` lists variables that the job gets although their names look like secrets.
            With `hold`, the job waits for `launcher release`. With `snapshot`, modules and files of the git
            repository are those of now, also if they are changed before the job starts.
            For a task file, the options are `settings` (key=value each), `on`, `force`, `accept_code`,
            `pass_env` and `snapshot`.

    Returns:
        A `Future`; of a task file or plan a `Run`.

    Raises:
        UsageError: an option is wrong, the function or an argument cannot be pickled (it is named),
            or no machine could ever run it.
        TaskFileError: all that is wrong with a task file.
        MachineError: the queue cannot be used.
    """
    if callable(function):
        return queue_calls(function, [arguments], "", **options)[0]
    from launcher.experiments.planning.plan import Plan

    if not isinstance(function, str | Path | Plan):
        raise UsageError(
            f"expected a function, a plan, or the path of a task file, got {type(function).__name__}"
        )
    if arguments:
        raise UsageError("a task file does not take arguments. Use settings=['key=value'].")
    for option in options:
        if option not in _TASK_FILE_OPTIONS:
            advice = "Write resources in the task file, or as settings=['resources.cpus=4']."
            raise UnknownName("option", option, _TASK_FILE_OPTIONS, advice=advice)
    return submit_plan(function, **options)


def submit_many(
    function: Callable[..., Value],
    /,
    *iterables: Iterable[object],
    **options: Unpack[CallOptions],
) -> list[Future[Value]]:
    """Queue one job per function call, with arguments paired as by `map`. All are queued, or none.

    The function is stored once, whatever it takes along. There is one iterable for each of its
    arguments, and the shortest counts; `kwargs` and all options are those of `submit`, for each call.
    Different functions without arguments: `submit_many(operator.call, [first, second])`.

    Raises:
        UsageError: as `submit`.
        MachineError: as `submit`.
    """
    if not iterables:
        raise UsageError(
            "submit_many calls the function once per element of an iterable. Pass an iterable."
        )
    return queue_calls(function, zip(*iterables, strict=False), CALLS_BATCH, **options)


def queue_calls(
    function: Callable[..., Value],
    calls: Iterable[Sequence[object]],
    batch: str,
    *,
    kwargs: Mapping[str, object] | None = None,
    name: str = "",
    after: After = (),
    after_any: After = (),
    pass_env: Sequence[str] = (),
    hold: bool = False,
    run: str = FUNCTION_RUN,
    snapshot: bool = False,
    limit: GroupLimit | None = None,
    labels: Sequence[CallLabel] = (),
    **options: Any,
) -> list[Future[Value]]:
    """Queue a job for each call of a function, all of them or none.

    With a limit, they belong to its group, which is in the queue afterwards. Labels, if there are any, are
    one for each call.

    Raises:
        UsageError: an option is wrong, the function or an argument cannot be pickled, the machine
            can never run it, or a dependency does not exist.
        MachineError: the queue cannot be used.
    """
    refuse_spawned_import()
    if not is_utf8(name):
        raise UsageError(f"name: {name!r} is not valid UTF-8")
    if fault := run_name_fault(run):
        raise UsageError(f"run: {run!r} {fault}")
    keywords = {} if kwargs is None else _keywords(kwargs)
    needs, ends = (
        numbers_of(jobs, f"{option}: expected futures, runs or job numbers")
        for option, jobs in (("after", after), ("after_any", after_any))
    )
    request, backends = read_request(options), read_configured_backends(os.environ)
    request = request._replace(terms=with_default_backends(request.terms, backends))
    context = context_to_store(pass_env)
    home = find_home(os.environ)
    make_home(home)
    written = write_calls(_folder(home, request.terms, backends), function, calls, keywords)
    if not written:
        return []
    if labels:
        written = [label.label_call(call) for label, call in zip(labels, written, strict=True)]
    numbers: list[int] = []
    try:
        with open_queue(make=True) as (_, store):
            check_request(home, store, request, backends)
            here = run == FUNCTION_RUN and runs_only_here(request.terms)
            root = home.folder if here else Path(context.folder)
            state, reason = (State.HELD, HELD_REASON) if hold else (State.QUEUED, NEW)
            if limit is not None:
                request = request._replace(terms=request.terms._replace(group=limit.name))
            spec = _spec(name or name_of(function), run, root, request)._replace(batch=batch)
            job = NewJob(spec, needs, ends, state, reason)
            calls_in_home = [relative_to_home(call, home) for call in written]
            code = _function_code(function)
            with ExitStack() as stack:
                if snapshot:
                    from launcher.experiments.functions.job_snapshots import (
                        snapshot_taken,
                    )  # few calls need this module

                    taken = snapshot_taken(store, context, [spec])
                    context = stack.enter_context(taken)
                numbers = _commit_calls(store, job, calls_in_home, context, limit, code)
            rows = store.read.jobs_by_id(numbers)
    except (
        Exception
    ):  # after an interrupt the jobs may be queued; if not, `launcher clean` deletes the file
        if not numbers:
            Path(written[0].file).unlink(missing_ok=True)
        raise
    wake(home)
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    if warning := absent_gpu_warning(home, [(request.resources, request.terms)] * len(rows)):
        print_stderr(warning)
    futures: list[Future[Value]] = [Future(home, row) for row in rows]
    follow(home, futures)
    return futures


def _keywords(kwargs: object) -> Mapping[str, object]:
    """Return the keywords of a call.

    Raises:
        UsageError: the keywords are not a mapping of names.
    """
    if isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs):
        return kwargs
    raise UsageError(
        f"kwargs: expected a mapping with strings as keys, such as {{'lr': 0.1}}, got {kwargs!r:.80}"
    )


def _spec(name: str, run: str, root: Path, request: JobRequest) -> Spec:
    return Spec(
        name=name,
        kind=KIND,
        role="plain",
        run=run,
        root=str(root),
        entry=ENTRY,
        preload=PRELOAD,
        resources=request.resources,
        terms=request.terms,
        priority=request.priority,
    )


def _commit_calls(
    store: Store,
    job: NewJob,
    calls: Sequence[Call],
    context: Context,
    limit: GroupLimit | None,
    function: FunctionCode,
) -> list[int]:
    """Commit a job for each call, and return their numbers; each one's name ends with its number."""
    spec = job.spec
    code = describe_code([spec], context, time.time(), function)
    with store.database.writing():
        if spec.run != FUNCTION_RUN:
            spec = spec._replace(root=root_of_run(store, spec))
        if limit is not None:
            store.ensure_group(limit)
        needed = [*job.dependencies, *job.after_any]
        known = {row.id for row in store.read.jobs_by_id(needed)}
        if missing := next((number for number in needed if number not in known), None):
            raise UsageError(f"after: job {missing} does not exist")
        specs = [
            spec._replace(
                name=f"{KIND}/{spec.name}#{number}",
                argv=(
                    call.call,
                ),  # users see this text, and its numbers distinguish the jobs of a sweep
                settings=call.settings(),
                signature=program_signature((call.call,)),
            )
            for number, call in enumerate(calls, store.next_job_number())
        ]
        run = store.ensure_run(Path(spec.root), spec.run)
        jobs = [job._replace(spec=spec) for spec in specs]
        numbers = store.insert_new(run, context, jobs, time.time(), code=code)
        if spec.batch:
            replace_equal_jobs(store, run, context, dict(zip(numbers, specs, strict=True)))
        return numbers


def _function_code(function: Callable[..., object]) -> FunctionCode:
    """Return where the code of a function is looked for."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    if module != MAIN:
        return FunctionCode((module,) if module else (), sys.path)
    file = getattr(sys.modules[MAIN], "__file__", None)  # None in a notebook
    starts = () if file is None else (f"{Path(file).absolute()}{ONLY_IMPORTS}",)
    return FunctionCode(starts, sys.path)


def _folder(home: Home, terms: Terms, backends: Backends) -> Path:
    """Return where the calls of jobs lie: where all machines on which they may run see them.

    Raises:
        UsageError: there is no such folder.
    """
    elsewhere = [name for name in terms.on if name != LOCAL]
    if not elsewhere:
        return home.folder / FOLDER
    folders = {pilots_root(backends.by_name[name], home) for name in elsewhere}
    if len(folders) > 1:
        raise UsageError(
            f"on: the pilots of {', '.join(elsewhere)} have no common folder for the function. "
            "Submit to one of them, or set the same `folder` for all of them in config.toml."
        )
    return folders.pop() / FOLDER
