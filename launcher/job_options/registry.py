"""What a job asks for, and the table of options by which it says so: one row each, from which all else follows.

Each module of this room may register rows; `job_options` imports them all, once.
"""

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from launcher import job_options as room
from launcher.errors import UsageError
from launcher.job import UUIDS, Resources, Terms
from launcher.job_options.value_types import ValueType


class JobRequest(NamedTuple):
    """What a job asks for, before it is known whether a GPU would help it."""

    resources: Resources = Resources()
    terms: Terms = Terms()
    priority: int = 0
    gpus: int | None = None  # None: not given, and `resources` has one where it works on GPUs

    @property
    def wants_gpu(self) -> bool:
        """Whether an option asks for a GPU, be it without saying which."""
        resources = self.resources
        return self.gpus is not None or resources.min_vram is not None or resources.exclusive

    def without_gpu(self) -> "JobRequest":
        """Return what holds for a job that needs no GPU: what all ask for of GPUs is not for it."""
        resources = self.resources._replace(
            device="auto", min_vram=None, gpus=1, exclusive=False, gpu_ids=UUIDS
        )
        return self._replace(resources=resources, gpus=None)

    def on_device(self, device: str) -> "JobRequest":
        """Return the request with another device."""
        return self._replace(resources=self.resources._replace(device=device))


_OPTIONS: dict[str, "JobOption"] = {}
_PARTS: Mapping[str, type[Resources | Terms]] = {"resources": Resources, "terms": Terms}


class HasRequest(Protocol):
    """A job that asks for something: one of a plan, or of the queue."""

    @property
    def resources(self) -> Resources:
        """Of the machine."""

    @property
    def terms(self) -> Terms:
        """Of the queue."""

    @property
    def priority(self) -> int:
        """Its place in the order."""


class JobOption(NamedTuple):
    """One option of a job."""

    name: str  # in a task file; `launcher add` writes it with hyphens
    takes: ValueType
    help: str  # sentences without the last full stop: "GPU memory to reserve on each GPU"
    field: str  # that it sets: "priority", or one of Resources or Terms: "resources.cpus"
    change: Callable[[JobRequest, Any], JobRequest] | None = None  # where it sets more than that
    default: str = ""  # as a task file would write it
    old_names: tuple[str, ...] = ()  # of earlier task files

    @property
    def flag(self) -> str:
        """The option of `launcher add`: --time-limit."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def summary(self) -> str:
        """What it does, and what it takes."""
        return f"{self.help}. Takes {self.takes.expected}."

    def apply(self, request: JobRequest, value: object) -> JobRequest:
        """Return the request with this option set to a value of its type."""
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
        UsageError: two rows have one name.
        ValueError: a row sets a field that no job has.
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
    """Return every option by its name: those of `options`, then those of other modules."""
    names = [module.name for module in pkgutil.iter_modules(room.__path__)]
    for name in ("options", *names):
        import_module(f"{room.__name__}.{name}")
    return _OPTIONS


def changed_options(before: HasRequest, after: HasRequest) -> list[str]:
    """Return the names of the options in which a job asks for something else than before.

    A point in time is left out: a task file may name it by the hour, which is another day tomorrow.
    """
    if (before.resources, before.terms, before.priority) == (
        after.resources,
        after.terms,
        after.priority,
    ):
        return []
    values = {option.name: attrgetter(option.field) for option in job_options().values()}
    del values["not_before"]
    return [name for name, value in values.items() if value(before) != value(after)]


@cache
def old_option_names() -> Mapping[str, str]:
    """Return the earlier names of options, each with that of today."""
    return {old: row.name for row in job_options().values() for old in row.old_names}
