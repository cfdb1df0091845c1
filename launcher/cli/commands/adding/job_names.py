"""Names of added jobs: given, numbered, or taken from jobs that have ended."""

from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.states import OPEN, State
from launcher.store.queue import Store
from launcher.system.text import is_utf8

PREFIX = "command/"  # of every name


def checked_name(name: str | None) -> str:
    """Return a name as it was typed with what stands before every name; '' where none was typed.

    Raises:
        UsageError: it is empty, or no text.
    """
    if name is None:
        return ""
    if not name:
        raise UsageError("a job's name has at least one character; without --name it gets a number")
    if not is_utf8(name):
        raise UsageError(f"the name {name!r} is no UTF-8 text; give another --name")
    return f"{PREFIX}{name.removeprefix(PREFIX) or name}"


@dataclass(frozen=True, slots=True)
class Renamed:
    """An ended job that gave its name to a new one."""

    number: int
    state: State
    name: str  # that it has now


def free_name(store: Store, run: int, name: str) -> Renamed | None:
    """Take a name from the ended job that has it: the newest job of a name is the one that is meant.

    Raises:
        UsageError: the job has not ended yet.
    """
    holder = store.read.in_run(run, name)
    if holder is None:
        return None
    number = holder.id
    if holder.state in OPEN:
        raise UsageError(
            f"{name!r} is job {number}, which is {holder.state}: give another --name, or end that "
            f"one with `launcher cancel {number}`; when it has ended a new job may have its name, "
            f"or `launcher retry {number}` runs it again"
        )
    if name.rstrip("'").endswith(f"@{number}"):
        raise UsageError(
            f"{name!r} stays the name of job {number}: so an older job is called when a newer one "
            "takes its name; give another --name"
        )
    older = f"{name}@{number}"
    while _taken(store, run, older):
        older += "'"
    store.owning.rename(number, older)
    return Renamed(number, holder.state, older)


def unused_name(store: Store, run: int, number: int) -> str:
    """Return a name made of a job's number, with a suffix where a job has that name already."""
    name = f"{PREFIX}{number}"
    while _taken(store, run, name):
        name += "'"
    return name


def _taken(store: Store, run: int, name: str) -> bool:
    return store.read.in_run(run, name) is not None
