"""The folder and environment in which a job's program runs, and what its worker is forked from."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.job import Spec
from launcher.system.environment import owners_environment
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable

KINDS = "launcher.kinds"  # what a worker imports of ours, and with it pydantic


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The folder, environment and affinity in which a job's program runs."""

    folder: str
    umask: int
    interpreter: str
    environment: Mapping[str, str]
    affinity: tuple[int, ...]

    def record(self) -> dict[str, Json]:
        """Return the context as JSON."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """A name for this context: equal contexts are stored once."""
        text = json.dumps(self.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_context(record: Mapping[str, Any]) -> Context:
    """Return the context that `Context.record` wrote.

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
            return Context(
                folder=folder,
                umask=umask,
                interpreter=interpreter,
                environment=environment,
                affinity=tuple(affinity),
            )
    raise Unreadable("the record of its surroundings is not complete")


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
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
