"""The folder and environment in which a job's program runs, and what its worker is forked from."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.job import PROGRAM, Spec
from launcher.system.environment import owners_environment
from launcher.system.stored_fields import Unreadable

KINDS = "launcher.kinds"  # what a worker imports of ours, and with it pydantic


class Context(NamedTuple):
    """The folder, environment and affinity in which a job's program runs."""

    folder: str
    umask: int
    interpreter: str
    environment: Mapping[str, str]
    affinity: tuple[int, ...]

    @property
    def digest(self) -> str:
        """A name for this context: equal contexts are stored once."""
        text = json.dumps(self._asdict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_context(record: Mapping[str, Any]) -> Context:
    """Return the context that was stored as JSON.

    Raises:
        Unreadable: it lacks a field, or has one of another type.
    """
    match record:
        case {
            "folder": str(folder),
            "umask": int(umask),
            "interpreter": str(interpreter),
            "environment": dict(environment),
            "affinity": [*affinity],
        } if {*map(type, environment), *map(type, environment.values())} <= {str}:
            return Context(folder, umask, interpreter, environment, tuple(affinity))
    raise Unreadable("the record of its surroundings is not complete")


def own_variables(spec: Spec) -> Mapping[str, str]:
    """Return the variables that a program's entry sets itself; nothing for any other job.

    Raises:
        Unreadable: its record has something else there.
    """
    variables = spec.settings.get("env") if spec.kind == PROGRAM else None
    if not variables:
        return {}
    match variables:
        case dict() if {*map(type, variables), *map(type, variables.values())} <= {str}:
            return variables
    raise Unreadable("the variables of its entry are no texts")


def own_folder(spec: Spec, folder: str) -> str:
    """Return the folder in which a job begins.

    Args:
        spec: of the job; a program's entry may name a folder.
        folder: in which the job was queued.

    Raises:
        Unreadable: its record has something else there.
    """
    named = spec.settings.get("cwd") if spec.kind == PROGRAM else None
    if not named:
        return folder
    if not isinstance(named, str):
        raise Unreadable("the folder of its entry is no text")
    try:
        return str(Path(folder, Path(named).expanduser()))
    except RuntimeError:  # "~nobody": there is no such folder, as its start will say
        return str(Path(folder, named))


def placed_context(spec: Spec, context: Context) -> Context:
    """Return the context of a job with the folder and the variables that its own entry names.

    Raises:
        Unreadable: its record has something else there.
    """
    folder, variables = own_folder(spec, context.folder), own_variables(spec)
    if folder == context.folder and not variables:
        return context
    return context._replace(folder=folder, environment={**context.environment, **variables})


class WorkerEnvironment(NamedTuple):
    """What the worker of a job is forked from; jobs of one environment share a fork server."""

    interpreter: str = ""  # empty: any will do, as for a program
    preload: tuple[str, ...] = ()
    python_path: str = ""


def worker_environment_of(spec: Spec, context: Context) -> WorkerEnvironment:
    """Return the environment of the worker that runs a job."""
    if not spec.entry:
        return WorkerEnvironment()
    python_path = context.environment.get("PYTHONPATH", "")
    return WorkerEnvironment(context.interpreter, (*spec.preload, KINDS), python_path)


def this_context(environment: Mapping[str, str]) -> Context:
    """Return the context of the calling process, with what is to be remembered of its environment."""
    umask = os.umask(0o077)
    os.umask(umask)
    return Context(
        folder=str(Path.cwd()),
        umask=umask,
        interpreter=sys.executable,
        environment=owners_environment(environment),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
    )
