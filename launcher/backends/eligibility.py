"""On which backends a job may run, and whether a pilot there can ever hold it."""

from launcher.backends.settings import HERE, Backends, BackendSettings, read_on
from launcher.errors import counted
from launcher.job import Resources, Terms
from launcher.units import format_bytes, format_seconds


def placed_terms(terms: Terms, backends: Backends) -> Terms:
    """Return terms that say where a job runs, unless that is here alone by default.

    Raises:
        UsageError: they name an unknown backend.
    """
    if terms.on:
        read_on([*terms.on], backends)
        return terms
    return terms if backends.default == (HERE,) else terms._replace(on=backends.default)


def runs_here(terms: Terms) -> bool:
    """Tell whether a job may run on this machine."""
    return not terms.on or HERE in terms.on


def runs_only_here(terms: Terms) -> bool:
    """Tell whether a job may run nowhere else."""
    return not terms.on or terms.on == (HERE,)


def impossible_there(asked: Resources, terms: Terms, backends: Backends) -> str:
    """Return why no pilot of a job's backends can ever hold it, '' where one can, or it may run here."""
    reasons = [
        never_fits(asked, terms.time_limit_s, backends.by_name[name])
        for name in terms.on
        if name in backends.by_name
    ]
    return "" if runs_here(terms) or not all(reasons) else "; ".join(reasons)


def never_fits(asked: Resources, limit: float | None, settings: BackendSettings) -> str:
    """Return why no pilot of a backend can ever hold a job, '' where one can; says what to change."""
    table = f"[backends.{settings.name}]"
    if asked.cpus > settings.cpus:
        return (
            f"needs {counted(asked.cpus, 'CPU core')}, but a pilot of {settings.name} has {settings.cpus} "
            f"(raise `cpus` in {table})"
        )
    gpus = asked.gpus if asked.works_on_gpu(there=settings.gpus > 0) else 0
    if gpus > settings.gpus:
        return (
            f"needs {counted(gpus, 'GPU')}, but a pilot of {settings.name} has {settings.gpus} "
            f"(raise `gpus` in {table})"
        )
    if asked.ram is not None and settings.memory is not None and asked.ram > settings.memory:
        return (
            f"needs {format_bytes(asked.ram)} of main memory, but a pilot of {settings.name} has "
            f"{format_bytes(settings.memory)} (raise `memory` in {table})"
        )
    if limit is not None and settings.time_s is not None and limit >= settings.time_s:
        return (
            f"has a time limit of {format_seconds(limit)}, but a pilot of {settings.name} ends after "
            f"{format_seconds(settings.time_s)} (raise `time` in {table} or lower the time limit)"
        )
    return ""


def slots(asked: Resources, settings: BackendSettings) -> int:
    """Return how many such jobs one pilot runs at once, at least; 1 where one of its GPUs is needed."""
    by_cpus = settings.cpus // max(1, asked.cpus)
    if asked.ram and settings.memory:
        by_cpus = min(by_cpus, settings.memory // asked.ram)
    if asked.works_on_gpu(there=settings.gpus > 0) and settings.gpus:
        by_cpus = min(by_cpus, settings.gpus // max(1, asked.gpus))
    return max(1, by_cpus)
