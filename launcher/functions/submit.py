"""Functions into the queue: each call is a job, all calls of a submission come in one transaction."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from launcher.backends.pilot_records import pilots_root
from launcher.backends.settings import (
    HERE,
    Backends,
    configured_backends,
    placed_terms,
    runs_only_here,
)
from launcher.context import Context
from launcher.errors import UsageError
from launcher.functions.calls import Call, write_calls
from launcher.functions.checks import check_request
from launcher.functions.future import Future, follow
from launcher.functions.names import ENTRY, FOLDER, KIND, PRELOAD, RUN
from launcher.functions.options import request_of
from launcher.functions.pickling import name_of
from launcher.job import Spec, Terms, program_signature
from launcher.job_options.registry import JobRequest
from launcher.states import State
from launcher.store.client import context_to_store, open_queue, say_if_stopped, see_served
from launcher.store.queue import NEW, NewJob, Store
from launcher.store.rows import JobRow
from launcher.store.steering import HELD
from launcher.system.daemon_control import wake
from launcher.system.paths import Home, find_home, make_home

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What all calls of a submission have in common."""

    name: str = ""  # of the jobs, without number; '': that of the function
    after: Sequence[int] = ()  # jobs that must be done before
    after_any: Sequence[int] = ()  # that must have ended
    pass_env: Sequence[str] = ()
    hold: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def submit_calls(
    function: Callable[..., Value],
    arguments: Iterable[Sequence[object]],
    keywords: Mapping[str, object],
    asked: Asked,
) -> list[Future[Value]]:
    """Queue a job for each call of a function, all of them or none.

    Args:
        function: which is called.
        arguments: those of each call.
        keywords: that all calls have.
        asked: what the jobs ask for.

    Raises:
        UsageError: an option is wrong, the function or an argument cannot be pickled, the machine
            can never run it, or a job that it should wait for does not exist.
        MachineError: the queue cannot be used.
    """
    request, backends = request_of(asked.options), configured_backends(os.environ)
    terms = placed_terms(request.terms, backends)
    context = context_to_store(asked.pass_env)
    home = find_home(os.environ)
    make_home(home)
    calls = write_calls(_folder(home, terms, backends), function, arguments, keywords)
    if not calls:
        return []
    numbers: list[int] = []
    try:
        with open_queue(make=True) as (_, store):
            check_request(home, store, replace(request, terms=terms), backends)
            root = home.folder if runs_only_here(terms) else Path(context.folder)
            name = asked.name or name_of(function)
            spec = _spec(name, root, replace(request, terms=terms))
            numbers = _put(store, spec, calls, context, asked)
            rows = store.read.jobs_by_id(numbers)
    except (
        Exception
    ):  # after an interrupt the jobs may be queued; if not, `launcher clean` deletes the file
        if not numbers:
            Path(calls[0].file).unlink(missing_ok=True)
        raise
    return _futures(home, rows)


def _futures(home: Home, rows: Iterable[JobRow]) -> list[Future[Any]]:
    """Let the scheduler know of new jobs; return their futures."""
    wake(home)
    if not say_if_stopped(home):
        see_served(home)
    futures: list[Future[Any]] = [Future(home, row) for row in rows]
    follow(home, futures)
    return futures


def _spec(name: str, root: Path, request: JobRequest) -> Spec:
    return Spec(
        name=name,
        kind=KIND,
        role="plain",
        run=RUN,
        root=str(root),
        entry=ENTRY,
        preload=PRELOAD,
        resources=request.resources,
        terms=request.terms,
        priority=request.priority,
    )


def _put(
    store: Store, spec: Spec, calls: Sequence[Call], context: Context, asked: Asked
) -> list[int]:
    """Commit the jobs, and return their numbers; each one's name ends with its number."""
    state, reason = (State.HELD, HELD) if asked.hold else (State.QUEUED, NEW)
    with store.writing():
        _check_there(store, [*asked.after, *asked.after_any])
        run = store.run(Path(spec.root), RUN)
        first = store.next_number()
        jobs = [
            NewJob(
                spec=replace(
                    spec,
                    name=f"{KIND}/{spec.name}#{number}",
                    argv=(call.text,),  # what people see, and whose numbers tell sweeps apart
                    settings=call.settings(),
                    signature=program_signature((call.text,)),
                ),
                needs=asked.after,
                after_any=asked.after_any,
                state=state,
                reason=reason,
            )
            for number, call in enumerate(calls, first)
        ]
        return store.put_new(run, context, jobs, time.time())


def _check_there(store: Store, jobs: Sequence[int]) -> None:
    """Refuse jobs to wait for that do not exist.

    Raises:
        UsageError: one does not.
    """
    known = {row.id for row in store.read.jobs_by_id(jobs)}
    for job in jobs:
        if job not in known:
            raise UsageError(f"after: there is no job {job} in the queue")


def _folder(home: Home, terms: Terms, backends: Backends) -> Path:
    """Return where the calls of jobs lie: where all machines on which they may run see them.

    Raises:
        UsageError: there is no such folder.
    """
    elsewhere = [name for name in terms.on if name != HERE]
    if not elsewhere:
        return home.folder / FOLDER
    folders = {pilots_root(backends.by_name[name], home) for name in elsewhere}
    if len(folders) > 1:
        raise UsageError(
            f"on: the pilots of {', '.join(elsewhere)} have no folder in common, where the function would "
            "lie; submit to one of them, or give them one `folder` in config.toml"
        )
    return folders.pop() / FOLDER
