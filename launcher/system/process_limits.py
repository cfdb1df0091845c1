"""Soft resource limits and niceness: those of a process, and how a new process gets those of the submitting shell.

Hard limits are never changed. Source: getrlimit(2), setpriority(2).
"""

import contextlib
import os
import resource
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_NAMES = (
    *("CORE", "CPU", "FSIZE", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO"),
    *(
        "RTTIME",
        "SIGPENDING",
        "STACK",
        "DATA",
        "AS",
    ),  # limits of memory come last: a process needs memory until its exec
)
_NUMBERS = {name: getattr(resource, f"RLIMIT_{name}") for name in _NAMES}
_LEAST_NICE, _MOST_NICE = -20, 19
_NICE_OF_LIMIT = 20  # RLIMIT_NICE 25 allows a niceness of 20 - 25

Limits = Mapping[str, int | None]  # soft limits by name, such as NOFILE; None: unlimited


class Limit(NamedTuple):
    """A limit of a process."""

    soft: int | None  # None: unlimited
    hard: int | None


class LimitChanges(NamedTuple):
    """Settings in which a new process differs from its parent."""

    limits: tuple[tuple[int, int, int], ...] = ()  # resource, soft and hard limit as for setrlimit
    niceness: int | None = None

    def __bool__(self) -> bool:
        return bool(self.limits) or self.niceness is not None

    @property
    def limits_memory(self) -> bool:
        """Whether one of them limits the address space of the process."""
        return any(which in (resource.RLIMIT_AS, resource.RLIMIT_DATA) for which, *_ in self.limits)

    def apply(self) -> None:
        """Set them for this process, as far as it may."""
        if self.niceness is not None:
            _set_niceness(self.niceness)
        for which, soft, hard in self.limits:
            with contextlib.suppress(OSError, ValueError):  # below the current usage, or refused
                resource.setrlimit(which, (soft, hard))


def limit_of(name: str, pid: int = 0) -> Limit | None:
    """Return a limit of a process; None if it is unknown.

    Args:
        name: such as NOFILE.
        pid: PID of the process; 0: this one.
    """
    try:
        soft, hard = resource.prlimit(pid, _NUMBERS[name])
    except OSError:  # a process of another user, or an ended one
        return None
    return Limit(_limit_from_kernel(soft), _limit_from_kernel(hard))


def niceness_of(pid: int = 0) -> int | None:
    """Return the niceness of a process, 0 for this one; None if it is unknown."""
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except OSError:
        return None


def min_limit(first: int | None, second: int | None) -> int | None:
    """Return the smaller of two limits; None is unlimited."""
    return min((limit for limit in (first, second) if limit is not None), default=None)


def soft_limits() -> dict[str, int | None]:
    """Return the soft limits of this process."""
    return {
        name: _limit_from_kernel(resource.getrlimit(which)[0]) for name, which in _NUMBERS.items()
    }


def is_limits(record: Mapping[str, object]) -> bool:
    """Return whether a stored record holds limits; names that are unknown here are allowed."""
    return all(isinstance(name, str) for name in record) and all(
        soft is None or (type(soft) is int and soft >= 0) for soft in record.values()
    )


def changes_for(limits: Limits, niceness: int | None) -> LimitChanges:
    """Return the settings with which a child of this process gets these limits and this niceness.

    A soft limit is at most our hard limit.

    Args:
        limits: the wanted soft limits; one that is not named stays.
        niceness: the new niceness; None: it is not changed.
    """
    wanted = [(_NUMBERS[name], limits[name]) for name in _NAMES if name in limits]
    changed = niceness is not None and niceness != niceness_of()
    return LimitChanges(tuple(_limit_changes(wanted)), niceness if changed else None)


def _limit_changes(
    wanted_limits: Iterable[tuple[int, int | None]],
) -> Iterable[tuple[int, int, int]]:
    for which, limit in wanted_limits:
        soft, hard = resource.getrlimit(which)
        capped = _limit_to_kernel(min_limit(limit, _limit_from_kernel(hard)))
        if capped != soft:
            yield which, capped, hard


def _set_niceness(niceness: int) -> None:
    """Set our niceness; without privilege it can be lowered only as far as RLIMIT_NICE allows."""
    niceness = max(_LEAST_NICE, min(niceness, _MOST_NICE))
    with contextlib.suppress(OSError):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
        except PermissionError:
            soft, _ = resource.getrlimit(_NUMBERS["NICE"])
            lowest = max(niceness, _NICE_OF_LIMIT - soft)
            if lowest < os.getpriority(os.PRIO_PROCESS, 0):
                os.setpriority(os.PRIO_PROCESS, 0, lowest)


def _limit_from_kernel(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit


def _limit_to_kernel(limit: int | None) -> int:
    return resource.RLIM_INFINITY if limit is None else limit
