"""What a job is once it is planned, and what it remembers of the shell that queued it."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from launcher.records import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job asks of the machine."""

    cpus: int = 1
    min_vram: int | None = None  # bytes that must be free on its GPU; None: not said
    device: str = "auto"  # "auto", "cpu" or "cuda:N"
    accelerated: bool = False  # "auto" prefers a GPU where the machine has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One job, complete: a worker needs nothing else to do it."""

    name: str
    kind: str
    role: str
    run: str
    root: str  # absolute; results lie in <root>/runs/<run>
    entry: str = ""  # "module:function" of a worker; empty for a program
    preload: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()  # the program, or the command line that does the same as the entry
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # names of jobs of the same run
    outputs: tuple[str, ...] = ()  # absolute paths
    sources: Mapping[str, str] = field(default_factory=dict)  # module → digest of its text
    log_link: str | None = None  # absolute path under which the log also appears
    resources: Resources = field(default_factory=Resources)
    priority: int = 0
    hash: str = ""

    @property
    def run_folder(self) -> Path:
        """The folder of the run's results."""
        return Path(self.root) / "runs" / self.run

    def record(self) -> dict[str, Json]:
        """Return the spec as JSON."""
        return asdict(self)


def read_spec(record: Mapping[str, Any]) -> Spec:
    """Return the spec that `Spec.record` wrote."""
    known = {one.name for one in fields(Spec)}
    values = {key: value for key, value in record.items() if key in known}
    for key in ("preload", "argv", "needs", "outputs"):
        values[key] = tuple(values.get(key, ()))
    values["resources"] = Resources(**values.get("resources", {}))
    return Spec(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings in which a job's program must find itself."""

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
    """Return the context that `Context.record` wrote."""
    return Context(
        folder=record["folder"],
        umask=record["umask"],
        interpreter=record["interpreter"],
        environment=dict(record["environment"]),
        affinity=tuple(record["affinity"]),
    )


def this_context() -> Context:
    """Return the surroundings of the calling process."""
    umask = os.umask(0o077)
    os.umask(umask)
    return Context(
        folder=str(Path.cwd()),
        umask=umask,
        interpreter=sys.executable,
        environment=dict(os.environ),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
    )
