"""`submit_program`, as `launcher.api` offers it: a program as a job, with the options of `launcher add`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

from launcher.experiments.functions.future import Future, ProgramResult, follow
from launcher.experiments.functions.options import (
    JobOptions,
    absent_gpu_warning,
    check_request,
    read_request,
)
from launcher.experiments.functions.program_start import (
    check_folders,
    check_tags,
    read_variables,
    stored_secrets_warning,
)
from launcher.experiments.functions.programs import (
    SubmitRequest,
    Sweep,
    build_specs,
    check_name,
    commit_jobs,
    files_warnings,
    programs_of,
    split_finished_programs,
)
from launcher.experiments.functions.shared_files import IN_PYTHON
from launcher.experiments.functions.task_files import After, numbers_of
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.home.daemon_control import wake
from launcher.queue.job_options.value_types import SHARE
from launcher.queue.jobs.context import INPUTS, OUTPUTS
from launcher.queue.jobs.job import PROGRAM, PROGRAM_RUN, SWEEP_BATCH, Spec, run_name_fault
from launcher.queue.store.client import (
    context_to_store,
    ensure_scheduler_with_note,
    note_if_stopped,
    open_queue,
)
from launcher.queue.store.queue import Store
from launcher.system.errors import UnknownName, UsageError
from launcher.system.terminal import print_stderr

Swept = Mapping[str, Iterable[object]] | Sequence[str]


class ProgramOptions(JobOptions, total=False):
    """Options of a program, named as those of `launcher add`."""

    name: str
    run: str
    after: After
    after_any: After
    tag: str | Sequence[str]
    cwd: str | Path
    env: Mapping[str, str]
    pass_env: Sequence[str]
    input: str | Path | Sequence[str | Path]
    output: str | Path | Sequence[str | Path]
    share: float
    hold: bool
    replace: bool
    snapshot: bool


@overload
def submit_program(
    words: Sequence[str | Path],
    /,
    *,
    sweep: Swept,
    sweep_flag: str | Sequence[str] = (),
    **options: Unpack[ProgramOptions],
) -> list[Future[ProgramResult]]: ...


@overload
def submit_program(
    words: Sequence[str | Path],
    /,
    *,
    sweep_flag: str | Sequence[str],
    **options: Unpack[ProgramOptions],
) -> list[Future[ProgramResult]]: ...


@overload
def submit_program(
    words: Sequence[str | Path], /, **options: Unpack[ProgramOptions]
) -> Future[ProgramResult]: ...


def submit_program(words: Sequence[str | Path], /, **options: Any) -> Any:
    """Queue a program, as `launcher add` does: no shell runs, and it starts in this folder with this environment.

    Args:
        words: program and arguments. {job_folder} and {run_folder} are replaced.
        options: options of `launcher add`, with underscores: gpus=1, name="fit", output="model.pt". `after` and
            `after_any` list futures, runs or job numbers; `env` is a mapping. An option that may be repeated is
            a text or a list of texts. `sweep` is {"lr": [0.1, 0.01]} or ["lr=0.1,0.01"].

    Returns:
        A `Future` whose result is a `ProgramResult`. With `sweep` or `sweep_flag` a list of them. If jobs have made
        all `output` files from the same command and files, their futures.

    Raises:
        UsageError: an option is wrong, or no machine could ever run the program.
        TaskFileError: the values of a sweep do not fit.
        MachineError: the queue cannot be used.
    """
    argv = _words(words)
    own, asked = _split(options)
    sweep = Sweep(_sweeps(own.get("sweep", ())), _texts("sweep_flag", own.get("sweep_flag", ())))
    run, tags = own.get("run", PROGRAM_RUN), _texts("tag", own.get("tag", ()))
    if fault := run_name_fault(run):
        raise UsageError(f"run: {run!r} {fault}")
    check_tags(tags)
    needs, ends = (
        numbers_of(own.get(name, ()), f"{name}: expected futures, runs or job numbers")
        for name in ("after", "after_any")
    )
    settings: dict[str, Any] = {}
    if own.get("cwd") is not None:
        settings["cwd"] = os.fspath(own["cwd"])
    if env := own.get("env"):
        settings["env"] = read_variables([f"{name}={text}" for name, text in env.items()])
    for name, setting in (("input", INPUTS), ("output", OUTPUTS)):
        if files := _texts(name, own.get(name, ())):
            settings[setting] = [*files]
    request, backends = read_request(asked), read_configured_backends(os.environ)
    request = request._replace(terms=with_default_backends(request.terms, backends))
    programs = programs_of(check_name(own.get("name")), argv, sweep, settings, request.terms)
    check_folders(each.settings for each in programs)
    context = context_to_store(_texts("pass_env", own.get("pass_env", ())))
    with open_queue(make=True) as (home, store):
        check_request(home, store, request, backends)
        spec = Spec(
            name="",
            kind=PROGRAM,
            role="plain",
            run=run,
            root=str(home.folder) if run == PROGRAM_RUN else context.folder,
            resources=request.resources,
            terms=request.terms,
            priority=request.priority,
            batch=SWEEP_BATCH if any(sweep) else "",
        )
        submitted = SubmitRequest(
            spec,
            context,
            lambda store: _existing(store, needs, "after"),
            lambda store: _existing(store, ends, "after_any"),
            tags,
            hold=bool(own.get("hold")),
            replaces=bool(own.get("replace")),
            share=_share(own.get("share")),
            snapshot=bool(own.get("snapshot")),
        )
        specs = build_specs(store, submitted, programs)
        specs, done = split_finished_programs(home, store, submitted, specs)
        shared = files_warnings(store, submitted, specs, IN_PYTHON)
        jobs = {**done, **(commit_jobs(store, submitted, specs) if specs else {})}
        wake(home)
        rows = store.read.jobs_by_id(jobs)
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    variables = (each.settings.get("env", {}) for each in specs)
    for warning in (
        absent_gpu_warning(home, [(request.resources, request.terms)] * len(specs)),
        stored_secrets_warning(variables, (each.argv for each in specs)),
        *shared,
    ):
        if warning:
            print_stderr(warning)
    futures: list[Future[ProgramResult]] = [Future(home, row) for row in rows]
    follow(home, futures)
    return futures if any(sweep) else futures[0]


def _words(words: object) -> tuple[str, ...]:
    """Return a command line.

    Raises:
        UsageError: it is empty, or contains something else than texts and paths.
    """
    if (
        isinstance(words, str | bytes)
        or not isinstance(words, Sequence)
        or not words
        or not all(isinstance(word, str | Path) for word in words)
    ):
        raise UsageError(
            f"words: expected a list of texts such as ['python', 'train.py'], got {words!r:.80}"
        )
    return tuple(map(os.fspath, words))


_OWN = (*ProgramOptions.__annotations__.keys() - JobOptions.__annotations__.keys(),)
_NAMES = (*_OWN, "sweep", "sweep_flag")


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a program, and those of a job.

    Raises:
        UnknownName: there is no such option.
    """
    own = {name: value for name, value in options.items() if name in _NAMES and value is not None}
    asked = {name: value for name, value in options.items() if name not in _NAMES}
    known = [*JobOptions.__annotations__, *_NAMES]
    for name in asked:
        if name not in known:
            raise UnknownName("option", name, known)
    return own, asked


def _texts(name: str, value: object) -> tuple[str, ...]:
    """Return a text or a list of texts as a list.

    Raises:
        UsageError: the value is neither a text nor a list of texts.
    """
    listed = [value] if isinstance(value, str | Path) else value
    if not isinstance(listed, Iterable):
        raise UsageError(f"{name}: expected a text or a list of texts, got {value!r:.80}")
    texts = [*listed]
    if not all(isinstance(text, str | Path) for text in texts):
        raise UsageError(f"{name}: expected a text or a list of texts, got {value!r:.80}")
    return tuple(map(os.fspath, texts))


def _sweeps(value: object) -> tuple[str, ...]:
    """Return the values of a sweep as they are typed.

    Raises:
        UsageError: a value cannot be typed in a list.
    """
    if not isinstance(value, Mapping):
        return _texts("sweep", value)
    words = []
    for name, values in value.items():
        texts = [values] if isinstance(values, str) else [*map(_swept_text, values)]
        words.append(f"{name}={','.join(texts)}")
    return tuple(words)


def _swept_text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text or any(char in text for char in ",'\"[]{}"):
        raise UsageError(f"sweep: {value!r} cannot be a value of a sweep. Queue its program alone.")
    return text


def _share(value: object) -> float | None:
    if value is None:
        return None
    try:
        return float(SHARE.read(str(value), 0.0))
    except UsageError as error:
        raise UsageError(f"share: {error}") from error


def _existing(store: Store, jobs: Sequence[int], option: str) -> Sequence[int]:
    """Return the numbers of jobs.

    Raises:
        UsageError: a job does not exist.
    """
    known = {row.id for row in store.read.jobs_by_id(jobs)}
    if missing := next((number for number in jobs if number not in known), None):
        raise UsageError(f"{option}: job {missing} does not exist")
    return jobs
