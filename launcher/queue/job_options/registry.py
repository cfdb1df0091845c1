"""The request of a job and the table of its options, one row per option.

Each module of this package may register rows; `job_options` imports all modules once.
"""

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from launcher.queue import job_options as room
from launcher.queue.job_options.value_types import ValueType
from launcher.queue.jobs.job import UUIDS, Resources, Terms
from launcher.system.errors import UsageError


class JobRequest(NamedTuple):
    """The request of a job, before it is known whether the job can use a GPU."""

    resources: Resources = Resources()
    terms: Terms = Terms()
    priority: int = 0
    gpus: int | None = (
        None  # None: not given; `resources` then has one GPU if the job works on GPUs
    )

    @property
    def wants_gpu(self) -> bool:
        """Whether an option requests a GPU, with or without naming it."""
        resources = self.resources
        return self.gpus is not None or resources.vram is not None or resources.exclusive

    def without_gpu(self) -> "JobRequest":
        """Return the request without the GPU options that apply to all jobs, for a job that needs no GPU."""
        resources = self.resources._replace(
            device="auto", vram=None, gpus=1, exclusive=False, gpu_ids=UUIDS
        )
        return self._replace(resources=resources, gpus=None)

    def on_device(self, device: str) -> "JobRequest":
        """Return the request with another device."""
        return self._replace(resources=self.resources._replace(device=device))


_OPTIONS: dict[str, "JobOption"] = {}
_PARTS: Mapping[str, type[Resources | Terms]] = {"resources": Resources, "terms": Terms}


class HasRequest(Protocol):
    """A job with a request: a job of a plan or of the queue."""

    @property
    def resources(self) -> Resources:
        """The resource request."""

    @property
    def terms(self) -> Terms:
        """The terms in the queue."""

    @property
    def priority(self) -> int:
        """The priority in the queue."""


class JobOption(NamedTuple):
    """One option of a job."""

    name: str  # name in a task file; `launcher add` writes hyphens
    takes: ValueType
    help: str  # without the last full stop: "GPU memory to reserve on each GPU"
    # the field that the option sets: "priority", or one of Resources or Terms such as "resources.cpus"
    field: str
    # if the option sets further fields
    change: Callable[[JobRequest, Any], JobRequest] | None = None
    default: str = ""  # as written in a task file
    old_names: tuple[str, ...] = ()  # in earlier task files

    @property
    def flag(self) -> str:
        """The option of `launcher add`, such as --time-limit."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def summary(self) -> str:
        """The help text with the expected value."""
        return f"{self.help}. Takes {self.takes.expected}."

    def apply(self, request: JobRequest, value: object) -> JobRequest:
        """Return the request with this option set to a value."""
        if self.change is not None:
            return self.change(request, value)
        part, _, name = self.field.rpartition(".")
        if not part:
            return request._replace(**{name: value})  # type: ignore[arg-type]  # checked by register_option
        changed = getattr(request, part)._replace(**{name: value})
        return request._replace(**{part: changed})


def register_options(*options: JobOption) -> None:
    """Add rows to the table.

    Raises:
        UsageError: two rows have the same name.
        ValueError: a row sets an unknown field.
    """
    for option in options:
        taken = {name for row in _OPTIONS.values() for name in (row.name, *row.old_names)}
        if twice := taken & {option.name, *option.old_names}:
            raise UsageError(f"two job options have the name {min(twice)!r}. Rename one of them.")
        part, _, name = option.field.rpartition(".")
        if name not in _PARTS.get(part, JobRequest)._fields or part not in {"", *_PARTS}:
            raise ValueError(
                f"job option {option.name!r} sets {option.field!r}, which is not a field of a job"
            )
        _OPTIONS[option.name] = option


@cache
def job_options() -> Mapping[str, JobOption]:
    """Return every option by name: those of `options` first, then those of other modules."""
    names = [module.name for module in pkgutil.iter_modules(room.__path__)]
    for name in ("options", *names):
        import_module(f"{room.__name__}.{name}")
    return _OPTIONS


def changed_options(old_request: HasRequest, new_request: HasRequest) -> list[str]:
    """Return the names of the options that differ between two requests of a job.

    Points in time are ignored: a time of day in a task file means another day tomorrow.
    """
    if (old_request.resources, old_request.terms, old_request.priority) == (
        new_request.resources,
        new_request.terms,
        new_request.priority,
    ):
        return []
    values = {option.name: attrgetter(option.field) for option in job_options().values()}
    del values["not_before"]
    return [name for name, value in values.items() if value(old_request) != value(new_request)]


@cache
def old_option_names() -> Mapping[str, str]:
    """Return the earlier names of options, each with its current name."""
    return {old: row.name for row in job_options().values() for old in row.old_names}
