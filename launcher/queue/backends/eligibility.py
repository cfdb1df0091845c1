"""On which backends a job may run, and whether a pilot there can ever hold it."""

from launcher.queue.backends.settings import LOCAL, Backends, BackendSettings, read_backend_names
from launcher.queue.jobs.job import Resources, Terms
from launcher.system.errors import pluralize
from launcher.system.units import format_bytes, format_seconds


def with_default_backends(terms: Terms, backends: Backends) -> Terms:
    """Return terms with the backends of a job, unless it runs only on this machine by default.

    Raises:
        UsageError: they name an unknown backend.
    """
    if terms.on:
        read_backend_names([*terms.on], backends)
        return terms
    return terms if backends.default == (LOCAL,) else terms._replace(on=backends.default)


def runs_here(terms: Terms) -> bool:
    """Return whether a job may run on this machine."""
    return not terms.on or LOCAL in terms.on


def runs_only_here(terms: Terms) -> bool:
    """Return whether a job may run only on this machine."""
    return not terms.on or terms.on == (LOCAL,)


def why_impossible_on_backends(resources: Resources, terms: Terms, backends: Backends) -> str:
    """Return why no pilot of a job's backends can ever hold it, '' if one can or the job may run here."""
    reasons = [
        why_never_fits(resources, terms.time_limit_s, backends.by_name[name])
        for name in terms.on
        if name in backends.by_name
    ]
    return "" if runs_here(terms) or not all(reasons) else "; ".join(reasons)


def why_never_fits(resources: Resources, limit: float | None, settings: BackendSettings) -> str:
    """Return why no pilot of a backend can ever hold a job, with the remedy. '' if one can."""
    table = f"[backends.{settings.name}]"
    if resources.cpus > settings.cpus:
        return (
            f"needs {pluralize(resources.cpus, 'CPU core')}, but a pilot of {settings.name} has {settings.cpus} "
            f"(raise `cpus` in {table})"
        )
    gpus = resources.gpus if resources.works_on_gpu(machine_has_gpu=settings.gpus > 0) else 0
    if gpus > settings.gpus:
        return (
            f"needs {pluralize(gpus, 'GPU')}, but a pilot of {settings.name} has {settings.gpus} "
            f"(raise `gpus` in {table})"
        )
    if (
        resources.ram is not None
        and settings.memory is not None
        and resources.ram > settings.memory
    ):
        return (
            f"needs {format_bytes(resources.ram)} of main memory, but a pilot of {settings.name} has "
            f"{format_bytes(settings.memory)} (raise `memory` in {table})"
        )
    if limit is not None and settings.time_s is not None and limit >= settings.time_s:
        return (
            f"has a time limit of {format_seconds(limit)}, but a pilot of {settings.name} ends after "
            f"{format_seconds(settings.time_s)} (raise `time` in {table} or lower the time limit)"
        )
    return ""


def count_slots(resources: Resources, settings: BackendSettings) -> int:
    """Return the least number of such jobs that one pilot runs at once, without sharing a GPU; at least 1."""
    by_cpus = settings.cpus // max(1, resources.cpus)
    if resources.ram and settings.memory:
        by_cpus = min(by_cpus, settings.memory // resources.ram)
    if resources.works_on_gpu(machine_has_gpu=settings.gpus > 0) and settings.gpus:
        by_cpus = min(by_cpus, settings.gpus // max(1, resources.gpus))
    return max(1, by_cpus)
